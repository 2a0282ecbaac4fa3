"""An attempt whose unfinished work is saved, and what the remote holds of it."""

from __future__ import annotations

import json
from pathlib import Path

from activities.git.worktree.checkpoints import CheckpointSaver
from activities.git.worktree.worktrees import Worktrees
from agents import session_folder
from models.job.checkpoints import CheckpointOrder
from models.ledger.records import Rig
from models.town import TownPaths
from tests.activities.workshop import Workshop, git

WIP = "refs/gastown/wip/sh-1/1"


class Bench:
    """Attempt 1 of sh-1 in toast's worktree."""

    def __init__(self, paths: TownPaths, rig: Rig, workshop: Workshop) -> None:
        self.paths = paths
        self.rig = rig
        self.workshop = workshop
        self.worktrees = Worktrees(paths)
        self.saver = CheckpointSaver(paths, "h1")
        self.order = CheckpointOrder(rig=rig, interval_s=600, max_bytes=1_000_000, remote=True)
        self.path = self.begin(1)

    def begin(self, attempt: int, polecat: str = "toast", bead: str = "sh-1") -> Path:
        made = self.worktrees.prepare(self.rig, polecat, bead, "main", attempt, 1)
        session_folder.write_json(self.paths.session("shop", polecat, bead, attempt) / session_folder.SESSION, {})
        return made.path

    def write(self, name: str, content: str | bytes) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def git(self, *arguments: str) -> str:
        return git(self.path, *arguments)

    def commit(self, name: str, content: str | bytes = "x\n") -> str:
        self.write(name, content)
        self.git("add", "--", name)
        self.git("commit", "--quiet", "-m", f"Add {name}")
        return self.git("rev-parse", "HEAD")

    def save(self, **order: object) -> str | None:
        """The save on the remote after another look."""
        self.saver.save(self.order.model_copy(update=order), "toast")
        return self.workshop.at_remote(WIP)

    def files(self, ref: str = WIP) -> list[str]:
        return git(self.workshop.remote, "ls-tree", "-r", "-z", "--name-only", ref).strip("\0").split("\0")

    def show(self, name: str, ref: str = WIP) -> str:
        return git(self.workshop.remote, "show", f"{ref}:{name}")

    def message(self) -> str:
        return git(self.workshop.remote, "log", "-1", "--format=%B", WIP)

    @property
    def note(self) -> Path:
        return self.paths.session("shop", "toast", "sh-1", 1) / session_folder.CHECKPOINT

    def stayed(self) -> dict[str, str]:
        return {one["what"]: one["why"] for one in json.loads(self.note.read_text())["stayed_here"]}

    def whole_remote(self) -> str:
        return git(self.workshop.remote, "cat-file", "--batch-all-objects", "--batch")
