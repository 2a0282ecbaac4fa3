"""The main job, run by hand as a person would, with everything killed that can be.

One town on each ledger engine serves the whole module; each test has beads and files of its own, and leaves no session.
The last one leaves the town down.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.agent_processes import agent_process
from tests.e2e.held_agents import session_folder_of
from tests.e2e.living_town import LivingTown, git, running_town, shell_agent, wait_until


@pytest.fixture(scope="module", params=["embedded", "server"])
def town(request: pytest.FixtureRequest) -> Iterator[LivingTown]:
    with running_town(LivingTown, request.param) as living:
        yield living


def wait_for_file(path: Path) -> None:
    wait_until(f"{path.name} to be there", path.exists)


def held_agent(town: LivingTown, file: str) -> tuple[str, Path, Path]:
    """An agent that says that it works, and goes on when it is told to."""
    working, go = town.shared / f"{file}.working", town.shared / f"{file}.go"
    before = f"echo $$ > {working}; while [ ! -e {go} ]; do sleep 0.1; done"
    return shell_agent(file=file, before=before), working, go


def assert_landed_once(town: LivingTown, *beads: str) -> None:
    for bead in beads:
        town.wait_closed(bead)
        assert len(town.landed(bead)) == 1, f"{bead} landed {town.landed(bead)}"
        shown = town.json("bd", "show", bead)
        assert shown["close_reason"] == "merged"
        assert shown["merged_sha"] == town.landed(bead)[0]


def assert_nothing_half_done_is_left(town: LivingTown) -> None:
    wait_until("all sessions to end", lambda: town.sessions() == [])
    heads = ("for-each-ref", "--format=%(refname)", "refs/heads")
    wait_until("main alone to be left", lambda: git(town.remote, *heads).split() == ["refs/heads/main"])
    ours = ("for-each-ref", "refs/gastown/published", "refs/gastown/work")
    wait_until("no ref of a job to be left here", lambda: git(town.town.paths.clone("shop"), *ours) == "")
    wait_until("an empty queue", lambda: town.json("gt", "refinery", "queue", "--rig", "shop")["items"] == [])


def history_of_main(town: LivingTown) -> list[str]:
    return git(town.remote, "log", "--first-parent", "--format=%H", "main").split()


def kill_and_see_it_back(town: LivingTown, service: str) -> None:
    died = town.kill_service(service)
    wait_until(f"{service} to be back", lambda: town.service(service).pid not in (None, died))


def test_every_service_and_the_agent_killed_in_mid_job_still_merges_exactly_once(town: LivingTown) -> None:
    bead = town.bead("survive")
    agent, working, go = held_agent(town, "killed.py")
    town.sling(bead, agent)
    wait_for_file(working)
    services = ["worker", "temporal"] + (["dolt"] if town.store == "server" else [])
    for name in services:
        kill_and_see_it_back(town, name)
    agent_process((bead, 1, int(working.read_text()))).kill()
    working.unlink()
    wait_for_file(working)
    go.touch()
    assert_landed_once(town, bead)
    story = town.json("gt", "job", "show", bead)
    assert story["attempt"] == 2
    assert story["restarts"] == 1
    assert_nothing_half_done_is_left(town)


def test_gt_done_while_no_worker_runs_is_heard_later_and_a_bead_told_of_twice_is_one_job(town: LivingTown) -> None:
    bead = town.bead("patience")
    agent, working, go = held_agent(town, "down.py")
    town.sling(bead, agent)
    town.sling(bead, agent)
    wait_for_file(working)
    town.run("gt", "down")
    go.touch()
    intent = session_folder_of(town, bead, attempt=1) / "done.json"
    wait_until("the done intent on disk", intent.exists)
    assert town.landed(bead) == []
    town.up()
    assert_landed_once(town, bead)
    assert town.run("gt", "sling", bead, "shop", "--agent", "true", expect=5).stderr.startswith("error: ")


@pytest.mark.parametrize("town", ["server"], indirect=True)
def test_two_beads_are_merged_one_by_way_of_an_integration_branch_and_the_job_tells_its_story(
    town: LivingTown,
) -> None:
    before = len(history_of_main(town))
    land = ("gt", "refinery", "integration", "land", "next", "--rig", "shop")
    assert town.json("gt", "refinery", "integration", "create", "next", "--rig", "shop")["created"]
    first, second = town.bead("add a"), town.bead("add b", "--target", "next")
    town.sling(first, shell_agent(file="a.py"))
    town.sling(second, shell_agent(file="b.py", before="test $GT_TARGET = next || exit 9"))
    assert_landed_once(town, first)
    town.wait_closed(second)
    assert town.landed(second) == []
    assert "nobody could repair next" in town.run(*land, expect=2).stderr
    landing, again = (town.json(*land, "--agent", "true") for _ in range(2))
    assert (landing["ahead"], again["bead"]) == (1, landing["bead"])
    assert_landed_once(town, landing["bead"], second)
    assert town.json("gt", "job", "show", landing["bead"])["attempt"] == 0, "nobody had to work for it"
    assert len(history_of_main(town)) == before + 2
    over = town.json(*land)
    assert (over["state"], over["ahead"], over["bead"]) == ("landed", 0, landing["bead"])
    git(town.remote, "branch", "-D", "next")
    wait_until("record and remote to agree", lambda: town.json("bd", "verify", expect=None)["ok"])
    story = town.json("gt", "job", "show", first)
    assert story["state"] == "merged"
    assert story["merged_sha"] == town.landed(first)[0]
    assert [e["event"] for e in story["history"]][-1] == "merged"
    message = git(town.remote, "log", "-1", "--format=%B", story["merged_sha"])
    assert f"Bead: {first}" in message
    assert f"Change: {story['head_sha']}" in message
    assert_nothing_half_done_is_left(town)


def test_the_supervisor_killed_leaves_one_of_each_after_the_next_up_and_dolt_itself_tells_the_story(
    town: LivingTown,
) -> None:
    before = {s["name"]: s["pid"] for s in town.json("gt", "status")["services"]}
    processes = [psutil.Process(pid) for pid in before.values()]
    supervisor = int((town.root / "run" / "supervisord.pid").read_text())
    os.kill(supervisor, signal.SIGKILL)
    town.up()
    after = {s["name"]: s["pid"] for s in town.json("gt", "status")["services"]}
    assert after.keys() == before.keys()
    for name, pid in before.items():
        assert after[name] != pid
    # Whoever adopted them may have to collect them yet; their numbers may be other processes' by then.
    wait_until("the old ones to be gone", lambda: not [old for old in processes if old.is_running()])
    bead = town.bead("after all that")
    town.sling(bead, shell_agent(file="supervisor.py"))
    assert_landed_once(town, bead)
    told = [entry["message"] for entry in town.json("bd", "log", bead)]
    town.run("gt", "down")
    if town.store == "server":
        data = town.root / "data" / "dolt" / "databases" / "gastown"
        argv = [os.environ["GT_DOLT"], "log"]
        log = subprocess.run(argv, cwd=data, env=town.env, capture_output=True, text=True, check=True).stdout
        told = [line.strip() for line in log.splitlines()]
    assert [line for line in told if f"{bead}: merged" in line], told
