"""Commands that talk to workflows: a real Temporal server, the real Mayor, Refinery and Witness."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Worker

from ledger.store import Ledger
from models import names
from models.merging import QueueItemState
from models.records import Bead, JobState, MergeRequest, NewBead, Rig
from services.programs import SEARCH_ATTRIBUTES
from services.town import Town, create_town, load_town
from tests.cli import standins
from tests.cli.conftest import BIN, Commands
from tests.cli.test_beads import start_job
from workflows.mayor import MayorWorkflow
from workflows.refinery import RefineryWorkflow
from workflows.registry import workflow_runner
from workflows.witness import WitnessWorkflow

START_S = 30.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a Temporal server of this module's own."""
    port = _free_port()
    argv = [str(BIN / "temporal"), "server", "start-dev", "--headless", "--port", str(port), "--log-level", "error"]
    for attribute in SEARCH_ATTRIBUTES:
        argv += ["--search-attribute", f"{attribute}=Keyword"]
    log = tmp_path_factory.mktemp("temporal") / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(argv, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL)
    try:
        asyncio.run(_wait_for_server(port))
        yield port
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def town(tmp_path: Path, server: int) -> Town:
    """A town whose Temporal is the module's server."""
    made = create_town(tmp_path / "town", "test", "embedded").town
    text = tomlkit.parse(made.paths.config.read_text())
    text["temporal"]["port"] = server
    text["temporal"]["namespace"] = "default"
    made.paths.config.write_text(tomlkit.dumps(text))
    return load_town(made.root)


@pytest.fixture
def rig(ledger: Ledger, tmp_path: Path) -> Rig:
    """A rig that no other test of this server has."""
    name = f"shop-{os.urandom(4).hex()}"
    return ledger.add_rig(Rig(name=name, url="/nowhere", prefix="sh", branch="main", created_at=datetime.now(UTC)))


@pytest.fixture
def bead(ledger: Ledger, rig: Rig) -> Bead:
    return ledger.create_bead(NewBead(rig=rig.name, title="Fix the login"))


@pytest.fixture
def worker(server: int) -> Iterator[None]:
    """A worker in a thread: the commands are processes of their own and the tests wait for them."""
    started, stop = threading.Event(), threading.Event()

    async def work() -> None:
        client = await _client(server)
        workflows = [standins.Dispatcher, standins.Job, MayorWorkflow, RefineryWorkflow, WitnessWorkflow]
        activities: list[Any] = [standins.load_rig, standins.record_escalation]
        async with contextlib.AsyncExitStack() as stack:
            for queue in (names.TOWN_QUEUE, names.CONTROL_QUEUE):
                hosted: list[Any] = workflows if queue == names.TOWN_QUEUE else []
                await stack.enter_async_context(
                    Worker(
                        client,
                        task_queue=queue,
                        workflows=hosted,
                        activities=activities,
                        workflow_runner=workflow_runner(),
                        max_cached_workflows=0,
                    )
                )
            started.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(work()))
    thread.start()
    assert started.wait(START_S)
    yield
    stop.set()
    thread.join(START_S)
    assert not thread.is_alive()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _client(port: int) -> Client:
    return await Client.connect(f"127.0.0.1:{port}", data_converter=pydantic_data_converter)


async def _wait_for_server(port: int) -> None:
    deadline = time.monotonic() + START_S
    while True:
        with contextlib.suppress(Exception):
            client = await _client(port)
            async for _ in client.list_workflows("GtBead = 'sh-1'", limit=1):
                pass
            return
        assert time.monotonic() < deadline, "the Temporal server does not start"
        await asyncio.sleep(0.1)


def on_server(port: int, conversation: Any) -> Any:
    async def talk() -> Any:
        return await conversation(await _client(port))

    return asyncio.run(talk())


