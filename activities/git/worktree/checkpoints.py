"""Work in progress is saved, so that a lost host costs minutes of it: `refs/gastown/wip/<bead>/<attempt>`.

It happens beside the patrol, in a thread of its own, and nothing waits for it. The agent's index,
HEAD and files stay untouched. A worktree that has not changed costs three git commands an interval.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from activities.crash_points import crash_point
from activities.git.command import GitRepo, ls_remote
from activities.git.worktree.park import push_save
from activities.git.worktree.polecat_repo import PolecatRepo
from activities.git.worktree.saved_commits import save_message, shown
from activities.git.worktree.snapshot import Saver, SkippedFile
from agents import session_folder
from models import names
from models.errors import GtError
from models.job.checkpoints import Checkpoint, CheckpointOrder, StayedHere
from models.town import TownPaths
from services.atomic_files import write_whole
from services.locks import try_exclusive

log = logging.getLogger(__name__)

TICK_S: Final = 2.0
"""How often it is looked whether a save is due: a few `stat` calls a worktree."""
RETRY_S: Final = 60.0
"""A save that the remote has not got is tried again after this, or after the interval where that is shorter."""
REMEMBERED: Final = 20_000
"""blobs whose verdict is kept"""
_INDEX: Final = "checkpoint.index"


@dataclass(frozen=True)
class _Place:
    """One attempt's worktree, and where its saves are noted."""

    repo: PolecatRepo
    session: Path
    polecat: str
    bead: str
    attempt: int
    target: str

    @property
    def note(self) -> Path:
        return self.session / session_folder.CHECKPOINT

    @property
    def ref(self) -> str:
        return names.wip_ref(self.bead, self.attempt)

    @property
    def counts(self) -> bool:
        """No later attempt of its bead is known here. That asks for every polecat of the rig: what is due is asked."""
        return session_folder.newest_attempt(self.session) == self.attempt


