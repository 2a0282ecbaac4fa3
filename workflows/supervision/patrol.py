"""One round of a Witness's patrol on one host: watch, pass on what is new, note what it means for the rig."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from enum import Enum, auto

from temporalio import workflow
from temporalio.exceptions import ActivityError, TimeoutError, TimeoutType, is_cancelled_exception

from activities.sessions.watching import WatchActivities
from models import names
from models.errors import Level
from models.job.attempts import WatchReport, WatchRig, observation_key
from models.job.checkpoints import CheckpointOrder
from models.job.health import HealthReport, Thresholds
from models.job.messages import Observation
from models.mayor.alerts import AlertType, Priority
from policies.job.restarts import wave_size
from workflows.shared import activity_options
from workflows.shared.signals import Receipt, deliver
from workflows.supervision.deacon_watch import LATE
from workflows.supervision.restart_breaker import Hold
from workflows.supervision.witness_faults import Faults
from workflows.supervision.witness_state import HostWatch, WitnessState
from workflows.supervision.zombies import Zombies

FORGED = "forged"
"""a fault of one host: intents without their attempt's token"""
CONFIRM = timedelta(seconds=10)
"""how long a host that missed one watch gets to take another, before it is called lost"""
STAGGER = timedelta(seconds=1)
"""between waves of agents that died of one cause; a shorter timer of Temporal's fires no sooner (docs/temporal.md)"""
SETTLED = timedelta(seconds=30)
"""for how long a host is watched that the Deacon has named: what is left over counts as such after a while only"""
CHECK_TIMEOUT = timedelta(seconds=10)
"""how long a person who asks for a check waits for a host"""


class RoundEnd(Enum):
    """Why a round is over."""

    EARLY = auto()
    """there was a reason: the next may follow at once"""
    IN_TIME = auto()
    """nothing new until its time was over"""
    QUIET = auto()
    """nothing new, or a watch that failed, and time may be left"""


