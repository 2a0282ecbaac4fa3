"""The ledger against a small reference model: whatever is done in whatever order, on both engines."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from ledger.store import Ledger
from models.errors import ErrorCode, GtError
from models.ledger.records import BeadChanges, BeadStatus, JobState, JobWrite, NewBead
from tests.ledger.records import SHA, a_rig, a_write
from tests.ledger.reference import Reference, Refused

TITLES = st.sampled_from(["Fix it", "שלום 😀", "'; DROP TABLE beads; --", "a\nb", "100% _x_ \\"])
LABELS = st.sampled_from(["ui", "slow", "größe"])
BY_HAND = st.sampled_from([status for status in BeadStatus if status is not BeadStatus.CLOSED])
STATES = {
    JobState.WAITING: BeadStatus.HOOKED,
    JobState.WORKING: BeadStatus.IN_PROGRESS,
    JobState.SUBMITTED: BeadStatus.SUBMITTED,
    JobState.BLOCKED: BeadStatus.BLOCKED,
    JobState.ABANDONED: BeadStatus.DEFERRED,
    JobState.MERGED: BeadStatus.CLOSED,
}


class LedgerMachine(RuleBasedStateMachine):
    """Each example is a rig of its own in one ledger: making a ledger anew would cost more than all else."""

    beads: Bundle[str] = Bundle("beads")
    writes: Bundle[JobWrite] = Bundle("writes")

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self.ledger = ledger
        self.model = Reference()
        self.comments = 0

    @initialize()
    def found(self) -> None:
        self.rig = "r" + uuid.uuid4().hex[:9]
        self.ledger.add_rig(a_rig(self.rig, prefix=self.rig))

    def both(self, real: Callable[[], Any], modelled: Callable[[], None]) -> None:
        """Do it in both; they must agree on whether it is refused."""
        try:
            modelled()
        except Refused:
            with pytest.raises(GtError) as failure:
                real()
            assert failure.value.code is ErrorCode.REFUSED
        else:
            real()

    @rule(target=beads, title=TITLES, priority=st.integers(0, 4), needs=st.lists(beads, max_size=2))
    def create(self, title: str, priority: int, needs: list[str]) -> str:
        new = NewBead(rig=self.rig, title=title, priority=priority, dependencies=tuple(needs))
        bead = self.ledger.create_bead(new).id
        self.model.create(bead, title, priority, set(needs))
        return bead

    @rule(bead=beads, title=TITLES)
    def retitle(self, bead: str, title: str) -> None:
        self.ledger.update_bead(bead, BeadChanges(title=title))
        self.model.retitle(bead, title)

    @rule(bead=beads, status=BY_HAND)
    def set_status(self, bead: str, status: BeadStatus) -> None:
        self.both(
            lambda: self.ledger.update_bead(bead, BeadChanges(status=status)),
            lambda: self.model.set_status(bead, status),
        )

    @rule(bead=beads, reason=st.sampled_from(["wontfix", "done 😀"]))
    def close(self, bead: str, reason: str) -> None:
        self.both(lambda: self.ledger.close_bead(bead, reason), lambda: self.model.close(bead, reason))

    @rule(bead=beads)
    def reopen(self, bead: str) -> None:
        self.both(lambda: self.ledger.reopen_bead(bead), lambda: self.model.reopen(bead))

    @rule(bead=beads, needs=beads)
    def depend(self, bead: str, needs: str) -> None:
        self.both(lambda: self.ledger.add_dependency(bead, needs), lambda: self.model.depend(bead, needs))

    @rule(bead=beads, needs=beads)
    def depend_no_more(self, bead: str, needs: str) -> None:
        self.ledger.remove_dependency(bead, needs)
        self.model.beads[bead].needs.discard(needs)

    @rule(bead=beads, add=st.lists(LABELS, max_size=2), remove=st.lists(LABELS, max_size=1))
    def label(self, bead: str, add: list[str], remove: list[str]) -> None:
        has = self.ledger.change_labels(bead, add=add, remove=remove)
        known = self.model.beads[bead].labels
        known |= set(add)
        known -= set(remove)
        assert set(has) == known

    @rule(bead=beads, twice=st.booleans())
    def comment(self, bead: str, twice: bool) -> None:
        self.comments += 1
        text = f"comment {self.comments}"
        for _ in range(2 if twice else 1):
            self.ledger.add_comment(bead, "ada", text, id=f"{bead}.{self.comments}")
        self.model.beads[bead].comments.append(text)

    @rule(
        target=writes,
        bead=beads,
        attempt=st.integers(1, 3),
        sequence=st.integers(1, 6),
        state=st.sampled_from(list(STATES)),
        polecat=st.sampled_from([None, "toast", "nux"]),
    )
    def job_writes(self, bead: str, attempt: int, sequence: int, state: JobState, polecat: str | None) -> Any:
        write = a_write(
            bead, attempt, sequence, rig=self.rig, state=state, bead_status=STATES[state], polecat=polecat,
            event=state.value, merged_sha=SHA if state is JobState.MERGED else None,
            close_reason="merged" if state is JobState.MERGED else None,
        )  # fmt: skip
        self.ledger.record_job([write])
        self.model.job_writes(write)
        return multiple(write)

    @rule(write=writes)
    def job_writes_again(self, write: JobWrite) -> None:
        """An activity that ran twice, or late."""
        self.ledger.record_job([write])
        self.model.job_writes(write)

    @invariant()
    def the_record_is_what_the_model_says(self) -> None:
        if not hasattr(self, "rig"):
            return
        stored = self.ledger.beads(rig=self.rig)
        assert [bead.id for bead in stored] == list(self.model.beads)
        for bead in stored:
            known = self.model.beads[bead.id]
            assert (bead.title, bead.priority, bead.status) == (known.title, known.priority, known.status)
            assert (bead.assignee, bead.close_reason) == (known.assignee, known.close_reason)
            assert (bead.merged_sha, bead.closed_at is not None) == (
                known.merged_sha,
                known.status is BeadStatus.CLOSED,
            )
            assert (set(bead.dependencies), set(bead.labels)) == (known.needs, known.labels)
        assert [bead.id for bead in self.ledger.ready(rig=self.rig)] == self.model.ready()

    def teardown(self) -> None:
        """What is dear to read is compared once, at the end."""
        if not hasattr(self, "rig"):
            return
        for bead, known in self.model.beads.items():
            assert [comment.text for comment in self.ledger.comments(bead)] == known.comments
            told = {(event.attempt, event.sequence): event.event for event in self.ledger.job_events(bead)}
            assert told == self.model.events.get(bead, {})
        rows = {job.bead: (job.attempt, job.sequence, job.state) for job in self.ledger.jobs(rig=self.rig)}
        assert rows == {bead: (last.attempt, last.sequence, last.state) for bead, last in self.model.jobs.items()}


def test_the_ledger_does_what_the_reference_does(ledger: Ledger) -> None:
    class Machine(LedgerMachine):
        def __init__(self) -> None:
            super().__init__(ledger)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=20, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
