"""A verdict that work is merged is checked with the remote before the bead is closed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from models.job.messages import Decision, DecisionKind, HostLost, VerdictKind
from models.ledger.records import BeadStatus, JobState
from tests.workflows.conftest import HOST, WorkerBuilder
from tests.workflows.job.job_world import JobWorld, PostBox, Town
from tests.workflows.probes import eventually
from workflows.dispatch.workflow import DispatchWorkflow
from workflows.job.merging import REPEAT, SOON
from workflows.job.workflow import PolecatWorkflow

Open = Callable[..., contextlib.AbstractAsyncContextManager[Town]]
BEAD = "sh-1"
FORGED, TRUE = "f" * 40, "c" * 40
DOUBT = "main on the remote stands at bbb and does not hold that commit"


@pytest.fixture
def town(env: WorkflowEnvironment, workers: WorkerBuilder) -> Open:
    """A town whose bead waits for its merge."""

    @contextlib.asynccontextmanager
    async def start(world: JobWorld) -> AsyncIterator[Town]:
        async with workers(workflows=[DispatchWorkflow, PolecatWorkflow, PostBox], activities=world.activities):
            shop = await Town.open(env, world)
            await shop.sling(BEAD)
            await shop.submit_work(BEAD)
            yield shop

    return start


async def claim(shop: Town, sha: str = FORGED, **facts: object) -> None:
    await shop.judge(BEAD, VerdictKind.MERGED, merged_sha=sha, **facts)


async def refused(shop: Town, times: int = 1) -> None:
    async def so() -> bool:
        return shop.world.events(BEAD).count("verdict_refused") == times

    await eventually(so, what=f"{times} verdicts refused")


async def test_a_clean_job_asks_the_remote_once_on_its_own_host_about_its_own_change(town: Open) -> None:
    world = JobWorld()
    async with town(world) as shop:
        await shop.merge(BEAD)
        (asked,) = world.confirmed
        request = next(write.merge_request for write in world.writes if write.event == "submitted")
        assert (asked.change, asked.verdict.merged_sha) == (request, TRUE)
        assert world.letters == []


async def test_a_verdict_that_the_remote_does_not_bear_out_is_told_once_and_a_true_one_ends_it(town: Open) -> None:
    world = JobWorld(doubt=DOUBT)
    async with town(world) as shop:
        for times, sha in enumerate((FORGED, "e" * 40, FORGED), start=1):
            await claim(shop, sha)
            await refused(shop, times)
        assert (await shop.status(BEAD)).state is JobState.SUBMITTED
        assert not [write for write in world.writes if write.bead_status is BeadStatus.CLOSED]
        await shop.escalated("disagreement")
        (told,) = world.letters
        assert (told.kind, told.level) == ("disagreement", "L3")
        assert FORGED in told.message
        assert DOUBT in told.message
        world.doubt = ""
        await shop.merge(BEAD)
        assert world.writes[-1].merged_sha == TRUE
        await shop.over(told.id)
        assert len(world.started) == 1, "no agent works again"


async def test_a_true_verdict_right_behind_a_forged_one_is_not_lost(town: Open) -> None:
    world = JobWorld(remote_away=True, doubt=DOUBT, on_remote={TRUE})
    async with town(world) as shop:
        await claim(shop)
        await claim(shop, TRUE)

        async def asked() -> bool:
            return bool(world.confirmed)

        await eventually(asked, what="the remote to be asked")
        world.remote_away = False
        await shop.job(BEAD).result()
        assert world.writes[-1].merged_sha == TRUE
        assert world.events(BEAD).count("verdict_refused") == 1


async def test_the_refinery_is_asked_again_later_each_time_and_never_less_than_every_ten_minutes(
    town: Open, env: WorkflowEnvironment
) -> None:
    world = JobWorld(doubt=DOUBT)
    async with town(world) as shop:
        pauses = []
        for times in range(1, 8):
            await claim(shop)
            await refused(shop, times)
            offered = world_offers = await offers(shop)
            began = await env.get_current_time()
            for _ in range(int(REPEAT / SOON) + 4):
                await env.sleep(SOON)
                world_offers = await offers(shop)
                if world_offers > offered:
                    break
            assert world_offers > offered
            pauses.append((await env.get_current_time()) - began)
        assert all(pause <= REPEAT + 4 * SOON for pause in pauses)
        assert pauses[0] <= 4 * SOON
        assert pauses[-1] > REPEAT / 2
        await shop.escalated("disagreement")


async def offers(shop: Town) -> int:
    return (await signals(shop, "refinery/shop")).count("submit")


async def signals(shop: Town, box: str) -> list[str]:
    heard: list[str] = await shop.env.client.get_workflow_handle(box).query("signals")
    return heard


async def leave_host(shop: Town) -> None:
    """Lose the job's host once nothing is done there any more."""

    async def at_rest() -> bool:
        return "work_ended" in await signals(shop, "witness/shop")

    async def left() -> bool:
        return (await shop.status(BEAD)).host is None

    await eventually(at_rest, what="the session to end")
    await shop.job(BEAD).signal("host_lost", HostLost(host=HOST))
    await eventually(left, what="the job to leave its host")


