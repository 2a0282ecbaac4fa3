"""MayorWorkflow: what it decides, whom it asks, how it is answered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from models.errors import ErrorCode, Level
from models.job.messages import Decision, DecisionKind
from models.mayor.alerts import Alerting, AlertRule, AlertType, Edge, Priority
from models.mayor.escalations import EscalationStatus
from models.settings import EscalationSettings, HealthSettings, RecoverySettings, Settings
from tests.workflows.mayor.mayor_world import (
    DispatchProbe,
    MayorWorld,
    Open,
    refused,
    start_dispatcher,
    told,
)
from tests.workflows.probes import JobProbe, eventually, start_job
from tests.workflows.refinery.merge_world import START
from workflows.mayor.state import CLEARED, MayorState

EXHAUSTED = {"kind": "polecat_exhausted", "message": "its agents die", "tried": "3 restarts, another polecat"}
SELDOM = Settings(health=HealthSettings(check_interval=3600))
"""few cycles in a long time"""
SYSTEM = {"bead": None, "source": "deacon", "level": Level.L3.value}


class TestOneFaultIsOne:
    async def test_an_escalation_told_twice_is_one(self, hall: Open) -> None:
        async with hall() as town:
            await town.escalate(told("e1"), told("e1", message="again"), told("e2", bead="sh-2"))
            listed = await town.listed()
            assert [(status.id, status.message) for status in listed] == [
                ("e1", "which database?"),
                ("e2", "which database?"),
            ]
            assert not listed[0].acked
            await town.until(lambda: set(town.world.rows) == {"e1", "e2"})

    async def test_a_flood_about_one_subject_is_one_case_and_one_alert(self, hall: Open) -> None:
        async with hall() as town:
            await town.escalate(*(told(f"e{number}", **EXHAUSTED) for number in range(100)))
            await town.until(lambda: town.world.log)
            assert [status.id for status in await town.listed()] == ["e0"]
            await town.clear(*(f"e{number}" for number in range(100)))
            await town.until(lambda: len(town.world.log) == 2)
            assert town.world.told() == [(Edge.START, "sh-1"), (Edge.END, "sh-1")]

    async def test_a_resolved_escalation_told_again_stays_resolved_and_one_that_comes_back_does_not(
        self, hall: Open
    ) -> None:
        async with hall() as town:
            await town.escalate(told("e1"))
            await town.resolve("e1", DecisionKind.IGNORE)
            await town.escalate(told("e1"))
            assert [status.resolved for status in await town.listed()] == [True]
            later = datetime(2100, 1, 1, tzinfo=UTC)
            await town.escalate(told("e1", opened_at=later))
            assert [status.resolved for status in await town.listed()] == [False]
            await town.until(lambda: town.world.rows["e1"].opened_at == later)


class TestDecidedAlone:
    @pytest.mark.document("2: 自动重试可解决")
    async def test_a_transient_fault_is_retried_later_and_nobody_is_told(
        self, env: WorkflowEnvironment, hall: Open
    ) -> None:
        async with hall() as town:
            job = await start_job(env, "sh-1")
            begun = await env.get_current_time()
            await town.escalate(told("e1", level="L1", message="lock conflict"))
            await town.until(lambda: "e1" in town.world.rows)
            await env.sleep(timedelta(seconds=50))
            [decision] = (await job.query(JobProbe.heard)).decisions
            assert (decision.kind, decision.escalation) == (DecisionKind.RETRY, "e1")
            assert "the Mayor" in decision.reason
            assert (await env.get_current_time()) - begun >= timedelta(seconds=30)
            status = await town.one("e1")
            assert (status.resolved, status.action) == (True, "retry")
            assert town.world.log == []

    async def test_after_its_retries_a_person_is_asked(self, env: WorkflowEnvironment, hall: Open) -> None:
        settings = Settings(recovery=RecoverySettings(max_retries=2, retry_delay=1))
        async with hall(MayorWorld(settings=settings)) as town:
            await town.until(lambda: town.world.reads)
            job = await start_job(env, "sh-1")
            for number in (1, 2, 3):
                await town.escalate(told(f"e{number}", level="L1", kind="polecat_exhausted"))
                await env.sleep(timedelta(seconds=10))
            assert len((await job.query(JobProbe.heard)).decisions) == 2
            assert town.world.told() == [(Edge.START, "sh-1")]

    async def test_exhausted_agents_are_given_another_polecat_once(self, env: WorkflowEnvironment, hall: Open) -> None:
        async with hall() as town:
            job = await start_job(env, "sh-1")
            await town.escalate(told("e1", kind="polecat_exhausted", tried="3 restarts"))
            await town.until(lambda: "e1" in town.world.rows and town.world.rows["e1"].resolved)
            await town.escalate(told("e2", kind="polecat_exhausted", tried="3 restarts"))
            await town.until(lambda: town.world.log)
            [decision] = (await job.query(JobProbe.heard)).decisions
            assert (decision.kind, decision.by_person) == (DecisionKind.REASSIGN, False)
            assert town.world.told() == [(Edge.START, "sh-1")]

    async def test_a_job_that_is_gone_needs_no_decision(self, hall: Open) -> None:
        async with hall() as town:
            await town.escalate(told("e1", kind="polecat_exhausted", tried="3 restarts"))
            await town.until(lambda: "e1" in town.world.rows and town.world.rows["e1"].resolved)
            assert (await town.one("e1")).action == CLEARED

    async def test_what_may_end_by_itself_is_told_only_when_it_does_not(
        self, env: WorkflowEnvironment, hall: Open
    ) -> None:
        async with hall() as town:
            await town.escalate(told("e1", **SYSTEM | {"level": "L1", "kind": "refinery_stalled"}))
            await town.escalate(told("e2", **SYSTEM | {"level": "L1", "kind": "backup_failed"}))
            await town.clear("e1")
            await env.sleep(timedelta(seconds=40))
            assert town.world.log == []
            await env.sleep(timedelta(seconds=40))
            assert town.world.told() == [(Edge.START, "e2")]

    async def test_the_ledger_s_server_is_restarted_and_people_hear_of_it_meanwhile(self, hall: Open) -> None:
        async with hall() as town:
            await town.escalate(told("dolt", **SYSTEM, kind="dolt_down"))
            await town.until(lambda: town.world.restarted == ["dolt"] and town.world.log)
            assert town.world.told() == [(Edge.START, "town")]
            await town.until(lambda: "the Mayor restarted dolt" in town.world.rows["dolt"].tried)
            await town.clear("dolt")
            await town.until(lambda: town.world.told()[1:] == [(Edge.END, "town")])

    async def test_a_service_that_cannot_be_restarted_is_left_to_the_person_who_was_told(self, hall: Open) -> None:
        async with hall(MayorWorld(restart_fails="this town runs no dolt")) as town:
            await town.escalate(told("dolt", **SYSTEM, kind="dolt_down"))
            await town.until(lambda: "dolt" in town.world.rows and town.world.rows["dolt"].tried)
            assert "this town runs no dolt" in (await town.one("dolt")).tried
            await town.until(lambda: town.world.told() == [(Edge.START, "town")])

    @pytest.mark.document("2: 磁盘空间不足")
    async def test_a_full_disk_pauses_every_rig_until_there_is_room(self, env: WorkflowEnvironment, hall: Open) -> None:
        async with hall(MayorWorld(rigs=("shop", "barn"))) as town:
            await town.until(lambda: town.world.reads)
            dispatchers = [await start_dispatcher(env, rig) for rig in ("shop", "barn")]
            full = {**SYSTEM, "kind": "disk_full", "message": "97 % of /"}
            await town.escalate(told("disk-1", **full, severity="critical", subject="h1"))
            await town.escalate(told("disk-2", **full, severity="critical", subject="h2"))
            await town.until(lambda: sum("paused shop, barn" in row.tried for row in town.world.rows.values()) == 2)
            await town.clear("disk-1")
            await town.until(lambda: town.world.rows["disk-1"].resolved)
            for dispatcher in dispatchers:
                assert set(await dispatcher.query(DispatchProbe.orders)) == {"pause by mayor: 97 % of /"}
            await town.clear("disk-2")

            async def resumed() -> bool:
                orders = [await dispatcher.query(DispatchProbe.orders) for dispatcher in dispatchers]
                return all(order[-1] == "resume by mayor" for order in orders)

            await eventually(resumed)

    async def test_jobs_that_a_system_fault_has_stopped_go_on_once_it_is_cured(
        self, env: WorkflowEnvironment, hall: Open
    ) -> None:
        async with hall() as town:
            job = await start_job(env, "sh-1")
            await town.escalate(told("disk", **SYSTEM, kind="disk_full"))
            await town.escalate(told("e1", level="L3", message="no space left"))
            await town.clear("disk")
            await town.until(lambda: "e1" in town.world.rows and town.world.rows["e1"].resolved)
            assert [one.kind for one in (await job.query(JobProbe.heard)).decisions] == [DecisionKind.RETRY]


class TestAskedAndAnswered:
    @pytest.mark.document("2: Mayor", "6: 通知")
    async def test_mayor_cannot_decide_so_a_human_is_alerted_through_each_channel(self, hall: Open) -> None:
        rules = (AlertRule(type=AlertType.POLECAT_EXHAUSTED, channel="slack", created_at=datetime.now(UTC)),)
        world = MayorWorld(alerting=Alerting(rules=rules, channels=("email", "slack")))
        async with hall(world) as town:
            await town.escalate(told("e1", **EXHAUSTED), told("e2", bead="sh-2"))
            await town.until(lambda: sum(len(message.notices) for message in world.taken) == 3)
            heard = {(message.channel, one.condition) for message in world.taken for one in message.notices}
            assert heard == {
                ("slack", "polecat_exhausted:sh-1"),
                ("slack", "help:sh-2"),
                ("email", "help:sh-2"),
            }

    @pytest.mark.document("2: Mayor", "6: 通知")
    async def test_human_answers_and_the_decision_reaches_the_job_with_its_reason(
        self, env: WorkflowEnvironment, hall: Open
    ) -> None:
        async with hall() as town:
            job = await start_job(env, "sh-1")
            await town.escalate(told("e1", **EXHAUSTED))
            await town.until(lambda: town.world.log)
            status = await town.resolve("e1", DecisionKind.REASSIGN)
            assert (status.resolved, status.acked, status.action) == (True, True, "reassign")
            assert status.resolved_by == "ada"
            assert (await job.query(JobProbe.heard)).decisions == (
                Decision(
                    kind=DecisionKind.REASSIGN,
                    reason="decided by ada",
                    escalation="e1",
                    tellings=("e1",),
                    opened_at=START,
                ),
            )
            await town.until(lambda: town.world.rows["e1"].action == "reassign")
            await town.until(lambda: town.world.told() == [(Edge.START, "sh-1"), (Edge.END, "sh-1")])

    async def test_a_decision_names_every_telling_of_its_fault_that_is_not_over(
        self, env: WorkflowEnvironment, hall: Open
    ) -> None:
        async with hall() as town:
            job = await start_job(env, "sh-1")
            await town.escalate(*(told(f"sh-1.{attempt}.polecat_exhausted", **EXHAUSTED) for attempt in (1, 2, 3)))
            await town.clear("sh-1.2.polecat_exhausted")
            await town.resolve("sh-1.1.polecat_exhausted", DecisionKind.RETRY)
            [decision] = (await job.query(JobProbe.heard)).decisions
            assert decision.escalation == "sh-1.1.polecat_exhausted"
            assert decision.tellings == ("sh-1.1.polecat_exhausted", "sh-1.3.polecat_exhausted")

    async def test_a_decision_about_no_job_reaches_the_workflow_that_asked(
        self, env: WorkflowEnvironment, hall: Open
    ) -> None:
        async with hall() as town:
            refinery = await env.client.start_workflow(JobProbe.run, id="refinery/shop", task_queue="town")
            await town.escalate(told("e1", **SYSTEM | {"source": "refinery/shop"}, kind="gate_broken"))
            await town.resolve("e1", DecisionKind.RETRY)
            assert [one.kind for one in (await refinery.query(JobProbe.heard)).decisions] == [DecisionKind.RETRY]

    @pytest.mark.document("2: Mayor", "6: 通知")
    async def test_human_does_not_answer_so_the_severity_is_raised_at_most_max_repeats_times(
        self, env: WorkflowEnvironment, hall: Open
    ) -> None:
        settings = SELDOM.model_copy(update={"escalation": EscalationSettings(ack_timeout=3600, max_repeats=2)})
        world = MayorWorld(settings=settings, alerting=Alerting(channels=("email",)))
        async with hall(world) as town:
            await town.until(lambda: world.reads)
            await town.escalate(told("e1", severity="medium"))
            await town.until(lambda: world.log)
            await env.sleep(timedelta(minutes=59))
            assert len(world.log) == 1
            await env.sleep(timedelta(hours=24))
            assert [(one.edge, one.priority) for one in world.log] == [
                (Edge.START, Priority.MEDIUM),
                (Edge.REPEAT, Priority.HIGH),
                (Edge.REPEAT, Priority.CRITICAL),
            ]
            gaps = [after.at - before.at for before, after in zip(world.log, world.log[1:], strict=False)]
            assert all(timedelta(minutes=59) < gap < timedelta(minutes=61) for gap in gaps)
            status = await town.one("e1")
            assert (status.severity, status.repeats, status.acked) == ("critical", 2, False)
            await town.until(lambda: world.rows["e1"].repeats == 2)
            assert len(world.taken) == 3

    async def test_an_acknowledged_escalation_stays_open_and_is_not_told_again(
        self, env: WorkflowEnvironment, hall: Open
    ) -> None:
        async with hall(MayorWorld(settings=SELDOM)) as town:
            await town.until(lambda: town.world.reads)
            await town.escalate(told("e1"))
            assert (await town.acknowledge("e1")).acked
            await env.sleep(timedelta(days=2))
            [status] = await town.listed()
            assert (status.acked, status.resolved, status.repeats) == (True, False, 0)
            assert town.world.rows["e1"].acked
            assert len(town.world.log) == 1

    async def test_a_resolution_holds_although_its_job_is_gone(self, hall: Open) -> None:
        async with hall() as town:
            await town.escalate(told("e1"), told("e2", bead=None))
            assert (await town.resolve("e1", DecisionKind.RETRY)).resolved
            assert (await town.resolve("e2", DecisionKind.IGNORE)).resolved

    async def test_the_same_resolution_twice_is_one_and_another_is_refused(
        self, env: WorkflowEnvironment, hall: Open
    ) -> None:
        async with hall() as town:
            job = await start_job(env, "sh-1")
            await town.escalate(told("e1"))
            await town.resolve("e1", DecisionKind.RETRY)
            assert (await town.resolve("e1", DecisionKind.RETRY)).resolved
            assert (await refused(town.resolve("e1", DecisionKind.ABANDON))).type == ErrorCode.REFUSED.value
            assert len((await job.query(JobProbe.heard)).decisions) == 1

    async def test_an_unknown_escalation_is_refused_as_not_found(self, hall: Open) -> None:
        async with hall() as town:
            for update in (town.acknowledge("e9"), town.resolve("e9", DecisionKind.RETRY)):
                assert (await refused(update)).type == ErrorCode.NOT_FOUND.value

    async def test_one_that_a_flood_has_pushed_out_is_taken_back_from_the_record(
        self, env: WorkflowEnvironment, hall: Open
    ) -> None:
        status = EscalationStatus(
            id="old", severity="high", kind="help", source="ada", bead="sh-1", rig="shop", message="?",
            opened_at=datetime(2026, 1, 1, tzinfo=UTC), acked=False,
        )  # fmt: skip
        world = MayorWorld(rows={"old": status})
        async with hall(world, MayorState(forgotten=1)) as town:
            job = await start_job(env, "sh-1")
            assert (await refused(town.acknowledge("nobody"))).type == ErrorCode.NOT_FOUND.value
            assert (await town.resolve("old", DecisionKind.RETRY)).resolved
            assert len((await job.query(JobProbe.heard)).decisions) == 1
            await town.until(lambda: world.rows["old"].resolved)

    async def test_a_cleared_condition_ends_by_itself_with_an_alert_of_its_own(self, hall: Open) -> None:
        async with hall() as town:
            await town.escalate(told("e1", **SYSTEM, kind="witness_down"))
            await town.until(lambda: town.world.log)
            await town.clear("e1", "e1", "never-heard-of")
            await town.until(lambda: len(town.world.log) == 2)
            status = await town.one("e1")
            assert (status.resolved, status.action, status.acked) == (True, CLEARED, False)
            assert status.resolved_at is not None
            assert [one.edge for one in town.world.log] == [Edge.START, Edge.END]
