"""One fault as the Mayor remembers it."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from models import names
from models.base import Frozen
from models.errors import Level
from models.mayor.alerts import Priority
from models.mayor.escalations import Escalation, EscalationStatus
from policies.mayor.decisions import Move, Report, alert_type
from policies.mayor.notification_rules import Condition

TRIED_BYTES = 200
TITLE_BYTES = 200
BODY_BYTES = 300
"""with these, an escalation's own and the limits of policies/mayor/notification_rules.py the whole state stays below
Temporal's 2 MB"""
TELLINGS = 5
"""further questions about one subject that people hear of; the list has all of them"""


ASKERS_KEPT = 20
IDS_KEPT = 20
"""tellings of one fault that are outstanding"""
_WAITING_ROLES = ("dispatch/", "polecat/", "refinery/", "witness/", "deacon")
"""workflows that a decision may be told to"""


class Plan(Frozen):
    """A move that the Mayor makes at its time."""

    move: Move
    at: datetime
    target: str = ""


class MadeMove(Frozen):
    move: Move
    at: datetime


class Case(BaseModel):
    """One fault as the Mayor remembers it."""

    model_config = ConfigDict(extra="ignore")

    status: EscalationStatus
    key: str = ""
    """kind and subject: what makes another telling the same fault"""
    severity: Priority = Priority.HIGH
    """as it was when it was opened"""
    raises: int = 0
    """by how many steps it became more urgent since"""
    tellings: int = 0
    """further questions about it"""
    ids: list[str] = Field(default_factory=list)
    """tellings that are not over yet"""
    askers: dict[str, str] = Field(default_factory=dict)
    """workflows of rigs and town that wait for the answer, by the id under which each told it last"""
    plan: Plan | None = None
    asked_at: datetime | None = None
    """when people were last asked; None: they were not"""
    announced: bool = False
    """whoever told it tells people of its beginning and end, so that only what nobody answers is repeated"""
    paused: list[str] = Field(default_factory=list)
    """rigs that take no new work because of it"""

    def amend(self, **changes: object) -> None:
        self.status = self.status.model_copy(update=changes)

    def report(self) -> Report:
        """As decisions are made from it."""
        status = self.status
        return Report(
            kind=status.kind,
            level=Level(status.level),
            severity=Priority(status.severity),
            has_job=bool(status.rig and status.bead),
            tried=status.tried,
        )

    def note_asker(self, told: Escalation) -> None:
        """Whoever told it waits for the answer; not a further job: what is decided is about the one that is named."""
        if told.bead is None and (told.source in self.askers or len(self.askers) < ASKERS_KEPT):
            self.askers[told.source] = told.id

    def note_telling(self, told: Escalation) -> None:
        """One more telling that has to end.

        It takes the place of what the same workflow had told of the same condition before: nobody but this
        workflow would say that the earlier one is over, and it forgot that when its code failed.
        """
        others = self.ids
        if told.bead is None:
            others = [known for known in others if _condition_of(known) != _condition_of(told.id)]
        self.ids = [*others, told.id][-IDS_KEPT:]

    def waiting(self) -> dict[str, str]:
        """Who hears the decision: the job that it is about or the workflow that told it first, then others who did.

        Returns:
            By workflow id, the id under which it knows the fault.
        """
        status = self.status
        first = names.polecat_id(status.rig, status.bead) if status.rig and status.bead else status.source
        who = {first: status.id} | self.askers
        return {workflow_id: known for workflow_id, known in who.items() if workflow_id.startswith(_WAITING_ROLES)}

    def condition(self) -> Condition:
        """As people are told of it."""
        status = self.status
        details = [status.evidence, f"tried: {status.tried}" if status.tried else ""]
        return Condition(
            key=self.key,
            since=status.opened_at,
            type=alert_type(status.kind),
            severity=self.severity,
            raises=self.raises,
            tellings=min(self.tellings, TELLINGS),
            title=clipped(status.message, TITLE_BYTES),
            body=clipped("\n".join(line for line in details if line), BODY_BYTES),
            source=status.source,
            command=status.answer,
        )


def _condition_of(telling: str) -> str:
    """Workflows end the id with what tells one occurrence from the next; in another id that is all there is."""
    return telling[: max(telling.rfind("/"), telling.rfind("."))] if "/" in telling or "." in telling else telling


def clipped(text: str, limit: int) -> str:
    """At most `limit` bytes of UTF-8, and no control characters but line breaks."""
    plain = text[: limit + 1]
    if not plain.isprintable():
        plain = "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in plain)
    encoded = plain.encode("utf-8", "replace")
    if len(encoded) <= limit:
        return plain
    return encoded[: limit - 3].decode("utf-8", "ignore") + "…"
