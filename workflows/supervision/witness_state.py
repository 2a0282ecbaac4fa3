"""What a rig's Witness carries from run to run."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field

from models import names
from models.job.attempts import WatchReport
from models.job.health import Thresholds, Zombie
from models.job.messages import RigFacts, WitnessStatus, WorkEnded, WorkStarted
from models.mayor.escalations import Letter
from models.settings import Settings
from models.supervision.messages import WitnessHealth, WitnessPing
from policies.supervision.restart_breaker import Brake, Memory

REMEMBERED = 500
"""beads of which the last attempt that is over is known"""
UNSEEN = timedelta(minutes=15)
"""Work neither seen nor heard of for this long is over, and word of that was lost; jobs that go on tell every ten."""


class HostWatch(BaseModel):
    """What is remembered of one host between two rounds."""

    model_config = ConfigDict(extra="ignore")

    begun_at: datetime
    known: tuple[str, ...] = ()
    """keys of observations that were passed on and can still be made"""
    repeat_at: datetime | None = None
    """when those are passed on once more"""
    report: WatchReport = WatchReport()
    """the last one, without its observations"""
    surveyed_at: datetime | None = None
    missed: bool = False
    """no worker has taken the last watch in time; the next one tells whether the host is lost"""
    lost: bool = False
    asked_at: datetime | None = None
    """when the Deacon last named it as a host with sessions; None once it was looked at"""

    @property
    def crowded(self) -> bool:
        """The last survey saw sessions, or what is left of them."""
        return bool(self.report.health or self.report.zombies)

    @property
    def wanted(self) -> bool:
        """Something must still be seen there: its return, its zombies, what the Deacon has seen."""
        return self.lost or self.crowded or self.asked_at is not None


class DeaconLine(BaseModel):
    """Pings to the Deacon, and how long they have gone unanswered."""

    model_config = ConfigDict(extra="ignore")

    number: int = 0
    """of the last ping"""
    answered: bool = True
    silent_s: float = 0.0
    """counted while this Witness ran"""
    looked_at: datetime | None = None
    due_at: datetime | None = None
    """when it meant to look again: one that comes much later did not run meanwhile"""


class WitnessState(BaseModel):
    """All that a Witness knows. A bare `{"rig": …}` is a fresh one.

    Changed in place by its only holder, the workflow.
    """

    model_config = ConfigDict(extra="ignore")

    rig: str
    work: dict[str, WorkStarted] = Field(default_factory=dict)
    """by bead"""
    over: dict[str, int] = Field(default_factory=dict)
    """by bead: attempts up to this number have ended, as their jobs say"""
    presumed_over: dict[str, int] = Field(default_factory=dict)
    """by bead: the same, because no job ran for them; a job that speaks of the attempt shows that it was wrong"""
    watches: dict[str, HostWatch] = Field(default_factory=dict)
    """by host"""
    settings: Settings = Settings()
    facts: RigFacts | None = None
    """the last that could be read; its settings are kept apart"""
    deacon: DeaconLine = Field(default_factory=DeaconLine)
    memory: Memory = Memory()
    brake: Brake | None = None
    """None: restarts are not paused"""
    faults: dict[str, str] = Field(default_factory=dict)
    """open escalations of this Witness: ids by what they are about"""
    letters: list[Letter] = Field(default_factory=list)
    """what the Mayor was not told yet, in order"""
    strangers: dict[str, datetime] = Field(default_factory=dict)
    """by bead: sessions of which no job has spoken, and since when they are seen"""
    unseen: dict[str, datetime] = Field(default_factory=dict)
    """by bead: work that surveys do not see, and since when that or its job's last word is"""
    cleanings: dict[str, int] = Field(default_factory=dict)
    """by zombie: how often its cleanup was tried"""
    stopped: bool = False
    stop_reason: str = ""
    patience: int = 1000
    """messages after which a run hands over"""

    # --- what is being worked on ----------------------------------------------------------------

    def start(self, started: WorkStarted) -> bool:
        """Take over an attempt's beginning; False: it is older than what is known."""
        known = self.work.get(started.bead)
        older = known is not None and known.attempt > started.attempt
        if older or self.over_up_to(started.bead) >= started.attempt:
            return False
        self.work[started.bead] = started
        self.strangers.pop(started.bead, None)
        return True

    def believe(self, started: WorkStarted) -> None:
        """The job of this attempt runs, whatever was presumed and though no survey sees its session yet."""
        known = self.work.get(started.bead)
        if known is not None and known.attempt == started.attempt:
            self.unseen.pop(started.bead, None)
        if self.presumed_over.get(started.bead) == started.attempt:
            del self.presumed_over[started.bead]

    def end(self, ended: WorkEnded) -> None:
        """Take over an attempt's end."""
        _raise(self.over, ended.bead, ended.attempt)
        known = self.work.get(ended.bead)
        if known is not None and known.attempt <= ended.attempt:
            del self.work[ended.bead]

    def presume_over(self, bead: str, attempt: int) -> None:
        """No job runs for attempts up to this one; what is left of them is a zombie, unless a job speaks of it yet."""
        _raise(self.presumed_over, bead, attempt)

    def over_up_to(self, bead: str) -> int:
        """The newest attempt that is over, or presumed to be; 0: none."""
        return max(self.over.get(bead, 0), self.presumed_over.get(bead, 0))

    def note_unseen(self, host: str, now: datetime) -> None:
        """Compare the work of a host with its survey; what is not seen for long is forgotten."""
        report = self.watches[host].report
        for bead in [bead for bead, started in self.work.items() if started.host == host]:
            if bead in report.health or bead in report.living:
                self.unseen.pop(bead, None)
            elif now - self.unseen.setdefault(bead, now) >= UNSEEN:
                del self.work[bead]
        self.unseen = {bead: since for bead, since in self.unseen.items() if bead in self.work}

    def ask(self, host: str, now: datetime) -> bool:
        """Have a host looked at where there are sessions of the rig; False: it is watched anyway, or nothing is."""
        if self.stopped or host in self.hosts_to_watch:
            return False
        self.watches.setdefault(host, HostWatch(begun_at=now)).asked_at = now
        return True

    def drop_idle_watches(self, walked: Iterable[str]) -> None:
        """Forget what was seen of hosts where there is nothing to watch, and no patrol is under way either."""
        kept = self.hosts_to_watch.union(walked)
        self.watches = {host: watch for host, watch in self.watches.items() if host in kept}

    @property
    def busy_hosts(self) -> frozenset[str]:
        """Hosts with work."""
        return frozenset(started.host for started in self.work.values())

    @property
    def lost_hosts(self) -> tuple[str, ...]:
        return tuple(sorted(host for host, watch in self.watches.items() if watch.lost))

    @property
    def hosts_to_watch(self) -> frozenset[str]:
        """Hosts with work, and those where something must still be seen: their return, their zombies."""
        if self.stopped:
            return frozenset()
        return self.busy_hosts | {host for host, watch in self.watches.items() if watch.wanted}

    def superseded(self, host: str) -> dict[str, int]:
        """By bead, of those that may have a session on the host: attempts up to this number are over."""
        watch = self.watches.get(host)
        here = set(watch.report.health) | {zombie.bead for zombie in watch.report.zombies} if watch else set()
        numbers = {bead: self.over_up_to(bead) for bead in here}
        for bead, started in self.work.items():
            numbers[bead] = max(numbers.get(bead, 0), started.attempt - 1)
        return {bead: number for bead, number in sorted(numbers.items()) if number}

    # --- answers --------------------------------------------------------------------------------

    def status(self) -> WitnessStatus:
        """Answer of the query `status`."""
        seen = [watch for _, watch in sorted(self.watches.items())]
        newest = self._newest()
        reports = [watch.report for watch in seen]
        return WitnessStatus(
            rig=self.rig,
            hosts=tuple(sorted(self.busy_hosts)),
            living=tuple(sorted({bead for watch in seen for bead in watch.report.living})),
            heartbeat_age_s={
                bead: age
                for report in reports
                for bead, age in report.heartbeat_age_s.items()
                if newest.get(bead, report) is report
            },
            progress_age_s={
                bead: age
                for report in reports
                for bead, age in report.progress_age_s.items()
                if newest.get(bead, report) is report
            },
            surveyed_at=min((watch.surveyed_at for watch in seen if watch.surveyed_at), default=None),
            health={bead: report.health[bead].diagnosis.kind.value for bead, report in newest.items()},
            stopped=self.stopped,
            braked=self.brake.reason if self.brake else "",
            lost_hosts=self.lost_hosts,
            deacon_silent_s=self.deacon.silent_s,
        )

    def health(self) -> WitnessHealth:
        """Answer of the query `health`."""
        newest = self._newest()
        zombies: list[Zombie] = [zombie for _, watch in sorted(self.watches.items()) for zombie in watch.report.zombies]
        return WitnessHealth(
            rig=self.rig,
            thresholds=Thresholds.of(self.settings.health),
            reports={bead: report.health[bead] for bead, report in newest.items()},
            limits={bead: report.thresholds for bead, report in newest.items()},
            zombies=tuple(zombies),
        )

    def _newest(self) -> dict[str, WatchReport]:
        """By bead: the report that has its newest attempt. An older one may still be there on another host."""
        newest: dict[str, WatchReport] = {}
        for _, watch in sorted(self.watches.items()):
            for bead, found in watch.report.health.items():
                if bead not in newest or newest[bead].health[bead].attempt < found.attempt:
                    newest[bead] = watch.report
        return newest

    def ping(self) -> WitnessPing:
        """The next ping: a patrol that is as old as that of the host that was seen longest ago."""
        self.deacon.number += 1
        self.deacon.answered = False
        watched = frozenset() if self.stopped else self.busy_hosts
        watches = [self.watches[host] for host in watched if host in self.watches]
        seen = [watch.surveyed_at or watch.begun_at for watch in watches if not watch.lost]
        return WitnessPing(
            rig=self.rig,
            witness=names.witness_id(self.rig),
            number=self.deacon.number,
            patrolled_at=min(seen, default=None),
            has_work=bool(self.work) and not self.stopped,
            hosts=None if self.stopped else tuple(sorted(self.hosts_to_watch)),
        )


def _raise(numbers: dict[str, int], bead: str, attempt: int) -> None:
    """Raise a bead's number, as the newest of the REMEMBERED that are kept."""
    numbers[bead] = max(attempt, numbers.pop(bead, 0))
    while len(numbers) > REMEMBERED:
        del numbers[next(iter(numbers))]
