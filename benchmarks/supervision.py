"""From kill to noticed and to the new session running, through a whole town: agent, pane, session, tmux server, worker.

Noticed is when the job's workflow has the Witness's signal; running is the first thing that the new agent does.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from temporalio.api.enums.v1 import EventType

from benchmarks.machine import load_average
from benchmarks.sling import sling_all
from benchmarks.town import bench_town
from models import names
from models.job.messages import Observation, ObservationKind
from services.supervisor import guard
from services.supervisor.programs import WORKER, lock_path
from services.temporal.client import connect
from tests.e2e.living_town import wait_until
from tests.e2e.quick_town import QuickTown

AGENTS = 10
"""that live while one is killed; all of them die with the tmux server"""
SEED = 20
WAIT_S = 300.0
SETTINGS = {"recovery.max_retries": 100, "session.done_grace": 0}
KINDS = ("agent", "pane", "session", "worker", "tmux server")


def measure(times: int = 6) -> dict[str, Any]:
    """Seconds by what was killed, `times` kills of each; for the tmux server every one of its sessions counts."""
    with bench_town(max_polecats=2 * AGENTS, settings=SETTINGS) as town:
        rounds = Rounds(town)
        figures: dict[str, Any] = {"agents": AGENTS, "load_before": load_average()}
        for kind in KINDS:
            figures[kind] = rounds.of(kind, times)
            print(f"{kind}: {figures[kind]}", file=sys.stderr, flush=True)
        return figures


class Rounds:
    """Kills, one after the other; each agent that was killed alone is replaced by one that never was.

    Otherwise most polecats would soon have died twice within a minute, which rightly pulls the brake.
    """

    def __init__(self, town: QuickTown) -> None:
        self._town = town
        self._chance = random.Random(SEED)
        self._attempts: dict[str, int] = {}
        """the living attempt of each bead"""

    def of(self, kind: str, times: int) -> dict[str, Any]:
        """Kill `times` times; figures in seconds."""
        samples: dict[str, list[float]] = {}
        for _ in range(times):
            self._fill()
            for name, values in (self._worker() if kind == "worker" else self._killed(kind)).items():
                samples.setdefault(name, []).extend(values)
        return {"times": times, **{name: _spread(values) for name, values in samples.items()}}

    def _fill(self) -> None:
        """As many idle agents as there shall be, each of them told of its start."""
        fresh = [self._town.bead("idle") for _ in range(AGENTS - len(self._attempts))]
        sling_all(self._town.town, [(bead, self._agent(bead)) for bead in fresh])
        for bead in fresh:
            self._started(bead, 1)
            self._attempts[bead] = 1

    def _killed(self, kind: str) -> dict[str, list[float]]:
        beads = list(self._attempts) if kind == "tmux server" else [self._chance.choice(list(self._attempts))]
        # Any moment between two looks of the patrol.
        time.sleep(self._chance.random())
        killed = time.time()
        self._kill(kind, beads[0])
        return self._back(beads, killed, alone=kind != "tmux server")

    def _worker(self) -> dict[str, list[float]]:
        """With the worker an agent dies, and another one hands in: both are dealt with by the next worker."""
        holder = guard.tenant(lock_path(self._town.town, WORKER))
        assert holder is not None
        # One that dies sooner is taken for one that fails, and its restart is delayed.
        wait_until("a steady worker", lambda: time.time() - holder.started > guard.STEADY_S + 1, WAIT_S)
        dying, done = self._chance.sample(list(self._attempts), 2)
        killed = time.time()
        os.kill(holder.pid, signal.SIGKILL)
        self._kill("agent", dying)
        self._finish(done)
        figures = self._back([dying], killed, alone=True)
        wait_until(f"{done} to be submitted", lambda: "submitted" in self._town.events(done), WAIT_S)
        with self._town.record() as record:
            (at,) = (event.at.timestamp() for event in record.job_events(done) if event.event == "submitted")
        return {"patrol_noticed": figures["noticed"], "running": figures["running"], "job_went_on": [at - killed]}

    def _back(self, beads: list[str], killed: float, *, alone: bool) -> dict[str, list[float]]:
        """Wait until each has a new agent; what was killed alone is then finished."""
        running = [self._started(bead, self._attempts[bead] + 1) - killed for bead in beads]
        noticed = [asyncio.run(self._noticed(bead, self._attempts[bead])) - killed for bead in beads]
        for bead in beads:
            self._attempts[bead] += 1
            if alone:
                self._finish(bead)
        return {"noticed": noticed, "running": running}

    async def _noticed(self, bead: str, attempt: int) -> float:
        """When the job was first told of the death of this attempt."""
        client = await connect(self._town.town)
        handle = client.get_workflow_handle(names.polecat_id("shop", bead))
        async for event in handle.fetch_history_events():
            if event.event_type != EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
                continue
            signalled = event.workflow_execution_signaled_event_attributes
            if signalled.signal_name == "observed":
                (seen,) = await client.data_converter.decode(signalled.input.payloads, [Observation])
                if (seen.attempt, seen.kind) == (attempt, ObservationKind.DIED):
                    return event.event_time.ToNanoseconds() / 1e9
        raise RuntimeError(f"{bead} has a new agent and was never told that attempt {attempt} died")

    # --- agents ---------------------------------------------------------------------------------

    def _agent(self, bead: str) -> str:
        """Notes its start, idles, and hands in once it is told to."""
        note, go = self._note(bead, "$GT_ATTEMPT"), self._go(bead)
        commit = "git add -A && git -c user.name=b -c user.email=b@example.com commit -qm work"
        started = f"date +%s.%N > {note}.tmp; mv {note}.tmp {note}"
        return f"{started}; while [ ! -e {go} ]; do sleep 1; done; echo x > {bead}.txt; {commit}; gt done"

    def _started(self, bead: str, attempt: int) -> float:
        note = Path(self._note(bead, str(attempt)))
        wait_until(f"attempt {attempt} of {bead}", note.exists, WAIT_S)
        return float(note.read_text())

    def _finish(self, bead: str) -> None:
        self._attempts.pop(bead)
        self._go(bead).touch()

    def _note(self, bead: str, attempt: str) -> str:
        return f"{self._town.shared}/{bead}.{attempt}"

    def _go(self, bead: str) -> Path:
        return self._town.shared / f"{bead}.go"

    # --- kills ----------------------------------------------------------------------------------

    def _kill(self, kind: str, bead: str) -> None:
        ways: dict[str, Callable[[], object]] = {
            "agent": lambda: psutil.Process(int(self._pane(bead)[1])).kill(),
            "pane": lambda: self._tmux("kill-pane", "-t", f"={self._pane(bead)[0]}:"),
            "session": lambda: self._tmux("kill-session", "-t", f"={self._pane(bead)[0]}"),
            "tmux server": lambda: os.kill(self._town.tmux_pid(), signal.SIGKILL),
        }
        ways[kind]()

    def _pane(self, bead: str) -> tuple[str, str]:
        """Session and process of the bead's agent."""
        shown = self._tmux("list-panes", "-a", "-F", "#{@gt_bead} #{session_name} #{pane_pid}")
        ((_, session, pid),) = (line.split() for line in shown.splitlines() if line.split()[0] == bead)
        return session, pid

    def _tmux(self, *argv: str) -> str:
        command = ["tmux", "-L", self._town.tmux_socket(), *argv]
        return subprocess.run(command, env=self._town.env, capture_output=True, text=True, check=True).stdout


def _spread(samples: list[float]) -> dict[str, float]:
    ordered = sorted(samples)
    return {
        "p50_s": round(statistics.median(ordered), 2),
        "most_s": round(ordered[-1], 2),
    }
