"""What a rig's dispatcher carries from run to run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.job.messages import DispatchFacts, DispatchJob, DispatchStatus, Restraint, SlotGrant, SlotRequest
from models.ledger.records import JobRow, JobState
from policies.dispatch.allocation import Allocation, HeldPolecat, WaitingJob, allocate
from policies.dispatch.room import JOBS_BYTES, job_bytes, room_for

REMEMBERED = 200
"""merged beads that are known as closed here before the record may say so, and beads whose job may still be ending"""


class DispatchedJob(BaseModel):
    """One unfinished job, as its dispatcher knows it."""

    model_config = ConfigDict(extra="ignore")

    bead: str
    arrival: int
    priority: int = 2
    started: bool = True
    """False while its workflow is being started"""
    state: JobState = JobState.WAITING
    polecat: str | None = None
    host: str | None = None
    holds_slot: bool = False
    attempt: int = 0
    """the newest attempt that a slot was granted for"""
    request: SlotRequest | None = None
    """set while it asks for a slot"""
    open_dependencies: tuple[str, ...] | None = None
    """None: not known yet"""
    rig_known: str | None = None
    """where the job takes the rig to be (`Rig.whereabouts`); None: it has not said"""

    def waiting(self) -> WaitingJob | None:
        """As the allocation sees it; None while it asks for nothing."""
        request = self.request
        if request is None:
            return None
        return WaitingJob(
            bead=self.bead,
            priority=request.priority,
            rework=request.rework,
            arrival=self.arrival,
            ready=self.open_dependencies == (),
            polecat=request.polecat,
            host=request.host,
            avoid_polecat=request.avoid_polecat,
            avoid_host=request.avoid_host,
        )

    def held(self) -> HeldPolecat | None:
        """The polecat that is this job's; None before its first slot."""
        if self.polecat is None or self.host is None:
            return None
        return HeldPolecat(bead=self.bead, polecat=self.polecat, host=self.host, living=self.holds_slot)

    def grant(self, allocation: Allocation) -> SlotGrant:
        """Note what is granted, before the job hears of it."""
        assert self.request is not None
        self.attempt, self.request, self.holds_slot, self.state = self.request.attempt, None, True, JobState.STARTING
        self.polecat, self.host = allocation.polecat, allocation.host
        return SlotGrant(polecat=allocation.polecat, host=allocation.host, attempt=self.attempt)

    def reserve(self, allocation: Allocation) -> SlotGrant:
        """Keep a slot for a job that is being started; which attempt that will be, its start finds out."""
        self.holds_slot, self.state = True, JobState.STARTING
        self.polecat, self.host = allocation.polecat, allocation.host
        return SlotGrant(polecat=allocation.polecat, host=allocation.host)

    def take_back(self, grant: SlotGrant) -> None:
        """The job has not heard of this grant, and never will."""
        if self.state is JobState.STARTING and (self.polecat, self.attempt) == (grant.polecat, grant.attempt):
            self.state, self.holds_slot, self.attempt = JobState.WAITING, False, 0
            self.polecat = self.host = None

    def begin_with(self, slot: SlotGrant, reserved: SlotGrant | None) -> None:
        """Its workflow began with this slot, whichever was kept for it; what the job has said itself since holds."""
        if reserved is not None:
            self.take_back(reserved)
        if self.state is JobState.WAITING and self.request is None and self.polecat is None:
            self.state, self.holds_slot = JobState.STARTING, True
            self.polecat, self.host = slot.polecat, slot.host
        self.attempt = max(self.attempt, slot.attempt)

    def waits_for(self, paused: bool, restraint: Restraint) -> str:
        """For people: what keeps it from working."""
        if self.request is None:
            return "" if self.holds_slot else self.state.value
        if self.open_dependencies is None:
            return "its dependencies are being read"
        if self.open_dependencies:
            return "dependencies: " + ", ".join(self.open_dependencies)
        if self.request.host in restraint.lost_hosts:
            return f"its host {self.request.host}, which is lost"
        if restraint.braked:
            return "restarts, which are paused"
        return "dispatch is paused" if paused else "a slot"


