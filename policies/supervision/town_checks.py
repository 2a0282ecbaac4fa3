"""Town checks: what a look at ledger, disk, hosts, queues and clock means, and when that is news."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from models.base import Frozen
from models.errors import Level
from models.mayor.alerts import AlertType, Outage
from models.settings import DiskSettings
from models.supervision.messages import CheckResult, HostSigns, QueueSigns
from policies.supervision.failing_workflows import WedgedMemory

LEDGER_FAILURES = 2
"""in a row: one can meet a restart of the ledger, which takes seconds"""
DISK_SLACK = 2.0
"""percentage points below a threshold before it counts as cured, so that an alarm does not flap"""
CLOCK_TOLERANCE_S = 60.0
MERGE_SLACK_S = 600.0
"""what a merge may take beside its gates: fetching, building, pushing, their retries"""


class HostMemory(Frozen):
    """What is remembered of one host between two looks."""

    signs: HostSigns | None = None
    lost_s: float = 0.0
    """how long no worker took a look; 0: one did"""
    clock_off_s: float = 0.0
    """by how much its clock jumped since the look before, or differs from Temporal's"""
    missed: tuple[Outage, ...] = ()
    """outages that began and ended between the look before and the last one"""

    def ledger_outage(self) -> Outage | None:
        """What the host's alarm says of the ledger: that it is down, or was since the look before."""
        lasting = [one for one in self._outages if one.until is None]
        down = [one for one in (*lasting, *self.missed) if one.type is AlertType.DOLT_DOWN]
        return down[0] if down and not self.lost_s else None

    def announces(self, type: AlertType) -> bool:
        """Whether the host's alarm tells people of it."""
        return self.signs is not None and self.signs.alarm is not None and type in self.signs.alarm.tells

    @property
    def _outages(self) -> tuple[Outage, ...]:
        return self.signs.alarm.outages if self.signs is not None and self.signs.alarm is not None else ()

    def missed_in(self, signs: HostSigns) -> tuple[Outage, ...]:
        """Which outages that are over by now this had not heard of; at the first look it is no news."""
        if self.signs is None or signs.alarm is None:
            return ()
        known = {one.since for one in self._outages}
        return tuple(one for one in signs.alarm.outages if one.until is not None and one.since not in known)


class QueueMemory(Frozen):
    signs: QueueSigns
    since_s: float
    """on the Deacon's watch, since when the queue has not got further"""


class TownMemory(Frozen):
    """All that the checks carry from cycle to cycle."""

    ledger_failures: int = 0
    ledger_problem: str = ""
    hosts: dict[str, HostMemory] = Field(default_factory=dict)
    queues: dict[str, QueueMemory] = Field(default_factory=dict)
    """by rig"""
    told: dict[str, str] = Field(default_factory=dict)
    """key of a check that failed: the id of its escalation"""
    patrolled: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """by rig: hosts that its Witness watches, as it last said; a stopped one says nothing"""
    wedged: WedgedMemory = WedgedMemory()
    holding: bool | None = None
    """the dispatchers were paused for want of disk; None: a start from nothing does not know"""

    # --- what looks bring -------------------------------------------------------------------------

    @property
    def in_doubt(self) -> bool:
        """The ledger could not be read; whether it is down shows the next reading."""
        return 0 < self.ledger_failures < LEDGER_FAILURES

    def ledger_read(self, problem: str) -> TownMemory:
        """The record was read; "" or why it could not be."""
        failures = self.ledger_failures + 1 if problem else 0
        return self.model_copy(update={"ledger_failures": failures, "ledger_problem": problem})

    def host_seen(self, signs: HostSigns, temporal_now: datetime) -> TownMemory:
        """A host answered."""
        known = self.hosts.get(signs.host, HostMemory())
        off_s = _clock_off_s(known.signs, signs, temporal_now)
        missed = known.missed_in(signs)
        return self._with_host(signs.host, HostMemory(signs=signs, clock_off_s=off_s, missed=missed))

    def host_missed(self, host: str, waited_s: float) -> TownMemory:
        """No worker of a host took the look."""
        known = self.hosts.get(host, HostMemory())
        return self._with_host(host, known.model_copy(update={"lost_s": waited_s}))

    def patrol_heard(self, rig: str, hosts: tuple[str, ...] | None) -> TownMemory:
        """A Witness has pinged; `hosts` are None while it is stopped."""
        others = {other: watched for other, watched in self.patrolled.items() if other != rig}
        return self.model_copy(update={"patrolled": others if hosts is None else {**others, rig: hosts}})

    def unwatched(self) -> tuple[tuple[str, str], ...]:
        """(rig, host) where sessions or open attempts are that the rig's Witness does not watch."""
        return tuple(
            (rig, host)
            for host, known in sorted(self.hosts.items())
            for rig in (known.signs.rigs if known.signs and not known.lost_s else ())
            if rig in self.patrolled and host not in self.patrolled[rig]
        )

    def queue_seen(self, signs: QueueSigns, now_s: float) -> TownMemory:
        """A rig's queue was looked at."""
        known = self.queues.get(signs.rig)
        moved = known is None or known.signs.mark != signs.mark or known.signs.paused != signs.paused
        since_s = now_s if known is None or moved else known.since_s
        return self.model_copy(update={"queues": {**self.queues, signs.rig: QueueMemory(signs=signs, since_s=since_s)}})

    def keep(self, hosts: tuple[str, ...], rigs: tuple[str, ...]) -> TownMemory:
        """Forget whom the record does not name any more."""
        return self.model_copy(
            update={
                "hosts": {host: known for host, known in self.hosts.items() if host in hosts},
                "queues": {rig: known for rig, known in self.queues.items() if rig in rigs},
                "patrolled": {rig: watched for rig, watched in self.patrolled.items() if rig in rigs},
            }
        )

    def forgive(self, now_s: float) -> TownMemory:
        """Nobody watched for a while: queues get fresh limits."""
        queues = {rig: known.model_copy(update={"since_s": now_s}) for rig, known in self.queues.items()}
        return self.model_copy(update={"queues": queues})

    def _with_host(self, host: str, known: HostMemory) -> TownMemory:
        return self.model_copy(update={"hosts": {**self.hosts, host: known}})


