"""Mail: durable messages between roles and people, some of them with a meaning that programs act on.

Addresses: `<rig>/<polecat>`, `<rig>/witness`, `<rig>/refinery`, `mayor`, `deacon`, `human` for whoever
sits at the terminal, or a person's name.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field, field_validator

from models import names
from models.base import Frozen
from models.texts import storable_text

MAX_SUBJECT = 500
"""characters"""
MAX_BODY = 1_000_000
"""characters"""


class MailKind(StrEnum):
    """What a message is: words alone, or a step of a protocol. Each step's payload names `bead` and `attempt`, and:"""

    NOTE = "NOTE"
    """words alone: no payload"""
    POLECAT_DONE = "POLECAT_DONE"
    """a polecat to its Witness, its work was taken: status, head_sha"""
    MERGE_READY = "MERGE_READY"
    """a job to the Refinery: merge_request, branch, head_sha, target"""
    MERGED = "MERGED"
    """the Refinery to a polecat: merge_request, merged_sha"""
    MERGE_FAILED = "MERGE_FAILED"
    """the Refinery to a polecat, a gate blames the change: merge_request, gate, base_sha, log_tail, log_path"""
    REWORK_REQUEST = "REWORK_REQUEST"
    """the Refinery to a polecat, the change does not apply: merge_request, files, rivals (the beads that changed them),
    base_sha, detail"""
    HELP = "HELP"
    """a polecat to its Witness: problem"""
    WITNESS_PING = "WITNESS_PING"
    """a Witness to the Deacon, recorded only where it tells something new: rig, and nothing else"""
    RECOVERED_BEAD = "RECOVERED_BEAD"
    """a Witness to the Deacon, a bead whose polecat was lost is being worked on again: cause"""
    RECOVERY_NEEDED = "RECOVERY_NEEDED"
    """a Witness to the Mayor, recovering by itself is exhausted: cause"""
    HANDOFF = "HANDOFF"
    """one polecat to the next: polecat (who gives the work up), cause"""


class Message(Frozen):
    """One message. The id is the key: sending it again is the same message."""

    id: str = Field(min_length=1, max_length=128)
    sender: str
    recipient: str
    subject: str = Field(max_length=MAX_SUBJECT)
    body: str = Field("", max_length=MAX_BODY)
    protocol: dict[str, Any] | None = None
    """`kind` (a MailKind) and its payload, flat; None: words alone"""
    reply_to: str | None = None
    """id of the message that this one answers"""
    sent_at: datetime
    read_at: datetime | None = None

    @property
    def kind(self) -> MailKind:
        return MailKind.NOTE if self.protocol is None else MailKind(self.protocol["kind"])

    @field_validator("sender", "recipient")
    @classmethod
    def _address(cls, value: str) -> str:
        return names.valid_address(value)

    @field_validator("protocol")
    @classmethod
    def _known(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None:
            MailKind(str(value.get("kind")))
        return value

    @field_validator("id", "subject", "body", mode="before")
    @classmethod
    def _storable(cls, value: Any) -> Any:
        return storable_text("message", value)
