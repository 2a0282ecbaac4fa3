"""Where Dolt, git and Temporal disagree. Who is right (product.md section 2): git for what is merged, Temporal for
the queue and for running work, Dolt for the rest. Pure."""

from __future__ import annotations

import json
import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping

from ledger.beads.beads import MERGED
from models import names
from models.errors import DAMAGED_HINT
from models.ledger.records import BeadStatus, JobState
from models.upkeep.verification import (
    BeadFact,
    BranchFacts,
    Problem,
    ProblemKind,
    RecordFacts,
    RemoteFacts,
    RigFact,
    StoreFacts,
    TemporalFacts,
)

_FIX = "bd verify --fix"


def disagreements(
    record: RecordFacts, remotes: Mapping[str, RemoteFacts], temporal: TemporalFacts | None
) -> list[Problem]:
    """Every disagreement between the three.

    Args:
        remotes: by rig; a rig whose remote could not be asked is not there.
        temporal: None where it could not be asked.
    """
    found = [*_against_git(record, remotes, temporal), *_unknown_landings(record, remotes), *_within(record)]
    if temporal is not None:
        found += [*_against_temporal(record, temporal), *_idle(record, temporal)]
    return sorted(found, key=lambda problem: (problem.kind, problem.subject))


def troubles(store: StoreFacts) -> list[Problem]:
    """What is wrong with the ledger itself."""
    found = [
        Problem(kind=ProblemKind.SCHEMA_DRIFT, subject=drift.split(":")[0], message=drift, command=_FIX)
        for drift in store.drift
    ]
    for table, key, why in store.unreadable:
        message = f"a row of {table} cannot be understood: {why}"
        command = "gt dolt log, then restore a backup"
        found.append(
            Problem(kind=ProblemKind.UNREADABLE_ROW, subject=f"{table} {key}", message=message, command=command)
        )
    for table in store.uncommitted:
        message = f"{table} was changed by hand, and not committed"
        found.append(Problem(kind=ProblemKind.UNCOMMITTED_CHANGE, subject=table, message=message, command=_FIX))
    if store.damage:
        found.append(
            Problem(
                kind=ProblemKind.DAMAGED_FILE,
                subject="ledger",
                message=f"the ledger's file is damaged: {store.damage}",
                command=DAMAGED_HINT,
            )
        )
    return found


def _against_git(
    record: RecordFacts, remotes: Mapping[str, RemoteFacts], temporal: TemporalFacts | None
) -> Iterator[Problem]:
    for bead, fact in record.beads.items():
        own = remotes.get(fact.rig)
        if own is None:
            continue
        remote = own.of(fact.target)
        merged = fact.status is BeadStatus.CLOSED and fact.close_reason == MERGED
        if merged and not _holds(remote, own, bead, fact):
            which = (fact.merged_sha or "no commit")[:12]
            yield Problem(
                kind=ProblemKind.CLOSED_NOT_LANDED,
                rig=fact.rig,
                subject=bead,
                message=f"{bead} is closed as merged, but {which} is not on {remote.target}",
                command=f"bd reopen {bead} --reason 'not on {remote.target}' && gt sling {bead} {fact.rig}",
            )
        unknown = [sha for sha in remote.landed.get(bead, ()) if sha not in record.landings.get(bead, ())]
        runs = temporal is not None and (fact.rig, bead) in temporal.jobs
        if unknown and fact.status is not BeadStatus.CLOSED and not runs:
            yield Problem(
                kind=ProblemKind.LANDED_BUT_OPEN,
                rig=fact.rig,
                subject=bead,
                message=f"{bead} is {fact.status}, but {unknown[0][:12]} on {remote.target} is its work",
                command=_FIX,
                detail={"sha": unknown[0]},
            )


def _unknown_landings(record: RecordFacts, remotes: Mapping[str, RemoteFacts]) -> Iterator[Problem]:
    """Landings of which the ledger knows nothing, as one has that was restored from an older backup.

    What an earlier town left in the repository, before its rig was added, is nobody's; so is a copy of a known landing,
    as somebody who rewrites the target makes them.
    """
    for rig in record.rigs:
        own, since = remotes.get(rig.name), rig.created_at.replace(microsecond=0)  # git counts whole seconds
        if own is None:
            continue
        for remote in (own, *own.others.values()):
            for bead, shas in remote.landed.items():
                unknown = [sha for sha in shas if sha not in record.landings.get(bead, ())]
                known = {remote.landings[sha].change for sha in set(shas) - set(unknown)}
                if bead in record.jobs:
                    known.add(record.jobs[bead].head_sha or "")
                unknown = [
                    sha
                    for sha in unknown
                    if remote.landings[sha].change not in known and remote.landings[sha].at >= since
                ]
                fact = record.beads.get(bead)
                over = fact is None or fact.status is BeadStatus.CLOSED
                if unknown and over and bead.startswith(f"{rig.prefix}-"):
                    knows = "has no such bead" if fact is None else f"has {bead} as closed without it"
                    yield Problem(
                        kind=ProblemKind.LANDED_UNKNOWN,
                        rig=rig.name,
                        subject=bead,
                        message=f"{unknown[0][:12]} on {remote.target} is work of {bead}, and the ledger {knows}: "
                        "put a newer ledger in its place; without one, and if nobody has forged that, take it in",
                        command=_taking_in(rig, own, remote, bead, fact, unknown[0]),
                        detail={"sha": unknown[0]},
                    )


