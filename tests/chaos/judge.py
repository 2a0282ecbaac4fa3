"""What a run's facts say: the figures, and every promise that was broken. Pure."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

from policies.supervision.restart_breaker import FEWEST, QUICK, TOGETHER
from tests.chaos.schedule import Kind

Attempt = tuple[str, int]
"""bead and number"""

REWORKED = frozenset({"merge_failed", "rework_request"})
"""events of a job after which a further attempt is no restart"""
HITS_ALL = frozenset({Kind.TMUX_SERVER})
KILLS_ONE = frozenset({Kind.AGENT, Kind.PANE, Kind.SESSION})
HITS_ONE = KILLS_ONE | {Kind.HANG}
ACCUSES = "polecat_"
"""how kinds of escalations begin that blame an agent"""
BRAKE = ": restarts are paused: "
"""in the message of a rig whose agents die one after the other"""


@dataclass(frozen=True)
class Injury:
    """A fault as it was injected. Times are seconds since the epoch."""

    kind: Kind
    since: float
    until: float
    attempt: Attempt | None = None
    """whose session was hit, where it was one"""


@dataclass(frozen=True)
class Life:
    """How long an attempt had a session, and what its agent noted."""

    since: float
    until: float
    found: frozenset[str] = frozenset()
    """marks in the worktree at its start"""
    left: tuple[str, ...] = ()
    started_at: float | None = None
    """the agent's own first note; None: killed before it could"""


@dataclass(frozen=True)
class Call:
    """An escalation of the run."""

    kind: str
    open: bool
    """at the end; otherwise it ended with its cause"""
    message: str = ""


@dataclass(frozen=True)
class BeadFacts:
    bead: str
    landed: int
    """commits on the remote that carry its trailer"""
    status: str
    close_reason: str
    events: tuple[tuple[int, str], ...] = ()
    """the job's story: attempt and event"""
    told: tuple[str, ...] = ()
    """the same for people, with time and detail"""


@dataclass(frozen=True)
class Facts:
    beads: tuple[BeadFacts, ...]
    lives: dict[Attempt, Life]
    injuries: tuple[Injury, ...]
    kept: frozenset[str] = frozenset()
    """marks that some ref of the remotes holds"""
    leftovers: tuple[str, ...] = ()
    """sessions, branches and processes that nobody needs any more"""
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True)
class Verdict:
    figures: dict[str, object]
    violations: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        return not self.violations


def judge(facts: Facts) -> Verdict:
    """Every bead merged once, no restart that nothing of ours caused, no mark lost, nothing left."""
    unmerged = [
        f"{one.bead} landed {one.landed} times and is {one.status} ({one.close_reason or 'not closed'})"
        for one in facts.beads
        if (one.landed, one.status, one.close_reason) != (1, "closed", "merged")
    ]
    restarts, false = _restarts(facts)
    marks = {mark for life in facts.lives.values() for mark in life.left}
    lost = [f"mark {mark} is on no ref of the remote" for mark in sorted(marks - facts.kept)]
    absent = _absent_after_restart(facts, restarts)
    violations = (
        *unmerged,
        *(_unexplained(facts, bead, attempt) for bead, attempt in false),
        *lost,
        *absent,
        *(f"left behind: {leftover}" for leftover in facts.leftovers),
        *(f"a person was called: {call.kind}: {call.message}" for call in facts.calls if call.open),
        *(f"an agent was blamed: {call.kind}: {call.message}" for call in facts.calls if _blames_wrongly(call, facts)),
    )
    figures: dict[str, object] = {
        "beads": len(facts.beads),
        "merged_once": len(facts.beads) - len(unmerged),
        "attempts": len(facts.lives),
        "restarts": len(restarts),
        "false_restarts": len(false),
        "reworks": sum(event in REWORKED for one in facts.beads for _, event in one.events),
        "marks": len(marks),
        "marks_lost": len(lost) + len(absent),
        "left_behind": len(facts.leftovers),
        "escalations": dict(sorted(Counter(call.kind for call in facts.calls).items())),
        "faults": dict(sorted(Counter(injury.kind.value for injury in facts.injuries).items())),
        "seconds_from_kill_to_next_attempt": _latencies(facts),
        "violations": list(violations),
    }
    return Verdict(figures=figures, violations=violations)


