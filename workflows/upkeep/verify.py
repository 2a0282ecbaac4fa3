"""Do Dolt, git and Temporal agree? Looked at every hour and after each recovery; a disagreement is an alert."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.verify import VerifyActivities
    from models import names
    from models.errors import Level
    from models.mayor.alerts import AlertType, Priority
    from models.mayor.escalations import Escalation
    from models.names import WorkflowType
    from models.upkeep.verification import ToldProblem, TownLook, VerifyMemory
    from policies.upkeep.disagreements import MORE, news, still_there
    from workflows.shared import activity_options
    from workflows.shared.web_ui import Labels

from workflows.shared.signals import tell_mayor, tell_mayor_cleared

GRACE = timedelta(seconds=30)
"""A difference that is new is looked at again: work that is under way makes some for a moment."""


@workflow.defn(name=WorkflowType.VERIFY)
class VerifyWorkflow:
    """One look, started by the Schedule `verify`. It fails where the ledger does not answer: another look will come."""

    @workflow.run
    async def run(self, last: VerifyMemory | None = None) -> VerifyMemory:
        """Look, and tell the Mayor what has begun and what is over.

        Args:
            last: what the look before came to; default: the Schedule's last result.
        """
        last = last or workflow.get_last_completion_result(VerifyMemory) or VerifyMemory()
        Labels().show(role="verify", state="looking")
        look = await self._look()
        if any(problem.key not in last.told for problem in look.problems):
            await workflow.sleep(GRACE, summary="is it still so when work has moved on?")
            look = still_there(look, await self._look())
        told = await self._tell(look, dict(last.told))
        unread = (*look.unread_rigs, *(["Temporal"] if look.temporal_unread else []))
        return VerifyMemory(told=told, problems=len(look.problems) + look.more, unread=unread)

    async def _look(self) -> TownLook:
        return await workflow.execute_activity_method(
            VerifyActivities.verify_town, summary="compare Dolt, git and Temporal", **activity_options.verification()
        )

    async def _tell(self, look: TownLook, told: dict[str, ToldProblem]) -> dict[str, ToldProblem]:
        changed = news(look, told)
        for problem in changed.begun:
            escalation = await _escalate(
                problem.key,
                f"{problem.kind}: {problem.message} ({problem.command})",
                Priority.MEDIUM if problem.safe else Priority.HIGH,
            )
            told[problem.key] = ToldProblem(escalation=escalation, kind=problem.kind, rig=problem.rig)
        if changed.more:
            words = f"{changed.more} more disagreements between Dolt, git and Temporal (bd verify)"
            told[MORE] = ToldProblem(escalation=await _escalate(MORE, words, Priority.HIGH))
        for key, over in changed.over.items():
            await tell_mayor_cleared(over.escalation, "they agree again")
            del told[key]
        return told


async def _escalate(key: str, message: str, severity: Priority) -> str:
    """Returns: the escalation's id, which only this run has."""
    escalation = Escalation(
        id=f"{names.VERIFY_ID}.{workflow.info().run_id[:8]}.{key}",
        kind=AlertType.DISAGREEMENT.value,
        level=Level.L3.value,
        severity=severity.value,
        source=names.VERIFY_ID,
        subject=key,
        message=message,
        opened_at=workflow.now(),
    )
    await tell_mayor(escalation)
    return escalation.id
