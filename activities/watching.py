"""The patrol's eyes on one host: one scanner for all rigs, and the long poll that waits on it.

A look is one listing of the session folders and one `list-panes`. Folders are read before panes,
and whatever seems dead is read once more after them: a start or an end that was under way in
between is then seen as what it is.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from temporalio import activity

from activities.progress import Progress
from activities.tmux import PaneFacts, Tmux
from agents import session_folder
from agents.task import one_line
from models import names
from models.attempts import WatchReport, WatchRig, observation_key
from models.errors import GtError
from models.jobs import DoneStatus, Observation, ObservationKind
from models.town import TownPaths
from policies.health import SessionFacts, diagnose

TICK_S: Final = 1.0
"""At most one look in this time, however many rigs are watched."""

LAST_LINES: Final = 30
DETAIL_LIMIT: Final = 4_000
"""Characters of an observation's detail: it travels in Temporal's history."""

GAP_LIMIT_S: Final = 5.0
"""Ages grow by at most this between two looks: what nobody watched accuses nobody."""


@dataclass(frozen=True)
class RigSurvey:
    """What one look saw of one rig."""

    observations: tuple[Observation, ...] = ()
    living: tuple[str, ...] = ()
    heartbeat_age_s: dict[str, float] = field(default_factory=dict)
    """only of agents that have beaten"""
    progress_age_s: dict[str, float] = field(default_factory=dict)


@dataclass
class _Watched:
    """What the scanner remembers of one attempt between looks."""

    folder: Path
    rig: str
    polecat: str
    bead: str
    attempt: int
    progress: Progress
    heartbeat: int = 0
    """modification time in ns of the last beat seen; 0: has never beaten"""
    heartbeat_age_s: float = 0.0
    progress_age_s: float = 0.0
    last_words: str | None = None

    @property
    def session(self) -> str:
        return names.session_name(self.rig, self.polecat)


class Scanner:
    """Looks at every open session of this host. One per worker process; a new one sees the same.

    Args:
        host: the name that observations carry.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        paths: TownPaths,
        tmux: Tmux,
        host: str,
        *,
        tick_s: float = TICK_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths = paths
        self._tmux = tmux
        self._host = host
        self.tick_s = tick_s
        self._clock = clock
        self._looking = asyncio.Lock()
        self._looked_at = float("-inf")
        self._seen: dict[str, RigSurvey] = {}
        self._watched: dict[Path, _Watched] = {}
        self._over: dict[Path, int] = {}
        """folders of beads without an open attempt, with the modification time of that finding"""

    async def survey(self, rig: str) -> RigSurvey:
        """What is to be seen of a rig now; a look that another watcher has just made serves too.

        Raises:
            GtError: TMUX_FAILED, PROGRAM_MISSING.
        """
        async with self._looking:
            if self._clock() - self._looked_at >= self.tick_s / 2:
                self._seen = await asyncio.to_thread(self.look)
        return self._seen.get(rig, RigSurvey())

    def look(self) -> dict[str, RigSurvey]:
        """One look at everything, by rig. Blocking, a few milliseconds."""
        attempts = self._open_attempts()
        panes = self._tmux.panes()
        now = self._clock()
        elapsed = min(max(now - self._looked_at, 0.0), GAP_LIMIT_S)
        self._looked_at = now
        found: dict[str, list[tuple[_Watched, PaneFacts | None]]] = {}
        for watched in attempts:
            self._age(watched, elapsed)
            found.setdefault(watched.rig, []).append((watched, _pane_of(watched, panes)))
        self._watched = {watched.folder: watched for watched in attempts}
        return {rig: self._survey(pairs, bool(panes)) for rig, pairs in found.items()}

    def _survey(self, pairs: list[tuple[_Watched, PaneFacts | None]], server_runs: bool) -> RigSurvey:
        # Ascending, so that of two open attempts of a bead the newer one's ages are reported.
        pairs.sort(key=lambda pair: (pair[0].bead, pair[0].attempt))
        observations: list[Observation] = []
        for watched, pane in pairs:
            observations += self._help(watched)
            observations += self._diagnosed(watched, pane, server_runs)
        return RigSurvey(
            observations=tuple(observations),
            living=tuple(watched.bead for watched, pane in pairs if pane is not None and pane.alive),
            heartbeat_age_s={watched.bead: watched.heartbeat_age_s for watched, _ in pairs if watched.heartbeat},
            progress_age_s={watched.bead: watched.progress_age_s for watched, _ in pairs},
        )

    def _diagnosed(self, watched: _Watched, pane: PaneFacts | None, server_runs: bool) -> list[Observation]:
        kind = self._kind(watched, pane)
        if kind is ObservationKind.DIED:
            # Again, now that the panes are known: it may have handed in its work or been ended just before.
            if (watched.folder / session_folder.ENDED).exists():
                return []
            kind = self._kind(watched, pane)
        if kind is ObservationKind.DONE:
            return [self._done(watched)]
        if kind is ObservationKind.DIED:
            return [self._died(watched, pane, server_runs)]
        return []

    def _kind(self, watched: _Watched, pane: PaneFacts | None) -> ObservationKind | None:
        facts = SessionFacts(
            started=(watched.folder / session_folder.STARTED).exists(),
            present=pane is not None,
            pane_dead=pane is not None and pane.dead,
            done_told=(watched.folder / session_folder.DONE).exists(),
            heartbeat_age_s=watched.heartbeat_age_s if watched.heartbeat else None,
        )
        return diagnose(facts)

    def _died(self, watched: _Watched, pane: PaneFacts | None, server_runs: bool) -> Observation:
        if pane is None:
            detail, code = "its tmux session is gone" if server_runs else "the tmux server is gone", None
        else:
            how, code = _end_of(pane)
            if watched.last_words is None:
                watched.last_words = self._tmux.capture(watched.session, LAST_LINES)
            detail = f"{how}\n{watched.last_words}".strip()[:DETAIL_LIMIT]
        alone = server_runs or pane is not None
        return self._observation(watched, ObservationKind.DIED, detail=detail, exit_code=code, shared_cause=not alone)

    def _done(self, watched: _Watched) -> Observation:
        told = session_folder.read_json(watched.folder / session_folder.DONE) or {}
        status, head = told.get("status"), told.get("head_sha")
        return self._observation(
            watched,
            ObservationKind.DONE,
            detail=str(told.get("message", ""))[:DETAIL_LIMIT],
            done_status=DoneStatus(status) if status in set(DoneStatus) else DoneStatus.COMPLETED,
            head_sha=head if isinstance(head, str) and head else None,
            intent=session_folder.done_intent(str(told.get("id", ""))),
        )

    def _help(self, watched: _Watched) -> Iterator[Observation]:
        for name in sorted(_listed(watched.folder / session_folder.HELP)):
            if name.startswith(".") or not name.endswith(".json"):
                continue
            told = session_folder.read_json(watched.folder / session_folder.HELP / name) or {}
            severity, problem = one_line(str(told.get("severity", ""))), str(told.get("problem", ""))
            yield self._observation(
                watched,
                ObservationKind.HELP,
                detail=f"{severity}: {problem}".removeprefix(": ")[:DETAIL_LIMIT],
                intent=f"{session_folder.HELP}/{name}",
            )

    def _observation(self, watched: _Watched, kind: ObservationKind, **more: Any) -> Observation:
        return Observation(
            bead=watched.bead,
            polecat=watched.polecat,
            host=self._host,
            attempt=watched.attempt,
            kind=kind,
            **more,
        )

    def _age(self, watched: _Watched, elapsed: float) -> None:
        """First sight counts as fresh; afterwards only time between looks does."""
        known = watched.folder in self._watched
        beat = _modified_ns(watched.folder / session_folder.HEARTBEAT)
        watched.heartbeat_age_s = 0.0 if beat != watched.heartbeat or not known else watched.heartbeat_age_s + elapsed
        watched.heartbeat = beat
        moved = watched.progress.moved()
        watched.progress_age_s = 0.0 if moved or not known else watched.progress_age_s + elapsed

    def _open_attempts(self) -> list[_Watched]:
        attempts = []
        for rig in _listed(self._paths.sessions):
            for polecat in _listed(self._paths.sessions / rig):
                for bead in _listed(self._paths.sessions / rig / polecat):
                    attempts += self._open_of_bead(rig, polecat, bead)
        return attempts

    def _open_of_bead(self, rig: str, polecat: str, bead: str) -> list[_Watched]:
        """Finished beads pile up, so each costs one `stat` until a new attempt touches its folder."""
        place = self._paths.sessions / rig / polecat / bead
        changed = _modified_ns(place)
        if not changed or self._over.get(place) == changed:
            return []
        attempts, waits = [], False
        for number in _listed(place):
            folder = place / number
            if not number.isdecimal() or (folder / session_folder.ENDED).exists():
                continue
            waits = True
            watched = self._watched.get(folder) or self._recognised(folder, rig, polecat, bead)
            attempts += [watched] if watched else []
        if not waits:
            self._over[place] = changed
        return attempts

    def _recognised(self, folder: Path, rig: str, polecat: str, bead: str) -> _Watched | None:
        """None while the folder is being written, or where it is none of ours."""
        record = session_folder.read_json(folder / session_folder.SESSION)
        try:
            names.session_name(rig, polecat)
            names.valid_bead(bead)
        except GtError:
            return None
        if record is None:
            return None
        progress = Progress(Path(str(record.get("worktree", ""))), names.job_branch(bead))
        return _Watched(folder, rig, polecat, bead, int(folder.name), progress)


