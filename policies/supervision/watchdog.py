"""What the watchers of watchers decide: who is accused, who is restarted, and when a person is called.

Times are seconds of the Deacon's own watch. It stands still while the Deacon does not run, so that
a town that was down, a laptop that slept or a frozen worker accuses nobody.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from models.base import Frozen
from models.settings import RecoverySettings, Settings
from models.supervision.messages import Probe, ProbeResult, WatchedStatus, WitnessPing
from policies.job.restarts import RestartBudget, after_death

LOOKS_TO_ACCUSE = 2
"""in a row, before one that is gone or whose code fails is restarted: one look can meet a restart by others"""
CYCLES = 3
"""no limit is shorter than so many cycles of whom it is about"""
LATE_S = 2.0
"""how much later than asked the Deacon may wake and still have watched"""
WEDGED_AGAIN = "its code fails again after a restart"
BOOT_INTERVAL = timedelta(minutes=5)
"""between two looks of Boot at the Deacon"""


# --- the clock ----------------------------------------------------------------------------------


class WatchClock(Frozen):
    """How long the Deacon has watched, in all of its runs."""

    watched_s: float = 0.0
    seen_at: datetime | None = None
    """by the wall clock, when it last looked at the time"""

    def tick(self, now: datetime, expected_s: float, gap_s: float) -> tuple[WatchClock, bool]:
        """Look at the time.

        Args:
            expected_s: what the wait since the last look should have taken at most; more is not counted.
            gap_s: by how much more it must have taken to mean that nobody watched.

        Returns:
            The clock, and whether there was a gap, after which everybody gets fresh limits.
        """
        if self.seen_at is None:
            return WatchClock(watched_s=self.watched_s, seen_at=now), True
        elapsed = (now - self.seen_at).total_seconds()
        counted = min(max(elapsed, 0.0), expected_s + LATE_S)
        gap = elapsed < 0 or elapsed > expected_s + gap_s
        return WatchClock(watched_s=self.watched_s + counted, seen_at=now), gap


# --- one watched workflow -------------------------------------------------------------------------


class Cause(StrEnum):
    """Why a workflow is held to be down."""

    ABSENT = "it does not run"
    WEDGED = "its code fails"
    SILENT = "it does not answer"
    NO_PING = "no ping"
    PATROL_OVERDUE = "its patrol is overdue"


class Limits(Frozen):
    """How long a workflow may be silent; seconds."""

    silence_s: float
    patrol_s: float
    recovery: RecoverySettings

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Out of the settings of whom it is about, whose cycle bounds them from below."""
        floor_s = float(CYCLES * settings.health.check_interval)
        return cls(
            silence_s=max(float(settings.health.witness_timeout), floor_s),
            patrol_s=max(float(settings.health.patrol_timeout), floor_s),
            recovery=settings.recovery,
        )


