"""A job that goes on where the record has it, because its workflow is gone: Temporal's database was lost."""

from __future__ import annotations

from models.job.messages import Admission, AttemptNote, UnfinishedJob
from models.ledger.records import JobState, MergeRequest
from policies.job.mail import verdict_of
from policies.job.rework_notes import verdict_note
from workflows.job.state import PolecatState, clipped


def begun(state: PolecatState) -> PolecatState:
    """The state that a run goes on from: its own, or the one of an unfinished job that the record tells of.

    What ran is looked for on its host before anything is started; what waits for its merge is handed
    in again; what waits for a person goes on waiting.
    """
    known = state.admission.unfinished
    if known is None:
        return state
    return _rebuilt(state.admission.model_copy(update={"unfinished": None}), known)


def _rebuilt(admission: Admission, known: UnfinishedJob) -> PolecatState:
    row = known.row
    state = _state(known)
    attempt = row.attempt if row.attempt > known.attempts_before else None
    notes, failure_log = _notes(known, admission.rig.landing_on(admission.bead.target).branch)
    return PolecatState(
        admission=admission.model_copy(update={"highest_attempt": known.attempts_before}),
        state=state,
        rebuilt_from=row.state,
        started_at=row.started_at,
        attempt=attempt,
        sequence=row.sequence,
        polecat=row.polecat,
        host=row.host,
        holds_slot=state is JobState.STARTING,
        restarts=row.restarts,
        reworks=row.reworks,
        notes=notes,
        failure_log=failure_log,
        last_failure=known.notes[-1].text if known.notes else "",
        session_lives=attempt is not None and row.polecat is not None,
        worktree_held=row.polecat is not None,
        head_sha=row.head_sha,
        # Work that was handed in and does not wait for its merge was sent back.
        rejected_sha=None if state is JobState.SUBMITTED else row.head_sha,
        merge_request=_request(admission, known) if state is JobState.SUBMITTED else None,
    )


def _request(admission: Admission, known: UnfinishedJob) -> MergeRequest | None:
    """What waits to be merged, for the rig as it is now."""
    own = admission.bead.target
    now = {"target": admission.rig.landing_on(own).branch, "pinned": own is not None}
    return known.merge_request.model_copy(update=now) if known.merge_request else None


def _notes(known: UnfinishedJob, target: str) -> tuple[list[AttemptNote], str | None]:
    """What was said about its attempts, in full where a letter tells it, and the log of the newest verdict."""
    verdicts = [verdict for verdict in map(verdict_of, known.sent_back) if verdict is not None]
    said = {(verdict.attempt, kind): text for verdict in verdicts for kind, text in [verdict_note(verdict, target)]}
    notes = [
        note.model_copy(update={"text": clipped(said.get((note.attempt, note.kind), note.text))})
        for note in known.notes
    ]
    return notes, verdicts[-1].log_path if verdicts else None


def _state(known: UnfinishedJob) -> JobState:
    row = known.row
    if row.state in {JobState.STARTING, JobState.WORKING}:
        # Whether it still works, its host will tell; without one there is nobody to ask.
        return JobState.STARTING if row.polecat and row.host else JobState.WAITING
    if row.state is JobState.SUBMITTED:
        return JobState.SUBMITTED if known.merge_request is not None else JobState.WAITING
    return row.state