def _unexplained(facts: Facts, bead: str, attempt: int) -> str:
    told = next((one.told for one in facts.beads if one.bead == bead), ())
    life = facts.lives[bead, attempt]
    times = [f"it lived {_clock(life.since)} to {_clock(life.until)}"]
    times += [f"{injury.kind} {_clock(injury.since)} to {_clock(injury.until)}" for injury in facts.injuries]
    return "\n  ".join((f"{bead} was started again after attempt {attempt}, which nothing had hit", *times, *told))


def _clock(moment: float) -> str:
    """As the story of a job has it, in UTC."""
    return f"{datetime.fromtimestamp(moment, UTC):%H:%M:%S.%f}"[:-3]


def _blames_wrongly(call: Call, facts: Facts) -> bool:
    """Whether an agent was blamed; the brake's call is right where we did kill that many of its rig so early."""
    if not call.kind.startswith(ACCUSES):
        return False
    if BRAKE not in call.message:
        return True
    rig = call.message.partition(BRAKE)[0]
    ours = [
        (life.until, bead)
        for (bead, attempt), life in facts.lives.items()
        if bead.startswith(f"{rig[:2]}-")
        and attempt > 1
        and life.until - life.since <= QUICK.total_seconds()
        and injuries_of(facts, (bead, attempt))
    ]
    together = TOGETHER.total_seconds()
    return not any(len({bead for at, bead in ours if 0 <= at - first <= together}) >= FEWEST for first, _ in ours)


def injuries_of(facts: Facts, attempt: Attempt) -> list[Injury]:
    """What may have ended an attempt's session while it had one."""
    life = facts.lives[attempt]
    return [
        injury
        for injury in facts.injuries
        if injury.since <= life.until
        and injury.until >= life.since
        and (injury.kind in HITS_ALL or (injury.kind in HITS_ONE and injury.attempt == attempt))
    ]


def _restarts(facts: Facts) -> tuple[list[Attempt], list[Attempt]]:
    """Attempts that were followed by another one without a rework between them: all, and those without a cause."""
    reworked = {(one.bead, attempt) for one in facts.beads for attempt, event in one.events if event in REWORKED}
    restarts = [
        (bead, attempt)
        for bead, attempt in sorted(facts.lives)
        if (bead, attempt + 1) in facts.lives and (bead, attempt) not in reworked
    ]
    return restarts, [attempt for attempt in restarts if not injuries_of(facts, attempt)]


def _absent_after_restart(facts: Facts, restarts: list[Attempt]) -> list[str]:
    """Marks that a restarted agent did not find in its worktree."""
    absent: list[str] = []
    for bead, attempt in restarts:
        following = facts.lives[bead, attempt + 1]
        if following.started_at is None:
            continue
        missing = set(facts.lives[bead, attempt].left) - following.found
        absent += [f"mark {mark} was not in the worktree of attempt {attempt + 1}" for mark in sorted(missing)]
    return absent


def _latencies(facts: Facts) -> dict[str, float]:
    """From the kill of one agent to the first note of the agent after it."""
    times = []
    for injury in facts.injuries:
        if injury.kind not in KILLS_ONE or injury.attempt is None:
            continue
        bead, attempt = injury.attempt
        following = facts.lives.get((bead, attempt + 1))
        if following is not None and following.started_at is not None:
            times.append(following.started_at - injury.since)
    if len(times) < 2:
        return {}
    return {
        "count": len(times),
        "p50": round(statistics.median(times), 2),
        "p99": round(statistics.quantiles(times, n=100, method="inclusive")[98], 2),
    }
