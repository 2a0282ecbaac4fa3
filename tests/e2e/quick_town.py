"""A living town that is asked and ordered in this process: whole commands cost seconds on a busy machine."""

from __future__ import annotations

import asyncio

from benchmarks.sling import sling_all
from models import names
from models.ledger.records import JobRow, NewBead
from models.mayor.escalations import EscalationStatus
from services.temporal.client import connect
from tests.e2e.living_town import LivingTown


class QuickTown(LivingTown):
    """What the commands do, without starting one."""

    def bead(self, title: str, *extra: str, rig: str = "shop") -> str:
        if extra:
            return super().bead(title, *extra)
        with self.record() as ledger:
            return ledger.create_bead(NewBead(rig=rig, title=title)).id

    def sling(self, bead: str, agent: str, rig: str = "shop") -> None:
        sling_all(self.town, [(bead, agent)], rig)

    def job(self, bead: str) -> JobRow:
        with self.record() as ledger:
            row = ledger.job(bead)
        assert row is not None, f"{bead} was never slung"
        return row

    def events(self, bead: str) -> list[str]:
        """The job's story, by the names of its events."""
        with self.record() as ledger:
            return [event.event for event in ledger.job_events(bead)]

    def escalations(self, *beads: str) -> list[EscalationStatus]:
        """What was escalated about these beads, open or not; about everything without any."""

        async def ask() -> list[EscalationStatus]:
            mayor = (await connect(self.town)).get_workflow_handle(names.MAYOR_ID)
            told: list[EscalationStatus] = await mayor.query("escalations", result_type=list[EscalationStatus])
            return told

        return [told for told in asyncio.run(ask()) if not beads or told.bead in beads]
