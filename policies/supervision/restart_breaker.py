"""The brake on restarts: when agents die as soon as they are started, starting more of them helps nobody.

One agent that dies is that agent's trouble, and its budget ends it. When most of a rig's polecats
die and die again within a minute of their restart, the trouble is the host's or the API's:
restarts pause, one alarm is raised, and from time to time one start is tried, until one lives.
Pure; times are the watcher's own.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import Field

from models.base import Frozen

QUICK = timedelta(seconds=60)
"""An agent that dies within this of its restart has died again; one that outlives it has proved itself."""
FEWEST = 3
"""distinct polecats: fewer are never called a host's trouble"""
TOGETHER = timedelta(minutes=5)
"""Deaths further apart than this are not one trouble. Budgets delay later restarts by minutes anyway."""
REMEMBERED = timedelta(hours=1)


class Agent(Frozen):
    """The last starts and deaths of one bead's agents."""

    attempt: int = 0
    """the newest that was started"""
    started_at: datetime | None = None
    restarted: bool = False
    """that start followed a death"""
    died: int = 0
    """the newest attempt that died"""
    died_at: datetime | None = None
    died_again_at: datetime | None = None
    """when one last died within QUICK of its restart"""
    done: bool = False
    """the newest attempt handed its work in"""
    ended: int = 0
    """the newest attempt that was ended before it could prove anything: a person cancelled it, its host was lost"""

    @property
    def proves_at(self) -> datetime | None:
        """When the newest attempt will have lived long enough; None: it will not."""
        over = max(self.died, self.ended) >= self.attempt
        return None if over or self.started_at is None else self.started_at + QUICK

    def proved(self, now: datetime) -> bool:
        """Whether the newest attempt has lived long enough, or finished."""
        at = self.proves_at
        return at is not None and (self.done or now >= at)


class Memory(Frozen):
    """What the brake is judged by, by bead: one bead has one polecat at a time."""

    agents: dict[str, Agent] = Field(default_factory=dict)

    def started(self, bead: str, attempt: int, now: datetime) -> Memory:
        """An attempt was started; told again it changes nothing."""
        agent = self.agents.get(bead, Agent())
        if attempt <= agent.attempt:
            return self
        restarted = agent.attempt > 0 and agent.died == agent.attempt
        return self._with(
            bead,
            agent.model_copy(update={"attempt": attempt, "started_at": now, "restarted": restarted, "done": False}),
        )

    def died(self, bead: str, attempt: int, now: datetime, *, shared_cause: bool) -> Memory:
        """An attempt died; told again it changes nothing. What died with its whole host has not died again."""
        agent = self.agents.get(bead, Agent())
        if attempt <= agent.died:
            return self
        quick = (
            agent.attempt == attempt
            and agent.restarted
            and agent.started_at is not None
            and now - agent.started_at < QUICK
        )
        update: dict[str, object] = {"died": attempt, "died_at": now, "attempt": max(attempt, agent.attempt)}
        if quick and not shared_cause:
            update["died_again_at"] = now
        return self._with(bead, agent.model_copy(update=update))

    def finished(self, bead: str, attempt: int) -> Memory:
        """An attempt handed in its work."""
        agent = self.agents.get(bead)
        if agent is None or agent.attempt != attempt:
            return self
        return self._with(bead, agent.model_copy(update={"done": True}))

    def ended(self, bead: str, attempt: int, now: datetime) -> Memory:
        """An attempt is over, whatever it died of or was ended for."""
        agent = self.agents.get(bead)
        if agent is None or agent.attempt != attempt or agent.proved(now):
            return self
        return self._with(bead, agent.model_copy(update={"ended": attempt}))

    def forgotten(self, living: frozenset[str], now: datetime) -> Memory:
        """Without beads that nothing has been heard of for long."""
        kept = {
            bead: agent
            for bead, agent in self.agents.items()
            if bead in living or any(now - at < REMEMBERED for at in (agent.started_at, agent.died_at) if at)
        }
        return Memory(agents=kept)

    def _with(self, bead: str, agent: Agent) -> Memory:
        return Memory(agents=self.agents | {bead: agent})


def fallen(memory: Memory, now: datetime) -> frozenset[str]:
    """Beads whose agents died again lately, and have not proved themselves since."""
    return frozenset(
        bead
        for bead, agent in memory.agents.items()
        if agent.died_again_at is not None and now - agent.died_again_at < TOGETHER and not agent.proved(now)
    )


def pulls(memory: Memory, living: frozenset[str], now: datetime) -> bool:
    """Whether so many have died again that restarts must pause.

    Args:
        living: beads that are being worked on now.
    """
    down = fallen(memory, now)
    lately = {bead for bead, agent in memory.agents.items() if agent.died_at and now - agent.died_at < TOGETHER}
    return len(down) >= FEWEST and 2 * len(down) >= len(living | lately)


class Brake(Frozen):
    """A brake that is pulled."""

    reason: str
    pulled_at: datetime
    probes: int = 0
    """starts that were allowed all the same, so far"""
    probe_at: datetime
    """when the next one is"""
    delay_s: float
    """between this one and the next"""


def pulled(memory: Memory, living: frozenset[str], now: datetime, first_s: float) -> Brake:
    """Pull the brake.

    Args:
        first_s: seconds until the first start is tried; at least QUICK, so that it cannot be one of those that fell.
    """
    down = fallen(memory, now)
    reason = (
        f"the agents of {len(down)} of {len(living | down)} polecats died within {QUICK.seconds} s of their restart: "
        "trouble of the host or of the agents' API"
    )
    delay_s = max(first_s, QUICK.total_seconds())
    return Brake(reason=reason, pulled_at=now, probe_at=now + timedelta(seconds=delay_s), delay_s=delay_s)


def released(brake: Brake, memory: Memory, now: datetime) -> bool:
    """Whether an agent that was started under the brake has proved itself."""
    return any(
        agent.started_at is not None and agent.started_at > brake.pulled_at and agent.proved(now)
        for agent in memory.agents.values()
    )


def probed(brake: Brake, now: datetime, most_s: float) -> Brake:
    """Allow one more start where it is time; the next one waits twice as long, at most `most_s` or QUICK."""
    if now < brake.probe_at:
        return brake
    delay_s = max(min(brake.delay_s * 2, most_s), QUICK.total_seconds())
    return brake.model_copy(
        update={"probes": brake.probes + 1, "probe_at": now + timedelta(seconds=delay_s), "delay_s": delay_s}
    )


def next_look(brake: Brake, memory: Memory, now: datetime) -> datetime:
    """When something may have changed by itself: the next probe, or an agent that proves itself."""
    started_since = [
        agent for agent in memory.agents.values() if agent.started_at is not None and agent.started_at > brake.pulled_at
    ]
    proofs = [agent.proves_at for agent in started_since]
    return min([brake.probe_at, *(at for at in proofs if at is not None and at > now)])
