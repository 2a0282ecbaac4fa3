"""The brake in the patrol: when it is pulled, what jobs and dispatcher hear, and how it is released."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from temporalio.testing import WorkflowEnvironment

from models.job.messages import Decision, DecisionKind, ObservationKind, WorkEnded
from tests.workflows.conftest import WorkerBuilder
from tests.workflows.probes import Job, JobProbe, eventually, start_job
from tests.workflows.supervision.witness_world import DispatchDouble, Post, died, posted, started, strict

pytestmark = pytest.mark.own_clocks

Open = Callable[..., contextlib.AbstractAsyncContextManager[Post]]
BEADS = ("sh-1", "sh-2", "sh-3", "sh-4")


@pytest.fixture
def post(env: WorkflowEnvironment, workers: WorkerBuilder) -> Open:
    return lambda **how: posted(env, workers, settings=strict(86400, retry_delay=60, max_delay=240), **how)


class Agents:
    """Agents of several beads, all on one host."""

    def __init__(self, town: Post, jobs: dict[str, Job]) -> None:
        self.town = town
        self.jobs = jobs
        self.attempts = dict.fromkeys(jobs, 0)

    @classmethod
    async def of(cls, town: Post) -> Agents:
        agents = cls(town, {bead: await start_job(town.env, bead) for bead in BEADS})
        for bead in BEADS:
            await agents.start(bead)
        return agents

    async def start(self, bead: str) -> None:
        self.attempts[bead] += 1
        self.forget(bead)
        await self.town.start(started(bead, self.attempts[bead]))

    async def die(self, *beads: str, **facts: Any) -> None:
        """Seen by the patrol, and told to the jobs."""
        heard = {bead: len(await self.observations(bead)) for bead in beads}
        for bead in beads:
            self.town.tower.seen.setdefault("h1", []).append(died(bead, self.attempts[bead], exit_code=1, **facts))
        await self.look()
        for bead in beads:

            async def told(bead: str = bead) -> bool:
                return len(await self.observations(bead)) > heard[bead]

            await eventually(told, what=f"{bead} to hear of its death")
        for bead in beads:
            await self.town.witness.signal("work_ended", WorkEnded(bead=bead, attempt=self.attempts[bead]))

    async def fall(self, *beads: str, **facts: Any) -> None:
        """Die, be restarted, die again."""
        await self.die(*beads, **facts)
        for bead in beads:
            await self.start(bead)
        await self.die(*beads, **facts)

    async def observations(self, bead: str) -> list[tuple[ObservationKind, bool]]:
        heard = await self.jobs[bead].query(JobProbe.heard)
        return [(seen.kind, seen.hold) for seen in heard.observations]

    def forget(self, bead: str) -> None:
        self.town.tower.seen["h1"] = [seen for seen in self.town.tower.seen.get("h1", []) if seen.bead != bead]

    async def look(self) -> None:
        """Have the resting patrol look again, as new work does."""
        self.town.tower.living["h1"] = (*BEADS, "sh-9")
        self.attempts["sh-9"] = self.attempts.get("sh-9", 0) + 1
        about_to_start = started("sh-9", self.attempts["sh-9"]).model_copy(update={"session": False})
        await self.town.witness.signal("work_started", about_to_start)


async def test_three_of_five_polecats_that_die_again_pause_restarts_and_raise_one_alarm(post: Open) -> None:
    async with post() as town:
        agents = await Agents.of(town)
        await agents.fall("sh-1", "sh-2")
        assert not (await town.restraint()).braked
        await agents.fall("sh-3")
        await town.raised("polecat_unresponsive")
        (letter,) = town.desk.letters
        assert (letter.level, letter.severity, letter.rig) == ("L3", "critical", "shop")
        assert letter.evidence == "sh-1, sh-2, sh-3"
        assert "trouble of the host or of the agents' API" in letter.message
        restraint = await town.restraint()
        assert (restraint.braked, restraint.probes) == ((await town.status()).braked, 0)
        assert restraint.braked.startswith("the agents of 3 of ")
        assert await agents.observations("sh-3") == [(ObservationKind.DIED, False), (ObservationKind.DIED, True)]
        await agents.die("sh-4")
        assert (await agents.observations("sh-4"))[-1] == (ObservationKind.DIED, True)
        assert len(town.desk.letters) == 1


async def probed(town: Post, times: int) -> None:
    """The Witness's word of its probes is on its way for a moment."""

    async def said() -> bool:
        return (await town.restraint()).probes == times

    await eventually(said, what=f"probe {times}")


