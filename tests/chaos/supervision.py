"""Chaos: a town at work while its parts are killed at random, and what became of the work.

`make chaos-supervision ARGS="--seed 7 --minutes 15"`. Prints one JSON document and one line with the
figures; exit code 1 when a bead was not merged exactly once, an agent was restarted for no
reason, uncommitted work was lost, or something was left behind.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.faults import Injector
from tests.chaos.judge import Call, Facts, Injury, Verdict, judge
from tests.chaos.schedule import Kind, schedule
from tests.chaos.town import ChaosTown
from tests.e2e.living_town import wait_until
from tests.pace import DEADLINE_S

RIGS = ("alpha", "beta", "gamma")
AGENT = Path(__file__).with_name("agent.py")
SLUNG = (0, 5)
"""exit codes of a sling that leave the bead with a job: taken, or refused because it is merged already"""


@dataclass(frozen=True)
class Plan:
    """One run."""

    seed: int
    seconds: float
    in_flight: int
    """unfinished beads at any time"""
    store: str
    drain_s: float
    """for what is unfinished when the faults are over"""


def run(plan: Plan) -> Verdict:
    """Found a town, hurt it for `plan.seconds`, let it finish, and judge what is there."""
    without = frozenset[Kind]() if plan.store == "server" else frozenset({Kind.DOLT})
    faults = schedule(plan.seed, plan.seconds, without=without)
    with tempfile.TemporaryDirectory(prefix="gt-chaos-") as folder:
        town = ChaosTown(Path(folder), store=plan.store, rigs=RIGS)
        try:
            town.found()
            injector = Injector(town)
            with Slinger(town, plan) as slinger:
                # However slow the machine is, faults find agents at work.
                wait_until("the first beads to be slung", slinger.has_begun, DEADLINE_S)
                started = time.monotonic()
                injector.run(faults, started)
                time.sleep(max(0.0, started + plan.seconds - time.monotonic()))
            drained = _drain(town, slinger.beads, plan.drain_s)
            verdict = judge(_facts(town, slinger.beads, tuple(injector.injuries)))
        finally:
            town.close()
        own = {"seed": plan.seed, "minutes": round(plan.seconds / 60, 1), "store": plan.store}
        timing = {"drained_in_s": drained, "left_out": [kind.value for kind in injector.left_out]}
        return Verdict({**own, **verdict.figures, **timing}, verdict.violations)


class Slinger:
    """Creates and slings beads in a thread while it is entered, so that `in_flight` of them are always unfinished."""

    def __init__(self, town: ChaosTown, plan: Plan) -> None:
        self._town = town
        self._plan = plan
        self.beads: list[str] = []
        """slung, oldest first"""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sling_on, name="slinger")
        self._failure: Exception | None = None

    def __enter__(self) -> Slinger:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """The bead that is being slung is slung to the end."""
        self._over.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def has_begun(self) -> bool:
        """Whether as many have been slung as are to be in flight, or none will be any more."""
        return len(self.beads) >= self._plan.in_flight or not self._thread.is_alive()

    def _sling_on(self) -> None:
        words = [sys.executable, str(AGENT), str(self._town.shared), str(self._plan.seed)]
        # A shell that stays above the agent, as above most real ones: the pane is more than the agent.
        agent = f"{shlex.join(words)}; exit $?"
        try:
            while not self._over.wait(0.2):
                if len(self.beads) - self._town.landed_count() < self._plan.in_flight:
                    self._sling_one(RIGS[len(self.beads) % len(RIGS)], agent)
        except Exception as error:  # handed to the thread that waits for this one
            self._failure = error

    def _sling_one(self, rig: str, agent: str) -> None:
        """Create a bead and sling it, however often a server is away meanwhile."""
        title = f"work {len(self.beads)}"
        # A bead whose creation was never confirmed stays unslung, and counts for nothing.
        made = self._persist("bd", "create", title, "--rig", rig, "-o", "json", enough=(0,))
        bead = str(json.loads(made)["id"])
        self._persist("gt", "sling", bead, rig, "--agent", agent, enough=SLUNG)
        self.beads.append(bead)

    def _persist(self, *argv: str, enough: tuple[int, ...]) -> str:
        """Run a command until its exit code is one of `enough`; its standard output."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            done = self._town.run(*argv, expect=None)
            if done.returncode in enough:
                return done.stdout
            if time.monotonic() > deadline:
                raise AssertionError(f"{argv[:3]} ended {done.returncode} for {DEADLINE_S:.0f} s: {done.stderr}")
            time.sleep(0.5)


def _drain(town: ChaosTown, beads: list[str], timeout_s: float) -> float:
    """Wait until every bead is closed and every session gone; what is not is the judge's."""
    started = time.monotonic()

    def finished() -> bool:
        return town.landed_count() >= len(beads) and all(one.status == "closed" for one in town.bead_facts(beads))

    def quiet() -> bool:
        return not town.panes() and not town.branches_left()

    def nobody_called() -> bool:
        return all(row["resolved"] for row in town.json("gt", "escalate", "list", "--all"))

    waits = {
        "every bead to be closed": finished,
        "sessions and branches to go": quiet,
        "every call to be over": nobody_called,
    }
    for what, holds in waits.items():
        try:
            wait_until(what, holds, max(1.0, timeout_s - (time.monotonic() - started)))
        except AssertionError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
    return round(time.monotonic() - started, 1)


def _facts(town: ChaosTown, beads: list[str], injuries: tuple[Injury, ...]) -> Facts:
    """Read the world, and at the very end whether anything outlives `gt down --sessions`."""
    told = town.json("gt", "escalate", "list", "--all")
    calls = tuple(Call(row["kind"], not row["resolved"], row["message"]) for row in told)
    lives, facts, kept = town.lives(), town.bead_facts(beads), town.kept_marks()
    left = [f"session {pane.session}" for pane in town.panes()] + town.branches_left()
    town.run("gt", "down", "--sessions")
    left += _processes_left(town)
    return Facts(facts, lives, injuries, kept, tuple(left), calls)


def _processes_left(town: ChaosTown) -> list[str]:
    """What still runs although it had time to end."""
    with contextlib.suppress(AssertionError):
        wait_until("every process to end", lambda: not town.processes())
    return [f"process {process.pid} {process.name()}" for process in town.processes()]


def summary(verdict: Verdict) -> str:
    """The one line."""
    keys = (
        "seed",
        "minutes",
        "beads",
        "merged_once",
        "restarts",
        "false_restarts",
        "marks",
        "marks_lost",
        "left_behind",
    )
    return "chaos-supervision: " + ", ".join(f"{key} {verdict.figures[key]}" for key in keys)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.supervision")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--in-flight", type=int, default=9, help="unfinished beads at any time")
    parser.add_argument("--store", choices=("server", "embedded"), default="server")
    options = parser.parse_args()
    plan = Plan(options.seed, options.minutes * 60, options.in_flight, options.store, drain_s=300)
    verdict = run(plan)
    print(json.dumps(verdict.figures, indent=2))
    print(summary(verdict))
    return 0 if verdict.ok else 1


if __name__ == "__main__":
    sys.exit(main())
