"""No job ends in silence: each way to stop without a merge, driven, and what people hear of it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from activities.sessions.attempts import SAY_SO
from models.job.messages import Decision, DecisionKind, DoneStatus, ObservationKind, VerdictKind
from models.ledger.records import BeadStatus, BeadStatusReply, JobState, MergeRequest
from models.settings import PolecatSettings, RecoverySettings, Settings
from policies.job.ends import ENDS, End
from policies.job.restarts import SETUP_RUNS
from policies.job.runs import most_runs
from tests.workflows.conftest import WorkerBuilder
from tests.workflows.job.job_world import JobWorld, PostBox, Town
from tests.workflows.probes import eventually
from workflows.dispatch.workflow import DispatchWorkflow
from workflows.job.merging import PUBLICATIONS
from workflows.job.workflow import PolecatWorkflow

Open = Callable[..., contextlib.AbstractAsyncContextManager[Town]]
BEAD = "sh-1"
GONE = "polecat/sh-1 is not on the remote"


@pytest.fixture
def town(env: WorkflowEnvironment, workers: WorkerBuilder) -> Open:
    """A town whose bead is worked on, unless it cannot be started."""

    @contextlib.asynccontextmanager
    async def start(world: JobWorld | None = None, *, working: bool = True) -> AsyncIterator[Town]:
        world = world or JobWorld()
        async with workers(workflows=[DispatchWorkflow, PolecatWorkflow, PostBox], activities=world.activities):
            shop = await Town.open(env, world)
            await shop.sling(BEAD)
            if working:
                await shop.reach(BEAD, JobState.WORKING, 1)
            yield shop

    return start


async def gone(shop: Town) -> None:
    await shop.judge(BEAD, VerdictKind.RETURNED, gone=True, detail=GONE)


# --- the table over all ways ----------------------------------------------------------------------


async def cancelled(shop: Town) -> None:
    await shop.decide(BEAD, Decision(kind=DecisionKind.ABANDON, reason="not now"))


async def cleared(shop: Town) -> None:
    await shop.submit_work(BEAD)
    await shop.judge(BEAD, VerdictKind.RETURNED, cleared=True, detail="the queue was cleared")


async def closed_elsewhere(shop: Town) -> None:
    shop.world.closed = BeadStatusReply(status=BeadStatus.CLOSED, close_reason="not needed")
    await shop.observe(BEAD, ObservationKind.DIED)


def says(status: DoneStatus) -> Callable[[Town], Awaitable[None]]:
    async def say(shop: Town) -> None:
        await shop.observe(BEAD, ObservationKind.DONE, done_status=status, detail="it waits for the API")

    return say


async def nothing_changed(shop: Town) -> None:
    shop.world.refuse_work, shop.world.unchanged = f"no commits; {SAY_SO}", True
    for attempt in (1, 2):
        await shop.reach(BEAD, JobState.WORKING, attempt)
        await shop.observe(BEAD, ObservationKind.DIED, exit_code=0, detail="I have answered in a comment")


async def nothing(shop: Town) -> None:
    """It ends by itself."""


async def hands_in(shop: Town) -> None:
    await shop.observe(BEAD, ObservationKind.DONE)


async def ends_well(shop: Town) -> None:
    await shop.observe(BEAD, ObservationKind.DIED, exit_code=0)


async def dies(shop: Town) -> None:
    await shop.observe(BEAD, ObservationKind.DIED, exit_code=1)


async def setup_fails(shop: Town) -> None:
    for attempt in range(1, SETUP_RUNS + 1):
        await shop.reach(BEAD, JobState.WORKING, attempt)
        await shop.observe(BEAD, ObservationKind.DIED, exit_code=1, setup_failed=True, detail="npm: not found")
        if attempt < SETUP_RUNS:
            await moved(shop, attempt)


async def branch_gone(shop: Town) -> None:
    await shop.submit_work(BEAD)
    await gone(shop)


async def returned(shop: Town) -> None:
    await shop.submit_work(BEAD)
    await shop.judge(BEAD, VerdictKind.RETURNED, detail="for no reason that is known")


async def sent_back(shop: Town) -> None:
    await shop.submit_work(BEAD)
    await shop.judge(BEAD, VerdictKind.FAILED, gate="test")


async def dies_on(shop: Town) -> None:
    for attempt in (1, 2):
        await shop.reach(BEAD, JobState.WORKING, attempt)
        await dies(shop)


def settings(max_retries: int = 3, max_reworks: int = 5) -> Settings:
    return Settings(
        recovery=RecoverySettings(max_retries=max_retries), polecat=PolecatSettings(max_reworks=max_reworks)
    )


Way = tuple[End, Callable[[Town], Awaitable[None]], JobWorld]
WAYS: dict[str, Callable[[], Way]] = {
    "a person cancels it": lambda: (End.CANCELLED, cancelled, JobWorld()),
    "a person clears the queue": lambda: (End.CLEARED, cleared, JobWorld()),
    "a person closed the bead": lambda: (End.CLOSED_ELSEWHERE, closed_elsewhere, JobWorld()),
    "its agent has nothing to do": lambda: (End.NOTHING_TO_DO, says(DoneStatus.NOTHING_TO_DO), JobWorld()),
    "its agent defers it": lambda: (End.DEFERRED, says(DoneStatus.DEFERRED), JobWorld()),
    "its agent is blocked": lambda: (End.AGENT_BLOCKED, says(DoneStatus.BLOCKED), JobWorld()),
    "its agents change nothing": lambda: (End.NOTHING_CHANGED, nothing_changed, JobWorld()),
    "it cannot be started": lambda: (End.CANNOT_START, nothing, JobWorld(fails="start_attempt")),
    "its worktree cannot be set up": lambda: (End.SETUP_FAILED, setup_fails, JobWorld()),
    "the remote refuses its work": lambda: (End.WORK_NOT_TAKEN, hands_in, JobWorld(fails="take_work")),
    "the remote refuses what counts as done": lambda: (End.WORK_NOT_TAKEN, ends_well, JobWorld(fails="take_work")),
    "its branch cannot be published again": lambda: (End.BRANCH_GONE, branch_gone, JobWorld(fails="publish_again")),
    "the Refinery returns it": lambda: (End.RETURNED, returned, JobWorld()),
    "it is sent back too often": lambda: (End.REWORKS_SPENT, sent_back, JobWorld(settings=settings(max_reworks=0))),
    "its agents die": lambda: (End.RUNS_SPENT, dies_on, JobWorld(settings=settings(max_retries=0))),
    "a step fails": lambda: (End.STEP_FAILED, dies, JobWorld(fails="end_session")),
}


def test_each_end_is_driven_by_one_of_these_ways() -> None:
    assert {way()[0] for way in WAYS.values()} == set(End)


@pytest.mark.parametrize("name", WAYS)
async def test_a_job_that_stops_without_a_merge_is_told_to_people_unless_one_asked_for_it(
    town: Open, name: str
) -> None:
    end, drive, world = WAYS[name]()
    ruling = ENDS[end]
    async with town(world, working=end is not End.CANNOT_START) as shop:
        await drive(shop)
        await shop.reach(BEAD, ruling.state)
        await shop.escalated(*([ruling.asks] if ruling.asks else []))
        if ruling.state.final:
            await shop.job(BEAD).result()
            assert ruling.event in shop.world.events(BEAD)
        for letter in world.letters:
            assert (letter.bead, letter.severity) == (BEAD, ruling.severity.value)
            assert letter.message, "the reason"


async def test_what_a_remote_says_that_refuses_the_work_is_told_whole_line_by_line(town: Open) -> None:
    rules = "\n".join(
        f"remote: - rule {number}: every commit is signed by a key of the company" for number in range(40)
    )
    async with town(JobWorld(fails="take_work", failing_words=rules)) as shop:
        await hands_in(shop)
        await shop.reach(BEAD, JobState.BLOCKED)
        await shop.escalated("help")
        assert rules in shop.world.letters[0].message
        await shop.recorded(BEAD, "blocked")
        [story] = [write.detail for write in shop.world.writes if write.event == "blocked"]
        assert rules in story
        shop.world.fails = ""
        await shop.decide(BEAD, Decision(kind=DecisionKind.RETRY))
        await shop.reach(BEAD, JobState.WORKING, 2)
        assert rules in shop.world.started[-1].notes[-1].text


# --- nothing to do --------------------------------------------------------------------------------


async def test_a_bead_that_needs_no_code_is_closed_with_the_agent_s_reason(town: Open) -> None:
    async with town() as shop:
        await shop.observe(
            BEAD, ObservationKind.DONE, done_status=DoneStatus.NOTHING_TO_DO, detail="the index is\nmissing"
        )
        await shop.job(BEAD).result()
        last = shop.world.writes[-1]
        assert (last.state, last.bead_status, last.event) == (JobState.CLOSED, BeadStatus.CLOSED, "closed")
        assert last.close_reason == last.detail == "nothing to do: the index is missing"
        assert last.merged_sha is None
        assert shop.world.letters == []


async def test_an_agent_that_ends_well_without_a_change_is_told_once_how_to_say_so_then_a_person_reads_its_words(
    town: Open,
) -> None:
    world = JobWorld()
    async with town(world) as shop:
        await nothing_changed(shop)
        await shop.reach(BEAD, JobState.BLOCKED)
        await shop.escalated("help")
        [first, second] = world.started
        assert not first.notes
        assert "nothing-to-do" in second.notes[0].text
        assert "I have answered in a comment" in world.letters[0].message


async def test_a_change_that_the_target_holds_already_is_merged_by_the_commit_that_has_it(town: Open) -> None:
    async with town() as shop:
        await shop.submit_work(BEAD)
        head = (await shop.status(BEAD)).head_sha
        await shop.judge(
            BEAD, VerdictKind.MERGED, merged_sha="d" * 40, already_there=True, detail="already there: see there"
        )
        await shop.job(BEAD).result()
        last = shop.world.writes[-1]
        assert (last.state, last.close_reason, last.merged_sha) == (JobState.MERGED, "merged", "d" * 40)
        assert "already there" in last.detail
        assert [one.landed_sha for one in shop.world.released] == [head], "nothing of it has to be parked"


# --- accepted work whose branch is gone -----------------------------------------------------------


async def test_accepted_work_whose_branch_is_gone_is_published_again_and_handed_in_without_an_agent(
    town: Open,
) -> None:
    async with town() as shop:
        await shop.submit_work(BEAD)
        head = (await shop.status(BEAD)).head_sha
        await gone(shop)
        await again(shop, 1)
        assert [one.head_sha for one in shop.world.published] == [head]
        await shop.merge(BEAD)
        assert shop.world.events(BEAD)[-3:] == ["submitted", "submitted", "merged"]
        assert len(shop.world.started) == 1
        assert shop.world.letters == []


async def again(shop: Town, times: int) -> None:
    async def so() -> bool:
        offered = [write for write in shop.world.writes if write.event == "submitted"]
        return len(offered) == times + 1 and (await shop.status(BEAD)).state is JobState.SUBMITTED

    await eventually(so, what=f"the change handed in again {times} times")


async def test_a_branch_that_is_deleted_again_and_again_is_a_person_s_whose_retry_publishes_it_once_more(
    town: Open,
) -> None:
    async with town() as shop:
        await shop.submit_work(BEAD)
        for times in range(1, PUBLICATIONS + 1):
            await gone(shop)
            await again(shop, times)
        await gone(shop)
        await shop.reach(BEAD, JobState.BLOCKED)
        await shop.escalated("help")
        assert GONE in shop.world.letters[0].message
        await shop.decide(BEAD, Decision(kind=DecisionKind.RETRY))
        await again(shop, PUBLICATIONS + 1)
        await shop.merge(BEAD)
        assert len(shop.world.started) == 1, "no agent works on what is done"


async def test_an_older_word_about_a_gone_branch_does_not_publish_it_once_more(town: Open) -> None:
    async with town() as shop:
        await shop.submit_work(BEAD)

        async def written() -> MergeRequest | None:
            return next((write.merge_request for write in shop.world.writes if write.event == "submitted"), None)

        first = await eventually(written, what="the record of what was handed in")
        await shop.judge(BEAD, VerdictKind.RETURNED, gone=True, detail=GONE, submitted_at=first.submitted_at)
        await again(shop, 1)
        await shop.judge(BEAD, VerdictKind.RETURNED, gone=True, detail=GONE, submitted_at=first.submitted_at)
        await shop.merge(BEAD)
        assert len(shop.world.published) == 1


async def test_accepted_work_whose_branch_and_host_are_gone_is_told_to_a_person(town: Open) -> None:
    async with town() as shop:
        await shop.submit_work(BEAD)
        await shop.job(BEAD).signal("host_lost", {"host": (await shop.status(BEAD)).host})

        async def left() -> bool:
            return "host_lost" in shop.world.events(BEAD)

        await eventually(left, what="the host to be given up")
        await gone(shop)
        await shop.reach(BEAD, JobState.BLOCKED)
        await shop.escalated("help")
        assert "its host is gone" in shop.world.letters[0].message


# --- what an agent deferred -----------------------------------------------------------------------


async def test_a_deferred_bead_that_is_slung_again_needs_no_person_any_more(town: Open) -> None:
    async with town() as shop:
        await says(DoneStatus.DEFERRED)(shop)
        await shop.job(BEAD).result()
        await shop.escalated("job_ended")
        shop.world.status_before, shop.world.highest_attempt = BeadStatus.DEFERRED, 1
        await shop.sling(BEAD)
        await shop.reach(BEAD, JobState.WORKING, 2)
        await shop.over(shop.world.letters[0].id)


# --- runs do not multiply -------------------------------------------------------------------------


@pytest.mark.parametrize("outcomes", ["dddsssdmrdsmrd", "rsdmsdrsdmdsd", "sssrmsdddrddm", "mdsrdmsdsrdmsd"])
async def test_agents_run_no_more_often_than_the_bound_whatever_follows_what_and_whatever_the_mayor_decides(
    town: Open, outcomes: str
) -> None:
    """d: it dies, s: its work is sent back; m and r: the Mayor retries and reassigns what waits."""
    limits = settings(max_retries=2, max_reworks=2)
    async with town(JobWorld(settings=limits)) as shop:
        for outcome in outcomes * 2:
            status = await shop.status(BEAD)
            if status.state is JobState.BLOCKED:
                kind = {"m": DecisionKind.RETRY, "r": DecisionKind.REASSIGN}.get(outcome)
                if kind is None:
                    continue
                seen = len(shop.world.letters)
                await shop.decide(BEAD, Decision(kind=kind, by_person=False))
                await moved(shop, status.attempt, seen)
            elif outcome == "d":
                await shop.reach(BEAD, JobState.WORKING, status.attempt)
                await dies(shop)
                await moved(shop, status.attempt)
            elif outcome == "s":
                await shop.submit_work(BEAD, status.attempt)
                await shop.judge(BEAD, VerdictKind.FAILED, gate="test")
                await moved(shop, status.attempt)
        assert len(shop.world.started) <= most_runs(limits) == 6


async def moved(shop: Town, attempt: int, letters: int | None = None) -> None:
    """Wait until the next attempt works, or the job is blocked (once more)."""

    async def so() -> bool:
        status = await shop.status(BEAD)
        if status.state is JobState.BLOCKED:
            return letters is None or len(shop.world.letters) > letters
        if status.state is JobState.WAITING:
            await shop.env.sleep(timedelta(minutes=1))
        return status.state is JobState.WORKING and status.attempt > attempt

    await eventually(so, what="the next attempt, or a person's turn")
