"""Which sessions and worktrees are to be cleaned up, and how: pure decisions over one look at hosts and jobs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from models.job.messages import JobStatus
from models.ledger.records import JobState
from models.upkeep.cleanup import AttemptRef, CleanupAction, CleanupKind, CleanupOrder, CleanupStep, PolecatFound

AT_WORK = frozenset({JobState.STARTING, JobState.WORKING})
STUCK = frozenset({"stuck", "waiting_for_input"})


def plan(order: CleanupOrder, found: Iterable[PolecatFound], jobs: Mapping[str, JobStatus]) -> tuple[CleanupStep, ...]:
    """What to do about what was found.

    A job that runs keeps its polecat, whatever state it is in, unless it is stuck or force is used
    on its polecat. What is being worked on is never cleaned under its job's feet: the job is asked
    to let go, and goes on with another polecat.

    Args:
        jobs: by bead, those that run.
    """
    steps: list[CleanupStep] = []
    for polecat in found:
        if order.kind is CleanupKind.STUCK:
            steps += _stuck(polecat, jobs)
        elif order.kind is CleanupKind.ZOMBIES:
            steps += _zombies(polecat, jobs)
        elif polecat.polecat == order.polecat:
            steps += _by_force(polecat, jobs) if order.force else [*_zombies(polecat, jobs), *_kept(polecat, jobs)]
    return tuple(steps)


def pieces(polecat: PolecatFound) -> dict[str, int]:
    """Beads that a polecat has anything of, each with its highest attempt; "" is a session that nobody knows."""
    found: dict[str, int] = {}
    for one in _references(polecat):
        found[one.bead] = max(found.get(one.bead, 0), one.attempt)
    return dict(sorted(found.items()))


def _references(polecat: PolecatFound) -> Iterator[AttemptRef]:
    if polecat.session is not None:
        yield polecat.session
    yield from polecat.attempts
    if polecat.worktree is not None:
        yield polecat.worktree


def _over_because(polecat: PolecatFound, bead: str, jobs: Mapping[str, JobStatus]) -> str:
    """Why what this polecat has of the bead is nobody's any more; "" while the job has this polecat."""
    job = jobs.get(bead)
    if job is None:
        return f"the job of {bead} is over"
    if _is_at(job, polecat):
        return ""
    where = f"as {job.polecat} on {job.host}" if job.polecat else "without a polecat yet"
    return f"the job of {bead} goes on {where}"


def _zombies(polecat: PolecatFound, jobs: Mapping[str, JobStatus]) -> Iterator[CleanupStep]:
    for bead, attempt in pieces(polecat).items():
        why = _over_because(polecat, bead, jobs) if bead else ""
        if why:
            yield _step(polecat, bead, attempt, CleanupAction.CLEAN, why)
        elif bead:
            yield from _left_behind(polecat, bead, jobs[bead])


def _left_behind(polecat: PolecatFound, bead: str, job: JobStatus) -> Iterator[CleanupStep]:
    """Sessions of older attempts. The worktree is the job's, whichever attempt last stood in it."""
    sessions = {*polecat.attempts, *([polecat.session] if polecat.session is not None else [])}
    for one in sorted(sessions, key=lambda one: one.attempt):
        if one.bead == bead and one.attempt < job.attempt:
            why = f"attempt {job.attempt} of {bead} has followed it"
            yield _step(polecat, bead, one.attempt, CleanupAction.CLEAN, why)


def _kept(polecat: PolecatFound, jobs: Mapping[str, JobStatus]) -> Iterator[CleanupStep]:
    for bead, attempt in pieces(polecat).items():
        if not bead:
            yield _step(polecat, "", 0, CleanupAction.KEEP, "a session that no attempt was started in")
        elif not _over_because(polecat, bead, jobs):
            yield _step(polecat, bead, attempt, CleanupAction.KEEP, f"its job runs: it is {jobs[bead].state.value}")


def _stuck(polecat: PolecatFound, jobs: Mapping[str, JobStatus]) -> Iterator[CleanupStep]:
    for bead, attempt in pieces(polecat).items():
        job = jobs.get(bead)
        if job is not None and job.health in STUCK and job.state in AT_WORK and _is_at(job, polecat):
            yield _step(polecat, bead, attempt, CleanupAction.REASSIGN, f"attempt {job.attempt} of {bead} is stuck")


def _by_force(polecat: PolecatFound, jobs: Mapping[str, JobStatus]) -> Iterator[CleanupStep]:
    for bead, attempt in pieces(polecat).items():
        job = jobs.get(bead)
        if job is not None and job.state in AT_WORK and _is_at(job, polecat):
            yield _step(polecat, bead, attempt, CleanupAction.REASSIGN, f"by force, from attempt {job.attempt}")
    if pieces(polecat):
        step = _step(polecat, "", 0, CleanupAction.CLEAN, "by force")
        yield step.model_copy(update={"force": True})


def _is_at(job: JobStatus, polecat: PolecatFound) -> bool:
    return (job.polecat, job.host) == (polecat.polecat, polecat.host)


def _step(polecat: PolecatFound, bead: str, attempt: int, action: CleanupAction, why: str) -> CleanupStep:
    return CleanupStep(polecat=polecat.polecat, host=polecat.host, bead=bead, attempt=attempt, action=action, why=why)
