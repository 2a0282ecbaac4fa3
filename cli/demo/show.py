"""Drive the demonstration through the commands that a person types, and check it against the remote."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from cli.demo import project, table
from models.errors import ErrorCode, GtError

DEADLINE_S = 360.0
"""generous: a machine with other work is no reason to fail"""
POLL_S = 0.5
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


SETTINGS = {"health.check_interval": "2", "health.polecat_timeout": "5", "health.grace": "2"}
"""so that the one that hangs is found out within seconds; agents that never beat are not judged by their silence"""


@dataclass(frozen=True)
class Plan:
    """One bead of the demonstration and the role of its agent."""

    role: str
    title: str
    after: str | None = None


PLANS = (
    Plan("greet", "Greet a customer"),
    Plan("part", "Say goodbye"),
    Plan("shout", "Shout a name"),
    Plan("total", "Sum prices (breaks the tests first)"),
    Plan("euro", "Price in euro (same lines)"),
    Plan("yen", "Price in yen (same lines: must rebase)"),
    Plan("receipt", "Print a receipt (killed in mid-work)"),
    Plan("stock", "Count the stock (hangs in mid-work)"),
    Plan("welcome", "Welcome a customer (depends on greet)", after="greet"),
)


@dataclass
class Demo:
    """A scratch folder with a town, a remote and a stage where the agents wait for one another."""

    folder: Path
    beads: dict[str, str] = field(default_factory=dict)
    """role → bead id"""

    @property
    def town(self) -> Path:
        return self.folder / "town"

    @property
    def stage(self) -> Path:
        return self.folder / "stage"

    def command(self, *argv: str) -> str:
        """Run `gt …` or `bd …` in the town, as a person would; its standard output."""
        program = Path(sys.executable).parent / argv[0]
        cwd = self.town if self.town.exists() else self.folder
        done = subprocess.run(
            [str(program), *argv[1:]], cwd=cwd, env=_environment(), capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            said = done.stderr.strip()
            raise GtError(ErrorCode.SERVICE_FAILED, f"{' '.join(argv)} ended {done.returncode}: {said}")
        if argv[:3] == ("gt", "rig", "add"):
            # What it found out about the remote.
            _say(done.stderr.strip())
        return done.stdout

    def json(self, *argv: str) -> Any:
        return json.loads(self.command(*argv, "-o", "json"))

    def jobs(self) -> list[dict[str, Any]]:
        """`gt job show` of every bead, read in this process: eight commands a tick would cost more."""
        from ledger.store import Ledger
        from services.town import find_town

        with contextlib.closing(Ledger.open(find_town(self.town).ledger_url(), create=False)) as ledger:
            return [table.job_facts(ledger, plan.role, self.beads[plan.role], plan.title) for plan in PLANS]


def run(keep: bool, output: str) -> int:
    """Run the demonstration; 0 only if every bead is on the remote's target exactly once.

    Args:
        keep: leave the town up and say where it is.
        output: `text` or `json`.
    """
    started = time.monotonic()
    for number in _ENDING:
        signal.signal(number, _interrupt)
    demo = Demo(Path(tempfile.mkdtemp(prefix="gt-demo-")))
    try:
        _prepare(demo)
        web_url = demo.json("gt", "status").get("web_url") or "gt ui"
        _say(f"Web UI: {web_url}")
        jobs = _watch(demo)
        ok = _check(demo, jobs, web_url, time.monotonic() - started, output)
    finally:
        if keep:
            _say(f"the town is still up: cd {demo.town} && gt status; end it with: gt down --sessions")
        else:
            _tear_down(demo)
    return 0 if ok else 1


def _prepare(demo: Demo) -> None:
    demo.stage.mkdir()
    _say("a sample project with real tests, in a bare git remote")
    remote = project.make_remote(demo.folder)
    _say("gt init, gt up: Temporal, the ledger and a worker, supervised")
    demo.command("gt", "init", str(demo.town), "--name", "demo", "--store", "embedded")
    demo.command("gt", "up")
    _say("gt config: an agent that has beaten and falls silent is restarted after 7 s")
    for key, value in {**SETTINGS, "sandbox.write": shlex.quote(str(demo.stage))}.items():
        demo.command("gt", "config", key, value)
    demo.command("gt", "rig", "add", "shop", str(remote), "--prefix", "sh", "--gate", f"test={project.GATE}")
    _say(f"bd create, gt sling: {len(PLANS)} beads, each with an agent of its own")
    for plan in PLANS:
        needs = ["--dep", demo.beads[plan.after]] if plan.after else []
        demo.beads[plan.role] = demo.json("bd", "create", plan.title, "--rig", "shop", *needs)["id"]
    agent = Path(__file__).with_name("agent.py")
    for plan in PLANS:
        words = [sys.executable, str(agent), plan.role, str(demo.stage)]
        demo.command("gt", "sling", demo.beads[plan.role], "shop", "--agent", shlex.join(words))


def _watch(demo: Demo) -> list[dict[str, Any]]:
    """Show the jobs until all are closed or the deadline is over; kill the victim once."""
    deadline = time.monotonic() + DEADLINE_S
    killed = False
    with table.live() as shown:
        while True:
            killed = killed or _kill_the_victim(demo)
            jobs = demo.jobs()
            shown.update(jobs)
            if all(job["state"] in {"merged", "closed", "abandoned"} for job in jobs) or time.monotonic() > deadline:
                return jobs
            time.sleep(POLL_S)


def _kill_the_victim(demo: Demo) -> bool:
    """kill -9 of the agent that announced itself as half done; True once it was done."""
    if not (demo.stage / "victim").exists():
        return False
    for process in psutil.process_iter():
        # Not by an id that it tells: in its sandbox it has another one.
        with contextlib.suppress(psutil.Error):
            if process.cmdline()[2:4] == ["receipt", str(demo.stage)]:
                process.kill()
    _say(f"kill -9 of the agent of {demo.beads['receipt']} in mid-work")
    return True


def _check(demo: Demo, jobs: list[dict[str, Any]], web_url: str, took_s: float, output: str) -> bool:
    """Read the remote: every bead exactly once, and the project's tests pass at its head."""
    remote = demo.folder / "shop.git"
    landed = project.trailers(remote)
    for job in jobs:
        job["landed"] = landed.get(job["bead"], [])
    green = project.tests_pass(remote, demo.folder)
    ok = green and all(job["landed"] == [job["merged_sha"]] for job in jobs)
    report = {"ok": ok, "tests_pass": green, "seconds": round(took_s, 1), "web_url": web_url, "jobs": jobs}
    if not ok:
        report["queue"] = demo.json("gt", "refinery", "queue", "--rig", "shop")["items"]
    if output == "json":
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    else:
        table.final(report)
    return ok


def _tear_down(demo: Demo) -> None:
    try:
        if demo.town.exists():
            demo.command("gt", "down", "--sessions")
    except GtError as error:
        # Said, not raised: why the demonstration failed counts for more.
        _say(f"the town did not end: {error.message}")
    shutil.rmtree(demo.folder, ignore_errors=True)


def _interrupt(number: int, _: FrameType | None) -> None:
    """End with the town taken down; a second signal does not interrupt that."""
    for one in _ENDING:
        signal.signal(one, signal.SIG_IGN)
    raise KeyboardInterrupt(signal.Signals(number).name)


def _environment() -> dict[str, str]:
    """The caller's, without what would point the commands at another town."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("GT_", "TEMPORAL_"))}


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
