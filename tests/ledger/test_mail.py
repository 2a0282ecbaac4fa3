"""Mail, on both engines."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ledger.store import Ledger
from models.errors import ErrorCode, GtError
from models.mayor.mail import MailKind, Message
from tests.ledger.records import SHA, START, a_bead, a_write


def a_message(id: str = "m1", **changes: Any) -> Message:
    values: dict[str, Any] = {
        "id": id,
        "sender": "ada",
        "recipient": "shop/toast",
        "subject": "Hello",
        "body": "there\n😀",
        "sent_at": START,
    }
    return Message(**values | changes)


def test_a_message_arrives_as_it_was_sent_and_a_resend_is_the_same_message(ledger: Ledger) -> None:
    for _ in range(2):
        assert ledger.send_mail(a_message()) == a_message()
    assert ledger.send_mail(a_message(body="other words, same id")) == a_message()
    assert ledger.inbox("shop/toast") == [a_message()]
    assert ledger.inbox("ada") == []


def test_an_inbox_is_in_order_and_a_limit_keeps_the_newest(ledger: Ledger) -> None:
    sent = [a_message(f"m{number}", sent_at=START + timedelta(seconds=number)) for number in range(3)]
    for message in reversed(sent):
        ledger.send_mail(message)
    ledger.send_mail(a_message("other", recipient="shop/nux"))
    assert ledger.inbox("shop/toast") == sent
    assert ledger.inbox("shop/toast", limit=2) == sent[1:]


def test_a_message_is_read_once_and_stays_read(ledger: Ledger) -> None:
    ledger.send_mail(a_message())
    ledger.send_mail(a_message("m2"))
    first = ledger.mark_mail_read("m1")
    assert first.read_at is not None
    assert ledger.mark_mail_read("m1") == first
    assert ledger.send_mail(a_message()).read_at == first.read_at
    assert [message.id for message in ledger.inbox("shop/toast", unread_only=True)] == ["m2"]


def test_a_reply_names_a_message_that_is_there(ledger: Ledger) -> None:
    ledger.send_mail(a_message())
    reply = ledger.send_mail(a_message("m2", sender="shop/toast", recipient="ada", reply_to="m1"))
    assert reply.reply_to == "m1"
    with pytest.raises(GtError) as failure:
        ledger.send_mail(a_message("m3", reply_to="never"))
    assert failure.value.code is ErrorCode.NOT_FOUND
    assert ledger.inbox("ada") == [reply]


def test_mail_is_found_by_its_words(ledger: Ledger) -> None:
    ledger.send_mail(a_message(subject="Über 100%"))
    later = START + timedelta(hours=1)
    ledger.send_mail(a_message("m2", body="about the über thing", recipient="mayor", sent_at=later))
    assert [message.id for message in ledger.search_mail("ÜBER")] == ["m2", "m1"]
    assert [message.id for message in ledger.search_mail("ÜBER", limit=1)] == ["m2"]
    assert [message.id for message in ledger.search_mail("über", identity="mayor")] == ["m2"]
    assert [message.id for message in ledger.search_mail("0%")] == ["m1"]
    assert ledger.search_mail("0_") == []


def test_every_message_of_the_protocol_is_kept_as_it_was(ledger: Ledger) -> None:
    for kind in set(MailKind) - {MailKind.NOTE}:
        payload = {"bead": "sh-1", "attempt": 1, "files": ["a.py", "b c.py"], "log_tail": "1 failed 😀", "gate": None}
        message = ledger.send_mail(a_message(f"m-{kind}", protocol={"kind": kind.value, **payload}))
        assert message.protocol == {"kind": kind.value, **payload}
        assert message.kind is kind
    assert a_message().kind is MailKind.NOTE


@pytest.mark.parametrize("protocol", [{}, {"kind": None}, {"kind": "HELLO", "bead": "sh-1"}])
def test_a_message_of_no_known_kind_is_refused(protocol: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is not a valid MailKind"):
        a_message(protocol=protocol)


@pytest.mark.document("2: Refinery")
def test_what_a_job_tells_others_is_recorded_with_its_transition_and_once(ledger: Ledger) -> None:
    bead = a_bead(ledger).id
    told = a_message(
        f"{bead}.1.1",
        sender="shop/refinery",
        protocol={"kind": "MERGED", "bead": bead, "attempt": 1, "merged_sha": SHA},
    )
    for _ in range(2):
        ledger.record_job([a_write(bead, 1, 1, mail=(told,))])
    assert ledger.inbox("shop/toast") == [told]
    late = a_message("late")
    ledger.record_job([a_write(bead, 1, 1, mail=(late,))])
    assert ledger.inbox("shop/toast") == [told]


@pytest.mark.parametrize(
    "change",
    [
        {"recipient": "no such/place/at all"},
        {"recipient": ""},
        {"sender": "a\x00"},
        {"sender": "-x"},
        {"id": ""},
    ],
)
def test_mail_to_nowhere_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises((GtError, ValueError)):
        a_message(**change)


@pytest.mark.parametrize("text", ["a\x00b", "half \ud83d"])
def test_mail_that_cannot_be_kept_is_refused(text: str) -> None:
    for field in ("subject", "body", "id"):
        with pytest.raises(GtError) as failure:
            a_message(**{field: text})
        assert failure.value.code is ErrorCode.INVALID_VALUE


def test_a_message_that_is_not_there_is_not_found(ledger: Ledger) -> None:
    for action in (ledger.mail, ledger.mark_mail_read):
        with pytest.raises(GtError) as failure:
            action("never")
        assert failure.value.code is ErrorCode.NOT_FOUND
