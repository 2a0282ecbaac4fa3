"""A town with short settings, and agents that say where they are and go on when they are told to."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import tomlkit

from tests.e2e.agent_processes import agent_process
from tests.e2e.living_town import LivingTown, shell_agent, wait_until
from tests.e2e.quick_town import QuickTown

SETTINGS = {
    "health.check_interval": 2,
    "health.polecat_timeout": 6,
    "health.grace": 2,
    "recovery.retry_delay": 1,
    "session.done_grace": 1,
    "hosts.timeout": 10,
}
CALM = SETTINGS | {"health.polecat_timeout": 60, "hosts.timeout": 60}
"""A busy machine oversteps no limit: most faults need none to be noticed."""
TEN = 10


@contextlib.contextmanager
def supervised_town(
    settings: Mapping[str, int | str] = SETTINGS,
    environment: Mapping[str, str] | None = None,
    *,
    host: str = "",
    max_polecats: int | None = TEN,
) -> Iterator[QuickTown]:
    """A town that is up, with the rig `shop`; gone at the end.

    Args:
        environment: variables that its processes get beside the usual ones.
        host: the name of the town's own host; "": as `gt init` names it.
        max_polecats: of the rig; None: as many as a rig has by default.
    """
    with tempfile.TemporaryDirectory(prefix="gt-") as folder:
        living = QuickTown(Path(folder))
        try:
            living.env |= environment or {}
            living.init()
            if host:
                config = living.root / "town.toml"
                config.write_text(tomlkit.dumps(tomlkit.parse(config.read_text()) | {"host": host}))
            living.up()
            living.configure(settings)
            living.add_rig(*(["--max-polecats", str(max_polecats)] if max_polecats is not None else []))
            yield living
        finally:
            living.close()


@dataclass(frozen=True)
class Held:
    """A bead whose agent says when it has done `before`, and goes on when it is told to."""

    town: QuickTown
    bead: str
    meanwhile: str = "true"
    """what its shell does ten times a second while it waits"""

    @property
    def agent(self) -> str:
        said = f"echo $GT_ATTEMPT $$ > {self._at}.tmp; mv {self._at}.tmp {self._at}"
        return f"{said}; while [ ! -e {self._go} ]; do {self.meanwhile}; sleep 0.1; done"

    @property
    def _at(self) -> Path:
        return self.town.shared / f"{self.bead}.at"

    @property
    def _go(self) -> Path:
        return self.town.shared / f"{self.bead}.go"

    def sling(self, before: str = "true", after: str = "gt done") -> None:
        """Its agent does `before`, waits, commits `BEAD.py` and does `after`; later attempts do the same.

        It runs below the pane's own process: that one tmux continues whenever it is stopped.
        """
        agent = shell_agent(file=f"{self.bead}.py", before=f"{before}; {self.agent}", after=after)
        self.town.sling(self.bead, f"sh -c {shlex.quote(agent)}; exit $?")

    def waits(self) -> int:
        """The shell of the agent that waits now, by its id on this host; each attempt is told of once."""
        wait_until(f"the agent of {self.bead} to wait", self._at.exists)
        attempt, own = map(int, self._at.read_text().split())
        self._at.unlink()
        return agent_process((self.bead, attempt, own)).pid

    def go(self) -> None:
        self._go.touch()


def held(town: QuickTown, title: str, meanwhile: str = "true") -> Held:
    return Held(town, town.bead(title), meanwhile)


def landed_once(town: QuickTown, *beads: str) -> None:
    for bead in beads:
        town.wait_closed(bead)
        assert len(town.landed(bead)) == 1, f"{bead} landed {town.landed(bead)}"
    wait_until("the sessions of these beads to end", lambda: not set(beads) & living_beads(town))


def living_beads(town: QuickTown) -> set[str]:
    shown = subprocess.run(
        ["tmux", "-L", town.tmux_socket(), "list-panes", "-a", "-F", "#{@gt_bead}"],
        env=town.env, capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    return set(shown.split())


def session_folder_of(town: LivingTown, bead: str, attempt: int) -> Path:
    (found,) = (town.root / "run" / "sessions").glob(f"*/*/{bead}/{attempt}")
    return found
