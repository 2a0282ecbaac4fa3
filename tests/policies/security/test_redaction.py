"""Secrets in text that is kept or sent: none is left, and what is none stays."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.security.redaction import LONGEST_HELD, SHORTEST_SECRET, redact, redact_bytes, whole_lines
from tests.planted_secrets import Planted, planted

HARMLESS = [
    "", "print('hello')", "key=value took 0.123s", "KeyError: 'some_long_field_name_1'", "11:02:35.123Z INFO models",
    "tests/services/test_worker.py::test_a_thing[param-1] PASSED [ 4%]", "token = next(tokens)", "password: required",
    "https://example.com/a?b=c", "git@github.com:shop/till.git", "commit 0123456789abcdef0123456789abcdef01234567",
    "sha256:" + "0123456789abcdef" * 4, "the header reads BEGIN PRIVATE KEY", "SyntaxError: unexpected token: ')'",
    "primary_key: tests/models/test_1_long_name.py", "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----",
    "AssertionError: assert [1, 2] == [2, 1]", "secret of a long life", "polecat/sh-1a2b3c4d5e6f7g8h9",
]  # fmt: skip


@pytest.mark.parametrize("secret", planted(1), ids=lambda one: one.kind)
def test_each_kind_is_hidden_wherever_it_stands(secret: Planted) -> None:
    in_one_line = secret.line.replace("\n", " ")
    for text in (secret.line, f"first line\n{secret.line}\nlast line\n", f"ü\n{secret.line}\nü", f"ü {in_one_line} ü"):
        shown = redact(text)
        assert not [part for part in secret.hidden if part in shown or part[-12:] in shown]
        assert "[redacted: " in shown
        assert redact(shown) == shown
    assert redact(f"before\n{secret.line}\nafter\n").startswith("before\n")
    assert redact(f"before\n{secret.line}\nafter\n").endswith("after\n")


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_a_bit_like_a_secret_stays(text: str) -> None:
    assert redact(text) is text


def test_the_values_that_the_town_keeps_secret_are_hidden_whatever_they_look_like() -> None:
    assert redact("it is ein einfaches Wort.", ["ein einfaches Wort"]) == "it is [redacted: a secret of this town]."
    short = "x" * (SHORTEST_SECRET - 1)
    assert redact(f"a {short} b", ["", short]) == f"a {short} b"
    # The longer one first: it holds the other.
    assert redact("abcdefgh abcdef", ["abcdef", "abcdefgh"]).count("redacted") == 2


def test_a_key_whose_end_is_missing_is_hidden_as_far_as_it_goes() -> None:
    [key] = [one for one in planted(2) if one.kind == "rsa"]
    lines = key.line.splitlines()
    shown = redact("\n".join([*lines[:4], "", "what comes then: !", "goes on"]))
    assert not [row for row in key.hidden if row in shown]
    assert shown.endswith("what comes then: !\ngoes on")
    twice = redact(f"{key.line}\nbetween\n{key.line}\nafter")
    assert twice.splitlines() == ["[redacted: a private key]", "between", "[redacted: a private key]", "after"]


def test_a_stream_is_cleaned_by_whole_lines_and_whole_keys() -> None:
    [key] = [one for one in planted(2) if one.kind == "rsa"]
    begun = f"one\n{key.line[:200]}\n"
    for text, ready in [
        ("", ""), ("one", ""), ("one\ntw", "one\n"), ("one\rtw", "one\r"), (begun, "one\n"),
        (f"{key.line}\ntw", f"{key.line}\n"), ("x" * (LONGEST_HELD + 1), "x" * (LONGEST_HELD + 1)),
        (begun + "x\n" * LONGEST_HELD, begun + "x\n" * LONGEST_HELD),
    ]:  # fmt: skip
        assert whole_lines(text.encode()) == len(ready)


@given(st.binary(max_size=2_000))
def test_whatever_the_bytes_are_there_is_an_answer(content: bytes) -> None:
    assert isinstance(redact_bytes(content, [b"secret"]), bytes)


@given(st.sampled_from(planted(3)), st.text(max_size=50), st.text(max_size=50))
def test_text_around_a_secret_does_not_uncover_it(secret: Planted, before: str, after: str) -> None:
    shown = redact(f"{before}\n{secret.line}\n{after}")
    assert not [part for part in secret.hidden if part in shown]


@pytest.mark.parametrize(
    "line",
    [
        "key: value\n", "a://b:c", "token = 'aaaa", "\x00ü", "secret_", "eyJ", "=:", "password=a1", "a=",
        "-----BEGIN PRIVATE KEY-----\n", "-----END PRIVATE KEY-----\n", "QUJDQUJDQUJDQUJDQUJD\n-----END ", "Bearer ",
        "ghp_a1", "0",
    ],
)  # fmt: skip
def test_a_megabyte_of_anything_is_searched_in_a_moment(line: str) -> None:
    content = (line * (1_000_000 // len(line) + 1))[:1_000_000]
    begun = time.process_time()
    redact(content)
    assert time.process_time() - begun < 60, "what is not linear takes hours"
