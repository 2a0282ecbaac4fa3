"""Where a merge's host work is done: chains, gates and landings, on the hosts that answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    TimeoutError,
    TimeoutType,
    is_cancelled_exception,
)
from temporalio.workflow import ActivityCancellationType

with workflow.unsafe.imports_passed_through():
    from activities.gates.run import GateActivities
    from activities.git.merging.landing import LandingActivities
    from activities.host_checks import HostCheckActivities
    from models.errors import ErrorCode
    from models.refinery.gates import GateOutcome, GateReport, RunGates
    from models.refinery.messages import BuildChain, Chain, LandChain, LandResult
    from policies.job.long_steps import counted
    from policies.refinery.merge_failures import is_overdue, may_be_a_change, pause_after, waits_for_outside
    from workflows.shared import activity_options
    from workflows.shared.activity_options import ActivityOptions

Result = TypeVar("Result")
Work = Callable[[str], Awaitable[Result]]
ANSWER_WITHIN = timedelta(seconds=10)
"""how long a host that takes no gate has to show that it is only busy"""


@dataclass
class Step:
    """Host work that is being waited for."""

    what: str
    expected: timedelta = timedelta(0)
    """how long it may take when all is well"""
    takes_core: bool = False
    """it waits for a free core of its host, however long"""
    waited: timedelta | None = None
    """counted from the first look at it"""
    failures: int = 0
    last_words: str = ""

    @property
    def waited_minutes(self) -> int:
        return int(self.waited / timedelta(minutes=1)) if self.waited else 0

    @property
    def overdue(self) -> bool:
        return self.waited is not None and is_overdue(self.waited, self.expected, failed=self.failures > 0)


class MergeHosts:
    """Places host work: chains and landings on the preferred host, gates on the least busy one.

    A host on which nobody takes work in time is left out from then on; one whose cores are all busy
    is passed over. One that lacks the chain's commits builds it itself: the same inputs give the same
    commits everywhere. Work that fails for what is outside is tried until it succeeds; every other
    failure is its caller's to judge.

    Args:
        hosts: the preferred one first.
        silent_s: how long work waits to be taken while there is another host to try.
    """

    def __init__(self, hosts: tuple[str, ...], silent_s: int) -> None:
        self._busy = dict.fromkeys(hosts, 0)
        self._full = dict.fromkeys(hosts, 0)
        """how often in a row no core was free there in time"""
        self._silent_after = timedelta(seconds=silent_s)
        self._silent: set[str] = set()
        self._order: BuildChain | None = None
        """builds the present chain again, on its own base"""
        self._steps: list[Step] = []

    @property
    def first(self) -> str:
        """Where chains are built and landed now."""
        return self._living()[0]

    async def build(self, order: BuildChain) -> Chain:
        """Build a chain; what is gated and landed from here on is of this one."""
        chain = await self.try_build(order)
        self._order = order.model_copy(update={"base_sha": chain.base_sha, "forks": chain.forks})
        return chain

    async def try_build(self, order: BuildChain) -> Chain:
        """Build a chain that is only looked at."""
        step = Step(f"a chain of {len(order.changes)} on {order.target}")
        return await self._placed(self._first, lambda host: self._build(order, host), step)

    async def gate(self, order: RunGates, longest: timedelta, summary: str) -> GateReport:
        """Run gates at a commit of the present chain. A host that cannot even begin is a gate that could not run."""

        async def run(host: str) -> GateReport:
            chosen = activity_options.gates(host, longest)
            report = await workflow.execute_activity_method(
                GateActivities.run_gates, order, summary=summary, **self._bounded(chosen)
            )
            self._full[host] = 0
            return report

        try:
            step = Step(summary, expected=longest, takes_core=True)
            return await self._placed(self._least_busy, lambda host: self._with_chain(host, run), step)
        except ActivityError as error:
            kind = failure_kind(error)
            if is_cancelled_exception(error) or not may_be_a_change(kind):
                raise
            words = str(error.cause or error)
            return GateReport(outcome=GateOutcome.COULD_NOT_RUN, reason=kind or "", tail=words)

    async def land(self, order: LandChain) -> LandResult:
        """Land links of the present chain. Cancelled it ends once nothing is pushed any more."""

        async def push(host: str) -> LandResult:
            return await workflow.execute_activity_method(
                LandingActivities.land_chain,
                order,
                summary=f"land {len(order.links)} on {order.target}",
                cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
                **self._bounded(activity_options.merge_work(host)),
            )

        step = Step(f"the landing of {len(order.links)} on {order.target}")
        return await self._placed(self._first, lambda host: self._with_chain(host, push), step)

    def overdue(self, pause: timedelta, late_by: timedelta) -> str:
        """What a person must hear of, after one more pause; "" for nothing.

        Args:
            late_by: how much later than due the pause ended.
        """
        for step in self._steps:
            # A step that has begun within the pause is counted from here on.
            step.waited = timedelta(0) if step.waited is None else counted(step.waited, pause, late_by)
        late = [step for step in self._steps if step.overdue]
        return "; ".join(
            f"{step.what} has not come about for {step.waited_minutes} minutes, it is tried on"
            + (f" (last: {step.last_words})" if step.last_words else "")
            for step in late
        )

    async def _build(self, order: BuildChain, host: str) -> Chain:
        return await workflow.execute_activity_method(
            LandingActivities.build_chain,
            order,
            summary=f"chain of {len(order.changes)} on {order.target}",
            **self._bounded(activity_options.merge_work(host)),
        )

    async def _with_chain(self, host: str, work: Work[Result]) -> Result:
        """Do `work` on a host that may lack the chain."""
        try:
            return await work(host)
        except ActivityError as error:
            if failure_kind(error) != ErrorCode.NOT_FOUND.value or not self._order:
                raise
        await self._build(self._order, host)
        return await work(host)

    async def _placed(self, choose: Callable[[], str], work: Work[Result], step: Step) -> Result:
        """Do `work` on the host that `choose` names, on another where nobody takes it, again where that may help.

        Raises:
            ActivityError: the work failed.
        """
        self._steps.append(step)
        try:
            while True:
                end_if_cancelled()
                host = choose()
                self._busy[host] += 1
                try:
                    return await work(host)
                except ActivityError as error:
                    if _never_taken(error):
                        if step.takes_core and await self._answers(host):
                            self._full[host] += 1
                        else:
                            workflow.logger.warning("nobody takes work on %s", host)
                            self._silent.add(host)
                        continue
                    if is_cancelled_exception(error) or not waits_for_outside(failure_kind(error)):
                        raise
                    step.failures += 1
                    step.last_words = str(error.cause or error)
                finally:
                    self._busy[host] -= 1
                await workflow.sleep(pause_after(step.failures), summary=f"again: {step.last_words}"[:200])
        finally:
            self._steps.remove(step)

    async def _answers(self, host: str) -> bool:
        """Whether a worker of the host takes what waits for no core."""
        try:
            await workflow.execute_activity_method(
                HostCheckActivities.look_at_host,
                summary=f"is {host} only busy?",
                **activity_options.look_at_host(host, min(self._silent_after, ANSWER_WITHIN)),
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            return not _never_taken(error)
        return True

    def _bounded(self, chosen: ActivityOptions) -> ActivityOptions:
        """With only one host left there is nothing to do but wait for it."""
        if len(self._living()) > 1:
            chosen["schedule_to_start_timeout"] = self._silent_after
        return chosen

    def _first(self) -> str:
        return self.first

    def _least_busy(self) -> str:
        return min(self._living(), key=lambda host: self._busy[host] + self._full[host])

    def _living(self) -> list[str]:
        """Where all are silent all of them count: one of them will come back."""
        return [host for host in self._busy if host not in self._silent] or list(self._busy)


def end_if_cancelled() -> None:
    """End a task that was cancelled in the very moment in which what it awaited ended: the SDK returns the result then.

    Raises:
        asyncio.CancelledError: it was.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def failure_kind(error: ActivityError) -> str | None:
    """The code of the error that work failed with; None: a time limit, or a worker that is gone."""
    return error.cause.type if isinstance(error.cause, ApplicationError) else None


def _never_taken(error: ActivityError) -> bool:
    return isinstance(error.cause, TimeoutError) and error.cause.type == TimeoutType.SCHEDULE_TO_START
