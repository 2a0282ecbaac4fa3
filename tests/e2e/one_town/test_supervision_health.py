"""Agents that hang, spin or wait for an answer in a real town: what is noticed, who is told, and what is kept."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from agents import session_folder
from models import names
from models.job.health import Thresholds
from models.mayor.escalations import EscalationStatus
from models.settings import HealthSettings
from models.supervision.messages import WitnessHealth
from services.temporal.client import connect
from tests.e2e.held_agents import CALM, held, landed_once, session_folder_of
from tests.e2e.living_town import git, wait_until
from tests.e2e.quick_town import QuickTown

BEATS = 'touch "${GT_TASK_FILE%/*}/heartbeat"'
STUCK = "polecat_stuck"


PATIENCE = {"polecat_timeout": 600, "grace": 600, "stuck_timeout": 600}
PATIENT = {f"health.{name}": limit_s for name, limit_s in PATIENCE.items()} | {"hosts.timeout": 60}
"""Whoever is slow because the machine is, is not accused."""
BEFORE = {**{f"health.{name}": getattr(HealthSettings(), name) for name in PATIENCE}, **CALM}


@pytest.fixture
def town(shop: QuickTown) -> Iterator[QuickTown]:
    shop.configure(PATIENT)
    yield shop
    shop.configure(BEFORE)


def limits(town: QuickTown, bead: str, **health: int) -> None:
    """Hold the bead's agent to these limits from now on, and to patient ones where none are named.

    Args:
        health: settings of the group `health`.
    """
    town.configure(PATIENT | {f"health.{name}": value for name, value in health.items()})
    wanted = Thresholds.of(HealthSettings.model_validate(PATIENCE | health))

    async def held_to() -> Thresholds | None:
        witness = (await connect(town.town)).get_workflow_handle(names.witness_id("shop"))
        found: WitnessHealth = await witness.query("health", result_type=WitnessHealth)
        return found.limits.get(bead)

    wait_until("the patrol to hold these limits", lambda: asyncio.run(held_to()) == wanted)


@pytest.mark.document(
    "1: Witness 监控 Polecat", "3: 无响应", "3: 无响应 → 标记为 stale → 等待恢复期 → 未恢复 → 重启 Polecat"
)
def test_a_stopped_agent_that_has_beaten_is_stale_then_restarted_and_its_uncommitted_work_is_kept(
    town: QuickTown,
) -> None:
    job = held(town, "stopped for good", meanwhile=BEATS)
    seen = town.shared / "seen-after-stop"
    job.sling(before=f"cat notes.txt > {seen}; echo half > notes.txt; gt heartbeat")
    pid = job.waits()
    os.kill(pid, signal.SIGSTOP)
    limits(town, job.bead, polecat_timeout=5)
    wait_until("it to be stale", lambda: "stale" in town.events(job.bead))
    limits(town, job.bead, polecat_timeout=5, grace=1)
    wait_until("it to be given up", lambda: "agent_unresponsive" in town.events(job.bead))
    limits(town, job.bead)
    job.waits()
    job.go()
    landed_once(town, job.bead)
    assert seen.read_text() == "half\n"
    assert git(town.remote, "show", "main:notes.txt") == "half\n"
    assert town.job(job.bead).restarts == 1
    events = town.events(job.bead)
    assert events.index("stale") < events.index("agent_unresponsive")
    assert town.escalations(job.bead) == []
    wait_until("the stopped shell to be gone", lambda: not os.path.exists(f"/proc/{pid}"))


@pytest.mark.document("3: 无响应 → 标记为 stale → 等待恢复期 → 恢复 → 恢复正常状态")
def test_an_agent_that_beats_again_within_the_grace_has_recovered_and_is_left_alone(town: QuickTown) -> None:
    job = held(town, "stopped for a while", meanwhile=BEATS)
    job.sling(before="gt heartbeat")
    pid = job.waits()
    os.kill(pid, signal.SIGSTOP)
    limits(town, job.bead, polecat_timeout=5)
    wait_until("it to be stale", lambda: "stale" in town.events(job.bead))
    os.kill(pid, signal.SIGCONT)
    wait_until("it to have recovered", lambda: "recovered" in town.events(job.bead))
    limits(town, job.bead)
    job.go()
    landed_once(town, job.bead)
    assert (town.job(job.bead).attempt, town.job(job.bead).restarts) == (1, 0)
    assert town.escalations(job.bead) == []


@pytest.mark.document("3: 卡住", "3: 卡住 → 发送 HELP → 升级到 Witness → 人工介入")
def test_agents_without_progress_call_a_person_once_each_are_not_restarted_and_go_on_when_they_may(
    town: QuickTown,
) -> None:
    """One spins, one asks at a prompt, and one has never beaten and does nothing."""
    spins = held(town, "spins", meanwhile="printf '\\r| thinking'; printf '\\r/ thinking'")
    asks, silent = held(town, "asks"), held(town, "never beats")
    answer, jobs = town.shared / "answer", (spins, asks, silent)
    asks.sling(before=f"printf 'Overwrite the file? [y/N] '; read answer; echo $answer > {answer}")
    for job in (spins, silent):
        job.sling()
        job.waits()
    assert not (session_folder_of(town, silent.bead, 1) / session_folder.HEARTBEAT).exists()
    told = {job.bead: stuck(town, job.bead) for job in jobs}
    assert "it still writes to its pane" in told[spins.bead].evidence + told[spins.bead].message
    assert "the pane shows a prompt" in told[asks.bead].evidence + told[asks.bead].message
    assert "Overwrite the file? [y/N]" in told[asks.bead].evidence
    assert {town.job(job.bead).attempt for job in jobs} == {1}

    town.run("gt", "polecat", "nudge", str(town.job(asks.bead).polecat), "y")
    asks.waits()
    assert answer.read_text() == "y\n"
    for job in jobs:
        job.go()
    for job in jobs:
        only_one_that_ended(town, job.bead)
    town.configure(PATIENT)
    landed_once(town, *(job.bead for job in jobs))
    for job in jobs:
        assert (town.job(job.bead).attempt, town.job(job.bead).restarts) == (1, 0)
        assert "stale" not in town.events(job.bead)


def stuck(town: QuickTown, bead: str) -> EscalationStatus:
    """The one escalation that this agent is stuck, once it is there."""
    limits(town, bead, polecat_timeout=5, grace=1, stuck_timeout=10)
    wait_until(f"{bead} to be called stuck", lambda: town.escalations(bead))
    (told,) = town.escalations(bead)
    assert told.kind == STUCK
    assert not told.resolved
    return told


def only_one_that_ended(town: QuickTown, bead: str) -> None:
    """By itself: nobody had to answer."""
    wait_until("the escalation to end", lambda: all(told.resolved for told in town.escalations(bead)))
    (told,) = town.escalations(bead)
    assert told.action == "cleared"
