"""What jobs write and dispatchers ask, on both engines."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest

from ledger.store import Ledger
from ledger.verify_rules import disagreements
from models.errors import ErrorCode, ExitCode, GtError
from models.job.messages import DispatchFactsRequest, RigName, SlingRequest, Verdict, VerdictKind
from models.ledger.records import BeadChanges, BeadStatus, GateSpec, JobState, JobWrite, MergeRequestState
from models.refinery.answers import QueueFactsRequest
from models.upkeep.verification import RemoteFacts, TemporalFacts
from policies.job.mail import letters, verdict_of
from tests.ledger.records import SHA, a_bead, a_host, a_merge, a_request, a_rig, a_write


def story(bead: str) -> list[JobWrite]:
    """A job with a rework: two attempts, the second is merged."""
    submitted = {"event": "submitted", "state": JobState.SUBMITTED, "bead_status": BeadStatus.SUBMITTED}
    return [
        a_write(bead, 0, 1, event="slung", state=JobState.WAITING, bead_status=BeadStatus.HOOKED, polecat=None),
        a_write(bead, 1, 2, branch=f"polecat/{bead}"),
        a_write(bead, 1, 3, **submitted, head_sha="1" * 40, merge_request=a_request(bead, 1)),
        a_write(bead, 2, 4, reworks=1, merge_request_state=MergeRequestState.RETURNED, detail="a test is red"),
        a_write(bead, 2, 5, **submitted, head_sha=SHA, merge_request=a_request(bead, 2), reworks=1),
        a_merge(bead, 2, 6, merge_request_state=MergeRequestState.MERGED, reworks=1, polecat=None),
    ]


def record_of(ledger: Ledger, bead: str) -> list[Any]:
    return [
        ledger.bead(bead),
        ledger.job(bead),
        ledger.job_events(bead),
        ledger.merge_requests(),
        ledger.polecats(),
        ledger.bead_history(bead),
    ]


def test_a_job_is_recorded_from_sling_to_merge(ledger: Ledger) -> None:
    bead = a_bead(ledger).id
    ledger.record_job(story(bead))
    job = ledger.job(bead)
    assert job is not None
    assert (job.state, job.attempt, job.sequence, job.reworks) == (JobState.MERGED, 2, 6, 1)
    assert (job.polecat, job.host, job.branch) == ("toast", "mill", f"polecat/{bead}")
    assert (job.head_sha, job.merged_sha) == (SHA, SHA)
    assert job.started_at == story(bead)[0].at
    stored = ledger.bead(bead)
    assert (stored.status, stored.close_reason, stored.merged_sha) == (BeadStatus.CLOSED, "merged", SHA)
    assert (stored.assignee, stored.closed_at) == ("shop/toast", story(bead)[-1].at)
    assert [(event.attempt, event.sequence) for event in ledger.job_events(bead)] == [
        (0, 1), (1, 2), (1, 3), (2, 4), (2, 5), (2, 6),
    ]  # fmt: skip
    assert ledger.job_events(bead)[3].detail == "a test is red"
    states = {request.id: request.state for request in ledger.merge_requests("shop")}
    assert states == {f"{bead}.1": MergeRequestState.RETURNED, f"{bead}.2": MergeRequestState.MERGED}
    assert [request.id for request in ledger.merge_requests(state=MergeRequestState.MERGED)] == [f"{bead}.2"]


def test_a_repeated_write_changes_nothing_and_leaves_no_commit(ledger: Ledger) -> None:
    bead = a_bead(ledger).id
    for write in story(bead):
        ledger.record_job([write])
        before = record_of(ledger, bead)
        ledger.record_job([write])
        ledger.record_job([write.model_copy(update={"detail": "told otherwise", "at": write.at + timedelta(1)})])
        assert record_of(ledger, bead) == before


def test_a_late_lower_write_never_reopens_a_closed_bead(ledger: Ledger) -> None:
    bead = a_bead(ledger).id
    writes = story(bead)
    ledger.record_job(writes)
    before = record_of(ledger, bead)
    for order in itertools.islice(itertools.permutations(writes[:-1]), 0, 120, 17):
        ledger.record_job(order)
    assert record_of(ledger, bead) == before


def test_the_end_is_the_same_when_only_the_last_write_arrives_in_order(ledger: Ledger) -> None:
    bead = a_bead(ledger).id
    first, *middle, last = story(bead)
    ledger.record_job([middle[-1], first, *middle, last, first])
    job = ledger.job(bead)
    assert job is not None
    assert (job.state, job.sequence) == (JobState.MERGED, 6)
    assert ledger.bead(bead).status is BeadStatus.CLOSED


def test_a_bead_closed_by_hand_stays_closed_and_a_landing_is_still_noted(ledger: Ledger) -> None:
    bead = a_bead(ledger).id
    ledger.close_bead(bead, "wontfix")
    ledger.record_job([a_write(bead, 1, 1)])
    assert ledger.bead(bead).status is BeadStatus.CLOSED
    ledger.record_job([a_merge(bead, 1, 2)])
    stored = ledger.bead(bead)
    assert (stored.close_reason, stored.merged_sha) == ("wontfix", SHA)


def test_a_new_job_on_a_reopened_bead_inherits_nothing_of_the_old_one(ledger: Ledger) -> None:
    bead = a_bead(ledger).id
    ledger.record_job(story(bead))
    ledger.update_bead(bead, BeadChanges(status=BeadStatus.OPEN))
    slung = a_write(bead, 2, 7, state=JobState.WAITING, bead_status=BeadStatus.HOOKED, polecat=None, host=None)
    ledger.record_job([slung])
    job = ledger.job(bead)
    assert job is not None
    assert (job.merged_sha, job.head_sha, job.polecat, job.started_at) == (None, None, None, slung.at)
    assert ledger.bead(bead).status is BeadStatus.HOOKED


def test_an_abandoned_bead_has_nobody_assigned(ledger: Ledger) -> None:
    bead = a_bead(ledger).id
    end = {"event": "cancelled", "state": JobState.ABANDONED, "bead_status": BeadStatus.OPEN}
    ledger.record_job([a_write(bead, 1, 1), a_write(bead, 1, 2, **end)])
    assert (ledger.bead(bead).status, ledger.bead(bead).assignee) == (BeadStatus.OPEN, None)
    assert ledger.jobs(unfinished=True) == []


def test_jobs_are_listed_by_rig_and_by_whether_they_are_finished(ledger: Ledger) -> None:
    done, running = a_bead(ledger).id, a_bead(ledger).id
    ledger.record_job([a_merge(done, 1, 1), a_write(running, 1, 2)])
    assert [job.bead for job in ledger.jobs("shop")] == [done, running]
    assert [job.bead for job in ledger.jobs(unfinished=True)] == [running]
    assert ledger.jobs("market") == []


def test_a_polecat_shows_what_it_works_on_and_is_idle_afterwards(ledger: Ledger) -> None:
    bead = a_bead(ledger).id
    ledger.record_job([a_write(bead, 1, 1)])
    (polecat,) = ledger.polecats("shop")
    assert (polecat.name, polecat.host, polecat.state, polecat.bead) == ("toast", "mill", "working", bead)
    ledger.record_job([a_write(bead, 2, 2, polecat="nux", host="barn")])
    assert [(p.name, p.state, p.bead) for p in ledger.polecats()] == [("nux", "working", bead), ("toast", "idle", None)]
    ledger.record_job([a_merge(bead, 2, 3, polecat=None)])
    assert [p.state for p in ledger.polecats()] == ["idle", "idle"]


def test_the_backlog_of_an_old_job_takes_no_polecat_from_a_newer_job(ledger: Ledger) -> None:
    old, new = a_bead(ledger).id, a_bead(ledger).id
    ledger.record_job([a_write(new, 9, 1)])
    ledger.record_job([a_write(old, 1, 1), a_merge(old, 1, 2)])
    (polecat,) = ledger.polecats()
    assert (polecat.bead, polecat.state) == (new, "working")


def test_what_an_agent_printed_never_stops_the_record(ledger: Ledger) -> None:
    bead = a_bead(ledger).id
    ledger.record_job([a_write(bead, 1, 1, event="died\x00", detail="last words: \x00😀\x1b[0m")])
    assert ledger.job_events(bead)[0].detail == "last words: \ufffd😀\x1b[0m"


def test_a_job_of_a_bead_that_the_record_lost_is_still_recorded(ledger: Ledger) -> None:
    ledger.add_rig(a_rig())
    ledger.record_job([a_write("sh-zzz", 1, 1)])
    job = ledger.job("sh-zzz")
    assert job is not None
    assert job.state is JobState.WORKING


def test_an_admission_tells_everything_that_a_job_starts_from(ledger: Ledger) -> None:
    need = a_bead(ledger).id
    bead = a_bead(ledger, dependencies=(need,))
    ledger.set_setting("shop", "recovery.max_retries", 7)
    admission = ledger.admission(SlingRequest(bead=bead.id, rig="shop"), "claude")
    assert (admission.bead, admission.rig, admission.agent) == (bead, a_rig(), "claude")
    assert (admission.highest_attempt, admission.highest_sequence) == (0, 0)
    assert admission.open_dependencies == (need,)
    assert admission.settings.recovery.max_retries == 7


def test_an_admission_counts_on_from_earlier_jobs(ledger: Ledger) -> None:
    bead = a_bead(ledger).id
    ledger.record_job([a_write(bead, 3, 17), a_write(bead, 4, 18, state=JobState.ABANDONED)])
    admission = ledger.admission(SlingRequest(bead=bead, rig="shop"), "claude")
    assert (admission.highest_attempt, admission.highest_sequence) == (4, 18)


def test_an_unfinished_job_is_told_whole_with_what_was_said_about_its_own_attempts(ledger: Ledger) -> None:
    bead = a_bead(ledger).id
    ask = SlingRequest(bead=bead, rig="shop")
    assert ledger.admission(ask, "claude").unfinished is None
    ledger.record_job([a_write(bead, 0, 1, event="hooked", state=JobState.WAITING, polecat=None, host=None)])
    ledger.record_job([a_write(bead, 1, 1), a_write(bead, 1, 2, event="agent_died", detail="an earlier job's")])
    ledger.record_job([a_write(bead, 1, 3, event="abandoned", state=JobState.ABANDONED)])
    assert ledger.admission(ask, "claude").unfinished is None
    ledger.record_job([a_write(bead, 1, 4, event="hooked", state=JobState.WAITING, polecat=None, host=None)])
    ledger.record_job([a_write(bead, 2, 1, agent="codex"), a_write(bead, 2, 2, event="agent_died", detail="killed")])
    queued = a_request(bead, 2)
    ledger.record_job(
        [a_write(bead, 2, 3, event="submitted", state=JobState.SUBMITTED, merge_request=queued, head_sha=SHA)]
    )
    admission = ledger.admission(ask, None)
    known = admission.unfinished
    assert known is not None
    assert admission.agent == "codex"
    assert (known.row.state, known.row.attempt, known.row.sequence) == (JobState.SUBMITTED, 2, 3)
    assert known.attempts_before == 1
    assert known.merge_request == queued
    assert [(note.attempt, note.kind, note.text) for note in known.notes] == [(2, "agent_died", "killed")]
    other = SlingRequest(bead=bead, rig="shop", agent="gemini")
    assert ledger.admission(other, None).agent == "gemini"


def test_an_unfinished_job_is_told_with_the_letters_that_sent_its_work_back(ledger: Ledger) -> None:
    bead = a_bead(ledger).id
    writes = [
        a_write(bead, 0, 1, event="hooked", state=JobState.WAITING, polecat=None, host=None),
        a_write(bead, 1, 1),
        a_write(bead, 1, 2, event="merge_failed", state=JobState.WAITING, detail="gate test failed"),
    ]
    verdict = Verdict(
        merge_request=f"{bead}.1", bead=bead, attempt=1, kind=VerdictKind.FAILED, gate="test", log_path="/logs/1.log"
    )
    writes[-1] = writes[-1].model_copy(update={"mail": letters(writes[-1], verdict=verdict)})
    ledger.record_job(writes)
    known = ledger.admission(SlingRequest(bead=bead, rig="shop"), "claude").unfinished
    assert known is not None
    (letter,) = known.sent_back
    assert verdict_of(letter) == verdict


@pytest.mark.parametrize("told", [SHA, f"{SHA}: already there", f"{SHA}: found on the target before a restart"])
def test_the_landing_of_an_earlier_job_is_known_also_after_a_new_job_has_begun(ledger: Ledger, told: str) -> None:
    bead = a_bead(ledger).id
    ask = SlingRequest(bead=bead, rig="shop")
    ledger.record_job([a_merge(bead, 1, 1, detail=told)])
    ledger.update_bead(bead, BeadChanges(status=BeadStatus.OPEN))
    assert ledger.admission(ask, "claude").landed_before == SHA
    ledger.record_job([a_write(bead, 2, 1)])
    assert ledger.admission(ask, "claude").landed_before == SHA


def test_a_bead_that_needs_no_code_is_closed_with_the_reason_and_can_be_opened_and_slung_again(ledger: Ledger) -> None:
    bead = a_bead(ledger).id
    why = "nothing to do: the index is missing"
    closing: dict[str, Any] = {
        "event": "closed",
        "state": JobState.CLOSED,
        "bead_status": BeadStatus.CLOSED,
        "close_reason": why,
    }
    ledger.record_job([a_write(bead, 1, 1), a_write(bead, 1, 2, detail=why, **closing)])
    closed = ledger.bead(bead)
    assert (closed.status, closed.close_reason, closed.merged_sha) == (BeadStatus.CLOSED, why, None)
    facts = ledger.record_facts()
    remote = RemoteFacts(target="main", shas=frozenset(), landed={})
    assert disagreements(facts, {"shop": remote}, TemporalFacts(jobs=frozenset(), queues={})) == []
    with pytest.raises(GtError, match="is closed: nothing to do"):
        ledger.admission(SlingRequest(bead=bead, rig="shop"), "claude")
    ledger.reopen_bead(bead)
    assert ledger.admission(SlingRequest(bead=bead, rig="shop"), "claude").unfinished is None


def test_the_agent_of_the_sling_wins_over_the_rig_and_the_town(ledger: Ledger) -> None:
    ledger.add_rig(a_rig(agent="codex"))
    bead = a_bead(ledger, rig="market").id
    ledger.remove_rig("market")
    ledger.add_rig(a_rig("market", agent="codex"))

    def agent(asked: str | None, default: str | None) -> str:
        return ledger.admission(SlingRequest(bead=bead, rig="market", agent=asked), default).agent

    assert (agent("aider", "claude"), agent(None, "claude"), agent(None, None)) == ("aider", "codex", "codex")


def test_without_any_agent_slinging_is_wrong_usage(ledger: Ledger) -> None:
    bead = a_bead(ledger).id
    with pytest.raises(GtError) as failure:
        ledger.admission(SlingRequest(bead=bead, rig="shop"), None)
    assert (failure.value.code, failure.value.exit_code) == (ErrorCode.AGENT_NOT_FOUND, ExitCode.USAGE)
    assert failure.value.hint == f"gt sling {bead} shop --agent CMD"


def test_a_closed_bead_is_not_admitted_and_it_is_said_how_it_was_closed(ledger: Ledger) -> None:
    merged, dropped = a_bead(ledger).id, a_bead(ledger).id
    ledger.record_job([a_merge(merged, 1, 1)])
    ledger.close_bead(dropped, "wontfix")
    for bead, how in ((merged, f"merged as {SHA[:8]}"), (dropped, "wontfix")):
        with pytest.raises(GtError, match=how) as failure:
            ledger.admission(SlingRequest(bead=bead, rig="shop"), "claude")
        assert failure.value.code is ErrorCode.REFUSED


def test_a_bead_of_another_rig_is_not_admitted_and_the_hint_names_the_right_one(ledger: Ledger) -> None:
    bead = a_bead(ledger).id
    ledger.add_rig(a_rig("market"))
    with pytest.raises(GtError) as failure:
        ledger.admission(SlingRequest(bead=bead, rig="market"), "claude")
    assert (failure.value.code, failure.value.hint) == (ErrorCode.REFUSED, f"gt sling {bead} shop")


@pytest.mark.parametrize(("bead", "rig"), [("sh-zzz", "shop"), (None, "nowhere")])
def test_an_unknown_bead_or_rig_is_not_admitted(ledger: Ledger, bead: str | None, rig: str) -> None:
    known = a_bead(ledger).id
    with pytest.raises(GtError) as failure:
        ledger.admission(SlingRequest(bead=bead or known, rig=rig), "claude")
    assert failure.value.code is ErrorCode.NOT_FOUND


def test_a_dispatcher_reads_rig_settings_hosts_and_what_is_waited_for(ledger: Ledger) -> None:
    need, free = a_bead(ledger).id, a_bead(ledger).id
    waiting = a_bead(ledger, dependencies=(need, free)).id
    ledger.close_bead(free, "done")
    ledger.register_host(a_host())
    facts = ledger.dispatch_facts(DispatchFactsRequest(rig="shop", beads=(waiting, need, "sh-zzz")))
    assert facts.open_dependencies == {waiting: (need,), need: (), "sh-zzz": ()}
    assert (facts.rig, facts.hosts) == (a_rig(), ("mill",))
    rig_facts = ledger.rig_facts(RigName(rig="shop"))
    assert (rig_facts.rig, rig_facts.settings, rig_facts.hosts) == (facts.rig, facts.settings, facts.hosts)
    with pytest.raises(GtError):
        ledger.rig_facts(RigName(rig="nowhere"))


def test_the_deacon_reads_every_rig_with_its_own_settings_and_how_long_its_gates_may_take(ledger: Ledger) -> None:
    gates = (GateSpec(name="build", command="make"), GateSpec(name="test", command="x", timeout_s=5))
    ledger.add_rig(a_rig(gates=gates))
    ledger.add_rig(a_rig("mill", prefix="ml"))
    ledger.register_host(a_host())
    ledger.set_setting("town", "health.witness_timeout", 700)
    ledger.set_setting("mill", "health.witness_timeout", 800)
    facts = ledger.town_facts()
    assert facts.settings.health.witness_timeout == 700
    assert {name: rig.settings.health.witness_timeout for name, rig in facts.rigs.items()} == {"mill": 800, "shop": 700}
    assert {name: rig.gates_s for name, rig in facts.rigs.items()} == {"mill": 1800, "shop": 1805}
    assert facts.hosts == (a_host().name,)


def test_a_refinerys_cycle_reads_what_waits_to_be_merged_and_what_beads_still_need(ledger: Ledger) -> None:
    waits, merged, reworked, needed = (a_bead(ledger, title).id for title in ("a", "b", "c", "d"))
    ledger.add_dependency(waits, needed)
    submitted = {"event": "submitted", "state": JobState.SUBMITTED, "bead_status": BeadStatus.SUBMITTED}
    queued = {"head_sha": SHA, "merge_request_state": MergeRequestState.QUEUED}
    ledger.record_job([a_write(waits, 1, 1, **submitted, **queued, merge_request=a_request(waits, 1))])
    ledger.record_job(story(merged))
    ledger.record_job([a_write(reworked, 1, 1, **submitted, **queued, merge_request=a_request(reworked, 1))])
    ledger.record_job([a_write(reworked, 2, 2)])
    facts = ledger.queue_facts(QueueFactsRequest(rig="shop", beads=(waits, merged), queued=9))
    assert facts.rig.name == "shop"
    assert facts.open_dependencies == {waits: (needed,), merged: ()}
    assert [request.id for request in facts.queued] == [f"{waits}.1"], "the attempt that goes on is not submitted"


def test_a_job_that_was_cleared_out_of_the_queue_is_admitted_with_its_merge_request_until_it_is_slung_again(
    ledger: Ledger,
) -> None:
    bead = a_bead(ledger).id
    submitted = {"event": "submitted", "state": JobState.SUBMITTED, "bead_status": BeadStatus.SUBMITTED}
    over = {"state": JobState.ABANDONED, "bead_status": BeadStatus.DEFERRED}
    request = {"merge_request": a_request(bead, 1), "merge_request_state": MergeRequestState.QUEUED}
    returned = {"merge_request": a_request(bead, 1), "merge_request_state": MergeRequestState.RETURNED}
    order = SlingRequest(bead=bead, rig="shop", agent="claude")
    ledger.record_job([
        a_write(bead, 0, 1, event="hooked", state=JobState.WAITING, bead_status=BeadStatus.HOOKED),
        a_write(bead, 1, 1, **submitted, head_sha=SHA, **request),
    ])  # fmt: skip
    assert ledger.admission(order, None).cleared is None
    ledger.record_job([
        a_write(bead, 1, 2, event="cleared", state=JobState.SUBMITTED, bead_status=BeadStatus.SUBMITTED),
        a_write(bead, 1, 3, event="abandoned", **over, **returned),
    ])  # fmt: skip
    cleared = ledger.admission(order, None).cleared
    assert cleared is not None
    assert (cleared.id, cleared.attempt) == (f"{bead}.1", 1)
    hooked = a_write(bead, 1, 4, event="hooked", state=JobState.WAITING, bead_status=BeadStatus.HOOKED)
    ledger.record_job([hooked])
    assert ledger.admission(order, None).cleared is None


def test_a_bead_that_lands_an_integration_branch_is_admitted_with_what_it_hands_in_once(ledger: Ledger) -> None:
    bead = a_bead(ledger, "Land next on main", integrates="next", integrates_sha=SHA, priority=1)
    order = SlingRequest(bead=bead.id, rig="shop", agent="claude")
    request = ledger.admission(order, None).cleared
    assert request is not None
    assert (request.id, request.head_sha, request.whole) == (f"{bead.id}.0", SHA, SHA)
    assert (request.branch, request.target, request.priority) == (f"polecat/{bead.id}", "main", 1)
    queued = {"merge_request": request, "merge_request_state": MergeRequestState.QUEUED}
    submitted = {"event": "submitted", "state": JobState.SUBMITTED, "bead_status": BeadStatus.SUBMITTED}
    ledger.record_job([a_write(bead.id, 0, 1, **submitted, **queued)])
    assert ledger.queue_facts(QueueFactsRequest(rig="shop", queued=1)).queued == (request,)
    admission = ledger.admission(order, None)
    assert (admission.cleared, admission.unfinished is not None) == (None, True)


def test_what_waits_for_room_is_told_by_urgency_and_admitted_as_a_job_that_never_began(ledger: Ledger) -> None:
    urgent, begun, closed, later = (a_bead(ledger, priority=priority).id for priority in (0, 1, 1, 3))
    waiting = {
        "event": "waits_for_room", "workflow_id": "dispatch/shop", "state": JobState.WAITING, "polecat": None,
        "bead_status": BeadStatus.HOOKED, "agent": "codex", "host": None,
    }  # fmt: skip
    ledger.record_job([a_write(bead, 0, 1, **waiting) for bead in (later, closed, begun, urgent)])
    ledger.record_job([a_write(begun, 0, 2, event="hooked", state=JobState.WAITING, polecat=None, host=None)])
    ledger.record_job([a_merge(closed, 0, 2, workflow_id="dispatch/shop", state=JobState.WAITING)])

    def asked(waiting: int) -> tuple[str, ...]:
        return ledger.dispatch_facts(DispatchFactsRequest(rig="shop", beads=(), waiting=waiting)).waiting

    assert asked(9) == (urgent, later)
    assert (asked(1), asked(0)) == ((urgent,), ())
    facts = ledger.dispatch_facts(DispatchFactsRequest(rig="shop", beads=(), jobs=True))
    assert [row.bead for row in facts.jobs] == [begun], "what waits for room has no workflow"
    admission = ledger.admission(SlingRequest(bead=later, rig="shop"), "claude")
    assert (admission.waited_for_room, admission.unfinished, admission.agent) == (True, None, "codex")
    assert (admission.highest_attempt, admission.highest_sequence) == (0, 1)
    assert not ledger.admission(SlingRequest(bead=begun, rig="shop"), "claude").waited_for_room


def test_a_refinery_is_told_of_no_more_requests_than_it_asks_for_urgent_ones_first(ledger: Ledger) -> None:
    beads = [a_bead(ledger, f"change {number}", priority=number).id for number in range(4)]
    submitted = {"event": "submitted", "state": JobState.SUBMITTED, "bead_status": BeadStatus.SUBMITTED}
    for number, bead in reversed(list(enumerate(beads))):
        request = a_request(bead, 1).model_copy(update={"priority": number})
        ledger.record_job([a_write(bead, 1, 1, **submitted, merge_request=request)])
    known = (f"{beads[1]}.1",)
    facts = ledger.queue_facts(QueueFactsRequest(rig="shop", queued=2, known=known))
    assert [request.bead for request in facts.queued] == [beads[0], beads[2]]
