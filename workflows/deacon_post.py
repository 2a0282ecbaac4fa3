"""The Deacon's letters to the Mayor: in order, each until it is delivered, under ids that only one episode has."""

from __future__ import annotations

from collections.abc import Iterable

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.town import TownActivities
    from models import names
    from models.errors import Level
    from models.escalations import Escalation, EscalationCleared
    from models.supervision import CheckResult
    from policies.watchdog import Verdict
    from workflows import options
    from workflows.deacon_state import Letter

_KINDS = {"witness": "witness_down", "refinery": "refinery_stalled"}
"""alert types of rigs' workflows; what befalls another is an `escalation`"""


class Post:
    """Letters that are not delivered yet.

    Args:
        letters: as carried.
    """

    def __init__(self, letters: tuple[Letter, ...]) -> None:
        self.letters = list(letters)

    def report(self, verdict: Verdict) -> str:
        """A watched workflow is down, or given up. Returns: the escalation's id."""
        watch = verdict.watch
        role, _, rig = watch.workflow_id.partition("/")
        kind = _KINDS.get(role, "escalation")
        return self._escalate(
            f"{kind}/{watch.workflow_id}",
            kind,
            rig=rig or None,
            subject="" if rig else watch.workflow_id,
            severity="critical" if verdict.urgent else "high",
            message=f"{watch.workflow_id}: {verdict.report}",
            evidence=watch.detail,
            tried=f"{watch.tries} restarts" if watch.tries else "a restart comes next",
        )

    def failed(self, check: CheckResult) -> str:
        """A town check has begun to fail. Returns: the escalation's id."""
        of_rig = check.name == "refinery_stalled"
        return self._escalate(
            check.key,
            "escalation" if check.name == "clock" else check.name,
            rig=check.subject if of_rig else None,
            subject="" if of_rig else check.subject,
            level=check.level,
            severity=check.severity,
            message=f"{check.detail} ({check.hint})",
        )

    def over(self, told: Iterable[str], reason: str) -> None:
        """What these escalations said is over."""
        self.letters += [Letter(cleared=EscalationCleared(id=escalation, reason=reason)) for escalation in told]

    def _escalate(self, stem: str, kind: str, *, message: str, level: Level = Level.L3, **more: str | None) -> str:
        now = workflow.now()
        escalation = Escalation(
            id=f"{stem}/{now:%Y%m%dT%H%M%S%fZ}",
            kind=kind,
            level=level.value,
            source=names.DEACON_ID,
            message=message,
            opened_at=now,
            **more,
        )
        self.letters.append(Letter(escalation=escalation))
        return escalation.id

    async def deliver(self) -> None:
        """Hand the letters over; what cannot be delivered waits for the next time."""
        while self.letters:
            try:
                await _hand_over(self.letters[0])
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
                workflow.logger.error("the Mayor cannot be told: %s", error.cause)
                return
            del self.letters[0]


async def _hand_over(letter: Letter) -> None:
    if letter.escalation is not None:
        summary = f"{letter.escalation.kind}: {letter.escalation.message}"[:200]
        await workflow.execute_activity_method(
            TownActivities.tell_mayor, letter.escalation, summary=summary, **options.control_briefly()
        )
    if letter.cleared is not None:
        summary = f"over: {letter.cleared.id}"[:200]
        await workflow.execute_activity_method(
            TownActivities.clear_escalation, letter.cleared, summary=summary, **options.control_briefly()
        )
