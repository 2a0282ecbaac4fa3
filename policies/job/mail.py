"""The mail that a job's transition sends: the protocol messages of product.md, for those who read the record.

What drives the work are signals; a letter is recorded with its transition, so it is neither lost nor told twice.
"""

from __future__ import annotations

from typing import Any

from models import names
from models.job.messages import AttemptNote, Verdict, VerdictKind
from models.ledger.records import JobState, JobWrite, MergeRequestState
from models.mayor.mail import MAX_SUBJECT, MailKind, Message

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
) -> list[tuple[str, str, dict[str, Any]]]:
    witness, refinery = f"{write.rig}/witness", f"{write.rig}/refinery"
    polecat = names.polecat_address(write.rig, write.polecat) if write.polecat else witness
    if verdict is not None and verdict.kind in {VerdictKind.FAILED, VerdictKind.CONFLICT}:
        return [(refinery, polecat, _sent_back(write, verdict)), *_told(write, None, note, former)]
    request = write.merge_request
    if write.event == "submitted" and request is not None:
        ready = {name: getattr(request, name) for name in ("branch", "head_sha", "target")}
        return [
            (polecat, witness, _step(write, MailKind.POLECAT_DONE, status="completed", head_sha=write.head_sha)),
            (polecat, refinery, _step(write, MailKind.MERGE_READY, merge_request=request.id, **ready)),
        ]
    if write.state is JobState.MERGED and write.merge_request_state is MergeRequestState.MERGED and write.merged_sha:
        return [(refinery, polecat, _step(write, MailKind.MERGED, merge_request="", merged_sha=write.merged_sha))]
    if write.event in _HELPLESS:
        return [(polecat, witness, _step(write, MailKind.HELP, problem=write.detail))]
    if write.state is JobState.BLOCKED and write.event in _BLOCKING:
        return [(witness, names.MAYOR_ID, _step(write, MailKind.RECOVERY_NEEDED, cause=write.detail))]
    cause = note.text.splitlines()[0] if note and note.text.strip() else ""
    if write.event == "starting" and former and former != write.polecat:
        old = names.polecat_address(write.rig, former)
        return [(old, polecat, _step(write, MailKind.HANDOFF, polecat=former, cause=cause))]
    if write.event == "working" and note is not None and note.kind in _LOST and note.attempt == write.attempt - 1:
        return [(witness, names.DEACON_ID, _step(write, MailKind.RECOVERED_BEAD, cause=cause))]
    return []


def _step(write: JobWrite, kind: MailKind, **payload: Any) -> dict[str, Any]:
    return {"bead": write.bead, "attempt": write.attempt, "kind": kind.value, **payload}


def _sent_back(write: JobWrite, verdict: Verdict) -> dict[str, Any]:
    """The protocol's step for a verdict; `verdict_of` turns it back."""
    request, base_sha, detail = verdict.merge_request, verdict.base_sha, verdict.detail
    if verdict.kind is VerdictKind.FAILED:
        return _step(
            write, MailKind.MERGE_FAILED, merge_request=request, gate=verdict.gate, base_sha=base_sha,
            log_tail=detail, log_path=verdict.log_path,
        )  # fmt: skip
    return _step(
        write, MailKind.REWORK_REQUEST, merge_request=request, files=list(verdict.files), rivals=list(verdict.rivals),
        base_sha=base_sha, detail=detail,
    )  # fmt: skip


def verdict_of(letter: Message) -> Verdict | None:
    """The Refinery's verdict that a letter tells of, where it sent work back; None for any other letter."""
    told = letter.protocol or {}
    known: dict[str, Any] = {"merge_request": ""}
    known |= {name: value for name, value in told.items() if name in Verdict.model_fields and name != "kind"}
    if letter.kind is MailKind.MERGE_FAILED:
        return Verdict(kind=VerdictKind.FAILED, detail=told.get("log_tail", ""), **known)
    return Verdict(kind=VerdictKind.CONFLICT, **known) if letter.kind is MailKind.REWORK_REQUEST else None


def _message(write: JobWrite, sender: str, recipient: str, protocol: dict[str, Any]) -> Message:
    """Its id follows from the transition, so a write that is sent again sends no second letter."""
    kind = protocol["kind"]
    told = " ".join(write.detail.replace("\x00", " ").split())
    subject = f"{kind} {write.bead}" + (f": {told}" if told else "")
    if kind == MailKind.HANDOFF:
        key = f"{write.bead}.{protocol['polecat']}.{write.polecat}"
    else:
        key = f"{write.bead}.{write.attempt}.{write.sequence}"
    return Message(
        id=f"{key}.{kind}",
        sender=sender,
        recipient=recipient,
        subject=_storable(subject)[:MAX_SUBJECT],
        protocol=protocol,
        sent_at=write.at,
    )


def _storable(text: str) -> str:
    """What a pane or a log said may hold half a surrogate pair."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
