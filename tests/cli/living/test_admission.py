"""What the real dispatcher and the record say to `gt sling` and `gt job`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from temporalio import activity

from activities.job_start import JobStartActivities
from activities.ledger import LedgerActivities
from ledger.store import Ledger
from models.job.messages import JobStarted, StartJob
from models.ledger.records import Bead, Rig
from services.town import Town
from tests.cli.conftest import Here
from tests.cli.living.conftest import working
from tests.pace import DEADLINE_S
from workflows.dispatch.workflow import DispatchWorkflow
from workflows.job.workflow import PolecatWorkflow


@pytest.fixture(autouse=True)
def dispatching(server: int, town: Town) -> Iterator[None]:
    """No host is registered, so that every job waits for a slot."""
    activities = LedgerActivities(lambda: Ledger.open(town.ledger_url()))

    @activity.defn
    async def start_job(order: StartJob) -> JobStarted:
        starts = JobStartActivities(activity.client(), lambda sling: asyncio.to_thread(activities.admit_bead, sling))
        return await starts.start_job(order)

    answers = [
        *(activities.admit_bead, activities.record_job, activities.dispatch_facts, activities.bead_status),
        start_job,
    ]
    with working(server, [DispatchWorkflow, PolecatWorkflow], answers):
        yield


def test_without_any_agent_configured_it_is_wrong_usage(here: Here, rig: Rig, bead: Bead) -> None:
    outcome = here.run("gt", "sling", bead.id, rig.name, "-o", "json", expect=2)
    assert outcome.out == ""
    assert "--agent" in outcome.err


def test_a_closed_bead_is_refused(here: Here, rig: Rig, bead: Bead) -> None:
    here.run("bd", "close", bead.id, "--reason", "not needed")
    assert "not needed" in here.run("gt", "sling", bead.id, rig.name, "--agent", "true", expect=5).err


def test_an_unknown_bead_is_not_found(here: Here, rig: Rig) -> None:
    assert "hint: " in here.run("gt", "sling", "sh-zzz", rig.name, "--agent", "true", expect=3).err


def test_a_job_is_refused_its_close_and_can_be_given_up(here: Here, rig: Rig, bead: Bead) -> None:
    slung = here.json("gt", "sling", bead.id, rig.name, "--agent", "true")
    assert slung["state"] == "waiting"
    assert here.json("gt", "job", "show", bead.id)["state"] == "waiting"
    deadline = time.monotonic() + DEADLINE_S
    while not here.json("gt", "job", "show", bead.id)["history"]:
        assert time.monotonic() < deadline, "the record never heard of the job"
    assert f"gt job cancel {bead.id}" in here.run("bd", "close", bead.id, expect=5).err
    ordered = here.json("gt", "job", "cancel", bead.id, "--reason", "changed my mind")
    assert (ordered["bead"], ordered["order"], ordered["workflow_id"]) == (bead.id, "cancel", slung["workflow_id"])
    deadline = time.monotonic() + DEADLINE_S
    # The record follows the job's own word after a moment.
    while not any("changed my mind" in e["detail"] for e in here.json("gt", "job", "show", bead.id)["history"]):
        assert time.monotonic() < deadline
    assert here.json("gt", "job", "show", bead.id)["state"] == "abandoned"
    for order in ("cancel", "retry", "reassign"):
        assert "is over: abandoned" in here.run("gt", "job", order, bead.id, expect=5).err
    assert here.json("bd", "close", bead.id)["status"] == "closed"


def test_orders_about_a_bead_without_a_job_are_not_found(here: Here, rig: Rig, bead: Bead) -> None:
    here.run("gt", "sling", bead.id, rig.name, expect=2)
    for order in ("cancel", "retry", "reassign"):
        assert "has no running job" in here.run("gt", "job", order, bead.id, expect=3).err
