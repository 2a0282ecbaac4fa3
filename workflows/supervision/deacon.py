"""The Deacon: a town's second-order watch. It watches every long-lived workflow, and is watched by
the Witnesses, whose pings it answers, and by Boot."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.cycle_checks import RoundActivities
    from activities.temporal import TownActivities
    from models import names
    from models.job.messages import Decision, DecisionKind, RigName
    from models.names import WorkflowType
    from models.refinery.messages import PauseRequest
    from models.settings import Settings
    from models.supervision.messages import (
        CheckResult,
        DeaconPong,
        DeaconStatus,
        LookAround,
        LookedAround,
        RestartWorkflow,
        WitnessPing,
    )
    from policies.supervision.town_checks import edges
    from policies.supervision.watchdog import Limits, Watch, judge
    from workflows.shared import activity_options
    from workflows.shared.web_ui import Labels, details
    from workflows.supervision.deacon_state import DeaconState

from workflows.shared.continue_as_new import Patience
from workflows.shared.timers import until
from workflows.supervision.deacon_reports import Post
from workflows.supervision.town_checks import TownChecks

SECOND_LOOK = timedelta(seconds=5)
"""after a cycle that left somebody in doubt"""
LOOKS_S = 5.0
"""what the looks of a cycle take; what is longer is not counted as watched"""
GAP_S = 30.0
"""a Deacon that comes back later than this was away"""
FINISH_S = 90.0
"""what a run that hands over may have to wait for: a rescue, an announcement"""
LOOK = timedelta(minutes=1)
RESTARTS = timedelta(minutes=1)


@workflow.defn(name=WorkflowType.DEACON)
class DeaconWorkflow:
    """One per town, for ever: a cycle of looks, verdicts and what follows from them. All it knows is in DeaconState."""

    @workflow.init
    def __init__(self, state: DeaconState | None = None) -> None:
        self._state = state or DeaconState()
        self._watches = dict(self._state.watches)
        self._town = TownChecks(self._state.town)
        self._checks: tuple[CheckResult, ...] = ()
        self._post = Post(self._state)
        self._patience = Patience(self._state.patience)
        self._labels = Labels()
        self._next: datetime | None = None
        self._cycle_at: datetime | None = None
        self._expected_s = 0.0
        """what the present phase of the loop should take at most"""
        self._borne_s = 0.0
        """how much longer it may take without meaning that nobody watched; not counted as watched either"""
        self._asked = 0
        self._seen = 0
        """pings of Boot that the loop has come by"""

    @workflow.run
    async def run(self, state: DeaconState | None = None) -> None:
        """Cycle after cycle, until the run hands over."""
        due = True
        while not self._patience.exhausted:
            self._seen = self._asked
            if not self._state.stopped and (due or self._next is None):
                await self._cycle()
            if self._state.stopped:
                await self._town.release_dispatchers(self._state.facts)
            else:
                await self._weigh()
            self._show()
            due = await self._rest()
        self._begin(LOOKS_S, borne_s=FINISH_S)
        await asyncio.gather(self._town.finished(), self._post.finished())
        self._begin(0.0)
        self._seen = self._asked
        await workflow.wait_condition(workflow.all_handlers_finished)
        workflow.continue_as_new(self.state())

    # --- messages -----------------------------------------------------------------------------

    @workflow.signal(description="WITNESS_PING: a Witness lives; answered by the query `pong`")
    def witness_ping(self, ping: WitnessPing) -> None:
        self._patience.count()
        known = self._watch_of(ping.witness, pings=True)
        self._watches[ping.witness] = known.hear(ping, self._now_s)
        self._town.memory = self._town.memory.patrol_heard(ping.rig, ping.hosts)

    @workflow.query(description="The last ping that was heard of a rig's Witness; 0: none yet")
    def pong(self, asked: RigName) -> DeaconPong:
        known = self._watches.get(names.witness_id(asked.rig))
        return DeaconPong(number=known.ping if known else 0)

    @workflow.update(description="Judge nobody until `start`; pings are still answered")
    def stop(self, request: PauseRequest) -> DeaconStatus:
        self._patience.count()
        self._amend(stopped=True, stop_reason=request.reason or f"stopped by {request.by or 'a person'}")
        return self.status()

    @workflow.update(description="Watch again; everybody gets fresh limits")
    def start(self) -> DeaconStatus:
        self._patience.count()
        if self._state.stopped:
            self._amend(stopped=False, stop_reason="")
            self._forgive()
            self._next = None
        return self.status()

    @workflow.signal(description="The Mayor: what a person decided about one of the Deacon's escalations")
    def decision(self, decision: Decision) -> None:
        self._patience.count()
        for name, watch in self._watches.items():
            if decision.escalation in watch.told and decision.kind is DecisionKind.RETRY:
                self._watches[name] = watch.pardon()

    @workflow.update(description="Boot's ping: answered by the loop, not by the handler alone")
    async def ping(self) -> None:
        self._patience.count()
        self._asked += 1
        mine = self._asked
        await workflow.wait_condition(lambda: self._seen >= mine)

    @workflow.query(description="What a fresh run would go on from")
    def state(self) -> DeaconState:
        return self._state.model_copy(
            update={"watches": self._watches, "town": self._town.memory, **self._post.carried()}
        )

    @workflow.query(description="Who is watched, and how each stands")
    def status(self) -> DeaconStatus:
        return DeaconStatus(
            stopped=self._state.stopped,
            stop_reason=self._state.stop_reason,
            cycles=self._state.cycles,
            cycle_at=self._cycle_at,
            watched_s=self._now_s,
            watched=tuple(watch.status(self._now_s) for _, watch in sorted(self._watches.items())),
            checks=self._checks,
        )

    # --- the loop -----------------------------------------------------------------------------

    async def _cycle(self) -> None:
        """Look at everybody, judge, act, and report."""
        self._cycle_at = workflow.now()
        self._begin(LOOKS_S)
        if self._state.facts is not None:
            self._town.look_at_hosts(self._state.facts)
        found = await self._look_around()
        self._begin(LOOKS_S)
        if found.facts is not None:
            self._amend(facts=found.facts)
        self._town.looked_around(found, self._now_s)
        newcomers = self._meet()
        for probe in found.probes or ():
            if probe.workflow_id in self._watches:
                self._watches[probe.workflow_id] = self._watches[probe.workflow_id].look(probe, self._now_s)
        await self._judge()
        await self._town.show_witnesses()
        self._town.rescue_wedged()
        self._amend(cycles=self._state.cycles + 1)
        self._next = workflow.now() + self._pause(newcomers)

    async def _rest(self) -> bool:
        """Until the next cycle is due, or a message needs the loop.

        Returns:
            Whether the cycle is due: its timer says so, for a replay may see another time than a query did.
        """
        stopped = self._state.stopped
        due = None if stopped or self._next is None else until(self._next)
        self._begin(due.total_seconds() if due else 0.0)
        over = True
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: (
                    self._asked != self._seen
                    or self._state.stopped != stopped
                    or (self._town.fresh and not stopped)
                    or self._patience.exhausted
                ),
                timeout=due,
                timeout_summary="the next cycle",
            )
            over = False
        self._begin(0.0)
        return over

    def _pause(self, newcomers: bool) -> timedelta:
        """To the next cycle; who is new, in doubt or about to be restarted is looked at sooner."""
        usual = timedelta(seconds=self._settings.health.check_interval)
        waits = [
            timedelta(seconds=watch.restart_due_s - self._now_s)
            for watch in self._watches.values()
            if watch.restart_due_s is not None
        ]
        doubted = any(watch.doubt and not watch.given_up for watch in self._watches.values())
        if newcomers or doubted or self._town.memory.in_doubt:
            waits.append(SECOND_LOOK)
        return max(min([usual, *waits]), timedelta(seconds=1))

    def _begin(self, expected_s: float, borne_s: float = 0.0) -> None:
        """End a phase of the loop and begin the next, which should take no longer than this."""
        clock, gap = self._state.clock.tick(workflow.now(), self._expected_s, GAP_S + self._borne_s)
        self._expected_s, self._borne_s = expected_s, borne_s
        self._amend(clock=clock)
        if gap:
            self._forgive()

    def _forgive(self) -> None:
        """Nobody watched for a while, so nobody is accused of it."""
        self._watches = {name: watch.forgive(self._now_s) for name, watch in self._watches.items()}
        self._town.memory = self._town.memory.forgive(self._now_s)

    # --- looking ------------------------------------------------------------------------------

    async def _look_around(self) -> LookedAround:
        """Read the record, ping everybody, look at the queues; who cannot be asked about is not accused either."""
        rigs = tuple(self._state.facts.rigs) if self._state.facts else ()
        asked = LookAround(ids=tuple(self._expected()), rigs=rigs)
        try:
            return await workflow.execute_activity_method(
                RoundActivities.look_around,
                asked,
                summary=f"settings; do {len(asked.ids)} workflows answer? do {len(rigs)} merge queues get further?",
                **activity_options.pings(LOOK),
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            workflow.logger.warning("the look around failed: %s", error.cause)
            return LookedAround()

    def _expected(self) -> list[str]:
        """The Mayor, and the workflows of every rig that is known."""
        if self._state.facts is None:
            return [names.MAYOR_ID, *(name for name in self._watches if name != names.MAYOR_ID)]
        makers = (names.dispatch_id, names.refinery_id, names.witness_id)
        return [names.MAYOR_ID, *(make(rig) for rig in self._state.facts.rigs for make in makers)]

    def _meet(self) -> bool:
        """Watch whom the record names, and nobody else. Returns: whether there is somebody new."""
        wanted = self._expected()
        newcomers = any(name not in self._watches for name in wanted)
        for name in [name for name in self._watches if name not in wanted]:
            self._post.over(self._watches.pop(name).told, "its rig was removed")
        for name in wanted:
            self._watches[name] = self._watch_of(name, pings=name.startswith("witness/"))
        return newcomers

    def _watch_of(self, workflow_id: str, *, pings: bool) -> Watch:
        return self._watches.get(workflow_id) or Watch.begin(workflow_id, self._now_s, pings=pings)

    # --- judging ------------------------------------------------------------------------------

    async def _judge(self) -> None:
        restarting = []
        for name, watch in list(self._watches.items()):
            verdict = judge(watch, self._now_s, Limits.of(self._settings_of(name)), workflow.random().random())
            judged = verdict.watch
            if verdict.over:
                self._post.over(watch.told, "it does its work again")
            if verdict.report:
                judged = judged.model_copy(update={"told": (*judged.told, self._post.report(verdict))})
            self._watches[name] = judged
            if verdict.restart:
                restarting.append(self._restart(verdict.watch))
        await asyncio.gather(*restarting)

    async def _restart(self, watch: Watch) -> None:
        """Carry out a restart. One that fails is not repeated here: the next cycles find what it left."""
        order = RestartWorkflow(workflow_id=watch.workflow_id, run_id=watch.run_id, reason=f"the Deacon: {watch.down}")
        workflow.logger.warning("restarting %s: %s", watch.workflow_id, watch.down)
        try:
            await workflow.execute_activity_method(
                TownActivities.restart,
                order,
                summary=f"restart {watch.workflow_id}: {watch.down}"[:200],
                **activity_options.pings(RESTARTS),
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            workflow.logger.error("%s could not be restarted: %s", watch.workflow_id, error.cause)

    def _settings_of(self, workflow_id: str) -> Settings:
        facts = self._state.facts
        rig = facts.rigs.get(workflow_id.partition("/")[2]) if facts else None
        return rig.settings if rig else self._settings

    @property
    def _settings(self) -> Settings:
        return self._state.facts.settings if self._state.facts else Settings()

    async def _weigh(self) -> None:
        """What the town checks have brought: what is news goes to the Mayor, and a full disk stops new work."""
        facts = self._state.facts
        self._checks = self._town.results(facts, self._now_s)
        told = self._town.memory.told
        news = edges(self._checks, told, self._town.gone(self._checks, facts))
        opened = {result.key: self._post.failed(result) for result in news.begun}
        still = {key: escalation for key, escalation in told.items() if escalation not in news.over}
        self._town.memory = self._town.memory.model_copy(update={"told": {**still, **opened}})
        for escalation, why in news.over.items():
            self._post.over((escalation,), why)
        await self._town.hold_dispatchers(facts)
        mayor = self._watches.get(names.MAYOR_ID)
        # One that a restart has brought back, or is about to, is told in the usual way alone.
        await self._post.deliver(mayor_works=mayor is None or not mayor.told)

    # --- state and what people see ------------------------------------------------------------

    @property
    def _now_s(self) -> float:
        return self._state.clock.tick(workflow.now(), self._expected_s, GAP_S)[0].watched_s

    def _amend(self, **changes: object) -> None:
        self._state = self._state.model_copy(update=changes)

    def _show(self) -> None:
        status = self.status()
        down = [row for row in status.watched if row.condition == "down"]
        failing = [check for check in status.checks if not check.ok]
        state = "stopped" if status.stopped else "alarmed" if down or failing else "watching"
        self._labels.show(role="deacon", state=state)
        rows: dict[str, str | int | None] = {
            "state": state,
            "why": status.stop_reason,
            "watched": len(status.watched),
            "checks that fail": ", ".join(check.key for check in failing),
            "not well": ", ".join(f"{row.workflow_id} ({row.reason})" for row in down[:20]),
            "untold": len(self._post.letters) or None,
            "not announced": len(self._post.announcements) or None,
        }
        command = "gt deacon start" if status.stopped else "gt deacon status"
        workflow.set_current_details(details("Deacon", rows, command))
