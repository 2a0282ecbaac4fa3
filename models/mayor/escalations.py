"""Messages of the Mayor: what is escalated, and what becomes of it."""

from __future__ import annotations

import shlex
from datetime import datetime

from models import names
from models.base import Frozen
from models.job.messages import DecisionKind

MESSAGE_BYTES = 600
EVIDENCE_BYTES = 800
"""of UTF-8: what the Mayor keeps of an escalation's words in any case"""
LONG_MESSAGE_BYTES = 4_000
"""what he keeps of its message while there are few long ones: of a remote that refuses a push, of its hooks"""
JOB_ENDED = "job_ended"
"""kind of what is told of a job that is over, without a merge and without a person's word"""
OPEN_KEPT = 300
"""open ones that the Mayor remembers; in a flood of more, only the record has the others"""


class Escalation(Frozen):
    """A fault that somebody above must know of. The id is the key: telling it twice is one."""

    id: str
    kind: str
    """an alert type of product.md section 8, or `help`"""
    level: str
    severity: str = "high"
    """low, medium, high or critical"""
    source: str
    """workflow id or person"""
    rig: str | None = None
    bead: str | None = None
    subject: str = ""
    """what it is about where neither bead nor rig says it: a host, a service"""
    message: str
    evidence: str = ""
    tried: str = ""
    opened_at: datetime
    announced: bool = False
    """people are told of its beginning and end by whoever found it"""


class EscalationStatus(Frozen):
    """interface.md's row of `gt escalate list`."""

    id: str
    severity: str
    kind: str
    source: str
    bead: str | None
    opened_at: datetime
    acked: bool
    message: str
    resolved: bool = False
    action: str | None = None
    """what was decided: a DecisionKind, or `cleared`"""
    level: str = "L3"
    rig: str | None = None
    evidence: str = ""
    tried: str = ""
    repeats: int = 0
    """how often nobody had answered in time"""
    resolved_at: datetime | None = None
    resolved_by: str | None = None

    @property
    def answer(self) -> str:
        """The command that a person most likely answers with."""
        if self.kind == "refinery_stalled" and self.bead and self.rig:
            return f"gt refinery start --rig {shlex.quote(self.rig)}"  # a job found none that it could hand its work to
        if self.kind == JOB_ENDED and self.bead and self.rig:
            return f"gt sling {shlex.quote(self.bead)} {shlex.quote(self.rig)}"
        if self._waits_for_retry:
            return f"gt escalate resolve {shlex.quote(self.id)} --action retry"
        return f"gt escalate ack {shlex.quote(self.id)}"

    @property
    def _waits_for_retry(self) -> bool:
        """Whether somebody goes on by a person's `retry`: docs/escalation-system.md, Answering."""
        if self.kind in {"target_rewound", "target_renamed", "foreign_commit"}:
            return False  # to be known: nothing waits
        if self.bead or self.source.startswith("refinery/"):
            return True
        if self.source.startswith("witness/"):
            return self.kind == "polecat_unresponsive"  # its brake
        return self.source == names.DEACON_ID and bool(self.tried)  # a workflow; of a check nothing was tried


class EscalationRef(Frozen):
    id: str


class EscalationAck(Frozen):
    id: str
    by: str = ""


class EscalationResolve(Frozen):
    id: str
    action: DecisionKind
    by: str = ""


class EscalationCleared(Frozen):
    """The condition behind an escalation is over by itself (signal `cleared`); unknown ids are ignored."""

    id: str
    reason: str = ""


class SourceReset(Frozen):
    """A workflow starts from nothing (signal `source_reset`): what it had told is over, and it tells it anew."""

    source: str
    """its id"""


class Letter(Frozen):
    """One thing that the Mayor must hear; the other of the two is None."""

    escalation: Escalation | None = None
    cleared: EscalationCleared | None = None
