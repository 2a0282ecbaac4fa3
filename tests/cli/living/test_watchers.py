"""`gt deacon`, `gt boot`, `gt mayor` and `gt witness` on real workflows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from temporalio.client import Client

from cli.frame import connect
from cli.town import watchers as commands
from models import names
from models.ledger.records import Rig
from services.temporal import long_lived
from tests.cli.conftest import Here
from tests.cli.living import standins
from tests.cli.living.conftest import end_watchers, on_server, working
from tests.fault_document import documented
from tests.schedules import remove_schedules
from tests.schedules import silent_schedules as silent_schedules
from workflows.mayor.workflow import MayorWorkflow
from workflows.supervision.boot import BootWorkflow
from workflows.supervision.deacon import DeaconWorkflow
from workflows.supervision.witness import WitnessWorkflow


@pytest.fixture
def watchers(server: int, silent_schedules: None) -> Iterator[None]:
    """A worker for the watchers, who can ask Temporal."""
    workflows = [BootWorkflow, DeaconWorkflow, MayorWorkflow, WitnessWorkflow]
    with working(server, workflows, standins.activities, asking=True):
        yield
        on_server(server, remove_schedules)


def start(server: int, workflow_id: str) -> None:
    async def begin(client: Client) -> None:
        await long_lived.start(client, workflow_id)

    on_server(server, begin)


def run_of(server: int, workflow_id: str) -> str:
    async def look(client: Client) -> str:
        return (await client.get_workflow_handle(workflow_id).describe()).run_id or ""

    run: str = on_server(server, look)
    return run


@pytest.mark.usefixtures("watchers")
class TestDeacon:
    def test_one_that_runs_shows_whom_it_watches(self, here: Here, server: int) -> None:
        start(server, names.DEACON_ID)
        shown = here.json(*documented("gt deacon status"))
        assert {"workflow_id", "condition", "run_id", "stopped", "cycles", "watched", "checks"} <= set(shown)
        assert (shown["condition"], shown["run_id"]) == ("running", run_of(server, names.DEACON_ID))
        assert "running" in here.run("gt", "deacon", "status").out

    def test_one_that_does_not_run_fails_and_names_the_cure(self, here: Here, server: int) -> None:
        outcome = here.run("gt", "deacon", "status", "-o", "json", expect=1)
        assert outcome.json["condition"] == "absent"
        assert "hint: gt deacon start" in outcome.err

    def test_it_is_stopped_stays_so_through_a_restart_and_is_started(self, here: Here, server: int) -> None:
        start(server, names.DEACON_ID)
        stopped = here.json("gt", "deacon", "stop", "--reason", "maintenance")
        assert (stopped["stopped"], stopped["stop_reason"]) == (True, "maintenance")
        assert here.json("gt", "deacon", "status")["condition"] == "stopped"
        before = run_of(server, names.DEACON_ID)
        again = here.json(*documented("gt deacon restart"))
        assert again["condition"] == "stopped"
        assert again["run_id"] == run_of(server, names.DEACON_ID) != before
        start(server, names.DEACON_ID)  # as every worker does that starts
        assert here.json("gt", "deacon", "status")["condition"] == "stopped"
        assert here.json("gt", "deacon", "start")["condition"] == "running"
        assert here.json("gt", "deacon", "status")["condition"] == "running"

    def test_a_reset_forgets_even_that_it_was_stopped(self, here: Here, server: int) -> None:
        start(server, names.DEACON_ID)
        here.run("gt", "deacon", "stop")
        assert here.json(*documented("gt deacon reset"))["condition"] == "running"

    @pytest.mark.document("8: 重启服务")
    def test_one_that_is_gone_comes_back(self, here: Here, server: int) -> None:
        assert here.json(*documented("gt deacon start"))["condition"] == "running"

    def test_stopping_one_that_is_gone_is_unreachable(self, here: Here) -> None:
        assert "hint: gt deacon start" in here.run("gt", "deacon", "stop", expect=4).err


@pytest.mark.usefixtures("watchers")
class TestBoot:
    def test_it_is_not_found_before_it_is_scheduled(self, here: Here) -> None:
        assert "hint: gt up" in here.run("gt", "boot", "status", expect=3).err

    def test_run_prints_the_four_steps_revives_the_deacon_and_status_shows_it(self, here: Here, server: int) -> None:
        report = here.json("gt", "boot", "run")
        assert [step["name"] for step in report["steps"]] == [
            "is the process alive", "does it answer", "restart", "tell the Mayor",
        ]  # fmt: skip
        assert [step["ok"] for step in report["steps"]] == [False, False, True, True]
        assert here.json("gt", "deacon", "status")["condition"] == "running"
        shown = here.json("gt", "boot", "status")
        assert {"paused", "next_at", "last"} <= set(shown)
        assert shown["last"] == report
        assert "1. is the process alive: no" in here.run("gt", "boot", "status").out
        text = here.run("gt", "boot", "run").out
        assert "1. is the process alive: yes" in text
        assert "the Deacon is well" in text


@pytest.mark.usefixtures("watchers")
class TestMayor:
    def test_it_shows_what_is_open_and_keeps_it_through_a_restart(self, here: Here, server: int) -> None:
        here.run("gt", "escalate", "help")
        before = here.json("gt", "mayor", "status")
        assert (before["condition"], before["open"], before["unacked"]) == ("running", 1, 1)
        assert here.json("gt", "mayor", "restart")["run_id"] != before["run_id"]
        after = here.json("gt", "mayor", "status")
        assert (after["open"], after["unacked"]) == (1, 1)

    def test_one_that_is_gone_comes_back_with_what_it_knew(self, here: Here, server: int) -> None:
        here.run("gt", "escalate", "help")
        assert here.json("gt", "mayor", "status")["open"] == 1

        async def end(client: Client) -> None:
            await client.get_workflow_handle(names.MAYOR_ID).terminate()

        on_server(server, end)
        here.run("gt", "mayor", "status", expect=1)
        here.run("gt", "mayor", "start")
        assert here.json("gt", "mayor", "status")["open"] == 1


@pytest.mark.usefixtures("watchers")
class TestWitness:
    def test_it_shows_its_state_and_what_the_deacon_thinks(self, here: Here, rig: Rig, server: int) -> None:
        start(server, names.witness_id(rig.name))
        start(server, names.DEACON_ID)
        shown = here.json(*documented("gt witness status --rig gastown", {"gastown": rig.name}))
        assert {"workflow_id", "condition", "rig", "hosts", "deacon"} <= set(shown)
        assert (shown["rig"], shown["condition"]) == (rig.name, "running")
        assert rig.name in here.run("gt", "witness", "status", "--rig", rig.name).out

    def test_it_is_stopped_stays_so_through_a_restart_and_a_worker_s_start_and_is_started(
        self, here: Here, rig: Rig, server: int
    ) -> None:
        witness = names.witness_id(rig.name)
        start(server, witness)
        assert here.json("gt", "witness", "stop", "--rig", rig.name)["stopped"] is True
        assert here.json("gt", "witness", "restart", "--rig", rig.name)["condition"] == "stopped"
        start(server, witness)  # as every worker does that starts
        assert here.json("gt", "witness", "status", "--rig", rig.name)["condition"] == "stopped"
        assert here.json("gt", "witness", "start", "--rig", rig.name)["condition"] == "running"
        assert here.json("gt", "witness", "status", "--rig", rig.name)["condition"] == "running"

    def test_recover_prints_its_four_results(self, here: Here, rig: Rig, server: int) -> None:
        start(server, names.witness_id(rig.name))
        recover = documented("gt witness recover --rig gastown", {"gastown": rig.name})
        done = here.json(*recover)
        assert {"rig", "settings_read", "verdicts", "unchecked", "patrols", "backlog"} <= set(done)
        lines = here.run(*recover).out.splitlines()
        assert [line[:2] for line in lines] == ["1.", "2.", "3.", "4."]

    def test_restart_and_reset_make_a_new_run(self, here: Here, rig: Rig, server: int) -> None:
        witness = names.witness_id(rig.name)
        start(server, witness)
        runs = {run_of(server, witness)}
        for line in (
            documented("gt witness restart --rig gastown", {"gastown": rig.name}),
            documented("gt witness reset --rig gastown", {"gastown": rig.name}),
        ):
            runs.add(here.json(*line)["run_id"])
        assert len(runs) == 3

    def test_one_that_never_ran_is_started_and_one_of_an_unknown_rig_is_not_found(self, here: Here, rig: Rig) -> None:
        here.run("gt", "witness", "start", "--rig", "nope", expect=3)
        here.run("gt", "witness", "restart", "--rig", "nope", expect=3)
        here.run("gt", "witness", "stop", "--rig", "nope", expect=3)
        assert here.run("gt", "witness", "status", "--rig", "nope", expect=3).out == ""
        assert "hint: gt witness" in here.run("gt", "witness", "stop", "--rig", rig.name, expect=4).err


class TestWithoutAWorker:
    def test_what_nobody_answers_for_says_so_within_seconds(
        self, here: Here, server: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module, bound in ((commands, "ANSWER_S"), (connect, "ACCEPT_S")):
            assert getattr(module, bound) <= 10
            monkeypatch.setattr(module, bound, 3.0)  # they need not be waited out
        start(server, names.DEACON_ID)
        outcome = here.run("gt", "deacon", "status", "-o", "json", expect=1)
        assert outcome.json["condition"] in {"silent", "wedged"}
        assert "hint: gt up" in here.run("gt", "deacon", "stop", expect=4).err
        on_server(server, end_watchers)
