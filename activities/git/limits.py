"""What an agent's commits may bring along: paths, folders, files and bytes within limits.

A tree may name the same subtree many times, so a few hundred bytes can stand for a million million files, and
every command of git that walks such a tree never ends. So trees are measured before git walks them: each is read
once, and what is below it is counted from that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from activities.git.command import GitRepo, ObjectReader
from models.errors import ErrorCode, GtError
from models.settings import LimitSettings

MOST_FILES: Final = 500_000
"""So many more than its target has, and git walks no tree of an agent's: a status of them takes 8 s. limits.entries
goes no further."""
MOST_DEPTH: Final = 1000
_NAME_BYTES: Final = 255
"""longest name of a file that Linux file systems take"""
_TREE_BYTES: Final = 500_000_000
_SHOWN: Final = 400
"""bytes of a path"""
_HINT: Final = "commit it anew without that, then run gt done again; the limits are settings: gt config list"


@dataclass
class _Size:
    """What is in a tree, everything below it included, or what one tree has and another has not."""

    entries: int = 0
    depth: int = 0
    """folders within folders"""
    path_bytes: int = 0
    path: bytes = b""
    """the longest one, or its beginning"""
    name: bytes = b""
    """the longest name of a single file or folder"""

    def add(self, folder: bytes, name: bytes, below: _Size | None) -> None:
        """Count a file, or with `below` a folder and all in it, that stands in `folder` ("" or ending in a slash)."""
        self.entries += below.entries if below is not None else 1
        self.depth = max(self.depth, folder.count(b"/") + (below.depth + 1 if below is not None else 0))
        more = 1 + below.path_bytes if below is not None and below.path_bytes else 0
        length = len(folder) + len(name) + more
        if length > self.path_bytes:
            self.path_bytes = length
            self.path = (folder + name + (b"/" + below.path if below is not None and more else b""))[:_SHOWN]
        for one in (name, below.name if below is not None else b""):
            self.name = max(self.name, one, key=len)


class _Trees:
    """Reads trees, each once, and measures them."""

    def __init__(self, reader: ObjectReader) -> None:
        self._reader = reader
        self._entries: dict[str, list[tuple[int, bytes, str]]] = {}
        """by tree: mode, name and object of what it names"""
        self._sizes: dict[str, _Size] = {}

    def added(self, new: str, old: str) -> tuple[_Size, int]:
        """What the tree `new` has otherwise than `old` ("" for none), and how many of `old`'s files that replaces.

        Raises:
            GtError: INVALID_VALUE where it is more than git can walk, or no tree; GIT_FAILED where one is missing.
        """
        whole, replaced = _Size(), 0
        waiting = [(b"", new, old)]
        while waiting:
            folder, tree, before = waiting.pop()
            left = {name: (mode, sha) for mode, name, sha in self._read(before)} if before else {}
            for mode, name, sha in self._read(tree):
                was = left.pop(name, None)
                if was == (mode, sha):
                    continue
                if was is not None and _is_folder(mode) and _is_folder(was[0]):
                    waiting.append((folder + name + b"/", sha, was[1]))
                    continue
                whole.add(folder, name, self._size(sha, folder + name) if _is_folder(mode) else None)
                replaced += self._count(was) if was is not None else 0
            replaced += sum(map(self._count, left.values()))
        return whole, replaced

    def _count(self, entry: tuple[int, str]) -> int:
        mode, sha = entry
        return self._size(sha, b"").entries if _is_folder(mode) else 1

    def _size(self, top: str, path: bytes) -> _Size:
        """What is in a tree. Without recursion: they may be thousands deep."""
        self._load(top, path)
        stack = [top]
        while stack:
            tree = stack[-1]
            missing = [sha for mode, _, sha in self._entries[tree] if _is_folder(mode) and sha not in self._sizes]
            if missing and tree not in self._sizes:
                stack += dict.fromkeys(missing)
                continue
            stack.pop()
            if tree not in self._sizes:
                size = self._sizes[tree] = _Size()
                for mode, name, sha in self._entries[tree]:
                    size.add(b"", name, self._sizes[sha] if _is_folder(mode) else None)
        return self._sizes[top]

    def _load(self, top: str, path: bytes) -> None:
        """Read a tree and all below it, level by level."""
        level, depth, entries = {top: path}, path.count(b"/"), 0
        while level:
            wanted = [sha for sha in level if sha not in self._entries]
            for sha, raw in zip(wanted, self._reader.read(wanted, _TREE_BYTES, "tree"), strict=True):
                self._entries[sha] = _parsed(raw, sha)
                entries += len(self._entries[sha])
            where = _start(next(iter(level.values())))
            if depth > MOST_DEPTH:
                raise _refusal(f"folders are more than {MOST_DEPTH} deep: {where}")
            if entries > MOST_FILES:
                raise _refusal(f"the work has more than {MOST_FILES} files in its folders: {where}")
            depth += 1
            level = {
                sub: (level[sha] + b"/" + name)[:_SHOWN]
                for sha in wanted
                for mode, name, sub in self._entries[sha]
                if _is_folder(mode) and sub not in self._entries
            }

    def _read(self, tree: str) -> list[tuple[int, bytes, str]]:
        if tree not in self._entries:
            (raw,) = self._reader.read([tree], _TREE_BYTES, "tree")
            self._entries[tree] = _parsed(raw, tree)
        return self._entries[tree]


def refuse_beyond_limits(repo: GitRepo, head: str, known: Sequence[str], limits: LimitSettings) -> None:
    """Refuse the commits that `head` has and the `known` ones have not, where they go beyond a limit.

    Raises:
        GtError: INVALID_VALUE with what is too much, and where; GIT_FAILED.
    """
    listed = repo.run("rev-list", "--objects", head, *(f"^{one}" for one in known), "--").stdout
    objects = {parts[0]: parts[2] for line in listed.splitlines() if (parts := line.partition(b" "))}
    asked = b"".join(sha + b"\n" for sha in objects)
    form = "--batch-check=%(objectname) %(objecttype) %(objectsize)"
    total = 0
    for row in repo.run("cat-file", form, stdin=asked).text.splitlines():
        sha, kind, size = row.split(" ")
        if kind == "blob":
            total += int(size)
            if int(size) > limits.blob_bytes:
                path = objects[sha.encode()].decode("utf-8", "replace")
                raise _refusal(f"{path!a} has {size} bytes, above limits.blob_bytes {limits.blob_bytes}")
    if total > limits.total_bytes:
        raise _refusal(f"the change adds {total} bytes, above limits.total_bytes {limits.total_bytes}")
    base = repo.attempt("merge-base", head, *known).word if known else ""
    with ObjectReader(repo) as reader:
        added, _ = _Trees(reader).added(_tree_of(head), _tree_of(base))
    _judge(added, limits)


def refuse_what_git_cannot_walk(repo: GitRepo, commits: Sequence[str], known: Iterable[str]) -> None:
    """Refuse commits that stand for more files than any command of git gets through: theirs, and those they bring.

    Args:
        known: commits that are fit, with all that they hold.

    Raises:
        GtError: INVALID_VALUE; GIT_FAILED where an object is missing.
    """
    order = ("rev-list", "--topo-order", "--reverse", "--parents")
    listed = repo.run(*order, *commits, *(f"^{one}" for one in known), "--").text
    more: dict[str, int] = {}
    """files of a commit beyond those of the known one that it builds on"""
    with ObjectReader(repo) as reader:
        trees = _Trees(reader)
        for commit, *parents in map(str.split, listed.splitlines()):
            first = parents[0] if parents else ""
            more[commit] = more.get(first, 0) + _growth(trees, commit, first)
            _refuse_growth(more[commit])


def refuse_growth(repo: GitRepo, commit: str, base: str) -> None:
    """Refuse a commit that stands for more files, beside those of `base` ("" for none), than git gets through.

    Raises:
        GtError: INVALID_VALUE; GIT_FAILED where an object is missing.
    """
    with ObjectReader(repo) as reader:
        _refuse_growth(_growth(_Trees(reader), commit, base))


def _growth(trees: _Trees, commit: str, base: str) -> int:
    added, replaced = trees.added(_tree_of(commit), _tree_of(base))
    if added.depth > MOST_DEPTH:
        raise _refusal(f"folders are {added.depth} deep, more than {MOST_DEPTH}: {_start(added.path)}")
    return added.entries - replaced


def _refuse_growth(files: int) -> None:
    if files > MOST_FILES:
        raise _refusal(f"the work has {files} files in its folders, more than {MOST_FILES}")


def _tree_of(commit: str) -> str:
    """As `git cat-file` understands it."""
    return f"{commit}^{{tree}}" if commit else ""


def _judge(added: _Size, limits: LimitSettings) -> None:
    if len(added.name) > _NAME_BYTES:
        raise _refusal(f"a name has {len(added.name)} bytes, more than {_NAME_BYTES}: {_start(added.name)}")
    if added.path_bytes > limits.path_bytes:
        raise _refusal(
            f"a path has {added.path_bytes} bytes, above limits.path_bytes {limits.path_bytes}: {_start(added.path)}"
        )
    if added.depth > limits.depth:
        raise _refusal(f"folders are {added.depth} deep, above limits.depth {limits.depth}: {_start(added.path)}")
    if added.entries > limits.entries:
        raise _refusal(f"the change has {added.entries} files in its folders, above limits.entries {limits.entries}")


def _parsed(content: bytes, tree: str) -> list[tuple[int, bytes, str]]:
    """Mode, name and object of each entry of a tree.

    Raises:
        GtError: INVALID_VALUE.
    """
    found = []
    position, width = 0, _width(tree)
    try:
        while position < len(content):
            end = content.index(b"\0", position)
            mode, _, name = content[position:end].partition(b" ")
            found.append((int(mode, 8), name, content[end + 1 : end + 1 + width].hex()))
            position = end + 1 + width
    except ValueError:
        raise _refusal(f"the tree {tree} is damaged") from None
    return found


def _width(tree: str) -> int:
    """Bytes of an object name."""
    return len(tree.partition("^")[0]) // 2


def _is_folder(mode: int) -> bool:
    return mode & 0o170000 == 0o040000


def _start(path: bytes) -> str:
    return ascii(path[:80].decode("utf-8", "replace")) + ("…" if len(path) > 80 else "")


def _refusal(what: str) -> GtError:
    return GtError(ErrorCode.INVALID_VALUE, what, _HINT)
