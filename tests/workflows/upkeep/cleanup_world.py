"""A host with polecats to clean up, and their jobs, as stand-ins."""

from __future__ import annotations

from dataclasses import dataclass, field

from temporalio import activity
from temporalio.exceptions import ApplicationError

from models.job.messages import JobStatus
from models.supervision.host_requests import DeliverLetter, ErrandResult, Nudge
from models.upkeep.cleanup import (
    AttemptRef,
    CleanedUp,
    CleanUp,
    InspectPolecats,
    JobsAsked,
    JobStandings,
    PolecatFound,
    PolecatsFound,
)
from tests.workflows.conftest import HOST

_REF = AttemptRef(bead="sh-1", attempt=2)
TOAST = PolecatFound(polecat="toast", host=HOST, session=_REF, session_lives=True, attempts=(_REF,), worktree=_REF)
"""a session, an open attempt and a worktree"""


@dataclass
class CleanupWorld:
    """One host with polecats, and jobs; what was asked of them."""

    found: list[PolecatFound] = field(default_factory=lambda: [TOAST])
    jobs: dict[str, JobStatus] = field(default_factory=dict)
    lets_go_after: int = 2
    """questions after which a job has left its polecat"""
    refuse: str = ""
    asked: int = 0
    cleaned: list[CleanUp] = field(default_factory=list)
    nudged: list[Nudge] = field(default_factory=list)

    @activity.defn
    async def inspect_polecats(self, _request: InspectPolecats) -> PolecatsFound:
        return PolecatsFound(polecats=tuple(self.found))

    @activity.defn
    async def job_standings(self, asked: JobsAsked) -> JobStandings:
        self.asked += 1
        standing = {bead: self.jobs[bead] for bead in asked.beads if bead in self.jobs}
        if self.asked > self.lets_go_after:
            gone = {"polecat": "nux", "attempt": 3}
            standing = {bead: status.model_copy(update=gone) for bead, status in standing.items()}
        return JobStandings(jobs=standing)

    @activity.defn
    async def clean_up(self, request: CleanUp) -> CleanedUp:
        self.cleaned.append(request)
        if self.refuse:
            raise ApplicationError(self.refuse, "L3", "", type="disk_full", non_retryable=True)
        return CleanedUp(session_ended=True, worktree_freed=True, parked_ref="refs/gastown/parked/sh-1/2")

    @activity.defn
    async def nudge(self, request: Nudge) -> ErrandResult:
        self.nudged.append(request)
        if self.refuse:
            raise ApplicationError(self.refuse, "L1", "gt polecat list", type="refused", non_retryable=True)
        return ErrandResult()

    @activity.defn
    async def deliver_letter(self, request: DeliverLetter) -> ErrandResult:
        return ErrandResult(delivered=request.attempt == 2)

    @property
    def activities(self) -> list[object]:
        return [self.inspect_polecats, self.job_standings, self.clean_up, self.nudge, self.deliver_letter]
