"""Where a merge's host work is done: chains, gates and landings, on the hosts that answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError, TimeoutType

with workflow.unsafe.imports_passed_through():
    from activities.gates.run import GateActivities
    from activities.git.landing import LandingActivities
    from models.errors import ErrorCode
    from models.gating import GateReport, RunGates
    from models.merging import BuildChain, Chain, LandChain, LandResult
    from workflows import options
    from workflows.options import ActivityOptions

Result = TypeVar("Result")
Work = Callable[[str], Awaitable[Result]]


class MergeHosts:
    """Places host work: chains and landings on the preferred host, gates on the least busy one.

    A host on which nobody takes work in time is left out from then on. One that lacks the chain's
    commits builds it itself: the same inputs give the same commits everywhere.

    Args:
        hosts: the preferred one first.
        silent_s: how long work waits to be taken while there is another host to try.
    """

    def __init__(self, hosts: tuple[str, ...], silent_s: int) -> None:
        self._busy = dict.fromkeys(hosts, 0)
        self._silent_after = timedelta(seconds=silent_s)
        self._silent: set[str] = set()
        self._order: BuildChain | None = None
        """builds the present chain again, on its own base"""

    async def build(self, order: BuildChain) -> Chain:
        """Build a chain; what is gated and landed from here on is of this one."""
        chain = await self._placed(self._first, lambda host: self._build(order, host))
        self._order = order.model_copy(update={"base_sha": chain.base_sha, "forks": chain.forks})
        return chain

    async def gate(self, order: RunGates, longest: timedelta, summary: str) -> GateReport:
        """Run gates at a commit of the present chain."""

        async def run(host: str) -> GateReport:
            chosen = options.gates(host, longest)
            return await workflow.execute_activity_method(
                GateActivities.run_gates, order, summary=summary, **self._bounded(chosen)
            )

        return await self._placed(self._least_busy, lambda host: self._with_chain(host, run))

    async def land(self, order: LandChain) -> LandResult:
        """Land links of the present chain."""

        async def push(host: str) -> LandResult:
            return await workflow.execute_activity_method(
                LandingActivities.land_chain,
                order,
                summary=f"land {len(order.links)} on {order.target}",
                **self._bounded(options.host_work(host)),
            )

        return await self._placed(self._first, lambda host: self._with_chain(host, push))

    async def _build(self, order: BuildChain, host: str) -> Chain:
        return await workflow.execute_activity_method(
            LandingActivities.build_chain,
            order,
            summary=f"chain of {len(order.changes)} on {order.target}",
            **self._bounded(options.host_work(host)),
        )

    async def _with_chain(self, host: str, work: Work[Result]) -> Result:
        """Do `work` on a host that may lack the chain."""
        try:
            return await work(host)
        except ActivityError as error:
            cause = error.cause
            if not isinstance(cause, ApplicationError) or cause.type != ErrorCode.NOT_FOUND.value or not self._order:
                raise
        await self._build(self._order, host)
        return await work(host)

    async def _placed(self, choose: Callable[[], str], work: Work[Result]) -> Result:
        """Do `work` on the host that `choose` names, and on another where nobody takes it.

        Raises:
            ActivityError: the work failed.
        """
        while True:
            host = choose()
            self._busy[host] += 1
            try:
                return await work(host)
            except ActivityError as error:
                if not _never_taken(error):
                    raise
                workflow.logger.warning("nobody takes work on %s", host)
                self._silent.add(host)
            finally:
                self._busy[host] -= 1

    def _bounded(self, chosen: ActivityOptions) -> ActivityOptions:
        """With only one host left there is nothing to do but wait for it."""
        if len(self._living()) > 1:
            chosen["schedule_to_start_timeout"] = self._silent_after
        return chosen

    def _first(self) -> str:
        return self._living()[0]

    def _least_busy(self) -> str:
        return min(self._living(), key=lambda host: self._busy[host])

    def _living(self) -> list[str]:
        """Where all are silent all of them count: one of them will come back."""
        return [host for host in self._busy if host not in self._silent] or list(self._busy)


def _never_taken(error: ActivityError) -> bool:
    return isinstance(error.cause, TimeoutError) and error.cause.type == TimeoutType.SCHEDULE_TO_START
