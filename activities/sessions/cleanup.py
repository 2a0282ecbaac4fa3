"""Cleaning up after a polecat: evidence first, then what has not landed is parked, then session and worktree go."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from temporalio import activity

from activities.crash_points import crash_point
from activities.git.worktree.park import REMOTE_PROBLEMS
from activities.git.worktree.polecat_repo import PolecatRepo
from activities.git.worktree.salvage import first_salvaged
from activities.git.worktree.worktrees import Worktrees
from activities.sessions.session import Sessions
from activities.sessions.tmux import PaneFacts, Tmux
from models import names
from models.errors import ErrorCode, GtError
from models.town import TownPaths
from models.upkeep.cleanup import AttemptRef, CleanedUp, CleanUp, InspectPolecats, PolecatFound, PolecatsFound


class _Parked(NamedTuple):
    ref: str | None = None
    problem: str = ""
    """why the remote has not got it"""


class CleanupActivities:
    """Cleanup on this host. Blocking; runs in threads.

    Args:
        environment: what agents inherit from; the worker's own by default.
    """

    def __init__(
        self, paths: TownPaths, tmux: Tmux, worktrees: Worktrees, environment: Mapping[str, str] | None = None
    ) -> None:
        self._paths = paths
        self._worktrees = worktrees
        self._sessions = Sessions(paths, tmux, environment)

    @activity.defn
    def clean_up(self, request: CleanUp) -> CleanedUp:
        """See `models.upkeep.cleanup`. Killed anywhere and run again, it leaves the same world.

        Raises:
            GtError: INVALID_VALUE without a bead and without `force`; DISK_FULL, GIT_FAILED, TMUX_FAILED.
                A remote that cannot be reached is an answer instead.
        """
        if not request.bead and not request.force:
            raise GtError(ErrorCode.INVALID_VALUE, "whose work shall be cleaned up: name a bead, or use force")
        with self._sessions.alone(request.rig.name, request.polecat):
            return self._clean_up(request)

    @activity.defn
    def inspect_polecats(self, request: InspectPolecats) -> PolecatsFound:
        """What every polecat of the rig has on this host. Nothing is changed.

        Raises:
            GtError: TMUX_FAILED, PROGRAM_MISSING.
        """
        rig = names.valid_rig(request.rig)
        sessions = [name.split("--") for name in self._sessions.names()]
        folders = [self._paths.rig(rig) / "polecats", self._paths.sessions / rig]
        known = {path.name for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_dir()}
        known |= {parts[1] for parts in sessions if len(parts) == 2 and parts[0] == rig}
        found = [self._found(rig, request.host, polecat) for polecat in sorted(known) if _is_polecat(polecat)]
        return PolecatsFound(polecats=tuple(one for one in found if one.session or one.attempts or one.worktree))

    def _found(self, rig: str, host: str, polecat: str) -> PolecatFound:
        pane = self._sessions.pane(rig, polecat)
        note = PolecatRepo(self._paths, rig, polecat).note
        worktree = None
        if note is not None:
            attempt = note.attempt or self._sessions.newest_attempt(rig, polecat, note.bead)
            worktree = AttemptRef(bead=note.bead, attempt=attempt)
        return PolecatFound(
            polecat=polecat,
            host=host,
            session=AttemptRef(bead=pane.bead, attempt=pane.attempt) if pane is not None else None,
            session_lives=pane is not None and pane.alive,
            attempts=tuple(
                AttemptRef(bead=bead, attempt=attempt)
                for bead, attempt in sorted(self._sessions.open_folders(rig, polecat))
            ),
            worktree=worktree,
        )

    def _clean_up(self, request: CleanUp) -> CleanedUp:
        rig, polecat = request.rig.name, request.polecat
        pane = self._sessions.pane(rig, polecat)
        attempts = self._attempts(request, pane)
        evidence = None
        for bead, attempt in attempts:
            evidence = self._sessions.save_evidence(rig, polecat, bead, attempt) or evidence
        crash_point("cleanup.evidence_saved")
        kept = self._newer(request)
        found = pane is not None and (request.force or (pane.bead, pane.attempt) in attempts)
        if pane is not None and found and pane.alive and not kept:
            # While the agent still stands there: what it may do to its files as it ends is not known.
            self._park(request)
            crash_point("cleanup.parked")
        for bead, attempt in attempts:
            self._sessions.end(rig, polecat, bead, attempt, request.cause or "cleaned up")
        if request.force and pane is not None and not pane.bead:
            self._sessions.end_unknown(pane)
        crash_point("cleanup.sessions_ended")
        if kept:
            return CleanedUp(evidence_path=_shown(evidence), session_ended=found, kept_reason=kept)
        parked = self._park(request)
        crash_point("cleanup.parked_again")
        bead, attempt = self._owner(request)
        if not parked.problem:
            self._free(request)
            crash_point("cleanup.freed")
        kept_folder = first_salvaged(self._paths, request.rig.name, bead, attempt) if bead else None
        return CleanedUp(
            evidence_path=_shown(evidence),
            parked_ref=parked.ref,
            kept_folder=kept_folder,
            session_ended=found,
            worktree_freed=not parked.problem,
            kept_reason=parked.problem,
        )

    def _attempts(self, request: CleanUp, pane: PaneFacts | None) -> list[tuple[str, int]]:
        """(bead, attempt) of all that shall end, oldest first; the one asked for is always among them."""
        found = set(self._sessions.open_folders(request.rig.name, request.polecat))
        if pane is not None and pane.bead:
            found.add((pane.bead, pane.attempt))
        if not request.force:
            found = {one for one in found if one[0] == request.bead and one[1] <= request.attempt}
        if request.bead:
            found.add((names.valid_bead(request.bead), request.attempt))
        return sorted(found)

    def _newer(self, request: CleanUp) -> str:
        """Why the worktree is not this attempt's any more; "" while it is."""
        if request.force:
            return ""
        newest = self._sessions.newest_attempt(request.rig.name, request.polecat, request.bead)
        if newest <= request.attempt:
            return ""
        return f"attempt {newest} of {request.bead} has taken the worktree over"

    def _park(self, request: CleanUp) -> _Parked:
        bead, attempt = self._owner(request)
        if not bead:
            return _Parked()
        try:
            ref = self._worktrees.park(request.rig, request.polecat, bead, attempt, None)
        except GtError as error:
            if error.code not in REMOTE_PROBLEMS:
                raise
            return _Parked(problem=f"what has not landed could not be parked: {error.message}")
        return _Parked(ref)

    def _free(self, request: CleanUp) -> None:
        bead, _ = self._owner(request)
        if bead:
            self._worktrees.release(request.rig, request.polecat, bead)
        self._worktrees.remove_files(request.rig, request.polecat)

    def _owner(self, request: CleanUp) -> tuple[str, int]:
        """Whose work is to be parked: (bead, attempt). By force it is whosever the worktree is."""
        owner = self._worktrees.owner(request.rig, request.polecat) if request.force else None
        if owner is None or owner == request.bead:
            return request.bead, request.attempt
        return owner, self._sessions.newest_attempt(request.rig.name, request.polecat, owner)


def _is_polecat(name: str) -> bool:
    with contextlib.suppress(GtError):
        return bool(names.valid_polecat(name))
    return False


def _shown(path: Path | None) -> str | None:
    return None if path is None else str(path)