def _clock_off_s(before: HostSigns | None, now: HostSigns, temporal_now: datetime) -> float:
    """The worse of a jump since the last look and the difference to Temporal's clock; seconds, forward positive."""
    skew_s = (now.at - temporal_now).total_seconds()
    if before is None or before.steady_since != now.steady_since:
        return skew_s
    jump_s = (now.at - before.at).total_seconds() - (now.steady_s - before.steady_s)
    return max(skew_s, jump_s, key=abs)


# --- verdicts -------------------------------------------------------------------------------------


def ledger_check(memory: TownMemory) -> CheckResult:
    """The Deacon's own reading, and what alarms have found, who look more often."""
    found = [outage for known in memory.hosts.values() if (outage := known.ledger_outage())]
    failing = memory.ledger_failures >= LEDGER_FAILURES
    detail = "the ledger answers"
    if found:
        since, until = found[0].since, found[0].until
        detail = f"{found[0].title}: since {since:%H:%M:%S} UTC" + (f" until {until:%H:%M:%S}" if until else "")
    elif memory.ledger_problem:
        detail = f"the ledger does not answer: {memory.ledger_problem}"
    return CheckResult(
        name=AlertType.DOLT_DOWN.value,
        ok=not found and not failing,
        severity="critical",
        detail=detail,
        hint="gt up",
        announced=any(known.announces(AlertType.DOLT_DOWN) for known in memory.hosts.values() if not known.lost_s),
    )


def disk_checks(host: str, known: HostMemory, settings: DiskSettings, told: dict[str, str]) -> tuple[CheckResult, ...]:
    """Two thresholds, each with its own episode. Without signs of the host nothing is said."""
    if known.signs is None:
        return ()
    used, free = known.signs.disk_percent, known.signs.disk_free_bytes
    detail = f"{used:.0f} % of the town's disk on {host} are used, {free / 1e9:.1f} GB are free"

    def check(subject: str, threshold: int, severity: str, note: str) -> CheckResult:
        result = CheckResult(
            name=AlertType.DISK_FULL.value,
            subject=subject,
            ok=True,
            detail=detail,
            hint="gt polecat parked expire",
            announced=known.announces(AlertType.DISK_FULL),
        )
        limit = threshold - DISK_SLACK if result.key in told else threshold
        well = used < limit
        return result.model_copy(update={"ok": well, "severity": severity, "detail": detail + ("" if well else note)})

    return (
        check(host, settings.warn_percent, "high", ""),
        check(f"{host}/stop", settings.stop_percent, "critical", "; no further work is started"),
    )


def host_check(host: str, known: HostMemory) -> CheckResult:
    lost = known.lost_s > 0
    return CheckResult(
        name="host_lost",
        subject=host,
        ok=not lost,
        level=Level.L4,
        severity="critical",
        detail=f"no worker of {host} took anything for {known.lost_s:.0f} s" if lost else f"{host} answers",
        hint=f"start its worker: gt worker, on {host}",
    )


def clock_check(host: str, known: HostMemory) -> CheckResult:
    off_s = known.clock_off_s
    side = "ahead" if off_s > 0 else "behind"
    well = abs(off_s) < CLOCK_TOLERANCE_S
    wrong = f"the clock of {host} is {abs(off_s):.0f} s {side}, or was set by that much"
    return CheckResult(
        name="clock",
        subject=host,
        ok=well,
        severity="low",
        detail=f"the clock of {host} is right" if well else wrong,
        hint="check its time synchronisation; nobody is accused of it",
    )


def queue_check(known: QueueMemory, gates_s: int, patience_s: float, now_s: float) -> CheckResult:
    """A queue that is paused or empty cannot stall; one that merges may take as long as its gates."""
    signs = known.signs
    limit_s = patience_s + (gates_s + MERGE_SLACK_S if signs.merging else 0.0)
    stands_s = now_s - known.since_s
    idle = signs.paused or signs.waiting + signs.merging == 0
    well = idle or stands_s < limit_s
    moves = f"{signs.waiting} changes wait, {signs.merging} are being merged{', paused' if signs.paused else ''}"
    stands = f"{signs.waiting} changes of {signs.rig} wait, and for {stands_s:.0f} s the queue has not got further"
    return CheckResult(
        name="refinery_stalled",
        subject=signs.rig,
        ok=well,
        detail=moves if well else stands,
        hint=f"gt refinery queue --rig {signs.rig}",
    )


# --- edges ----------------------------------------------------------------------------------------


class Edges(Frozen):
    """What is news."""

    begun: tuple[CheckResult, ...] = ()
    over: dict[str, str] = Field(default_factory=dict)
    """id of the escalation: why it is over"""


def edges(results: tuple[CheckResult, ...], told: dict[str, str], forgotten: tuple[str, ...] = ()) -> Edges:
    """Which checks have begun to fail, and which failures are over.

    Args:
        results: of all checks that could be made; of the others nothing is said.
        told: keys that failed before, with the ids of their escalations.
        forgotten: keys whose subject is gone.
    """
    begun = tuple(result for result in results if not result.ok and result.key not in told)
    over = {told[result.key]: result.detail for result in results if result.ok and result.key in told}
    over |= {told[key]: "it is not in the town any more" for key in forgotten}
    return Edges(begun=begun, over=over)
