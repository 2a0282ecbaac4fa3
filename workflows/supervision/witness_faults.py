"""A Witness's own escalations: each is raised once while its condition lasts, and cleared when that ends.

What the Mayor has not heard yet is carried from run to run: a hand-over while he cannot be told loses nothing.
"""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from models.errors import Level
from models.mayor.alerts import AlertType, Priority
from models.mayor.escalations import Escalation, EscalationCleared, Letter
from workflows.shared.signals import tell_mayor, tell_mayor_cleared
from workflows.supervision.witness_state import WitnessState

REFUSED_PAUSE = timedelta(seconds=60)
"""before the next try, after a letter failed in a way that retrying at once cannot mend"""


class Faults:
    """Conditions by what they are about (`host_lost h1`); the escalation's id is new with each occurrence."""

    def __init__(self, state: WitnessState) -> None:
        self._state = state

    @property
    def told(self) -> bool:
        """The Mayor has every letter."""
        return not self._state.letters

    async def deliver(self) -> None:
        """Hand the letters over, one after the other, for as long as the run lasts.

        One leaves the state only once the Mayor has it; one that he gets twice changes nothing.
        """
        letters = self._state.letters
        while True:
            await workflow.wait_condition(lambda: bool(letters))
            try:
                await _hand_over(letters[0])
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
                workflow.logger.error("a letter to the Mayor cannot be delivered: %s", error.cause)
                await workflow.sleep(REFUSED_PAUSE, summary="a letter was refused; tried again")
                continue
            del letters[0]

    def begin(
        self,
        about: str,
        kind: AlertType,
        message: str,
        *,
        level: Level,
        severity: Priority = Priority.HIGH,
        evidence: str = "",
        tried: str = "",
    ) -> None:
        """The condition holds: tell the Mayor, unless it was told."""
        open_faults = self._state.faults
        if about in open_faults:
            return
        now = workflow.now()
        open_faults[about] = ".".join((self._state.rig, *about.split(), f"{now:%y%m%d%H%M%S}"))
        escalation = Escalation(
            id=open_faults[about],
            kind=kind.value,
            level=level.value,
            severity=severity.value,
            source=workflow.info().workflow_id,
            rig=self._state.rig,
            subject=about.partition(" ")[2],
            message=message,
            evidence=evidence,
            tried=tried,
            opened_at=now,
        )
        self._state.letters.append(Letter(escalation=escalation))

    def end(self, about: str, reason: str) -> None:
        """The condition is over."""
        escalation = self._state.faults.pop(about, None)
        if escalation is not None:
            self._state.letters.append(Letter(cleared=EscalationCleared(id=escalation, reason=reason)))

    def about(self, escalation: str | None) -> str | None:
        """What an open escalation is about; None for one that is not this Witness's."""
        return next((about for about, known in self._state.faults.items() if known == escalation), None)


async def _hand_over(letter: Letter) -> None:
    if letter.escalation is not None:
        await tell_mayor(letter.escalation)
    if letter.cleared is not None:
        await tell_mayor_cleared(letter.cleared.id, letter.cleared.reason)
