"""Settings: every key of product.md's table, typed, in range, with its default."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from models.errors import ErrorCode, GtError
from models.settings import Settings, parse_setting, setting_specs, settings_from

PRODUCT = Path(__file__).parents[2] / "docs" / "product.md"


def documented_keys() -> set[str]:
    """Keys in the table of product.md; `a.b / c` rows name several."""
    table = PRODUCT.read_text().split("### Settings", 1)[1].split("\n## ", 1)[0]
    keys: set[str] = set()
    for line in table.splitlines():
        cell = line.split("|")[1].strip() if line.startswith("| ") else ""
        group = ""
        for word in re.findall(r"[a-z_]+(?:\.[a-z_]+)?", cell):
            if "." in word:
                group = word.split(".")[0]
                keys.add(word)
            elif group:
                keys.add(f"{group}.{word}")
    return keys


def test_the_model_has_exactly_the_documented_keys() -> None:
    assert documented_keys() == set(setting_specs())


@pytest.mark.parametrize(
    ("key", "default"),
    [
        ("health.check_interval", 60), ("health.polecat_timeout", 300), ("health.witness_timeout", 600),
        ("recovery.max_retries", 3), ("recovery.retry_delay", 30), ("merge_queue.retry_count", 3),
        ("merge_queue.retry_delay", 60), ("polecat.max_reworks", 5), ("session.done_grace", 5),
        ("escalation.ack_timeout", 14400), ("hosts.timeout", 60), ("polecat.auto_done", True),
    ],
)  # fmt: skip
def test_defaults_are_the_documented_ones(key: str, default: object) -> None:
    assert setting_specs()[key].default == default


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("health.check_interval", "60", 60), ("health.check_interval", "5m", 300),
        ("escalation.ack_timeout", "4h", 14400),
        ("logs.keep", "30d", 2_592_000), ("polecat.auto_done", "false", False), ("polecat.auto_done", "on", True),
        ("merge_queue.confirm_runs", "auto", "auto"), ("merge_queue.confirm_runs", "2", "2"),
    ],
)  # fmt: skip
def test_typed_text_becomes_the_typed_value(key: str, text: str, value: object) -> None:
    assert parse_setting(key, text) == value


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("health.check_interval", "0"), ("health.check_interval", "3601"), ("health.check_interval", "often"),
        ("health.check_interval", "1.5"), ("health.check_interval", ""), ("health.check_interval", "-5"),
        ("polecat.auto_done", "perhaps"), ("merge_queue.confirm_runs", "many"), ("recovery.max_retries", "1e2"),
    ],
)  # fmt: skip
def test_a_wrong_type_or_range_is_refused_with_the_range(key: str, text: str) -> None:
    with pytest.raises(GtError) as refused:
        parse_setting(key, text)
    assert refused.value.code is ErrorCode.INVALID_VALUE
    assert key in refused.value.message


def test_an_unknown_key_is_not_found() -> None:
    with pytest.raises(GtError) as refused:
        parse_setting("health.nonsense", "1")
    assert refused.value.code is ErrorCode.NOT_FOUND


def test_stored_values_override_defaults_and_unknown_ones_are_ignored() -> None:
    settings = settings_from({"health.grace": 7, "from.the_future": 1})
    assert settings.health.grace == 7
    assert settings.health.check_interval == Settings().health.check_interval
