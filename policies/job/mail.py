"""The mail that a job's transition sends: the protocol messages of product.md, for those who read the record.

What drives the work are signals; a letter is recorded with its transition, so it is neither lost nor told twice.
"""

from __future__ import annotations

from typing import Any

from models import names
from models.job.messages import AttemptNote, Verdict, VerdictKind
from models.ledger.records import JobState, JobWrite, MergeRequestState
from models.mayor.mail import (
    MAX_SUBJECT,
    Handoff,
    Help,
    Merged,
    MergeFailed,
    MergeReady,
    Message,
    PolecatDone,
    Protocol,
    RecoveredBead,
    RecoveryNeeded,
    ReworkRequest,
)

_LOST = frozenset({"agent_died", "agent_unresponsive"})
"""kinds of the note about an attempt whose agent was lost"""
_HELPLESS = frozenset({"help", "stuck"})
"""events with which a polecat cannot go on alone: it said so, or it was seen"""
_BLOCKING = frozenset({"blocked", "merge_failed", "rework_request"})
"""events with which a job comes to wait for a person; the last two where its reworks are used up"""


def letters(
    write: JobWrite, *, verdict: Verdict | None = None, note: AttemptNote | None = None, former: str | None = None
) -> tuple[Message, ...]:
    """What a transition tells others.

    Args:
        verdict: of the Refinery, where that is the transition's cause.
        note: the newest that was said about an earlier attempt.
        former: the polecat that had the work before, where another has it now.
    """
    return tuple(
        _message(write, sender, recipient, protocol)
        for sender, recipient, protocol in _told(write, verdict, note, former)
    )


def _told(
    write: JobWrite, verdict: Verdict | None, note: AttemptNote | None, former: str | None
) -> list[tuple[str, str, Protocol]]:
    bead, attempt = write.bead, write.attempt
    witness, refinery = f"{write.rig}/witness", f"{write.rig}/refinery"
    polecat = names.polecat_address(write.rig, write.polecat) if write.polecat else witness
    if verdict is not None and verdict.kind in {VerdictKind.FAILED, VerdictKind.CONFLICT}:
        why = _failed(write, verdict) if verdict.kind is VerdictKind.FAILED else _conflict(write, verdict)
        return [(refinery, polecat, why), *_told(write, None, note, former)]
    if write.event == "submitted" and write.merge_request is not None:
        return [
            (polecat, witness, PolecatDone(bead=bead, attempt=attempt, head_sha=write.head_sha)),
            _ready(write, polecat),
        ]
    if write.state is JobState.MERGED and write.merge_request_state is MergeRequestState.MERGED and write.merged_sha:
        return [(refinery, polecat, Merged(bead=bead, attempt=attempt, merged_sha=write.merged_sha))]
    if write.event in _HELPLESS:
        return [(polecat, witness, Help(bead=bead, attempt=attempt, problem=write.detail))]
    if write.state is JobState.BLOCKED and write.event in _BLOCKING:
        return [(witness, names.MAYOR_ID, RecoveryNeeded(bead=bead, attempt=attempt, cause=write.detail))]
    if write.event == "starting" and former and former != write.polecat:
        old = names.polecat_address(write.rig, former)
        cause = note.text.splitlines()[0] if note and note.text.strip() else ""
        return [(old, polecat, Handoff(bead=bead, attempt=attempt, polecat=former, cause=cause))]
    if write.event == "working" and note is not None and note.kind in _LOST and note.attempt == attempt - 1:
        cause = note.text.splitlines()[0] if note.text.strip() else ""
        return [(witness, names.DEACON_ID, RecoveredBead(bead=bead, attempt=attempt, cause=cause))]
    return []


def verdict_of(letter: Message) -> Verdict | None:
    """The Refinery's verdict that a letter tells of, where it sent work back; None for any other letter."""
    told = letter.protocol
    if isinstance(told, MergeFailed):
        return Verdict(
            kind=VerdictKind.FAILED, gate=told.gate, detail=told.log_tail, log_path=told.log_path, **_common(told)
        )
    if isinstance(told, ReworkRequest):
        return Verdict(
            kind=VerdictKind.CONFLICT, files=told.files, rivals=told.rivals, detail=told.detail, **_common(told)
        )
    return None


def _common(told: MergeFailed | ReworkRequest) -> dict[str, Any]:
    return {name: getattr(told, name) for name in ("bead", "attempt", "merge_request", "base_sha")}


def _ready(write: JobWrite, polecat: str) -> tuple[str, str, Protocol]:
    request = write.merge_request
    assert request is not None
    ready = MergeReady(
        bead=write.bead,
        attempt=write.attempt,
        merge_request=request.id,
        branch=request.branch,
        head_sha=request.head_sha,
        target=request.target,
    )
    return polecat, f"{write.rig}/refinery", ready


def _failed(write: JobWrite, verdict: Verdict) -> MergeFailed:
    return MergeFailed(
        bead=write.bead,
        attempt=write.attempt,
        merge_request=verdict.merge_request,
        gate=verdict.gate,
        base_sha=verdict.base_sha,
        log_tail=verdict.detail,
        log_path=verdict.log_path,
    )


def _conflict(write: JobWrite, verdict: Verdict) -> ReworkRequest:
    return ReworkRequest(
        bead=write.bead,
        attempt=write.attempt,
        merge_request=verdict.merge_request,
        files=verdict.files,
        rivals=verdict.rivals,
        base_sha=verdict.base_sha,
        detail=verdict.detail,
    )


def _message(write: JobWrite, sender: str, recipient: str, protocol: Protocol) -> Message:
    """Its id follows from the transition, so a write that is sent again sends no second letter."""
    told = " ".join(write.detail.replace("\x00", " ").split())
    subject = f"{protocol.kind} {write.bead}" + (f": {told}" if told else "")
    if isinstance(protocol, Handoff):
        key = f"{write.bead}.{protocol.polecat}.{write.polecat}"
    else:
        key = f"{write.bead}.{write.attempt}.{write.sequence}"
    return Message(
        id=f"{key}.{protocol.kind}",
        sender=sender,
        recipient=recipient,
        subject=_storable(subject)[:MAX_SUBJECT],
        protocol=protocol,
        sent_at=write.at,
    )


def _storable(text: str) -> str:
    """What a pane or a log said may hold half a surrogate pair."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
