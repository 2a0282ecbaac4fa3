"""The patrol's eyes on one host: one scanner for all rigs.

A look is one listing of the session folders and one `list-panes`. Folders are read before panes:
a start that was under way in between is then seen as what it is. Whatever seems dead is read once
more after them, for an end or a `gt done` that was under way.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from activities.git.worktree.polecat_repo import PolecatRepo
from activities.sessions.locked_folders import changed_ns, is_locked
from activities.sessions.process_tree import prompt_reaping
from activities.sessions.progress import AskTree, Progress, TreeReader
from activities.sessions.recovery_policy import Case, RecoveryPolicies
from activities.sessions.tmux import PaneFacts, Tmux
from activities.sessions.watched import HELPS, TAIL_EVERY_S, Watched
from agents import session_folder
from models import names
from models.errors import GtError
from models.job.attempts import WatchReport, WatchRig
from models.job.health import Diagnosis, HealthReport, Sighting, Zombie
from models.job.messages import DoneStatus, Observation, ObservationKind
from models.texts import one_line
from models.town import TownPaths
from policies.job.health import is_dead, needs_tail, reported_as
from policies.job.limits import limit_seen
from policies.job.prompts import TAIL_LINES
from policies.job.rework_notes import BY_SIGNAL
from policies.security.redaction import redact

TICK_S: Final = 1.0
"""At most one look in this time, however many rigs are watched."""

MORE_HELPS: Final = f"it calls for help more often than {HELPS} times a minute: the others are heard later"
LAST_LINES: Final = 30
DETAIL_LIMIT: Final = 4_000
"""Characters of an observation's detail: it travels in Temporal's history."""
TAIL_LIMIT: Final = 1_500
MOST_FORGED: Final = 20
"""intents without their attempt's token that a report names"""

GAP_LIMIT_S: Final = 3.0
"""Nobody watched between two looks that are further apart: such a gap counts as one tick and accuses nobody."""

FORGET_S: Final = 60.0
"""A rig that no patrol has asked about for so long is not watched any more."""

SETTLE_S: Final = 0.3
SETTLE_STEP_S: Final = 0.05
SILENT_S: Final = 1.0
HOLD_S: Final = 2.0
LISTINGS: Final = 3
UNREAPED_S: Final = 10.0
"""tmux tells that a pane is dead a moment before it tells how its process ended and shows what it said last.

A look waits at most SETTLE_S for that. Then the death is left to later looks: for SILENT_S while an agent that ended by
itself seems to have said nothing, for HOLD_S and some LISTINGS while the process may have left its terminal for good,
for UNREAPED_S while it has ended and a busy tmux has not taken notice.
"""

ZOMBIE_AGE_S: Final = 5.0
"""What is being ended in good order is gone by then."""