def _taking_in(rig: RigFact, own: BranchFacts, remote: BranchFacts, bead: str, fact: BeadFact | None, sha: str) -> str:
    """What a person types for a landing to be in the ledger: nobody else can tell it from a forged one."""
    title = f"landed as {sha[:12]}"
    target = None if remote is own else remote.target
    if fact is not None:
        moved = f" && bd update {bead} --target {shlex.quote(target or '')}" if fact.target != target else ""
        return f"bd reopen {bead} --reason '{title}'{moved} && bd verify --fix"
    line = {
        "id": bead, "rig": rig.name, "title": title, "status": BeadStatus.CLOSED.value, "close_reason": MERGED,
        "merged_sha": sha, "created_at": remote.landings[sha].at.isoformat(),
    }  # fmt: skip
    return f"echo {shlex.quote(json.dumps(line | ({'target': target} if target else {})))} | bd import -"


def _holds(remote: BranchFacts, own: RemoteFacts, bead: str, fact: BeadFact) -> bool:
    """Whether what landed is there: on the bead's target, or where that went on to, the rig's own branch."""
    if fact.merged_sha in remote.shas or fact.merged_sha in own.shas:
        return True
    return remote is not own and bool(own.landed.get(bead))


def _within(record: RecordFacts) -> Iterator[Problem]:
    for bead, needs in record.dangling:
        absent = bead if bead not in record.beads else needs
        yield Problem(
            kind=ProblemKind.DEPENDENCY_ON_NOTHING,
            subject=f"{bead} needs {needs}",
            message=f"{bead} needs {needs}, but there is no bead {absent}",
            command=_FIX if absent == bead else f"bd dep remove {bead} {needs}",
            detail={"bead": bead, "needs": needs},
        )
    for request in record.queued:
        job = record.jobs.get(request.bead)
        if job is None or job.state.final:
            over = "was never recorded" if job is None else f"is {job.state}"
            yield Problem(
                kind=ProblemKind.REQUEST_WITHOUT_JOB,
                subject=request.id,
                message=f"the merge request {request.id} waits, but the job of {request.bead} {over}",
                command=_FIX,
            )


def _against_temporal(record: RecordFacts, temporal: TemporalFacts) -> Iterator[Problem]:
    homes: dict[str, list[str]] = defaultdict(list)
    for rig, bead in sorted(temporal.jobs):
        homes[bead].append(rig)
    for bead, rigs in homes.items():
        yield from _of_running(record, bead, rigs)
    for bead, job in record.jobs.items():
        fact = record.beads.get(bead)
        if fact is None or job.state.final or job.waits_for_room or fact.status is BeadStatus.CLOSED:
            continue
        if (job.rig, bead) not in temporal.jobs:
            yield Problem(
                kind=ProblemKind.HOOKED_WITHOUT_JOB,
                subject=bead,
                message=f"{bead} is {fact.status} and its job {job.state}, but no such job runs",
                command=f"gt sling {bead} {job.rig}",
            )
        elif job.state is JobState.SUBMITTED and job.rig in temporal.queues:
            waiting = [request.id for request in record.queued if request.bead == bead]
            if not any(request in temporal.queues[job.rig] for request in waiting):
                yield Problem(
                    kind=ProblemKind.SUBMITTED_NOT_QUEUED,
                    subject=bead,
                    message=f"{bead} waits for its merge, but the Refinery of {job.rig} does not have it",
                    command=_FIX,
                    detail={"merge_request": waiting[-1] if waiting else ""},
                )
    for bead, fact in record.beads.items():
        by_job = fact.status in {BeadStatus.HOOKED, BeadStatus.SUBMITTED}
        if by_job and bead not in record.jobs and bead not in homes:
            yield Problem(
                kind=ProblemKind.HOOKED_WITHOUT_JOB,
                subject=bead,
                message=f"{bead} is {fact.status}, but it never had a job",
                command=f"bd update {bead} --status open",
            )


def _of_running(record: RecordFacts, bead: str, rigs: list[str]) -> Iterator[Problem]:
    fact = record.beads.get(bead)
    home = fact.rig if fact is not None else rigs[0]
    if len(rigs) > 1:
        foreign = next(rig for rig in rigs if rig != home)
        yield Problem(
            kind=ProblemKind.TWO_JOBS,
            subject=bead,
            message=f"jobs of the rigs {' and '.join(rigs)} work on {bead}, which belongs to {home}",
            command=f"temporal workflow terminate --workflow-id {names.polecat_id(foreign, bead)}",
        )
    job = record.jobs.get(bead)
    if fact is not None and fact.status is BeadStatus.CLOSED and (job is None or not job.state.final):
        yield Problem(
            kind=ProblemKind.CLOSED_WITH_JOB,
            subject=bead,
            message=f"{bead} is closed ({fact.close_reason}), but a job works on it",
            command=f"gt job cancel {bead}",
        )


def _idle(record: RecordFacts, temporal: TemporalFacts) -> Iterator[Problem]:
    for polecat in record.polecats:
        if polecat.bead is None or (polecat.rig, polecat.bead) in temporal.jobs:
            continue
        yield Problem(
            kind=ProblemKind.POLECAT_WITHOUT_JOB,
            subject=names.polecat_address(polecat.rig, polecat.name),
            message=f"{polecat.name} of {polecat.rig} is {polecat.state} with {polecat.bead}, but no such job runs",
            command=_FIX,
            detail={"bead": polecat.bead},
        )