class WatchActivities:
    """The patrol's long poll."""

    def __init__(self, scanner: Scanner) -> None:
        self._scanner = scanner

    @activity.defn
    async def watch_rig(self, request: WatchRig) -> WatchReport:
        """Return as soon as there is something that is not known yet, else after the interval.

        Raises:
            GtError: TMUX_FAILED, PROGRAM_MISSING.
        """
        known = set(request.known)
        deadline = time.monotonic() + request.interval_s
        while True:
            seen = await self._scanner.survey(request.rig)
            news = tuple(one for one in seen.observations if observation_key(one) not in known)
            left = deadline - time.monotonic()
            if news or left <= 0:
                return WatchReport(
                    observations=news,
                    present=tuple(observation_key(one) for one in seen.observations),
                    living=seen.living,
                    heartbeat_age_s=seen.heartbeat_age_s,
                    progress_age_s=seen.progress_age_s,
                )
            await asyncio.sleep(min(self._scanner.tick_s, left))


def _pane_of(watched: _Watched, panes: dict[str, PaneFacts]) -> PaneFacts | None:
    pane = panes.get(watched.session)
    return pane if pane is not None and (pane.bead, pane.attempt) == (watched.bead, watched.attempt) else None


def _end_of(pane: PaneFacts) -> tuple[str, int | None]:
    """How the agent's process ended, in words and as a shell would number it."""
    if pane.dead_signal is not None:
        return f"killed by signal {pane.dead_signal}", 128 + pane.dead_signal
    if pane.dead_status is not None:
        return f"exit code {pane.dead_status}", pane.dead_status
    return "ended", None


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _modified_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return 0
