"""Objects written byte by byte, as no git command would."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

from models import names

_WHO = b"A <a@x> 1700000000 +0000"


class Objects:
    """Writes loose objects into a repository's folder of objects, without asking git."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, kind: str, content: bytes) -> str:
        raw = f"{kind} {len(content)}\0".encode() + content
        sha = hashlib.sha1(raw).hexdigest()
        place = self.folder / sha[:2] / sha[2:]
        if not place.exists():
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(zlib.compress(raw, 1))
        return sha

    def tree(self, entries: list[tuple[str, bytes, object]]) -> str:
        """A tree of (mode, name, content): text of a file, or such a list."""
        raw = b""
        for mode, name, inner in entries:
            if isinstance(inner, list):
                sha = self.tree(inner)
            else:
                assert isinstance(inner, str)
                sha = self.write("blob", inner.encode())
            raw += f"{mode} ".encode() + name + b"\0" + bytes.fromhex(sha)
        return self.write("tree", raw)

    def nested(self, width: int, depth: int, mode: bytes = b"40000") -> str:
        """`width` names for one tree below, `depth` times: width ** depth files out of a few hundred bytes."""
        tree = self.tree([("100644", b"f", "content")])
        for _ in range(depth):
            raw = b"".join(b"%s %d\0" % (mode, number) + bytes.fromhex(tree) for number in range(width))
            tree = self.write("tree", raw)
        return tree

    def folders(self, name: bytes, depth: int) -> str:
        """A file below `depth` folders of one name."""
        tree = self.tree([("100644", b"f", "content")])
        for _ in range(depth):
            tree = self.write("tree", b"40000 %s\0" % name + bytes.fromhex(tree))
        return tree

    def commit(self, tree: str, parent: str) -> str:
        head = f"tree {tree}\nparent {parent}\n".encode()
        return self.write("commit", head + b"author %s\ncommitter %s\n\nTree\n" % (_WHO, _WHO))

    def commit_tree_on(self, worktree: Path, bead: str, tree: str) -> str:
        """Commit a tree on the bead's branch, which is checked out; no file of the work tree changes."""
        branch = worktree / ".git" / "refs" / "heads" / names.job_branch(bead)
        head = self.commit(tree, branch.read_text().strip())
        branch.write_text(f"{head}\n")
        return head

    def commit_on(self, worktree: Path, bead: str, width: int, depth: int, mode: bytes = b"40000") -> str:
        return self.commit_tree_on(worktree, bead, self.nested(width, depth, mode))
