"""One timer for many waits: how many are started, and that each wait has its own time."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.testing import WorkflowEnvironment

from models import names
from tests.workflows.conftest import WorkerBuilder
from workflows.shared.timers import Alarm

MINUTE = timedelta(minutes=1)


@workflow.defn
class WaitingWorkflow:
    """Waits as often as it is told; returns the seconds that each wait that was over took, 0 for one that held."""

    def __init__(self) -> None:
        self._alarm = Alarm()
        self._told = 0

    @workflow.run
    async def run(self, minutes: list[int], told: int) -> list[int]:
        took = []
        for number, each in enumerate(minutes):
            began = workflow.now()
            held = await self._alarm.wait(lambda number=number: self._told > number, each * MINUTE, f"wait {number}")  # type: ignore[misc]
            took.append(0 if held else round((workflow.now() - began).total_seconds()))
        return took

    @workflow.signal
    def tell(self, times: int) -> None:
        self._told += times


async def waits(
    env: WorkflowEnvironment, workers: WorkerBuilder, minutes: list[int], told: int
) -> tuple[list[int], int]:
    """The first `told` waits hold at once. Returns: what each took, and the timers that were started."""
    async with workers(workflows=[WaitingWorkflow]):
        handle = await env.client.start_workflow(
            WaitingWorkflow.run, args=[minutes, told], id="waits", task_queue=names.TOWN_QUEUE,
            start_signal="tell", start_signal_args=[told],
        )  # fmt: skip
        took = await handle.result()
        events = [event async for event in handle.fetch_history_events()]
    return took, sum(event.HasField("timer_started_event_attributes") for event in events)


async def test_waits_that_end_early_share_a_timer_and_the_next_one_has_its_whole_time(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    took, timers = await waits(env, workers, [10, 10, 10, 30], told=3)
    assert (took[:3], timers) == ([0, 0, 0], 2)
    assert took[3] >= 30 * 60


async def test_a_wait_that_is_due_sooner_starts_a_timer_of_its_own(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    took, timers = await waits(env, workers, [10, 1, 10], told=1)
    assert (took[0], timers) == (0, 2), "the first one's ended before it was begun"
    assert 60 <= took[1] < 600
    assert took[2] >= 600