class Scanner:
    """Looks at every open session of this host. One per worker process; a new one sees the same.

    Args:
        host: the name that observations carry.
        clock: monotonic seconds.
        ask_tree: reads whole worktrees beside the looks.
        clean: takes secrets out of what agents say; by default those of known shapes.
    """

    def __init__(
        self,
        paths: TownPaths,
        tmux: Tmux,
        host: str,
        *,
        tick_s: float = TICK_S,
        clock: Callable[[], float] = time.monotonic,
        ask_tree: AskTree | None = None,
        policies: RecoveryPolicies | None = None,
        clean: Callable[[str], str] = redact,
    ) -> None:
        self._paths = paths
        self._tmux = tmux
        self._host = host
        self.tick_s = tick_s
        self._clock = clock
        self._ask_tree = ask_tree or TreeReader()
        self._policies = policies or RecoveryPolicies()
        self._clean = clean
        self._looking = asyncio.Lock()
        self._looked_at = float("-inf")
        self._orders: dict[str, tuple[WatchRig, float]] = {}
        """by rig: what its patrol asked for last, and when it asked last"""
        self._seen: dict[str, WatchReport] = {}
        self._watched: dict[Path, Watched] = {}
        self._strays: dict[str, float] = {}
        """sessions without an open attempt, by name: for how long they have been seen so"""
        self._over: dict[Path, int] = {}
        """folders of beads without an open attempt, with the time of their last change before that finding"""
        self._highest: dict[tuple[str, str], dict[str, int]] = {}
        """by rig and bead: each polecat's highest attempt on this host"""

    async def survey(self, request: WatchRig) -> WatchReport:
        """All that is to be seen of a rig now; a look that another watcher has just made serves too.

        Raises:
            GtError: TMUX_FAILED, PROGRAM_MISSING.
        """
        async with self._looking:
            now = self._clock()
            asked, _ = self._orders.get(request.rig, (None, now))
            self._orders[request.rig] = (request, now)
            if asked is not request or now - self._looked_at >= self.tick_s / 2:
                self._seen = await asyncio.to_thread(self.look)
        return self._seen.get(request.rig, WatchReport(thresholds=request.thresholds))

    def look(self) -> dict[str, WatchReport]:
        """One look at every rig that is asked about. Blocking, a few milliseconds."""
        now = self._clock()
        orders = {rig: order for rig, (order, asked_at) in self._orders.items() if now - asked_at <= FORGET_S}
        attempts = self._open_attempts(orders)
        panes = self._settled(self._tmux.panes(), attempts)
        now = self._clock()
        elapsed = now - self._looked_at
        elapsed = elapsed if elapsed <= GAP_LIMIT_S else self.tick_s
        self._looked_at = now
        pairs: dict[str, list[tuple[Watched, PaneFacts | None]]] = {rig: [] for rig in orders}
        for watched in attempts:
            pane = watched.pane_among(panes)
            watched.superseded = self._why_over(watched, orders[watched.rig])
            watched.look(pane, elapsed, orders[watched.rig].thresholds)
            pairs[watched.rig].append((watched, pane))
        self._watched = {watched.folder: watched for watched in attempts}
        strays = list(self._stray_sessions(attempts, panes, elapsed))
        return {rig: self._report(orders[rig], found, panes, strays) for rig, found in pairs.items()}

    # --- one rig --------------------------------------------------------------------------------

    def _report(
        self,
        order: WatchRig,
        pairs: list[tuple[Watched, PaneFacts | None]],
        panes: dict[str, PaneFacts],
        strays: list[Zombie],
    ) -> WatchReport:
        # Ascending, so that of two open attempts of a bead the newer one's ages are reported.
        pairs.sort(key=lambda pair: (pair[0].bead, pair[0].attempt))
        sights = [(watched, pane, self._sight(watched, pane, order)) for watched, pane in pairs]
        present = [(watched, pane, sighting) for watched, pane, sighting in sights if sighting is not None]
        cases = [Case(sighting, order.thresholds, watched.verdict) for watched, _, sighting in present]
        verdicts, policy_error = self._policies.judge(order.policy, cases)
        known = frozenset(order.known)
        observations: list[Observation] = []
        health: dict[str, HealthReport] = {}
        for (watched, pane, sighting), diagnosis in zip(present, verdicts, strict=True):
            health[watched.bead] = watched.judged(sighting, diagnosis, self._host)
            watched.was_told(known)
            observations += self._observations(watched, pane, sighting, diagnosis, bool(panes))
        return WatchReport(
            observations=tuple(observations),
            living=tuple(dict.fromkeys(watched.bead for watched, pane, _ in present if pane and pane.alive)),
            heartbeat_age_s={watched.bead: watched.heartbeat_age_s for watched, _, _ in present if watched.beat},
            progress_age_s={watched.bead: watched.progress_age_s for watched, _, _ in present},
            health=health,
            thresholds=order.thresholds,
            zombies=(*_zombies(present), *(stray for stray in strays if stray.rig == order.rig)),
            policy_error=policy_error,
            forged=tuple(
                f"{watched.bead}/{watched.attempt}/{name}"
                for watched, _, _ in present
                for name in sorted(watched.forged)
            )[:MOST_FORGED],
        )

    def _sight(self, watched: Watched, pane: PaneFacts | None, order: WatchRig) -> Sighting | None:
        """None: the attempt was ended while it was looked at."""
        sighting = watched.sighting(pane)
        if is_dead(sighting):
            # Again, now that the panes are known: it may have handed in its work or been ended just before.
            if watched.ended():
                return None
            watched.reread()
            sighting = watched.sighting(pane)
        if not needs_tail(sighting, order.thresholds):
            watched.tail, watched.tail_age_s = "", math.inf
            return sighting
        # Again only where something was written since, or in the second in which it was read.
        if watched.tail_age_s >= TAIL_EVERY_S and watched.output_age_s <= watched.tail_age_s + 1:
            watched.tail = self._tmux.capture(watched.session, TAIL_LINES)[-TAIL_LIMIT:]
            watched.tail_age_s = 0.0
        return sighting.model_copy(update={"tail": watched.tail})

    def _observations(
        self, watched: Watched, pane: PaneFacts | None, sighting: Sighting, diagnosis: Diagnosis, server_runs: bool
    ) -> Iterator[Observation]:
        """What the job shall hear. Of an attempt that is over it hears nothing."""
        if sighting.superseded:
            return
        yield from self._help(watched)
        if watched.telling is not None:
            yield watched.telling
        if sighting.done_told:
            yield self._done(watched)
        elif reported_as(diagnosis.kind, sighting) is ObservationKind.DIED:
            yield self._died(watched, pane, server_runs)

    def _died(self, watched: Watched, pane: PaneFacts | None, server_runs: bool) -> Observation:
        if pane is None:
            detail, code = "its tmux session is gone" if server_runs else "the tmux server is gone", None
        else:
            detail, code = f"{_how_it_ended(pane)}\n{watched.last_words}".strip()[:DETAIL_LIMIT], pane.exit_code
        failure = watched.setup_failure() if pane is not None else None
        if failure is not None:
            detail = self._clean(f"{failure}\n{watched.last_words}".strip())[:DETAIL_LIMIT]
        alone = server_runs or pane is not None
        limit = None
        if failure is None and code not in (None, 0):
            now = datetime.now().astimezone()
            limit = limit_seen(watched.last_words, now.astimezone(UTC), now.tzinfo or UTC)
        return self._observation(
            watched,
            ObservationKind.DIED,
            detail=detail,
            exit_code=code,
            shared_cause=not alone,
            setup_failed=failure is not None,
            limited=limit.words if limit else "",
            limited_until=limit.until if limit else None,
        )

    def _done(self, watched: Watched) -> Observation:
        told = watched.intent(session_folder.DONE) or {}
        status, head = told.get("status"), told.get("head_sha")
        return self._observation(
            watched,
            ObservationKind.DONE,
            detail=self._clean(_sendable(str(told.get("message", ""))))[:DETAIL_LIMIT],
            done_status=DoneStatus(status) if status in set(DoneStatus) else DoneStatus.COMPLETED,
            head_sha=head if isinstance(head, str) and head else None,
            intent=session_folder.done_intent(str(told.get("id", ""))),
        )

    def _help(self, watched: Watched) -> Iterator[Observation]:
        for name, told in watched.calls_for_help():
            severity, problem = one_line(str(told.get("severity", ""))), str(told.get("problem", ""))
            detail = self._clean(_sendable(f"{severity}: {problem}")).removeprefix(": ")[:DETAIL_LIMIT]
            if name == watched.more_helps_at:
                detail += f"\n({MORE_HELPS})"
            yield self._observation(
                watched, ObservationKind.HELP, detail=detail, intent=f"{session_folder.HELP}/{name}"
            )

    def _observation(self, watched: Watched, kind: ObservationKind, **more: Any) -> Observation:
        return Observation(
            bead=watched.bead,
            polecat=watched.polecat,
            host=self._host,
            attempt=watched.attempt,
            kind=kind,
            **{key: _sendable(value) if isinstance(value, str) else value for key, value in more.items()},
        )

    # --- what there is to look at ---------------------------------------------------------------

    def _settled(self, panes: dict[str, PaneFacts], attempts: list[Watched]) -> dict[str, PaneFacts]:
        """The panes, once tmux tells how each dead one ended; where it does not yet, the pane counts as alive still."""
        began = time.monotonic()
        while True:
            unsettled = []
            for watched in attempts:
                pane = watched.pane_among(panes)
                if pane is not None and pane.dead and not watched.death_settled:
                    words = self._tmux.capture(watched.session, LAST_LINES)
                    if not _is_settled(watched, pane, words):
                        unsettled.append(pane)
            if not unsettled or time.monotonic() - began >= SETTLE_S:
                return panes | {pane.session: replace(pane, dead=False) for pane in unsettled}
            time.sleep(SETTLE_STEP_S)
            panes = self._tmux.panes()

    def _why_over(self, watched: Watched, order: WatchRig) -> str:
        newest = max(self._highest.get((watched.rig, watched.bead), {}).values(), default=watched.attempt)
        if newest > watched.attempt:
            return f"attempt {newest} was started"
        if order.superseded.get(watched.bead, 0) >= watched.attempt:
            return "its job has ended it"
        return ""

    def _stray_sessions(
        self, attempts: list[Watched], panes: dict[str, PaneFacts], elapsed_s: float
    ) -> Iterator[Zombie]:
        """Sessions that were started for an attempt which is not open any more."""
        expected = {watched.session for watched in attempts if watched.pane_among(panes)}
        strays = {}
        for name, pane in panes.items():
            rig, _, polecat = name.partition("--")
            if not pane.bead or name in expected or self._is_open(rig, polecat, pane):
                continue
            strays[name] = age = self._strays.get(name, -elapsed_s) + elapsed_s
            if age >= ZOMBIE_AGE_S:
                yield Zombie(
                    rig=rig, polecat=polecat, bead=pane.bead, attempt=pane.attempt,
                    session_lives=pane.alive, age_s=round(age, 1), reason="its attempt was ended",
                )  # fmt: skip
        self._strays = strays

    def _is_open(self, rig: str, polecat: str, pane: PaneFacts) -> bool:
        try:
            folder = self._paths.session(rig, polecat, pane.bead, pane.attempt)
        except GtError:
            return True  # a name that is none of ours
        if is_locked(folder):
            return True  # nobody can tell that it was ended
        return os.path.exists(folder / session_folder.SESSION) and not os.path.exists(folder / session_folder.ENDED)

    def _open_attempts(self, orders: dict[str, WatchRig]) -> list[Watched]:
        attempts = []
        for rig, order in orders.items():
            for polecat in self._found_in(self._paths.sessions / rig):
                for bead in self._found_in(self._paths.sessions / rig / polecat):
                    attempts += self._open_of_bead(order, polecat, bead)
        return attempts

    def _open_of_bead(self, order: WatchRig, polecat: str, bead: str) -> list[Watched]:
        """Finished beads pile up, so each costs one `stat` until a new attempt touches its folder."""
        place = self._paths.sessions / order.rig / polecat / bead
        changed = changed_ns(place)
        if changed and self._over.get(place) == changed:
            return []
        attempts, numbers, waits = [], [0], False
        for number in filter(str.isdecimal, self._found_in(place)):
            numbers.append(int(number))
            folder = place / number
            if os.path.exists(folder / session_folder.ENDED):
                continue
            waits = True
            watched = self._watched.get(folder) or self._recognised(folder, order, polecat, bead)
            if watched is not None:
                watched.note_start()
                attempts.append(watched)
        self._highest.setdefault((order.rig, bead), {})[polecat] = max(numbers)
        if not waits:
            self._over[place] = changed
        return attempts

    def _found_in(self, folder: Path) -> list[str]:
        """What is in a folder; of one that an agent has locked, what is watched there already."""
        try:
            return os.listdir(folder)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError:
            return sorted({path.relative_to(folder).parts[0] for path in self._watched if path.is_relative_to(folder)})

    def _recognised(self, folder: Path, order: WatchRig, polecat: str, bead: str) -> Watched | None:
        """None while the folder is being written, or where it is none of ours."""
        record = session_folder.read_json(folder / session_folder.SESSION)
        try:
            names.session_name(order.rig, polecat)
            names.valid_bead(bead)
        except GtError:
            return None
        if record is None:
            return None
        progress = Progress(PolecatRepo(self._paths, order.rig, polecat), names.job_branch(bead), self._ask_tree)
        watched = Watched(folder, order.rig, polecat, bead, int(folder.name), progress)
        watched.declares_heartbeat = record.get("declares_heartbeat") is True
        watched.sets_up = record.get("sets_up") is True
        watched.token = str(record.get(session_folder.TOKEN_KEY, ""))
        carried = order.carried.get(bead)
        if carried is not None and (carried.polecat, carried.attempt) == (polecat, watched.attempt):
            watched.resume(carried)
        return watched


