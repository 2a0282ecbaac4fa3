"""Which sessions and worktrees are cleaned up: what belongs to nobody, and what a person names."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from models.job.messages import JobStatus
from models.ledger.records import JobState, Rig
from models.upkeep.cleanup import AttemptRef, CleanupAction, CleanupKind, CleanupOrder, PolecatFound
from policies.upkeep.cleanup import AT_WORK, plan

RIG = Rig(name="shop", url="/srv/shop.git", prefix="sh", branch="main", created_at=datetime(2026, 1, 1, tzinfo=UTC))


def job(
    bead: str = "sh-1",
    attempt: int = 2,
    polecat: str | None = "toast",
    host: str | None = "h1",
    state: JobState = JobState.WORKING,
    health: str = "",
) -> JobStatus:
    return JobStatus(
        bead=bead, rig="shop", state=state, attempt=attempt, polecat=polecat, host=host, branch=f"polecat/{bead}",
        head_sha=None, merged_sha=None, restarts=0, reworks=0, waits_for="", unrecorded=0, health=health,
    )  # fmt: skip


def found(
    session: tuple[str, int] | None = None,
    attempts: tuple[tuple[str, int], ...] = (),
    worktree: tuple[str, int] | None = None,
    polecat: str = "toast",
    host: str = "h1",
) -> PolecatFound:
    def ref(pair: tuple[str, int]) -> AttemptRef:
        return AttemptRef(bead=pair[0], attempt=pair[1])

    return PolecatFound(
        polecat=polecat,
        host=host,
        session=ref(session) if session else None,
        session_lives=session is not None,
        attempts=tuple(ref(one) for one in attempts),
        worktree=ref(worktree) if worktree else None,
    )


def planned(
    kind: CleanupKind, polecat: PolecatFound, *jobs: JobStatus, force: bool = False
) -> list[tuple[str, int, CleanupAction]]:
    name = "toast" if kind is CleanupKind.POLECAT else None
    order = CleanupOrder(rig=RIG, kind=kind, hosts=("h1",), polecat=name, force=force)
    steps = plan(order, [polecat], {one.bead: one for one in jobs})
    return [(step.bead, step.attempt, step.action) for step in steps]


WHOLE = found(("sh-1", 2), (("sh-1", 2),), ("sh-1", 2))
CLEAN, REASSIGN, KEEP = CleanupAction.CLEAN, CleanupAction.REASSIGN, CleanupAction.KEEP


class TestZombies:
    def test_what_a_running_job_has_is_none(self) -> None:
        for state in JobState:
            assert planned(CleanupKind.ZOMBIES, WHOLE, job(state=state)) == []

    def test_a_session_and_worktree_whose_job_is_over(self) -> None:
        assert planned(CleanupKind.ZOMBIES, WHOLE) == [("sh-1", 2, CLEAN)]

    def test_a_worktree_alone_whose_job_is_over(self) -> None:
        assert planned(CleanupKind.ZOMBIES, found(worktree=("sh-1", 2))) == [("sh-1", 2, CLEAN)]

    def test_what_stands_on_a_host_that_healed_after_the_job_had_moved(self) -> None:
        for elsewhere in (job(polecat="nux"), job(host="h2"), job(polecat=None, host=None)):
            assert planned(CleanupKind.ZOMBIES, WHOLE, elsewhere) == [("sh-1", 2, CLEAN)]

    def test_a_session_of_an_older_attempt_beside_the_running_one(self) -> None:
        both = found(("sh-1", 2), (("sh-1", 1), ("sh-1", 2)), ("sh-1", 2))
        assert planned(CleanupKind.ZOMBIES, both, job()) == [("sh-1", 1, CLEAN)]

    def test_a_worktree_between_two_attempts_is_its_jobs(self) -> None:
        between = found(worktree=("sh-1", 1))
        assert planned(CleanupKind.ZOMBIES, between, job(attempt=2, state=JobState.WAITING)) == []

    def test_leftovers_of_one_bead_beside_the_work_on_another(self) -> None:
        both = found(("sh-2", 1), (("sh-1", 3), ("sh-2", 1)), ("sh-2", 1))
        assert planned(CleanupKind.ZOMBIES, both, job("sh-2", 1)) == [("sh-1", 3, CLEAN)]

    def test_a_session_that_nobody_knows_is_left_to_people(self) -> None:
        assert planned(CleanupKind.ZOMBIES, found(("", 0))) == []


class TestStuck:
    def test_a_stuck_polecats_job_goes_on_with_another(self) -> None:
        for health in ("stuck", "waiting_for_input"):
            assert planned(CleanupKind.STUCK, WHOLE, job(health=health)) == [("sh-1", 2, REASSIGN)]

    def test_a_healthy_or_stale_one_is_left_alone(self) -> None:
        for health in ("", "stale"):
            assert planned(CleanupKind.STUCK, WHOLE, job(health=health)) == []
        assert planned(CleanupKind.STUCK, WHOLE) == []


class TestOnePolecat:
    def test_without_force_what_is_its_jobs_is_kept(self) -> None:
        assert planned(CleanupKind.POLECAT, WHOLE, job()) == [("sh-1", 2, KEEP)]
        assert planned(CleanupKind.POLECAT, found(("", 0))) == [("", 0, KEEP)]

    def test_without_force_a_zombie_is_cleaned(self) -> None:
        assert planned(CleanupKind.POLECAT, WHOLE) == [("sh-1", 2, CLEAN)]

    def test_by_force_its_job_lets_go_before_the_rest_is_cleaned(self) -> None:
        assert planned(CleanupKind.POLECAT, WHOLE, job(), force=True) == [("sh-1", 2, REASSIGN), ("", 0, CLEAN)]

    def test_by_force_work_that_waits_for_its_merge_or_a_person_stays_with_its_job(self) -> None:
        for state in (JobState.SUBMITTED, JobState.BLOCKED, JobState.WAITING):
            assert planned(CleanupKind.POLECAT, WHOLE, job(state=state), force=True) == [("", 0, CLEAN)]

    def test_another_polecat_is_not_touched(self) -> None:
        other = found(("sh-1", 2), polecat="nux")
        assert planned(CleanupKind.POLECAT, other, force=True) == []

    def test_where_there_is_nothing_there_is_nothing_to_do(self) -> None:
        assert planned(CleanupKind.POLECAT, found(), force=True) == []


beads = st.sampled_from(["", "sh-1", "sh-2"])
pairs = st.tuples(beads, st.integers(0, 3))
polecats = st.builds(
    found,
    st.none() | pairs,
    st.lists(pairs.filter(lambda pair: bool(pair[0])), max_size=3).map(tuple),
    st.none() | pairs.filter(lambda pair: bool(pair[0])),
)
jobs = st.lists(
    st.builds(
        job,
        st.sampled_from(["sh-1", "sh-2"]),
        st.integers(0, 3),
        st.sampled_from(["toast", "nux", None]),
        st.sampled_from(["h1", "h2", None]),
        st.sampled_from([state for state in JobState if not state.final]),
        st.sampled_from(["", "stale", "stuck"]),
    ),
    unique_by=lambda status: status.bead,
    max_size=2,
)


@given(st.sampled_from(list(CleanupKind)), polecats, jobs, st.booleans())
def test_no_session_that_a_job_works_in_is_ended_under_it(
    kind: CleanupKind, polecat: PolecatFound, running: list[JobStatus], force: bool
) -> None:
    order = CleanupOrder(rig=RIG, kind=kind, hosts=("h1",), polecat="toast", force=force)
    steps = plan(order, [polecat], {one.bead: one for one in running})
    asked = {step.bead for step in steps if step.action is REASSIGN}
    for status in running:
        here = (status.polecat, status.host) == ("toast", "h1") and status.state in AT_WORK
        for number, step in enumerate(steps):
            if step.action is not CLEAN or not here:
                continue
            if step.force:
                mine = {polecat.session, *polecat.attempts, polecat.worktree} - {None}
                assert status.bead in asked or status.bead not in {one.bead for one in mine if one}
                assert number == len(steps) - 1
            else:
                assert step.bead != status.bead or step.attempt < status.attempt
