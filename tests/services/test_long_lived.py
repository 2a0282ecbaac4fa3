"""The bounded ping and the restart of long-lived workflows, on a real Temporal server."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from models import names
from models.base import Frozen
from models.escalations import SourceReset
from models.jobs import RigName
from models.names import WorkflowType
from models.supervision import ProbeResult, RestartWorkflow
from services import long_lived, restarting
from services.long_lived import Handle, probe
from services.restarting import restart
from tests.services.conftest import eventually
from tests.temporal_server import client_of

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
        await workflow.wait_condition(lambda: False)

    @workflow.signal
    def hear(self, word: str) -> None:
        if word in POISON:
            raise RuntimeError("a bug")
        self._words.append(word)

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


@pytest.fixture
async def client(port: int) -> AsyncIterator[Client]:
    yield await client_of(port)
    POISON.clear()


@pytest.fixture
def witness() -> str:
    """The id of a Witness that no other test has."""
    return names.witness_id(f"rig-{uuid.uuid4().hex[:8]}")


@contextlib.asynccontextmanager
async def working(client: Client) -> AsyncIterator[None]:
    async with Worker(
        client,
        task_queue=names.TOWN_QUEUE,
        workflows=[WordWitness],
        workflow_runner=UnsandboxedWorkflowRunner(),
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=1),
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
    return (await probe(client, witness, SHORT_S)).result is ProbeResult.WEDGED


# --- the ping -----------------------------------------------------------------------------------


async def test_one_that_was_never_started_is_absent(client: Client, witness: str) -> None:
    found = await probe(client, witness)
    assert (found.result, found.run_id) == (ProbeResult.ABSENT, "")


async def test_one_that_was_terminated_is_absent_and_its_run_is_named(client: Client, witness: str) -> None:
    handle = await long_lived.start(client, witness)
    await client.get_workflow_handle(witness).terminate()
    found = await probe(client, witness)
    assert (found.result, found.run_id) == (ProbeResult.ABSENT, handle.first_execution_run_id)
    assert "terminated" in found.detail


async def test_a_living_one_answers_and_says_whether_it_is_stopped(client: Client, witness: str) -> None:
    async with working(client):
        await told(client, witness)
        found = await probe(client, witness)
        assert (found.result, found.stopped, found.run_id) == (
            ProbeResult.ANSWERS,
            False,
            await run_of(client, witness),
        )
        await client.get_workflow_handle(witness).signal("stop")
        assert (await probe(client, witness)).stopped


async def test_without_a_worker_it_is_silent_and_the_ping_stays_bounded(client: Client, witness: str) -> None:
    await told(client, witness)
    begun = asyncio.get_running_loop().time()
    assert (await probe(client, witness, SHORT_S)).result is ProbeResult.SILENT
    assert asyncio.get_running_loop().time() - begun < 3 * SHORT_S + 1


async def test_one_whose_tasks_fail_is_wedged_even_while_nobody_has_asked_before(client: Client, witness: str) -> None:
    POISON.add("arsenic")
    async with working(client):
        await told(client, witness, "bread", "arsenic")
        await eventually("the first failures", lambda: wedged(client, witness))
        assert (await probe(client, witness)).detail


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
        order = RestartWorkflow(workflow_id=witness, run_id=await run_of(client, witness))
        await restart(client, order)
        second = await run_of(client, witness)
        await restart(client, order)
        assert await run_of(client, witness) == second


async def test_many_restarters_at_once_do_not_end_each_others_runs(client: Client, witness: str) -> None:
    async with working(client):
        await told(client, witness, "bread")
        order = RestartWorkflow(workflow_id=witness, run_id=await run_of(client, witness))
        await asyncio.gather(*(restart(client, order) for _ in range(10)))
        assert await words_of(client, witness) == ["bread"]
        runs = [found.run_id async for found in client.list_workflows(f"WorkflowId = '{witness}'")]
        assert len(runs) <= 3, "one more where a restarter found it gone before the one that ended it was done"


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


async def test_what_was_said_while_nobody_worked_is_not_lost(client: Client, witness: str) -> None:
    async with working(client):
        await told(client, witness, "bread")
        assert await words_of(client, witness) == ["bread"]
    handle = client.get_workflow_handle(witness)
    await handle.signal("hear", "salt")
    await handle.terminate()
    async with working(client):
        await restart(client, RestartWorkflow(workflow_id=witness))
        words = await words_of(client, witness)
        assert words[0] == "bread"
        assert "salt" in words


async def test_a_message_that_starts_it_meanwhile_does_not_cost_it_its_memory(client: Client, witness: str) -> None:
    async with working(client):
        first = await told(client, witness, "bread")
        assert await words_of(client, witness) == ["bread"]
        await client.get_workflow_handle(witness).terminate()
        await told(client, witness, "salt")
        ended = client.get_workflow_handle(witness, run_id=first.first_execution_run_id)
        state = {"rig": witness.partition("/")[2], "words": ["bread"]}
        await restarting._start_in_place(client, ended, state, ended_by_us=True)
        assert await words_of(client, witness) == ["bread", "salt"]


# --- one whose code fails -----------------------------------------------------------------------


async def test_a_wedged_one_begins_again_with_every_message_since(client: Client, witness: str) -> None:
    POISON.add("arsenic")
    async with working(client):
        await told(client, witness, "bread", "arsenic", "salt")
        await eventually("the failure", lambda: wedged(client, witness))
        before = await run_of(client, witness)
        POISON.clear()  # the worker was upgraded
        order = RestartWorkflow(workflow_id=witness, run_id=before, reason="wedged")
        await asyncio.gather(restart(client, order), restart(client, order))
        after = await run_of(client, witness)
        assert after != before
        assert await words_of(client, witness) == ["bread", "arsenic", "salt"]
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
            return (await probe(client, witness)).result is ProbeResult.ANSWERS

        await eventually("it to go on by itself once the code is right", answers)
        assert await words_of(client, witness) == ["bread", "arsenic"]


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
