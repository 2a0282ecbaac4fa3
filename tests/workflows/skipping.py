"""A real server whose clocks a test moves on: hours of waiting for a timer in the time of one task.

Each workflow has a clock of its own, which stands at real time until the test moves it (temporalio's
`TimeSkipper`, experimental). It skips only while nothing of the workflow is under way: no task, activity or child.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.client import Client, Interceptor, OutboundInterceptor, StartWorkflowInput, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import TimeSkipper, TimeSkippingConfig, WorkflowEnvironment

from tests.workflows.asking import AskAgain

REST_S = 0.05
CHILDREN_S = 0.2
"""how often one that does not get on is asked for its children"""
STANDS = TimeSkippingConfig(enabled=False, max_session_skip_count=1_000_000)


class SkippingEnvironment(WorkflowEnvironment):
    """A namespace whose workflows live in real time, except within `sleep` and while one's result is awaited."""

    def __init__(self, client: Client) -> None:
        self._skipper = TimeSkipper(client, config=STANDS)
        self._started: set[str] = set()
        config = self._skipper.client.config()
        config["interceptors"] = [*config["interceptors"], AskAgain(), _Starts(self._started, self._skipper)]
        super().__init__(Client(**config))

    async def sleep(self, duration: timedelta | float) -> None:
        """Let time pass for every workflow that runs, until all that it led to is done.

        One whose child outlives that time never gets there: its clock stands while the child runs.
        """
        await self._move_on(self._started, duration)
        while not all([await self._is_at_rest(workflow_id) for workflow_id in self._started]):
            await asyncio.sleep(REST_S)

    async def get_current_time(self, handle: WorkflowHandle[Any, Any] | None = None) -> datetime:
        """The clock of that workflow; without one, the clock that has been moved on furthest."""
        if handle is not None:
            return await self._skipper.get_current_time(handle)
        handles = [self.client.get_workflow_handle(each) for each in self._started]
        return max([datetime.now(UTC), *[await self._skipper.get_current_time(each) for each in handles]])

    async def _move_on(self, workflow_ids: set[str], duration: timedelta | float) -> None:
        async with asyncio.TaskGroup() as group:
            for workflow_id in workflow_ids:
                group.create_task(self._move_one_on(workflow_id, duration))

    async def _move_one_on(self, workflow_id: str, duration: timedelta | float) -> None:
        moving = asyncio.create_task(self._fast_forward(workflow_id, duration))
        moved: set[str] = set()
        while not (await asyncio.wait([moving], timeout=CHILDREN_S))[0]:
            children = await self._children(workflow_id) - moved
            await self._move_on(children, duration)
            moved |= children
        await moving

    async def _fast_forward(self, workflow_id: str, duration: timedelta | float) -> None:
        with _one_that_may_have_ended():
            await self._skipper.fast_forward(self.client.get_workflow_handle(workflow_id), duration)

    async def _is_at_rest(self, workflow_id: str) -> bool:
        description = await self.client.get_workflow_handle(workflow_id).describe()
        facts = description.raw_description
        is_under_way = [not each.HasField("next_attempt_schedule_time") for each in facts.pending_activities]
        return description.close_time is not None or not (facts.HasField("pending_workflow_task") or any(is_under_way))

    async def _children(self, workflow_id: str) -> set[str]:
        description = await self.client.get_workflow_handle(workflow_id).describe()
        return {child.workflow_id for child in description.raw_description.pending_children}


@contextlib.contextmanager
def _one_that_may_have_ended() -> Any:
    try:
        yield
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise


class _Starts(Interceptor):
    def __init__(self, started: set[str], skipper: TimeSkipper) -> None:
        self._started = started
        self._skipper = skipper

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _StartsOutbound(super().intercept_client(next), self._started, self._skipper)


class _StartsOutbound(OutboundInterceptor):
    def __init__(self, next: OutboundInterceptor, started: set[str], skipper: TimeSkipper) -> None:
        super().__init__(next)
        self._started = started
        self._skipper = skipper

    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        handle = await super().start_workflow(input)
        self._started.add(input.id)
        handle.__class__ = _SkippingHandle
        handle._skipper = self._skipper  # type: ignore[attr-defined]
        return handle


class _SkippingHandle(WorkflowHandle[Any, Any]):
    _skipper: TimeSkipper

    async def result(self, **how: Any) -> Any:
        with _one_that_may_have_ended():
            await self._skipper.fast_forward(self)
        return await super().result(**how)
