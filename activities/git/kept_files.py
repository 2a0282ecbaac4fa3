"""Files of a worktree that must not leave the host, or that git ignores: copied before the worktree goes.

They are under `kept/<rig>/<bead>/<attempt>/` of the town, for its user alone: `files/` as they stood, and
`staged/` what the index held besides. The town deletes them only when a person says so.
"""

from __future__ import annotations

import contextlib
import errno
import filecmp
import itertools
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from activities.git.command import GitRepo
from activities.git.snapshot import LeftOut, Refused
from activities.git.worktree_folder import WorktreeFolder
from models.errors import ErrorCode, GtError
from models.town import TownPaths
from policies.ignored_files import is_cache_file, is_cache_folder, worth_keeping
from services.whole_files import copy_whole, write_whole

FILES: Final = "files"
STAGED: Final = "staged"
IGNORED: Final = "git ignores it"
LOOKED_AT: Final = 5_000
"""so many files of one ignored folder are looked at"""
_NAMED: Final = 20
"""so many caches are named"""


class Ignored(NamedTuple):
    """What became of the files that git ignores, each with the reason."""

    kept: tuple[LeftOut, ...] = ()
    lost: tuple[LeftOut, ...] = ()
    caches: tuple[LeftOut, ...] = ()
    """made again, so that nothing is lost with them"""


class KeptFiles:
    """What is kept of one attempt.

    Args:
        place: the attempt's folder.
    """

    def __init__(self, place: Path) -> None:
        self._place = place

    def keep(self, folder: WorktreeFolder, left_out: Sequence[LeftOut], staged: Sequence[Refused]) -> None:
        """Copy what stays on this host because of what it holds. Repeating it keeps every version.

        Raises:
            GtError: DISK_FULL; REFUSED where one can be neither read nor moved: then the worktree must not go.
        """
        for one in left_out:
            self._keep(folder.path / one.path, self._place / FILES / one.path)
        for blob in staged:
            self._keep_blob(folder.repo(), blob)

    def keep_ignored(self, folder: WorktreeFolder, max_bytes: int) -> Ignored:
        """Copy ignored files that are no caches, as far as `max_bytes` goes.

        Raises:
            GtError: DISK_FULL, GIT_FAILED.
        """
        sizes, not_kept, caches = _ignored(folder)
        worth = worth_keeping(sizes, max_bytes)
        kept = []
        for path, size in sizes.items():
            if path not in worth:
                not_kept.append(LeftOut(path, f"ignored, {size} bytes: more than is kept of such files"))
                continue
            try:
                if self._keep(folder.path / path, self._place / FILES / path):
                    kept.append(LeftOut(path, IGNORED))
            except GtError as error:
                if error.code is ErrorCode.DISK_FULL:
                    raise
                not_kept.append(LeftOut(path, "ignored, and it cannot be read"))
        return Ignored(tuple(kept), tuple(not_kept), _told(caches))

    def _keep(self, source: Path, target: Path) -> bool:
        """Whether there was anything to keep."""
        try:
            if source.is_dir() and not source.is_symlink():
                for path in _files_in(source):
                    self._copy(path, target / path.relative_to(source))
            elif os.path.lexists(source):
                self._copy(source, target)
            else:
                return False
        except OSError as error:
            code = ErrorCode.DISK_FULL if error.errno in {errno.ENOSPC, errno.EDQUOT} else ErrorCode.REFUSED
            raise GtError(code, f"{source.name!a} must stay on this host and cannot be kept: {error}") from None
        return True

    def _copy(self, source: Path, target: Path) -> None:
        if not _has_content(source) or (os.path.lexists(target) and _same(source, target)):
            return
        self._make_room(target)
        if source.is_symlink():
            target.symlink_to(os.readlink(source))
        elif os.access(source, os.R_OK):
            copy_whole(source, target, 0o700 if source.stat().st_mode & stat.S_IXUSR else 0o600)
        else:
            os.rename(source, target)

    def _keep_blob(self, repo: GitRepo, one: Refused) -> None:
        content = repo.run("cat-file", "blob", one.blob).stdout
        target = self._place / STAGED / one.path
        if target.is_file() and target.read_bytes() == content:
            return
        self._make_room(target)
        write_whole(target, content)

    def _make_room(self, target: Path) -> None:
        """The folders above `target`, private; what was kept there before goes on under another name."""
        for folder in reversed(target.relative_to(self._place).parents):
            place = self._place / folder
            if os.path.lexists(place) and not place.is_dir():
                os.rename(place, _unused(place))
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._place.chmod(0o700)
        if os.path.lexists(target):
            os.rename(target, _unused(target))


