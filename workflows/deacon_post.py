"""The Deacon's letters to the Mayor: in order, each until it is delivered, under ids that only one episode has.

While the Mayor does not work a letter still goes to him, and to people directly as well.
"""

from __future__ import annotations

from collections.abc import Iterable

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.notices import NoticeActivities
    from activities.town import TownActivities
    from models import names
    from models.alerts import AlertType, Edge, Notice, Priority
    from models.errors import Level
    from models.escalations import Escalation, EscalationCleared, Letter
    from models.supervision import CheckResult
    from policies.watchdog import Verdict
    from workflows import options

_KINDS = {"witness": "witness_down", "refinery": "refinery_stalled"}
"""alert types of rigs' workflows; what befalls another is an `escalation`"""


class Post:
    """Letters that are not delivered yet.

    Args:
        letters: as carried.
        announced: as carried.
    """

    def __init__(self, letters: tuple[Letter, ...], announced: tuple[str, ...]) -> None:
        self.letters = list(letters)
        self.announced = list(announced)

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
            check.name if check.name in set(AlertType) else "escalation",
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

    async def deliver(self, *, mayor_works: bool) -> None:
        """Hand the letters over; what cannot be delivered waits for the next time."""
        while self.letters:
            try:
                await self._hand_over(self.letters[0], mayor_works)
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
                workflow.logger.error("a letter cannot be delivered: %s", error.cause)
                return
            del self.letters[0]

    async def _hand_over(self, letter: Letter, mayor_works: bool) -> None:
        if letter.escalation is not None:
            escalation = letter.escalation
            summary = f"{escalation.kind}: {escalation.message}"[:200]
            await workflow.execute_activity_method(
                TownActivities.tell_mayor, escalation, summary=summary, **options.control_briefly()
            )
            if not mayor_works and escalation.id not in self.announced:
                await _announce(_notice(escalation))
                self.announced.append(escalation.id)
        if letter.cleared is not None:
            cleared = letter.cleared
            await workflow.execute_activity_method(
                TownActivities.clear_escalation,
                cleared,
                summary=f"over: {cleared.id}"[:200],
                **options.control_briefly(),
            )
            if cleared.id in self.announced:
                await _announce(_end(cleared))
                self.announced.remove(cleared.id)


async def _announce(notice: Notice) -> None:
    await workflow.execute_activity_method(
        NoticeActivities.announce, notice, summary=f"directly: {notice.title}"[:200], **options.control_briefly()
    )


def _notice(escalation: Escalation) -> Notice:
    return Notice(
        id=f"deacon:{escalation.id}",
        condition=f"deacon:{escalation.id}",
        type=AlertType(escalation.kind),
        priority=Priority(escalation.severity),
        edge=Edge.START,
        title=escalation.message,
        body="the Mayor does not work, so the Deacon tells it directly",
        source=names.DEACON_ID,
        command="gt mayor status",
        at=escalation.opened_at,
    )


def _end(cleared: EscalationCleared) -> Notice:
    kind = cleared.id.partition("/")[0]
    return Notice(
        id=f"deacon:{cleared.id}:end",
        condition=f"deacon:{cleared.id}",
        type=AlertType(kind) if kind in set(AlertType) else AlertType.ESCALATION,
        priority=Priority.LOW,
        edge=Edge.END,
        title=f"over: {cleared.id}",
        body=cleared.reason,
        source=names.DEACON_ID,
        at=workflow.now(),
    )
