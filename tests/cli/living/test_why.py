"""`gt why`: what a person is told of a verdict, and what a test of the policy can be made of."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from temporalio.client import Client

from ledger.store import Ledger
from models import names
from models.job.health import Diagnosis, HealthKind, HealthReport, Sighting, Thresholds, Zombie
from models.ledger.records import Bead, JobState, NewBead, Rig
from models.supervision.messages import WitnessHealth
from policies.job.health import diagnose
from services.town import Town
from tests.cli.conftest import Here
from tests.cli.living import standins
from tests.cli.living.conftest import on_server, wait_until_listed, working
from tests.cli.test_beads import start_job
from workflows.mayor.workflow import MayorWorkflow
from workflows.refinery.workflow import RefineryWorkflow
from workflows.supervision.deacon import DeaconWorkflow

LIMITS = Thresholds(polecat_timeout_s=300, grace_s=60, stuck_timeout_s=1800)
RAISED = Thresholds(polecat_timeout_s=900, grace_s=60, stuck_timeout_s=7200)
"""what the settings are since the verdict"""
STUCK = Sighting(
    started=True, present=True, heartbeat_age_s=3.5, progress_age_s=1900.2, output_age_s=1.0, session_age_s=4000.0,
    tail="Remove the build folder? [y/N]",
)  # fmt: skip


@pytest.fixture
def witness(server: int, rig: Rig, bead: Bead) -> Iterator[None]:
    """nux works on the bead and has come to a stop at a prompt; toast is a leftover of its first attempt."""
    earlier = HealthKind.HEALTHY
    report = HealthReport(
        polecat="nux", attempt=2, sighting=STUCK, earlier=earlier, diagnosis=diagnose(STUCK, LIMITS, earlier)
    )
    over = Zombie(rig=rig.name, polecat="toast", bead=bead.id, attempt=1, session_lives=True, age_s=70, reason="late")
    health = WitnessHealth(
        rig=rig.name, thresholds=RAISED, limits={bead.id: LIMITS}, reports={bead.id: report}, zombies=(over,)
    )

    async def start(client: Client) -> None:
        await client.start_workflow(
            standins.Witness.run, health, id=names.witness_id(rig.name), task_queue=names.TOWN_QUEUE
        )

    others = [standins.Dispatcher, standins.Job, DeaconWorkflow, MayorWorkflow, RefineryWorkflow]
    with working(server, [*others, standins.Witness], [standins.load_rig, standins.record_escalation]):
        on_server(server, start)
        yield


@pytest.mark.usefixtures("witness")
class TestWhy:
    @pytest.mark.parametrize("by", ["bead", "polecat"])
    def test_its_json_is_a_test_case_for_the_policy(self, here: Here, rig: Rig, bead: Bead, by: str) -> None:
        here.run("gt", "sling", bead.id, rig.name, "--agent", "true hang")
        told = here.json("gt", "why", bead.id if by == "bead" else "nux")
        sighting = Sighting.model_validate(told["sighting"])
        verdict = diagnose(sighting, Thresholds.model_validate(told["thresholds"]), HealthKind(told["earlier"]))
        assert verdict == Diagnosis.model_validate(told["diagnosis"])
        assert (sighting, verdict.kind, verdict.rule) == (STUCK, HealthKind.WAITING_FOR_INPUT, "prompt_yes_no")
        assert set(told["sighting"]) == set(Sighting.model_fields), "also what has its default"
        assert (told["rig"], told["bead"], told["polecat"], told["attempt"]) == (rig.name, bead.id, "nux", 2)
        decision = told["decision"]
        assert (decision["state"], decision["waits_for"], decision["restarts"]) == ("working", "the agent", 1)
        assert [zombie["polecat"] for zombie in told["zombies"]] == ["toast"]

    def test_people_are_told_in_words(self, here: Here, rig: Rig, bead: Bead) -> None:
        here.run("gt", "sling", bead.id, rig.name, "--agent", "true hang")
        text = here.run("gt", "why", "nux").out
        for part in (
            "waiting_for_input (rule prompt_yes_no)",
            "no progress for 1900 s, longer than health.stuck_timeout (1800 s)",
            "heartbeat 3s ago, progress 31m ago",
            "progress 30m",
            "working, 1 restarts",
            "attempt 1 (toast): late",
            "Remove the build folder? [y/N]",
        ):
            assert part in text

    def test_a_job_that_nobody_watches_is_told_from_the_record(
        self, here: Here, rig: Rig, bead: Bead, ledger: Ledger
    ) -> None:
        other = ledger.create_bead(NewBead(rig=rig.name, title="Another"))
        start_job(ledger, other.id, rig=rig.name)
        told = here.json("gt", "why", other.id)
        assert (told["bead"], told["sighting"], told["diagnosis"]) == (other.id, None, None)
        assert [event["event"] for event in told["decision"]["history"]] == ["started"]
        assert "no session of it is watched" in here.run("gt", "why", other.id).out

    def test_a_polecat_without_a_bead_is_idle(self, here: Here, rig: Rig, ledger: Ledger) -> None:
        other = ledger.create_bead(NewBead(rig=rig.name, title="Another"))
        start_job(ledger, other.id, rig=rig.name)
        start_job(ledger, other.id, JobState.ABANDONED, rig=rig.name, sequence=2)
        assert "it is idle" in here.run("gt", "why", "toast").out

    def test_what_nobody_knows_is_not_found(self, here: Here) -> None:
        outcome = here.run("gt", "why", "nobody", expect=3)
        assert "nothing is watched under 'nobody'" in outcome.err
        here.run("gt", "why", "nux", "--rig", "elsewhere", expect=3)

    def test_with_the_ledger_gone_the_witness_still_tells(self, here: Here, rig: Rig, bead: Bead, town: Town) -> None:
        here.run("gt", "sling", bead.id, rig.name, "--agent", "true hang")
        wait_until_listed(town, bead.id)
        town.paths.doltlite_file.write_bytes(b"no ledger")
        outcome = here.run("gt", "why", bead.id, "-o", "json")
        assert "the ledger cannot be read" in outcome.err
        assert outcome.json["diagnosis"]["kind"] == "waiting_for_input"


def test_with_no_worker_the_record_is_all_there_is(here: Here, rig: Rig, bead: Bead, ledger: Ledger) -> None:
    start_job(ledger, bead.id, rig=rig.name)
    outcome = here.run("gt", "why", bead.id, "-o", "json")
    assert f"the Witness of {rig.name}" in outcome.err
    assert outcome.json["diagnosis"] is None
