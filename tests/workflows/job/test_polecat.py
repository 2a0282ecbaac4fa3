"""A job from sling to merge, and each way in which it goes wrong and recovers."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from agents import session_folder
from models.job.messages import Decision, DecisionKind, DoneStatus, ObservationKind, SlingRequest, VerdictKind
from models.ledger.records import BeadStatus, BeadStatusReply, JobState
from models.settings import PolecatSettings, Settings
from tests.workflows.conftest import HOST, WorkerBuilder
from tests.workflows.job.job_world import JobWorld, PostBox, Town, rig
from tests.workflows.probes import eventually, runs_of
from workflows.dispatch.workflow import DispatchWorkflow
from workflows.job.state import PolecatState
from workflows.job.workflow import PolecatWorkflow

Open = Callable[..., contextlib.AbstractAsyncContextManager[Town]]


@pytest.fixture
def town(env: WorkflowEnvironment, workers: WorkerBuilder) -> Open:
    @contextlib.asynccontextmanager
    async def start(world: JobWorld | None = None, patience: int = 1000) -> AsyncIterator[Town]:
        world = world or JobWorld()
        async with workers(workflows=[DispatchWorkflow, PolecatWorkflow, PostBox], activities=world.activities):
            yield await Town.open(env, world, patience)

    return start


async def test_a_job_runs_from_sling_to_merge_and_the_record_tells_it_in_order(town: Open) -> None:
    async with town() as shop:
        await shop.sling("sh-1")
        await shop.submit_work("sh-1")
        await shop.merge("sh-1")
        assert shop.world.events("sh-1") == ["hooked", "starting", "working", "submitted", "merged"]
        last = shop.world.writes[-1]
        assert (last.bead_status, last.close_reason, last.merged_sha) == (BeadStatus.CLOSED, "merged", "c" * 40)
        assert [request.landed_sha for request in shop.world.released] == ["c" * 40]


async def test_who_took_the_work_of_an_ended_agent_has_freed_its_slot_and_the_job_does_not_again(town: Open) -> None:
    async with town(JobWorld(rig=rig(max_polecats=1), ends_with_work=True)) as shop:
        await shop.sling("sh-1")
        await shop.submit_work("sh-1")
        await shop.sling("sh-2")
        await shop.reach("sh-2", JobState.WORKING)
        await shop.merge("sh-1")
        told = [
            event.signal_external_workflow_execution_initiated_event_attributes.signal_name
            async for event in shop.job("sh-1").fetch_history_events()
            if event.HasField("signal_external_workflow_execution_initiated_event_attributes")
        ]
        assert told == ["work_started", "submit", "job_ended"]
        assert shop.world.ended == []


@pytest.mark.parametrize(
    ("kind", "event", "facts"),
    [
        pytest.param(
            VerdictKind.FAILED,
            "merge_failed",
            {"gate": "test", "detail": "1 failed", "log_path": "/logs/x"},
            marks=pytest.mark.document(
                "2: Refinery",
                "3: 工作错误",
                "3: 工作错误 → 发送 MERGE_FAILED → 通知 Polecat → Polecat 重新工作",
                "5: 测试失败",
            ),
            id="tests fail",
        ),
        pytest.param(
            VerdictKind.FAILED,
            "merge_failed",
            {"gate": "build", "detail": "error: expected ';'", "log_path": "/logs/y"},
            marks=pytest.mark.document("5: 构建失败"),
            id="build fails",
        ),
        pytest.param(
            VerdictKind.CONFLICT,
            "rework_request",
            {"files": ("a.py",), "detail": "both changed it"},
            marks=pytest.mark.document("5: 冲突"),
            id="conflict",
        ),
    ],
)
async def test_sent_back_work_goes_to_the_same_polecat_with_the_reason(
    town: Open, kind: VerdictKind, event: str, facts: dict[str, object]
) -> None:
    async with town() as shop:
        await shop.sling("sh-1")
        await shop.submit_work("sh-1")
        await shop.judge("sh-1", kind, **facts)
        await shop.submit_work("sh-1", attempt=2)
        first, second = shop.world.started
        assert second.polecat == first.polecat
        assert [note.kind for note in second.notes] == [event]
        expected = (facts["gate"], facts["detail"]) if kind is VerdictKind.FAILED else ("a.py",)
        assert all(str(words) in second.notes[0].text for words in expected)
        assert second.failure_log == facts.get("log_path")
        await shop.merge("sh-1")
        assert ("shop/toast", event.upper()) in [(mail.recipient, mail.kind) for mail in shop.world.mail("sh-1")]
        assert event in shop.world.events("sh-1")
        assert shop.world.writes[-1].reworks == 1


async def test_work_that_is_sent_back_too_often_waits_for_a_person(town: Open) -> None:
    async with town(JobWorld(settings=Settings(polecat=PolecatSettings(max_reworks=1)))) as shop:
        await shop.sling("sh-1")
        await shop.submit_work("sh-1")
        await shop.judge("sh-1", VerdictKind.FAILED, gate="test")
        await shop.submit_work("sh-1", attempt=2)
        await shop.judge("sh-1", VerdictKind.FAILED, gate="test")
        await shop.reach("sh-1", JobState.BLOCKED)
        await shop.escalated("merge_failed")
        await shop.decide("sh-1", Decision(kind=DecisionKind.RETRY))
        await shop.submit_work("sh-1", attempt=3)
        await shop.merge("sh-1")


async def test_an_attempt_whose_number_the_host_knows_already_is_numbered_above_it(town: Open) -> None:
    async with town(JobWorld(known_attempt=4)) as shop:
        await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.WORKING, 5)
        assert [(one.attempt, one.first_attempt) for one in shop.world.started] == [(1, 1), (5, 1)]
        await shop.submit_work("sh-1", 5)
        await shop.merge("sh-1")
        pairs = [(write.attempt, write.sequence) for write in shop.world.writes]
        assert pairs == sorted(set(pairs))


async def test_a_dead_agent_is_restarted_at_once_with_its_attempt_raised(town: Open) -> None:
    async with town() as shop:
        await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.WORKING, 1)
        await shop.observe("sh-1", ObservationKind.DIED, exit_code=137, detail="Killed")
        await shop.submit_work("sh-1", attempt=2)
        assert shop.world.ended[0].attempt == 1
        assert [note.kind for note in shop.world.started[1].notes] == ["agent_died"]
        await shop.merge("sh-1")
        assert shop.world.writes[-1].restarts == 1


async def test_an_agent_that_dies_again_and_again_is_reassigned_once_then_a_person_is_called(town: Open) -> None:
    async with town() as shop:
        await shop.sling("sh-1")
        attempt = 0
        while (await shop.status("sh-1")).state is not JobState.BLOCKED:
            attempt += 1
            status = await shop.status("sh-1")
            if status.state is JobState.WORKING and status.attempt == len(shop.world.started):
                await shop.observe("sh-1", ObservationKind.DIED, exit_code=1)
            await shop.env.sleep(timedelta(seconds=30))
            assert attempt < 200, "the budget never ended"
        polecats = [request.polecat for request in shop.world.started]
        # Once and three restarts in place, then one more with another polecat.
        assert len(polecats) == 5
        assert len(set(polecats)) == 2
        assert polecats == sorted(polecats, key=polecats.index)
        await shop.escalated("polecat_exhausted")
        assert [r.attempt for r in shop.world.started] == list(range(1, 6))


async def test_a_usage_limit_is_waited_out_and_spends_no_restart(town: Open) -> None:
    async with town() as shop:
        await shop.sling("sh-1")
        for attempt in range(1, 8):
            await shop.reach("sh-1", JobState.WORKING, attempt)
            now = await shop.env.get_current_time()
            over = now + timedelta(hours=5) if attempt % 2 else None
            await shop.observe(
                "sh-1", ObservationKind.DIED, exit_code=1, limited="You've hit your limit", limited_until=over
            )
            await shop.reach("sh-1", JobState.WAITING)
            assert (await shop.status("sh-1")).waits_for.startswith("the end of a usage limit, ")
            await shop.env.sleep(timedelta(hours=5, seconds=10) if over else timedelta(minutes=40))
        await shop.submit_work("sh-1", attempt=8)
        await shop.merge("sh-1")
        assert len({request.polecat for request in shop.world.started}) == 1
        assert shop.world.writes[-1].restarts == 0
        assert shop.world.events("sh-1").count("limited") == 7


async def test_a_restart_after_a_limit_that_a_person_did_not_wait_for_is_called_a_restart(town: Open) -> None:
    async with town() as shop:
        await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.WORKING, 1)
        over = await shop.env.get_current_time() + timedelta(hours=5)
        await shop.observe("sh-1", ObservationKind.DIED, exit_code=1, limited="a limit", limited_until=over)
        await shop.reach("sh-1", JobState.WAITING)
        await shop.decide("sh-1", Decision(kind=DecisionKind.RETRY))
        for attempt in (2, 3):
            # The first restart comes at once, the second after a delay.
            await shop.reach("sh-1", JobState.WORKING, attempt)
            await shop.observe("sh-1", ObservationKind.DIED, exit_code=1)
        await shop.reach("sh-1", JobState.WAITING)
        assert (await shop.status("sh-1")).waits_for.startswith("its restart ")


async def test_whatever_would_start_it_again_a_closed_bead_gets_no_further_attempt(town: Open) -> None:
    async with town() as shop:
        follows: dict[str, Callable[[str], Awaitable[None]]] = {
            "sh-1": lambda bead: shop.observe(bead, ObservationKind.DIED),
            "sh-2": lambda bead: shop.observe(bead, ObservationKind.DIED, shared_cause=True),
            "sh-3": lambda bead: shop.observe(bead, ObservationKind.DIED, hold=True),
            "sh-4": lambda bead: shop.observe(bead, ObservationKind.UNRESPONSIVE),
            "sh-5": lambda bead: shop.decide(bead, Decision(kind=DecisionKind.RETRY)),
            "sh-6": lambda bead: shop.decide(bead, Decision(kind=DecisionKind.REASSIGN)),
            "sh-7": lambda bead: shop.judge(bead, VerdictKind.FAILED, gate="test"),
            "sh-8": lambda bead: shop.judge(bead, VerdictKind.CONFLICT, files=("a.py",)),
        }
        for bead in follows:
            await shop.sling(bead)
            await shop.reach(bead, JobState.WORKING, 1)
        for bead in ("sh-7", "sh-8"):
            await shop.submit_work(bead)
        shop.world.closed = BeadStatusReply(status=BeadStatus.CLOSED, close_reason="not needed")
        for bead, follow in follows.items():
            await follow(bead)
            await shop.job(bead).result()
            assert shop.world.events(bead)[-1] == "closed_elsewhere"
        assert [start.attempt for start in shop.world.started] == [1] * len(follows)
        assert shop.world.writes[-1].bead_status is BeadStatus.CLOSED


async def test_refused_work_is_told_to_the_agent_which_lives_on(town: Open) -> None:
    async with town(JobWorld(refuse_work="no commits")) as shop:
        await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.WORKING, 1)
        await shop.observe("sh-1", ObservationKind.DONE)

        async def told() -> bool:
            return "work_refused" in shop.world.events("sh-1")

        await eventually(told, what="the refusal")
        assert [request.intent for request in shop.world.taken] == [session_folder.DONE], (
            "it is settled with the answer"
        )
        assert (await shop.status("sh-1")).state is JobState.WORKING
        shop.world.refuse_work = ""
        await shop.observe("sh-1", ObservationKind.DONE, intent=f"{session_folder.DONE}{session_folder.ID_MARK}2")
        await shop.reach("sh-1", JobState.SUBMITTED)
        await shop.merge("sh-1")


async def test_news_of_an_older_attempt_is_dropped(town: Open) -> None:
    async with town() as shop:
        await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.WORKING, 1)
        await shop.observe("sh-1", ObservationKind.DIED)
        await shop.reach("sh-1", JobState.WORKING, 2)
        await shop.observe("sh-1", ObservationKind.DONE, attempt=1)
        await shop.observe("sh-1", ObservationKind.DIED, attempt=1)
        await shop.submit_work("sh-1", attempt=2)
        await shop.judge("sh-1", VerdictKind.FAILED, merge_request="sh-1.1", attempt=1)
        await shop.merge("sh-1")
        assert [request.attempt for request in shop.world.started] == [1, 2]


async def test_a_cry_for_help_reaches_the_mayor_once_and_the_work_goes_on(town: Open) -> None:
    async with town() as shop:
        await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.WORKING, 1)
        for _ in range(2):
            await shop.observe("sh-1", ObservationKind.HELP, detail="which database?", intent="help/1.json")
        await shop.submit_work("sh-1")
        await shop.merge("sh-1")
        assert [(letter.kind, letter.message) for letter in shop.world.letters] == [("help", "which database?")]


async def test_a_blocked_agent_waits_for_a_person_who_sends_it_on(town: Open) -> None:
    async with town() as shop:
        await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.WORKING, 1)
        await shop.observe("sh-1", ObservationKind.DONE, done_status=DoneStatus.BLOCKED, detail="no access")
        await shop.reach("sh-1", JobState.BLOCKED)
        await shop.decide("sh-1", Decision(kind=DecisionKind.REASSIGN))
        await shop.submit_work("sh-1", attempt=2)
        assert shop.world.started[0].polecat != shop.world.started[1].polecat
        await shop.merge("sh-1")


@pytest.mark.parametrize("fails", ["start_attempt", "take_work", "end_session", "the agent", "reworks"])
async def test_a_job_that_waits_for_a_person_is_blocked_for_its_dispatcher_too(town: Open, fails: str) -> None:
    world = JobWorld(fails=fails, settings=Settings(polecat=PolecatSettings(max_reworks=0)))
    async with town(world) as shop:
        await shop.sling("sh-1")
        if fails != "start_attempt":
            await shop.reach("sh-1", JobState.WORKING, 1)
        if fails == "take_work":
            await shop.observe("sh-1", ObservationKind.DONE)
        elif fails == "end_session":
            await shop.observe("sh-1", ObservationKind.DIED)
        elif fails == "the agent":
            await shop.observe("sh-1", ObservationKind.DONE, done_status=DoneStatus.BLOCKED)
        elif fails == "reworks":
            await shop.submit_work("sh-1")
            await shop.judge("sh-1", VerdictKind.FAILED, gate="test")
        await shop.reach("sh-1", JobState.BLOCKED)
        await shop.escalated({"start_attempt": "polecat_exhausted", "reworks": "merge_failed"}.get(fails, "help"))
        [job] = (await shop.dispatch.query(DispatchWorkflow.status)).jobs
        assert (job.holds_slot, job.waits_for) == (False, "blocked")
        assert (await shop.sling("sh-1")).state is JobState.BLOCKED


async def test_a_job_cancelled_at_work_parks_its_work_and_defers_the_bead(town: Open) -> None:
    async with town(JobWorld(kept_folder="/town/kept/shop/sh-1/1")) as shop:
        await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.WORKING, 1)
        await shop.decide("sh-1", Decision(kind=DecisionKind.ABANDON, reason="not now"))
        await shop.job("sh-1").result()
        told = [write.detail for write in shop.world.writes if write.event == "files_kept"]
        assert [HOST in detail and "/town/kept/shop/sh-1/1" in detail for detail in told] == [True]
        assert shop.world.writes[-1].bead_status is BeadStatus.DEFERRED
        assert [request.landed_sha for request in shop.world.released] == [None]


async def test_a_merge_that_happened_before_the_cancel_wins(town: Open) -> None:
    async with town() as shop:
        await shop.sling("sh-1")
        await shop.submit_work("sh-1")
        await shop.decide("sh-1", Decision(kind=DecisionKind.ABANDON, reason="too late"))
        await shop.merge("sh-1")
        assert shop.world.writes[-1].bead_status is BeadStatus.CLOSED


async def test_with_the_ledger_down_the_job_goes_on_and_its_record_arrives_in_order(town: Open) -> None:
    async with town() as shop:
        await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.WORKING, 1)
        shop.world.ledger_down = True
        written = len(shop.world.writes)
        await shop.observe("sh-1", ObservationKind.DONE)
        await shop.reach("sh-1", JobState.SUBMITTED)
        await shop.judge("sh-1", VerdictKind.MERGED, merged_sha="c" * 40)
        status = await shop.reach("sh-1", JobState.MERGED)
        assert status.unrecorded >= 2
        await shop.env.sleep(timedelta(hours=1))
        assert len(shop.world.writes) == written
        shop.world.ledger_down = False
        await shop.job("sh-1").result()
        assert shop.world.events("sh-1") == ["hooked", "starting", "working", "submitted", "merged"]
        order = [(write.attempt, write.sequence) for write in shop.world.writes]
        assert order == sorted(set(order))


async def test_a_job_goes_on_over_two_continue_as_new(town: Open, env: WorkflowEnvironment) -> None:
    async with town() as shop:
        admission = await shop.world.admit_bead(SlingRequest(bead="sh-1", rig="shop"))
        handle = await env.client.start_workflow(
            PolecatWorkflow.run,
            PolecatState(admission=admission, patience=2),
            id="polecat/shop/sh-1",
            task_queue="town",
        )
        runs = {await runs_of(handle)}
        await shop.dispatch.signal("wake")
        await shop.reach("sh-1", JobState.WORKING, 1)
        for attempt in (1, 2):
            runs.add(await runs_of(handle))
            await shop.observe("sh-1", ObservationKind.HELP, detail="?", intent=f"help/{attempt}.json")
            await shop.observe("sh-1", ObservationKind.DIED)
            await shop.env.sleep(timedelta(minutes=2))
            await shop.reach("sh-1", JobState.WORKING, attempt + 1)
        runs.add(await runs_of(handle))
        await shop.submit_work("sh-1", attempt=3)
        await shop.merge("sh-1")
        assert len(runs) >= 3
        assert shop.world.writes[-1].restarts == 2
        assert [request.attempt for request in shop.world.started] == [1, 2, 3]