class DispatchState(BaseModel):
    """All that a DispatchWorkflow knows. A bare `{"rig": …}` is a fresh one.

    Changed in place by its only holder, the workflow.
    """

    model_config = ConfigDict(extra="ignore")

    rig: str
    facts: DispatchFacts | None = None
    """the last that could be read; its dependencies are kept with the jobs instead"""
    refinery_knows: str | None = None
    """the rig's URL and branch as they were read last; where they change, the Refinery is told"""
    pauses: dict[str, str] = Field(default_factory=dict)
    """why no slot is granted, by who said so: the disk's pause ends without a person's"""
    restraint: Restraint = Restraint()
    probes_granted: int = 0
    """starts under the brake that were used, of those that the restraint allows"""
    arrivals: int = 0
    jobs: dict[str, DispatchedJob] = Field(default_factory=dict)
    """by bead"""
    merged: list[str] = Field(default_factory=list)
    """beads merged lately"""
    ended: list[str] = Field(default_factory=list)
    """beads whose job has said that it ends; its workflow may run on until the record has all of it"""
    waits_in_ledger: bool = False
    """beads were slung for which there was no room"""
    capacity: int = JOBS_BYTES
    """of all jobs, as `policies.dispatch.room` counts"""
    patience: int = 1000
    """messages after which a run hands over"""

    @model_validator(mode="before")
    @classmethod
    def _of_one_pause(cls, carried: Any) -> Any:
        """A run of before `pauses` knew of one pause alone."""
        if isinstance(carried, dict) and carried.get("paused") and "pauses" not in carried:
            return {**carried, "pauses": {carried.get("paused_by", ""): carried.get("pause_reason", "")}}
        return carried

    def job(self, bead: str) -> DispatchedJob:
        """The job of a bead; one that was not known is known from here on."""
        if bead not in self.jobs:
            self.arrivals += 1
            self.jobs[bead] = DispatchedJob(bead=bead, arrival=self.arrivals)
        return self.jobs[bead]

    def room_beside(self, bead: str) -> int:
        """Bytes that the job of this bead may take."""
        return self.capacity - sum(self._sizes(but=bead))

    @property
    def room(self) -> int:
        """How many jobs come in from the ledger now."""
        whereabouts = self.facts.rig.whereabouts if self.facts else ""
        return room_for(self._sizes(), job_bytes(whereabouts, ()), self.capacity)

    def _sizes(self, but: str = "") -> Iterator[int]:
        whereabouts = self.facts.rig.whereabouts if self.facts else ""
        jobs = (job for job in self.jobs.values() if job.bead != but)
        return (job_bytes(job.rig_known or whereabouts, job.open_dependencies or ()) for job in jobs)

    def take_up(self, row: JobRow) -> bool:
        """Note what the record knows of a job that goes on.

        Returns:
            Whether its polecat stays its own: False where another has the name.
        """
        job = self.job(row.bead)
        if row.polecat is None or any(each is not job and each.polecat == row.polecat for each in self.jobs.values()):
            return False
        job.polecat, job.host, job.attempt, job.state = row.polecat, row.host, row.attempt, row.state
        job.holds_slot = row.state in {JobState.STARTING, JobState.WORKING}
        return True

    def misinformed(self) -> list[DispatchedJob]:
        """Jobs that do not know where the rig is by now."""
        if self.facts is None:
            return []
        known = {None, self.facts.rig.whereabouts}
        return [job for job in self.jobs.values() if job.started and job.rig_known not in known]

    def depend(self, bead: str, open_dependencies: tuple[str, ...]) -> None:
        """The record names these dependencies as open; what was merged since is not."""
        if bead in self.jobs:
            still = tuple(other for other in open_dependencies if other not in self.merged)
            self.jobs[bead].open_dependencies = still

    def merge(self, bead: str) -> None:
        """A bead was merged: nobody waits for it any more."""
        self.merged.append(bead)
        del self.merged[:-REMEMBERED]
        for job in self.jobs.values():
            if job.open_dependencies is not None:
                job.open_dependencies = tuple(other for other in job.open_dependencies if other != bead)

    def restrain(self, restraint: Restraint) -> None:
        """Take over what the Witness holds the rig to. Starts that it allowed and nobody used do not add up."""
        if not (restraint.braked and self.restraint.braked) or restraint.probes < self.restraint.probes:
            self.probes_granted = 0
        self.probes_granted = max(self.probes_granted, restraint.probes - 1)
        self.restraint = restraint

    @property
    def paused(self) -> bool:
        return bool(self.pauses)

    @property
    def pause_reason(self) -> str:
        """For people: every reason that was given."""
        return "; ".join(reason for reason in self.pauses.values() if reason)

    @property
    def lost_hosts(self) -> frozenset[str]:
        return frozenset(self.restraint.lost_hosts)

    @property
    def usable_hosts(self) -> tuple[str, ...]:
        """Where new polecats may be placed."""
        return tuple(host for host in self.facts.hosts if host not in self.lost_hosts) if self.facts else ()

    def allocation(self) -> tuple[Allocation, ...]:
        """Who gets a slot now; under the brake no more than the starts that are left to try."""
        if self.facts is None or self.paused:
            return ()
        jobs = self.jobs.values()
        granted = allocate(
            tuple(waiting for job in jobs if (waiting := job.waiting()) and waiting.host not in self.lost_hosts),
            tuple(held for job in jobs if (held := job.held())),
            self.facts.rig.max_polecats,
            self.usable_hosts,
        )
        if not self.restraint.braked:
            return granted
        return granted[: max(self.restraint.probes - self.probes_granted, 0)]

    def status(self) -> DispatchStatus:
        """Answer of the query `status`."""
        return DispatchStatus(
            rig=self.rig,
            paused=self.paused,
            pause_reason=self.pause_reason,
            braked=self.restraint.braked,
            max_polecats=self.facts.rig.max_polecats if self.facts else 0,
            jobs=tuple(
                DispatchJob(
                    bead=job.bead,
                    polecat=job.polecat,
                    host=job.host,
                    holds_slot=job.holds_slot,
                    waits_for=job.waits_for(self.paused, self.restraint),
                )
                for job in self.jobs.values()
            ),
        )
