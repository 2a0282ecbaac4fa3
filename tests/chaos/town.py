"""The town of a chaos run: several rigs, beads slung all the time, and what can be done to it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from agents import session_folder
from ledger.store import Ledger
from services.supervisor import guard
from services.supervisor.programs import WORKER, lock_path, pid_path
from tests.chaos.judge import Attempt, BeadFacts, Life
from tests.e2e.agent_processes import agent_processes
from tests.e2e.living_town import GATE, LivingTown, git, landings

SETTINGS = {
    "health.check_interval": 2,
    "health.polecat_timeout": 15,
    "health.grace": 5,
    "recovery.max_retries": 50,
    "recovery.retry_delay": 1,
    "recovery.max_delay": 3,
    "session.done_grace": 1,
}
"""Soon after a fault, but long enough for agents on a loaded machine; nobody is given up."""


@dataclass(frozen=True)
class Pane:
    """A living session of the town and the process in it."""

    session: str
    pid: int
    attempt: Attempt


class ChaosTown(LivingTown):
    """Rigs `alpha`, `beta`, …, each with a remote of its own beside the town."""

    def __init__(self, folder: Path, *, store: str, rigs: tuple[str, ...]) -> None:
        super().__init__(folder, store=store)
        self.rigs = rigs
        self.remotes = {rig: self.make_remote(rig) for rig in rigs}

    def found(self) -> None:
        """Make the town and bring it up, with its rigs and short settings."""
        self.init()
        self.up()
        self.configure({**SETTINGS, "sandbox.write": shlex.quote(str(self.shared))})
        for rig in self.rigs:
            words = ("--prefix", rig[:2], "--gate", f"syntax={GATE}", "--max-polecats", "4")
            self.run("gt", "rig", "add", rig, str(self.remotes[rig]), *words)

    # --- processes ----------------------------------------------------------------------------

    def service_process(self, name: str) -> psutil.Process | None:
        """The living process of a service; None while it is being started again."""
        holder = guard.tenant(lock_path(self.town, name))
        if holder is None or not holder.lives():
            return None
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(holder.pid)
        return None

    def kill_supervisor(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid_path(self.town).read_text()), signal.SIGKILL)

    def panes(self) -> list[Pane]:
        """Living sessions of attempts, by name."""
        shape = "#{session_name} #{pane_pid} #{pane_dead} #{@gt_bead} #{@gt_attempt}"
        rows = [line.split() for line in self.tmux("list-panes", "-a", "-F", shape).splitlines()]
        return sorted(
            (Pane(row[0], int(row[1]), (row[3], int(row[4]))) for row in rows if len(row) == 5 and row[2] == "0"),
            key=lambda pane: pane.session,
        )

    def tmux_server(self) -> psutil.Process | None:
        with contextlib.suppress(ValueError, psutil.NoSuchProcess):
            return psutil.Process(int(self.tmux("display-message", "-p", "#{pid}")))
        return None

    def tmux(self, *argv: str) -> str:
        """Standard output of a tmux command; "" where no server runs."""
        command = ["tmux", "-L", self.tmux_socket(), *argv]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, check=False).stdout

    def processes(self) -> list[psutil.Process]:
        """Every process that belongs to the town, by its environment or the folder it works in."""
        found = []
        # The worker shows an ordinary user neither folder nor environment.
        worker = self.service_process(WORKER)
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                ours = process == worker or Path(process.cwd()).is_relative_to(self.folder)
                ours = ours or process.environ().get("GT_TOWN") == str(self.root)
                if ours and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    # --- what agents noted, what the record and the remotes hold --------------------------------

    def notes(self) -> Iterator[dict[str, Any]]:
        """Every line of every diary, in no order; the last of a killed agent may be cut short."""
        for diary in self.shared.glob("*.jsonl"):
            for line in diary.read_text().splitlines():
                with contextlib.suppress(json.JSONDecodeError):
                    yield json.loads(line)

    def working_agents(self, *, beating: bool = False) -> list[tuple[Attempt, psutil.Process]]:
        """Agents that have started, have not handed in yet, and live.

        Args:
            beating: only those that have beaten once.
        """
        pids: dict[Attempt, int] = {}
        noted: dict[str, set[Attempt]] = {"beat": set(), "handing_in": set()}
        for note in self.notes():
            attempt = note["bead"], note["attempt"]
            if note["what"] == "started":
                pids[attempt] = note["pid"]
            elif note["what"] in noted:
                noted[note["what"]].add(attempt)
        living = agent_processes()
        wanted = pids.keys() & noted["beat"] if beating else pids.keys()
        names = {attempt: (*attempt, pids[attempt]) for attempt in sorted(wanted - noted["handing_in"])}
        return [(attempt, living[name]) for attempt, name in names.items() if name in living]

    def landed_count(self) -> int:
        return sum(len(landings(remote)) for remote in self.remotes.values())

    def lives(self) -> dict[Attempt, Life]:
        """Every attempt that ever had a session folder."""
        found: dict[Attempt, list[str]] = {}
        left: dict[Attempt, list[str]] = {}
        started: dict[Attempt, float] = {}
        for note in self.notes():
            attempt = note["bead"], note["attempt"]
            if note["what"] == "started":
                started[attempt], found[attempt] = note["at"], note["found"]
            elif note["what"] == "left":
                left.setdefault(attempt, []).append(note["mark"])
        lives: dict[Attempt, Life] = {}
        for record in self.town.paths.sessions.glob(f"*/*/*/*/{session_folder.SESSION}"):
            folder = record.parent
            attempt = folder.parent.name, int(folder.name)
            ended = folder / session_folder.ENDED
            lives[attempt] = Life(
                since=record.stat().st_mtime,
                until=ended.stat().st_mtime if ended.exists() else time.time(),
                found=frozenset(found.get(attempt, ())),
                left=tuple(left.get(attempt, ())),
                started_at=started.get(attempt),
            )
        return lives

    def bead_facts(self, beads: list[str]) -> tuple[BeadFacts, ...]:
        """What the remotes and the record say of each bead."""
        landed = {bead: shas for remote in self.remotes.values() for bead, shas in landings(remote).items()}
        with contextlib.closing(Ledger.open(self.town.ledger_url(), create=False)) as ledger:
            facts = []
            for bead in beads:
                row = ledger.bead(bead)
                story = ledger.job_events(bead)
                events = tuple((event.attempt, event.event) for event in story)
                told = tuple(f"{one.at:%T} attempt {one.attempt}: {one.event} {one.detail}" for one in story)
                count = len(landed.get(bead, ()))
                facts.append(BeadFacts(bead, count, row.status.value, row.close_reason or "", events, told))
        return tuple(facts)

    def kept_marks(self) -> frozenset[str]:
        """Names of the marks that any ref of any remote holds."""
        kept: set[str] = set()
        for remote in self.remotes.values():
            for ref in git(remote, "for-each-ref", "--format=%(refname)").split():
                listed = git(remote, "ls-tree", "-r", "--name-only", ref, "--", "marks/")
                kept.update(Path(line).name for line in listed.splitlines())
        return frozenset(kept)

    def branches_left(self) -> list[str]:
        """Heads of the remotes beside `main`."""
        return [
            f"{rig}.git {ref}"
            for rig, remote in self.remotes.items()
            for ref in git(remote, "for-each-ref", "--format=%(refname)", "refs/heads").split()
            if ref != "refs/heads/main"
        ]
