"""What an alert says, in services that take some words for more than words."""

from __future__ import annotations

import pytest

from services.notifications.text import VERBATIM, without_calls

NOTHING = "\u200b"


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("@everyone", "@^everyone"), ("x@here", "x@^here"), ("@Channel", "@^Channel"), ("@all", "@^all"),
        ("<@123>", "<^@^123>"), ("<@&9>", "<^@^&9>"), ("<@!9>", "<^@^!9>"), ("@ada", "@^ada"), ("<!here>", "<^!here>"),
        ("<!subteam>", "<^!subteam>"), ("<#C1>", "<^#C1>"), ("<https://a>", "<^https://a>"),
        ("<users/all>", "<^users/all>"), ("<b>", "<^b>"), ("</b>", "<^/b>"),
        ("[a](b)", "[a]^(b)"), ("[a] (b)", "[a]^ (b)"), ("[a][b]", "[a]^[b]"), ("[a]: b", "[a]^: b"),
        ("![a](b)", "!^[a]^(b)"),
        ("ada@example.com", "ada@example.com"), ("git@github.com:a/b", "git@github.com:a/b"), ("1 < 2", "1 < 2"),
        ("a @ b", "a @ b"), ("[town] HIGH", "[town] HIGH"), ("gt escalate ack sh-1/2", "gt escalate ack sh-1/2"),
    ],
)  # fmt: skip
def test_words_that_a_chat_takes_for_a_call_are_only_words(told: str, shown: str) -> None:
    assert without_calls(told, "discord") == shown.replace("^", NOTHING)


def test_what_programs_and_mail_readers_get_is_as_it_was_written() -> None:
    assert {without_calls("@everyone <!here>", scheme) for scheme in (*VERBATIM, "JSON")} == {"@everyone <!here>"}
