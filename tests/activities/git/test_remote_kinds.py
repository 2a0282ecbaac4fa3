"""What kind of place a remote's address names."""

from __future__ import annotations

from pathlib import Path

import pytest

from activities.git.remote_kinds import local_path, resolved, same_reach


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/srv/a.git", Path("/srv/a.git")),
        ("file:///srv/a%20b.git", Path("/srv/a b.git")),
        ("FILE:///srv/a.git", Path("/srv/a.git")),
        ("../a:b.git", Path("../a:b.git")),
        ("git@example.org:a.git", None),
        ("host:a.git", None),
        ("https://example.org/a.git", None),
        ("ssh://example.org/a.git", None),
    ],
)
def test_a_path_and_a_file_url_are_places_on_this_machine(url: str, path: Path | None) -> None:
    assert local_path(url) == path


@pytest.mark.parametrize(
    ("url", "against", "whole"),
    [
        ("../lib.git", "https://example.org/team/shop.git", "https://example.org/team/lib.git"),
        ("../../lib.git", "https://example.org/team/shop.git/", "https://example.org/lib.git"),
        ("./sub.git", "https://example.org/team/shop.git", "https://example.org/team/shop.git/sub.git"),
        ("../lib.git", "git@example.org:team/shop.git", "git@example.org:team/lib.git"),
        ("../lib.git", "git@example.org:shop.git", "git@example.org:lib.git"),
        ("../lib.git", "/srv/shop.git", "/srv/lib.git"),
        ("https://example.org/x", "/srv/shop.git", "https://example.org/x"),
    ],
)
def test_a_relative_address_is_made_whole_by_gits_rules(url: str, against: str, whole: str) -> None:
    assert resolved(url, against) == whole


def test_places_on_this_machine_are_for_rigs_whose_remote_is_on_it() -> None:
    assert same_reach("/srv/lib.git", "/srv/shop.git")
    assert same_reach("https://example.org/x", "/srv/shop.git")
    assert not same_reach("/srv/lib.git", "https://example.org/shop.git")