class CheckpointSaver:
    """Saves the work that stands in this host's worktrees. Blocking."""

    def __init__(self, paths: TownPaths, host: str) -> None:
        self._paths = paths
        self._host = host
        self._judged: dict[str, str] = {}
        """blobs that were searched for secrets, and what they hold"""

    def due(self, order: CheckpointOrder, now: float) -> list[str]:
        """Polecats of the rig whose work was last looked at an interval ago. `now` is Unix time."""
        return [polecat for polecat in self._polecats(order.rig.name) if self._is_due(order, polecat, now)]

    def save(self, order: CheckpointOrder, polecat: str) -> Checkpoint | None:
        """Save what stands in the polecat's worktree, where it differs from what is saved already.

        Returns:
            What is saved now; None where there is no unfinished work, or somebody changes the worktree just now.

        Raises:
            GtError: REMOTE_UNREACHABLE, REMOTE_REFUSED (the save is on this host), DISK_FULL, GIT_FAILED.
        """
        lock = try_exclusive(self._paths.worktree_lock(order.rig.name, polecat))
        if lock is None:
            return None
        with lock:
            place = self._place(order.rig.name, polecat)
            return self._save(order, place) if place is not None and place.counts else None

    # --- where ----------------------------------------------------------------------------------

    def _polecats(self, rig: str) -> Iterator[str]:
        for path in sorted((self._paths.rig(rig) / "polecats").glob("*")):
            with contextlib.suppress(GtError):
                yield names.valid_polecat(path.name)

    def _is_due(self, order: CheckpointOrder, polecat: str, now: float) -> bool:
        try:
            place = self._place(order.rig.name, polecat)
            return place is not None and _age_s(place, now) >= order.interval_s and place.counts
        except Exception:
            # What the agent did there nobody thought of. The save will fail of it too, which is told and tried again.
            return True

    def _place(self, rig: str, polecat: str) -> _Place | None:
        repo = PolecatRepo(self._paths, rig, polecat)
        note = repo.note
        if note is None or note.releasing or not note.attempt or repo.git_dir is None:
            return None
        session = self._paths.session(rig, polecat, note.bead, note.attempt)
        # os.path, because it answers False where an agent has locked its folder: that stops its own saves alone.
        if not os.path.exists(session / session_folder.SESSION):
            return None
        return _Place(repo, session, polecat, note.bead, note.attempt, note.target)

    # --- saving ---------------------------------------------------------------------------------

    def _save(self, order: CheckpointOrder, place: _Place) -> Checkpoint | None:
        known = _read(place.note)
        saver = Saver(place.repo, _INDEX, order.max_bytes, self._judged)
        fingerprint = saver.fingerprint()
        if fingerprint is not None and fingerprint == known.fingerprint:
            # The note's time tells when the work was last looked at.
            os.utime(place.note)
        else:
            known = self._commit(order, place, saver, known, fingerprint)
            _write(place.note, known)
            self._forget_some()
        if not known.sha:
            return None
        if order.remote and not known.pushed:
            self._push(order, place, known.sha)
            crash_point("checkpoint.pushed")
            known = known.model_copy(update={"pushed": True})
            _write(place.note, known)
        return known

    def _forget_some(self) -> None:
        for blob in list(self._judged)[:-REMEMBERED]:
            del self._judged[blob]

    def _commit(
        self, order: CheckpointOrder, place: _Place, saver: Saver, before: Checkpoint, fingerprint: str | None
    ) -> Checkpoint:
        """Make the save and keep it under its ref on this host."""
        cache = GitRepo(self._paths.clone(order.rig.name))
        head = place.repo.head().sha
        parent, kept_back = self._parent(saver, cache, place, head, before)
        snapshot = saver.take(parent)
        staged = [snapshot.staged] if snapshot.staged else []
        branches = self._branches(saver, cache, place, head) if parent == head else []
        odd = [SkippedFile("the worktree", f"it has {what}") for what in snapshot.odd]
        left = [*kept_back, *snapshot.skipped, *odd]
        here = cache.resolve(place.ref)
        stayed = tuple(StayedHere(what=shown(one.path), why=one.why) for one in left)
        told = Checkpoint(fingerprint=fingerprint, parent=parent, stayed_here=stayed)
        if here is None and not (snapshot.changed or staged or branches) and self._is_elsewhere(cache, place, parent):
            return told
        parents = [*([parent] if parent else []), *staged, *branches]
        content = " ".join([*parents, snapshot.tree])
        if here is None or self._content(cache, here) != content:
            place.repo.fetch_into_cache(cache, [*parents, saver.hold(snapshot.tree)])
            message = save_message(
                f"Work in progress of {place.bead}, attempt {place.attempt}", place.bead, place.attempt,
                f"{order.rig.name}/{place.polecat} on {self._host}", bool(parent), snapshot.staged, left,
            )  # fmt: skip
            options = [part for one in parents for part in ("-p", one)]
            here = cache.run("commit-tree", *options, "-F", "-", snapshot.tree, stdin=message).word
            cache.run("update-ref", place.ref, here)
            crash_point("checkpoint.committed")
        same = here == before.sha
        return told.model_copy(update={"content": content, "sha": here, "pushed": same and before.pushed})

    def _branches(self, saver: Saver, cache: GitRepo, place: _Place, head: str) -> list[str]:
        """Tips of local branches with commits that neither HEAD nor the target has, and that may leave the host.

        While a rebase goes on HEAD is elsewhere, and the commits that it takes are on the branch alone.
        """
        known = saver.commits_here([head, cache.resolve(f"refs/remotes/origin/{place.target}") or ""])
        view = place.repo.view()
        tips = saver.commits_here(list(place.repo.branches().values()))
        return [
            tip
            for tip in tips
            if not any(view.is_ancestor(tip, one) for one in known) and not saver.kept_back(tip, known)
        ]

    def _parent(
        self, saver: Saver, cache: GitRepo, place: _Place, head: str, before: Checkpoint
    ) -> tuple[str, list[SkippedFile]]:
        """HEAD, or, where its commits bring along what must stay here, the last commit that others have."""
        target = cache.resolve(f"refs/remotes/origin/{place.target}")
        known = saver.commits_here([one for one in (target, before.parent) if one])
        kept_back = saver.kept_back(head, known) if head else []
        if not kept_back:
            return head, []
        base = place.repo.view().attempt("merge-base", target, head).word if target else ""
        return base, [SkippedFile("commits since " + base[:12], f"one of them has {kept_back[0].path}")]

    def _is_elsewhere(self, cache: GitRepo, place: _Place, parent: str) -> bool:
        """What is checked out is on the remote already: nothing was committed, or the work was taken."""
        taken = (session_folder.read_json(place.session / session_folder.TAKEN_HEAD) or {}).get("head_sha")
        return parent in {"", taken} or cache.is_ancestor(parent, f"refs/remotes/origin/{place.target}")

    def _content(self, cache: GitRepo, sha: str) -> str:
        return cache.run("log", "-1", "--format=%P %T", sha, "--").word

    def _push(self, order: CheckpointOrder, place: _Place, sha: str) -> None:
        """Over whatever this attempt saved before, and over nothing else."""
        there = ls_remote(order.rig.url, [place.ref]).get(place.ref, "")
        if there != sha:
            push_save(self._paths, order.rig, place.ref, sha, there, place.repo)


