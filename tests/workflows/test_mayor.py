"""MayorWorkflow: escalations, decisions, their record."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import WorkflowHandle, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from models import names
from models.errors import ErrorCode, Level
from models.escalations import Escalation, EscalationAck, EscalationResolve, EscalationStatus
from models.jobs import Decision, DecisionKind
from tests.workflows.conftest import WorkerBuilder
from tests.workflows.merge_world import START
from tests.workflows.probes import JobProbe, eventually, runs_of, start_job
from workflows.mayor import OPEN_KEPT, RESOLVED_KEPT, TEXT_KEPT, Case, MayorState, MayorWorkflow

Mayor = WorkflowHandle[MayorWorkflow, None]


@dataclass
class EscalationRecord:
    """The ledger's table of escalations: an upsert by id."""

    readable: bool = True
    refuses: str = ""
    slow: bool = False
    rows: dict[str, EscalationStatus] = field(default_factory=dict)
    tries: int = 0

    @activity.defn
    async def record_escalation(self, status: EscalationStatus) -> None:
        self.tries += 1
        while self.slow:
            await asyncio.sleep(0.05)
        if status.id == self.refuses:
            raise ApplicationError("not a row", type=ErrorCode.INVALID_VALUE.value, non_retryable=True)
        if not self.readable:
            raise ApplicationError("the ledger is down", type=ErrorCode.LEDGER_UNREACHABLE.value)
        self.rows[status.id] = status


@dataclass
class Hall:
    env: WorkflowEnvironment
    record: EscalationRecord
    mayor: Mayor

    async def escalate(self, *escalations: Escalation) -> None:
        for escalation in escalations:
            await self.mayor.signal(MayorWorkflow.escalate, escalation)

    async def resolve(self, escalation: str, action: DecisionKind, by: str = "ada") -> EscalationStatus:
        request = EscalationResolve(id=escalation, action=action, by=by)
        status: EscalationStatus = await self.mayor.execute_update("resolve", request, result_type=EscalationStatus)
        return status

    async def acknowledge(self, escalation: str) -> EscalationStatus:
        return await self.mayor.execute_update(MayorWorkflow.acknowledge, EscalationAck(id=escalation))

    async def next_run(self, earlier: set[str]) -> str:
        """The run that follows those, once it has begun."""

        async def later() -> str | None:
            current = await runs_of(self.mayor)
            return None if current in earlier else current

        return str(await eventually(later, what="the next run"))

    async def listed(self) -> list[EscalationStatus]:
        return await self.mayor.query(MayorWorkflow.escalations)

    async def recorded(self, check: Callable[[dict[str, EscalationStatus]], bool]) -> None:
        async def done() -> bool:
            return check(self.record.rows)

        await eventually(done, what="the record")


Open = Callable[..., contextlib.AbstractAsyncContextManager[Hall]]


@pytest.fixture
def hall(env: WorkflowEnvironment, workers: WorkerBuilder) -> Open:
    @contextlib.asynccontextmanager
    async def start(record: EscalationRecord | None = None, state: MayorState | None = None) -> AsyncIterator[Hall]:
        record = record or EscalationRecord()
        async with workers(workflows=[MayorWorkflow, JobProbe], activities=[record.record_escalation]):
            mayor = await env.client.start_workflow(
                MayorWorkflow.run,
                *([state] if state else []),
                id=names.MAYOR_ID,
                task_queue=names.TOWN_QUEUE,
            )
            yield Hall(env, record, mayor)

    return start


def help_for(name: str, *, bead: str | None = "sh-1", message: str = "which database?") -> Escalation:
    return Escalation(
        id=name,
        kind="help",
        level=Level.L2.value,
        source="polecat/shop/sh-1",
        rig="shop" if bead else None,
        bead=bead,
        message=message,
        opened_at=START,
    )


async def refused(update: Any) -> ApplicationError:
    with pytest.raises(WorkflowUpdateFailedError) as raised:
        await update
    assert isinstance(raised.value.cause, ApplicationError)
    return raised.value.cause


