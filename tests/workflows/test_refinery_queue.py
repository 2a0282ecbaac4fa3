"""The merge queue as a value: what repeated, late and crossing messages do to it."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from models.jobs import Verdict, VerdictKind
from models.merging import MergeOutcome, QueueItemState
from models.records import MergeRequest
from tests.workflows.merge_world import START, beads, change
from workflows.merge_queue import REMEMBERED, REMEMBERED_DETAIL, MergeQueue, RefineryState

LATER = START + timedelta(hours=1)


def queue_of(*requests: MergeRequest) -> MergeQueue:
    queue = MergeQueue()
    for request in requests:
        assert queue.submit(request) is None
    return queue


def verdict(request: MergeRequest, kind: VerdictKind, detail: str = "") -> Verdict:
    sha = f"sha-{request.bead}" if kind is VerdictKind.MERGED else None
    return Verdict(
        merge_request=request.id,
        bead=request.bead,
        attempt=request.attempt,
        kind=kind,
        merged_sha=sha,
        detail=detail,
    )


def outcome(*verdicts: Verdict, stalled: str = "", could_not_run: str = "") -> MergeOutcome:
    return MergeOutcome(verdicts=verdicts, stalled=stalled, could_not_run=could_not_run)


def waiting(queue: MergeQueue) -> list[str]:
    return [item.id for item in queue.listing(LATER)]


def test_undecided_changes_wait_again_without_a_mark_when_the_merge_went_well() -> None:
    one, two = map(change, beads(2))
    queue = queue_of(one, two)
    queue.take(LATER, 9)
    assert queue.settle(outcome(verdict(one, VerdictKind.FAILED))) == (verdict(one, VerdictKind.FAILED),)
    [item] = queue.listing(LATER)
    assert (item.id, item.state, item.attempts, item.waiting_s) == (two.id, QueueItemState.WAITING, 1, 3600.0)


def test_a_change_submitted_again_while_it_is_merged_is_not_queued_a_second_time() -> None:
    queue = queue_of(change("sh-1"))
    queue.take(LATER, 9)
    assert queue.submit(change("sh-1")) is None
    assert [item.state for item in queue.listing(LATER)] == [QueueItemState.MERGING]


def test_a_change_withdrawn_while_it_is_merged_leaves_when_that_decides_nothing() -> None:
    queue = queue_of(change("sh-1"))
    queue.take(LATER, 9)
    queue.withdraw("sh-1.1")
    assert queue.settle(outcome(stalled="moved")) == ()
    assert waiting(queue) == []


def test_a_change_withdrawn_too_late_still_hears_that_it_is_merged() -> None:
    queue = queue_of(change("sh-1"))
    queue.take(LATER, 9)
    queue.withdraw("sh-1.1")
    merged = verdict(change("sh-1"), VerdictKind.MERGED)
    assert queue.settle(outcome(merged)) == (merged,)


def test_a_change_cleared_while_it_is_merged_goes_back_when_that_decides_nothing() -> None:
    queue = queue_of(change("sh-1"))
    queue.take(LATER, 9)
    assert queue.clear() == ()
    assert [told.kind for told in queue.settle(outcome(could_not_run="killed"))] == [VerdictKind.RETURNED]


def test_a_bead_that_has_just_been_merged_is_not_landed_again_by_its_newer_request() -> None:
    queue = queue_of(change("sh-1"))
    queue.take(LATER, 9)
    queue.submit(change("sh-1", attempt=2))
    told = queue.settle(outcome(verdict(change("sh-1"), VerdictKind.MERGED)))
    assert [(item.merge_request, item.merged_sha) for item in told] == [("sh-1.1", "sha-sh-1"), ("sh-1.2", "sha-sh-1")]
    assert waiting(queue) == []


def test_a_newer_request_waits_while_the_older_one_fails() -> None:
    queue = queue_of(change("sh-1"))
    queue.take(LATER, 9)
    queue.submit(change("sh-1", attempt=2))
    queue.settle(outcome(verdict(change("sh-1"), VerdictKind.FAILED)))
    assert waiting(queue) == ["sh-1.2"]


def test_a_batch_has_one_target_only() -> None:
    other = change("sh-2").model_copy(update={"target": "release"})
    queue = queue_of(change("sh-1"), other, change("sh-3"))
    assert [request.bead for request in queue.take(LATER, 9)] == ["sh-1", "sh-3"]


def test_a_change_that_stalled_alone_is_merged_alone_and_last() -> None:
    queue = queue_of(change("sh-1"))
    queue.take(LATER, 9)
    queue.settle(outcome(stalled="refused"))
    queue.submit(change("sh-2", priority=4))
    queue.submit(change("sh-3", priority=4))
    assert [request.bead for request in queue.take(LATER, 9)] == ["sh-2", "sh-3"]
    queue.settle(outcome(verdict(change("sh-2"), VerdictKind.MERGED), verdict(change("sh-3"), VerdictKind.MERGED)))
    assert [request.bead for request in queue.take(LATER, 9)] == ["sh-1"]


def test_only_the_last_thousand_verdicts_are_remembered() -> None:
    queue = MergeQueue()
    for bead in beads(REMEMBERED + 1):
        queue.submit(change(bead))
        queue.decide(verdict(change(bead), VerdictKind.MERGED))
    assert len(queue.decided) == REMEMBERED
    assert queue.submit(change("sh-2")) is not None
    assert queue.submit(change("sh-1")) is None, "the oldest is forgotten and would be found on the target again"


def test_the_carried_state_stays_far_below_two_megabytes_with_long_logs() -> None:
    queue = MergeQueue()
    for bead in beads(REMEMBERED):
        queue.submit(change(bead))
        queue.decide(verdict(change(bead), VerdictKind.FAILED, detail="x" * 4096))
    for bead in beads(1500):
        queue.submit(change(bead.replace("sh", "ab")))
    state = RefineryState(rig="shop", entries=queue.entries, decided=queue.decided)
    assert len(state.model_dump_json()) < 1_700_000
    assert queue.decided[-1].verdict.detail, "the newest keep their log's end"
    assert sum(len(kept.verdict.detail) for kept in queue.decided) <= REMEMBERED_DETAIL


@given(st.data())
def test_whatever_order_messages_and_merges_come_in_no_change_is_lost_or_decided_twice(data: st.DataObject) -> None:
    requests = [change(bead, attempt=attempt) for bead in beads(3) for attempt in (1, 2)]
    queue = MergeQueue()
    told: list[Verdict] = []
    submitted: set[MergeRequest] = set()
    withdrawn: set[str] = set()
    for _ in range(data.draw(st.integers(1, 30))):
        action = data.draw(st.sampled_from(("submit", "submit", "withdraw", "merge", "clear", "carry")))
        if action == "submit":
            request = data.draw(st.sampled_from(requests))
            submitted.add(request)
            queue.submit(request)
        elif action == "withdraw":
            request = data.draw(st.sampled_from(requests))
            withdrawn.add(request.id)
            queue.withdraw(request.id)
        elif action == "merge" and queue.eligible():
            batch = queue.take(LATER, data.draw(st.integers(1, 4)))
            kinds = [data.draw(st.sampled_from((*VerdictKind, None))) for _ in batch]
            decided = [verdict(r, kind) for r, kind in zip(batch, kinds, strict=True) if kind is not None]
            told += queue.settle(outcome(*decided))
        elif action == "clear":
            told += queue.clear()
        else:
            queue = MergeQueue(queue.entries, queue.decided)
        assert len(set(waiting(queue))) == len(queue.entries)
    answered = [item.merge_request for item in told]
    assert len(set(answered)) == len(answered), "one verdict for each request"
    for request in submitted:
        rivals = [other for other in submitted if other.bead == request.bead and other.attempt != request.attempt]
        assert request.id in waiting(queue) or request.id in answered or request.id in withdrawn or rivals
