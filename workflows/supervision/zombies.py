"""What a Witness does about sessions whose job is over or has gone on elsewhere: work is parked, then they go."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

from activities.sessions.cleanup import CleanupActivities
from activities.temporal import TownActivities
from models import names
from models.errors import Level
from models.job.attempts import WatchReport
from models.job.health import Zombie
from models.job.messages import WorkflowIds
from models.mayor.alerts import AlertType, Priority
from models.upkeep.cleanup import CleanUp
from workflows.shared import activity_options
from workflows.supervision.witness_faults import Faults
from workflows.supervision.witness_state import WitnessState

GRACE_S = 15.0
"""A session that its own job is just ending is seen as a zombie for a moment."""
STRANGER_GRACE = timedelta(minutes=15)
"""Jobs tell of their sessions every ten minutes; whose has not by then is asked for."""
TRIES = 3
"""cleanups that did not help before a person is called"""


class Zombies:
    """Finds them in reports and has them cleaned up, each once at a time, beside the patrol."""

    def __init__(self, state: WitnessState, faults: Faults) -> None:
        self._state = state
        self._faults = faults
        self._under_way: dict[str, asyncio.Task[None]] = {}

    @property
    def at_rest(self) -> bool:
        """No cleanup is under way."""
        return not self._under_way

    async def look(self, host: str, report: WatchReport, presumed: dict[str, int]) -> None:
        """Have what has been a zombie for a while cleaned up; ask for jobs of sessions that nobody speaks of.

        Args:
            presumed: `presumed_over` as it was when the report was asked for.
        """
        seen = {_key(host, zombie): zombie for zombie in report.zombies}
        self._forget(host, set(seen))
        for key, zombie in seen.items():
            if zombie.age_s >= GRACE_S and key not in self._under_way and not self._spoken_for(zombie, presumed):
                self._under_way[key] = asyncio.create_task(self._clean(key, host, zombie))
        self._note_strangers(report)
        await self.ask_for_strangers(STRANGER_GRACE)

    async def ask_for_strangers(self, grace: timedelta) -> None:
        """Sessions unknown for longer than `grace`: where no job runs, their attempt is over."""
        state, now = self._state, workflow.now()
        asked = {
            names.polecat_id(state.rig, bead): bead for bead, since in state.strangers.items() if now - since >= grace
        }
        if not asked:
            return
        running = await workflow.execute_activity_method(
            TownActivities.running_workflows,
            WorkflowIds(ids=tuple(asked)),
            summary=f"do {len(asked)} jobs run of which there are sessions?",
            **activity_options.control(),
        )
        attempts = {
            bead: found.attempt for watch in state.watches.values() for bead, found in watch.report.health.items()
        }
        for workflow_id, bead in asked.items():
            if state.strangers.pop(bead, None) and workflow_id not in running.ids and bead in attempts:
                state.presume_over(bead, attempts[bead])

    def _note_strangers(self, report: WatchReport) -> None:
        state = self._state
        for bead, found in report.health.items():
            if bead not in state.work and found.attempt > state.over_up_to(bead):
                state.strangers.setdefault(bead, workflow.now())

    def _spoken_for(self, zombie: Zombie, presumed: dict[str, int]) -> bool:
        """Its job has spoken while the report was made, which does not know of that."""
        bead, attempt = zombie.bead, zombie.attempt
        return presumed.get(bead, 0) >= attempt > self._state.over_up_to(bead)

    async def _clean(self, key: str, host: str, zombie: Zombie) -> None:
        try:
            await self._clean_up(key, host, zombie)
        finally:
            self._under_way.pop(key, None)

    async def _clean_up(self, key: str, host: str, zombie: Zombie) -> None:
        state = self._state
        if state.facts is None:
            return  # which remote to park at is not known before the record could be read
        reason = zombie.reason or "its job is over"
        state.cleanings[key] = state.cleanings.get(key, 0) + 1
        try:
            cleaned = await workflow.execute_activity_method(
                CleanupActivities.clean_up,
                CleanUp(
                    rig=state.facts.rig,
                    polecat=zombie.polecat,
                    bead=zombie.bead,
                    attempt=zombie.attempt,
                    cause=reason,
                ),
                summary=f"clean up attempt {zombie.attempt} of {zombie.bead} on {host}: {reason}"[:200],
                **activity_options.cleanup(host),
            )
            problem = cleaned.kept_reason
        except ActivityError as error:
            problem = str(error.cause or error)
        if problem:
            workflow.logger.warning("%s is not cleaned up: %s", key, problem)
        if problem and state.cleanings[key] >= TRIES:
            message = f"{zombie.polecat} on {host} is not cleaned up after {zombie.bead}: {problem}"
            self._faults.begin(
                f"zombie {key}", AlertType.POLECAT_ZOMBIE, message, level=Level.L2, severity=Priority.MEDIUM
            )

    def _forget(self, host: str, seen: set[str]) -> None:
        """Those that are gone need nobody any more."""
        for key in [key for key in self._state.cleanings if key.startswith(f"{host}/") and key not in seen]:
            del self._state.cleanings[key]
            self._faults.end(f"zombie {key}", "it is cleaned up")


def _key(host: str, zombie: Zombie) -> str:
    return f"{host}/{zombie.polecat}/{zombie.bead}/{zombie.attempt}"