async def test_a_probe_that_lives_a_minute_releases_the_brake(post: Open) -> None:
    async with post() as town:
        agents = await Agents.of(town)
        await agents.fall("sh-1", "sh-2", "sh-3")
        await town.raised("polecat_unresponsive")
        await town.wait(timedelta(seconds=75))
        await probed(town, 1)
        await agents.start("sh-1")
        await agents.die("sh-1")
        await town.wait(timedelta(seconds=60))
        assert (await town.status()).braked
        await town.wait(timedelta(seconds=75))
        await probed(town, 2)
        await agents.start("sh-2")
        await town.wait(timedelta(seconds=75))
        await town.raised()
        assert (await town.restraint()).braked == ""
        assert (await town.status()).braked == ""


async def test_a_probe_whose_job_is_cancelled_within_a_minute_does_not_release_the_brake(post: Open) -> None:
    async with post() as town:
        agents = await Agents.of(town)
        await agents.fall("sh-1", "sh-2", "sh-3")
        await town.raised("polecat_unresponsive")
        await town.wait(timedelta(seconds=75))
        await probed(town, 1)
        await agents.start("sh-1")
        await town.end("sh-1", agents.attempts["sh-1"])
        await town.wait(timedelta(seconds=75))
        assert (await town.status()).braked
        await town.raised("polecat_unresponsive")


async def test_a_person_who_decides_about_the_alarm_releases_the_brake(post: Open) -> None:
    async with post() as town:
        agents = await Agents.of(town)
        await agents.fall("sh-1", "sh-2", "sh-3")
        await town.raised("polecat_unresponsive")
        decided = Decision(kind=DecisionKind.RETRY, reason="the key is renewed", escalation=town.desk.letters[0].id)
        await town.witness.signal("decision", decided.model_copy(update={"escalation": "another one"}))
        assert (await town.status()).braked
        await town.witness.signal("decision", decided)

        async def released() -> bool:
            return not (await town.restraint()).braked

        await eventually(released)
        await agents.start("sh-1")
        await agents.die("sh-1")
        assert (await agents.observations("sh-1"))[-1] == (ObservationKind.DIED, False)


async def test_a_dead_tmux_server_is_one_cause_and_all_come_back_in_waves(post: Open) -> None:
    async with post() as town:
        agents = await Agents.of(town)
        for _ in range(3):
            begun = await town.env.get_current_time()
            town.tower.seen["h1"] = [
                died(bead, agents.attempts[bead], exit_code=None, shared_cause=True) for bead in BEADS
            ]
            heard = len(await agents.observations(BEADS[-1]))
            await agents.look()
            await town.wait(timedelta(seconds=2))

            async def all_heard(heard: int = heard) -> bool:
                return len(await agents.observations(BEADS[-1])) > heard

            await eventually(all_heard)
            assert await town.env.get_current_time() - begun >= timedelta(seconds=0.9), "two waves"
            for bead in BEADS:
                await agents.start(bead)
        assert town.desk.letters == []
        assert not (await town.restraint()).braked
        heard_of = [await agents.observations(bead) for bead in BEADS]
        assert not any(hold for told in heard_of for _, hold in told)


async def test_the_brake_and_what_it_is_judged_by_are_kept_over_continue_as_new(post: Open) -> None:
    async with post(patience=5) as town:
        agents = await Agents.of(town)
        runs = {(await town.witness.describe()).run_id}
        for bead in ("sh-1", "sh-2", "sh-3"):
            await agents.fall(bead)
            runs.add((await town.witness.describe()).run_id)
        await town.raised("polecat_unresponsive")
        assert len(runs) >= 3
        for _ in range(6):
            await town.witness.signal("settings_changed")

        async def handed_over() -> bool:
            return (await town.witness.describe()).run_id not in runs

        await eventually(handed_over)
        assert (await town.status()).braked
        told = len(await town.dispatch.query(DispatchDouble.restraints))
        await town.wait(timedelta(seconds=75))
        restraints = await town.dispatch.query(DispatchDouble.restraints)
        assert all(restraint.braked for restraint in restraints[told:])
        assert restraints[-1].probes == 1, "the dispatcher is told again each cycle, and the probe comes in time"
        assert len(town.desk.letters) == 1


async def test_a_new_witness_frees_a_dispatcher_that_an_earlier_one_held_back(
    env: WorkflowEnvironment, post: Open
) -> None:
    async with post() as town:
        agents = await Agents.of(town)
        await agents.fall("sh-1", "sh-2", "sh-3")
        await town.raised("polecat_unresponsive")
        await town.witness.terminate()
        await env.client.start_workflow("WitnessWorkflow", {"rig": "shop"}, id="witness/shop", task_queue="town")

        async def freed() -> bool:
            return not (await town.restraint()).braked

        await eventually(freed)