def folder_of(paths: TownPaths, rig: str, bead: str, attempt: int) -> str | None:
    """The folder of an attempt of which something is kept; None where nothing is."""
    place = paths.kept(rig, bead, attempt)
    return str(place) if kept_in(place) else None


def kept_in(place: Path) -> list[str]:
    """Paths of all that is kept in an attempt's folder, printable, in order; nothing where there is none."""
    found = [str(path.relative_to(place)) for path in _files_in(place)]
    return sorted(name if name.isprintable() else ascii(name) for name in found)


def _ignored(folder: WorktreeFolder) -> tuple[dict[str, int], list[LeftOut], list[str]]:
    """Sizes of ignored files by path, what was not looked at, and caches."""
    sizes: dict[str, int] = {}
    passed_over, caches = [], []
    for name in ignored_in(folder.repo()):
        path = folder.path / name
        if not name.endswith("/"):
            if is_cache_file(path.name):
                caches.append(name)
            else:
                _measure(path, name, sizes)
            continue
        within, deeper = _within(path, LOOKED_AT)
        caches += [f"{os.path.relpath(one, folder.path)}/" for one in deeper]
        if len(within) >= LOOKED_AT:
            passed_over.append(LeftOut(name, f"ignored, more than {LOOKED_AT} files"))
            continue
        for one in within:
            _measure(one, os.path.relpath(one, folder.path), sizes)
    return sizes, passed_over, caches


def ignored_in(repo: GitRepo) -> list[str]:
    """Files that git ignores, and folders (with a slash) that hold nothing else."""
    command = ("ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "-z")
    answer = repo.attempt(*command)
    if answer.exit_code != 0:
        # The agent's index is damaged; without any, tracked files count only where a pattern fits them.
        answer = repo.run(*command, environment={"GIT_INDEX_FILE": str(repo.git_dir / "no.index")})
    listed = [os.fsdecode(one) for one in answer.stdout.split(b"\0") if one]
    folders = tuple(one for one in listed if one.endswith("/"))
    # git names a folder that holds nothing else, and then what is in it too.
    return [one for one in listed if not any(one != folder and one.startswith(folder) for folder in folders)]


def named_ignored(folder: WorktreeFolder) -> list[LeftOut]:
    """Files and folders that git ignores, caches apart: they stay where they are."""
    found = []
    for name in ignored_in(folder.repo()):
        path = folder.path / name
        if _within(path, most=1)[0] if name.endswith("/") else not is_cache_file(path.name):
            found.append(LeftOut(name, IGNORED))
    return found


def _within(top: Path, most: int) -> tuple[list[Path], list[Path]]:
    """Files below a folder, `most` or a few more, and the caches among its folders, into which nobody looks."""
    files: list[Path] = []
    caches: list[Path] = []
    for place, folders, found in os.walk(top):
        if is_cache_folder(os.path.basename(place), found):
            caches.append(Path(place))
            folders.clear()
            continue
        files += [Path(place) / name for name in found if not is_cache_file(name)]
        if len(files) >= most:
            break
    return files, caches


def _measure(path: Path, name: str, sizes: dict[str, int]) -> None:
    with contextlib.suppress(OSError):
        facts = path.lstat()
        if stat.S_ISREG(facts.st_mode) or stat.S_ISLNK(facts.st_mode):
            sizes[name] = facts.st_size


def _told(caches: Sequence[str]) -> tuple[LeftOut, ...]:
    if not caches:
        return ()
    more = f" and {len(caches) - _NAMED} more" if len(caches) > _NAMED else ""
    return (LeftOut(", ".join(caches[:_NAMED]) + more, "ignored; their tools make them again"),)


def _files_in(place: Path) -> Iterator[Path]:
    """Files and links below a folder."""
    for folder, folders, files in os.walk(place):
        yield from (Path(folder) / name for name in files)
        yield from (Path(folder) / name for name in folders if os.path.islink(Path(folder) / name))


def _has_content(path: Path) -> bool:
    """A pipe has none, and whoever opens it waits for its other end."""
    mode = path.lstat().st_mode
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


def _same(source: Path, kept: Path) -> bool:
    if source.is_symlink() or kept.is_symlink():
        return source.is_symlink() and kept.is_symlink() and os.readlink(source) == os.readlink(kept)
    return kept.is_file() and os.access(source, os.R_OK) and filecmp.cmp(source, kept, shallow=False)


def _unused(path: Path) -> Path:
    """A free name for an earlier version, as editors number their backups."""
    return next(
        one for number in itertools.count(1) if not os.path.lexists(one := path.with_name(f"{path.name}.~{number}~"))
    )
