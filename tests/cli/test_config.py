"""`gt config`: the spellings of the user's document, scopes and origins."""

from __future__ import annotations

import pytest

from models.ledger.records import Rig
from models.settings import setting_specs
from tests.cli.conftest import Here
from tests.fault_document import documented


class TestSpellings:
    @pytest.mark.parametrize(
        "line",
        [
            documented("gt config health.check_interval 60"),
            documented("gt config health.polecat_timeout 300"),
            documented("gt config health.witness_timeout 600"),
            documented("gt config recovery.max_retries 3"),
            documented("gt config recovery.retry_delay 30"),
        ],
        ids=" ".join,
    )
    def test_key_and_value_set_it(self, here: Here, rig: Rig, line: list[str]) -> None:
        key, value = line[2], int(line[3])
        here.run(*line)
        shown = here.json("gt", "config", key)
        assert (shown["key"], shown["value"], shown["default"], shown["origin"]) == (key, value, value, "town")

    @pytest.mark.parametrize(
        "argv",
        [
            ("config", "set", "health.grace", "5m"),
            ("config", "--rig", "shop", "health.grace", "5m"),
            ("config", "health.grace", "--rig", "shop", "300"),
            ("config", "-o", "text", "health.grace", "300"),
        ],
    )
    def test_options_may_stand_anywhere_and_units_are_understood(
        self, here: Here, rig: Rig, argv: tuple[str, ...]
    ) -> None:
        here.run("gt", *argv)
        assert here.json("gt", "config", "health.grace", "--rig", "shop")["value"] == 300


class TestValues:
    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("health.check_interval", "²s"),
            ("health.check_interval", "9" * 5000 + "s"),
            ("recovery.max_retries", "1m"),
            ("disk.warn_percent", "1m"),
            ("recovery.policy", "no such thing!"),
            ("recovery.policy", "--dry-run"),
            ("merge_queue.signing_key", "--dry-run"),
            ("--bogus", None),
            ("health.grace", "-5"),
        ],
    )
    def test_what_cannot_be_is_wrong_usage_and_changes_nothing(self, here: Here, key: str, value: str | None) -> None:
        before = here.json("gt", "config", "list")
        assert "defect" not in here.run("gt", "config", key, *([] if value is None else [value]), expect=2).err
        assert here.json("gt", "config", "list") == before

    def test_the_built_in_policy_has_a_name(self, here: Here) -> None:
        here.run("gt", "config", "recovery.policy", "mine")
        assert here.json("gt", "config", "recovery.policy", "built-in")["value"] == ""


class TestScopes:
    def test_a_rig_s_value_wins_over_the_town_s_and_the_town_s_over_the_default(self, here: Here, rig: Rig) -> None:
        def seen(*scope: str) -> tuple[int, str]:
            shown = here.json("gt", "config", "polecat.max_reworks", *scope)
            return shown["value"], shown["origin"]

        assert seen() == seen("--rig", "shop") == (5, "default")
        here.run("gt", "config", "polecat.max_reworks", "7")
        assert seen() == seen("--rig", "shop") == (7, "town")
        here.run("gt", "config", "polecat.max_reworks", "9", "--rig", "shop")
        assert seen() == (7, "town")
        assert seen("--rig", "shop") == (9, "rig")
        assert here.json("gt", "config", "unset", "polecat.max_reworks", "--rig", "shop")["value"] == 7
        assert here.json("gt", "config", "unset", "polecat.max_reworks")["origin"] == "default"

    def test_list_shows_every_key_with_value_default_and_origin(
        self, here: Here, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        here.run("gt", "config", "health.grace", "90")
        rows = {row["key"]: row for row in here.json("gt", "config", "list")}
        assert set(rows) == set(setting_specs())
        assert {"key", "value", "default", "origin", "minimum", "maximum", "type", "meaning"} <= set(
            rows["health.grace"]
        )
        assert (rows["health.grace"]["value"], rows["health.grace"]["origin"]) == (90, "town")
        assert rows["polecat.auto_done"]["value"] is True
        lines = here.run("gt", "config", "list").out.splitlines()
        assert len(lines) == 1 + len(rows)
        assert max(map(len, lines)) <= 80


class TestRefusals:
    @pytest.mark.parametrize(
        ("argv", "code"),
        [
            (("health.nope",), 3),
            (("health.nope", "1"), 3),
            (("unset", "health.nope"), 3),
            (("health.check_interval", "0"), 2),
            (("health.check_interval", "-5"), 2),
            (("health.check_interval", "soon"), 2),
            (("polecat.auto_done", "maybe"), 2),
            (("health.grace", "1", "2"), 2),
            (("health.grace", "--rig", "nope"), 3),
            (("list", "--rig", "nope"), 3),
        ],
    )
    def test_what_cannot_be_changes_nothing(self, here: Here, rig: Rig, argv: tuple[str, ...], code: int) -> None:
        outcome = here.run("gt", "config", *argv, expect=code)
        assert outcome.out == ""
        assert outcome.err.startswith("error: ")
        assert {row["origin"] for row in here.json("gt", "config", "list")} == {"default"}
