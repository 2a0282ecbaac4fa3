"""Reading what jobs recorded, and what workflows ask before they decide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from ledger.beads.beads import MERGED, find_bead, landing_of
from ledger.beads.dependencies import open_dependencies
from ledger.engine import schema
from ledger.engine.transactions import Transactions
from ledger.mail import messages_of
from ledger.rigs import FINAL_STATES, all_hosts, all_rigs, find_rig
from ledger.settings import effective_settings
from models import names
from models.errors import ErrorCode, GtError
from models.job.messages import (
    Admission,
    AttemptNote,
    DispatchFacts,
    DispatchFactsRequest,
    RigFacts,
    RigName,
    SlingRequest,
    UnfinishedJob,
)
from models.ledger.records import (
    CLEARED_EVENT,
    Bead,
    BeadStatus,
    JobEvent,
    JobRow,
    JobState,
    MergeRequest,
    MergeRequestRow,
    MergeRequestState,
    PolecatRow,
    Rig,
)
from models.mayor.mail import MailKind
from models.refinery.answers import QueueFacts, QueueFactsRequest
from models.supervision.messages import RigWatch, TownFacts

HOOKED = "hooked"
"""The event that every job begins with; its attempt is the highest of earlier jobs."""
NOTED = frozenset({"agent_died", "agent_unresponsive", "merge_failed", "rework_request", "work_refused", "reassigned"})
"""Events that the next attempt is told of."""
NOTES_KEPT = 10
NOBODY = "integration"
"""stands for the polecat of what was handed in without one"""
SENT_BACK = {"merge_failed": MailKind.MERGE_FAILED, "rework_request": MailKind.REWORK_REQUEST}
"""events after which the agent works on what it handed in, and the letters that tell why"""


class JobRecords(Transactions):
    """Jobs, their story, merge requests and polecats; answers for dispatchers and watchers."""

    def job(self, bead: str) -> JobRow | None:
        """The current state of a bead's job; None where it never had one."""
        found = self._jobs(schema.jobs.c.bead == bead)
        return found[0] if found else None

    def jobs(self, rig: str | None = None, unfinished: bool = False) -> list[JobRow]:
        """Jobs, oldest first."""
        conditions: list[Any] = []
        if rig is not None:
            conditions.append(schema.jobs.c.rig == rig)
        if unfinished:
            conditions.append(schema.jobs.c.state.not_in(FINAL_STATES))
        return self._jobs(*conditions)

    def job_events(self, bead: str) -> list[JobEvent]:
        """The story of a bead's jobs, in order."""
        events = schema.job_events
        query = select(events).where(events.c.bead == bead).order_by(events.c.attempt, events.c.sequence)
        return self.read(lambda connection: [JobEvent.model_validate(row) for row in _dicts(connection, query)])

    def merge_requests(self, rig: str | None = None, state: MergeRequestState | None = None) -> list[MergeRequestRow]:
        """Merge requests, oldest first."""
        requests = schema.merge_requests
        query = select(requests).order_by(requests.c.submitted_at, requests.c.id)
        if rig is not None:
            query = query.where(requests.c.rig == rig)
        if state is not None:
            query = query.where(requests.c.state == state.value)
        return self.read(lambda connection: [MergeRequestRow.model_validate(row) for row in _dicts(connection, query)])

    def polecats(self, rig: str | None = None) -> list[PolecatRow]:
        """Polecats that ever worked, by rig and name."""
        query = select(schema.polecats).order_by(schema.polecats.c.rig, schema.polecats.c.name)
        if rig is not None:
            query = query.where(schema.polecats.c.rig == rig)
        return self.read(lambda connection: [PolecatRow.model_validate(row) for row in _dicts(connection, query)])

    def admission(self, request: SlingRequest, default_agent: str | None) -> Admission:
        """What the record says of a bead that shall be worked on.

        Raises:
            GtError: NOT_FOUND for the bead or the rig; REFUSED for a closed bead or another rig's;
                AGENT_NOT_FOUND where no agent is configured.
        """

        def ask(connection: Connection) -> Admission:
            bead = find_bead(connection, request.bead)
            rig = find_rig(connection, request.rig)
            _refuse_misplaced(bead, rig)
            attempt, sequence = highest_written(connection, bead.id)
            unfinished = _unfinished(connection, bead.id)
            waits = unfinished is not None and unfinished.row.waits_for_room
            return Admission(
                bead=bead,
                rig=rig,
                agent=_agent(request, unfinished, rig, default_agent),
                settings=effective_settings(connection, rig.name),
                highest_attempt=attempt,
                highest_sequence=sequence,
                open_dependencies=open_dependencies(connection, (bead.id,))[bead.id],
                landed_before=_last_landing(connection, bead.id),
                cleared=_cleared(connection, bead.id) or _whole(connection, bead, rig, attempt),
                unfinished=None if waits else unfinished,
                waited_for_room=waits,
            )

        return self.read(ask)

    def dispatch_facts(self, request: DispatchFactsRequest) -> DispatchFacts:
        """What a dispatcher's cycle reads; GtError(NOT_FOUND) for the rig."""

        def ask(connection: Connection) -> DispatchFacts:
            facts = _rig_facts(connection, request.rig)
            return DispatchFacts(
                rig=facts.rig,
                settings=facts.settings,
                hosts=facts.hosts,
                open_dependencies=open_dependencies(connection, request.beads),
                waiting=_waiting(connection, request.rig, request.waiting),
                jobs=_of_workflows(connection, request.rig) if request.jobs else (),
            )

        return self.read(ask)

    def rig_facts(self, request: RigName) -> RigFacts:
        """What a rig's long-lived workflow reads each cycle; GtError(NOT_FOUND) for the rig."""
        return self.read(lambda connection: _rig_facts(connection, request.rig))

    def queue_facts(self, request: QueueFactsRequest) -> QueueFacts:
        """What a Refinery's cycle reads; GtError(NOT_FOUND) for the rig."""

        def ask(connection: Connection) -> QueueFacts:
            facts = _rig_facts(connection, request.rig)
            return QueueFacts(
                rig=facts.rig,
                settings=facts.settings,
                hosts=facts.hosts,
                open_dependencies=open_dependencies(connection, request.beads),
                queued=_queued(connection, request),
            )

        return self.read(ask)

    def town_facts(self) -> TownFacts:
        """What the Deacon reads each cycle."""

        def ask(connection: Connection) -> TownFacts:
            rigs = {
                rig.name: RigWatch(
                    settings=effective_settings(connection, rig.name),
                    gates_s=sum(gate.timeout_s for gate in rig.gates),
                )
                for rig in all_rigs(connection)
            }
            return TownFacts(
                settings=effective_settings(connection, None),
                rigs=rigs,
                hosts=tuple(host.name for host in all_hosts(connection)),
            )

        return self.read(ask)

    def _jobs(self, *conditions: Any) -> list[JobRow]:
        query = select(schema.jobs).where(*conditions).order_by(schema.jobs.c.started_at, schema.jobs.c.bead)
        return self.read(lambda connection: [JobRow.model_validate(row) for row in _dicts(connection, query)])


