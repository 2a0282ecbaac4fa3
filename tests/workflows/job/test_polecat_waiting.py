"""A job whose step on its host does not come about: it is tried on, its Witness hears of it, and a person does."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from models import names
from models.errors import Level
from models.job.messages import Decision, DecisionKind, ObservationKind
from models.ledger.records import JobState
from models.mayor.alerts import Priority
from models.settings import RecoverySettings
from policies.mayor.decisions import Move, Past, Report, decide
from tests.workflows.conftest import WorkerBuilder
from tests.workflows.job.job_world import JobWorld, PostBox, Town
from tests.workflows.probes import eventually
from workflows.dispatch.workflow import DispatchWorkflow
from workflows.job.workflow import PolecatWorkflow

Open = Callable[..., contextlib.AbstractAsyncContextManager[Town]]


@pytest.fixture
def town(env: WorkflowEnvironment, workers: WorkerBuilder) -> Open:
    """A town whose bead sh-1 is slung."""

    @contextlib.asynccontextmanager
    async def start(world: JobWorld) -> AsyncIterator[Town]:
        async with workers(workflows=[DispatchWorkflow, PolecatWorkflow, PostBox], activities=world.activities):
            shop = await Town.open(env, world)
            await shop.sling("sh-1")
            yield shop

    return start


async def pass_time(shop: Town, minutes: int) -> None:
    for _ in range(minutes):
        await shop.env.sleep(timedelta(minutes=1))


async def announced(shop: Town) -> int:
    """How often the Witness was told that there is work."""
    witness = shop.env.client.get_workflow_handle(names.witness_id("shop"))
    signals: list[str] = await witness.query(PostBox.signals)
    return signals.count("work_started")


async def test_a_witness_hears_again_and_again_of_an_attempt_that_starts_for_long(town: Open) -> None:
    async with town(JobWorld(away="start_attempt")) as shop:
        await shop.reach("sh-1", JobState.STARTING, 1)
        for heard in (1, 2, 3):  # its patrol forgets after fifteen minutes what it neither sees nor hears of
            await pass_time(shop, 11)

            async def told(heard: int = heard) -> bool:
                return await announced(shop) >= heard

            await eventually(told, what=f"{heard} announcements")
        shop.world.away = ""
        await shop.reach("sh-1", JobState.WORKING, 1)


async def test_a_start_that_does_not_come_about_is_told_once_after_a_quarter_of_an_hour_and_tried_on(
    town: Open,
) -> None:
    async with town(JobWorld(away="start_attempt")) as shop:
        await shop.reach("sh-1", JobState.STARTING, 1)
        await pass_time(shop, 14)
        assert shop.world.letters == []
        await pass_time(shop, 2)
        await shop.escalated("escalation")
        (letter,) = shop.world.letters
        assert letter.message.startswith("sh-1: the start of attempt 1 on h1 has not come about for 15 minutes")
        assert (letter.level, letter.bead) == ("L3", "sh-1")
        await pass_time(shop, 30)
        await shop.escalated("escalation")
        shop.world.away = ""
        await shop.reach("sh-1", JobState.WORKING, 1)
        await shop.over(letter.id)


async def test_work_that_cannot_be_taken_for_long_is_told_while_the_agent_lives_on_and_its_witness_hears_of_it(
    town: Open,
) -> None:
    async with town(JobWorld(away="take_work")) as shop:
        await shop.reach("sh-1", JobState.WORKING, 1)
        await shop.observe("sh-1", ObservationKind.DONE)
        before = await announced(shop)
        await pass_time(shop, 26)
        await shop.escalated("escalation")
        assert await announced(shop) >= before + 2
        assert shop.world.ended == []
        shop.world.away = ""
        await shop.reach("sh-1", JobState.SUBMITTED, 1)
        await shop.over(shop.world.letters[0].id)


async def test_an_end_that_waits_for_the_remote_is_told_too(town: Open) -> None:
    async with town(JobWorld(away="release_worktree")) as shop:
        await shop.reach("sh-1", JobState.WORKING, 1)
        await shop.decide("sh-1", Decision(kind=DecisionKind.ABANDON))
        await pass_time(shop, 17)
        await shop.escalated("escalation")
        shop.world.away = ""
        await shop.job("sh-1").result()
        await shop.over(shop.world.letters[0].id)


async def test_a_person_who_answers_it_ends_the_step_and_is_told_nothing_more(town: Open) -> None:
    async with town(JobWorld(away="start_attempt")) as shop:
        await shop.reach("sh-1", JobState.STARTING, 1)
        await pass_time(shop, 17)
        await shop.escalated("escalation")
        (letter,) = shop.world.letters
        await shop.decide("sh-1", Decision(kind=DecisionKind.IGNORE, escalation=letter.id))
        await shop.reach("sh-1", JobState.STARTING, 1)
        # What was ignored is answered; a person who thinks better of it orders the job itself (gt job retry).
        await shop.decide("sh-1", Decision(kind=DecisionKind.RETRY))
        await shop.reach("sh-1", JobState.STARTING, 2)
        await pass_time(shop, 17)
        await shop.escalated("escalation", "escalation")
        told = list(shop.world.cleared)
        await shop.decide("sh-1", Decision(kind=DecisionKind.RETRY, escalation=shop.world.letters[1].id))
        await shop.reach("sh-1", JobState.STARTING, 3)
        assert shop.world.cleared == told


def test_the_mayor_does_nothing_about_it_but_ask() -> None:
    ruling = decide(
        Report(kind="escalation", level=Level.L3, severity=Priority.HIGH, has_job=True), Past(), RecoverySettings()
    )
    assert (ruling.move, ruling.tell) == (Move.ASK, True)