async def test_a_remote_that_does_not_answer_is_no_disagreement(town: Open, env: WorkflowEnvironment) -> None:
    world = JobWorld(remote_away=True)
    async with town(world) as shop:
        await claim(shop, TRUE)
        await env.sleep(timedelta(minutes=2))
        assert len(world.confirmed) > 2
        assert world.letters == []
        assert "verdict_refused" not in world.events(BEAD)
        world.remote_away = False
        await shop.job(BEAD).result()
        assert world.writes[-1].merged_sha == TRUE


async def test_a_cancelled_job_whose_merge_the_remote_denies_ends_cancelled_and_its_work_is_parked(town: Open) -> None:
    world = JobWorld(doubt=DOUBT)
    async with town(world) as shop:
        await claim(shop)
        await refused(shop)
        await shop.decide(BEAD, Decision(kind=DecisionKind.ABANDON, reason="enough"))

        async def withdrawing() -> bool:
            return "withdrawing" in world.events(BEAD)

        await eventually(withdrawing, what="the withdrawal")
        await claim(shop)
        await shop.job(BEAD).result()
        assert (world.writes[-1].state, world.writes[-1].merged_sha) == (JobState.ABANDONED, None)
        assert [one.landed_sha for one in world.released] == [None], "nothing counts as landed"


async def test_a_person_who_says_retry_has_the_refinery_asked_at_once_and_is_told_again_if_it_does_not_help(
    town: Open,
) -> None:
    world = JobWorld(doubt=DOUBT)
    async with town(world) as shop:
        await claim(shop)
        await refused(shop)
        before = await offers(shop)
        await shop.escalated("disagreement")
        await shop.decide(BEAD, Decision(kind=DecisionKind.RETRY, escalation=world.letters[0].id))

        async def asked() -> bool:
            return await offers(shop) == before + 1

        await eventually(asked, what="the Refinery to be asked")
        await claim(shop)
        await refused(shop, 2)
        await shop.escalated("disagreement", "disagreement")
        assert world.letters[0].id != world.letters[1].id


async def test_a_job_without_a_host_has_the_verdict_checked_where_it_was_merged(town: Open) -> None:
    world = JobWorld()
    async with town(world) as shop:
        await leave_host(shop)
        await claim(shop, TRUE)
        await shop.job(BEAD).result()
        assert len(world.confirmed) == 1
        assert world.writes[-1].merged_sha == TRUE


async def test_a_job_that_knows_no_host_to_ask_refuses_the_verdict(town: Open) -> None:
    world = JobWorld()
    async with town(world) as shop:
        await leave_host(shop)
        await claim(shop, TRUE, host=None)
        await refused(shop)
        assert world.confirmed == []


async def test_what_a_restart_finds_on_the_target_needs_no_second_question(town: Open) -> None:
    world = JobWorld(landed=TRUE)
    async with town(world) as shop:
        await shop.judge(BEAD, VerdictKind.FAILED, gate="test", detail="red")
        await shop.job(BEAD).result()
        assert (world.confirmed, world.writes[-1].merged_sha) == ([], TRUE)
