"""Untracked files of a person's that work trees get: an .env, a licence key."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from models.errors import ErrorCode, GtError
from models.settings import listed_files
from services.atomic_files import read_plain, write_whole


def bring_files(setting: str, source: Path, tree: Path) -> list[str]:
    """Copy files or folders into a work tree; what stands there already is left, since it is the tree's own.

    They are added to the repository's info/exclude, so that no commit takes them along unasked.

    Args:
        setting: `worktree.copy` or `gate.copy`.
        source: a person's own folder: links in it are followed.
        tree: no link in it is.

    Returns:
        The names that were copied.

    Raises:
        GtError: INVALID_VALUE; REFUSED where the folder lacks one, or a link or a file is in the way.
        OSError: see `exclude`.
    """
    brought = []
    for name in listed_files(setting):
        origin, place = source / name, tree / name
        if not origin.exists():
            raise GtError(ErrorCode.REFUSED, f"{source} has no {name}", "put it there, or take it off the copy list")
        _make_way(tree, name)
        if os.path.lexists(place):
            continue
        if origin.is_dir():
            shutil.copytree(origin, place)
        else:
            shutil.copy2(origin, place)
        brought.append(name)
    exclude(tree, setting)
    return brought


def patterns(setting: str) -> list[str]:
    """What `setting` names, as lines of a .gitignore.

    Raises:
        GtError: INVALID_VALUE.
    """
    return [f"/{_literally(name)}" for name in listed_files(setting)]


def exclude(tree: Path, setting: str) -> None:
    """Have git overlook in `tree` what `setting` names; a second time changes nothing. Tracked files stay tracked.

    Raises:
        GtError: INVALID_VALUE.
        OSError: a link is in the way of the repository's info/exclude.
    """
    lines = [f"/{_literally(name)}" for name in listed_files(setting)]
    if not lines or (tree / ".git").is_symlink() or not (tree / ".git").is_dir():
        return
    file = tree / ".git" / "info" / "exclude"
    try:
        before = read_plain(file).decode("utf-8", "surrogateescape") if not file.is_symlink() else ""
    except OSError:
        before = ""
    missing = [line for line in lines if line not in before.splitlines()]
    if missing:
        kept = before if before.endswith("\n") or not before else f"{before}\n"
        text = kept + "".join(f"{line}\n" for line in missing)
        write_whole(file, text.encode("utf-8", "surrogateescape"), 0o644, within=tree)


def _make_way(tree: Path, name: str) -> None:
    place = tree
    for part in name.split("/")[:-1]:
        place = place / part
        try:
            kind = os.lstat(place).st_mode
        except FileNotFoundError:
            place.mkdir()
            continue
        if not stat.S_ISDIR(kind):
            raise GtError(ErrorCode.REFUSED, f"{name} cannot be brought: {place.name} is a file or a link there")


def _literally(name: str) -> str:
    return "".join(f"\\{character}" if character in "*?[\\ !#" else character for character in name)
