"""What a Witness holds its dispatcher to: the brake on restarts, and hosts that are lost."""

from __future__ import annotations

from datetime import datetime, timedelta

from temporalio import workflow

from models import names
from models.errors import Level
from models.job.messages import Observation, ObservationKind, Restraint, WorkEnded, WorkStarted
from models.mayor.alerts import AlertType, Priority
from policies.supervision import restart_breaker
from workflows.shared.signals import tell
from workflows.supervision.witness_faults import Faults
from workflows.supervision.witness_state import WitnessState

BRAKE = "brake"


class Hold:
    """Judges starts and deaths, pulls and releases the brake, and keeps the dispatcher told."""

    def __init__(self, state: WitnessState, faults: Faults) -> None:
        self._state = state
        self._faults = faults

    # --- what is heard ----------------------------------------------------------------------------

    def started(self, started: WorkStarted) -> None:
        """An agent was started."""
        self._state.memory = self._state.memory.started(started.bead, started.attempt, workflow.now())

    def ended(self, ended: WorkEnded) -> None:
        """An attempt is over: one that had not proved itself by then will not."""
        self._state.memory = self._state.memory.ended(ended.bead, ended.attempt, workflow.now())

    async def judged(self, seen: Observation) -> Observation:
        """Take an observation into account.

        Returns:
            The observation as its job shall hear it: a death under the brake is held.
        """
        state, now = self._state, workflow.now()
        if seen.kind is ObservationKind.DONE:
            state.memory = state.memory.finished(seen.bead, seen.attempt)
        # A usage limit is waited out by each job; a brake would call a person, who cannot lift it.
        if seen.kind is ObservationKind.DIED and seen.exit_code != 0 and not seen.limited:
            state.memory = state.memory.died(seen.bead, seen.attempt, now, shared_cause=seen.shared_cause)
            if state.brake is None and restart_breaker.pulls(state.memory, self._living, now):
                await self._pull()
        deadly = seen.kind in {ObservationKind.DIED, ObservationKind.UNRESPONSIVE}
        return seen.model_copy(update={"hold": True}) if deadly and state.brake is not None else seen

    async def _pull(self) -> None:
        state = self._state
        state.brake = restart_breaker.pulled(
            state.memory, self._living, workflow.now(), state.settings.recovery.retry_delay
        )
        self._faults.begin(
            BRAKE,
            AlertType.POLECAT_UNRESPONSIVE,
            f"{state.rig}: restarts are paused: {state.brake.reason}",
            level=Level.L3,
            severity=Priority.CRITICAL,
            evidence=", ".join(sorted(restart_breaker.fallen(state.memory, workflow.now()))),
            tried="a restart of each; one more is tried from time to time, and when it lives restarts go on",
        )
        await self.post()

    # --- while it is pulled -----------------------------------------------------------------------

    async def look(self) -> None:
        """Release the brake when a start under it has proved itself, else try one more when it is time."""
        state, now = self._state, workflow.now()
        state.memory = state.memory.forgotten(self._living, now)
        if state.brake is None:
            return
        if restart_breaker.released(state.brake, state.memory, now):
            await self.release("an agent that was started under the brake lives")
            return
        probed = restart_breaker.probed(state.brake, now, state.settings.recovery.max_delay)
        if probed is not state.brake:
            state.brake = probed
            await self.post()

    async def release(self, reason: str) -> None:
        """Restarts go on, and are judged by what comes from now on."""
        state = self._state
        if state.brake is None:
            return
        state.brake, state.memory = None, restart_breaker.Memory()
        self._faults.end(BRAKE, reason)
        await self.post()

    def next_look(self) -> datetime | None:
        """When something may have changed by itself; None while the brake is not pulled."""
        if self._state.brake is None:
            return None
        return restart_breaker.next_look(self._state.brake, self._state.memory, workflow.now())

    # --- lost hosts -------------------------------------------------------------------------------

    async def lose(self, host: str, waited: timedelta) -> None:
        """No worker of the host takes its watch: nothing is placed there, and jobs there move on if they can."""
        state = self._state
        state.watches[host].lost = True
        beads = sorted(started.bead for started in state.work.values() if started.host == host)
        others = sorted(set(state.facts.hosts if state.facts else ()) - set(state.lost_hosts))
        fate = f"they go on at {', '.join(others)}" if others else "there is no other host for them"
        self._faults.begin(
            f"host_lost {host}",
            AlertType.HOST_LOST,
            f"{host} is lost: no worker there for {waited.total_seconds():.0f} s; "
            f"{len(beads)} jobs of {state.rig} were there: {fate}",
            level=Level.L4,
            severity=Priority.CRITICAL,
            evidence=", ".join(beads),
        )
        await self.post()

    async def regain(self, host: str) -> None:
        """A worker of the host works again."""
        self._state.watches[host].lost = False
        self._faults.end(f"host_lost {host}", f"{host} works again")
        await self.post()

    # --- the dispatcher ---------------------------------------------------------------------------

    @property
    def active(self) -> bool:
        """Something is held back, so the dispatcher is told again each cycle."""
        return self._state.brake is not None or bool(self._state.lost_hosts)

    async def post(self) -> None:
        """Tell the dispatcher the whole of it. One that does not run has nothing to be held to."""
        state = self._state
        restraint = Restraint(
            braked=state.brake.reason if state.brake else "",
            probes=state.brake.probes if state.brake else 0,
            lost_hosts=state.lost_hosts,
        )
        await tell(names.dispatch_id(state.rig), "restrain", restraint)

    @property
    def _living(self) -> frozenset[str]:
        return frozenset(self._state.work)