class Rounds:
    """The patrol's rounds; the workflow decides where and when they are walked."""

    def __init__(self, state: WitnessState, faults: Faults, hold: Hold, zombies: Zombies) -> None:
        self._state = state
        self._faults = faults
        self._hold = hold
        self._zombies = zombies

    async def walk(self, host: str, until: datetime) -> RoundEnd:
        """Watch once, up to `until`, and pass on what is new; once an interval pass on anew what is outstanding."""
        watch, now = self._state.watches[host], workflow.now()
        repeat = watch.repeat_at is None or watch.repeat_at <= now
        known = () if repeat else watch.known
        patience = CONFIRM if watch.missed and not watch.lost else self._host_timeout
        doubted = watch.missed or watch.lost
        presumed = dict(self._state.presumed_over)
        try:
            # Of a host in doubt a glance is wanted, which tells at once that it is there.
            report = await self._watch(host, timedelta(0) if doubted else until - now, known, patience)
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            if _nobody_took(error):
                await self._missed(host, workflow.now() - now > patience + LATE)
                return RoundEnd.EARLY
            workflow.logger.warning("the watch on %s failed: %s", host, error.cause)
            await self._attended(host)
            return RoundEnd.QUIET
        await self._attended(host)
        if self._state.stopped:
            return RoundEnd.QUIET
        if repeat:
            watch.repeat_at = until
        if await self._digest(host, report, known, presumed) > 0 or doubted:
            return RoundEnd.EARLY
        return RoundEnd.IN_TIME if report.in_time else RoundEnd.QUIET

    async def check(self, host: str) -> int | None:
        """Look at a host at once and pass on all that is outstanding there.

        Returns:
            How many facts that were; None where the host does not answer.
        """
        presumed = dict(self._state.presumed_over)
        try:
            report = await self._watch(host, timedelta(0), (), CHECK_TIMEOUT)
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            workflow.logger.warning("%s cannot be checked: %s", host, error.cause)
            return None
        self._state.watches.setdefault(host, HostWatch(begun_at=workflow.now()))
        await self._attended(host)
        return await self._digest(host, report, (), presumed)

    async def _watch(self, host: str, interval: timedelta, known: tuple[str, ...], patience: timedelta) -> WatchReport:
        settings, facts = self._state.settings, self._state.facts
        return await workflow.execute_activity_method(
            WatchActivities.watch_rig,
            WatchRig(
                rig=self._state.rig,
                host=host,
                interval_s=interval.total_seconds(),
                known=known,
                thresholds=Thresholds.of(settings.health),
                policy=settings.recovery.policy,
                carried=self._carried(host),
                superseded=self._state.superseded(host),
                # Without facts a watcher goes on as it was told before.
                checkpoint=CheckpointOrder.of(facts.rig, settings.checkpoint) if facts else None,
            ),
            summary=f"watch {self._state.rig} on {host}",
            **activity_options.watch(host, interval, patience),
        )

    def _carried(self, host: str) -> dict[str, HealthReport]:
        """What the last report knew, unless nobody watched for a while: then every grace begins anew."""
        watch = self._state.watches.get(host)
        if watch is None or watch.surveyed_at is None or workflow.now() - watch.surveyed_at > self._interval + LATE:
            return {}
        return watch.report.health

    async def _missed(self, host: str, too_late: bool) -> None:
        """No worker took the watch in time. A second time in a row, and known in time, means that the host is lost.

        Args:
            too_late: this Witness itself did not run for a while, and may have been the only one.
        """
        watch = self._state.watches[host]
        if watch.missed and not watch.lost and not too_late:
            await self._hold.lose(host, self._host_timeout + CONFIRM)
        watch.missed = True

    async def _attended(self, host: str) -> None:
        """A worker of the host took the watch."""
        watch = self._state.watches[host]
        watch.missed = False
        if watch.lost:
            await self._hold.regain(host)

    async def _digest(self, host: str, report: WatchReport, known: tuple[str, ...], presumed: dict[str, int]) -> int:
        """Act on a report; how many of its observations were new.

        Args:
            presumed: the attempts that were presumed over when the report was asked for.
        """
        watch = self._state.watches[host]
        fresh = [seen for seen in report.observations if observation_key(seen) not in known]
        await self._pass_on(fresh)
        # A key counts as present while it is reported, so that a watcher that contradicts itself cannot spin.
        present = {*report.present, *(observation_key(seen) for seen in report.observations)}
        told = [*known, *(observation_key(seen) for seen in fresh)]
        watch.known = tuple(dict.fromkeys(key for key in told if key in present))
        watch.report = report.model_copy(update={"observations": ()})
        watch.surveyed_at = workflow.now()
        self._state.note_unseen(host, watch.surveyed_at)
        await self._zombies.look(host, report, presumed)
        self._judge_policy(report)
        self._judge_forged(host, report)
        if watch.asked_at is not None and watch.surveyed_at - watch.asked_at >= SETTLED:
            watch.asked_at = None
        return len(fresh)

    async def _pass_on(self, fresh: list[Observation]) -> None:
        """Tell the jobs; those whose agents died of one cause in waves, so that they do not all start at once."""
        together = [seen for seen in fresh if seen.shared_cause]
        wave = wave_size(len(together))
        await self._tell([seen for seen in fresh if not seen.shared_cause])
        for start in range(0, len(together), wave):
            if start:
                await workflow.sleep(STAGGER, summary="agents that died together start in waves")
            await self._tell(together[start : start + wave])

    async def _tell(self, wave: list[Observation]) -> None:
        """Tell these at once: one job after the other, each would cost a round trip."""
        by_bead: dict[str, list[Observation]] = {}
        for seen in wave:
            by_bead.setdefault(seen.bead, []).append(await self._hold.judged(seen))
        await asyncio.gather(*(self._tell_job(bead, told) for bead, told in by_bead.items()))

    async def _tell_job(self, bead: str, told: list[Observation]) -> None:
        """In order: of two signals that are sent at once the second may come first, and an end ends what was asked."""
        for seen in told:
            receipt = await deliver(names.polecat_id(self._state.rig, bead), "observed", seen)
            if receipt is Receipt.ABSENT:
                # A job that does not run any more has no work here.
                self._state.work.pop(bead, None)
            if receipt is not Receipt.TAKEN:
                return

    def _judge_policy(self, report: WatchReport) -> None:
        """The rig's own diagnosis failed, and the built-in one judges in its place: a person should mend it."""
        if not report.policy_error:
            self._faults.end("recovery.policy", "the rig's own policy judges again")
            return
        self._faults.begin(
            "recovery.policy",
            AlertType.ESCALATION,
            f"recovery.policy of {self._state.rig} fails, the built-in one judges: {report.policy_error}",
            level=Level.L2,
            severity=Priority.MEDIUM,
            evidence=self._state.settings.recovery.policy,
        )

    def _judge_forged(self, host: str, report: WatchReport) -> None:
        """Somebody speaks for an agent who is not that agent: nothing follows of it, and a person should know."""
        if not report.forged:
            self._faults.end(f"{FORGED} {host}", "no such intent is there any more")
            return
        self._faults.begin(
            f"{FORGED} {host}",
            AlertType.ESCALATION,
            f"{host}: an intent without this attempt's token, which nobody acts on: {report.forged[0]}",
            level=Level.L3,
            evidence="\n".join(report.forged),
        )

    @property
    def _interval(self) -> timedelta:
        return timedelta(seconds=self._state.settings.health.check_interval)

    @property
    def _host_timeout(self) -> timedelta:
        return timedelta(seconds=self._state.settings.hosts.timeout)


def _nobody_took(error: ActivityError) -> bool:
    return isinstance(error.cause, TimeoutError) and error.cause.type is TimeoutType.SCHEDULE_TO_START