@pytest.mark.usefixtures("worker")
class TestSling:
    def test_it_starts_one_job_and_says_where_to_see_it(self, commands: Commands, rig: Rig, bead: Bead) -> None:
        first = commands.json("gt", "sling", bead.id, rig.name, "--agent", "true hang")
        workflow_id = f"polecat/{rig.name}/{bead.id}"
        assert {key: first[key] for key in ("bead", "workflow_id", "state")} == {
            "bead": bead.id,
            "workflow_id": workflow_id,
            "state": "waiting",
        }
        assert first["web_url"].endswith(f"/workflows/polecat%2F{rig.name}%2F{bead.id}")
        assert commands.json("gt", "sling", bead.id, rig.name) == first

    @pytest.mark.parametrize(("course", "code"), [("merged", 0), ("abandoned", 1), ("blocked", 5)])
    def test_wait_ends_as_the_job_does(self, commands: Commands, rig: Rig, bead: Bead, course: str, code: int) -> None:
        outcome = commands.run(
            *("gt", "sling", bead.id, rig.name, "--agent", f"true {course}", "--wait", "-o", "json"), expect=code
        )
        assert outcome.json["state"] == course
        assert ("error: " in outcome.err) == (code != 0)

    def test_wait_gives_up_after_its_timeout_and_the_job_goes_on(
        self, commands: Commands, rig: Rig, bead: Bead
    ) -> None:
        argv = ("gt", "sling", bead.id, rig.name, "--agent", "true hang", "--wait", "--timeout", "1")
        outcome = commands.run(*argv, expect=6)
        assert f"hint: gt job show {bead.id}" in outcome.err
        assert commands.json("gt", "job", "show", bead.id)["state"] == "working"

    def test_a_job_that_fails_by_itself_ends_the_wait_with_an_error(
        self, commands: Commands, rig: Rig, bead: Bead
    ) -> None:
        argv = ("gt", "sling", bead.id, rig.name, "--agent", "true fail", "--wait", "--timeout", "20")
        assert "a bug" in commands.run(*argv, expect=1).err

    def test_ctrl_c_while_waiting_says_that_the_job_goes_on(self, commands: Commands, rig: Rig, bead: Bead) -> None:
        argv = [str(BIN / "gt"), "sling", bead.id, rig.name, "--agent", "true hang", "--wait"]
        process = subprocess.Popen(
            argv, cwd=commands.cwd, env=commands.environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        assert "waiting" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        assert process.returncode == 130
        assert f"the job goes on; see gt job show {bead.id}" in err
        assert "Traceback" not in err

    def test_a_refusal_of_the_dispatcher_keeps_its_code_and_hint(
        self, commands: Commands, rig: Rig, bead: Bead
    ) -> None:
        outcome = commands.run("gt", "sling", bead.id, rig.name, "--agent", "true refuse", "-o", "json", expect=2)
        assert outcome.out == ""
        assert outcome.err == "error: no agent for it\nhint: gt sling ID RIG --agent CMD\n"

    def test_an_unknown_rig_is_not_found(self, commands: Commands, rig: Rig, bead: Bead) -> None:
        assert "there is no rig 'nope'" in commands.run("gt", "sling", bead.id, "nope", expect=3).err

    def test_an_agent_whose_program_is_missing_is_refused(self, commands: Commands, rig: Rig, bead: Bead) -> None:
        outcome = commands.run("gt", "sling", bead.id, rig.name, "--agent", "no-such-agent", expect=2)
        assert "there is no program 'no-such-agent'" in outcome.err
        commands.run("gt", "sling", bead.id, rig.name, "--agent", " ", expect=2)

    def test_it_needs_no_ledger_while_the_dispatcher_runs(self, commands: Commands, rig: Rig, town: Town) -> None:
        bead = commands.json("bd", "create", "x", "--rig", rig.name)["id"]
        commands.run("gt", "sling", bead, rig.name, "--agent", "true hang")
        town.paths.doltlite_file.write_bytes(b"no ledger")
        commands.run("gt", "sling", bead, rig.name)


class TestWithoutAWorker:
    def test_a_sling_that_nobody_accepts_is_unreachable_within_seconds(
        self, commands: Commands, rig: Rig, bead: Bead
    ) -> None:
        begun = time.monotonic()
        outcome = commands.run("gt", "sling", bead.id, rig.name, "--agent", "true hang", "-o", "json", expect=4)
        assert time.monotonic() - begun < 20
        assert outcome.out == ""
        assert "hint: gt up" in outcome.err

    def test_status_shows_what_the_ledger_has_and_is_not_healthy(
        self, commands: Commands, rig: Rig, bead: Bead, ledger: Ledger
    ) -> None:
        outcome = commands.run("gt", "status", "-o", "json")
        assert outcome.json["healthy"] is False
        assert outcome.json["rigs"][0]["queue"] is None
        assert "warning: " in outcome.err


@pytest.mark.usefixtures("worker")
class TestJob:
    def test_show_lays_the_living_job_over_the_record(
        self, commands: Commands, rig: Rig, bead: Bead, ledger: Ledger
    ) -> None:
        commands.run("gt", "sling", bead.id, rig.name, "--agent", "true hang")
        shown = commands.json("gt", "job", "show", bead.id)
        keys = ("bead", "state", "attempt", "polecat", "host", "branch", "restarts", "reworks", "waits_for")
        assert [shown[key] for key in keys] == [
            *(bead.id, "working", 2, "nux", "h1", f"polecat/{bead.id}", 1, 0, "the agent"),
        ]
        assert shown["history"] == []
        start_job(ledger, bead.id)
        story = commands.json("gt", "job", "show", bead.id)["history"]
        assert [(entry["event"], set(entry) >= {"at", "event", "detail"}) for entry in story] == [("started", True)]

    def test_show_works_with_the_ledger_gone(self, commands: Commands, rig: Rig, bead: Bead, town: Town) -> None:
        commands.run("gt", "sling", bead.id, rig.name, "--agent", "true hang")
        _wait_until_listed(commands, bead.id)
        town.paths.doltlite_file.write_bytes(b"no ledger")
        outcome = commands.run("gt", "job", "show", bead.id, "-o", "json")
        assert outcome.json["state"] == "working"
        assert "warning: " in outcome.err

    def test_a_bead_that_was_never_slung_has_no_job(self, commands: Commands, rig: Rig, bead: Bead) -> None:
        assert "never slung" in commands.run("gt", "job", "show", bead.id, expect=3).err
        commands.run("gt", "job", "show", "sh-zzz", expect=3)

    def test_orders_reach_the_job_through_its_dispatcher(self, commands: Commands, rig: Rig, bead: Bead) -> None:
        commands.run("gt", "sling", bead.id, rig.name, "--agent", "true hang")
        ordered = commands.json("gt", "job", "cancel", bead.id, "--reason", "changed my mind")
        assert (ordered["bead"], ordered["order"]) == (bead.id, "cancel")
        commands.run("gt", "sling", bead.id, rig.name, "--wait", "--timeout", "20", expect=1)

    def test_an_order_about_no_job_is_not_found(self, commands: Commands, rig: Rig, bead: Bead) -> None:
        commands.run("gt", "sling", bead.id, rig.name, "--agent", "true hang")
        other = commands.json("bd", "create", "x", "--rig", rig.name)["id"]
        assert "there is no such job" in commands.run("gt", "job", "cancel", other, expect=3).err


def _wait_until_listed(commands: Commands, bead: str) -> None:
    """Visibility lags behind by up to a second."""
    from services.temporal import connect

    async def listed() -> bool:
        client = await connect(load_town(commands.cwd))
        return [found.id async for found in client.list_workflows(f"GtBead = '{bead}'")] != []

    deadline = time.monotonic() + START_S
    while not asyncio.run(listed()):
        assert time.monotonic() < deadline, f"{bead} is not listed"


@pytest.mark.usefixtures("worker")
class TestRefinery:
    @pytest.fixture
    def item(self, commands: Commands, rig: Rig, bead: Bead, server: int) -> str:
        """A change in the queue of a Refinery that cannot merge it (its rig's facts are not there)."""
        request = MergeRequest(
            id=names.merge_request_id(bead.id, 1),
            rig=rig.name,
            bead=bead.id,
            title=bead.title,
            polecat="nux",
            attempt=1,
            branch=names.job_branch(bead.id),
            head_sha="a" * 40,
            target="main",
            submitted_at=datetime.now(UTC),
        )

        async def submit(client: Client) -> None:
            from services.temporal import start_rig_workflows

            await start_rig_workflows(client, rig.name)
            await client.get_workflow_handle(names.refinery_id(rig.name)).signal("submit", request)

        on_server(server, submit)
        return request.id

    def test_the_queue_is_shown_with_the_keys_that_scripts_rely_on(
        self, commands: Commands, rig: Rig, bead: Bead, item: str
    ) -> None:
        shown = commands.json("gt", "refinery", "queue", "--rig", rig.name)
        assert {"rig", "target", "paused", "items"} <= set(shown)
        assert (shown["rig"], shown["paused"]) == (rig.name, False)
        (row,) = shown["items"]
        assert {"id", "bead", "polecat", "state", "position", "attempts", "waiting_s", "reason"} <= set(row)
        assert (row["id"], row["bead"], row["polecat"], row["state"]) == (item, bead.id, "nux", "waiting")
        assert item in commands.run("gt", "refinery", "queue", "--rig", rig.name).out

    def test_pause_and_resume_show_the_queue_that_they_leave(self, commands: Commands, rig: Rig, item: str) -> None:
        paused = commands.json("gt", "refinery", "pause", "--rig", rig.name, "--reason", "release day")
        assert (paused["paused"], paused["pause_reason"]) == (True, "release day")
        assert commands.json("gt", "status")["rigs"][0]["queue"]["paused"] is True
        assert commands.json("gt", "refinery", "resume", "--rig", rig.name)["paused"] is False

    def test_an_item_is_held_released_and_returned(self, commands: Commands, rig: Rig, item: str) -> None:
        assert commands.json("gt", "refinery", "skip", item)["state"] == QueueItemState.HELD
        assert commands.json("gt", "refinery", "process", item, "--rig", rig.name)["state"] == QueueItemState.WAITING
        assert commands.json("gt", "refinery", "clear", "--rig", rig.name)["returned"] == [item]
        assert commands.json("gt", "refinery", "queue", "--rig", rig.name)["items"] == []
        assert "not in the merge queue" in commands.run("gt", "refinery", "skip", item, expect=3).err

    def test_an_unknown_rig_is_not_found_and_a_rig_without_refinery_is_unreachable(
        self, commands: Commands, rig: Rig
    ) -> None:
        commands.run("gt", "refinery", "queue", "--rig", "nope", expect=3)
        assert "hint: gt up" in commands.run("gt", "refinery", "queue", "--rig", rig.name, expect=4).err


@pytest.mark.usefixtures("worker")
class TestEscalate:
    def test_a_person_s_problem_is_listed_acknowledged_and_resolved(
        self, commands: Commands, rig: Rig, bead: Bead
    ) -> None:
        told = commands.json("gt", "escalate", "the build box is on fire", "--bead", bead.id, "--severity", "critical")
        rows = {row["id"]: row for row in commands.json("gt", "escalate", "list")}
        row = rows[told["id"]]
        assert {"id", "severity", "kind", "source", "bead", "opened_at", "acked", "message"} <= set(row)
        assert (row["severity"], row["bead"], row["acked"]) == ("critical", bead.id, False)
        assert row["message"] == "the build box is on fire"
        assert told["id"] in {one["id"] for one in commands.json("gt", "status")["escalations"]}
        assert commands.json("gt", "escalate", "ack", told["id"])["acked"] is True
        resolved = commands.json("gt", "escalate", "resolve", told["id"], "--action", "ignore")
        assert (resolved["resolved"], resolved["action"]) == (True, "ignore")
        assert told["id"] not in {row["id"] for row in commands.json("gt", "escalate", "list")}
        assert told["id"] in {row["id"] for row in commands.json("gt", "escalate", "list", "--all")}

    def test_an_unknown_one_is_not_found(self, commands: Commands, rig: Rig) -> None:
        commands.run("gt", "escalate", "something")
        commands.run("gt", "escalate", "ack", "nope", expect=3)
        commands.run("gt", "escalate", "resolve", "nope", "--action", "retry", expect=3)

    def test_an_empty_problem_is_no_problem(self, commands: Commands, rig: Rig) -> None:
        commands.run("gt", "escalate", " ", expect=2)


@pytest.mark.usefixtures("worker")
class TestStatus:
    def test_it_has_the_keys_that_scripts_rely_on(
        self, commands: Commands, rig: Rig, bead: Bead, ledger: Ledger
    ) -> None:
        commands.run("gt", "sling", bead.id, rig.name, "--agent", "true hang")
        commands.run("gt", "escalate", "x")
        shown = commands.json("gt", "status")
        assert {"town", "healthy", "services", "rigs", "jobs", "escalations", "web_url"} <= set(shown)
        assert {"name", "state", "pid", "restarts"} <= set(shown["services"][0])
        (row,) = shown["rigs"]
        assert row["queue"] | {"pause_reason": ""} == {"waiting": 0, "merging": 0, "paused": False, "pause_reason": ""}
        assert row["ungated"] is True
        (polecat,) = row["polecats"]
        keys = {"name", "state", "bead", "attempt", "host", "heartbeat_age_s", "progress_age_s"}
        assert keys <= set(polecat)
        assert (polecat["name"], polecat["bead"], polecat["host"]) == ("nux", bead.id, "h1")
        assert shown["jobs"][0]["waits_for"] == "a person"

    def test_text_fits_80_columns(self, commands: Commands, rig: Rig, bead: Bead) -> None:
        commands.run("gt", "sling", bead.id, rig.name, "--agent", "true hang")
        commands.run("gt", "escalate", "a long story " * 20)
        lines = commands.run("gt", "status").out.splitlines()
        assert max(len(line) for line in lines[1:]) <= 80

    def test_with_the_ledger_gone_the_living_rigs_are_still_shown(
        self, commands: Commands, rig: Rig, bead: Bead, town: Town
    ) -> None:
        commands.run("gt", "sling", bead.id, rig.name, "--agent", "true hang")
        _wait_until_listed(commands, bead.id)
        town.paths.doltlite_file.write_bytes(b"no ledger")
        outcome = commands.run("gt", "status", "-o", "json")
        assert "the ledger cannot be read" in outcome.err
        assert outcome.json["healthy"] is False
        assert rig.name in {row["name"] for row in outcome.json["rigs"]}
        assert bead.id in {job["bead"] for job in outcome.json["jobs"]}


@pytest.mark.usefixtures("worker")
class TestRigWorkflows:
    def test_adding_starts_them_and_removing_ends_them(self, commands: Commands, remote: Path, server: int) -> None:
        name = f"rig-{os.urandom(4).hex()}"
        commands.run("gt", "rig", "add", name, str(remote), "--gate", "test=true")
        assert _running(server, name) == {f"dispatch/{name}", f"witness/{name}", f"refinery/{name}"}
        commands.run("gt", "rig", "remove", name, "--yes")
        assert _running(server, name) == set()
        assert commands.json("gt", "rig", "list") == []


def _running(server: int, rig: str) -> set[str]:
    async def look(client: Client) -> set[str]:
        found = set()
        for workflow_id in (names.dispatch_id(rig), names.witness_id(rig), names.refinery_id(rig)):
            description = await client.get_workflow_handle(workflow_id).describe()
            if description.status is not None and description.status.name == "RUNNING":
                found.add(workflow_id)
        return found

    running: set[str] = on_server(server, look)
    return running


@pytest.mark.usefixtures("worker")
def test_closing_a_bead_wakes_the_dispatchers_whose_jobs_wait(
    commands: Commands, rig: Rig, bead: Bead, ledger: Ledger, server: int
) -> None:
    commands.run("gt", "sling", bead.id, rig.name, "--agent", "true hang")
    write = ledger.job(bead.id)
    assert write is None
    start_job(ledger, bead.id, JobState.WAITING, rig.name)
    other = commands.json("bd", "create", "x", "--rig", rig.name)["id"]
    commands.run("bd", "close", other)

    async def signals(client: Client) -> list[str]:
        history = client.get_workflow_handle(names.dispatch_id(rig.name)).fetch_history_events()
        return [
            event.workflow_execution_signaled_event_attributes.signal_name
            async for event in history
            if event.HasField("workflow_execution_signaled_event_attributes")
        ]

    assert on_server(server, signals) == ["wake"]
