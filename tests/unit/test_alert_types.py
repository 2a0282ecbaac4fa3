"""docs/escalation-system.md says of every alert type who raises it, and when."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from models.mayor.alerts import AlertType

PAGE = Path(__file__).parents[2] / "docs" / "escalation-system.md"
ROW = re.compile(r"^\| `(?P<type>\w+)` \| (?P<who>[^|]+\S) \| (?P<when>[^|]+\S) \|$", re.MULTILINE)


def rows() -> dict[str, tuple[str, str]]:
    """By type, who raises it and when: the table of the section Alerts."""
    section = PAGE.read_text(encoding="utf-8").partition("\n## Alerts\n")[2].partition("\n## ")[0]
    return {row["type"]: (row["who"], row["when"]) for row in ROW.finditer(section)}


@pytest.mark.parametrize("type", AlertType)
def test_every_alert_type_has_a_row_that_says_who_raises_it_and_when(type: AlertType) -> None:
    assert type.value in rows()
    assert all(rows()[type.value])


def test_the_table_names_no_type_that_there_is_not() -> None:
    assert set(rows()) == set(AlertType)


def test_what_is_not_raised_yet_is_called_so() -> None:
    who, when = rows()[AlertType.BACKUP_FAILED]
    assert who == "nobody yet"
    assert "not raised yet" in when
