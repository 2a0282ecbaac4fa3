"""The bounded ping and the restart of long-lived workflows, on a real Temporal server."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity, workflow
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import RetryPolicy
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner

from activities.interceptor import ActivityConduct
from models import names
from models.base import Frozen
from models.job.messages import RigName
from models.mayor.escalations import SourceReset
from models.names import WorkflowType
from models.supervision.messages import ProbeResult, RestartWorkflow
from services.temporal import long_lived
from services.temporal.long_lived import Handle, probe
from services.temporal.restarts import restart
from services.worker.polling import new_worker
from tests.pace import DEADLINE_S
from tests.services.conftest import eventually
from tests.temporal_server import client_of
from tests.workflows.conftest import real_time

SHORT_S = 1.0


class WordState(Frozen):
    rig: str
    words: tuple[str, ...] = ()


@workflow.defn(name=WorkflowType.WITNESS)
class WordWitness:
    """Remembers what it is told, and fails its task at a word while that one is in `POISON`."""

    @workflow.init
    def __init__(self, state: WordState) -> None:
        self._rig, self._words, self._stopped = state.rig, list(state.words), False

    @workflow.run
    async def run(self, state: WordState) -> None:
        if OTHER_CODE not in POISON:
            await workflow.sleep(timedelta(hours=1))
        await workflow.wait_condition(lambda: False)

    @workflow.signal
    def hear(self, word: str) -> None:
        if word in POISON:
            raise RuntimeError("a bug")
        self._words.append(word)

    @workflow.signal
    async def work(self, word: str) -> None:
        done = await workflow.execute_activity(
            "toil",
            word,
            start_to_close_timeout=timedelta(hours=1),
            heartbeat_timeout=timedelta(minutes=5),
            retry_policy=RetryPolicy(maximum_attempts=1),
        )
        self._words.append(done)

    @workflow.signal
    async def raise_child(self, word: str) -> None:
        self._words.append(await workflow.execute_child_workflow(Child.run, word, id=f"child/{self._rig}"))

    @workflow.update
    def learn(self, word: str) -> int:
        self._words.append(word)
        return len(self._words)

    @workflow.signal
    def stop(self) -> None:
        self._stopped = True

    @workflow.query
    def status(self) -> dict[str, Any]:
        return {"rig": self._rig, "stopped": self._stopped}

    @workflow.query
    def state(self) -> WordState:
        return WordState(rig=self._rig, words=tuple(self._words))


POISON: set[str] = set()
OTHER_CODE = "a version that cannot replay what the other one did"


@workflow.defn
class Child:
    """Goes down with its parent, as a merge does with its Refinery."""

    def __init__(self) -> None:
        self._grown = False

    @workflow.run
    async def run(self, word: str) -> str:
        await workflow.wait_condition(lambda: self._grown)
        return word

    @workflow.signal
    def grow(self) -> None:
        self._grown = True


@dataclass
class Yard:
    """Activities under way, by the run that they are of."""

    begun: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @activity.defn
    async def toil(self, word: str) -> str:
        run = activity.info().workflow_run_id or ""
        self.begun.append(run)
        try:
            while not self.over.is_set():
                activity.heartbeat()
                await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            self.cancelled.append(run)
            raise
        return word


@pytest.fixture
async def client(port: int) -> AsyncIterator[Client]:
    yield await client_of(port)
    POISON.clear()


@pytest.fixture
def witness() -> str:
    """The id of a Witness that no other test has."""
    return names.witness_id(f"rig-{uuid.uuid4().hex[:8]}")


@contextlib.asynccontextmanager
async def working(client: Client, yard: Yard | None = None) -> AsyncIterator[None]:
    """A worker as the town makes it."""
    async with new_worker(
        client,
        names.TOWN_QUEUE,
        [(yard or Yard()).toil],
        10,
        interceptor=ActivityConduct(),
        threads=False,
        workflows=[WordWitness, Child],
        runner=UnsandboxedWorkflowRunner(),
    ):
        yield


async def told(client: Client, witness: str, *words: str) -> Handle:
    """A running Witness that was told these words."""
    handle = await long_lived.start(client, witness)
    for word in words:
        await client.get_workflow_handle(witness).signal("hear", word)
    return handle


async def words_of(client: Client, witness: str) -> list[str]:
    state = await client.get_workflow_handle(witness).query("state", result_type=dict[str, Any])
    return list(state["words"])


async def run_of(client: Client, witness: str) -> str:
    return (await client.get_workflow_handle(witness).describe()).run_id or ""


async def wedged(client: Client, witness: str) -> bool:
    with contextlib.suppress(TimeoutError):  # of the server, on a busy machine
        return (await probe(client, witness, SHORT_S)).result is ProbeResult.WEDGED
    return False


# --- the ping -----------------------------------------------------------------------------------


async def test_one_that_was_never_started_is_absent(client: Client, witness: str) -> None:
    found = await probe(client, witness, DEADLINE_S)
    assert (found.result, found.run_id) == (ProbeResult.ABSENT, "")


async def test_one_that_was_terminated_is_absent_and_its_run_is_named(client: Client, witness: str) -> None:
    handle = await long_lived.start(client, witness)
    await client.get_workflow_handle(witness).terminate()
    found = await probe(client, witness, DEADLINE_S)
    assert (found.result, found.run_id) == (ProbeResult.ABSENT, handle.first_execution_run_id)
    assert "terminated" in found.detail


async def test_a_living_one_answers_and_says_whether_it_is_stopped(client: Client, witness: str) -> None:
    async with working(client):
        await told(client, witness)
        found = await probe(client, witness, DEADLINE_S)
        assert (found.result, found.stopped, found.run_id) == (
            ProbeResult.ANSWERS,
            False,
            await run_of(client, witness),
        )
        await client.get_workflow_handle(witness).signal("stop")
        assert (await probe(client, witness, DEADLINE_S)).stopped


async def test_without_a_worker_it_is_silent_and_the_ping_stays_bounded(client: Client, witness: str) -> None:
    await told(client, witness)
    found = await probe(client, witness, SHORT_S)
    # Without the bound the server would have ended the query, after 30 s.
    assert (found.result, found.detail) == (ProbeResult.SILENT, "no answer within 1 s")


async def test_one_whose_tasks_fail_is_wedged_even_while_nobody_has_asked_before(client: Client, witness: str) -> None:
    POISON.add("arsenic")
    async with working(client):
        await told(client, witness, "bread", "arsenic")
        await eventually("the first failures", lambda: wedged(client, witness))
        assert (await probe(client, witness, 10.0)).detail


# --- restarts -----------------------------------------------------------------------------------


async def test_a_restart_ends_that_run_and_keeps_what_it_knew(client: Client, witness: str) -> None:
    async with working(client):
        await told(client, witness, "bread", "salt")
        before = await run_of(client, witness)
        await restart(client, RestartWorkflow(workflow_id=witness, run_id=before, reason="overdue"))
        assert await run_of(client, witness) != before
        assert await words_of(client, witness) == ["bread", "salt"]
        ended = await client.get_workflow_handle(witness, run_id=before).describe()
        assert ended.status is WorkflowExecutionStatus.TERMINATED


async def test_a_restart_of_a_run_that_was_restarted_since_changes_nothing(client: Client, witness: str) -> None:
    async with working(client):
        await told(client, witness, "bread")
        assert await words_of(client, witness) == ["bread"]
        order = RestartWorkflow(workflow_id=witness, run_id=await run_of(client, witness))
        await restart(client, order)
        second = await run_of(client, witness)
        await restart(client, order)
        assert await run_of(client, witness) == second


async def test_many_restarters_at_once_are_one_and_lose_nothing(client: Client, witness: str) -> None:
    words = [f"word-{number}" for number in range(20)]
    async with working(client):
        await told(client, witness, "bread")
        assert await learned(client, witness, "butter") == 2
        order = RestartWorkflow(workflow_id=witness, run_id=await run_of(client, witness))
        telling = asyncio.create_task(told(client, witness, *words))
        await asyncio.gather(*(restart(client, order) for _ in range(10)))
        await telling
        assert sorted(await words_of(client, witness)) == sorted(["bread", "butter", *words])
        runs = [found.run_id async for found in client.list_workflows(f"WorkflowId = '{witness}'")]
        assert len(runs) == 2


async def test_one_that_is_gone_comes_back_with_what_it_knew(client: Client, witness: str) -> None:
    async with working(client):
        await told(client, witness, "bread")
        assert await words_of(client, witness) == ["bread"]
        await client.get_workflow_handle(witness).terminate()
        await restart(client, RestartWorkflow(workflow_id=witness))
        assert await words_of(client, witness) == ["bread"]


async def test_one_that_never_ran_is_started_afresh(client: Client, witness: str) -> None:
    async with working(client):
        await restart(client, RestartWorkflow(workflow_id=witness))
        assert await words_of(client, witness) == []


async def test_a_reset_starts_from_nothing_and_the_mayor_knows(client: Client, witness: str) -> None:
    mayor = await client.start_workflow("Deaf", id=names.MAYOR_ID, task_queue="nobody")
    async with working(client):
        await told(client, witness, "bread")
        before = await run_of(client, witness)
        await restart(client, RestartWorkflow(workflow_id=witness, run_id=before))
        assert await signals_of(mayor) == []
        await restart(client, RestartWorkflow(workflow_id=witness, run_id=await run_of(client, witness), reset=True))
        assert await words_of(client, witness) == []
        assert await run_of(client, witness) != before
    assert await signals_of(mayor) == [("source_reset", SourceReset(source=witness))]
    await mayor.terminate()


async def signals_of(mayor: Handle) -> list[tuple[str, SourceReset]]:
    sent = [event.workflow_execution_signaled_event_attributes async for event in mayor.fetch_history_events()]
    return [
        (one.signal_name, SourceReset.model_validate_json(one.input.payloads[0].data))
        for one in sent
        if one.signal_name
    ]


async def test_neither_an_answer_nor_what_was_said_while_nobody_worked_is_lost(client: Client, witness: str) -> None:
    async with working(client):
        await told(client, witness, "bread")
        assert await learned(client, witness, "butter") == 2
    handle = client.get_workflow_handle(witness)
    await handle.signal("hear", "salt")
    await handle.terminate()
    async with working(client):
        await restart(client, RestartWorkflow(workflow_id=witness))
        assert await words_of(client, witness) == ["bread", "butter", "salt"]


async def test_a_restart_without_a_worker_keeps_everything(client: Client, witness: str) -> None:
    async with working(client):
        await told(client, witness, "bread")
        assert await learned(client, witness, "butter") == 2
    await client.get_workflow_handle(witness).signal("hear", "salt")
    await restart(client, RestartWorkflow(workflow_id=witness, run_id=await run_of(client, witness)))
    await client.get_workflow_handle(witness).signal("hear", "pepper")
    async with working(client):
        assert await words_of(client, witness) == ["bread", "butter", "salt", "pepper"]


async def test_one_that_ended_before_its_first_task_begins_with_what_it_was_given(client: Client, witness: str) -> None:
    await long_lived.start(client, witness, {"rig": witness.partition("/")[2], "words": ["bread"]})
    handle = client.get_workflow_handle(witness)
    await handle.signal("hear", "salt")
    await handle.terminate()
    async with working(client):
        await restart(client, RestartWorkflow(workflow_id=witness))
        assert await words_of(client, witness) == ["bread", "salt"]


async def test_one_that_has_all_the_messages_that_a_run_may_have_is_restarted_with_them() -> None:
    witness = names.witness_id("shop")
    async with real_time("history.maximumSignalsPerExecution=5") as env, working(env.client):
        await told(env.client, witness, *"abcde")
        with pytest.raises(RPCError, match="limit for signal events"):
            await env.client.get_workflow_handle(witness).signal("hear", "f")
        assert await words_of(env.client, witness) == [*"abcde"]
        order = RestartWorkflow(workflow_id=witness, run_id=await run_of(env.client, witness))
        await restart(env.client, order)
        assert await words_of(env.client, witness) == [*"abcde"]


async def test_an_activity_under_way_is_begun_anew_and_the_old_one_ends(client: Client, witness: str) -> None:
    yard = Yard()
    async with working(client, yard):
        await told(client, witness)
        await client.get_workflow_handle(witness).signal("work", "bread")
        await eventually("it to begin", lambda: so(len(yard.begun) == 1))
        await restart(client, RestartWorkflow(workflow_id=witness, run_id=await run_of(client, witness)))
        await eventually("it to begin anew", lambda: so(len(yard.begun) == 2))
        assert yard.begun[1] == await run_of(client, witness)
        await eventually("the old one to end", lambda: so(yard.cancelled == yard.begun[:1]))
        yard.over.set()
        await eventually("its end to be heard", lambda: knows(client, witness, "bread"))


async def test_a_child_of_one_that_runs_goes_on_and_the_new_run_hears_of_its_end(client: Client, witness: str) -> None:
    async with working(client):
        child, first = await with_a_child(client, witness)
        await restart(client, RestartWorkflow(workflow_id=witness, run_id=await run_of(client, witness)))
        assert await words_of(client, witness) == ["salt"]
        await child.signal(Child.grow)
        await eventually("the child's end", lambda: knows(client, witness, "salt", "bread"))
        assert (await child.describe()).run_id == first


async def test_a_child_that_went_down_with_a_closed_one_is_begun_anew(client: Client, witness: str) -> None:
    async with working(client):
        child, first = await with_a_child(client, witness)
        assert await learned(client, witness, "pepper") == 2
        await client.get_workflow_handle(witness).terminate()
        await eventually("the child's end", lambda: ended(child))
        await restart(client, RestartWorkflow(workflow_id=witness))

        async def begun_anew() -> bool:
            return (await child.describe()).run_id != first

        await eventually("another child", begun_anew)
        await child.signal(Child.grow)
        await eventually("the child's end", lambda: knows(client, witness, "salt", "pepper", "bread"))


async def with_a_child(client: Client, witness: str) -> tuple[Handle, str]:
    """A Witness with a child under way that was told "salt" since; the child and its run."""
    await told(client, witness)
    await client.get_workflow_handle(witness).signal("raise_child", "bread")
    child = client.get_workflow_handle(f"child/{witness.partition('/')[2]}")

    async def begun() -> bool:
        with contextlib.suppress(RPCError):
            return (await child.describe()).status is WorkflowExecutionStatus.RUNNING
        return False

    await eventually("the child", begun)
    assert await words_of(client, witness) == []
    await client.get_workflow_handle(witness).signal("hear", "salt")
    assert await words_of(client, witness) == ["salt"]
    return child, (await child.describe()).run_id


async def ended(handle: Handle) -> bool:
    return (await handle.describe()).status is not WorkflowExecutionStatus.RUNNING


async def learned(client: Client, witness: str, word: str) -> int:
    """The acknowledgement: how many words it knows with this one."""
    answer: int = await client.get_workflow_handle(witness).execute_update("learn", word, result_type=int)
    return answer


async def knows(client: Client, witness: str, *words: str) -> bool:
    return await words_of(client, witness) == list(words)


async def so(fact: bool) -> bool:
    return fact


# --- one whose code fails -----------------------------------------------------------------------


async def test_a_wedged_one_goes_on_with_every_answer_and_message(client: Client, witness: str) -> None:
    POISON.add("arsenic")
    async with working(client):
        await told(client, witness, "bread")
        assert await learned(client, witness, "butter") == 2
        await told(client, witness, "arsenic", "salt")
        await eventually("the failure", lambda: wedged(client, witness))
        before = await run_of(client, witness)
        POISON.clear()  # the worker was upgraded
        order = RestartWorkflow(workflow_id=witness, run_id=before, reason="wedged")
        await asyncio.gather(restart(client, order), restart(client, order))
        after = await run_of(client, witness)
        assert after != before
        assert await words_of(client, witness) == ["bread", "butter", "arsenic", "salt"]
        await restart(client, order)
        assert await run_of(client, witness) == after


async def test_one_that_fails_again_is_still_wedged_and_keeps_its_messages(client: Client, witness: str) -> None:
    POISON.add("arsenic")
    async with working(client):
        await told(client, witness, "bread", "arsenic")
        await eventually("the failure", lambda: wedged(client, witness))
        before = await run_of(client, witness)
        await restart(client, RestartWorkflow(workflow_id=witness, run_id=before))
        assert await run_of(client, witness) != before
        await eventually("the same failure", lambda: wedged(client, witness))
        POISON.clear()

        async def answers() -> bool:
            return (await probe(client, witness, DEADLINE_S)).result is ProbeResult.ANSWERS

        await eventually("it to go on by itself once the code is right", answers)
        assert await words_of(client, witness) == ["bread", "arsenic"]


async def test_one_that_cannot_replay_its_history_begins_again_with_every_message_since(
    client: Client, witness: str
) -> None:
    async with working(client):
        await told(client, witness, "bread")
        assert await learned(client, witness, "butter") == 2
    POISON.add(OTHER_CODE)
    async with working(client):
        await told(client, witness, "salt")
        await eventually("the failure", lambda: wedged(client, witness))
        await restart(client, RestartWorkflow(workflow_id=witness, run_id=await run_of(client, witness)))
        assert sorted(await words_of(client, witness)) == ["bread", "butter", "salt"]


async def test_one_that_fails_again_after_a_reset_is_next_reset_to_its_beginning(client: Client, witness: str) -> None:
    POISON.add("arsenic")
    async with working(client):
        await told(client, witness, "bread")
        assert await words_of(client, witness) == ["bread"], (
            "a task of its own, or the next message may come in the same"
        )
        assert await learned(client, witness, "butter") == 2
        await told(client, witness, "arsenic")
        completed: list[int] = []
        for _ in range(3):
            await eventually("the failure", lambda: fails(client, witness))
            completed.append((await task_ends(client, witness)).count(None))
            await restart(client, RestartWorkflow(workflow_id=witness, run_id=await run_of(client, witness)))
        assert completed[0] == completed[1] + 1 > 1
        assert completed[2] == 0


async def fails(client: Client, witness: str) -> bool:
    cause = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE
    return (await task_ends(client, witness))[-1:] == [cause]


async def task_ends(client: Client, witness: str) -> list[WorkflowTaskFailedCause.ValueType | None]:
    """How each workflow task of its run ended; None: well."""
    events = [event async for event in client.get_workflow_handle(witness).fetch_history_events()]
    failed, completed = EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED, EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
    return [
        event.workflow_task_failed_event_attributes.cause if event.event_type == failed else None
        for event in events
        if event.event_type in {failed, completed}
    ]


async def test_a_wedged_one_that_is_reset_forgets_the_poison(client: Client, witness: str) -> None:
    POISON.add("arsenic")
    async with working(client):
        await told(client, witness, "arsenic")
        await eventually("the failure", lambda: wedged(client, witness))
        await restart(client, RestartWorkflow(workflow_id=witness, run_id=await run_of(client, witness), reset=True))
        assert await words_of(client, witness) == []


def test_the_input_of_a_fresh_one_names_its_rig() -> None:
    assert long_lived.kind_of("refinery/shop").empty == RigName(rig="shop")
    assert long_lived.kind_of(names.DEACON_ID).empty is None
    with pytest.raises(KeyError):
        long_lived.kind_of("polecat/shop/sh-1")
