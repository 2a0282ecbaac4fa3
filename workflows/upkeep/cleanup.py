"""Cleanup on a person's order: look at hosts and jobs, decide, act, and tell what became of each piece."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from activities.job_status_queries import StandingActivities
from activities.sessions.cleanup import CleanupActivities
from models import names
from models.job.messages import Decision, DecisionKind
from models.names import WorkflowType
from models.upkeep.cleanup import (
    CleanUp,
    CleanupAction,
    CleanupItem,
    CleanupOrder,
    CleanupReport,
    CleanupStep,
    InspectPolecats,
    JobsAsked,
    JobStandings,
    PolecatFound,
)
from policies.upkeep.cleanup import pieces, plan
from workflows.job.host_work import failure_of
from workflows.shared import activity_options
from workflows.shared.signals import tell
from workflows.shared.web_ui import Labels, details

LETS_GO_WITHIN = timedelta(seconds=90)
"""a job that was asked to let go of its polecat has ended its session and parked its work by then"""
LOOK_AGAIN = timedelta(seconds=1)


@workflow.defn(name=WorkflowType.CLEANUP)
class CleanupWorkflow:
    """One order. What is not finished, because a remote is away, is told; the same order again goes on with it."""

    def __init__(self) -> None:
        self._labels = Labels()
        self._report = CleanupReport()

    @workflow.run
    async def run(self, order: CleanupOrder) -> CleanupReport:
        """Look, decide and act."""
        self._show(order, "looking")
        found, unreached = await self._look(order)
        jobs = await self._standings(order, sorted({bead for one in found for bead in pieces(one) if bead}))
        steps = plan(order, found, jobs.jobs)
        self._report = CleanupReport(unreached=tuple(unreached))
        for step in steps:
            item = CleanupItem(**step.model_dump()) if order.dry_run else await self._do(order, step)
            self._report = self._report.model_copy(update={"items": (*self._report.items, item)})
            self._show(order, "cleaning")
        self._show(order, "done")
        return self._report

    @workflow.query(description="What was done so far")
    def progress(self) -> CleanupReport:
        return self._report

    async def _look(self, order: CleanupOrder) -> tuple[list[PolecatFound], list[str]]:
        """What the hosts have, and which of them did not answer."""

        async def one(host: str) -> tuple[PolecatFound, ...] | None:
            try:
                answer = await workflow.execute_activity_method(
                    CleanupActivities.inspect_polecats,
                    InspectPolecats(rig=order.rig.name, host=host),
                    summary=f"look at polecats on {host}",
                    **activity_options.errand(host),
                )
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
                return None
            return answer.polecats

        answers = await asyncio.gather(*(one(host) for host in order.hosts))
        unreached = [host for host, answer in zip(order.hosts, answers, strict=True) if answer is None]
        return [polecat for answer in answers for polecat in answer or ()], unreached

    async def _standings(self, order: CleanupOrder, beads: list[str]) -> JobStandings:
        if not beads:
            return JobStandings()
        return await workflow.execute_activity_method(
            StandingActivities.job_standings,
            JobsAsked(rig=order.rig.name, beads=tuple(beads)),
            summary=f"how do {len(beads)} jobs stand?",
            **activity_options.control(),
        )

    async def _do(self, order: CleanupOrder, step: CleanupStep) -> CleanupItem:
        if step.action is CleanupAction.REASSIGN:
            return await self._reassign(order, step)
        if step.action is CleanupAction.CLEAN:
            return await self._clean(order, step)
        return CleanupItem(**step.model_dump(), kept_reason=step.why)

    async def _reassign(self, order: CleanupOrder, step: CleanupStep) -> CleanupItem:
        """Ask the job to go on with another polecat, and wait until it has left this one."""
        reason = order.cause or "cleaned up"
        job_id = names.polecat_id(order.rig.name, step.bead)
        await tell(job_id, "decision", Decision(kind=DecisionKind.REASSIGN, reason=reason))
        deadline = workflow.now() + LETS_GO_WITHIN
        while workflow.now() < deadline:
            await workflow.sleep(LOOK_AGAIN, summary=f"{step.bead} lets go of {step.polecat}")
            job = (await self._standings(order, [step.bead])).jobs.get(step.bead)
            if job is None or (job.polecat, job.host) != (step.polecat, step.host):
                return CleanupItem(**step.model_dump(), session_ended=True, worktree_freed=True)
        return CleanupItem(**step.model_dump(), kept_reason=f"{step.bead} has not let go of it yet")

    async def _clean(self, order: CleanupOrder, step: CleanupStep) -> CleanupItem:
        request = CleanUp(
            rig=order.rig,
            polecat=step.polecat,
            bead=step.bead,
            attempt=step.attempt,
            cause=f"{order.cause}: {step.why}".removeprefix(": "),
            force=step.force,
        )
        try:
            done = await workflow.execute_activity_method(
                CleanupActivities.clean_up,
                request,
                summary=f"clean up {step.polecat} on {step.host}",
                **activity_options.errand(step.host),
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            return CleanupItem(**step.model_dump(), kept_reason=failure_of(error)[0])
        return CleanupItem(**step.model_dump(), **done.model_dump())

    def _show(self, order: CleanupOrder, state: str) -> None:
        self._labels.show(role="cleanup", state=state, rig=order.rig.name)
        items = self._report.items
        rows: dict[str, str | int | None] = {
            "what": order.polecat or order.kind.value,
            "hosts": ", ".join(order.hosts),
            "done": len([item for item in items if not item.kept_reason]),
            "kept": "; ".join(f"{item.polecat}: {item.kept_reason}" for item in items if item.kept_reason),
        }
        workflow.set_current_details(details(f"Cleanup of {order.rig.name}", rows, "gt polecat list"))