async def test_an_escalation_told_twice_is_one(hall: Open) -> None:
    async with hall() as town:
        await town.escalate(help_for("e1"), help_for("e1", message="again"), help_for("e2"))
        listed = await town.listed()
        assert [(status.id, status.message) for status in listed] == [
            ("e1", "which database?"),
            ("e2", "which database?"),
        ]
        assert not listed[0].acked
        await town.recorded(lambda rows: set(rows) == {"e1", "e2"})


async def test_an_acknowledged_escalation_stays_open(hall: Open) -> None:
    async with hall() as town:
        await town.escalate(help_for("e1"))
        assert (await town.acknowledge("e1")).acked
        [status] = await town.listed()
        assert (status.acked, status.resolved) == (True, False)
        await town.recorded(lambda rows: "e1" in rows and rows["e1"].acked)


async def test_a_resolution_reaches_the_job_with_its_reason(env: WorkflowEnvironment, hall: Open) -> None:
    async with hall() as town:
        job = await start_job(env, "sh-1")
        await town.escalate(help_for("e1"), help_for("e2"))
        status = await town.resolve("e1", DecisionKind.REASSIGN)
        assert (status.resolved, status.action) == (True, "reassign")
        assert (await job.query(JobProbe.heard)).decisions == (
            Decision(kind=DecisionKind.REASSIGN, reason="decided by ada", escalation="e1"),
        )
        assert [(row.id, row.resolved) for row in await town.listed()] == [("e2", False), ("e1", True)]
        await town.recorded(lambda rows: rows["e1"].action == "reassign")


async def test_a_resolution_holds_although_its_job_is_gone(hall: Open) -> None:
    async with hall() as town:
        await town.escalate(help_for("e1"), help_for("e2", bead=None))
        assert (await town.resolve("e1", DecisionKind.RETRY)).resolved
        assert (await town.resolve("e2", DecisionKind.IGNORE)).resolved


async def test_the_same_resolution_twice_is_one_and_another_is_refused(hall: Open) -> None:
    async with hall() as town:
        await town.escalate(help_for("e1"))
        await town.resolve("e1", DecisionKind.RETRY)
        assert (await town.resolve("e1", DecisionKind.RETRY)).resolved
        error = await refused(town.resolve("e1", DecisionKind.ABANDON))
        assert error.type == ErrorCode.REFUSED.value


async def test_an_unknown_escalation_is_refused_as_not_found(hall: Open) -> None:
    async with hall() as town:
        for update in (town.acknowledge("e9"), town.resolve("e9", DecisionKind.RETRY)):
            assert (await refused(update)).type == ErrorCode.NOT_FOUND.value


async def test_a_resolved_escalation_told_again_stays_resolved(hall: Open) -> None:
    async with hall() as town:
        await town.escalate(help_for("e1"))
        await town.resolve("e1", DecisionKind.IGNORE)
        await town.escalate(help_for("e1"))
        assert [status.resolved for status in await town.listed()] == [True]


async def test_with_the_ledger_down_only_the_record_waits(env: WorkflowEnvironment, hall: Open) -> None:
    async with hall(EscalationRecord(readable=False)) as town:
        job = await start_job(env, "sh-1")
        await town.escalate(*(help_for(f"e{number}") for number in range(20)))
        await town.resolve("e3", DecisionKind.RETRY)
        await env.sleep(timedelta(hours=1))
        assert len((await job.query(JobProbe.heard)).decisions) == 1
        assert town.record.rows == {}
        town.record.readable = True
        await env.sleep(timedelta(minutes=5))
        assert len(town.record.rows) == 20
        assert town.record.rows["e3"].resolved, "the last change is what is recorded"


async def test_a_row_that_the_ledger_never_takes_does_not_hold_up_the_others(hall: Open) -> None:
    async with hall(EscalationRecord(refuses="e0")) as town:
        await town.escalate(*(help_for(f"e{number}") for number in range(20)))
        await town.recorded(lambda rows: len(rows) == 19)
        assert len(await town.listed()) == 20


