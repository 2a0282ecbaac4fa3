"""What a Witness tells a Mayor who cannot be told is carried until he has it, whatever becomes of the run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from models import names
from tests.workflows.conftest import WorkerBuilder
from tests.workflows.probes import eventually, runs_of
from tests.workflows.supervision.witness_world import Post, Watchtower, posted, started, strict
from workflows.supervision.witness import WitnessWorkflow
from workflows.supervision.witness_state import WitnessState

Open = Callable[..., contextlib.AbstractAsyncContextManager[Post]]
PATIENCE = 20


@pytest.fixture
def post(env: WorkflowEnvironment, workers: WorkerBuilder) -> Open:
    return lambda *tower, **how: posted(env, workers, *tower, settings=strict(86400), **how)


async def faults(town: Post, *about: str) -> None:
    """Wait until the Witness knows exactly these conditions."""

    async def so() -> bool:
        state = await town.witness.query(WitnessWorkflow.state)
        return list(WitnessState.model_validate(state).faults) == list(about)

    await eventually(so, what=f"faults {about}")


async def hand_over(town: Post) -> None:
    before = await runs_of(town.witness)
    for _ in range(PATIENCE):
        await town.witness.signal(WitnessWorkflow.settings_changed)

    async def handed_over() -> bool:
        return await runs_of(town.witness) != before

    await eventually(handed_over, what="another run")


async def test_what_the_mayor_could_not_be_told_before_a_hand_over_is_told_by_the_next_run(post: Open) -> None:
    async with post(Watchtower(policy_error="no module named shop"), patience=PATIENCE) as town:
        town.desk.away = True
        await town.start(started("sh-1"))
        await faults(town, "recovery.policy")
        await hand_over(town)
        assert town.desk.letters == []
        town.desk.away = False
        await town.raised("escalation")
        town.desk.away, town.tower.policy_error = True, ""
        await town.wait(timedelta(minutes=1))
        await faults(town)
        await hand_over(town)
        assert town.desk.cleared == []
        town.desk.away = False
        await town.raised()
        assert len({letter.id for letter in town.desk.letters}) == 1


async def test_a_patrol_does_not_wait_for_a_mayor_who_cannot_be_told_and_he_hears_all_in_order(post: Open) -> None:
    async with post(Watchtower(policy_error="no module named shop")) as town:
        town.desk.away = True
        await town.start(started("sh-1"))
        await faults(town, "recovery.policy")
        town.tower.policy_error = ""
        await town.wait(timedelta(minutes=1))
        await faults(town)
        town.tower.policy_error = "no module named shop"
        await town.wait(timedelta(minutes=1))
        await faults(town, "recovery.policy")
        town.desk.away = False

        async def all_told() -> bool:
            return len(town.desk.letters) == 2

        await eventually(all_told)
        assert town.desk.cleared == [town.desk.letters[0].id]


async def test_a_witness_that_is_restarted_from_what_it_told_of_itself_tells_what_its_predecessor_could_not(
    post: Open,
) -> None:
    async with post(Watchtower(policy_error="no module named shop")) as town:
        town.desk.away = True
        await town.start(started("sh-1"))
        await faults(town, "recovery.policy")
        state = await town.witness.query(WitnessWorkflow.state)
        await town.witness.terminate()
        town.desk.away = False
        town.witness = await town.env.client.start_workflow(
            WitnessWorkflow.run,
            WitnessState.model_validate(state),
            id=names.witness_id("shop"),
            task_queue=names.TOWN_QUEUE,
        )
        await town.raised("escalation")