class Watch(Frozen):
    """One long-lived workflow as the Deacon knows it."""

    workflow_id: str
    pings: bool = False
    """a Witness: it must be heard of, not only answer"""
    born_s: float
    """when its present life began: first seen, or restarted"""
    fresh_s: float
    """since when its limits run: its birth, or the end of a gap"""
    run_id: str = ""
    answered_s: float | None = None
    pinged_s: float | None = None
    ping: int = 0
    """the number of the last"""
    patrolled_s: float | None = None
    """when its patrol was last seen to have got further"""
    patrolled_at: datetime | None = None
    """as it told itself"""
    has_work: bool = False
    stopped: bool = False
    doubt: ProbeResult | None = None
    """what the last look found, unless it was an answer"""
    doubts: int = 0
    """looks in a row that found that"""
    detail: str = ""
    budget: RestartBudget = RestartBudget()
    restarts: int = 0
    """in its time under this Deacon"""
    restart_due_s: float | None = None
    spent: RestartBudget | None = None
    """what is left of the budget after the restart that is due"""
    down: str = ""
    """why it is held to be down; "": it is not"""
    down_s: float | None = None
    """when it went down; what it did before says nothing of now"""
    tries: int = 0
    """restarts since it went down"""
    fails_again: bool = False
    """it was restarted because its code failed, and has not lived for long since"""
    given_up: str = ""
    """why it is not restarted any more"""
    told: tuple[str, ...] = ()
    """ids of the open escalations"""

    @classmethod
    def begin(cls, workflow_id: str, now_s: float, *, pings: bool) -> Watch:
        return cls(workflow_id=workflow_id, pings=pings, born_s=now_s, fresh_s=now_s)

    def hear(self, ping: WitnessPing, now_s: float) -> Watch:
        """It has pinged. Its patrol has got further when it names another time than before."""
        further = ping.patrolled_at != self.patrolled_at or ping.has_work != self.has_work
        return self.model_copy(
            update={
                "pinged_s": now_s,
                "ping": ping.number,
                "patrolled_s": now_s if further else self.patrolled_s,
                "patrolled_at": ping.patrolled_at,
                "has_work": ping.has_work,
            }
        )

    def look(self, found: Probe, now_s: float) -> Watch:
        """It was probed."""
        if found.result is ProbeResult.ANSWERS:
            resumed = self.stopped and not found.stopped
            return self.model_copy(
                update={
                    "run_id": found.run_id,
                    "answered_s": now_s,
                    "stopped": found.stopped,
                    "fresh_s": now_s if resumed else self.fresh_s,
                    "doubt": None,
                    "doubts": 0,
                    "detail": "",
                }
            )
        again = self.doubts + 1 if found.result is self.doubt else 1
        return self.model_copy(
            update={"run_id": found.run_id, "doubt": found.result, "doubts": again, "detail": found.detail}
        )

    def forgive(self, now_s: float) -> Watch:
        """Nobody watched for a while: its limits run anew."""
        return self.model_copy(update={"fresh_s": now_s, "doubt": None, "doubts": 0})

    def pardon(self) -> Watch:
        """A person says to try again: its budget is full, and what it did before is forgotten."""
        fresh = {"given_up": "", "budget": RestartBudget(), "spent": None, "restart_due_s": None, "fails_again": False}
        return self.model_copy(update=fresh)

    def age_s(self, seen_s: float | None, now_s: float) -> float:
        """Seconds since it was last seen so, as far as its limits count them."""
        return now_s - max(self.fresh_s, seen_s if seen_s is not None else self.fresh_s)

    def cause(self, now_s: float, limits: Limits) -> Cause | None:
        """What it is accused of."""
        if self.doubts >= LOOKS_TO_ACCUSE and self.doubt is ProbeResult.ABSENT:
            return Cause.ABSENT
        if self.doubts >= LOOKS_TO_ACCUSE and self.doubt is ProbeResult.WEDGED:
            return Cause.WEDGED
        if self.stopped:
            return None
        if self.doubt is not None and self.age_s(self.answered_s, now_s) >= limits.silence_s:
            return Cause.SILENT
        if self.pings and self.age_s(self.pinged_s, now_s) >= limits.silence_s:
            return Cause.NO_PING
        if self.pings and self.has_work and self._patrol_age_s >= limits.patrol_s:
            return Cause.PATROL_OVERDUE
        return None

    @property
    def _patrol_age_s(self) -> float:
        """As of its last ping: while it says nothing, nothing is known of its patrol."""
        return self.age_s(self.patrolled_s, max(self.fresh_s, self.pinged_s or 0.0))

    @property
    def worked_s(self) -> float:
        """How long it did in its present life what it is there for, as its budget counts it.

        Silence is not life. Otherwise one that falls silent for longer than the window each time would be
        restarted for ever.
        """
        signs = [self.answered_s]
        signs += [self.pinged_s] if self.pings else []
        signs += [self.patrolled_s] if self.pings and self.has_work else []
        return min(max(self.born_s, sign or 0.0) for sign in signs) - self.born_s

    @property
    def back(self) -> bool:
        """It has shown in its present life, and since it went down, that it does what it is there for."""
        since_s = max(self.born_s, self.down_s or 0.0)
        answered = self.doubt is None and _since(self.answered_s, since_s)
        patrols = not self.has_work or _since(self.patrolled_s, since_s)
        return answered and (self.stopped or not self.pings or (_since(self.pinged_s, since_s) and patrols))

    def status(self, now_s: float) -> WatchedStatus:
        """For people."""
        condition = "down" if self.down else "doubted" if self.doubt else "stopped" if self.stopped else "well"
        return WatchedStatus(
            workflow_id=self.workflow_id,
            condition=condition,
            reason=self.given_up or self.down or (f"{self.doubt}: {self.detail}" if self.doubt else ""),
            ping_age_s=None if self.pinged_s is None else now_s - self.pinged_s,
            patrol_age_s=None if self.patrolled_s is None else now_s - self.patrolled_s,
            has_work=self.has_work,
            restarts=self.restarts,
        )


def _since(seen_s: float | None, moment_s: float) -> bool:
    return seen_s is not None and seen_s > moment_s


