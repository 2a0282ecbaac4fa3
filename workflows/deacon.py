"""The Deacon: a town's second-order watch. It watches every long-lived workflow, and is watched by
the Witnesses, whose pings it answers, and by Boot."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.ledger import LedgerActivities
    from activities.town import TownActivities
    from models import names
    from models.errors import Level
    from models.escalations import Escalation, EscalationCleared
    from models.jobs import WorkflowIds
    from models.names import WorkflowType
    from models.settings import Settings
    from models.supervision import DeaconPong, DeaconStatus, ProbeReport, RestartWorkflow, TownFacts, WitnessPing
    from policies.watchdog import Limits, Verdict, Watch, judge
    from workflows import options
    from workflows.deacon_state import DeaconState, Letter
    from workflows.labels import Labels, details

from workflows.messages import tell
from workflows.patience import Patience

SECOND_LOOK = timedelta(seconds=5)
"""after a cycle that left somebody in doubt"""
LOOKS_S = 5.0
"""what the looks of a cycle take; what is longer is not counted as watched"""
GAP_S = 30.0
"""a Deacon that comes back later than this was away"""
PROBES = timedelta(minutes=1)
RESTARTS = timedelta(minutes=1)


@workflow.defn(name=WorkflowType.DEACON)
class DeaconWorkflow:
    """One per town, for ever: a cycle of looks, verdicts and what follows from them. All it knows is in DeaconState."""

    @workflow.init
    def __init__(self, state: DeaconState | None = None) -> None:
        self._state = state or DeaconState()
        self._watches = dict(self._state.watches)
        self._patience = Patience(self._state.patience)
        self._labels = Labels()
        self._next: datetime | None = None
        self._cycle_at: datetime | None = None
        self._expected_s = 0.0
        """what the present phase of the loop should take at most"""
        self._asked = 0
        self._seen = 0
        """pings of Boot that the loop has come by"""

    @workflow.run
    async def run(self, state: DeaconState | None = None) -> None:
        """Cycle after cycle, until the run hands over."""
        while not self._patience.exhausted:
            self._seen = self._asked
            if not self._state.stopped and (self._next is None or self._next <= workflow.now()):
                await self._cycle()
            self._show()
            await self._rest()
        self._seen = self._asked
        await workflow.wait_condition(workflow.all_handlers_finished)
        workflow.continue_as_new(self.state())

    # --- messages -----------------------------------------------------------------------------

    @workflow.signal(description="WITNESS_PING: a Witness lives; answered by `deacon_pong`")
    async def witness_ping(self, ping: WitnessPing) -> None:
        self._patience.count()
        known = self._watch_of(ping.witness, pings=True)
        self._watches[ping.witness] = known.hear(ping, self._now_s)
        await tell(ping.witness, "deacon_pong", DeaconPong(number=ping.number))

    @workflow.signal(description="Judge nobody until `start`; pings are still answered")
    def stop(self) -> None:
        self._patience.count()
        self._amend(stopped=True)

    @workflow.signal(description="Watch again; everybody gets fresh limits")
    def start(self) -> None:
        self._patience.count()
        if self._state.stopped:
            self._amend(stopped=False)
            self._forgive()
            self._next = None

    @workflow.update(description="Boot's ping: answered by the loop, not by the handler alone")
    async def ping(self) -> None:
        self._patience.count()
        self._asked += 1
        mine = self._asked
        await workflow.wait_condition(lambda: self._seen >= mine)

    @workflow.query(description="What a fresh run would go on from")
    def state(self) -> DeaconState:
        return self._state.model_copy(update={"watches": self._watches})

    @workflow.query(description="Who is watched, and how each stands")
    def status(self) -> DeaconStatus:
        return DeaconStatus(
            stopped=self._state.stopped,
            cycles=self._state.cycles,
            cycle_at=self._cycle_at,
            watched_s=self._now_s,
            watched=tuple(watch.status(self._now_s) for _, watch in sorted(self._watches.items())),
        )

    # --- the loop -----------------------------------------------------------------------------

    async def _cycle(self) -> None:
        """Look at everybody, judge, act, and report."""
        self._cycle_at = workflow.now()
        self._begin(LOOKS_S)
        facts, report = await asyncio.gather(self._read_facts(), self._probe())
        if facts is not None:
            self._amend(facts=facts)
        self._begin(LOOKS_S)
        newcomers = self._meet()
        for found in report.probes:
            if found.workflow_id in self._watches:
                self._watches[found.workflow_id] = self._watches[found.workflow_id].look(found, self._now_s)
        await self._judge()
        await self._deliver()
        self._amend(cycles=self._state.cycles + 1)
        self._next = workflow.now() + self._pause(newcomers)

    async def _rest(self) -> None:
        """Until the next cycle is due, or a message needs the loop."""
        stopped = self._state.stopped
        due = None if stopped or self._next is None else max(self._next - workflow.now(), timedelta(0))
        self._begin(due.total_seconds() if due else 0.0)
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: self._asked != self._seen or self._state.stopped != stopped or self._patience.exhausted,
                timeout=due,
                timeout_summary="the next cycle",
            )
        self._begin(0.0)

    def _pause(self, newcomers: bool) -> timedelta:
        """To the next cycle; who is new, in doubt or about to be restarted is looked at sooner."""
        usual = timedelta(seconds=self._settings.health.check_interval)
        waits = [
            timedelta(seconds=watch.restart_due_s - self._now_s)
            for watch in self._watches.values()
            if watch.restart_due_s is not None
        ]
        if newcomers or any(watch.doubt and not watch.given_up for watch in self._watches.values()):
            waits.append(SECOND_LOOK)
        return max(min([usual, *waits]), timedelta(seconds=1))

    def _begin(self, expected_s: float) -> None:
        """End a phase of the loop and begin the next, which should take no longer than this."""
        clock, gap = self._state.clock.tick(workflow.now(), self._expected_s, GAP_S)
        self._expected_s = expected_s
        self._amend(clock=clock)
        if gap:
            self._forgive()

    def _forgive(self) -> None:
        """Nobody watched for a while, so nobody is accused of it."""
        self._watches = {name: watch.forgive(self._now_s) for name, watch in self._watches.items()}

    # --- looking ------------------------------------------------------------------------------

    async def _read_facts(self) -> TownFacts | None:
        """Settings and rigs; with the record unreadable the last ones hold."""
        try:
            return await workflow.execute_activity_method(
                LedgerActivities.town_facts, summary="settings and rigs of the town", **options.ledger_ask()
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            workflow.logger.warning("the record is unreadable: %s", error.cause)
            return None

    async def _probe(self) -> ProbeReport:
        """Ping everybody; who cannot be asked about is not accused either."""
        asked = self._expected()
        try:
            return await workflow.execute_activity_method(
                TownActivities.probe,
                WorkflowIds(ids=tuple(asked)),
                summary=f"do {len(asked)} workflows answer?",
                **options.pings(PROBES),
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            workflow.logger.warning("nobody could be asked: %s", error.cause)
            return ProbeReport()

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
            self._clear(self._watches.pop(name), "its rig was removed")
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
            self._watches[name] = verdict.watch
            if verdict.over:
                self._clear(watch, "it does its work again")
            if verdict.report:
                self._report(verdict)
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
                **options.pings(RESTARTS),
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

    # --- the Mayor ----------------------------------------------------------------------------

    def _report(self, verdict: Verdict) -> None:
        watch = verdict.watch
        role, _, rig = watch.workflow_id.partition("/")
        kind = {"witness": "witness_down", "refinery": "refinery_stalled"}.get(role, "escalation")
        escalation = Escalation(
            id=f"{kind}/{watch.workflow_id}/{workflow.now():%Y%m%dT%H%M%S%fZ}",
            kind=kind,
            level=Level.L3.value,
            severity="critical" if verdict.urgent else "high",
            source=names.DEACON_ID,
            rig=rig or None,
            message=f"{watch.workflow_id}: {verdict.report}",
            evidence=watch.detail,
            tried=f"{watch.tries} restarts" if watch.tries else "a restart comes next",
            opened_at=workflow.now(),
        )
        self._watches[watch.workflow_id] = watch.model_copy(update={"told": (*watch.told, escalation.id)})
        self._amend(letters=(*self._state.letters, Letter(escalation=escalation)))

    def _clear(self, watch: Watch, reason: str) -> None:
        letters = [Letter(cleared=EscalationCleared(id=told, reason=reason)) for told in watch.told]
        self._amend(letters=(*self._state.letters, *letters))

    async def _deliver(self) -> None:
        """Hand the letters to the Mayor, in order; what cannot be delivered waits for the next cycle."""
        while self._state.letters:
            letter = self._state.letters[0]
            try:
                await _hand_over(letter)
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
                workflow.logger.error("the Mayor cannot be told: %s", error.cause)
                return
            self._amend(letters=self._state.letters[1:])

    # --- state and what people see ------------------------------------------------------------

    @property
    def _now_s(self) -> float:
        return self._state.clock.tick(workflow.now(), self._expected_s, GAP_S)[0].watched_s

    def _amend(self, **changes: object) -> None:
        self._state = self._state.model_copy(update=changes)

    def _show(self) -> None:
        status = self.status()
        down = [row for row in status.watched if row.condition == "down"]
        state = "stopped" if status.stopped else "alarmed" if down else "watching"
        self._labels.show(role="deacon", state=state)
        rows: dict[str, str | int | None] = {
            "state": state,
            "watched": len(status.watched),
            "not well": ", ".join(f"{row.workflow_id} ({row.reason})" for row in down[:20]),
            "untold": len(self._state.letters) or None,
        }
        command = "gt deacon start" if status.stopped else "gt deacon status"
        workflow.set_current_details(details("Deacon", rows, command))


async def _hand_over(letter: Letter) -> None:
    if letter.escalation is not None:
        summary = f"{letter.escalation.kind}: {letter.escalation.message}"[:200]
        await workflow.execute_activity_method(
            TownActivities.tell_mayor, letter.escalation, summary=summary, **options.control_briefly()
        )
    if letter.cleared is not None:
        await workflow.execute_activity_method(
            TownActivities.clear_escalation,
            letter.cleared,
            summary=f"over: {letter.cleared.id}"[:200],
            **options.control_briefly(),
        )
