"""What the ledger says of itself for `bd verify`, and its mending, on both engines."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert, text, update

from ledger.engine import schema
from ledger.store import Ledger
from models.ledger.records import BeadStatus, JobState, MergeRequestState, NewBead
from models.mayor.escalations import EscalationStatus
from models.upkeep.verification import StoreFacts
from tests.ledger.records import SHA, START, a_bead, a_merge, a_request, a_write


def sql(ledger: Ledger, *statements: Any) -> None:
    def change(connection: Any) -> tuple[None, str]:
        for statement in statements:
            connection.execute(statement)
        return None, "by hand"

    ledger.write(change)


def test_a_whole_ledger_has_nothing_to_say(ledger: Ledger) -> None:
    bead = a_bead(ledger, labels=("ui",)).id
    ledger.record_job([a_write(bead, 1, 1), a_merge(bead, 1, 2)])
    assert ledger.store_facts() == StoreFacts()


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("DROP TABLE comments", "comments: no such table"),
        ("ALTER TABLE beads DROP COLUMN extra", "beads.extra: no such column"),
        ("ALTER TABLE escalations DROP COLUMN level", "escalations.level: no such column"),
        ("ALTER TABLE jobs ADD COLUMN mood INTEGER", "jobs.mood: a column that no release made"),
        ("DELETE FROM schema_version", "schema_version: it says 0, not"),
    ],
)
def test_a_schema_that_drifted_is_named_and_mended_where_it_lacks_something(
    ledger: Ledger, harm: str, said: str
) -> None:
    bead = a_bead(ledger)
    opened = {"opened_at": START, "acked": False, "message": "no way on"}
    ledger.record_escalation(EscalationStatus(id="e0", severity="high", kind="help", source="ada", bead=None, **opened))
    sql(ledger, text(harm))
    (drift,) = ledger.store_facts().drift
    assert drift.startswith(said)
    ledger.mend_schema()
    left = ledger.store_facts().drift
    assert left == ((drift,) if "ADD COLUMN" in harm else ())
    assert ledger.bead(bead.id) == bead
    assert [one.level for one in ledger.escalations()] == ["L3"]
    assert ledger.create_bead(NewBead(rig="shop", title="goes on")).title == "goes on"


def test_an_index_that_is_gone_is_made_again(ledger: Ledger) -> None:
    bead = a_bead(ledger)
    on = " ON beads" if ledger._engine.dialect.name == "mysql" else ""
    sql(ledger, text(f"DROP INDEX beads_by_rig{on}"))
    assert ledger.store_facts().drift == ("beads: no index beads_by_rig",)
    ledger.mend_schema()
    assert ledger.store_facts() == StoreFacts()
    assert ledger.beads(rig="shop") == [bead]


def test_a_row_that_cannot_be_understood_is_named_and_the_others_are_compared(ledger: Ledger) -> None:
    good, bad = a_bead(ledger).id, a_bead(ledger).id
    sql(ledger, update(schema.beads).where(schema.beads.c.id == bad).values(status="nonsense", priority=9))
    ((table, key, why),) = ledger.store_facts().unreadable
    assert (table, key) == ("beads", bad)
    assert "status" in why
    assert set(ledger.record_facts().beads) == {good}


def test_a_change_that_nobody_committed_is_named_and_committed_under_its_own_name(ledger: Ledger) -> None:
    bead = a_bead(ledger).id
    with ledger._engine.connect() as connection:
        connection.execute(text("UPDATE beads SET title = 'by hand'"))
        connection.commit()
    assert ledger.store_facts().uncommitted == ("beads",)
    ledger.commit_leftovers()
    assert ledger.store_facts().uncommitted == ()
    entry = ledger.bead_history(bead)[-1]
    assert (entry.changes["title"][1], "by hand" in entry.message) == ("by hand", True)


def test_the_facts_of_the_record_are_what_was_recorded(ledger: Ledger) -> None:
    first, second, third = (a_bead(ledger, title).id for title in ("one", "two", "three"))
    ledger.record_job([a_write(first, 1, 1, merge_request=a_request(first))])
    ledger.record_job([a_write(second, 1, 1, polecat="nux"), a_merge(second, 1, 2, polecat="nux", detail=SHA)])
    ledger.reopen_bead(second)
    sql(ledger, insert(schema.dependencies).values(bead=third, needs="sh-gone"))
    facts = ledger.record_facts()
    assert facts.beads[second].status is BeadStatus.OPEN
    assert facts.jobs[first].state is JobState.WORKING
    assert facts.landings[second] == {SHA}
    assert [(one.name, one.bead) for one in facts.polecats] == [("nux", None), ("toast", first)]
    assert [request.id for request in facts.queued] == [f"{first}.1"]
    assert facts.dangling == ((third, "sh-gone"),)


def test_mending_does_nothing_where_the_record_has_moved_on(ledger: Ledger) -> None:
    bead, need = a_bead(ledger).id, a_bead(ledger).id
    ledger.record_job([a_write(bead, 1, 1, merge_request=a_request(bead))])
    assert ledger.free_polecat("shop", "toast", "sh-other") is False
    assert ledger.free_polecat("shop", "toast", bead) is True
    assert ledger.free_polecat("shop", "toast", bead) is False
    ledger.add_dependency(bead, need)
    assert ledger.drop_dangling(bead, need) is False
    assert ledger.bead(bead).dependencies == (need,)
    ledger.close_bead(need, "wontfix")
    assert ledger.close_landed(need, SHA) is False
    assert ledger.bead(need).close_reason == "wontfix"
    ledger.record_job([a_merge(bead, 1, 2, merge_request_state=None)])
    assert ledger.settle_request(f"{bead}.1") is True
    assert [request.state for request in ledger.merge_requests()] == [MergeRequestState.MERGED]
    assert ledger.settle_request(f"{bead}.1") is False


def test_landings_that_are_found_out_stay_known_when_the_bead_lands_again(ledger: Ledger) -> None:
    bead, other = a_bead(ledger).id, "b" * 40
    for sha in (SHA, other):
        assert ledger.close_landed(bead, sha) is True
        ledger.reopen_bead(bead)
    assert ledger.record_facts().landings[bead] == {SHA, other}
    assert [(event.attempt, event.sequence) for event in ledger.job_events(bead)] == [(0, 1), (0, 2)]


def test_what_a_bead_waits_for_may_be_gone_when_it_is_forgotten(ledger: Ledger) -> None:
    bead = a_bead(ledger).id
    sql(ledger, insert(schema.dependencies).values(bead=bead, needs="sh-gone"))
    ledger.remove_dependency(bead, "sh-gone")
    assert ledger.bead(bead).dependencies == ()
