"""Faults of agents, sessions and workers in a real town: real tmux, real processes, short settings.

Each test has beads of its own and leaves no session behind.
"""

from __future__ import annotations

import contextlib
import operator
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from agents import session_folder
from models.settings import Settings
from tests.e2e.agent_processes import agent_processes
from tests.e2e.held_agents import CALM, TEN, held, landed_once, session_folder_of
from tests.e2e.living_town import git, shell_agent, wait_until
from tests.e2e.quick_town import QuickTown
from tests.pace import DEADLINE_S


@pytest.fixture
def town(shop: QuickTown) -> QuickTown:
    return shop


@pytest.fixture(autouse=True)
def nobody_is_called(town: QuickTown) -> Iterator[None]:
    """None of these faults is a person's: no job, no watcher and no brake has told the Mayor of anything."""
    before = {told.id for told in town.escalations()}
    yield
    assert [told.message for told in town.escalations() if told.id not in before] == []


# --- an agent dies --------------------------------------------------------------------------------


@pytest.mark.document("1: 智能体重启可从存储恢复", "2: 智能体崩溃")
def test_an_agent_killed_before_its_first_commit_finds_its_uncommitted_work_again(town: QuickTown) -> None:
    job = held(town, "killed before its first commit")
    seen = town.shared / "seen"
    job.sling(before=f"cat notes.txt > {seen}; echo half > notes.txt")
    os.kill(job.waits(), signal.SIGKILL)
    job.waits()
    assert seen.read_text() == "half\n"
    job.go()
    landed_once(town, job.bead)
    assert town.job(job.bead).restarts == 1
    assert git(town.remote, "show", "main:notes.txt") == "half\n"


def test_an_agent_killed_after_a_commit_goes_on_from_there(town: QuickTown) -> None:
    job = held(town, "killed after a commit")
    commit = "git -c user.name=a -c user.email=a@example.com commit"
    job.sling(before=f"[ -e first.txt ] || {{ echo 1 > first.txt; git add first.txt; {commit} -qm first; }}")
    os.kill(job.waits(), signal.SIGKILL)
    job.waits()
    job.go()
    landed_once(town, job.bead)
    shown = town.job(job.bead)
    assert (shown.attempt, shown.restarts) == (2, 1)
    assert git(town.remote, "show", "main:first.txt") == "1\n"


def test_an_agent_that_dies_between_gt_done_and_the_merge_is_not_started_again(town: QuickTown) -> None:
    bead = town.bead("dies after gt done")
    dying = town.shared / "dying"
    town.run("gt", "refinery", "pause", "--rig", "shop")
    # Nobody else ends its session meanwhile.
    with configured(town, {"session.done_grace": 120}):
        town.sling(bead, shell_agent(file=f"{bead}.py", after=f"gt done; touch {dying}; kill -9 $$; sleep 600"))
        wait_until("the work to be handed in", lambda: "submitted" in town.events(bead))
    wait_until("the agent to be dead", lambda: dying.exists() and not agent_processes(bead))
    assert town.landed(bead) == []
    town.run("gt", "refinery", "resume", "--rig", "shop")
    landed_once(town, bead)
    shown = town.job(bead)
    assert (shown.attempt, shown.restarts) == (1, 0)


@contextlib.contextmanager
def configured(town: QuickTown, settings: Mapping[str, int | str]) -> Iterator[None]:
    """These settings for the jobs that are slung meanwhile; those of the module again afterwards."""
    before = {key: CALM.get(key, operator.attrgetter(key)(Settings())) for key in settings}
    town.configure(settings)
    try:
        yield
    finally:
        town.configure(before)


def test_an_agent_that_ends_well_without_gt_done_is_taken_as_done(town: QuickTown) -> None:
    bead = town.bead("forgets gt done")
    town.sling(bead, shell_agent(file=f"{bead}.py", after="true"))
    landed_once(town, bead)
    assert "auto_done" in town.events(bead)
    assert town.job(bead).attempt == 1


@pytest.mark.document("3: 工作错误", "3: 工作错误 → 发送 MERGE_FAILED → 通知 Polecat → Polecat 重新工作")
def test_work_that_a_gate_refuses_comes_back_with_the_gate_s_words_and_lands_once_it_is_repaired(
    town: QuickTown,
) -> None:
    bead = town.bead("wrong at first")
    file, told = f"{bead}.py", town.shared / "told"
    repair = f"cat $GT_FAILURE_LOG > {told}; echo 'x = 2' > {file}"
    works = f"if [ $GT_ATTEMPT = 1 ]; then echo 'x = (' > {file}; else {repair}; fi"
    town.sling(bead, shell_agent(file=file, before=works))
    landed_once(town, bead)
    shown = town.job(bead)
    assert (shown.attempt, shown.reworks, shown.restarts) == (2, 1, 0)
    assert "merge_failed" in town.events(bead)
    assert "SyntaxError" in told.read_text()
    assert git(town.remote, "show", f"main:{file}") == "x = 2\n"