class Verdict(Frozen):
    """What is to be done about one watched workflow now."""

    watch: Watch
    restart: bool = False
    report: str = ""
    """what the Mayor must hear"""
    urgent: bool = False
    """it needs a person"""
    over: bool = False
    """what the Mayor heard is over"""


def judge(watch: Watch, now_s: float, limits: Limits, jitter: float) -> Verdict:
    """Accuse, restart under the budget, give up, or take back.

    The Mayor hears of a Witness without pings at once (product.md section 5), of others when the
    first restart has not helped, and once more when it is given up.

    Args:
        jitter: a random number in [0, 1).
    """
    cause = watch.cause(now_s, limits)
    if cause is None:
        return _acquit(watch, now_s, limits)
    if watch.given_up:
        return Verdict(watch=watch)
    reason = f"{cause.value}{f' ({watch.detail})' if watch.detail else ''}"
    tell = cause is Cause.NO_PING or watch.tries > 0
    accused = watch.model_copy(update={"down": reason, "down_s": watch.down_s if watch.down else now_s})
    if accused.restart_due_s is None:
        accused = _plan(accused, cause, now_s, limits, jitter)
    if accused.given_up:
        return Verdict(watch=accused, report=f"{reason}, and {accused.given_up}", urgent=True)
    report = reason if tell and not watch.told else ""
    if accused.restart_due_s is None or accused.restart_due_s > now_s:
        return Verdict(watch=accused, report=report)
    return Verdict(watch=_reborn(accused, cause, now_s), restart=True, report=report)


def _plan(watch: Watch, cause: Cause, now_s: float, limits: Limits, jitter: float) -> Watch:
    """When it is restarted, or why it is not any more."""
    if cause is Cause.WEDGED and watch.fails_again:
        return watch.model_copy(update={"given_up": WEDGED_AGAIN})
    spent = after_death(watch.budget, timedelta(seconds=watch.worked_s), limits.recovery, jitter)
    if not spent.allowed:
        given_up = f"{len(spent.budget.restarts)} restarts within {limits.recovery.window} s did not help"
        return watch.model_copy(update={"given_up": given_up})
    due_s = now_s + spent.delay.total_seconds()
    return watch.model_copy(update={"spent": spent.budget, "restart_due_s": due_s})


def _reborn(watch: Watch, cause: Cause, now_s: float) -> Watch:
    return watch.model_copy(
        update={
            "born_s": now_s,
            "fresh_s": now_s,
            "budget": watch.spent or watch.budget,
            "spent": None,
            "restart_due_s": None,
            "doubt": None,
            "doubts": 0,
            "restarts": watch.restarts + 1,
            "tries": watch.tries + 1,
            "fails_again": watch.fails_again or cause is Cause.WEDGED,
        }
    )


def _acquit(watch: Watch, now_s: float, limits: Limits) -> Verdict:
    """Nothing against it now; it is well again once it has shown so."""
    if watch.fails_again and watch.back and now_s - watch.born_s >= limits.recovery.healthy_reset:
        watch = watch.model_copy(update={"fails_again": False})
    if not watch.down or not watch.back:
        return Verdict(watch=watch)
    nothing = {"down": "", "down_s": None, "given_up": "", "tries": 0, "restart_due_s": None, "spent": None, "told": ()}
    well = watch.model_copy(update=nothing)
    return Verdict(watch=well, over=bool(watch.told))


# --- Boot -----------------------------------------------------------------------------------------


def may_boot_restart(
    found: Probe, restarts: tuple[datetime, ...], escalated: bool, now: datetime, settings: RecoverySettings
) -> str:
    """Whether Boot restarts a Deacon that it finds so.

    Args:
        restarts: earlier ones by Boot.
        escalated: the last restart did not help, and a person was told.

    Returns:
        "" for yes, else why not.
    """
    if escalated and found.result is ProbeResult.WEDGED:
        return WEDGED_AGAIN
    recent = within_window(restarts, now, settings)
    if len(recent) >= settings.max_retries:
        return f"{len(recent)} restarts within {_window(settings).total_seconds():.0f} s did not help"
    return ""


def within_window(restarts: tuple[datetime, ...], now: datetime, settings: RecoverySettings) -> tuple[datetime, ...]:
    """Those that count: a time in the future is of a clock that was set back since."""
    window = _window(settings)
    return tuple(at for at in restarts if timedelta(0) <= now - at < window)


def _window(settings: RecoverySettings) -> timedelta:
    """Boot's: never too short for its budget to be spent in it at Boot's pace."""
    return max(timedelta(seconds=settings.window), BOOT_INTERVAL * (settings.max_retries + 1))