async def test_everything_survives_two_continue_as_new_also_what_is_not_recorded_yet(
    env: WorkflowEnvironment, hall: Open
) -> None:
    async with hall(EscalationRecord(readable=False), MayorState(patience=5)) as town:
        first = await runs_of(town.mayor)
        await town.escalate(help_for("e1"), help_for("e2"))
        await town.acknowledge("e1")
        await town.resolve("e2", DecisionKind.IGNORE)
        runs = {first}
        for number in range(3, 17, 7):
            await town.escalate(*(help_for(f"e{number + n}") for n in range(7)))
            runs.add(await town.next_run(runs))
        listed = {status.id: status for status in await town.listed()}
        assert len(listed) == 16
        assert listed["e1"].acked
        assert listed["e2"].resolved
        town.record.readable = True
        # In real time: on this test server what an earlier run left under way stops the clock's skipping.
        await town.recorded(lambda rows: rows == listed)


async def test_thousands_of_escalations_pass_through_many_runs_and_all_are_recorded(
    env: WorkflowEnvironment, hall: Open
) -> None:
    async with hall(state=MayorState(patience=300)) as town:
        runs = {await runs_of(town.mayor)}
        for number in range(1200):
            await town.escalate(help_for(f"e{number}", message="x" * 500))
            if number % 400 == 399:
                # This test server lets an unbroken stream of signals keep a run from handing over.
                runs.add(await town.next_run(runs))
        await town.recorded(lambda rows: len(rows) == 1200)
        listed = await town.listed()
        assert len(listed) == OPEN_KEPT
        assert listed[-1].id == "e1199"
        assert all(not row.resolved for row in town.record.rows.values()), "what the Mayor forgot stays open there"
        assert len(runs) >= 3


async def test_a_flood_with_the_ledger_down_does_not_stop_the_mayor(env: WorkflowEnvironment, hall: Open) -> None:
    def old(number: int) -> Case:
        told = help_for(f"old-{number}", bead=None)
        known = told.model_dump(include={"id", "severity", "kind", "source", "bead", "opened_at", "message"})
        return Case(status=EscalationStatus(acked=False, **known))

    cases = tuple(old(number) for number in range(OPEN_KEPT))
    full = MayorState(cases=cases, unrecorded=tuple(case.status.id for case in cases), patience=3)
    async with hall(EscalationRecord(readable=False), full) as town:
        runs = {await runs_of(town.mayor)}
        await town.escalate(*(help_for(f"e{number}") for number in range(3)))
        await env.sleep(timedelta(minutes=2))
        await town.next_run(runs)
        listed = await town.listed()
        assert len(listed) == OPEN_KEPT
        assert [status.id for status in listed[-3:]] == ["e0", "e1", "e2"]


async def test_a_flood_faster_than_the_ledger_is_recorded_whole(hall: Open) -> None:
    async with hall(EscalationRecord(slow=True), MayorState(patience=OPEN_KEPT + 200)) as town:
        count = OPEN_KEPT + 100
        await town.escalate(*(help_for(f"e{number}") for number in range(count)))
        assert len(await town.listed()) == count, "nothing is forgotten before the record holds it"
        town.record.slow = False
        await town.recorded(lambda rows: len(rows) == count)

        async def only_the_newest() -> bool:
            return len(await town.listed()) == OPEN_KEPT

        await eventually(only_the_newest)


def test_the_fullest_state_stays_below_two_megabytes() -> None:
    def case(number: int, *, resolved: bool) -> Case:
        status = EscalationStatus(
            id=f"polecat_exhausted/{'r' * names.MAX_NAME}/sh-{number}/12",
            severity="critical",
            kind="polecat_exhausted",
            source=f"polecat/{'r' * names.MAX_NAME}/sh-{number}",
            bead=f"sh-{number}",
            opened_at=START,
            acked=True,
            message="界" * TEXT_KEPT,
            resolved=resolved,
            action="reassign",
        )
        return Case(status=status, rig="r" * names.MAX_NAME)

    cases = [case(number, resolved=number < RESOLVED_KEPT) for number in range(OPEN_KEPT + RESOLVED_KEPT)]
    state = MayorState(cases=tuple(cases), unrecorded=tuple(item.status.id for item in cases))
    assert len(state.model_dump_json().encode()) < 2_000_000
