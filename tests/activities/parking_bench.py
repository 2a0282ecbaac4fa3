"""A worktree of one bead, and what a stranger finds of it under the parked ref."""

from __future__ import annotations

from pathlib import Path

from activities.git.worktree.worktrees import Worktrees
from models.ledger.records import Rig
from models.town import TownPaths
from tests.activities.workshop import git

PARKED = "refs/gastown/parked/sh-1/3"


class Bench:
    """A worktree of sh-1, and what a stranger finds under the parked ref afterwards."""

    def __init__(self, paths: TownPaths, rig: Rig, remote: Path, stranger: Path) -> None:
        self._paths = paths
        self.worktrees = Worktrees(paths)
        self.rig = rig
        self.remote = remote
        self.path = self.worktrees.prepare(rig, "toast", "sh-1", "main").path
        self._stranger = stranger

    def write(self, name: str, content: str | bytes) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def git(self, *arguments: str) -> str:
        return git(self.path, *arguments)

    def park_and_release(self) -> None:
        assert self.worktrees.park(self.rig, "toast", "sh-1", 3, None) == PARKED
        self.worktrees.release(self.rig, "toast", "sh-1")
        assert not (self.path / ".git").exists()
        git(self._stranger.parent, "init", "--quiet", str(self._stranger))
        git(self._stranger, "fetch", "--quiet", str(self.remote), f"{PARKED}:parked")

    def file(self, name: str, revision: str = "parked") -> str:
        return git(self._stranger, "show", f"{revision}:{name}")

    def everything(self) -> str:
        """Every version of every file that can be reached from the parked ref."""
        objects = [line.split(" ")[0] for line in git(self._stranger, "rev-list", "--objects", "parked").splitlines()]
        asked = "".join(f"{one}\n" for one in objects).encode()
        return git(self._stranger, "cat-file", "--batch", stdin=asked)

    def salvaged(self) -> Path:
        """The one folder of the salvage."""
        (folder,) = (self._paths.salvage / "shop").iterdir()
        return folder

    def salvaged_git(self, *arguments: str) -> str:
        return git(self.salvaged(), *arguments)

    def message(self) -> str:
        return git(self._stranger, "log", "-1", "--format=%B", "parked")

    def holds(self, commit: str) -> bool:
        return commit in git(self._stranger, "rev-list", "parked").splitlines()

    def submodule(self, folder: Path) -> Path:
        """A submodule `lib` of a library that is made in `folder`, committed."""
        library = folder / "library"
        git(folder, "init", "--quiet", "-b", "main", str(library))
        (library / "lib.py").write_text("lib\n")
        git(library, "add", ".")
        git(library, "commit", "--quiet", "-m", "Library")
        self.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(library), "lib")
        self.git("commit", "--quiet", "-m", "A submodule")
        return self.path / "lib"
