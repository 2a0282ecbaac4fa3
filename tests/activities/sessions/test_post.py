"""Letters that come from another host, into a session's real folder."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from temporalio.testing import ActivityEnvironment

from activities.sessions.inbox import PostActivities
from agents import session_folder
from models.mayor.mail import Message
from models.supervision.host_requests import DeliverLetter
from models.town import TownPaths

LETTER = Message(
    id="m1", sender="ada", recipient="shop/toast", subject="Hello", body="there 😀",
    sent_at=datetime(2026, 3, 1, tzinfo=UTC),
)  # fmt: skip
ORDER = DeliverLetter(rig="shop", polecat="toast", bead="sh-1", attempt=2, letter=LETTER)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = TownPaths(tmp_path).session("shop", "toast", "sh-1", 2) / session_folder.INBOX
    folder.mkdir(parents=True)
    return folder


def test_an_agent_finds_it_once_however_often_it_is_delivered(tmp_path: Path, inbox: Path) -> None:
    deliver = PostActivities(TownPaths(tmp_path)).deliver_letter
    assert ActivityEnvironment().run(deliver, ORDER).delivered
    assert not ActivityEnvironment().run(deliver, ORDER).delivered
    (file,) = inbox.iterdir()
    told = json.loads(file.read_text())
    assert (told["id"], told["from"], told["body"]) == ("m1", "ada", "there 😀")


def test_a_session_that_is_over_or_another_s_attempt_gets_nothing(tmp_path: Path, inbox: Path) -> None:
    deliver = PostActivities(TownPaths(tmp_path)).deliver_letter
    assert not ActivityEnvironment().run(deliver, ORDER.model_copy(update={"attempt": 3})).delivered
    (inbox.parent / session_folder.ENDED).write_text("the job is over")
    assert not ActivityEnvironment().run(deliver, ORDER).delivered
    assert list(inbox.iterdir()) == []
