"""What stays on this host when a work tree is given up: `salvage/<rig>/<bead>.<attempt>.<polecat>` of the town.

Files that may not leave the host are moved there; a work tree with what no commit can hold goes there whole.
The town deletes it only when a person says so, or when upkeep finds its bead closed for long enough.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from models import names
from models.town import TownPaths

LISTED: Final = 200
"""so many files of a folder are named"""
_WALKED: Final = 400
"""characters of a path; what is deeper is only named"""


def keep_files(worktree: Path, place: Path, files: Sequence[str]) -> None:
    """Move these files of a work tree to `place`; those that are gone are passed over, an earlier version stays.

    Raises:
        OSError: one cannot be moved, so the work tree must not go.
    """
    for name in files:
        source, target = worktree / name, place / name
        if not os.path.lexists(source) or not source.resolve().is_relative_to(worktree.resolve()):
            continue
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_room(target, place)
        os.rename(source, target)


def salvaged_of(paths: TownPaths, rig: str, bead: str, attempt: int) -> list[Path]:
    """The folders with what stayed of an attempt, by whichever polecat."""
    return sorted((paths.salvage / names.valid_rig(rig)).glob(f"{names.valid_bead(bead)}.{attempt}.*"))


def salvaged_files(folder: Path) -> list[str]:
    """Names of what is in one, printable and in order; of a repository's `.git` only that it is there."""
    found: list[str] = []
    for place, folders, files in os.walk(folder):
        if ".git" in folders:
            folders.remove(".git")
            found.append(os.path.relpath(os.path.join(place, ".git"), folder) + "/")
        found += [os.path.relpath(os.path.join(place, name), folder) for name in files]
        if len(place) - len(str(folder)) > _WALKED:
            # os.walk calls itself: a thousand levels would end it.
            found += [os.path.relpath(os.path.join(place, name), folder) + "/" for name in folders]
            folders.clear()
        if len(found) >= LISTED:
            break
    return sorted(name if name.isprintable() else ascii(name) for name in found[:LISTED])


def _make_room(target: Path, place: Path) -> None:
    """The folders above `target`, and a free name: what was kept before under it goes on under another."""
    for folder in reversed(target.relative_to(place).parents):
        above = place / folder
        if os.path.lexists(above) and (above.is_symlink() or not above.is_dir()):
            os.rename(above, _earlier(above))
        above.mkdir(mode=0o700, exist_ok=True)
    if os.path.lexists(target):
        os.rename(target, _earlier(target))


def _earlier(path: Path) -> Path:
    number = 1
    while os.path.lexists(free := path.with_name(f"{path.name}.~{number}~")):
        number += 1
    return free


def first_salvaged(paths: TownPaths, rig: str, bead: str, attempt: int) -> str | None:
    """The folder with what stayed of an attempt; None where nothing did."""
    with contextlib.suppress(IndexError):
        return str(salvaged_of(paths, rig, bead, attempt)[0])
    return None
