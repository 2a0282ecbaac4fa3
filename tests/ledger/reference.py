"""What the ledger shall do, in memory and in few words: the reference that the real one is compared with."""

from __future__ import annotations

from dataclasses import dataclass, field

from models.ledger.records import BeadStatus, JobState, JobWrite


class Refused(Exception):
    """The ledger must refuse this."""


@dataclass
class BeadModel:
    title: str
    priority: int
    status: BeadStatus = BeadStatus.OPEN
    assignee: str | None = None
    close_reason: str | None = None
    merged_sha: str | None = None
    needs: set[str] = field(default_factory=set)
    labels: set[str] = field(default_factory=set)
    comments: list[str] = field(default_factory=list)


@dataclass
class Reference:
    """Beads by id, in the order of their making; of each job its newest write, and all that were taken."""

    beads: dict[str, BeadModel] = field(default_factory=dict)
    jobs: dict[str, JobWrite] = field(default_factory=dict)
    events: dict[str, dict[tuple[int, int], str]] = field(default_factory=dict)

    def create(self, bead: str, title: str, priority: int, needs: set[str]) -> None:
        assert bead not in self.beads, "an id was given twice"
        self.beads[bead] = BeadModel(title=title, priority=priority, needs=set(needs))

    def works(self, bead: str) -> bool:
        return bead in self.jobs and not self.jobs[bead].state.final

    def retitle(self, bead: str, title: str) -> None:
        self.beads[bead].title = title

    def set_status(self, bead: str, status: BeadStatus) -> None:
        known = self.beads[bead]
        if status is known.status:
            return
        if self.works(bead) or status in {BeadStatus.HOOKED, BeadStatus.SUBMITTED}:
            raise Refused
        known.status, known.close_reason, known.merged_sha = status, None, None

    def close(self, bead: str, reason: str) -> None:
        known = self.beads[bead]
        if known.status is BeadStatus.CLOSED:
            return
        if self.works(bead):
            raise Refused
        known.status, known.close_reason = BeadStatus.CLOSED, reason

    def reopen(self, bead: str) -> None:
        known = self.beads[bead]
        if known.status is not BeadStatus.CLOSED:
            return
        if self.works(bead):
            raise Refused
        known.status, known.close_reason, known.merged_sha, known.assignee = BeadStatus.OPEN, None, None, None

    def depend(self, bead: str, needs: str) -> None:
        if bead == needs or bead in self._reachable(needs):
            raise Refused
        self.beads[bead].needs.add(needs)

    def _reachable(self, bead: str) -> set[str]:
        seen: set[str] = set()
        stack = [bead]
        while stack:
            for need in self.beads[stack.pop()].needs - seen:
                seen.add(need)
                stack.append(need)
        return seen

    def job_writes(self, write: JobWrite) -> None:
        """Taken only when it is newer than all before it; a closed bead stays closed."""
        last = self.jobs.get(write.bead)
        if last is not None and (write.attempt, write.sequence) <= (last.attempt, last.sequence):
            return
        self.jobs[write.bead] = write
        self.events.setdefault(write.bead, {})[write.attempt, write.sequence] = write.event
        known = self.beads[write.bead]
        if known.status is BeadStatus.CLOSED:
            known.merged_sha = known.merged_sha or write.merged_sha
            return
        known.status = write.bead_status
        known.merged_sha = write.merged_sha or known.merged_sha
        if write.bead_status in {BeadStatus.OPEN, BeadStatus.DEFERRED}:
            known.assignee = None
        elif write.polecat is not None:
            known.assignee = f"{write.rig}/{write.polecat}"
        if write.state is JobState.MERGED:
            known.close_reason = "merged"

    def ready(self) -> list[str]:
        """Open, needing nothing that is not closed; urgent first, then oldest first."""
        is_ready = [
            bead
            for bead, known in self.beads.items()
            if known.status is BeadStatus.OPEN
            and all(self.beads[need].status is BeadStatus.CLOSED for need in known.needs)
        ]
        return sorted(is_ready, key=lambda bead: self.beads[bead].priority)
