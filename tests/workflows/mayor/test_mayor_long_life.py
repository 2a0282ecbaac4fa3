"""The Mayor with the ledger down, and from run to run: nothing that it was told is lost."""

from __future__ import annotations

from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from models.job.messages import DecisionKind
from models.mayor.alerts import Alerting
from models.mayor.escalations import OPEN_KEPT
from models.settings import EscalationSettings, HealthSettings, Settings
from tests.workflows.mayor.mayor_world import (
    MayorWorld,
    Open,
    told,
)
from tests.workflows.probes import JobProbe, runs_of, start_job
from workflows.mayor.state import CLEARED, MayorState
from workflows.mayor.workflow import MayorWorkflow


class TestTheLedgerIsDown:
    async def test_only_the_record_waits(self, env: WorkflowEnvironment, hall: Open) -> None:
        world = MayorWorld(readable=False, alerting=Alerting(channels=("email",)))
        async with hall(world) as town:
            job = await start_job(env, "sh-1")
            await town.escalate(*(told(f"e{number}", bead=f"sh-{number}") for number in range(20)))
            await town.resolve("e1", DecisionKind.RETRY)
            await env.sleep(timedelta(hours=1))
            assert len((await job.query(JobProbe.heard)).decisions) == 1
            await town.until(lambda: sum(len(message.notices) + message.more for message in world.taken) >= 20)
            assert world.rows == {}
            world.readable = True
            await env.sleep(timedelta(minutes=5))
            await town.until(lambda: len(world.rows) == 20)
            # The last change is what is recorded.
            await town.until(lambda: world.rows["e1"].resolved)

    async def test_settings_change_by_the_next_cycle_and_the_last_known_ones_hold_meanwhile(
        self, env: WorkflowEnvironment, hall: Open
    ) -> None:
        short = Settings(
            health=HealthSettings(check_interval=10), escalation=EscalationSettings(ack_timeout=60, max_repeats=20)
        )
        world = MayorWorld(settings=short)
        async with hall(world) as town:
            await town.until(lambda: world.reads)
            await town.escalate(told("e1"))
            await env.sleep(timedelta(minutes=3, seconds=30))
            repeats = (await town.one("e1")).repeats
            assert 2 <= repeats <= 3
            world.readable = False
            await env.sleep(timedelta(minutes=3))
            assert (await town.one("e1")).repeats > repeats, "the last known timeout holds"
            world.readable = True
            world.settings = Settings()
            await env.sleep(timedelta(minutes=2))
            repeats = (await town.one("e1")).repeats
            await env.sleep(timedelta(hours=1))
            assert (await town.one("e1")).repeats == repeats, "four hours are not over"

    async def test_a_row_that_the_ledger_never_takes_does_not_hold_up_the_others(self, hall: Open) -> None:
        async with hall(MayorWorld(refuses="e0")) as town:
            await town.escalate(*(told(f"e{number}", bead=f"sh-{number}") for number in range(20)))
            await town.until(lambda: len(town.world.rows) == 19)
            assert len(await town.listed()) == 20


