"""One thing that a person asks of one host, and its answer."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError

from activities.gates.run import GateActivities
from activities.git.merging.integration import IntegrationActivities
from activities.git.merging.landing import LandingActivities
from activities.git.worktree.parked import ParkedActivities
from activities.sessions.inbox import PostActivities
from activities.sessions.nudging import NudgeActivities
from models.errors import ErrorCode, Level
from models.names import WorkflowType
from models.refinery.gates import RunGates
from models.refinery.messages import BuildChain
from models.supervision.host_requests import (
    CheckGates,
    CreateBranch,
    DeliverLetter,
    Errand,
    ErrandResult,
    ExpireParked,
    HandInBranch,
    ListParked,
    LookAtBranch,
    Nudge,
    Unpark,
)
from workflows.shared import activity_options
from workflows.shared.web_ui import Labels


@workflow.defn(name=WorkflowType.ERRAND)
class ErrandWorkflow:
    """Ends with the activity's answer, or with its failure."""

    @workflow.run
    async def run(self, errand: Errand) -> ErrandResult:
        """Run it on its host.

        Raises:
            ApplicationError: TEMPORAL_UNREACHABLE where no worker of the host takes it; the activity's own failure.
        """
        rig = errand.task.rig
        Labels().show(role="errand", state=errand.task.kind, rig=rig if isinstance(rig, str) else rig.name)
        try:
            return await self._run(errand)
        except ActivityError as error:
            if isinstance(error.cause, ApplicationError):
                raise
            away = isinstance(error.cause, TimeoutError)
            raise ApplicationError(
                f"no worker answers on the host {errand.host}" if away else str(error.cause or error),
                Level.L3.value,
                "gt status",
                type=ErrorCode.TEMPORAL_UNREACHABLE.value,
                non_retryable=True,
            ) from error

    async def _run(self, errand: Errand) -> ErrandResult:
        given = activity_options.errand(errand.host)
        match errand.task:
            case Nudge() as task:
                task = task.model_copy(update={"letter": workflow.info().workflow_id})
                return await workflow.execute_activity_method(NudgeActivities.nudge, task, **given)
            case DeliverLetter() as task:
                return await workflow.execute_activity_method(PostActivities.deliver_letter, task, **given)
            case ListParked() as task:
                return await workflow.execute_activity_method(ParkedActivities.list_parked, task, **given)
            case Unpark() as task:
                return await workflow.execute_activity_method(ParkedActivities.unpark, task, **given)
            case ExpireParked() as task:
                return await workflow.execute_activity_method(ParkedActivities.expire_parked, task, **given)
            case CreateBranch() as task:
                return await workflow.execute_activity_method(IntegrationActivities.create_branch, task, **given)
            case LookAtBranch() as task:
                return await workflow.execute_activity_method(IntegrationActivities.look_at_branch, task, **given)
            case HandInBranch() as task:
                return await workflow.execute_activity_method(IntegrationActivities.hand_in_branch, task, **given)
            case CheckGates() as task:
                return await self._check_gates(errand.host, task)

    async def _check_gates(self, host: str, task: CheckGates) -> ErrandResult:
        rig = task.rig
        chain = await workflow.execute_activity_method(
            LandingActivities.build_chain,
            BuildChain(rig=rig, target=rig.branch, changes=()),
            **activity_options.errand(host),
        )
        order = RunGates(
            rig=rig.name,
            sha=chain.base_sha,
            gates=rig.gates,
            settings=task.settings,
            sandbox=task.sandbox,
            label=f"{workflow.info().workflow_id}/{rig.branch}",
        )
        total = timedelta(seconds=sum(gate.timeout_s for gate in rig.gates))
        report = await workflow.execute_activity_method(
            GateActivities.run_gates, order, **activity_options.gates(host, total)
        )
        return ErrandResult(gates=report)