def _dicts(connection: Connection, query: Any) -> Sequence[dict[str, Any]]:
    return [dict(row) for row in connection.execute(query).mappings()]


def _rig_facts(connection: Connection, rig: str) -> RigFacts:
    return RigFacts(
        rig=find_rig(connection, rig),
        settings=effective_settings(connection, rig),
        hosts=tuple(host.name for host in all_hosts(connection)),
    )


def _waiting(connection: Connection, rig: str, limit: int) -> tuple[str, ...]:
    """Beads that were slung when their Dispatcher had no room: urgent ones first, then by when."""
    jobs, beads = schema.jobs, schema.beads
    query = (
        select(jobs.c.bead)
        .join(beads, beads.c.id == jobs.c.bead)
        .where(jobs.c.rig == rig, jobs.c.state == JobState.WAITING.value, jobs.c.workflow_id == names.dispatch_id(rig))
        .where(beads.c.status != BeadStatus.CLOSED.value)
        .order_by(beads.c.priority, jobs.c.started_at, jobs.c.bead)
    )
    return tuple(connection.execute(query.limit(limit)).scalars()) if limit else ()


def _of_workflows(connection: Connection, rig: str) -> tuple[JobRow, ...]:
    """Jobs that are not over and have a workflow, or had one."""
    jobs = schema.jobs
    conditions = (jobs.c.rig == rig, jobs.c.state.not_in(FINAL_STATES), jobs.c.workflow_id != names.dispatch_id(rig))
    query = select(jobs).where(*conditions).order_by(jobs.c.started_at, jobs.c.bead)
    return tuple(JobRow.model_validate(row) for row in _dicts(connection, query))


def _queued(connection: Connection, request: QueueFactsRequest) -> tuple[MergeRequest, ...]:
    """Requests that wait to be merged, of jobs that are submitted under just that attempt.

    Urgent ones first, then the oldest; no more than were asked for.
    """
    if not request.queued:
        return ()
    requests, jobs = schema.merge_requests, schema.jobs
    submitted = (jobs.c.state == JobState.SUBMITTED.value) & (jobs.c.attempt == requests.c.attempt)
    query = (
        select(requests, schema.beads.c.target.is_not(None).label("pinned"))
        .join(jobs, (jobs.c.bead == requests.c.bead) & submitted)
        .join(schema.beads, schema.beads.c.id == requests.c.bead, isouter=True)
        .where(requests.c.rig == request.rig, requests.c.state == MergeRequestState.QUEUED.value)
        .where(requests.c.id.not_in(request.known))
        .order_by(requests.c.priority, requests.c.submitted_at, requests.c.id)
        .limit(request.queued)
    )
    return tuple(MergeRequest.model_validate(row) for row in _dicts(connection, query))


def _refuse_misplaced(bead: Bead, rig: Rig) -> None:
    if bead.rig != rig.name:
        raise GtError(
            ErrorCode.REFUSED,
            f"{bead.id} belongs to the rig {bead.rig}, not {rig.name}",
            f"gt sling {bead.id} {bead.rig}",
        )
    if bead.status is BeadStatus.CLOSED:
        how = bead.close_reason or "no reason given"
        if bead.close_reason == MERGED and bead.merged_sha:
            how = f"merged as {bead.merged_sha[:8]}"
        raise GtError(ErrorCode.REFUSED, f"{bead.id} is closed: {how}", f"bd update {bead.id} --status open")