class TestHandingOver:
    async def test_open_escalations_their_deadlines_and_unsent_alerts_survive_two_continue_as_new(
        self, env: WorkflowEnvironment, hall: Open
    ) -> None:
        settings = Settings(escalation=EscalationSettings(ack_timeout=3600, max_repeats=1))
        world = MayorWorld(settings=settings, alerting=Alerting(channels=("email",)))
        async with hall(world, MayorState(patience=4, settings=settings)) as town:
            first = await runs_of(town.mayor)
            await town.escalate(told("e1"), told("e2", bead="sh-2"), told("e3", bead="sh-3", level="L1"))
            await town.acknowledge("e2")
            runs = {first, await town.next_run({first})}
            await env.sleep(timedelta(minutes=40))
            for number in (4, 5, 6, 7):
                await town.escalate(told(f"e{number}", bead=f"sh-{number}"))
            runs.add(await town.next_run(runs))
            assert len(runs) == 3
            await env.sleep(timedelta(minutes=22))
            listed = {status.id: status for status in await town.listed()}
            assert (listed["e1"].repeats, listed["e2"].repeats, listed["e4"].repeats) == (1, 0, 0)
            assert listed["e2"].acked
            assert listed["e3"].action == CLEARED, "its retry was due in an earlier run"
            await env.sleep(timedelta(hours=2))
            edges = [(one.edge, one.condition) for one in world.log]
            assert len(edges) == len(set(edges)), "no run tells again what another has told"
            heard = [one.id for message in world.taken for one in message.notices]
            assert sorted(heard) == sorted(one.id for one in world.log)

    async def test_what_is_not_recorded_yet_survives_two_continue_as_new(
        self, env: WorkflowEnvironment, hall: Open
    ) -> None:
        async with hall(MayorWorld(readable=False), MayorState(patience=5)) as town:
            first = await runs_of(town.mayor)
            await town.escalate(told("e1"), told("e2", bead="sh-2"))
            await town.acknowledge("e1")
            await town.resolve("e2", DecisionKind.IGNORE)
            runs = {first}
            for number in range(3, 17, 7):
                await town.escalate(*(told(f"e{number + n}", bead=f"sh-{number + n}") for n in range(7)))
                runs.add(await town.next_run(runs))
            listed = {status.id: status for status in await town.listed()}
            assert len(listed) == 16
            assert listed["e1"].acked
            assert listed["e2"].resolved
            town.world.readable = True
            # In real time: on this test server what an earlier run left under way stops the clock's skipping.
            await town.until(lambda: town.world.rows == listed)

    async def test_the_state_that_it_tells_is_the_one_that_a_next_run_goes_on_from(self, hall: Open) -> None:
        async with hall() as town:
            await town.escalate(told("e1"))
            await town.until(lambda: town.world.log and "e1" in town.world.rows)
            state = await town.mayor.query(MayorWorkflow.state)
            assert list(state.cases) == ["e1"]
            assert list(state.told) == ["help:sh-1"]

    async def test_hundreds_of_escalations_pass_through_many_runs_and_all_are_recorded(self, hall: Open) -> None:
        async with hall(state=MayorState(patience=150)) as town:
            runs = {await runs_of(town.mayor)}
            for number in range(600):
                await town.escalate(told(f"e{number}", bead=f"sh-{number}", message="x" * 500))
                if number % 200 == 199:
                    # This test server lets an unbroken stream of signals keep a run from handing over.
                    runs.add(await town.next_run(runs))
            await town.until(lambda: len(town.world.rows) == 600)
            listed = await town.listed()
            assert len(listed) < 600
            assert listed[-1].id == "e599"
            assert all(not row.resolved for row in town.world.rows.values()), "what the Mayor forgot stays open there"
            assert len(runs) >= 3

    async def test_a_flood_faster_than_the_ledger_is_recorded_whole(self, hall: Open) -> None:
        async with hall(MayorWorld(slow=True), MayorState(patience=2 * OPEN_KEPT)) as town:
            count = 2 * OPEN_KEPT - 100
            await town.escalate(*(told(f"e{number}", bead=f"sh-{number}") for number in range(count)))
            assert len(await town.listed()) == count, "nothing is forgotten before the record holds it"
            town.world.slow = False
            await town.until(lambda: len(town.world.rows) == count)

    @pytest.mark.own_clocks
    async def test_a_flood_with_the_ledger_down_does_not_stop_the_mayor(
        self, env: WorkflowEnvironment, hall: Open
    ) -> None:
        async with hall(MayorWorld(readable=False), MayorState(patience=OPEN_KEPT + 50)) as town:
            runs = {await runs_of(town.mayor)}
            await town.escalate(*(told(f"e{number}", bead=f"sh-{number}") for number in range(OPEN_KEPT + 50)))
            await env.sleep(timedelta(minutes=2))
            await town.next_run(runs)
            listed = await town.listed()
            assert len(listed) == OPEN_KEPT + 50, "they fit, so none is given up"
            assert listed[-1].id == f"e{OPEN_KEPT + 49}"
