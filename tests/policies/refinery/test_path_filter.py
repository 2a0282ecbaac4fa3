"""Which gates concern a change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.refinery.path_filter import concerns


@pytest.mark.parametrize(
    ("pattern", "file", "matches"),
    [
        ("docs/**", "docs/a.md", True),
        ("docs/**", "docs/deep/er/a.md", True),
        ("docs/**", "src/docs/a.md", False),
        ("docs/*", "docs/deep/a.md", False),
        ("**/*.py", "a.py", True),
        ("**/*.py", "deep/er/a.py", True),
        ("*.md", "README.md", True),
        ("*.md", "docs/README.md", True),
        ("src/?.c", "src/a.c", True),
        ("src/?.c", "src/ab.c", False),
        ("a+b/(c).txt", "a+b/(c).txt", True),
        ("a+b/(c).txt", "aab/c.txt", False),
        ("*", "with\nnewline", True),
    ],
)
def test_a_pattern_matches_as_its_docs_say(pattern: str, file: str, matches: bool) -> None:
    assert concerns((pattern,), (file,)) is matches


def test_a_gate_without_patterns_concerns_every_change() -> None:
    assert concerns((), ())
    assert concerns((), ("a",))


def test_one_file_that_matches_is_enough() -> None:
    assert concerns(("docs/**", "*.md"), ("src/a.py", "docs/a.txt"))
    assert not concerns(("docs/**",), ("src/a.py",))


@given(st.text(st.characters(blacklist_characters="*?/"), min_size=1, max_size=20))
def test_a_name_without_wildcards_matches_itself(name: str) -> None:
    assert concerns((f"x/{name}",), (f"x/{name}",))
