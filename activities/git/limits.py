"""What a change may bring along: paths, folders, files and bytes within the rig's limits.

A tree may name the same subtree many times, so a few hundred bytes can stand for millions of files: each
tree is read once, and what is below it is counted from that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from activities.git.command import GitRepo
from models.errors import ErrorCode, GtError
from models.settings import LimitSettings

_NAME_BYTES: Final = 255
"""longest name of a file that Linux file systems take"""
_HINT: Final = "commit it anew without that, then run gt done again; the limits are settings: gt config list"


@dataclass
class _Below:
    """What a tree holds, everything below it included."""

    entries: int = 0
    depth: int = 0
    path_bytes: int = 0
    path: bytes = b""
    """the longest one"""
    name: bytes = b""
    """the longest name of a single file or folder"""


def refuse_beyond_limits(repo: GitRepo, head: str, known: Sequence[str], limits: LimitSettings) -> None:
    """Refuse the commits that `head` has and the `known` ones have not, where one goes beyond a limit.

    Raises:
        GtError: INVALID_VALUE with what is too much, and where; GIT_FAILED.
    """
    listed = repo.run("rev-list", "--objects", head, *(f"^{one}" for one in known), "--").stdout
    objects = {parts[0]: parts[2] for line in listed.splitlines() if (parts := line.partition(b" "))}
    asked = b"".join(sha + b"\n" for sha in objects)
    form = "--batch-check=%(objectname) %(objecttype) %(objectsize)"
    trees, total, blobs = [], 0, 0
    for row in repo.run("cat-file", form, stdin=asked).text.splitlines():
        sha, kind, size = row.split(" ")
        if kind == "tree":
            trees.append(sha)
        elif kind == "blob":
            blobs += 1
            total += int(size)
            if int(size) > limits.blob_bytes:
                path = objects[sha.encode()].decode("utf-8", "replace")
                raise _refusal(f"{path!a} has {size} bytes, above limits.blob_bytes {limits.blob_bytes}")
    if total > limits.total_bytes:
        raise _refusal(f"the change adds {total} bytes, above limits.total_bytes {limits.total_bytes}")
    tip = repo.run("rev-parse", "--verify", f"{head}^{{tree}}").word
    if tip in trees:
        _judge(_measure(repo, trees, tip), limits)


def _judge(below: _Below, limits: LimitSettings) -> None:
    if len(below.name) > _NAME_BYTES:
        raise _refusal(f"a name has {len(below.name)} bytes, more than {_NAME_BYTES}: {_start(below.name)}")
    if below.path_bytes > limits.path_bytes:
        raise _refusal(
            f"a path has {below.path_bytes} bytes, above limits.path_bytes {limits.path_bytes}: {_start(below.path)}"
        )
    if below.depth > limits.depth:
        raise _refusal(f"folders are {below.depth} deep, above limits.depth {limits.depth}: {_start(below.path)}")
    if below.entries > limits.entries:
        raise _refusal(f"the change has {below.entries} files in its folders, above limits.entries {limits.entries}")


def _measure(repo: GitRepo, trees: Sequence[str], top: str) -> _Below:
    """What is below `top`, as far as `trees` reach: a tree that is not among them is on the target already."""
    contents = _read_trees(repo, trees)
    found: dict[str, _Below] = {}
    # Children first, without recursion: trees may be thousands deep.
    stack = [top]
    while stack:
        tree = stack[-1]
        missing = [sha for mode, _, sha in contents[tree] if mode == b"40000" and sha in contents and sha not in found]
        if tree not in found and missing:
            stack += missing
            continue
        stack.pop()
        found.setdefault(tree, _sum(contents[tree], found))
    return found[top]


def _sum(entries: Sequence[tuple[bytes, bytes, str]], found: dict[str, _Below]) -> _Below:
    whole = _Below()
    for mode, name, sha in entries:
        below = found.get(sha) if mode == b"40000" else None
        whole.entries += below.entries if below is not None else 1
        whole.depth = max(whole.depth, below.depth + 1 if below is not None else 0)
        length = len(name) + (1 + below.path_bytes if below is not None and below.path_bytes else 0)
        if length > whole.path_bytes:
            whole.path_bytes = length
            whole.path = name + (b"/" + below.path if below is not None and below.path else b"")[:400]
        for one in (name, below.name if below is not None else b""):
            whole.name = max(whole.name, one, key=len)
    return whole


def _read_trees(repo: GitRepo, trees: Sequence[str]) -> dict[str, list[tuple[bytes, bytes, str]]]:
    """Entries (mode, name, object) by tree."""
    raw = repo.run("cat-file", "--batch", stdin="".join(f"{sha}\n" for sha in trees).encode()).stdout
    found = {}
    position = 0
    for sha in trees:
        end = raw.index(b"\n", position)
        size = int(raw[position:end].rsplit(b" ", 1)[1])
        found[sha] = list(_entries(raw[end + 1 : end + 1 + size], len(sha) // 2))
        position = end + size + 2
    return found


def _entries(content: bytes, width: int) -> list[tuple[bytes, bytes, str]]:
    found = []
    position = 0
    while position < len(content):
        end = content.index(b"\0", position)
        mode, _, name = content[position:end].partition(b" ")
        found.append((mode, name, content[end + 1 : end + 1 + width].hex()))
        position = end + 1 + width
    return found


def _start(path: bytes) -> str:
    return ascii(path[:80].decode("utf-8", "replace")) + ("…" if len(path) > 80 else "")


def _refusal(what: str) -> GtError:
    return GtError(ErrorCode.INVALID_VALUE, what, _HINT)
