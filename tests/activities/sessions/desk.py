"""Asks for attempts the way a job does, and looks at what became of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from activities.git.worktree.worktrees import Worktrees
from activities.sessions.attempts import AttemptActivities
from activities.sessions.cleanup import CleanupActivities
from activities.sessions.tmux import PaneFacts, Tmux
from agents import session_folder
from models.job.attempts import AttemptStarted, EndSession, SettleIntent, StartAttempt, TakeWork, WorkTaken
from models.ledger.records import Rig
from models.town import TownPaths
from models.upkeep.cleanup import CleanedUp, CleanUp
from tests.activities.workshop import git
from tests.pace import DEADLINE_S, pause_s
from tests.sandboxes import BARE

IDLE = "echo ready; exec sleep 600"
"""An agent that lives and does nothing."""

WORKS = "echo work > work.txt && git add -A && git commit -qm Work && gt done; exec sleep 600"


def eventually(condition: Callable[[], Any], within_s: float = DEADLINE_S) -> Any:
    """The first true answer of `condition`; AssertionError after `within_s`."""
    begun = time.monotonic()
    while True:
        answer = condition()
        if answer:
            return answer
        waited = time.monotonic() - begun
        assert waited < within_s, "it did not happen in time"
        time.sleep(pause_s(waited, 0.02))


class Desk:
    def __init__(self, paths: TownPaths, tmux: Tmux, rig: Rig, environment: dict[str, str]) -> None:
        self.paths = paths
        self.tmux = tmux
        self.rig = rig
        self.environment = environment
        self.worktrees = Worktrees(paths)
        self.attempts = AttemptActivities(paths, tmux, self.worktrees, environment, tell_over=lambda _: True)
        self.cleanup = CleanupActivities(paths, tmux, self.worktrees, environment)
        self.sandbox = BARE
        self._used: set[tuple[str, str, int]] = set()

    def request(self, agent: str = IDLE, bead: str = "sh-1", attempt: int = 1, **more: Any) -> StartAttempt:
        fields: dict[str, Any] = {"title": "Fix the till", "description": "It is broken.", "polecat": "toast"}
        fields["sandbox"] = self.sandbox
        return StartAttempt(rig=self.rig, bead=bead, attempt=attempt, agent=agent, **(fields | more))

    def start(self, agent: str = IDLE, bead: str = "sh-1", attempt: int = 1, **more: Any) -> AttemptStarted:
        request = self.request(agent, bead, attempt, **more)
        self._used.add((request.polecat, bead, attempt))
        return self.attempts.start_attempt(request)

    def take(self, bead: str = "sh-1", attempt: int = 1, polecat: str = "toast", intent: str = "") -> WorkTaken:
        request = TakeWork(rig=self.rig, bead=bead, polecat=polecat, attempt=attempt, intent=intent)
        return self.attempts.take_work(request)

    def settle(self, intent: str, refused: str = "", attempt: int = 1, bead: str = "sh-1") -> None:
        self.attempts.settle_intent(
            SettleIntent(rig="shop", bead=bead, polecat="toast", attempt=attempt, intent=intent, refused=refused)
        )

    def end(self, attempt: int = 1, bead: str = "sh-1", polecat: str = "toast", grace_s: float = 0.0) -> None:
        request = EndSession(rig="shop", bead=bead, polecat=polecat, attempt=attempt, grace_s=grace_s, cause="a test")
        self.attempts.end_session(request)

    def clean_up(self, attempt: int = 1, bead: str = "sh-1", polecat: str = "toast", force: bool = False) -> CleanedUp:
        return self.cleanup.clean_up(self.cleanup_request(attempt, bead, polecat, force))

    def cleanup_request(
        self, attempt: int = 1, bead: str = "sh-1", polecat: str = "toast", force: bool = False
    ) -> CleanUp:
        return CleanUp(rig=self.rig, polecat=polecat, bead=bead, attempt=attempt, cause="a test", force=force)

    def end_all(self) -> None:
        for polecat, bead, attempt in self._used:
            self.end(attempt, bead, polecat)

    def folder(self, attempt: int = 1, bead: str = "sh-1", polecat: str = "toast") -> Path:
        return self.paths.session("shop", polecat, bead, attempt)

    def pane(self, polecat: str = "toast") -> PaneFacts | None:
        return self.tmux.panes().get(f"shop--{polecat}")

    def shown(self, text: str) -> str:
        """The agent's pane, once it shows `text`."""

        def capture() -> str:
            shown = self.tmux.capture("shop--toast", 200)
            return shown if text in shown else ""

        answer: str = eventually(capture)
        return answer

    def gt(self, *argv: str, attempt: int = 1, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """`gt` as the agent of that attempt would run it."""
        folder = self.folder(attempt)
        return subprocess.run(
            [str(self.paths.bin / "gt"), *argv],
            cwd=cwd or self.paths.worktree("shop", "toast"),
            env={**self.environment, "GT_TASK_FILE": str(folder / session_folder.TASK)},
            capture_output=True,
            text=True,
            check=False,
        )

    def worktree_git(self, *arguments: str) -> str:
        """git in the worktree, as the agent would run it."""
        return git(self.paths.worktree("shop", "toast"), *arguments)

    def evidence(self, attempt: int = 1, bead: str = "sh-1") -> dict[str, str]:
        folder = self.paths.evidence / bead / str(attempt)
        return {path.name: path.read_text() for path in folder.iterdir()} if folder.is_dir() else {}

    def killed_at(self, point: str, activity: str, request: StartAttempt | TakeWork | EndSession | Any) -> None:
        """Run one activity in a process of its own that dies by SIGKILL at the crash point."""
        script = (
            "import sys; from pathlib import Path\n"
            "from activities.sessions.attempts import AttemptActivities; from activities.sessions.tmux import Tmux\n"
            "from activities.sessions.cleanup import CleanupActivities\n"
            "from activities.git.worktree.worktrees import Worktrees\n"
            "from activities.sessions.nudging import NudgeActivities\n"
            "from models.job import attempts; from models.upkeep import cleanup; from models.town import TownPaths\n"
            "from models.supervision import host_requests as errands\n"
            "root, socket, activity, model, document = sys.argv[1:]; paths = TownPaths(Path(root))\n"
            "owner = AttemptActivities if hasattr(AttemptActivities, activity) else CleanupActivities\n"
            "tmux = Tmux(socket)\n"
            "desk = NudgeActivities(tmux) if activity == 'nudge' else owner(paths, tmux, Worktrees(paths))\n"
            "models = {**vars(attempts), **vars(cleanup), **vars(errands)}\n"
            "getattr(desk, activity)(models[model].model_validate_json(document))\n"
        )
        mark = self.paths.root / f"killed-{point}"
        arguments = [
            str(self.paths.root),
            self.tmux.socket,
            activity,
            type(request).__name__,
            request.model_dump_json(),
        ]
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            cwd=Path(__file__).parents[3],
            env={**os.environ, "GT_CRASH_POINT": point, "GT_CRASH_MARK": str(mark)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == -9, f"{point} was not reached: {done.stderr}"
        if isinstance(request, StartAttempt):
            self._used.add((request.polecat, request.bead, request.attempt))
