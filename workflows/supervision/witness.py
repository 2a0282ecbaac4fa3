"""The Witness: a rig's patrol. It watches the hosts that work for the rig and passes on what it sees."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from activities.cycle_checks import RoundActivities
from activities.ledger import LedgerActivities
from models.job.messages import Decision, RigName, WitnessStatus, WorkEnded, WorkStarted
from models.names import WorkflowType
from models.refinery.messages import PauseRequest
from models.supervision.messages import CheckedIn, CheckIn, LookAt, WitnessHealth, WitnessRecovered
from workflows.shared import activity_options
from workflows.shared.continue_as_new import Patience
from workflows.shared.timers import until
from workflows.shared.web_ui import Labels, details
from workflows.supervision.deacon_watch import DeaconWatch
from workflows.supervision.patrol import RoundEnd, Rounds
from workflows.supervision.restart_breaker import BRAKE, Hold
from workflows.supervision.witness_faults import Faults
from workflows.supervision.witness_state import HostWatch, WitnessState
from workflows.supervision.zombies import Zombies

LEAVE_PATIENCE = timedelta(seconds=1)
SLACK = timedelta(seconds=10)
"""A watch ends when the cycle is due and brings the loop along; its own timer is for when that comes late."""
SHORT = timedelta(seconds=1)
"""No watch is shorter, so that one which ends a moment too soon is not followed by many."""


@workflow.defn(name=WorkflowType.WITNESS)
class WitnessWorkflow:
    """One per rig, for ever: one watch at a time on each host with work, none where there is none."""

    @workflow.init
    def __init__(self, state: WitnessState) -> None:
        self._state = state
        self._faults = Faults(state)
        self._hold = Hold(state, self._faults)
        self._deacon = DeaconWatch(state, self._faults)
        self._zombies = Zombies(state, self._faults)
        self._rounds = Rounds(state, self._faults, self._hold, self._zombies)
        self._patience = Patience(state.patience)
        self._labels = Labels()
        self._started = 0
        """counts work_started: a resting patrol looks again when it changes"""
        self._settings_wanted = True
        self._cycle_wanted = True
        """a timer or the end of a round says so, never a look at the clock: a replay may see another time"""
        self._cycle_at: datetime | None = None
        """when the last cycle began; None: none yet in this run"""
        self._patrols: dict[str, asyncio.Task[None]] = {}
        self._letters: asyncio.Task[None] | None = None
        self._leaving = False

    @workflow.run
    async def run(self, state: WitnessState) -> None:
        """Cycle after cycle, while patrols walk their rounds; hand over when it is time."""
        self._letters = asyncio.create_task(self._faults.deliver())
        await self._hold.post()  # a dispatcher may remember what an earlier Witness held it to
        while not self._patience.exhausted:
            self._watch_hosts()
            self._show()
            await self._look()
            await self._wait()
            self._reap()
        await self._leave()
        workflow.continue_as_new(state)

    async def _leave(self) -> None:
        """Let handlers end, and rounds and letters that are about to.

        A round that waits on goes down with this run, and the next one's first round sees the same.
        Its activity is left alone, since cancelling one that has just ended fails the whole task.
        """
        self._leaving = True
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: (
                    all(patrol.done() for patrol in self._patrols.values())
                    and self._zombies.at_rest
                    and self._faults.told
                ),
                timeout=LEAVE_PATIENCE,
                timeout_summary="rounds and letters that are about to end",
            )
        await workflow.wait_condition(workflow.all_handlers_finished)

    # --- what jobs and people say ---------------------------------------------------------------

    @workflow.signal(description="An attempt's session was started: watch its host")
    def work_started(self, started: WorkStarted) -> None:
        self._patience.count()
        self._state.believe(started)
        if self._state.start(started):
            if started.session:
                self._hold.started(started)
            self._started += 1
            self._watch_hosts()

    @workflow.signal(description="An attempt is over")
    def work_ended(self, ended: WorkEnded) -> None:
        self._patience.count()
        self._state.end(ended)
        self._hold.ended(ended)

    @workflow.signal(description="The Deacon: there are sessions of this rig on a host that is not watched")
    def look_at(self, seen: LookAt) -> None:
        self._patience.count()
        if self._state.ask(seen.host, workflow.now()):
            self._watch_hosts()

    @workflow.signal(description="Settings changed: read them anew")
    def settings_changed(self) -> None:
        self._patience.count()
        self._settings_wanted = True

    @workflow.signal(description="The Mayor: what was decided about one of this Witness's escalations")
    async def decision(self, decision: Decision) -> None:
        self._patience.count()
        if self._faults.about(decision.escalation) == BRAKE:
            await self._hold.release(f"a person says so: {decision.kind.value} {decision.reason}".strip())

    @workflow.update(description="No patrol until `start`; the Deacon still hears of this Witness")
    def stop(self, request: PauseRequest) -> WitnessStatus:
        self._patience.count()
        self._state.stopped, self._state.stop_reason = True, request.reason
        self._show()
        return self.status()

    @workflow.update(description="Patrol again")
    def start(self) -> WitnessStatus:
        self._patience.count()
        self._resume()
        return self.status()

    @workflow.update(description="Read settings, check every polecat, resume the patrol, work off what is outstanding")
    async def recover(self) -> WitnessRecovered:
        """See product.md section 5. Hosts without work are checked too, and sessions of jobs that run no more found."""
        self._patience.count()
        read = await self._read_settings()
        state = self._state
        registered = state.facts.hosts if state.facts else ()
        hosts = sorted({*registered, *state.busy_hosts, *state.watches})
        answers = await asyncio.gather(*(self._rounds.check(host) for host in hosts))
        await self._zombies.ask_for_strangers(timedelta(0))
        verdicts = Counter(
            found.diagnosis.kind.value
            for host, answer in zip(hosts, answers, strict=True)
            if answer is not None
            for found in state.watches[host].report.health.values()
        )
        self._resume()
        state.drop_idle_watches(self._patrols)
        return WitnessRecovered(
            settings_read=read,
            verdicts=dict(sorted(verdicts.items())),
            unchecked=tuple(host for host, answer in zip(hosts, answers, strict=True) if answer is None),
            patrols=tuple(sorted(state.hosts_to_watch)),
            backlog=sum(answer or 0 for answer in answers),
        )

    # --- answers --------------------------------------------------------------------------------

    @workflow.query(description="What the last survey of each host saw")
    def status(self) -> WitnessStatus:
        return self._state.status()

    @workflow.query(description="What each verdict was made from")
    def health(self) -> WitnessHealth:
        return self._state.health()

    @workflow.query(description="What a fresh run would go on from")
    def state(self) -> WitnessState:
        return self._state

    # --- the cycle ------------------------------------------------------------------------------

    @property
    def _interval(self) -> timedelta:
        return timedelta(seconds=self._state.settings.health.check_interval)

    async def _look(self) -> None:
        """Once an interval ping the Deacon and read the settings; in between see to what is due."""
        now = workflow.now()
        self._deacon.look()
        asking: list[Awaitable[object]] = []
        if self._cycle_wanted:
            self._cycle_wanted, self._cycle_at = False, now
            asking += [self._check_in()] + ([self._hold.post()] if self._hold.active else [])
        if self._settings_wanted:
            asking.append(self._read_settings())
        await asyncio.gather(*asking)
        await self._hold.look()
        self._deacon.judge()

    async def _wait(self) -> None:
        """Until the next cycle, or something that is due before it; new work after none wants the settings."""
        idle, walking, due = not self._state.work, bool(self._patrols), self._cycle_due
        assert due is not None
        dues = (due + SLACK if walking else due, self._deacon.deadline(), self._hold.next_look())
        due_at = min(each for each in dues if each is not None)
        if walking and due_at >= due:
            due_at = due + SLACK  # never in the moments in which a watch ends, after which the rest is seen to anew
        self._state.deacon.due_at = due_at
        try:
            await workflow.wait_condition(
                lambda: (
                    self._settings_wanted
                    or (idle and bool(self._state.work))
                    or self._patrol_ended
                    or bool(self._patrols) != walking
                    or self._patience.exhausted
                    or self._cycle_wanted
                ),
                timeout=until(due_at),
                timeout_summary="the next cycle, or what is due before it",
            )
        except TimeoutError:
            self._cycle_wanted = True
            return
        if idle and self._state.work:
            self._settings_wanted = True

    @property
    def _cycle_due(self) -> datetime | None:
        return self._cycle_at + self._interval if self._cycle_at else None

    async def _check_in(self) -> None:
        """Ping the Deacon; with work read the settings too, unless they are being read."""
        ping = self._state.ping()
        request = CheckIn(ping=ping, read=bool(self._state.work) and not self._settings_wanted)
        try:
            found = await workflow.execute_local_activity_method(
                RoundActivities.check_in, request, **activity_options.check_in()
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            found = CheckedIn(unread=str(error.cause))
        if found.unread:
            workflow.logger.warning("the record of %s is unreadable: %s", self._state.rig, found.unread)
        if found.facts is not None:
            self._state.settings, self._state.facts = found.facts.settings, found.facts
        self._deacon.heard(ping, found.pong)

    async def _read_settings(self) -> bool:
        """Read the rig's facts; with the record unreadable the last ones hold, and the answer is False."""
        self._settings_wanted = False
        try:
            facts = await workflow.execute_activity_method(
                LedgerActivities.load_rig,
                RigName(rig=self._state.rig),
                summary=f"settings of {self._state.rig}",
                **activity_options.ledger_ask(),
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            workflow.logger.warning("the record of %s is unreadable: %s", self._state.rig, error.cause)
            return False
        self._state.settings, self._state.facts = facts.settings, facts
        return True

    # --- patrols --------------------------------------------------------------------------------

    def _resume(self) -> None:
        self._state.stopped, self._state.stop_reason = False, ""
        self._watch_hosts()
        self._show()

    def _watch_hosts(self) -> None:
        """Give each host with work a patrol, at once: nothing slow may stand before it."""
        for host in sorted(self._state.hosts_to_watch):
            if host not in self._patrols and not self._leaving:
                self._state.watches.setdefault(host, HostWatch(begun_at=workflow.now()))
                self._patrols[host] = asyncio.create_task(self._patrol(host))

    async def _patrol(self, host: str) -> None:
        """Round after round on one host while there is something to watch; ends with the host's last attempt."""
        while host in self._state.hosts_to_watch and not self._leaving:
            due, started = self._next_round(), self._started
            end = await self._rounds.walk(host, due)
            over = end is RoundEnd.IN_TIME or (end is RoundEnd.QUIET and await self._pause(host, due, started))
            if over and host == min(self._patrols):
                self._cycle_wanted = True  # one host's rounds are enough to count by

    def _next_round(self) -> datetime:
        """When the cycle is due that follows this one."""
        now = workflow.now()
        due = None if self._cycle_wanted else self._cycle_due  # one that is wanted begins now
        return due if due is not None and due - now >= SHORT else now + self._interval

    def _reap(self) -> None:
        """Patrols that have ended: one that a bug ended must show, not stop in silence. Letters go out for ever."""
        if self._letters is not None and self._letters.done():
            self._letters.result()
        for host, patrol in list(self._patrols.items()):
            if patrol.done():
                del self._patrols[host]
                patrol.result()
                if not self._state.stopped and host not in self._state.hosts_to_watch:
                    self._state.watches.pop(host, None)

    @property
    def _patrol_ended(self) -> bool:
        return any(patrol.done() for patrol in self._patrols.values())

    async def _pause(self, host: str, due: datetime, started: int) -> bool:
        """A round that ended early with nothing new waits for the rest of its time or for new work.

        Returns:
            Whether that time is over.
        """
        try:
            await workflow.wait_condition(
                lambda: self._started != started or self._leaving or host not in self._state.hosts_to_watch,
                timeout=until(due),
                timeout_summary="the rest of the interval",
            )
        except TimeoutError:
            return True
        return False

    # --- what people see ------------------------------------------------------------------------

    def _show(self) -> None:
        state = self._state
        doing = "stopped" if state.stopped else "watching" if state.work else "idle"
        self._labels.show(role="witness", state=doing, rig=state.rig)
        unwell = {bead: kind for bead, kind in state.status().health.items() if kind != "healthy"}
        rows: dict[str, str | int | None] = {
            "stopped": state.stop_reason or ("yes" if state.stopped else None),
            "hosts": ", ".join(sorted(state.busy_hosts)),
            "lost hosts": ", ".join(state.lost_hosts),
            "work": ", ".join(f"{work.bead} by {work.polecat} ({work.attempt})" for work in state.work.values()),
            "not healthy": ", ".join(f"{bead}: {kind}" for bead, kind in sorted(unwell.items())),
            "restarts paused": state.brake.reason if state.brake else None,
            "Deacon silent for": f"{state.deacon.silent_s:.0f} s" if state.deacon.silent_s else None,
            "interval": f"{state.settings.health.check_interval} s",
        }
        workflow.set_current_details(details(f"Witness of {state.rig}", rows, "gt witness status"))
