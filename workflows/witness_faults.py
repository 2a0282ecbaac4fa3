"""A Witness's own escalations: each is raised once while its condition lasts, and cleared when that ends."""

from __future__ import annotations

from temporalio import workflow

from models.alerts import AlertType, Priority
from models.errors import Level
from models.escalations import Escalation
from workflows.messages import tell_mayor, tell_mayor_cleared
from workflows.witness_state import WitnessState


class Faults:
    """Conditions by what they are about (`host_lost h1`); the escalation's id is new with each occurrence."""

    def __init__(self, state: WitnessState) -> None:
        self._state = state

    async def begin(
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
        await tell_mayor(
            Escalation(
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
        )

    async def end(self, about: str, reason: str) -> None:
        """The condition is over."""
        escalation = self._state.faults.pop(about, None)
        if escalation is not None:
            await tell_mayor_cleared(escalation, reason)

    def about(self, escalation: str | None) -> str | None:
        """What an open escalation is about; None for one that is not this Witness's."""
        return next((about for about, known in self._state.faults.items() if known == escalation), None)
