"""`gt job` while jobs live, and what `bd` tells their dispatchers."""

from __future__ import annotations

import pytest
from temporalio.client import Client

from ledger.store import Ledger
from models import names
from models.ledger.records import Bead, JobState, Rig
from services.town import Town
from tests.cli.conftest import Here
from tests.cli.living.conftest import on_server, wait_until_listed
from tests.cli.test_beads import start_job
from tests.pace import DEADLINE_S


@pytest.mark.usefixtures("worker")
class TestJob:
    def test_show_lays_the_living_job_over_the_record(self, here: Here, rig: Rig, bead: Bead, ledger: Ledger) -> None:
        here.run("gt", "sling", bead.id, rig.name, "--agent", "true hang")
        shown = here.json("gt", "job", "show", bead.id)
        keys = ("bead", "state", "attempt", "polecat", "host", "branch", "restarts", "reworks", "waits_for")
        assert [shown[key] for key in keys] == [
            *(bead.id, "working", 2, "nux", "h1", f"polecat/{bead.id}", 1, 0, "the agent"),
        ]
        assert shown["history"] == []
        start_job(ledger, bead.id)
        story = here.json("gt", "job", "show", bead.id)["history"]
        assert [(entry["event"], set(entry) >= {"at", "event", "detail"}) for entry in story] == [("started", True)]

    def test_show_works_with_the_ledger_gone(self, here: Here, rig: Rig, bead: Bead, town: Town) -> None:
        here.run("gt", "sling", bead.id, rig.name, "--agent", "true hang")
        wait_until_listed(town, bead.id)
        town.paths.doltlite_file.write_bytes(b"no ledger")
        outcome = here.run("gt", "job", "show", bead.id, "-o", "json")
        assert outcome.json["state"] == "working"
        assert "warning: " in outcome.err

    def test_a_bead_that_was_never_slung_has_no_job(self, here: Here, rig: Rig, bead: Bead) -> None:
        assert "never slung" in here.run("gt", "job", "show", bead.id, expect=3).err
        here.run("gt", "job", "show", "sh-zzz", expect=3)

    def test_orders_reach_the_job_through_its_dispatcher(self, here: Here, rig: Rig, bead: Bead) -> None:
        here.run("gt", "sling", bead.id, rig.name, "--agent", "true hang")
        ordered = here.json("gt", "job", "cancel", bead.id, "--reason", "changed my mind")
        assert (ordered["bead"], ordered["order"]) == (bead.id, "cancel")
        here.run("gt", "sling", bead.id, rig.name, "--wait", "--timeout", str(DEADLINE_S), expect=1)

    def test_an_order_about_no_job_is_not_found(self, here: Here, rig: Rig, bead: Bead) -> None:
        here.run("gt", "sling", bead.id, rig.name, "--agent", "true hang")
        other = here.json("bd", "create", "x", "--rig", rig.name)["id"]
        assert "there is no such job" in here.run("gt", "job", "cancel", other, expect=3).err


@pytest.mark.usefixtures("worker")
def test_closing_a_bead_wakes_the_dispatchers_whose_jobs_wait(
    here: Here, rig: Rig, bead: Bead, ledger: Ledger, server: int
) -> None:
    here.run("gt", "sling", bead.id, rig.name, "--agent", "true hang")
    write = ledger.job(bead.id)
    assert write is None
    start_job(ledger, bead.id, JobState.WAITING, rig.name)
    other = here.json("bd", "create", "x", "--rig", rig.name)["id"]
    here.run("bd", "close", other)

    async def signals(client: Client) -> list[str]:
        history = client.get_workflow_handle(names.dispatch_id(rig.name)).fetch_history_events()
        return [
            event.workflow_execution_signaled_event_attributes.signal_name
            async for event in history
            if event.HasField("workflow_execution_signaled_event_attributes")
        ]

    # The rig's Witness may have said meanwhile what it holds the dispatcher to.
    assert [name for name in on_server(server, signals) if name != "restrain"] == ["wake"]