class Checkpointer:
    """Saves what is due, one worktree after the other, in a thread of its own that ends with the process.

    Args:
        clock: Unix time.
    """

    def __init__(
        self, saver: CheckpointSaver, *, tick_s: float = TICK_S, clock: Callable[[], float] = time.time
    ) -> None:
        self._saver = saver
        self._tick_s = tick_s
        self._clock = clock
        self._orders: dict[str, CheckpointOrder] = {}
        self._again_at: dict[tuple[str, str], float] = {}
        """(rig, polecat) of saves that failed, and when they are tried again"""
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def follow(self, order: CheckpointOrder) -> None:
        """Save the rig's work this way from now on. Returns at once."""
        self._orders[order.rig.name] = order
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                # A daemon: a push that hangs must not hold up a worker that shall end; it may be killed anywhere.
                self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            for order in list(self._orders.values()):
                try:
                    self.save_due(order)
                except Exception:
                    log.exception("work in progress of %s", order.rig.name)
            time.sleep(self._tick_s)

    def save_due(self, order: CheckpointOrder) -> None:
        """Save each worktree of the rig that is due. What fails is logged and tried again."""
        now, rig = self._clock(), order.rig.name
        failed = {polecat: at for (name, polecat), at in self._again_at.items() if name == rig}
        due = {polecat for polecat in self._saver.due(order, now) if polecat not in failed}
        for polecat in sorted(due | {polecat for polecat, at in failed.items() if at <= now}):
            try:
                self._saver.save(order, polecat)
            except GtError as error:
                log.warning("work in progress of %s/%s: %s", rig, polecat, error.message)
            except Exception:
                # A worktree in a state that nobody thought of must not end the saving of all others.
                log.exception("work in progress of %s/%s", rig, polecat)
            else:
                self._again_at.pop((rig, polecat), None)
                continue
            self._again_at[rig, polecat] = now + min(RETRY_S, order.interval_s)


def _read(note: Path) -> Checkpoint:
    """The agent may have written there: what cannot be understood counts as nothing."""
    try:
        return Checkpoint.model_validate(session_folder.read_json(note) or {})
    except ValidationError:
        return Checkpoint()


def _write(note: Path, checkpoint: Checkpoint) -> None:
    write_whole(note, checkpoint.model_dump_json(indent=1) + "\n")


def _age_s(place: _Place, now: float) -> float:
    """Since the work was last looked at, or the attempt was begun. A clock that was set back accuses: due."""
    for path in (place.note, place.session / session_folder.SESSION):
        with contextlib.suppress(OSError):
            age = now - path.stat().st_mtime
            return age if age >= 0 else float("inf")
    return float("inf")
