"""Mail: durable messages between roles and people, some of them with a meaning that programs act on.

Addresses: `<rig>/<polecat>`, `<rig>/witness`, `<rig>/refinery`, `mayor`, `deacon`, `human` for whoever
sits at the terminal, or a person's name.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from models import names
from models.base import Frozen
from models.texts import storable_text

MAX_SUBJECT = 500
"""characters"""
MAX_BODY = 1_000_000
"""characters"""


class _OfAttempt(Frozen):
    bead: str
    attempt: int


class PolecatDone(_OfAttempt):
    """A polecat to its Witness: `gt done` was run and its work was taken."""

    kind: Literal["POLECAT_DONE"] = "POLECAT_DONE"
    status: Literal["completed", "blocked", "deferred"] = "completed"
    head_sha: str | None = None


class MergeReady(_OfAttempt):
    """A job to the Refinery: this change waits to be merged."""

    kind: Literal["MERGE_READY"] = "MERGE_READY"
    merge_request: str
    branch: str
    head_sha: str
    target: str


class Merged(_OfAttempt):
    """The Refinery to a polecat: the work is on the target."""

    kind: Literal["MERGED"] = "MERGED"
    merge_request: str = ""
    merged_sha: str


class MergeFailed(_OfAttempt):
    """The Refinery to a polecat: a gate blames the change."""

    kind: Literal["MERGE_FAILED"] = "MERGE_FAILED"
    merge_request: str = ""
    gate: str | None = None
    base_sha: str | None = None
    log_tail: str = ""
    log_path: str | None = None


class ReworkRequest(_OfAttempt):
    """The Refinery to a polecat: the change does not apply."""

    kind: Literal["REWORK_REQUEST"] = "REWORK_REQUEST"
    merge_request: str = ""
    files: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    """the beads that changed those files on the target"""
    base_sha: str | None = None
    detail: str = ""


class Help(_OfAttempt):
    """A polecat to its Witness: it cannot go on alone."""

    kind: Literal["HELP"] = "HELP"
    problem: str


class WitnessPing(Frozen):
    """A Witness to the Deacon: its patrol goes on. Recorded only where it tells something new."""

    kind: Literal["WITNESS_PING"] = "WITNESS_PING"
    rig: str


class RecoveredBead(_OfAttempt):
    """A Witness to the Deacon: a bead whose polecat was lost is being worked on again."""

    kind: Literal["RECOVERED_BEAD"] = "RECOVERED_BEAD"
    cause: str = ""


class RecoveryNeeded(_OfAttempt):
    """A Witness to the Mayor: recovering by itself is exhausted."""

    kind: Literal["RECOVERY_NEEDED"] = "RECOVERY_NEEDED"
    cause: str = ""


class Handoff(_OfAttempt):
    """One polecat to the next: the work changes hands, and what is known of it."""

    kind: Literal["HANDOFF"] = "HANDOFF"
    polecat: str | None = None
    """who gives it up"""
    cause: str = ""


Protocol = Annotated[
    PolecatDone
    | MergeReady
    | Merged
    | MergeFailed
    | ReworkRequest
    | Help
    | WitnessPing
    | RecoveredBead
    | RecoveryNeeded
    | Handoff,
    Field(discriminator="kind"),
]


class MailKind(StrEnum):
    """What a message is: words alone, or a step of a protocol."""

    NOTE = "NOTE"
    POLECAT_DONE = "POLECAT_DONE"
    MERGE_READY = "MERGE_READY"
    MERGED = "MERGED"
    MERGE_FAILED = "MERGE_FAILED"
    REWORK_REQUEST = "REWORK_REQUEST"
    HELP = "HELP"
    WITNESS_PING = "WITNESS_PING"
    RECOVERED_BEAD = "RECOVERED_BEAD"
    RECOVERY_NEEDED = "RECOVERY_NEEDED"
    HANDOFF = "HANDOFF"


class Message(Frozen):
    """One message. The id is the key: sending it again is the same message."""

    id: str = Field(min_length=1, max_length=128)
    sender: str
    recipient: str
    subject: str = Field(max_length=MAX_SUBJECT)
    body: str = Field("", max_length=MAX_BODY)
    protocol: Protocol | None = None
    """None: words alone"""
    reply_to: str | None = None
    """id of the message that this one answers"""
    sent_at: datetime
    read_at: datetime | None = None

    @property
    def kind(self) -> MailKind:
        return MailKind.NOTE if self.protocol is None else MailKind(self.protocol.kind)

    @field_validator("sender", "recipient")
    @classmethod
    def _address(cls, value: str) -> str:
        return names.valid_address(value)

    @field_validator("id", "subject", "body", mode="before")
    @classmethod
    def _storable(cls, value: Any) -> Any:
        return storable_text("message", value)
