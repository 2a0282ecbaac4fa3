"""One attempt as the scanner remembers it between looks: marks, ages, and what was said of it."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Final

from activities.sessions.progress import Progress
from activities.sessions.tmux import PaneFacts
from agents import run_setup, session_folder
from agents.tokens import carries
from models import names
from models.job.attempts import observation_key
from models.job.health import Diagnosis, HealthKind, HealthReport, Sighting, Thresholds
from models.job.messages import Observation, ObservationKind
from policies.job.health import ACCUSATIONS, reported_as

TAIL_EVERY_S: Final = 10.0
"""The pane of an agent without progress is read so often."""

HELPS: Final = 10
HELPS_EVERY_S: Final = 60.0
"""So many new calls for help of one attempt are passed on in this time; the others stay in its folder until later."""
HELPS_READ: Final = 200
"""files of its help folder that one look takes notice of"""

_ACCUSING: Final = frozenset({ObservationKind.STALE, ObservationKind.UNRESPONSIVE, ObservationKind.STUCK})


@dataclass
class Watched:
    """Ages are seconds that somebody watched. The first look at an attempt finds everything fresh,
    or as old as an earlier watcher last told, where nothing has changed since."""

    folder: Path
    rig: str
    polecat: str
    bead: str
    attempt: int
    progress: Progress
    declares_heartbeat: bool = False
    token: str = field(default="", repr=False)
    """of its intents, as it was when the attempt was first looked at"""
    sets_up: bool = False
    """its worktree is set up before its agent starts"""
    set_up: bool = False
    known: bool = False
    """it was looked at before"""
    started: bool = False
    done_told: bool = False
    forged: set[str] = field(default_factory=set)
    """intents in its folder without its token, by name"""
    helps: set[str] = field(default_factory=set)
    """its calls for help that are passed on, and not settled yet: names of files"""
    helps_left: int = HELPS
    helps_age_s: float = 0.0
    more_helps_at: str = ""
    """with which of them it was told that more wait"""
    superseded: str = ""
    """why the attempt is over; "": it counts"""
    beat: int = 0
    """modification time in ns of the last beat seen; 0: has never beaten"""
    output_at: int = 0
    heartbeat_age_s: float = 0.0
    progress_age_s: float = 0.0
    output_age_s: float = 0.0
    session_age_s: float = 0.0
    tail: str = ""
    tail_age_s: float = math.inf
    last_words: str = ""
    """of a dead pane"""
    seen_dead_at: float = 0.0
    """monotonic; 0: was not seen dead"""
    unexplained: int = 0
    """listings that did not tell how a process ended that tmux does not have to reap"""
    death_settled: bool = False
    """tmux knows how the pane's process ended, or was given the time to learn it"""
    verdict: HealthKind | None = None
    verdict_age_s: float = 0.0
    episode: str = ""
    accused_of: ObservationKind | None = None
    telling: Observation | None = field(default=None)
    """what the job is to be told of this attempt's health"""

    @cached_property
    def session(self) -> str:
        return names.session_name(self.rig, self.polecat)

    def pane_among(self, panes: dict[str, PaneFacts]) -> PaneFacts | None:
        """The pane of this very attempt."""
        pane = panes.get(self.session)
        return pane if pane is not None and (pane.bead, pane.attempt) == (self.bead, self.attempt) else None

    def resume(self, carried: HealthReport) -> None:
        """Go on from the last report of an earlier watcher."""
        sighting = carried.sighting
        self.beat, self.heartbeat_age_s = carried.beat, sighting.heartbeat_age_s or 0.0
        self.output_at, self.output_age_s = carried.output_at, sighting.output_age_s
        self.session_age_s = sighting.session_age_s
        self.progress.resume(carried.progress, sighting.progress_age_s)
        self.verdict, self.episode = carried.diagnosis.kind, carried.episode
        self.verdict_age_s = sighting.verdict_age_s if carried.earlier is self.verdict else 0.0
        told = reported_as(self.verdict, sighting)
        self.accused_of = told if told in _ACCUSING else None

    def note_start(self) -> None:
        """Whether its session was seen running. Only before the panes are listed: what was started after
        that is in no such list, and would seem to have died."""
        # os.path, because it answers False where an agent has locked its folder: its pane still counts.
        self.started = self.started or os.path.exists(self.folder / session_folder.STARTED)

    def look(self, pane: PaneFacts | None, elapsed_s: float, limits: Thresholds) -> None:
        """Take in how things stand, `elapsed_s` watched seconds after the last look."""
        # While the worktree is set up there is no agent that could be silent; that has a limit of its own.
        elapsed = elapsed_s if self.known and not self._in_setup() else 0.0
        self.known = True
        self.forged.clear()
        self.reread()
        self.verdict_age_s += elapsed
        self.tail_age_s += elapsed
        self.helps_age_s += elapsed_s
        if self.helps_age_s >= HELPS_EVERY_S:
            self.helps_left, self.helps_age_s = HELPS, 0.0
        beat = modified_ns(self.folder / session_folder.HEARTBEAT)
        self.heartbeat_age_s = self.heartbeat_age_s + elapsed if beat == self.beat else 0.0
        self.beat = beat
        output_at = pane.activity_at if pane is not None else self.output_at
        self.output_age_s = self.output_age_s + elapsed if output_at == self.output_at else 0.0
        self.output_at = output_at
        if pane is not None and pane.alive:
            self.session_age_s += elapsed
        self.progress_age_s = self.progress.look(elapsed, limits.stuck_timeout_s)

    def setup_failure(self) -> str | None:
        """Why the set-up of its worktree failed; None where it did not."""
        state, _, why = session_folder.setup_state(self.folder).partition(": ")
        return why if self.sets_up and state == run_setup.FAILURE else None

    def _in_setup(self) -> bool:
        if self.sets_up and not self.set_up:
            self.set_up = session_folder.setup_state(self.folder) not in {"", run_setup.RUNNING}
        return self.sets_up and not self.set_up

    def reread(self) -> None:
        """Whether the agent has handed in: a folder or a link of that name is no intent."""
        self.done_told = (
            session_folder.is_file(self.folder / session_folder.DONE) and self.intent(session_folder.DONE) is not None
        )

    def intent(self, name: str) -> dict[str, Any] | None:
        """What an intent's file says; None for one without this attempt's token, which says nothing."""
        told = session_folder.read_json(self.folder / name, session_folder.INTENT_BYTES)
        if told is not None and carries(told, self.token):
            return told
        if told is not None:
            self.forged.add(name)
        return None

    def calls_for_help(self) -> list[tuple[str, dict[str, Any]]]:
        """Name and content of those that its job is to hear now, oldest first."""
        names_there = self.helps.union(_some_of(self.folder / session_folder.HELP, HELPS_READ))
        told = {name: self.intent(f"{session_folder.HELP}/{name}") for name in sorted(names_there)}
        found = {name: content for name, content in told.items() if content is not None}
        new = [name for name in found if name not in self.helps]
        heard = new[: self.helps_left]
        if heard and heard != new and not self.more_helps_at:
            self.more_helps_at = heard[-1]
        self.helps_left -= len(heard)
        self.helps = {name for name in found if name in self.helps or name in heard}
        return [(name, content) for name, content in found.items() if name in self.helps]

    def ended(self) -> bool:
        return os.path.exists(self.folder / session_folder.ENDED)

    def sighting(self, pane: PaneFacts | None) -> Sighting:
        beats = self.started and (self.beat or self.declares_heartbeat)
        return Sighting(
            started=self.started,
            present=pane is not None,
            pane_dead=pane is not None and pane.dead,
            exit_code=pane.exit_code if pane is not None and pane.dead else None,
            done_told=self.done_told,
            superseded=bool(self.superseded),
            heartbeat_age_s=round(self.heartbeat_age_s, 1) if beats else None,
            progress_age_s=round(self.progress_age_s, 1),
            output_age_s=round(self.output_age_s, 1),
            session_age_s=round(self.session_age_s, 1),
            verdict_age_s=round(self.verdict_age_s, 1),
        )

    def judged(self, sighting: Sighting, diagnosis: Diagnosis, host: str) -> HealthReport:
        """Remember the verdict and what the job is to be told of it."""
        earlier = self.verdict
        if diagnosis.kind is not earlier:
            self.verdict, self.verdict_age_s = diagnosis.kind, 0.0
        self._tell(reported_as(diagnosis.kind, sighting), sighting, diagnosis, host)
        return HealthReport(
            polecat=self.polecat,
            attempt=self.attempt,
            # What did not decide does not travel.
            sighting=sighting if diagnosis.kind in ACCUSATIONS else sighting.model_copy(update={"tail": ""}),
            earlier=earlier,
            diagnosis=diagnosis,
            episode=self.episode,
            beat=self.beat,
            output_at=self.output_at,
            progress=self.progress.fingerprint,
        )

    def was_told(self, known: frozenset[str]) -> None:
        """A recovery that was passed on has been said; an accusation stands until it is over."""
        telling = self.telling
        if telling is not None and telling.kind is ObservationKind.RECOVERED and observation_key(telling) in known:
            self.telling = None

    def _tell(self, kind: ObservationKind | None, sighting: Sighting, diagnosis: Diagnosis, host: str) -> None:
        """One observation per episode: its text stays as it was when the episode began."""
        if kind in _ACCUSING:
            if kind is not self.accused_of:
                # Not a number: after a watcher without memory it would begin anew and name an old episode.
                self.accused_of, self.episode = kind, os.urandom(4).hex()
            if self.telling is None or (self.telling.kind, self.telling.episode) != (kind, self.episode):
                self.telling = self._observation(kind, diagnosis, sighting.tail, host)
        elif diagnosis.kind in {HealthKind.HEALTHY, HealthKind.RECOVERED}:
            if self.accused_of is not None:
                self.accused_of = None
                self.telling = self._observation(ObservationKind.RECOVERED, diagnosis, "", host)
        else:
            self.accused_of = self.telling = None

    def _observation(self, kind: ObservationKind, diagnosis: Diagnosis, tail: str, host: str) -> Observation:
        return Observation(
            bead=self.bead,
            polecat=self.polecat,
            host=host,
            attempt=self.attempt,
            kind=kind,
            detail=f"{diagnosis.reason}\n{tail}".strip(),
            episode=self.episode,
        )


def _some_of(folder: Path, most: int) -> list[str]:
    """Names of files in a folder that an agent may have filled, locked or replaced by a link."""
    try:
        if os.path.islink(folder):
            return []
        with os.scandir(folder) as entries:
            names_there = [entry.name for entry in islice(entries, most)]
    except OSError:
        return []
    return [name for name in names_there if name[:1] != "." and name.endswith(".json") and name.isprintable()]


def modified_ns(path: Path) -> int:
    """0 where there is no such file, or none that may be looked at."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