def test_ten_agents_come_back_after_the_tmux_server_is_killed(town: QuickTown) -> None:
    jobs = [held(town, f"one of ten: {number}") for number in range(TEN)]
    for job in jobs:
        job.sling()
    for job in jobs:
        job.waits()
    os.kill(town.tmux_pid(), signal.SIGKILL)
    for job in jobs:
        job.waits()
    for job in jobs:
        job.go()
    beads = [job.bead for job in jobs]
    landed_once(town, *beads)
    assert [town.job(bead).attempt for bead in beads] == [2] * TEN


def test_with_sandbox_mode_none_an_agent_sees_the_host_is_restarted_and_its_work_lands(town: QuickTown) -> None:
    """And with no mode set it does not, as every other agent and gate of these towns."""
    agents = {mode: held(town, f"sandbox {mode}") for mode in ("auto", "none")}
    seen = {}
    for mode, job in agents.items():
        with configured(town, {"sandbox.mode": mode} if mode == "none" else {}):
            job.sling()
            pid = job.waits()
        seen[mode] = os.readlink(f"/proc/{pid}/ns/pid")
        os.kill(pid, signal.SIGKILL)
    for job in agents.values():
        job.waits()
        job.go()
    assert seen["none"] == os.readlink("/proc/self/ns/pid") != seen["auto"]
    landed_once(town, *(job.bead for job in agents.values()))


# --- attempts and names ---------------------------------------------------------------------------


def test_a_late_gt_done_of_an_older_attempt_is_refused_and_changes_nothing(town: QuickTown) -> None:
    job = held(town, "told too late")
    job.sling()
    os.kill(job.waits(), signal.SIGKILL)
    job.waits()
    late = gt_done_of(town, job.bead, attempt=1)
    assert late.returncode == 5
    assert "attempt 1 of" in late.stderr
    assert "is over" in late.stderr
    assert not (session_folder_of(town, job.bead, 1) / session_folder.DONE).exists()
    job.go()
    landed_once(town, job.bead)
    assert town.job(job.bead).attempt == 2