def _zombies(seen: list[tuple[Watched, PaneFacts | None, Sighting]]) -> Iterator[Zombie]:
    for watched, pane, sighting in seen:
        if sighting.superseded and watched.verdict_age_s >= ZOMBIE_AGE_S:
            yield Zombie(
                rig=watched.rig, polecat=watched.polecat, bead=watched.bead, attempt=watched.attempt,
                session_lives=pane is not None and pane.alive,
                age_s=round(watched.verdict_age_s, 1), reason=watched.superseded,
            )  # fmt: skip


def _is_settled(watched: Watched, pane: PaneFacts, words: str) -> bool:
    """Whether all is known of a death that may be; remembers what is."""
    now = time.monotonic()
    watched.seen_dead_at = watched.seen_dead_at or now
    waited = now - watched.seen_dead_at
    whole = bool(words) and words == watched.last_words
    watched.last_words = words
    if pane.exit_code is not None:
        patience = SETTLE_S if words or pane.dead_signal is not None else SILENT_S
        watched.death_settled = whole or waited >= patience
    else:
        # It may have been reaped since the panes were listed: only later listings can tell.
        watched.unexplained = 0 if prompt_reaping(pane.pane_pid) else watched.unexplained + 1
        watched.death_settled = waited >= (HOLD_S if watched.unexplained > LISTINGS else UNREAPED_S)
    return watched.death_settled


def _sendable(text: str) -> str:
    """JSON may name halves of characters, which no message can carry: the whole report would be lost."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _how_it_ended(pane: PaneFacts) -> str:
    if pane.dead_signal is not None:
        return f"{BY_SIGNAL} {pane.dead_signal}"
    return "ended" if pane.dead_status is None else f"exit code {pane.dead_status}"