def _agent(request: SlingRequest, unfinished: UnfinishedJob | None, rig: Rig, default_agent: str | None) -> str:
    agent = request.agent or (unfinished.row.agent if unfinished else None) or rig.agent or default_agent
    if not agent:
        raise GtError(
            ErrorCode.AGENT_NOT_FOUND,
            f"no agent is configured for the rig {rig.name}",
            f"gt sling {request.bead} {request.rig} --agent CMD",
        )
    return agent


def _unfinished(connection: Connection, bead: str) -> UnfinishedJob | None:
    """The bead's job, unless it is over."""
    jobs, events, requests = schema.jobs, schema.job_events, schema.merge_requests
    rows = _dicts(connection, select(jobs).where(jobs.c.bead == bead, jobs.c.state.not_in(FINAL_STATES)))
    if not rows:
        return None
    told = _dicts(connection, select(events).where(events.c.bead == bead).order_by(events.c.attempt, events.c.sequence))
    begun = [event["attempt"] for event in told if event["event"] == HOOKED]
    before = begun[-1] if begun else 0
    queued = (requests.c.bead == bead) & (requests.c.state == MergeRequestState.QUEUED.value)
    newest = select(requests).where(queued).order_by(requests.c.attempt.desc()).limit(1)
    found = _dicts(connection, newest)
    noted = [event for event in told if event["event"] in NOTED and event["attempt"] > before][-NOTES_KEPT:]
    return UnfinishedJob(
        row=JobRow.model_validate(rows[0]),
        attempts_before=before,
        merge_request=MergeRequest.model_validate(found[0]) if found else None,
        notes=tuple(AttemptNote(attempt=one["attempt"], kind=one["event"], text=one["detail"]) for one in noted),
        sent_back=messages_of(connection, [_letter_id(one) for one in noted if one["event"] in SENT_BACK]),
    )


def _letter_id(event: dict[str, Any]) -> str:
    """Of the letter that the transition sent (`policies.job.mail`)."""
    return f"{event['bead']}.{event['attempt']}.{event['sequence']}.{SENT_BACK[event['event']].value}"


def _cleared(connection: Connection, bead: str) -> MergeRequest | None:
    """The last job's merge request, where that job ended because a person cleared the merge queue."""
    events, requests = schema.job_events, schema.merge_requests
    of_bead = select(events.c.event).where(events.c.bead == bead, events.c.event.in_((HOOKED, CLEARED_EVENT)))
    last = of_bead.order_by(events.c.attempt.desc(), events.c.sequence.desc()).limit(1)
    if connection.execute(last).scalar() != CLEARED_EVENT:
        return None
    newest = select(requests).where(requests.c.bead == bead).order_by(requests.c.attempt.desc()).limit(1)
    found = _dicts(connection, newest)
    return MergeRequest.model_validate(found[0]) if found else None


def _whole(connection: Connection, bead: Bead, rig: Rig, attempt: int) -> MergeRequest | None:
    """The first merge request of a bead that lands an integration branch; None of every other bead, and later."""
    requests = schema.merge_requests
    handed_in = select(requests.c.id).where(requests.c.bead == bead.id).limit(1)
    if bead.integrates_sha is None or connection.execute(handed_in).first() is not None:
        return None
    return MergeRequest(
        id=names.merge_request_id(bead.id, attempt),
        rig=rig.name,
        bead=bead.id,
        title=bead.title,
        polecat=NOBODY,
        attempt=attempt,
        branch=names.published_branch(bead.id, effective_settings(connection, rig.name).git.branch_prefix),
        head_sha=bead.integrates_sha,
        target=rig.branch,
        priority=bead.priority,
        submitted_at=bead.created_at,
        whole=bead.integrates_sha,
    )


def highest_written(connection: Connection, bead: str) -> tuple[int, int]:
    """The highest attempt that the record knows of, and its highest sequence; (0, 0) for none."""
    events, jobs = schema.job_events, schema.jobs
    query = (
        select(events.c.attempt, func.max(events.c.sequence)).where(events.c.bead == bead).group_by(events.c.attempt)
    )
    pairs = [(row[0], row[1]) for row in connection.execute(query)]
    pairs += [
        (row[0], row[1])
        for row in connection.execute(select(jobs.c.attempt, jobs.c.sequence).where(jobs.c.bead == bead))
    ]
    return max(pairs, default=(0, 0))


def _last_landing(connection: Connection, bead: str) -> str | None:
    """The commit that the bead's last merge landed as; only the story remembers it once the bead is opened anew."""
    events = schema.job_events
    merges = select(events.c.detail).where(events.c.bead == bead, events.c.event == MERGED)
    told = connection.scalar(merges.order_by(events.c.attempt.desc(), events.c.sequence.desc()).limit(1))
    return landing_of(told or "") or None
