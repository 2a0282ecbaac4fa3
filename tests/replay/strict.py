"""Replays a history, and compares what Temporal does not: durations of timers, and what people read of each step.

`python -m tests.replay.strict TYPE…` replays the recorded histories of these workflow types, in whatever package is
first on the path.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from google.protobuf.duration_pb2 import Duration
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.sdk.v1 import UserMetadata
from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_commands import WorkflowCommand
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, WorkflowInstance, _replayer, _workflow

from services.worker.wrapped_runner import WrappedInstance, WrappedRunner
from tests.replay.histories import HISTORIES, Recorded, load
from workflows.registry import WORKFLOWS
from workflows.shared.sandbox import workflow_runner

STALL_S = 60
"""A replayed task that takes this long is taken for a deadlock; the SDK's 2 s are over on a busy machine."""
Steps = dict[str, str]
"""by the timer's or activity's id: what it is, for how long, and what people read of it"""


class _PatientWorker(_workflow._WorkflowWorker):
    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self._deadlock_timeout_seconds = STALL_S


_replayer._WorkflowWorker = _PatientWorker  # type: ignore[attr-defined]  # it has no public setting


class Differs(AssertionError):
    """The code of today asks for something else than was recorded."""


async def replay(recorded: Recorded) -> None:
    """Replay one history.

    Raises:
        Differs: a timer's duration, an activity's queue or limits, or a summary is another one.
        Exception: Temporal's own, where the code goes another way.
    """
    asked: Steps = {}
    replayer = Replayer(
        workflows=WORKFLOWS,
        data_converter=pydantic_data_converter,
        workflow_runner=WrappedRunner(workflow_runner(), lambda inner: _Noted(inner, asked)),
    )
    history = recorded.history
    await replayer.replay_workflow(history)
    was = {key: said for event in history.events for key, said in _of_event(event).items()}
    other = [
        f"{key}: {said} was recorded, {asked.get(key)} is asked for"
        for key, said in was.items()
        if asked.get(key) != said
    ]
    if other:
        raise Differs("\n".join(other))


def _of_event(event: HistoryEvent) -> Steps:
    if event.HasField("timer_started_event_attributes"):
        timer = event.timer_started_event_attributes
        return {f"timer {timer.timer_id}": _timer(timer.start_to_fire_timeout, event.user_metadata)}
    if event.HasField("activity_task_scheduled_event_attributes"):
        activity = event.activity_task_scheduled_event_attributes
        return {
            f"activity {activity.activity_id}": _activity(
                activity, activity.activity_type.name, activity.task_queue.name, event.user_metadata
            )
        }
    return {}


def _of_command(command: WorkflowCommand) -> Steps:
    if command.HasField("start_timer"):
        timer = command.start_timer
        return {f"timer {timer.seq}": _timer(timer.start_to_fire_timeout, command.user_metadata)}
    if command.HasField("schedule_activity"):
        activity = command.schedule_activity
        return {
            f"activity {activity.activity_id}": _activity(
                activity, activity.activity_type, activity.task_queue, command.user_metadata
            )
        }
    return {}


def _timer(duration: Duration, read: UserMetadata) -> str:
    return f"{duration.ToTimedelta()} for {_summary(read)}"


def _activity(limits: Any, kind: str, queue: str, read: UserMetadata) -> str:
    return f"{kind} on {queue} within {limits.start_to_close_timeout.ToTimedelta()} for {_summary(read)}"


def _summary(read: UserMetadata) -> str:
    return read.summary.data.decode()


class _Noted(WrappedInstance):
    """Notes in `asked` what a workflow asks for."""

    def __init__(self, inner: WorkflowInstance, asked: Steps) -> None:
        super().__init__(inner)
        self._asked = asked

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        completion = self._inner.activate(act)
        for command in completion.successful.commands:
            self._asked.update(_of_command(command))
        return completion


async def _all(types: list[str]) -> None:
    for file in sorted(HISTORIES.glob("*.json.gz")):
        recorded = load(file)
        if recorded.type in types:
            await replay(recorded)


if __name__ == "__main__":
    asyncio.run(_all(sys.argv[1:]))
