"""The Deacon's town checks: the looks, and what follows. policies/supervision/town_checks.py has what they mean."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, TimeoutType, is_cancelled_exception
from temporalio.exceptions import TimeoutError as ActivityTimeout

with workflow.unsafe.imports_passed_through():
    from activities.host_checks import HostCheckActivities
    from activities.temporal import TownActivities
    from models import names
    from models.refinery.messages import PauseRequest
    from models.supervision.messages import CheckResult, LookAt, LookedAround, TownFacts, Wedged
    from policies.supervision import town_checks
    from policies.supervision.town_checks import TownMemory
    from policies.supervision.watchdog import Limits
    from workflows.shared import activity_options

from workflows.shared.background_task import Beside
from workflows.shared.signals import tell

RESCUE = timedelta(seconds=40)
RESCUED_AT_ONCE = 10


class TownChecks:
    """Looks at ledger, hosts and queues, and holds the dispatchers while a disk is full.

    Args:
        memory: as carried.
    """

    def __init__(self, memory: TownMemory) -> None:
        self.memory = memory
        self.fresh = False
        """a look at a host has come in since the last verdicts"""
        self._looks: dict[str, asyncio.Task[None]] = {}
        self._rescuing = Beside()

    # --- looks --------------------------------------------------------------------------------

    def looked_around(self, found: LookedAround, now_s: float) -> None:
        """Take in what concerns ledger and queues."""
        if found.unread or found.facts is not None:
            self.memory = self.memory.ledger_read(found.unread)
        for signs in found.queues:
            self.memory = self.memory.queue_seen(signs, now_s)
        self.memory = self.memory.model_copy(update={"wedged": self.memory.wedged.found(found.wedged)})

    def look_at_hosts(self, facts: TownFacts) -> None:
        """One look at a time on each host; a lost one's takes as long as `hosts.timeout`, so nobody waits here."""
        patience = timedelta(seconds=facts.settings.hosts.timeout)
        for host in facts.hosts:
            if host not in self._looks:
                self._looks[host] = asyncio.create_task(self._look_at(host, patience))

    async def _look_at(self, host: str, patience: timedelta) -> None:
        try:
            signs = await workflow.execute_activity_method(
                HostCheckActivities.look_at_host,
                summary=f"disk and clock of {host}",
                **activity_options.look_at_host(host, patience),
            )
            self.memory = self.memory.host_seen(signs, workflow.now())
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            if not _nobody_took(error):
                workflow.logger.warning("%s does not tell how it is: %s", host, error.cause)
                return
            known = self.memory.hosts.get(host)
            lost_s = (known.lost_s if known else 0.0) + patience.total_seconds()
            self.memory = self.memory.host_missed(host, lost_s)
        finally:
            self._looks.pop(host, None)
            self.fresh = True

    async def show_witnesses(self) -> None:
        """Name the hosts to them where something of their rig is and they do not look: nobody else would find it."""
        for rig, host in self.memory.unwatched():
            await tell(names.witness_id(rig), "look_at", LookAt(host=host))

    def rescue_wedged(self) -> None:
        """Set jobs and merges going again whose code fails.

        Nobody waits for it: a dispatcher whose own code fails answers no rescue, and only a loop that goes on
        restarts it.
        """
        if self.memory.wedged.owed:
            self._rescuing.start(self._rescue_all)

    async def finished(self) -> None:
        """Wait for the rescues under way; the others are left to the next run."""
        await self._rescuing.finished()

    async def _rescue_all(self) -> None:
        """Some at a time, until no attempt helps: then nobody answers who could do it, until a later cycle."""
        owed = self.memory.wedged.owed
        for start in range(0, len(owed), RESCUED_AT_ONCE):
            some = owed[start : start + RESCUED_AT_ONCE]
            helped = await asyncio.gather(*(self._rescue(wedged) for wedged in some))
            if self._rescuing.closing or not any(helped):
                return

    async def _rescue(self, wedged: Wedged) -> bool:
        """Returns: whether it was done."""
        try:
            ended = await workflow.execute_activity_method(
                TownActivities.rescue,
                wedged,
                summary=f"its code fails: {wedged.workflow_id}"[:200],
                **activity_options.pings(RESCUE),
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            workflow.logger.error("%s cannot be set going again: %s", wedged.workflow_id, error.cause)
            return False
        self.memory = self.memory.model_copy(update={"wedged": self.memory.wedged.done(wedged, ended=ended)})
        return True

    # --- verdicts -----------------------------------------------------------------------------

    def results(self, facts: TownFacts | None, now_s: float) -> tuple[CheckResult, ...]:
        """Every check that can be made now."""
        self.fresh = False
        found = [town_checks.ledger_check(self.memory), *self.memory.wedged.checks(self.memory.told)]
        if facts is None:
            return tuple(found)
        self.memory = self.memory.keep(facts.hosts, tuple(facts.rigs))
        for host, known in self.memory.hosts.items():
            found.append(town_checks.host_check(host, known))
            if not known.lost_s:
                found += town_checks.disk_checks(host, known, facts.settings.disk, self.memory.told)
                found.append(town_checks.clock_check(host, known))
        for rig, queue in self.memory.queues.items():
            limit_s = Limits.of(facts.rigs[rig].settings).patrol_s
            found.append(town_checks.queue_check(queue, facts.rigs[rig].gates_s, limit_s, now_s))
        return tuple(found)

    def gone(self, results: tuple[CheckResult, ...], facts: TownFacts | None) -> tuple[str, ...]:
        """Keys of failures whose host or rig is no longer in the town."""
        if facts is None:
            return ()
        known = {*facts.hosts, *facts.rigs}
        made = {result.key for result in results}
        subjects = {key: key.split("/")[1] for key in self.memory.told if "/" in key}
        return tuple(key for key, subject in subjects.items() if subject not in known and key not in made)

    async def hold_dispatchers(self, facts: TownFacts | None) -> None:
        """While a disk is all but full no further session starts; each cycle says so again, to whom it was lost."""
        full = [key.split("/")[1] for key in self.memory.told if key.startswith("disk_full/") and key.endswith("/stop")]
        if not full:
            await self.release_dispatchers(facts)
        elif facts is not None:
            self.memory = self.memory.model_copy(update={"holding": True})
            await _tell_dispatchers(facts, "pause", f"the disk of {', '.join(sorted(full))} is full")

    async def release_dispatchers(self, facts: TownFacts | None) -> None:
        """Take back what `hold_dispatchers` said, once: also what a Deacon before a `reset` may have said."""
        if facts is None or self.memory.holding is False:
            return
        if self.memory.holding is None:
            all_known = set(facts.hosts) <= self.memory.hosts.keys()
            if not all_known:
                return
        self.memory = self.memory.model_copy(update={"holding": False})
        await _tell_dispatchers(facts, "resume", "there is room")


async def _tell_dispatchers(facts: TownFacts, signal: str, reason: str) -> None:
    for rig in facts.rigs:
        await tell(names.dispatch_id(rig), signal, PauseRequest(reason=reason, by=names.DEACON_ID))


def _nobody_took(error: ActivityError) -> bool:
    cause = error.cause
    return isinstance(cause, ActivityTimeout) and cause.type is TimeoutType.SCHEDULE_TO_START
