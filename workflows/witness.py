"""The Witness: a rig's patrol. It watches the hosts that work for the rig and passes on what it sees."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from pydantic import Field
from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.ledger import LedgerActivities
    from activities.watching import WatchActivities
    from models import names
    from models.attempts import WatchReport, WatchRig, observation_key
    from models.base import Frozen
    from models.checkpoints import CheckpointOrder
    from models.jobs import Observation, RigName, WitnessStatus, WorkEnded, WorkStarted
    from models.names import WorkflowType
    from models.settings import Settings
    from workflows import options
    from workflows.labels import Labels, details

from workflows.messages import tell
from workflows.patience import Patience


class HostWatch(Frozen):
    """What is remembered of one host between two rounds."""

    known: tuple[str, ...] = ()
    """keys of observations that were passed on and can still be made"""
    repeat_at: datetime | None = None
    """when those are passed on once more"""
    report: WatchReport = WatchReport()
    surveyed_at: datetime | None = None


class WitnessState(Frozen):
    """All that a Witness carries from run to run. A bare `{"rig": …}` is a fresh one."""

    rig: str
    work: dict[str, WorkStarted] = Field(default_factory=dict)
    """by bead"""
    watches: dict[str, HostWatch] = Field(default_factory=dict)
    """by host"""
    settings: Settings = Settings()
    patience: int = 1000
    """messages after which a run hands over"""


@workflow.defn(name=WorkflowType.WITNESS)
class WitnessWorkflow:
    """One per rig, for ever: one watch at a time on each host with work, none where there is none."""

    @workflow.init
    def __init__(self, state: WitnessState) -> None:
        self._rig = state.rig
        self._work = dict(state.work)
        self._watches = dict(state.watches)
        self._settings = state.settings
        self._saving: CheckpointOrder | None = None
        """None: not read yet in this run; watchers go on as they were told before"""
        self._limit = state.patience
        self._patience = Patience(state.patience)
        self._labels = Labels()
        self._started = 0
        """counts work_started: a resting patrol looks again when it changes"""
        self._settings_at: datetime | None = None
        self._patrols: dict[str, asyncio.Task[None]] = {}
        self._leaving = False

    @workflow.run
    async def run(self, state: WitnessState) -> None:
        """Keep a patrol on each host with work, and the settings fresh; hand over when it is time."""
        while not self._patience.exhausted:
            self._watch_hosts()
            self._show()
            await self._refresh()
            await self._wait_for_change()
        self._leaving = True
        await workflow.wait_condition(workflow.all_handlers_finished)
        # A round that is under way ends with this run, and the next one's first round sees the same.
        # Its activity is left alone, since cancelling one that has just ended fails the whole task.
        workflow.continue_as_new(
            WitnessState(
                rig=self._rig,
                work=self._work,
                watches=self._watches,
                settings=self._settings,
                patience=self._limit,
            )
        )

    # --- messages -----------------------------------------------------------------------------

    @workflow.signal(description="An attempt's session was started: watch its host")
    def work_started(self, started: WorkStarted) -> None:
        self._patience.count()
        known = self._work.get(started.bead)
        if known is None or known.attempt <= started.attempt:
            self._work[started.bead] = started
            self._started += 1
            self._watch_hosts()

    @workflow.signal(description="An attempt is over")
    def work_ended(self, ended: WorkEnded) -> None:
        self._patience.count()
        known = self._work.get(ended.bead)
        if known is not None and known.attempt <= ended.attempt:
            del self._work[ended.bead]

    @workflow.signal(description="Settings changed: read them anew")
    def settings_changed(self) -> None:
        self._patience.count()
        self._settings_at = None

    @workflow.query(description="What the last survey of each host saw")
    def status(self) -> WitnessStatus:
        seen = list(self._watches.values())
        return WitnessStatus(
            rig=self._rig,
            hosts=self._hosts(),
            living=tuple(sorted({bead for watch in seen for bead in watch.report.living})),
            heartbeat_age_s={bead: age for watch in seen for bead, age in watch.report.heartbeat_age_s.items()},
            progress_age_s={bead: age for watch in seen for bead, age in watch.report.progress_age_s.items()},
            surveyed_at=min((watch.surveyed_at for watch in seen if watch.surveyed_at), default=None),
        )

    def _hosts(self) -> tuple[str, ...]:
        return tuple(sorted({started.host for started in self._work.values()}))

    # --- the loop -----------------------------------------------------------------------------

    @property
    def _interval(self) -> timedelta:
        return timedelta(seconds=self._settings.health.check_interval)

    def _watch_hosts(self) -> None:
        """Give each host with work a patrol, at once: nothing slow may stand before it."""
        for host in self._hosts():
            if host not in self._patrols and not self._leaving:
                self._patrols[host] = asyncio.create_task(self._patrol(host))

    async def _wait_for_change(self) -> None:
        """Until the settings are due or the run is over; without work they are not needed."""
        idle = not self._work
        try:
            await workflow.wait_condition(
                lambda: self._settings_at is None or (idle and bool(self._work)) or self._patience.exhausted,
                timeout=None if idle else self._interval,
                timeout_summary="settings are read each interval",
            )
        except TimeoutError:
            return

    async def _refresh(self) -> None:
        """Read the settings when they are due; with the record unreadable the last ones hold."""
        now = workflow.now()
        if self._settings_at is not None and now < self._settings_at + self._interval:
            return
        self._settings_at = now
        try:
            facts = await workflow.execute_activity_method(
                LedgerActivities.load_rig,
                RigName(rig=self._rig),
                summary=f"settings of {self._rig}",
                **options.ledger_ask(),
            )
        except ActivityError as error:
            workflow.logger.warning("the record of %s is unreadable: %s", self._rig, error.cause)
            return
        self._settings = facts.settings
        self._saving = CheckpointOrder.of(facts.rig, facts.settings.checkpoint)

    async def _patrol(self, host: str) -> None:
        """Round after round on one host while it has work; ends with the host's last attempt."""
        try:
            while host in self._hosts():
                begun, started = workflow.now(), self._started
                if not await self._round(host):
                    await self._pause(begun, started)
        finally:
            self._patrols.pop(host, None)
        self._watches.pop(host, None)
        self._show()

    async def _round(self, host: str) -> bool:
        """Watch once and pass on what is new; once an interval, what is outstanding is passed on anew.

        Returns:
            True when something was passed on, which explains an early end: the next round may follow at once.
        """
        watch = self._watches.get(host, HostWatch())
        now = workflow.now()
        repeat = watch.repeat_at is None or watch.repeat_at <= now
        known = () if repeat else watch.known
        try:
            report = await workflow.execute_activity_method(
                WatchActivities.watch_rig,
                WatchRig(
                    rig=self._rig,
                    host=host,
                    interval_s=self._interval.total_seconds(),
                    known=known,
                    checkpoint=self._saving,
                ),
                summary=f"watch {self._rig} on {host}",
                **options.watch(host, self._interval),
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            workflow.logger.warning("the watch on %s failed: %s", host, error.cause)
            return False
        fresh = [seen for seen in report.observations if observation_key(seen) not in known]
        for seen in fresh:
            await self._pass_on(seen)
        # A key counts as present while it is reported, so that a watcher that contradicts itself cannot spin.
        present = {*report.present, *(observation_key(seen) for seen in report.observations)}
        told = [*known, *(observation_key(seen) for seen in fresh)]
        self._watches[host] = HostWatch(
            known=tuple(dict.fromkeys(key for key in told if key in present)),
            repeat_at=now + self._interval if repeat else watch.repeat_at,
            report=report.model_copy(update={"observations": ()}),
            surveyed_at=workflow.now(),
        )
        return bool(fresh)

    async def _pass_on(self, seen: Observation) -> None:
        """Tell the job; one that does not run any more has no work here."""
        if not await tell(names.polecat_id(self._rig, seen.bead), "observed", seen):
            self._work.pop(seen.bead, None)

    async def _pause(self, begun: datetime, started: int) -> None:
        """A round that ended early with nothing new waits for the rest of its interval or for new work."""
        rest = begun + self._interval - workflow.now()
        if rest <= timedelta(0):
            return
        try:
            await workflow.wait_condition(
                lambda: self._started != started, timeout=rest, timeout_summary="the rest of the interval"
            )
        except TimeoutError:
            return

    # --- what people see ----------------------------------------------------------------------

    def _show(self) -> None:
        self._labels.show(role="witness", state="watching" if self._work else "idle", rig=self._rig)
        rows: dict[str, str | int | None] = {
            "hosts": ", ".join(self._hosts()),
            "work": ", ".join(f"{work.bead} by {work.polecat} ({work.attempt})" for work in self._work.values()),
            "interval": f"{self._settings.health.check_interval} s",
        }
        workflow.set_current_details(details(f"Witness of {self._rig}", rows, "gt status"))
