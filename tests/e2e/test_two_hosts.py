"""Two hosts of one town: one is lost with a job on it, the other goes on from what was saved, the first comes back."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import tomlkit

from agents import session_folder
from models.names import job_branch
from services.town import find_town
from tests.e2e.held_agents import SETTINGS, supervised_town
from tests.e2e.living_town import git, wait_until
from tests.e2e.quick_town import QuickTown

FIRST, SECOND = "anvil", "bellows"
"""work goes to the first of two that are equally idle"""
AGENT = r"""
commit() { git add -A; git -c user.name=a -c user.email=a@example.com commit -qm "$1"; }
say() { mv "$1.tmp" "$1"; }
cd "$(git rev-parse --show-toplevel)"
if [ "$GT_ATTEMPT" = 1 ]; then
    echo 'x = 1' > part.py; commit part
    echo 'x = 2' > part.py; echo half > notes.txt
    git rev-parse HEAD > $OUT/first.tmp; say $OUT/first
    while [ ! -e $OUT/go ]; do sleep 0.1; done
    echo late > late.txt; commit late
    gt done; echo $? > $OUT/late.tmp; say $OUT/late
    exec sleep 600
fi
{ git rev-parse HEAD; git status --porcelain; } > $OUT/second.tmp; say $OUT/second
commit rest
gt done
"""


class SecondHost:
    """Another machine of the town, so far as one machine can play it: own folder, own tmux server, own worker."""

    def __init__(self, town: QuickTown, name: str) -> None:
        self.root = town.folder / name
        file = tomlkit.parse((town.root / "town.toml").read_text())
        own = {"id": f"{file['id']}-{name}", "host": name}
        ledger = {"engine": "external", "url": find_town(town.root).ledger_url()}
        self.root.mkdir()
        for folder in ("data", "logs", "run"):
            (self.root / folder).mkdir()
        (self.root / "town.toml").write_text(tomlkit.dumps(file | own | {"store": ledger}))
        self.env = town.env
        self.worker: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Its worker, as `gt worker --host-only` runs it."""
        argv = [sys.executable, "-P", "-m", "worker", "--town", str(self.root), "--host-only"]
        with (self.root / "logs" / "worker.log").open("ab") as log:
            self.worker = subprocess.Popen(argv, env=self.env, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def kill(self) -> None:
        if self.worker is not None:
            self.worker.kill()
            self.worker.wait()

    def tmux(self, *argv: str) -> str:
        argv = ("tmux", "-L", find_town(self.root).tmux_socket, *argv)
        return subprocess.run(argv, env=self.env, capture_output=True, text=True, check=False).stdout

    def sessions(self) -> list[str]:
        return self.tmux("list-sessions", "-F", "#{session_name}").split()

    def gt_done(self, bead: str, attempt: int) -> subprocess.CompletedProcess[str]:
        """As a process of that attempt that nobody ended would run it."""
        (folder,) = (self.root / "run" / "sessions").glob(f"*/*/{bead}/{attempt}")
        polecat = folder.parent.parent.name
        own = {
            "GT_TOWN": str(self.root), "GT_RIG": "shop", "GT_POLECAT": polecat, "GT_BEAD": bead,
            "GT_ATTEMPT": str(attempt), "GT_BRANCH": job_branch(bead), "GT_TARGET": "main",
            "GT_TASK_FILE": str(folder / session_folder.TASK),
        }  # fmt: skip
        argv = [str(self.root / "run" / "bin" / "gt"), "done"]
        return subprocess.run(argv, cwd=self.root, env={**self.env, **own}, capture_output=True, text=True, check=False)

    def close(self) -> None:
        self.kill()
        self.tmux("kill-server")


@pytest.fixture
def town() -> Iterator[QuickTown]:
    """A town that is up on the second host."""
    with supervised_town(SETTINGS | {"checkpoint.interval": 10}, host=SECOND, max_polecats=None) as living:
        yield living


@pytest.fixture
def first(town: QuickTown) -> Iterator[SecondHost]:
    with contextlib.closing(SecondHost(town, FIRST)) as host:
        host.start()
        wait_until("the town to know it", lambda: FIRST in hosts_of(town))
        yield host


def files_of(town: QuickTown, ref: str) -> list[str]:
    """Of a commit on the remote; none where there is no such ref."""
    known = ref in git(town.remote, "for-each-ref", "--format=%(refname)").split()
    return git(town.remote, "ls-tree", "--name-only", ref).split() if known else []


def hosts_of(town: QuickTown) -> list[str]:
    with town.record() as ledger:
        return [host.name for host in ledger.hosts()]


@pytest.mark.document("2: 网络分区")
def test_a_job_on_a_lost_host_goes_on_elsewhere_from_what_was_saved_and_lands_once(
    town: QuickTown, first: SecondHost
) -> None:
    bead = town.bead("survives its host")
    script = town.shared / "agent.sh"
    script.write_text(AGENT)
    town.sling(bead, f"env OUT={town.shared} sh {shlex.quote(str(script))}")
    wait_until("the agent to be half done", (town.shared / "first").exists)
    assert town.job(bead).host == FIRST
    wait_until("all of its work to be saved", lambda: "notes.txt" in files_of(town, f"refs/gastown/wip/{bead}/1"))
    first.kill()
    killed = time.monotonic()
    wait_until("the job to go on elsewhere", (town.shared / "second").exists)
    assert time.monotonic() - killed >= SETTINGS["hosts.timeout"], "not before its time"
    head, *rest = (town.shared / "second").read_text().splitlines()
    assert head == (town.shared / "first").read_text().strip(), "on top of what was committed"
    assert rest == [" M part.py", "?? notes.txt"], "and the rest is there, as uncommitted as it was"
    assert town.job(bead).host == SECOND

    # The agent of the lost host lives on: nobody could end it.
    (town.shared / "go").touch()
    wait_until("the first agent to say that it is done", (town.shared / "late").exists)
    first.start()
    town.wait_closed(bead)
    assert len(town.landed(bead)) == 1
    assert git(town.remote, "ls-tree", "--name-only", "main").split() == ["README.md", "notes.txt", "part.py"]
    wait_until("the session of the old attempt to be gone", lambda: not first.sessions())
    wait_until("its work to be parked", lambda: "late.txt" in files_of(town, f"refs/gastown/parked/{bead}/1"))
    assert len(town.landed(bead)) == 1
    assert town.events(bead).count("submitted") == 1, "what the old attempt handed in was heard of nobody"
    refused = first.gt_done(bead, 1)
    assert refused.returncode == 5
    assert f"attempt 1 of {bead} is over" in refused.stderr

    def alarms() -> list[bool]:
        told = [told for told in town.escalations() if told.kind == "host_lost" and FIRST in told.message]
        return [one.resolved for one in told]

    wait_until("the one alarm to be over, though Witness and Deacon both noticed", lambda: alarms() == [True])
