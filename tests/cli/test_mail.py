"""`gt mail` on a real embedded ledger and a session's real folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agents import session_folder
from ledger.store import Ledger
from models.ledger.records import Bead
from services.town import Town
from tests.cli.conftest import Commands, Here
from tests.ledger.records import a_write

KEYS = {"id", "kind", "sender", "recipient", "subject", "body", "protocol", "reply_to", "sent_at", "read_at", "read"}


def send(here: Here, to: str = "shop/toast", subject: str = "Hello", body: str = "there", *extra: str) -> Any:
    return here.json("gt", "mail", "send", to, "-s", subject, body, *extra)


class TestSend:
    def test_it_is_in_the_inbox_of_whom_it_was_sent_to(self, here: Here) -> None:
        sent = send(here, body="words\n😀")
        assert set(sent) == KEYS | {"delivered"}
        assert (sent["sender"], sent["kind"], sent["read"], sent["delivered"]) == ("human", "NOTE", False, False)
        (found,) = here.json("gt", "mail", "inbox", "--identity", "shop/toast")
        assert set(found) == KEYS
        assert (found["id"], found["body"]) == (sent["id"], "words\n😀")
        assert here.json("gt", "mail", "inbox") == []
        assert here.run("gt", "mail", "inbox").out == "no messages\n"

    def test_sending_again_with_its_id_is_one_message(self, here: Here) -> None:
        assert send(here, "human", "x", "y", "--id", "once") == send(here, "human", "x", "y", "--id", "once")
        assert len(here.json("gt", "mail", "inbox")) == 1

    def test_ids_are_unique(self, here: Here) -> None:
        assert len({send(here)["id"] for _ in range(5)}) == 5

    @pytest.mark.parametrize(
        "argv",
        [
            ("no such/place/at all", "-s", "x"),
            ("", "-s", "x"),
            ("human", "-s", ""),
            ("human", "-s", "x" * 501),
            ("human",),
        ],
    )
    def test_what_cannot_be_sent_is_refused(self, here: Here, argv: tuple[str, ...]) -> None:
        outcome = here.run("gt", "mail", "send", *argv, expect=2)
        assert outcome.err.startswith("error: ")
        assert here.json("gt", "mail", "search", "x") == []

    def test_the_mayor_that_cannot_be_reached_has_it_in_his_inbox(self, here: Here) -> None:
        outcome = here.run("gt", "mail", "send", "mayor", "-s", "look at this")
        assert "waits in his inbox" in outcome.err
        assert [one["subject"] for one in here.json("gt", "mail", "inbox", "--identity", "mayor")] == ["look at this"]


class TestRead:
    def test_reading_notes_it_and_a_reply_goes_back(self, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
        sent = send(here)
        monkeypatch.setenv("GT_RIG", "shop")
        monkeypatch.setenv("GT_POLECAT", "toast")
        assert [one["id"] for one in here.json("gt", "mail", "inbox", "--unread")] == [sent["id"]]
        assert here.json("gt", "mail", "read", sent["id"])["read"] is True
        assert here.json("gt", "mail", "inbox", "--unread") == []
        reply = here.json("gt", "mail", "reply", sent["id"], "on it")
        assert (reply["sender"], reply["recipient"], reply["subject"]) == ("shop/toast", "human", "Re: Hello")
        assert reply["reply_to"] == sent["id"]
        again = here.json("gt", "mail", "reply", reply["id"], "and?")
        assert again["subject"] == "Re: Hello"

    def test_what_is_not_there_is_not_found(self, here: Here) -> None:
        for argv in (("read", "never"), ("reply", "never", "x")):
            here.run("gt", "mail", *argv, expect=3)

    def test_mail_is_found_by_its_words(self, here: Here) -> None:
        sent = send(here, subject="About the LOGIN")
        send(here, subject="other", body="nothing")
        assert [one["id"] for one in here.json("gt", "mail", "search", "login")] == [sent["id"]]
        assert here.json("gt", "mail", "search", "login", "--identity", "shop/nux") == []
        here.run("gt", "mail", "search", " ", expect=2)

    def test_a_letter_of_the_protocol_shows_what_it_says(self, here: Here, bead: Bead, ledger: Ledger) -> None:
        from policies.job.mail import letters

        write = a_write(bead.id, 1, 1, event="help", detail="which one?")
        ledger.record_job([write.model_copy(update={"mail": letters(write)})])
        (found,) = here.json("gt", "mail", "inbox", "--identity", "shop/witness")
        assert (found["kind"], found["protocol"]["problem"]) == ("HELP", "which one?")
        assert "which one?" in here.run("gt", "mail", "read", found["id"]).out


@pytest.fixture
def session(town: Town, ledger: Ledger, bead: Bead) -> Path:
    """The folder of a session of `toast` on this host."""
    ledger.record_job([a_write(bead.id, 1, 1, host=town.file.host)])
    folder = town.paths.session("shop", "toast", bead.id, 1)
    (folder / session_folder.INBOX).mkdir(parents=True)
    (folder / session_folder.TASK).write_text("# task\n")
    record = {"rig": "shop", "polecat": "toast", "bead": bead.id, "attempt": 1, "town": str(town.root)}
    session_folder.write_json(folder / session_folder.SESSION, record)
    return folder


class TestDelivery:
    def test_an_agent_finds_it_in_its_session_and_a_resend_is_one(
        self, here: Here, session: Path, commands: Commands, bead: Bead
    ) -> None:
        sent = send(here, "shop/toast", "Hello", "there 😀", "--id", "m1")
        assert sent["delivered"] is True
        send(here, "shop/toast", "Hello", "there 😀", "--id", "m1")
        inside: dict[str, Any] = {
            "GT_TASK_FILE": str(session / session_folder.TASK), "GT_TOWN": str(commands.cwd), "GT_RIG": "shop",
            "GT_POLECAT": "toast", "GT_BEAD": bead.id, "GT_ATTEMPT": "1",
        }  # fmt: skip
        listed = json.loads(commands.run("gt", "mail", "inbox", "-o", "json", **inside).out)
        assert [(one["id"], one["from"], one["subject"]) for one in listed] == [("m1", "human", "Hello")]
        assert "there 😀" in commands.run("gt", "mail", "read", "m1", **inside).out

    def test_a_session_on_another_host_whose_worker_cannot_be_told_gets_it_at_its_next_attempt(
        self, here: Here, ledger: Ledger, bead: Bead
    ) -> None:
        ledger.record_job([a_write(bead.id, 1, 1, host="h2")])
        outcome = here.run("gt", "mail", "send", "shop/toast", "-s", "Hello", "-o", "json")
        assert outcome.json["delivered"] is False
        assert outcome.err.startswith("warning: h2 was not told (Temporal does not answer")
        assert len(here.json("gt", "mail", "inbox", "--identity", "shop/toast", "--unread")) == 1

    def test_a_session_that_is_over_gets_nothing_more(self, here: Here, session: Path) -> None:
        (session / session_folder.ENDED).write_text("the job is over")
        assert send(here)["delivered"] is False
        assert list((session / session_folder.INBOX).iterdir()) == []

    def test_an_id_that_is_no_file_name_stays_in_the_inbox(self, here: Here, session: Path) -> None:
        send(here, "shop/toast", "x", "y", "--id", "../../escape")
        (file,) = (session / session_folder.INBOX).iterdir()
        assert "/" not in file.name
        assert not (session / ".." / "escape.json").exists()
