"""What a town does by the clock: every Temporal Schedule, declared in one place.

A Schedule starts a workflow, skips a start while the last one runs, and makes nothing up after
an outage. Pausing one is a person's to do (`temporal schedule toggle`, Web UI) and stays.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionExecutionStartWorkflow,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError, RPCStatusCode

from models import names
from models.names import WorkflowType
from models.settings import DeadmanSettings
from policies.supervision.watchdog import BOOT_INTERVAL

CATCH_UP = timedelta(minutes=1)
"""A start that was missed by more than this, because the server was down, is left out."""
UPKEEP_INTERVAL = timedelta(hours=1)
VERIFY_INTERVAL = timedelta(hours=1)
START_S = 60.0
"""A triggered start waits for the run that is under way."""
_ROLE = SearchAttributeKey.for_keyword("GtRole")


@dataclass(frozen=True)
class Scheduled:
    """One Schedule. Its workflows have the id `<id>-<time>` and take no input."""

    id: str
    workflow: WorkflowType
    spec: ScheduleSpec
    summary: str
    limit: timedelta
    """longest run: one that hangs must not keep all later ones from starting"""

    def schedule(self) -> Schedule:
        return Schedule(
            action=ScheduleActionStartWorkflow(
                self.workflow.value,
                id=self.id,
                task_queue=names.TOWN_QUEUE,
                execution_timeout=self.limit,
                static_summary=self.summary,
                typed_search_attributes=TypedSearchAttributes([SearchAttributePair(_ROLE, self.id)]),
            ),
            spec=self.spec,
            policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=CATCH_UP),
        )


SCHEDULES: tuple[Scheduled, ...] = (
    Scheduled(
        id=names.BOOT_ID,
        workflow=WorkflowType.BOOT,
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=BOOT_INTERVAL)]),
        summary="Boot: is the Deacon alive?",
        limit=timedelta(minutes=15),
    ),
    Scheduled(
        id=names.UPKEEP_ID,
        workflow=WorkflowType.UPKEEP,
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=UPKEEP_INTERVAL)]),
        summary="Upkeep: the ledger's garbage",
        limit=timedelta(minutes=55),
    ),
    Scheduled(
        id=names.VERIFY_ID,
        workflow=WorkflowType.VERIFY,
        # Not when upkeep begins.
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=VERIFY_INTERVAL, offset=VERIFY_INTERVAL / 2)]),
        summary="Verify: do Dolt, git and Temporal agree?",
        limit=timedelta(minutes=55),
    ),
)


def deadman(interval: timedelta) -> Scheduled:
    """The dead man's switch, for a town that has one."""
    return Scheduled(
        id=names.DEADMAN_ID,
        workflow=WorkflowType.DEADMAN,
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=interval)]),
        summary="Dead man's switch: this town lives",
        limit=timedelta(minutes=2),
    )


async def keep_deadman(client: Client, settings: DeadmanSettings) -> None:
    """Create, change or remove the Schedule of the dead man's switch, as the settings say.

    Raises:
        RPCError: Temporal does not answer.
    """
    if settings.url:
        await keep_schedules(client, [deadman(timedelta(seconds=settings.interval))])
        return
    try:
        await client.get_schedule_handle(names.DEADMAN_ID).delete()
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise


async def keep_schedules(client: Client, wanted: Sequence[Scheduled] = SCHEDULES) -> None:
    """Create what is missing, and bring what differs up to date; a second time changes nothing.

    Raises:
        RPCError: Temporal does not answer.
    """
    for entry in wanted:
        try:
            await client.create_schedule(entry.id, entry.schedule())
        except ScheduleAlreadyRunningError:
            await _bring_up_to_date(client, entry)


async def _bring_up_to_date(client: Client, entry: Scheduled) -> None:
    handle = client.get_schedule_handle(entry.id)
    ours = entry.schedule()

    def change(known: ScheduleUpdateInput) -> ScheduleUpdate | None:
        theirs = known.description.schedule
        if _same(theirs, ours):
            return None
        # The state stays: it says whether a person paused it.
        return ScheduleUpdate(dataclasses.replace(ours, state=theirs.state))

    await handle.update(change)


def _same(theirs: Schedule, ours: Schedule) -> bool:
    assert isinstance(ours.action, ScheduleActionStartWorkflow)
    action = theirs.action
    return (
        isinstance(action, ScheduleActionStartWorkflow)
        and (action.workflow, action.task_queue) == (ours.action.workflow, ours.action.task_queue)
        and action.execution_timeout == ours.action.execution_timeout
        and _times(theirs.spec) == _times(ours.spec)
        and theirs.policy == ours.policy
    )


def _times(spec: ScheduleSpec) -> tuple[object, ...]:
    """What of a spec says when; the server fills in defaults elsewhere."""
    intervals = [(each.every, each.offset or timedelta(0)) for each in spec.intervals]
    return (intervals, list(spec.calendars), spec.jitter or timedelta(0), spec.time_zone_name or "")


class Started(NamedTuple):
    """One start by a Schedule. Two within one second have the same workflow id, but never the same run."""

    workflow_id: str
    run_id: str


class ScheduleState(NamedTuple):
    """What Temporal knows of one Schedule."""

    paused: bool
    note: str
    next_at: datetime | None
    started: tuple[Started, ...]
    """its latest, oldest first"""


async def look_at(client: Client, schedule: str) -> ScheduleState | None:
    """The state of a Schedule; None: there is no such one.

    Raises:
        RPCError: Temporal does not answer.
    """
    try:
        known = await client.get_schedule_handle(schedule).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise
    actions = [result.action for result in known.info.recent_actions]
    return ScheduleState(
        paused=known.schedule.state.paused,
        note=known.schedule.state.note or "",
        next_at=next(iter(known.info.next_action_times), None),
        started=tuple(
            Started(each.workflow_id, each.first_execution_run_id)
            for each in actions
            if isinstance(each, ScheduleActionExecutionStartWorkflow)
        ),
    )


async def verify_soon(client: Client) -> bool:
    """Have Dolt, git and Temporal compared, after the run that may be under way. False: Temporal does not do it now.

    The next look by the hour comes anyway.
    """
    try:
        await client.get_schedule_handle(names.VERIFY_ID).trigger(overlap=ScheduleOverlapPolicy.BUFFER_ONE)
    except RPCError:
        return False
    return True


async def run_now(client: Client, schedule: str) -> Started:
    """Start what a Schedule starts, after the run that may be under way; it also works on a paused one.

    Raises:
        RPCError: there is no such Schedule, or Temporal does not answer.
        TimeoutError: nothing was started within START_S.
    """
    handle = client.get_schedule_handle(schedule)
    before = await look_at(client, schedule)
    await handle.trigger(overlap=ScheduleOverlapPolicy.BUFFER_ONE)
    async with asyncio.timeout(START_S):
        while True:
            now = await look_at(client, schedule)
            new = [each for each in now.started if before is None or each not in before.started] if now else []
            if new:
                return new[0]
            await asyncio.sleep(0.1)
