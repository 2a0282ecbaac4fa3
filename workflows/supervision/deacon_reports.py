"""The Deacon's letters to the Mayor: in order, each until it is delivered, under ids that only one episode has.

While the Mayor does not work the letters still go to him, and all that is open is announced to people directly.
Announcements wait for no letter, and a channel that refuses one keeps back neither the letters nor the others.
"""

from __future__ import annotations

from collections.abc import Iterable

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.temporal import TownActivities
    from models import names
    from models.errors import Level
    from models.mayor.alerts import AlertType, Edge, Notice, Priority
    from models.mayor.escalations import Escalation, EscalationCleared, Letter
    from models.supervision.messages import CheckResult
    from policies.supervision.watchdog import Verdict
    from workflows.shared import activity_options
    from workflows.supervision.deacon_state import DeaconState

from workflows.shared.background_task import Beside
from workflows.shared.direct_notification import announced

ANNOUNCEMENTS_KEPT = 100
"""that a channel has refused; older ones are in the log of alerts alone"""
_KINDS = {"witness": "witness_down", "refinery": "refinery_stalled"}
"""alert types of rigs' workflows; what befalls another is an `escalation`"""


class Post:
    """Letters and announcements that are not delivered yet.

    Args:
        state: as carried.
    """

    def __init__(self, state: DeaconState) -> None:
        self.letters = list(state.letters)
        self.announcements = list(state.announcements)
        self._open = {escalation.id: escalation for escalation in state.open}
        self._announced = list(state.announced)
        self._announcing = Beside()
        self._refused = set[str]()
        """ids of announcements that were tried in this run, and not taken by every channel"""

    def carried(self) -> dict[str, object]:
        """What the next run must know, as changes of the state."""
        return {
            "letters": tuple(self.letters),
            "announcements": tuple(self.announcements),
            "open": tuple(self._open.values()),
            "announced": tuple(self._announced),
        }

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
            announced=check.announced,
        )

    def over(self, told: Iterable[str], reason: str) -> None:
        """What these escalations said is over."""
        for escalation in told:
            cleared = EscalationCleared(id=escalation, reason=reason)
            self.letters.append(Letter(cleared=cleared))
            self._open.pop(escalation, None)
            if escalation in self._announced:
                self._announced.remove(escalation)
                self._announce(_end(cleared))

    def _escalate(
        self,
        stem: str,
        kind: str,
        *,
        message: str,
        level: Level = Level.L3,
        announced: bool = False,
        **more: str | None,
    ) -> str:
        now = workflow.now()
        escalation = Escalation(
            id=f"{stem}/{now:%Y%m%dT%H%M%S%fZ}",
            kind=kind,
            level=level.value,
            source=names.DEACON_ID,
            message=message,
            opened_at=now,
            announced=announced,
            **more,
        )
        self.letters.append(Letter(escalation=escalation))
        self._open[escalation.id] = escalation
        return escalation.id

    async def deliver(self, *, mayor_works: bool) -> None:
        """Hand the letters over; what cannot be delivered waits for the next time."""
        self._tell_people(mayor_works)
        while self.letters:
            try:
                await _to_mayor(self.letters[0])
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
                workflow.logger.error("a letter cannot be delivered: %s", error.cause)
                return
            del self.letters[0]

    async def finished(self) -> None:
        """Wait for the announcement under way; the others are left to the next run."""
        await self._announcing.finished()

    # --- announcements --------------------------------------------------------------------------

    def _tell_people(self, mayor_works: bool) -> None:
        """Also of what began while the Mayor still seemed to work: it is in his history, and he tells it to nobody."""
        if not mayor_works:
            for escalation in self._open.values():
                if escalation.id not in self._announced and not escalation.announced:
                    self._announced.append(escalation.id)
                    self._announce(_notice(escalation))
        if self.announcements:
            self._announcing.start(self._round)

    def _announce(self, notice: Notice) -> None:
        self.announcements = [*self.announcements, notice][-ANNOUNCEMENTS_KEPT:]

    async def _round(self) -> None:
        """Try each once. One whose end has reached every channel needs no beginning any more."""
        tried = set[str]()
        while not self._announcing.closing and (notice := self._next(tried)):
            tried.add(notice.id)
            if not await announced(notice):
                self._refused.add(notice.id)
                continue
            self.announcements = [
                other
                for other in self.announcements
                if other.id != notice.id and not (notice.edge is Edge.END and other.condition == notice.condition)
            ]

    def _next(self, tried: set[str]) -> Notice | None:
        """What is new comes first: a channel that has refused the others may hang, and take its time again."""
        left = [notice for notice in self.announcements if notice.id not in tried]
        return next((notice for notice in left if notice.id not in self._refused), left[0] if left else None)


async def _to_mayor(letter: Letter) -> None:
    if letter.escalation is not None:
        escalation = letter.escalation
        summary = f"{escalation.kind}: {escalation.message}"[:200]
        await workflow.execute_activity_method(
            TownActivities.tell_mayor, escalation, summary=summary, **activity_options.control_briefly()
        )
    if letter.cleared is not None:
        cleared = letter.cleared
        await workflow.execute_activity_method(
            TownActivities.clear_escalation,
            cleared,
            summary=f"over: {cleared.id}"[:200],
            **activity_options.control_briefly(),
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
