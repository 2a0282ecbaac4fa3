"""The town's own look at whether Dolt, git and Temporal agree: told when it begins, and when it is over."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from temporalio import activity
from temporalio.testing import WorkflowEnvironment

from models import names
from models.upkeep.verification import Problem, ProblemKind, TownLook, VerifyMemory
from tests.workflows.conftest import WorkerBuilder
from tests.workflows.probes import MayorsPost
from workflows.upkeep.verify import VerifyWorkflow

ONE = Problem(kind=ProblemKind.CLOSED_NOT_LANDED, rig="shop", subject="sh-1", message="not there", command="bd reopen")
TWO = Problem(kind=ProblemKind.POLECAT_WITHOUT_JOB, subject="shop/toast", message="idle", command="bd verify --fix")


@dataclass
class World(MayorsPost):
    """What the looks find, in order; the last one stays so."""

    looks: list[TownLook] = field(default_factory=lambda: [TownLook()])
    looked: int = 0

    @activity.defn
    async def verify_town(self) -> TownLook:
        look = self.looks[min(self.looked, len(self.looks) - 1)]
        self.looked += 1
        return look


Verify = Callable[[World, VerifyMemory | None], Awaitable[VerifyMemory]]


@pytest.fixture
def verify(env: WorkflowEnvironment, workers: WorkerBuilder) -> Verify:
    async def run(world: World, last: VerifyMemory | None = None) -> VerifyMemory:
        activities = [world.verify_town, world.tell_mayor, world.clear_escalation]
        async with workers(workflows=[VerifyWorkflow], activities=activities):
            return await env.client.execute_workflow(
                VerifyWorkflow.run, args=[last] if last else [], id=uuid.uuid4().hex, task_queue=names.TOWN_QUEUE
            )

    return run


async def test_a_town_that_agrees_costs_one_look_and_tells_nobody(verify: Verify) -> None:
    world = World()
    assert await verify(world, None) == VerifyMemory()
    assert (world.looked, world.letters, world.over) == (1, [], [])


async def test_a_disagreement_is_told_once_over_many_looks_and_its_end_once(verify: Verify) -> None:
    world = World(looks=[TownLook(problems=(ONE,))])
    memory = await verify(world, None)
    memory = await verify(world, memory)
    (told,) = world.letters
    assert (told.kind, told.level, told.severity, told.subject) == ("disagreement", "L3", "high", ONE.key)
    assert all(words in told.message for words in ("closed_not_landed", "not there", "bd reopen"))
    world.looks = [TownLook()]
    memory = await verify(world, memory)
    memory = await verify(world, memory)
    assert memory == VerifyMemory()
    assert world.over == [told.id]


async def test_what_comes_back_is_a_new_one(verify: Verify) -> None:
    world = World(looks=[TownLook(problems=(ONE,))])
    memory = await verify(world, None)
    world.looks = [TownLook()]
    memory = await verify(world, memory)
    world.looks = [TownLook(problems=(ONE,))]
    await verify(world, memory)
    assert len({told.id for told in world.letters}) == 2


async def test_what_is_over_at_the_second_look_was_work_under_way(verify: Verify) -> None:
    world = World(looks=[TownLook(problems=(ONE, TWO)), TownLook(problems=(TWO,))])
    memory = await verify(world, None)
    assert [told.subject for told in world.letters] == [TWO.key]
    assert world.letters[0].severity == "medium", "what --fix mends"
    assert (list(memory.told), memory.problems) == ([TWO.key], 1)


async def test_a_remote_that_is_away_ends_no_alert(verify: Verify) -> None:
    world = World(looks=[TownLook(problems=(ONE,))])
    memory = await verify(world, None)
    world.looks = [TownLook(unread_rigs=("shop",), temporal_unread=True)]
    memory = await verify(world, memory)
    assert (list(memory.told), memory.unread, world.over) == ([ONE.key], ("shop", "Temporal"), [])
