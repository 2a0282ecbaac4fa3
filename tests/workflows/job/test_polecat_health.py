"""A job whose agent is stale, unresponsive or stuck, and whose work turns out to be merged already."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from models.job.messages import Decision, DecisionKind, ObservationKind, SlingRequest, VerdictKind
from models.ledger.records import BeadStatus, BeadStatusReply, JobState
from models.settings import HealthSettings, RecoverySettings, Settings
from tests.workflows.conftest import WorkerBuilder
from tests.workflows.job.job_world import JobWorld, PostBox, Town
from tests.workflows.probes import eventually, runs_of
from workflows.dispatch.workflow import DispatchWorkflow
from workflows.job.state import PolecatState
from workflows.job.workflow import PolecatWorkflow

Open = Callable[..., contextlib.AbstractAsyncContextManager[Town]]
TAIL = "no progress for 1800 s\nAllow this command? (y/n)"


@pytest.fixture
def town(env: WorkflowEnvironment, workers: WorkerBuilder) -> Open:
    """A town whose bead sh-1 is being worked on."""

    @contextlib.asynccontextmanager
    async def start(world: JobWorld | None = None) -> AsyncIterator[Town]:
        world = world or JobWorld()
        async with workers(workflows=[DispatchWorkflow, PolecatWorkflow, PostBox], activities=world.activities):
            shop = await Town.open(env, world)
            await shop.sling("sh-1")
            await shop.reach("sh-1", JobState.WORKING, 1)
            yield shop

    return start


async def healthy(shop: Town, expected: str) -> None:
    async def so() -> bool:
        return (await shop.status("sh-1")).health == expected

    await eventually(so, what=f"health {expected!r}")


# --- unresponsive: stale, then recovered in the grace, or restarted -------------------------------


@pytest.mark.document("3: 无响应 → 标记为 stale → 等待恢复期 → 恢复 → 恢复正常状态")
async def test_a_stale_polecat_is_marked_and_within_the_grace_marked_working_again(town: Open) -> None:
    async with town() as shop:
        for _ in range(3):  # told again each interval
            await shop.observe("sh-1", ObservationKind.STALE, detail="no heartbeat for 301 s")
        await healthy(shop, "stale")
        await shop.observe("sh-1", ObservationKind.RECOVERED, detail="it beats again")
        await healthy(shop, "")
        await shop.submit_work("sh-1")
        await shop.merge("sh-1")
        assert shop.world.events("sh-1") == [
            "hooked", "starting", "working", "stale", "recovered", "submitted", "merged",
        ]  # fmt: skip
        assert shop.world.letters == []
        assert len(shop.world.started) == 1


@pytest.mark.document(
    "2: Polecat", "2: 重启智能体可解决", "3: 无响应", "3: 无响应 → 标记为 stale → 等待恢复期 → 未恢复 → 重启 Polecat"
)
async def test_an_unresponsive_polecat_is_ended_with_evidence_and_started_again(town: Open) -> None:
    async with town() as shop:
        await shop.observe("sh-1", ObservationKind.STALE)
        await shop.observe("sh-1", ObservationKind.UNRESPONSIVE, detail="no heartbeat for 361 s")
        await shop.reach("sh-1", JobState.WORKING, 2)
        assert [(end.attempt, end.cause) for end in shop.world.ended] == [(1, "unresponsive: no heartbeat for 361 s")]
        assert [note.kind for note in shop.world.started[1].notes] == ["agent_unresponsive"]
        await healthy(shop, "")
        await shop.submit_work("sh-1", attempt=2)
        await shop.merge("sh-1")
        assert shop.world.writes[-1].restarts == 1


async def test_what_the_agent_handed_in_counts_before_its_silence(town: Open) -> None:
    async with town() as shop:
        await shop.observe("sh-1", ObservationKind.DONE)
        await shop.observe("sh-1", ObservationKind.UNRESPONSIVE)
        await shop.reach("sh-1", JobState.SUBMITTED, 1)
        await shop.merge("sh-1")
        assert len(shop.world.started) == 1


@pytest.mark.document("2: 会话超时")
@pytest.mark.parametrize("stale", [True, False])
async def test_agents_that_hang_longer_than_the_window_still_exhaust_their_budget(town: Open, stale: bool) -> None:
    settings = Settings(
        health=HealthSettings(polecat_timeout=1200), recovery=RecoverySettings(max_retries=2, window=600)
    )
    async with town(JobWorld(settings=settings)) as shop:
        # The first, two restarts, one with another polecat.
        for attempt in range(1, 5):
            await shop.reach("sh-1", JobState.WORKING, attempt)
            await shop.env.sleep(timedelta(seconds=1190))
            if stale:
                await shop.observe("sh-1", ObservationKind.STALE)
                await healthy(shop, "stale")
            await shop.observe("sh-1", ObservationKind.UNRESPONSIVE)
            await next_move(shop, attempt)
        await shop.reach("sh-1", JobState.BLOCKED, 4)
        await shop.escalated("polecat_exhausted")


async def next_move(shop: Town, attempt: int) -> None:
    """Let time pass until the attempt was followed by another one, or by nothing more."""

    async def moved() -> bool:
        await shop.env.sleep(timedelta(seconds=60))
        status = await shop.status("sh-1")
        return status.attempt == attempt + 1 or status.state is JobState.BLOCKED

    await eventually(moved, what=f"what follows attempt {attempt}")


# --- stuck: HELP, Witness, Mayor, a person ---------------------------------------------------------


@pytest.mark.document("3: 卡住", "3: 卡住 → 发送 HELP → 升级到 Witness → 人工介入")
async def test_a_stuck_polecat_is_escalated_once_with_its_last_lines_while_its_session_stays(town: Open) -> None:
    async with town() as shop:
        for _ in range(3):
            await shop.observe("sh-1", ObservationKind.STUCK, detail=TAIL)
        await healthy(shop, "stuck")
        await shop.recorded("sh-1", "stuck")
        await shop.escalated("polecat_stuck")
        (letter,) = shop.world.letters
        assert (letter.kind, letter.level, letter.bead, letter.evidence) == ("polecat_stuck", "L2", "sh-1", TAIL)
        assert letter.message == "toast is stuck on sh-1: no progress for 1800 s"
        assert [(mail.recipient, mail.kind) for mail in shop.world.mail("sh-1")] == [("shop/witness", "HELP")]
        assert shop.world.ended == []
        assert (await shop.status("sh-1")).state is JobState.WORKING


async def test_a_stuck_polecat_that_works_again_calls_nobody_any_more_and_may_be_stuck_again(town: Open) -> None:
    async with town() as shop:
        await shop.observe("sh-1", ObservationKind.STUCK, detail=TAIL)
        await healthy(shop, "stuck")
        await shop.observe("sh-1", ObservationKind.RECOVERED)
        await shop.over("sh-1.1.polecat_stuck")
        await healthy(shop, "")
        await shop.observe("sh-1", ObservationKind.STUCK, detail=TAIL, episode="2")
        await shop.escalated("polecat_stuck", "polecat_stuck")
        assert shop.world.letters[1].id == "sh-1.1.polecat_stuck.2"
        await shop.submit_work("sh-1")
        await shop.over("sh-1.1.polecat_stuck", "sh-1.1.polecat_stuck.2")


@pytest.mark.document("3: 卡住", "3: 卡住 → 发送 HELP → 升级到 Witness → 人工介入")
@pytest.mark.parametrize(
    ("kind", "state", "attempt"),
    [
        (DecisionKind.RETRY, JobState.WORKING, 2),
        (DecisionKind.REASSIGN, JobState.WORKING, 2),
        (DecisionKind.IGNORE, JobState.WORKING, 1),
    ],
)
async def test_a_person_decides_about_a_stuck_polecat(
    town: Open, kind: DecisionKind, state: JobState, attempt: int
) -> None:
    async with town() as shop:
        await shop.observe("sh-1", ObservationKind.STUCK, detail=TAIL)
        await healthy(shop, "stuck")
        await shop.decide("sh-1", Decision(kind=kind, reason="go on", escalation="sh-1.1.polecat_stuck"))
        await shop.recorded(
            "sh-1", {"retry": "retry", "reassign": "reassigned", "ignore": "decision_without_effect"}[kind.value]
        )
        await shop.reach("sh-1", state, attempt)
        assert shop.world.cleared == [], "the Mayor knows what it has decided"
        assert len({start.polecat for start in shop.world.started}) == (2 if kind is DecisionKind.REASSIGN else 1)
        assert len(shop.world.ended) == attempt - 1


async def test_a_person_gives_a_stuck_polecat_up(town: Open) -> None:
    async with town() as shop:
        await shop.observe("sh-1", ObservationKind.STUCK, detail=TAIL)
        await healthy(shop, "stuck")
        await shop.decide("sh-1", Decision(kind=DecisionKind.ABANDON, reason="not worth it"))
        await shop.job("sh-1").result()
        assert shop.world.writes[-1].bead_status is BeadStatus.DEFERRED
        await shop.over("sh-1.1.polecat_stuck")


async def test_a_stuck_polecat_that_dies_is_started_again_and_calls_nobody_any_more(town: Open) -> None:
    async with town() as shop:
        await shop.observe("sh-1", ObservationKind.STUCK, detail=TAIL)
        await healthy(shop, "stuck")
        await shop.observe("sh-1", ObservationKind.DIED, exit_code=1)
        await shop.reach("sh-1", JobState.WORKING, 2)
        await shop.over("sh-1.1.polecat_stuck")


async def test_marks_and_open_escalations_are_kept_over_continue_as_new(env: WorkflowEnvironment, town: Open) -> None:
    async with town() as shop:
        admission = await shop.world.admit_bead(SlingRequest(bead="sh-2", rig="shop"))
        job = await env.client.start_workflow(
            PolecatWorkflow.run,
            PolecatState(admission=admission, patience=2),
            id="polecat/shop/sh-2",
            task_queue="town",
        )
        await shop.reach("sh-2", JobState.WORKING, 1)
        first = await runs_of(job)
        await shop.observe("sh-2", ObservationKind.STUCK, detail=TAIL)
        await shop.observe("sh-2", ObservationKind.STALE)

        async def handed_over() -> bool:
            return await runs_of(job) != first and "stale" in shop.world.events("sh-2")

        await eventually(handed_over, what="the next run")
        assert (await shop.status("sh-2")).health == "stuck"
        await shop.observe("sh-2", ObservationKind.RECOVERED)
        await shop.over("sh-2.1.polecat_stuck")


# --- before a restart: is it still wanted, is it merged already ------------------------------------


async def test_work_that_is_on_the_target_is_never_done_again(town: Open) -> None:
    async with town(JobWorld(landed="c" * 40)) as shop:
        await shop.observe("sh-1", ObservationKind.DIED, exit_code=1)
        await shop.job("sh-1").result()
        last = shop.world.writes[-1]
        assert (last.event, last.bead_status, last.merged_sha) == ("merged", BeadStatus.CLOSED, "c" * 40)
        assert last.close_reason == "merged"
        assert len(shop.world.started) == 1
        assert [each.landed_sha for each in shop.world.released] == ["c" * 40]


async def test_a_job_rebuilt_from_the_record_starts_no_agent_for_merged_work(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    world = JobWorld(landed="c" * 40, highest_attempt=3)
    async with workers(workflows=[DispatchWorkflow, PolecatWorkflow, PostBox], activities=world.activities):
        shop = await Town.open(env, world)
        await shop.sling("sh-1")
        await shop.job("sh-1").result()
        assert world.started == []
        assert world.writes[-1].merged_sha == "c" * 40


async def test_a_first_attempt_asks_nothing_and_later_ones_only_for_what_landed_since(town: Open) -> None:
    async with town() as shop:
        assert shop.world.landed_asked == []
        await shop.submit_work("sh-1")
        await shop.judge("sh-1", VerdictKind.FAILED, gate="test")
        await shop.reach("sh-1", JobState.WORKING, 2)
        assert [asked.known for asked in shop.world.landed_asked] == [("b" * 40,)]


async def test_a_bead_with_a_target_of_its_own_is_begun_asked_about_and_handed_in_there(town: Open) -> None:
    async with town(JobWorld(target="next")) as shop:
        await shop.submit_work("sh-1")
        await shop.judge("sh-1", VerdictKind.CONFLICT, files=("till.py",))
        await shop.reach("sh-1", JobState.WORKING, 2)
        again = shop.world.started[-1]
        assert [each.rig.branch for each in (shop.world.started[0], again)] == ["next", "next"]
        assert "rebase your branch onto origin/next" in again.notes[-1].text
        assert [asked.rig.branch for asked in shop.world.landed_asked] == ["next"]
        await shop.recorded("sh-1", "submitted")
        requests = [write.merge_request for write in shop.world.writes if write.merge_request is not None]
        assert {request.target for request in requests} == {"next"}


async def test_a_bead_closed_during_a_restarts_delay_is_not_restarted(town: Open) -> None:
    async with town() as shop:
        for attempt in (1, 2):
            await shop.reach("sh-1", JobState.WORKING, attempt)
            await shop.observe("sh-1", ObservationKind.DIED)
        await shop.reach("sh-1", JobState.WAITING, 2)
        shop.world.closed = BeadStatusReply(status=BeadStatus.CLOSED, close_reason="not needed")
        await shop.env.sleep(timedelta(minutes=2))
        await shop.job("sh-1").result()
        assert [start.attempt for start in shop.world.started] == [1, 2]
        assert shop.world.writes[-1].event == "closed_elsewhere"
