"""The merge queue as a value: what repeated, late and crossing messages do to it."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from models.job.messages import Verdict, VerdictKind
from models.ledger.records import MergeRequest
from models.refinery.messages import MergeOutcome, QueueItemState, Withdraw
from tests.workflows.refinery.merge_world import START, beads, change
from workflows.refinery.queue import REMEMBERED, REMEMBERED_DETAIL, MergeQueue, Scope
from workflows.refinery.state import RefineryState
from workflows.refinery.views import listing

LATER = START + timedelta(hours=1)


def queue_of(*requests: MergeRequest) -> MergeQueue:
    queue = MergeQueue()
    for request in requests:
        assert queue.submit(request) is None
    queue.assume_needs()
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
    return [item.id for item in listing(queue, LATER)]


def test_undecided_changes_wait_again_without_a_mark_when_the_merge_went_well() -> None:
    one, two = map(change, beads(2))
    queue = queue_of(one, two)
    queue.take(LATER, 9)
    assert queue.settle(outcome(verdict(one, VerdictKind.FAILED)), LATER) == (verdict(one, VerdictKind.FAILED),)
    [item] = listing(queue, LATER)
    assert (item.id, item.state, item.attempts, item.waiting_s) == (two.id, QueueItemState.WAITING, 1, 3600.0)


def test_what_was_being_merged_when_the_refinery_was_restarted_waits_again() -> None:
    queue = queue_of(change("sh-1"))
    queue.take(LATER, 9)
    [item] = listing(MergeQueue(queue.entries, queue.decided), LATER)
    assert (item.state, item.attempts) == (QueueItemState.WAITING, 1)


def test_a_return_says_which_handing_in_it_answers() -> None:
    again = change("sh-1").model_copy(update={"submitted_at": LATER})
    queue = queue_of(change("sh-1"))
    (first,) = queue.clear(LATER)
    assert queue.submit(again) is None
    (second,) = queue.clear(LATER)
    assert (first.submitted_at, second.submitted_at) == (change("sh-1").submitted_at, LATER)


def test_a_change_submitted_again_while_it_is_merged_is_not_queued_a_second_time() -> None:
    queue = queue_of(change("sh-1"))
    queue.take(LATER, 9)
    assert queue.submit(change("sh-1")) is None
    assert [item.state for item in listing(queue, LATER)] == [QueueItemState.MERGING]


def test_a_change_withdrawn_while_it_is_merged_leaves_when_that_decides_nothing() -> None:
    queue = queue_of(change("sh-1"))
    queue.take(LATER, 9)
    assert queue.withdraw(Withdraw(merge_request="sh-1.1"), LATER) == ()
    (told,) = queue.settle(outcome(stalled="moved"), LATER)
    assert (told.merge_request, told.kind) == ("sh-1.1", VerdictKind.RETURNED)
    assert waiting(queue) == []


def test_a_job_that_takes_its_change_back_is_answered_also_where_the_queue_has_never_heard_of_it() -> None:
    queue = queue_of(change("sh-1"))
    asked = [Withdraw(merge_request=f"{bead}.1", bead=bead, attempt=1) for bead in beads(2)]
    answers = [told for withdraw in (*asked, *asked) for told in queue.withdraw(withdraw, LATER)]
    assert [told.merge_request for told in answers] == ["sh-1.1", "sh-2.1", "sh-1.1", "sh-2.1"]
    assert {told.kind for told in answers} == {VerdictKind.RETURNED}


def test_a_change_waits_for_what_it_needs_and_is_merged_behind_it_in_one_batch() -> None:
    queue = queue_of(change("sh-1", priority=0), change("sh-2"), change("sh-3"))
    queue.learn_needs({"sh-1": ("sh-2",), "sh-2": (), "sh-3": ("sh-9",)}, LATER)
    batch = queue.take(LATER, 9)
    assert [request.bead for request in batch] == ["sh-2", "sh-1"]
    assert queue.needs_within(batch) == {"sh-1": ("sh-2",)}
    assert not queue.eligible(LATER), "what sh-3 needs is not here"
    merged = [verdict(request, VerdictKind.MERGED) for request in batch]
    queue.settle(outcome(*merged), LATER)
    queue.learn_needs({"sh-3": ("sh-2",)}, LATER)
    assert queue.eligible(LATER), "the record lags behind what was merged here"


def test_the_record_adds_what_the_queue_lacks_and_nothing_that_it_has_decided() -> None:
    queue = queue_of(change("sh-1"), change("sh-2", attempt=2))
    queue.withdraw(Withdraw(merge_request="sh-1.1"), LATER)
    assert not queue.lacks(change("sh-1")), "taken back: the record hears of it later"
    assert not queue.lacks(change("sh-2")), "a newer attempt is here"
    assert queue.lacks(change("sh-1", attempt=2))
    assert queue.lacks(change("sh-3"))


def test_a_queue_that_begins_with_a_merge_under_way_merges_those_changes_again() -> None:
    queue = queue_of(change("sh-1"))
    queue.take(LATER, 9)
    assert not queue.eligible(LATER)
    assert MergeQueue(queue.entries, queue.decided, queue.arrivals).eligible(LATER)


def test_a_frozen_queue_lets_only_what_is_more_urgent_through_and_a_draining_one_only_what_was_there() -> None:
    queue = queue_of(change("sh-1", priority=0), change("sh-2", priority=1))
    assert [request.bead for request in queue.take(LATER, 9, Scope(above_priority=1))] == ["sh-1"]
    upto = queue.arrivals
    queue.submit(change("sh-3", priority=0))
    queue.assume_needs()
    assert [request.bead for request in queue.take(LATER, 9, Scope(arrived_upto=upto))] == ["sh-2"]


def test_a_change_withdrawn_too_late_still_hears_that_it_is_merged() -> None:
    queue = queue_of(change("sh-1"))
    queue.take(LATER, 9)
    queue.withdraw(Withdraw(merge_request="sh-1.1"), LATER)
    merged = verdict(change("sh-1"), VerdictKind.MERGED)
    assert queue.settle(outcome(merged), LATER) == (merged,)


def test_a_change_cleared_while_it_is_merged_goes_back_when_that_decides_nothing() -> None:
    queue = queue_of(change("sh-1"))
    queue.take(LATER, 9)
    assert queue.clear(LATER) == ()
    (told,) = queue.settle(outcome(could_not_run="killed"), LATER)
    assert (told.kind, told.cleared) == (VerdictKind.RETURNED, True)


def test_a_bead_that_has_just_been_merged_is_not_landed_again_by_its_newer_request() -> None:
    queue = queue_of(change("sh-1"))
    queue.take(LATER, 9)
    queue.submit(change("sh-1", attempt=2))
    told = queue.settle(outcome(verdict(change("sh-1"), VerdictKind.MERGED)), LATER)
    assert [(item.merge_request, item.merged_sha) for item in told] == [("sh-1.1", "sha-sh-1"), ("sh-1.2", "sha-sh-1")]
    assert waiting(queue) == []


def test_a_newer_request_waits_while_the_older_one_fails() -> None:
    queue = queue_of(change("sh-1"))
    queue.take(LATER, 9)
    queue.submit(change("sh-1", attempt=2))
    queue.settle(outcome(verdict(change("sh-1"), VerdictKind.FAILED)), LATER)
    assert waiting(queue) == ["sh-1.2"]


def test_a_batch_has_one_target_only() -> None:
    other = change("sh-2").model_copy(update={"target": "release"})
    queue = queue_of(change("sh-1"), other, change("sh-3"))
    assert [request.bead for request in queue.take(LATER, 9)] == ["sh-1", "sh-3"]


def test_what_waits_is_taken_whole_where_the_rest_would_be_small() -> None:
    queue = queue_of(*map(change, beads(9)))
    assert len(queue.take(LATER, 4, whole=5)) == 4
    assert len(queue.take(LATER, 4, whole=5)) == 5


def test_a_change_that_stalled_alone_is_merged_alone_and_last() -> None:
    queue = queue_of(change("sh-1"))
    queue.take(LATER, 9)
    queue.settle(outcome(stalled="refused"), LATER)
    queue.submit(change("sh-2", priority=4))
    queue.submit(change("sh-3", priority=4))
    queue.assume_needs()
    assert [request.bead for request in queue.take(LATER, 9)] == ["sh-2", "sh-3"]
    queue.settle(
        outcome(verdict(change("sh-2"), VerdictKind.MERGED), verdict(change("sh-3"), VerdictKind.MERGED)), LATER
    )
    assert [request.bead for request in queue.take(LATER, 9)] == ["sh-1"]


def test_only_the_last_thousand_verdicts_are_remembered() -> None:
    queue = MergeQueue()
    for bead in beads(REMEMBERED + 1):
        queue.submit(change(bead))
        queue.decide(verdict(change(bead), VerdictKind.MERGED), LATER)
    assert len(queue.decided) == REMEMBERED
    assert queue.submit(change("sh-2")) is not None
    assert queue.submit(change("sh-1")) is None, "the oldest is forgotten and would be found on the target again"


def test_the_carried_state_stays_far_below_two_megabytes_with_long_logs() -> None:
    queue = MergeQueue()
    for bead in beads(REMEMBERED):
        queue.submit(change(bead))
        queue.decide(verdict(change(bead), VerdictKind.FAILED, detail="x" * 4096), LATER)
    for bead in beads(1500):
        queue.submit(change(bead.replace("sh", "ab")))
    state = RefineryState(rig="shop", entries=queue.entries, decided=queue.decided)
    assert len(state.model_dump_json()) < 1_700_000
    assert queue.decided[-1].verdict.detail, "the newest keep their log's end"
    assert sum(len(kept.verdict.detail) for kept in queue.decided) <= REMEMBERED_DETAIL


@given(st.data())
def test_whatever_order_messages_and_merges_come_in_no_change_is_lost_or_decided_twice(data: st.DataObject) -> None:
    targets = dict(zip(beads(3), ("main", "next", "main"), strict=True))
    requests = [
        change(bead, attempt=attempt).model_copy(update={"target": target})
        for bead, target in targets.items()
        for attempt in (1, 2)
    ]
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
            queue.assume_needs()
        elif action == "withdraw":
            request = data.draw(st.sampled_from(requests))
            withdrawn.add(request.id)
            for answer in queue.withdraw(Withdraw(merge_request=request.id), LATER):
                # What was decided before is only said again.
                told += [answer] if answer not in told else []
        elif action == "merge":
            resting = data.draw(st.sampled_from((frozenset[str](), frozenset({"main"}), frozenset({"next"}))))
            scope = Scope(resting=resting)
            if not queue.eligible(LATER, scope):
                continue
            target, whole = queue.next_target(LATER, scope), data.draw(st.integers(0, 4))
            batch = queue.take(LATER, data.draw(st.integers(1, 4)), scope, whole=whole)
            assert {request.target for request in batch} == {target}
            assert target not in resting
            kinds = [data.draw(st.sampled_from((*VerdictKind, None))) for _ in batch]
            decided = [verdict(r, kind) for r, kind in zip(batch, kinds, strict=True) if kind is not None]
            told += queue.settle(outcome(*decided), LATER)
        elif action == "clear":
            told += queue.clear(LATER)
        else:
            queue = MergeQueue(queue.entries, queue.decided, queue.arrivals)
        assert len(set(waiting(queue))) == len(queue.entries)
    answered = [item.merge_request for item in told]
    assert len(set(answered)) == len(answered), "one verdict for each request"
    for request in submitted:
        rivals = [other for other in submitted if other.bead == request.bead and other.attempt != request.attempt]
        assert request.id in waiting(queue) or request.id in answered or request.id in withdrawn or rivals
