"""What a landed job costs: events and workflow tasks in Temporal's histories, CPU of the worker and of the server."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Final

import psutil
from temporalio.api.enums.v1 import EventType

from models.names import WorkflowType
from services.supervisor import programs
from services.supervisor.up_and_down import service_states
from services.temporal.client import connect
from services.town import Town

WAIT_S: Final = 300.0
OF_JOBS: Final = tuple(
    each.value
    for each in (
        WorkflowType.POLECAT,
        WorkflowType.DISPATCH,
        WorkflowType.WITNESS,
        WorkflowType.REFINERY,
        WorkflowType.MERGE,
    )
)


class JobCost:
    """Counts from its creation on.

    Args:
        town: one that is up, and of which nobody else asks anything meanwhile.
    """

    def __init__(self, town: Town) -> None:
        self._town = town
        self._events = asyncio.run(_events(town))
        self._cpu_s = _cpu_s(town)

    def figures(self, jobs: int) -> dict[str, Any]:
        """What each of `jobs` has cost since, once none runs any more; long-lived workflows have their share in it."""
        asyncio.run(_all_ended(self._town))
        events = asyncio.run(_events(self._town)) - self._events
        cpu_s = {name: seconds - self._cpu_s[name] for name, seconds in _cpu_s(self._town).items()}
        by_type = Counter[str]()
        tasks = Counter[str]()
        for (workflow_type, event), count in events.items():
            by_type[workflow_type] += count
            tasks[workflow_type] += count * (event == "WORKFLOW_TASK_COMPLETED")
        return {
            "events_per_job": round(events.total() / jobs, 1),
            "workflow_tasks_per_job": round(tasks.total() / jobs, 1),
            "events_per_job_by_workflow": {name: round(by_type[name] / jobs, 1) for name in OF_JOBS},
            "workflow_tasks_per_job_by_workflow": {name: round(tasks[name] / jobs, 1) for name in OF_JOBS},
            "events_of_a_job_itself": {
                event: round(count / jobs, 2)
                for (workflow_type, event), count in sorted(events.items())
                if workflow_type == WorkflowType.POLECAT.value
            },
            "cpu_milliseconds_per_job": {name: round(1000 * seconds / jobs) for name, seconds in cpu_s.items()},
        }


async def _all_ended(town: Town) -> None:
    """Wait for the jobs' last steps, which follow the merge."""
    client = await connect(town)
    running = f"WorkflowType = '{WorkflowType.POLECAT.value}' AND ExecutionStatus = 'Running'"
    async with asyncio.timeout(WAIT_S):
        while (await client.count_workflows(running)).count:
            await asyncio.sleep(0.2)


async def _events(town: Town) -> Counter[tuple[str, str]]:
    """How many events of each kind are in the histories of jobs and of those that serve them."""
    client = await connect(town)
    found = Counter[tuple[str, str]]()
    query = " OR ".join(f"WorkflowType = '{name}'" for name in OF_JOBS)
    async for execution in client.list_workflows(query):
        handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
        async for event in handle.fetch_history_events():
            kind = EventType.Name(event.event_type).removeprefix("EVENT_TYPE_")
            found[execution.workflow_type, kind] += 1
    return found


def _cpu_s(town: Town) -> dict[str, float]:
    """CPU seconds that these two services themselves have used, without the git and tmux that they start."""
    pids = {state.name: state.pid for state in service_states(town)}
    used = {name: psutil.Process(pids[name]).cpu_times() for name in (programs.WORKER, programs.TEMPORAL)}
    return {name: times.user + times.system for name, times in used.items()}
