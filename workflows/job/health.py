"""What a job makes of a living agent's health: marks that come and go while the session stays."""

from __future__ import annotations

from temporalio import workflow

from models.job.messages import Observation
from models.ledger.records import JobState
from models.mayor.alerts import AlertType
from workflows.job.reporting import Job
from workflows.job.state import PolecatState

STUCK = AlertType.POLECAT_STUCK.value


class JobHealth:
    """Stale, stuck, recovered. Each told again changes nothing."""

    def __init__(self, state: PolecatState, job: Job) -> None:
        self._state = state
        self._job = job

    def stale(self, seen: Observation) -> None:
        """The heartbeat is too old: marked, and given its grace."""
        job = self._state
        if job.stale_since is None:
            job.stale_since = workflow.now()
            self._job.show("the stale agent to beat again")
            self._job.record("stale", seen.detail)

    async def stuck(self, seen: Observation) -> None:
        """No progress: HELP for a person, while the session stays as it is."""
        job = self._state
        if STUCK in job.faults:
            return
        what = _first_line(seen.detail) or "no progress"
        await self._job.raise_fault(STUCK, f"{job.polecat} is stuck on {job.bead}: {what}", evidence=seen.detail)
        self._job.show("the stuck agent, or a person")
        self._job.record("stuck", seen.detail)

    async def recovered(self, seen: Observation) -> None:
        """It works again, by itself: marks go, and nobody needs to come."""
        job = self._state
        if not job.health:
            return
        job.stale_since = None
        await self._job.end_faults(f"{job.polecat} works again", STUCK)
        self._job.enter(JobState.WORKING, "the agent")
        self._job.record("recovered", seen.detail)

    async def forget(self, reason: str) -> None:
        """The attempt is over: so is whatever was wrong with its agent."""
        self._state.stale_since = None
        await self._job.end_faults(reason, STUCK)


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
