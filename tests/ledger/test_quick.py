"""Questions over the bare driver: the same answers as the ledger's, and nothing odd decided there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import update

from ledger import queries
from ledger.engine import schema
from ledger.overview import overview
from ledger.queries import Ask, Unanswered, ask_once
from ledger.store import Ledger
from models.errors import ErrorCode, GtError
from models.mayor.escalations import EscalationStatus
from tests.ledger.conftest import free_port
from tests.ledger.records import START, a_bead, a_merge, a_write


def version_of(ask: Ask) -> int:
    return int(ask("SELECT version FROM schema_version", {})[0]["version"])


def test_it_answers_what_the_ledger_answers(ledger: Ledger, url: str) -> None:
    hostile = "a\n'b' \\ \"c\" :x %s "
    first = a_bead(ledger, "naïve 修复 🚀 : 50% of :id", description=hostile, labels=("ui", "slow"))
    second = a_bead(ledger, "waits", priority=0)
    ledger.add_dependency(second.id, first.id)
    ledger.add_comment(first.id, "ada", "50% done: see `:id`")
    for bead in (first, second):
        assert ask_once(url, lambda ask, bead=bead: queries.bead(ask, bead.id)) == ledger.bead(bead.id)  # type: ignore[misc]
        assert ask_once(url, lambda ask, bead=bead: queries.comments(ask, bead.id)) == ledger.comments(bead.id)  # type: ignore[misc]
    ready = ask_once(url, lambda ask: queries.ready(ask, "shop", None))
    assert ready == ledger.ready("shop") == [ledger.bead(first.id)]
    ask_once(url, lambda ask: queries.require_rig(ask, "shop"))


def test_it_has_all_that_a_status_shows(ledger: Ledger, url: str) -> None:
    ended, running = a_bead(ledger), a_bead(ledger)
    ledger.record_job([a_write(ended.id, 1, 1), a_merge(ended.id, 1, 2)])
    ledger.record_job([a_write(running.id, 1, 1, polecat="nux")])
    told = EscalationStatus(
        id="e1", severity="high", kind="help", source="x", bead=running.id, opened_at=START, acked=True, message="m"
    )
    over = told.model_copy(update={"id": "e2", "resolved": True})
    for one in (told, over):
        ledger.record_escalation(one)
    ledger.set_setting("town", "sandbox.mode", "none")
    found = ask_once(url, overview)
    assert found.rigs == ledger.rigs()
    assert found.jobs == ledger.jobs(unfinished=True) == [ledger.job(running.id)]
    assert found.polecats == ledger.polecats()
    assert found.escalations == ledger.escalations() == [told]
    assert found.sandbox == ledger.effective_settings(None).sandbox


def test_what_is_not_there_is_refused_as_the_ledger_refuses_it(ledger: Ledger, url: str) -> None:
    a_bead(ledger)
    questions: list[Callable[[Ask], object]] = [
        lambda ask: queries.bead(ask, "sh-zzz"),
        lambda ask: queries.comments(ask, "sh-zzz"),
        lambda ask: queries.require_rig(ask, "market"),
    ]
    for question in questions:
        with pytest.raises(GtError) as refused:
            ask_once(url, question)
        assert refused.value.code is ErrorCode.NOT_FOUND


def test_all_that_one_question_asks_sees_one_state(ledger: Ledger, url: str) -> None:
    bead = a_bead(ledger)

    def question(ask: Ask) -> tuple[int, int]:
        before = len(queries.comments(ask, bead.id))
        ledger.add_comment(bead.id, "ada", "meanwhile")
        return before, len(queries.comments(ask, bead.id))

    assert ask_once(url, question) == (0, 0)
    assert len(ledger.comments(bead.id)) == 1


def test_a_ledger_of_another_schema_is_left_to_the_ledger(ledger: Ledger, url: str) -> None:
    ledger.write(lambda connection: (connection.execute(update(schema.schema_version).values(version=1)), "older"))
    with pytest.raises(Unanswered):
        ask_once(url, version_of)


def test_a_question_that_fails_is_left_to_the_ledger(ledger: Ledger, url: str) -> None:
    with pytest.raises(Unanswered):
        ask_once(url, lambda ask: ask("SELECT nothing FROM nowhere", {}))


def test_a_ledger_that_is_not_there_is_left_to_the_ledger_and_not_made(embedded_url: str, tmp_path: Path) -> None:
    urls = [
        embedded_url,
        f"mysql+pymysql://root:secret@127.0.0.1:{free_port()}/town",
        "postgresql://h/d",
        "nonsense",
        f"{embedded_url}?mode=ro",
    ]
    for url in urls:
        with pytest.raises(Unanswered):
            ask_once(url, version_of)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_left_to_the_ledger(embedded_url: str, tmp_path: Path) -> None:
    (tmp_path / "ledger.doltlite").write_bytes(b"not a database at all " * 300)
    with pytest.raises(Unanswered):
        ask_once(embedded_url, version_of)
