"""Which letters a job's transition sends."""

from __future__ import annotations

from typing import Any

import pytest

from models.job.messages import AttemptNote, Verdict, VerdictKind
from models.ledger.records import BeadStatus, JobState, MergeRequestState
from models.mayor.mail import Message
from policies.job.mail import letters, verdict_of
from policies.job.rework_notes import verdict_note
from tests.ledger.records import SHA, a_merge, a_request, a_write


def verdict(kind: VerdictKind, **more: Any) -> Verdict:
    return Verdict(merge_request="sh-1.2", bead="sh-1", attempt=2, kind=kind, base_sha=SHA, detail="1 failed", **more)


def told(messages: tuple[Message, ...]) -> list[tuple[str, str, str]]:
    return [(one.sender, one.recipient, one.kind) for one in messages]


DIED = AttemptNote(attempt=1, kind="agent_died", text="The agent died.\n\nmore")
TOLD = AttemptNote(attempt=1, kind="told", text="go on")


@pytest.mark.parametrize(
    ("write", "more", "expected"),
    [
        ({"event": "hooked", "polecat": None}, {}, []),
        ({"event": "working"}, {}, []),
        ({"event": "working"}, {"note": DIED}, [("shop/witness", "deacon", "RECOVERED_BEAD")]),
        (
            {"event": "working"},
            {"note": DIED.model_copy(update={"kind": "agent_unresponsive"})},
            [("shop/witness", "deacon", "RECOVERED_BEAD")],
        ),
        ({"event": "working"}, {"note": TOLD}, []),
        ({"event": "working"}, {"note": DIED.model_copy(update={"attempt": 7})}, []),
        ({"event": "starting"}, {"former": "nux", "note": DIED}, [("shop/nux", "shop/toast", "HANDOFF")]),
        ({"event": "starting"}, {"former": "toast"}, []),
        ({"event": "help", "detail": "which one?"}, {}, [("shop/toast", "shop/witness", "HELP")]),
        ({"event": "stuck", "detail": "no progress for 1801 s"}, {}, [("shop/toast", "shop/witness", "HELP")]),
        (
            {"event": "submitted", "state": JobState.SUBMITTED, "merge_request": a_request("sh-1", 2)},
            {},
            [("shop/toast", "shop/witness", "POLECAT_DONE"), ("shop/toast", "shop/refinery", "MERGE_READY")],
        ),
        (
            {"event": "merge_failed", "state": JobState.WAITING},
            {"verdict": verdict(VerdictKind.FAILED, gate="test", log_path="/log")},
            [("shop/refinery", "shop/toast", "MERGE_FAILED")],
        ),
        (
            {"event": "rework_request", "state": JobState.WAITING},
            {"verdict": verdict(VerdictKind.CONFLICT, files=("a.py",))},
            [("shop/refinery", "shop/toast", "REWORK_REQUEST")],
        ),
        (
            {"event": "blocked", "state": JobState.BLOCKED, "bead_status": BeadStatus.BLOCKED},
            {},
            [("shop/witness", "mayor", "RECOVERY_NEEDED")],
        ),
        (
            {"event": "merge_failed", "state": JobState.BLOCKED, "bead_status": BeadStatus.BLOCKED},
            {},
            [("shop/witness", "mayor", "RECOVERY_NEEDED")],
        ),
        ({"event": "stale", "state": JobState.BLOCKED, "bead_status": BeadStatus.BLOCKED}, {}, []),
    ],
)
def test_a_transition_tells_those_whom_it_concerns(
    write: dict[str, Any], more: dict[str, Any], expected: list[tuple[str, str, str]]
) -> None:
    assert told(letters(a_write("sh-1", 2, 3, **write), **more)) == expected


def test_a_merge_is_told_to_the_polecat_and_a_bead_closed_elsewhere_is_not() -> None:
    merged = a_merge("sh-1", 2, 3, merge_request_state=MergeRequestState.MERGED)
    assert told(letters(merged)) == [("shop/refinery", "shop/toast", "MERGED")]
    assert letters(a_merge("sh-1", 2, 3)) == ()


@pytest.mark.document("2: Refinery")
def test_what_a_polecat_needs_to_act_is_in_the_letter() -> None:
    failed = verdict(VerdictKind.FAILED, gate="test", log_path="/log")
    (message,) = letters(a_write("sh-1", 2, 3, event="merge_failed", detail="1 failed\nof 2"), verdict=failed)
    assert message.protocol == {
        "kind": "MERGE_FAILED", "bead": "sh-1", "attempt": 2, "merge_request": "sh-1.2", "gate": "test",
        "base_sha": SHA, "log_tail": "1 failed", "log_path": "/log",
    }  # fmt: skip
    assert message.subject == "MERGE_FAILED sh-1: 1 failed of 2"


def test_a_letter_s_id_follows_from_its_transition() -> None:
    write = a_write("sh-1", 2, 3, event="help")
    assert [one.id for one in letters(write)] == [one.id for one in letters(write)] == ["sh-1.2.3.HELP"]
    handed = [letters(a_write("sh-1", attempt, 1, event="starting"), former="nux") for attempt in (2, 3)]
    assert [one.id for messages in handed for one in messages] == ["sh-1.nux.toast.HANDOFF"] * 2


@pytest.mark.parametrize("detail", ["half \ud83d", "a\x00b", "x" * 5000])
def test_words_that_no_record_can_keep_make_no_letter_fail(detail: str) -> None:
    (message,) = letters(a_write("sh-1", 2, 3, event="blocked", state=JobState.BLOCKED, detail=detail))
    assert message.subject.startswith("RECOVERY_NEEDED sh-1: ")


@pytest.mark.parametrize(
    "sent",
    [
        verdict(VerdictKind.FAILED, gate="test", log_path="/log"),
        verdict(VerdictKind.FAILED),
        verdict(VerdictKind.CONFLICT, files=("a.py", "b.py"), rivals=("sh-9",)),
    ],
)
@pytest.mark.parametrize("state", [JobState.WAITING, JobState.BLOCKED])
def test_what_sent_work_back_can_be_read_from_its_letter_again(sent: Verdict, state: JobState) -> None:
    event = "merge_failed" if sent.kind is VerdictKind.FAILED else "rework_request"
    (letter, *others) = letters(a_write("sh-1", 2, 7, event=event, state=state), verdict=sent)
    assert [one.kind for one in others] == (["RECOVERY_NEEDED"] if state is JobState.BLOCKED else [])
    again = verdict_of(letter)
    assert again == sent
    assert verdict_note(again, "main") == verdict_note(sent, "main")


def test_other_letters_sent_nothing_back() -> None:
    (letter,) = letters(a_write("sh-1", 2, 7, event="help", detail="which one?"))
    assert verdict_of(letter) is None
