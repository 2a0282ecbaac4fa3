"""A real town whose worker, commands and agents live by a clock that is set forward an hour, and back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest

from models import names
from models.mayor.escalations import EscalationStatus
from models.supervision.messages import DeaconStatus
from services.temporal.client import connect
from tests.e2e.held_agents import SETTINGS, held, landed_once, supervised_town
from tests.e2e.living_town import shell_agent, wait_until
from tests.e2e.quick_town import QuickTown

HOUR_S = 3600
CYCLES = 2
BEATS = 'touch "${GT_TASK_FILE%/*}/heartbeat"'


class Clock:
    """The wall clock of a town's programs: everything but the two Go servers and the kernel."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(0)

    def set(self, ahead_s: int) -> None:
        self._file.write_text(f"{ahead_s:+d}\n")

    @property
    def environment(self) -> dict[str, str]:
        """What makes a program read it; the steady clock goes on as it is, as it does when somebody sets a clock."""
        library = distribution("libfaketime").locate_file("libfaketime/vendor/libfaketime/src/libfaketime.so.1")
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Clock:
    return Clock(tmp_path_factory.mktemp("clock") / "ahead")


@pytest.fixture(scope="module")
def town(clock: Clock) -> Iterator[QuickTown]:
    settings = {"health.polecat_timeout": 60, "health.grace": 60, "health.stuck_timeout": 600}
    with supervised_town(SETTINGS | settings, clock.environment) as living:
        yield living


def clock_notes(town: QuickTown) -> list[EscalationStatus]:
    return [told for told in town.escalations() if told.id.startswith("clock/")]


def cycles(town: QuickTown) -> int:
    """How often the Deacon has looked; asked here, for commands live by the other clock."""

    async def ask() -> int:
        deacon = (await connect(town.town)).get_workflow_handle(names.DEACON_ID)
        status: DeaconStatus = await deacon.query("status", result_type=DeaconStatus)
        return status.cycles

    return asyncio.run(ask())


def watch_for_a_while(town: QuickTown) -> None:
    """Until the Deacon, and with it the Witness, has looked some more times."""
    enough = cycles(town) + CYCLES
    wait_until("some more rounds of the watchers", lambda: cycles(town) >= enough)


def test_a_clock_set_forward_an_hour_and_back_accuses_nobody_and_loses_nothing(town: QuickTown, clock: Clock) -> None:
    beating, silent = held(town, "beats", meanwhile=BEATS), held(town, "never beats")
    beating.sling(before="gt heartbeat")
    silent.sling()
    pids = [beating.waits(), silent.waits()]
    watch_for_a_while(town)
    assert town.escalations() == []

    clock.set(HOUR_S)
    wait_until("the clock to be noticed", lambda: clock_notes(town))
    watch_for_a_while(town)
    (note,) = town.escalations()
    assert (note.severity, note.resolved) == ("low", False)
    assert "ahead" in note.message
    assert all(Path(f"/proc/{pid}").exists() for pid in pids), "nobody was ended for it"

    later = town.bead("slung an hour ahead")
    town.sling(later, shell_agent(file="later.py"))
    beating.go()
    landed_once(town, later, beating.bead)

    clock.set(0)
    wait_until("the clock to be right again", lambda: all(told.resolved for told in clock_notes(town)))
    watch_for_a_while(town)
    silent.go()
    landed_once(town, silent.bead)
    for bead in (beating.bead, silent.bead, later):
        assert (town.job(bead).attempt, town.job(bead).restarts) == (1, 0)
        assert not {"stale", "agent_died", "agent_unresponsive"} & set(town.events(bead))
    assert town.escalations() == clock_notes(town), "nobody was told of anything else"