def gt_done_of(town: QuickTown, bead: str, attempt: int) -> subprocess.CompletedProcess[str]:
    """`gt done` as a process of that attempt that nobody ended would run it."""
    folder = session_folder_of(town, bead, attempt)
    record = session_folder.read_json(folder / session_folder.SESSION) or {}
    own = {
        "GT_TOWN": str(town.root), "GT_RIG": "shop", "GT_POLECAT": record["polecat"], "GT_BEAD": bead,
        "GT_ATTEMPT": str(attempt), "GT_BRANCH": record["branch"], "GT_TARGET": "main",
        "GT_TASK_FILE": str(folder / session_folder.TASK), "GT_FAILURE_LOG": str(folder / session_folder.FAILURE_LOG),
    }  # fmt: skip
    return subprocess.run(
        [str(town.root / "run" / "bin" / "gt"), "done"],
        cwd=record["worktree"], env={**town.env, **own}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def with_a_job(town: QuickTown) -> set[str]:
    return {job["bead"] for job in town.json("gt", "status", expect=None)["jobs"]}


def test_a_polecat_s_name_serves_the_next_bead_and_nothing_of_the_last_one_reaches_it(town: QuickTown) -> None:
    # The lowest free name is given: one that an earlier job has not let go yet would be free for the second bead.
    wait_until("all names to be free", lambda: not with_a_job(town))
    first = town.bead("leaves a process and a file behind")
    daemon = town.shared / "daemon"
    stray = f"setsid sh -c 'touch {daemon}; exec sleep 600' </dev/null >/dev/null 2>&1 & "
    town.sling(first, shell_agent(file=f"{first}.py", before=f"({stray})", after="gt done; echo x > leftover.txt"))
    landed_once(town, first)
    name = town.job(first).polecat
    assert daemon.exists()
    wait_until("the daemon of the first bead to end", lambda: not agent_processes(first))
    # A bead is closed before its job's last word, which lets the name go.
    wait_until("the name to be free", lambda: first not in with_a_job(town))
    second = held(town, "takes the name over")
    seen = town.shared / "second-sees"
    second.sling(before=f"ls > {seen}")
    pid = second.waits()
    assert (town.root / "run" / "sessions" / "shop" / str(name) / second.bead).exists()
    assert "leftover.txt" not in seen.read_text().split()
    os.kill(pid, signal.SIGKILL)
    second.waits()
    second.go()
    landed_once(town, second.bead)
    assert town.job(second.bead).attempt == 2
    assert town.job(first).attempt == 1


# --- workers --------------------------------------------------------------------------------------


def test_an_agent_that_dies_while_no_worker_runs_is_restarted_by_the_next_one(town: QuickTown) -> None:
    job = held(town, "dies with the worker")
    job.sling()
    pid = job.waits()
    town.kill_service("worker")
    os.kill(pid, signal.SIGKILL)
    job.waits()
    job.go()
    landed_once(town, job.bead)
    assert town.job(job.bead).restarts == 1


def test_a_second_worker_of_the_same_town_is_refused_and_the_first_works_on(town: QuickTown) -> None:
    pid = town.service("worker").pid
    second = town.run("gt", "worker", expect=5)
    assert "another process" in second.stderr
    assert town.service("worker").pid == pid
    bead = town.bead("beside a second worker")
    town.sling(bead, shell_agent(file=f"{bead}.py"))
    landed_once(town, bead)


UNLOCKED_WORKER = """
import asyncio, sys
from pathlib import Path

import worker
from services.worker.polling import run_until_stopped
from services.temporal.client import connect
from services.town import find_town


async def serve() -> None:
    town = find_town(Path(sys.argv[1]))
    await run_until_stopped(worker.build_workers(await connect(town), town, host_only=False), [])


asyncio.run(serve())
"""


def test_two_workers_at_once_restart_a_dead_agent_once_and_land_its_work_once(town: QuickTown) -> None:
    """The lock is got round, as on a file system without locks."""
    with (town.folder / "second-worker.log").open("wb") as log:
        second = subprocess.Popen(
            [sys.executable, "-c", UNLOCKED_WORKER, str(town.root)],
            cwd=Path.cwd(),
            env=town.env,
            stdout=log,
            stderr=log,
        )
    try:
        jobs = [held(town, f"under two workers: {number}") for number in range(3)]
        for job in jobs:
            job.sling()
        for job in jobs:
            os.kill(job.waits(), signal.SIGKILL)
        for job in jobs:
            job.waits()
            job.go()
        landed_once(town, *(job.bead for job in jobs))
        assert [town.job(job.bead).attempt for job in jobs] == [2, 2, 2]
        assert second.poll() is None, (town.folder / "second-worker.log").read_text()[-2000:]
    finally:
        second.terminate()
        second.wait(DEADLINE_S)


def deacon_cycles(town: QuickTown) -> int:
    return int(town.json("gt", "deacon", "status", expect=None)["cycles"])


BEATS = 'touch "${GT_TASK_FILE%/*}/heartbeat"'
SHORTEST = {
    "health.polecat_timeout": 10,
    "health.stuck_timeout": 10,
    "health.witness_timeout": 10,
    "health.patrol_timeout": 10,
    "health.deacon_timeout": 10,
    "hosts.timeout": 10,
}
"""about the least that these settings allow"""


@pytest.fixture
def short_timeouts(town: QuickTown) -> Iterator[None]:
    with configured(town, SHORTEST):
        yield


@pytest.mark.usefixtures("short_timeouts")
def test_a_worker_frozen_for_longer_than_every_timeout_accuses_nobody_when_it_is_thawed(town: QuickTown) -> None:
    frozen = town.shared / "frozen"
    # It gets on with its work while it is watched: on a busy machine that takes longer than an agent may do nothing.
    job = held(town, "watched by a frozen worker", f"[ -e {frozen} ] || {{ touch step; rm step; }}")
    job.sling(before=f"gt heartbeat; (while sleep 0.1; do {BEATS}; done &)")
    job.waits()
    beaten = session_folder_of(town, job.bead, 1) / session_folder.HEARTBEAT
    wait_until("the first beat", beaten.exists)
    before = deacon_cycles(town)
    wait_until("the watchers to hold these limits", lambda: deacon_cycles(town) > before + 1)
    pid = town.service("worker").pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    frozen.touch()
    try:
        # Not synchronisation: the time itself is the fault. The longest limit is an activity's 5 s and hosts.timeout.
        time.sleep(5 + SHORTEST["hosts.timeout"] + 2)
    finally:
        os.kill(pid, signal.SIGCONT)
    job.go()
    landed_once(town, job.bead)
    shown = town.job(job.bead)
    assert (shown.attempt, shown.restarts) == (1, 0)
    accused = {"stale", "stuck", "agent_died", "agent_unresponsive", "host_lost"}
    assert not accused & set(town.events(job.bead))
    assert town.service("worker").pid == pid
