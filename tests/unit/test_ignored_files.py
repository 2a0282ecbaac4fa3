"""Which ignored files are worth keeping."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.ignored_files import is_cache_file, is_cache_folder, worth_keeping


@pytest.mark.parametrize(
    ("name", "holds", "cache"),
    [
        ("node_modules", (), True),
        ("shop.egg-info", (), True),
        ("my-environment", ("pyvenv.cfg", "bin"), True),
        ("whatever", ("CACHEDIR.TAG",), True),
        ("notes", ("plan.md",), False),
        ("node_modules_of_mine", (), False),
        ("builds", (), False),
    ],
)
def test_a_folder_is_a_cache_by_its_name_or_by_what_marks_it(name: str, holds: tuple[str, ...], cache: bool) -> None:
    assert is_cache_folder(name, holds) is cache


@pytest.mark.parametrize(("name", "cache"), [("a.pyc", True), (".coverage", True), ("plan.md", False), (".env", False)])
def test_a_file_is_a_cache_by_its_name(name: str, cache: bool) -> None:
    assert is_cache_file(name) is cache


@given(st.dictionaries(st.text(max_size=5), st.integers(0, 1000)), st.integers(0, 3000))
def test_what_is_kept_fits_and_nothing_smaller_was_passed_over(sizes: dict[str, int], most: int) -> None:
    kept = worth_keeping(sizes, most)
    assert sum(sizes[path] for path in kept) <= most
    left = [size for path, size in sizes.items() if path not in kept]
    assert not left or max((sizes[path] for path in kept), default=0) <= min(left)
    assert not left or sum(sizes[path] for path in kept) + min(left) > most
