"""Host work for one attempt, as activities: start it, take its work, settle intents, end and free.

All are blocking and run in threads; heartbeats come from `ActivityConduct`. Each looks first, so
that being killed anywhere and run again leaves the same world.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from temporalio import activity

from activities.brought_files import bring_files, patterns
from activities.crash_points import crash_point
from activities.git.trees import discard
from activities.git.worktree.polecat_repo import PolecatRepo
from activities.git.worktree.restoring import AttemptUsed
from activities.git.worktree.salvage import first_salvaged
from activities.git.worktree.worktrees import WorkStatus, Worktrees
from activities.sessions.locked_folders import cleared, tolerated
from activities.sessions.session import Sessions, record_of
from activities.sessions.tmux import PaneFacts, Tmux
from agents import session_folder
from agents.inbox import deliver
from agents.tokens import carries
from models import names
from models.errors import ErrorCode, GtError
from models.job.attempts import (
    WORK_TAKEN,
    AttemptStarted,
    EndSession,
    PublishAgain,
    ReleaseWorktree,
    SettleIntent,
    StartAttempt,
    TakeWork,
    WorkTaken,
    WorktreeReleased,
)
from models.mayor.mail import Message
from models.texts import one_line
from models.town import TownPaths
from services.atomic_files import rename_whole

POLL_S: Final = 0.1
SHOWN_FILES: Final = 10
_HELP_INTENT: Final = re.compile(r"help/[A-Za-z0-9][A-Za-z0-9._-]{0,100}\.json")
_MENDABLE: Final = frozenset({ErrorCode.INVALID_VALUE, ErrorCode.REFUSED})
"""What is in the work, so that the agent can mend it: beyond the limits, contents or submodules that nobody has."""
_MOVED_LIMIT: Final = 5
"""So often the branch may move between the look and the push before the agent is told to stop."""


NO_COMMITS: Final = "no commits"
NOTHING_NEW: Final = "nothing new"
SAY_SO: Final = 'if there is nothing to change, run: gt done --status nothing-to-do -m "why"'


class AttemptActivities:
    """What a job does on its polecat's host.

    Args:
        environment: what agents inherit from; the worker's own by default.
        unread_mail: what an address has not read, out of the record; None on a host without one.
        tell_over: tells others that the session of accepted work is over, and whether they have heard it; None: the job
            does.
    """

    def __init__(
        self,
        paths: TownPaths,
        tmux: Tmux,
        worktrees: Worktrees,
        environment: Mapping[str, str] | None = None,
        unread_mail: Callable[[str], Sequence[Message]] | None = None,
        tell_over: Callable[[TakeWork], bool] | None = None,
    ) -> None:
        self._paths = paths
        self._worktrees = worktrees
        self._unread_mail = unread_mail
        self._tell_over = tell_over
        self._sessions = Sessions(paths, tmux, environment)

    @activity.defn
    def start_attempt(self, request: StartAttempt) -> AttemptStarted:
        """Give the attempt its worktree, folder and session, or find that it has them.

        An attempt is started once: where it ran and died, that is left to the patrol to report.

        Raises:
            GtError: AGENT_NOT_FOUND, and what worktrees and tmux raise. A number that is used up is an answer.
        """
        rig, polecat = request.rig.name, request.polecat
        folder = self._folder(rig, polecat, request.bead, request.attempt)
        with self._sessions.alone(rig, polecat):
            if session_folder.over_because(folder):
                return _used_up(max(session_folder.newest_attempt(folder), request.attempt))
            pane = self._sessions.pane(rig, polecat)
            adopted = pane is not None and (pane.bead, pane.attempt) == (request.bead, request.attempt)
            if adopted:
                self._sessions.note_started(rig, polecat, request.bead, request.attempt)
            if adopted or session_folder.is_file(folder / session_folder.STARTED):
                return self._already_started(request, folder)
            if request.adopt:
                return _used_up(request.attempt)
            self._end_others(request, pane)
            try:
                worktree = self._worktrees.prepare(
                    request.rig,
                    polecat,
                    request.bead,
                    request.rig.branch,
                    request.attempt,
                    request.first_attempt,
                    request.git,
                    request.worktree,
                )
            except AttemptUsed as used:
                return _used_up(used.highest)
            crash_point("attempt.worktree_ready")
            self._bring_files(request, worktree.path)
            self._sessions.check_agent(request, worktree.path)
            self._sessions.write_folder(request, worktree)
            crash_point("attempt.folder_written")
            self._sessions.launch(request, worktree.path)
        self._deliver_backlog(request, folder)
        return AttemptStarted(
            session=names.session_name(rig, polecat),
            worktree=str(worktree.path),
            base_sha=worktree.base_sha,
            adopted=False,
        )

    @activity.defn
    def take_work(self, request: TakeWork) -> WorkTaken:
        """Verify what was handed in and put it on the remote, or tell the agent why not; repeating it changes nothing.

        The intent of accepted work stays until its session ends, so that the agent's end is no news to the patrol.

        Raises:
            GtError: what publishing raises; a reason that the agent can mend is an answer instead.
        """
        taken = self._take(request)
        if taken.accepted:
            ended = self._end_if_dead(request)
            told = ended and self._tell_over is not None and self._tell_over(request)
            return taken.model_copy(update={"ended": ended, "told": told})
        if request.intent:
            self.settle_intent(
                SettleIntent(
                    rig=request.rig.name,
                    bead=request.bead,
                    polecat=request.polecat,
                    attempt=request.attempt,
                    intent=request.intent,
                    refused=taken.reason,
                )
            )
        return taken

    def _take(self, request: TakeWork) -> WorkTaken:
        rig, polecat, bead = request.rig, request.polecat, request.bead
        folder = self._folder(rig.name, polecat, bead, request.attempt)
        over = session_folder.over_because(folder)
        if over and over != WORK_TAKEN:
            return WorkTaken(accepted=False, reason=f"attempt {request.attempt} is over: {over}")
        record = record_of(folder) or {}
        rejected = record.get("rejected", [])
        done = session_folder.read_json(folder / session_folder.DONE) or {}
        announced = done.get("head_sha") if carries(done, record.get(session_folder.TOKEN_KEY)) else None
        for _ in range(_MOVED_LIMIT):
            try:
                status = self._worktrees.status(rig, polecat, bead)
            except GtError as error:
                if error.code not in _MENDABLE:
                    raise
                return WorkTaken(accepted=False, reason=_in_words(error))
            if status.head_sha == announced:
                # `gt done` found the tree clean; what was left behind since is parked with the worktree.
                status = replace(status, dirty=False)
            reason = unfit(status, names.job_branch(bead), rig.branch, rejected)
            if reason:
                unchanged = reason.startswith((NO_COMMITS, NOTHING_NEW))
                return WorkTaken(accepted=False, head_sha=status.head_sha or None, reason=reason, unchanged=unchanged)
            crash_point("work.verified")
            try:
                published = self._worktrees.publish(rig, polecat, bead, request.attempt, request.git, request.limits)
            except GtError as error:
                if error.code not in _MENDABLE:
                    raise
                return WorkTaken(accepted=False, head_sha=status.head_sha, reason=_in_words(error))
            if published.head == status.head_sha:
                with tolerated("what was taken"):
                    note = folder / session_folder.TAKEN_HEAD
                    session_folder.write_json(note, {"head_sha": published.head}, self._paths.sessions)
                crash_point("work.pushed")
                return WorkTaken(accepted=True, head_sha=published.head, branch=published.branch)
        return WorkTaken(accepted=False, reason="the branch keeps moving: stop committing, then run gt done again")

    def _end_if_dead(self, request: TakeWork) -> bool:
        """Whether the session is ended: one whose agent has ended has nothing to wait for."""
        rig, polecat, bead, attempt = request.rig.name, request.polecat, request.bead, request.attempt
        try:
            if self._lives(rig, polecat, bead, attempt):
                return False
            with self._sessions.alone(rig, polecat):
                self._sessions.end(rig, polecat, bead, attempt, WORK_TAKEN)
        except GtError as error:
            activity.logger.warning("the session of %s is not ended yet: %s", bead, error.message)
            return False
        return True

    @activity.defn
    def publish_again(self, request: PublishAgain) -> WorkTaken:
        """Put accepted work on the remote once more; repeating it changes nothing.

        Raises:
            GtError: what publishing raises.
        """
        published = self._worktrees.publish(
            request.rig, request.polecat, request.bead, request.attempt, request.git, accepted=request.head_sha
        )
        return WorkTaken(accepted=True, head_sha=published.head, branch=published.branch)

    @activity.defn
    def settle_intent(self, request: SettleIntent) -> None:
        """A done or help intent was heard: its file goes, and a refusal reaches the agent's inbox.

        Raises:
            GtError: INVALID_VALUE when `intent` names no intent's file.
        """
        folder = self._folder(request.rig, request.polecat, request.bead, request.attempt)
        name, _, wanted = request.intent.partition(session_folder.ID_MARK)
        if name != session_folder.DONE and not _HELP_INTENT.fullmatch(name):
            raise GtError(ErrorCode.INVALID_VALUE, f"{request.intent!r} is not an intent")
        if not folder.is_dir():
            return
        # The message goes first and its name follows from the intent: run again, it is the same message.
        if request.refused:
            with tolerated("a refusal"):
                self._tell(folder, request)
        # Whatever the agent has put in an intent's place meanwhile, its job has heard it and goes on.
        with tolerated("what was settled"):
            if name != session_folder.DONE:
                discard(folder / name, self._paths.trash)
            elif not wanted or session_folder.done_id(folder) == wanted:
                # Another id: the agent has meanwhile run `gt done` again, and that one is not heard yet.
                self._set_aside(folder)
        crash_point("work.intent_settled")

    @activity.defn
    def end_session(self, request: EndSession) -> None:
        """Let the session end by itself for `grace_s`, save evidence, end what is left. A newer attempt is safe."""
        rig, polecat, bead, attempt = request.rig, request.polecat, request.bead, request.attempt
        deadline = time.monotonic() + request.grace_s
        while self._lives(rig, polecat, bead, attempt) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        with self._sessions.alone(rig, polecat):
            self._sessions.end(rig, polecat, bead, attempt, request.cause)

    @activity.defn
    def release_worktree(self, request: ReleaseWorktree) -> WorktreeReleased:
        """Park what is not landed, then free the worktree and the bead's local branch.

        Raises:
            GtError: what parking raises.
        """
        rig, polecat, bead = request.rig, request.polecat, request.bead
        with self._sessions.alone(rig.name, polecat):
            for open_bead, attempt in list(self._sessions.open_folders(rig.name, polecat)):
                if open_bead == bead and attempt <= request.attempt:
                    self._sessions.end(rig.name, polecat, bead, attempt, "the job is over")
            parked = self._worktrees.park(rig, polecat, bead, request.attempt, request.landed_sha)
            crash_point("worktree.parked")
            self._worktrees.release(rig, polecat, bead, request.attempt if request.landed_sha else 0)
            crash_point("worktree.released")
        kept = first_salvaged(self._paths, rig.name, bead, request.attempt)
        return WorktreeReleased(parked_ref=parked, kept_folder=kept)

    def _bring_files(self, request: StartAttempt, worktree: Path) -> None:
        """Copy the person's untracked files into the worktree (worktree.copy)."""
        named = request.worktree.copy_from
        source = Path(named).expanduser() if named else self._paths.brought_files(request.rig.name)
        try:
            bring_files(request.worktree.copy_files, source, worktree)
            # Nor may they travel to the remote with unfinished work.
            PolecatRepo(self._paths, request.rig.name, request.polecat).overlook(patterns(request.worktree.copy_files))
        except OSError as error:
            # Nothing of this goes away by itself: a person has to look.
            raise GtError(ErrorCode.REFUSED, f"worktree.copy: {error}", "gt config worktree.copy") from error

    def _set_aside(self, folder: Path) -> None:
        done, taken = folder / session_folder.DONE, folder / session_folder.DONE_TAKEN
        cleared(folder, 0, (session_folder.DONE, session_folder.DONE_TAKEN), self._paths.trash)
        rename_whole(done, taken)

    def _deliver_backlog(self, request: StartAttempt, folder: Path) -> None:
        """Put what the polecat has not read into its session's inbox: words to it, and letters about this bead."""
        if self._unread_mail is None:
            return
        try:
            unread = self._unread_mail(names.polecat_address(request.rig.name, request.polecat))
        except GtError as error:
            # It stays in the record, and the agent has its task all the same.
            activity.logger.warning("mail for %s was not delivered: %s", request.polecat, error.message)
            return
        for message in unread:
            about = (message.protocol or {}).get("bead", request.bead)
            if about == request.bead:
                with tolerated("a letter"):
                    deliver(folder, message, self._paths.sessions)

    def _already_started(self, request: StartAttempt, folder: Path) -> AttemptStarted:
        record = record_of(folder) or {}
        return AttemptStarted(
            session=names.session_name(request.rig.name, request.polecat),
            worktree=str(record.get("worktree", self._paths.worktree(request.rig.name, request.polecat))),
            base_sha=str(record.get("base_sha", "")),
            adopted=True,
        )

    def _end_others(self, request: StartAttempt, pane: PaneFacts | None) -> None:
        """End what else this polecat has: older attempts, other beads, sessions that nobody knows."""
        rig, polecat = request.rig.name, request.polecat
        cause = f"attempt {request.attempt} of {request.bead} starts here"
        others = set(self._sessions.open_folders(rig, polecat)) - {(request.bead, request.attempt)}
        if pane is not None and pane.bead:
            others.add((pane.bead, pane.attempt))
        for bead, attempt in sorted(others):
            self._sessions.end(rig, polecat, bead, attempt, cause)
        if pane is not None and not pane.bead:
            self._sessions.end_unknown(pane)

    def _lives(self, rig: str, polecat: str, bead: str, attempt: int) -> bool:
        pane = self._sessions.pane(rig, polecat)
        return pane is not None and pane.alive and (pane.bead, pane.attempt) == (bead, attempt)

    def _tell(self, folder: Path, request: SettleIntent) -> None:
        done = request.intent.startswith(session_folder.DONE)
        key = request.intent
        if key == session_folder.DONE:
            key = session_folder.done_intent(session_folder.done_id(folder) or session_folder.taken_id(folder))
        name = session_folder.refusal_name(key)
        message = {
            "id": name,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "from": "gastown",
            "subject": "gt done was refused" if done else "your request was refused",
            "body": request.refused,
        }
        inbox = session_folder.own_folder(folder / session_folder.INBOX)
        session_folder.write_json(inbox / f"{name}.json", message, self._paths.sessions)

    def _folder(self, rig: str, polecat: str, bead: str, attempt: int) -> Path:
        return self._paths.session(rig, polecat, bead, attempt)


def _in_words(error: GtError) -> str:
    return "; ".join(words for words in (error.message, error.hint) if words)


def _used_up(highest: int) -> AttemptStarted:
    return AttemptStarted(session="", worktree="", base_sha="", adopted=False, highest_attempt=highest)


def unfit(status: WorkStatus, branch: str, target: str, rejected: Sequence[str]) -> str:
    """Why work cannot be taken as it stands, in words for the agent; "" when it can."""
    if status.in_progress:
        return f"a {status.in_progress} is in progress: finish or abort it, then run gt done again"
    if status.branch != branch:
        return (
            f"the worktree is on {status.branch or 'no branch'}: commit your work on {branch}, then run gt done again"
        )
    if status.dirty:
        shown = ", ".join(one_line(name) for name in status.dirty_files[:SHOWN_FILES])
        more = len(status.dirty_files) - SHOWN_FILES
        return f"uncommitted changes: {shown}{f' and {more} more' if more > 0 else ''}"
    if not status.commits_ahead:
        return f"{NO_COMMITS}: {branch} has nothing that {target} has not; {SAY_SO}"
    if status.head_sha in rejected:
        return f"{NOTHING_NEW}: commit {status.head_sha[:12]} was handed in before and sent back"
    return ""
