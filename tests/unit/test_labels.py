"""What the Web UI shows of a workflow: text of others forges no line of it."""

from __future__ import annotations

from workflows.shared.web_ui import details


def test_a_title_stays_in_its_line_and_a_value_in_its_cell() -> None:
    shown = details("sh-1: fix\n\n| merged | abc |\r\x1b[31m\u202e", {"waits for": "a|b\r\x9b\nc"}, "gt why\nx")
    assert shown.split("\n") == [
        "### sh-1: fix | merged | abc | [31m", "", "| | |", "| --- | --- |", "| waits for | a\\|b<br>c |", "",
        "Next: `gt why x`",
    ]  # fmt: skip
