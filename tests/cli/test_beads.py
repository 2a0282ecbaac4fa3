"""`bd` on a real embedded ledger."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ledger.store import Ledger
from models.ledger.records import Bead, BeadStatus, JobState, JobWrite, Rig
from tests.cli.conftest import Here

BEAD_KEYS = {
    *("id", "rig", "title", "description", "status", "priority", "type", "assignee", "dependencies"),
    *("target", "integrates", "integrates_sha", "labels", "origin", "close_reason", "merged_sha"),
    *("created_at", "updated_at", "closed_at"),
}


def create(here: Here, title: str = "Fix it", *extra: str) -> str:
    return str(here.json("bd", "create", title, "--rig", "shop", *extra)["id"])


def start_job(
    ledger: Ledger, bead: str, state: JobState = JobState.WORKING, rig: str = "shop", sequence: int = 1
) -> None:
    """Record what a job that works on `bead` would record."""
    write = JobWrite(
        bead=bead,
        rig=rig,
        workflow_id=f"polecat/{rig}/{bead}",
        attempt=1,
        sequence=sequence,
        at=datetime.now(UTC),
        event="started",
        state=state,
        bead_status=BeadStatus.IN_PROGRESS,
        polecat="toast",
        host="h1",
    )
    ledger.record_job([write])


class TestCreate:
    def test_it_returns_the_bead_with_the_keys_that_scripts_rely_on(self, here: Here, rig: Rig) -> None:
        made = here.json(
            *("bd", "create", "Fix the login", "--rig", "shop", "-d", "It fails.", "-p", "0", "-t", "bug"),
        )
        assert set(made) >= BEAD_KEYS
        assert made["id"].startswith("sh-")
        assert made | {"id": "", "created_at": "", "updated_at": ""} == {
            **dict.fromkeys(BEAD_KEYS, None),
            **{"id": "", "created_at": "", "updated_at": "", "rig": "shop", "title": "Fix the login"},
            **{"description": "It fails.", "status": "open", "priority": 0, "type": "bug", "dependencies": []},
            "labels": [],
        }

    def test_times_are_iso_8601_in_utc(self, here: Here, rig: Rig) -> None:
        created_at = here.json("bd", "create", "x", "--rig", "shop")["created_at"]
        assert created_at.endswith("Z")
        age = datetime.now(UTC) - datetime.fromisoformat(created_at)
        assert 0 <= age.total_seconds() < 60

    def test_it_depends_on_what_dep_names(self, here: Here, rig: Rig) -> None:
        first, second = create(here), create(here)
        made = here.json("bd", "create", "then", "--rig", "shop", "--dep", first, "--dep", second)
        assert sorted(made["dependencies"]) == sorted([first, second])

    @pytest.mark.parametrize(
        ("argv", "code"),
        [
            (("x", "--rig", "nope"), 3),
            (("x", "--rig", "shop", "--dep", "sh-zzz"), 3),
            (("", "--rig", "shop"), 2),
            (("  ", "--rig", "shop"), 2),
            (("x" * 2000, "--rig", "shop"), 2),
        ],
    )
    def test_what_cannot_be_is_refused(self, here: Here, rig: Rig, argv: tuple[str, ...], code: int) -> None:
        outcome = here.run("bd", "create", *argv, "-o", "json", expect=code)
        assert outcome.out == ""
        assert outcome.err.startswith("error: ")
        assert here.json("bd", "list") == []


class TestRead:
    def test_list_filters_by_rig_status_and_number(self, here: Here, rig: Rig) -> None:
        first, second = create(here, "one"), create(here, "two")
        here.run("bd", "close", first)
        assert [bead["id"] for bead in here.json("bd", "list")] == [first, second]
        assert [bead["id"] for bead in here.json("bd", "list", "--status", "open")] == [second]
        assert [bead["id"] for bead in here.json("bd", "list", "--rig", "shop", "--limit", "1")] == [first]
        here.run("bd", "list", "--rig", "nope", expect=3)

    def test_ready_leaves_out_what_waits_for_another_bead(self, here: Here, rig: Rig) -> None:
        first = create(here, "one")
        second = create(here, "two", "--dep", first)
        assert [bead["id"] for bead in here.json("bd", "ready")] == [first]
        here.run("bd", "close", first)
        assert [bead["id"] for bead in here.json("bd", "ready", "--rig", "shop")] == [second]

    def test_text_shows_a_line_for_each_bead_within_the_terminal(
        self, here: Here, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        create(here, "a long title " * 10)
        monkeypatch.setenv("COLUMNS", "80")
        shown = here.run("bd", "list").out.splitlines()
        assert len(shown) == 2
        assert max(map(len, shown)) <= 80

    def test_text_that_is_piped_is_whole(self, here: Here, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("COLUMNS", raising=False)
        create(here, "a long title " * 10)
        assert here.run("bd", "list").out.rstrip().endswith("a long title")

    def test_an_unknown_bead_is_not_found(self, here: Here, rig: Rig) -> None:
        for command in ("show", "log", "close"):
            assert here.run("bd", command, "sh-zzz", expect=3).err.startswith("error: there is no bead")


class TestChange:
    def test_update_changes_what_is_named_and_nothing_else(self, here: Here, bead: Bead) -> None:
        changed = here.json("bd", "update", bead.id, "--title", "New", "-p", "0", "-t", "chore", "--assignee", "Ada")
        assert (changed["title"], changed["priority"], changed["type"]) == ("New", 0, "chore")
        assert (changed["assignee"], changed["status"], changed["description"]) == ("Ada", "open", "")
        assert here.json("bd", "update", bead.id, "--status", "deferred")["status"] == "deferred"
        assert here.json("bd", "update", bead.id, "--assignee", "")["assignee"] is None

    def test_a_priority_of_nought_counts_as_named(self, here: Here, bead: Bead) -> None:
        assert here.json("bd", "update", bead.id, "-p", "0")["priority"] == 0

    def test_a_closed_bead_has_its_reason(self, here: Here, bead: Bead) -> None:
        closed = here.json("bd", "close", bead.id, "--reason", "no longer needed")
        assert (closed["status"], closed["close_reason"]) == ("closed", "no longer needed")
        assert here.json("bd", "close", bead.id)["close_reason"] == "no longer needed"

    def test_closing_a_bead_with_a_running_job_names_the_way_out(self, here: Here, bead: Bead, ledger: Ledger) -> None:
        start_job(ledger, bead.id)
        outcome = here.run("bd", "close", bead.id, expect=5)
        assert outcome.out == ""
        assert f"hint: gt job cancel {bead.id}" in outcome.err
        assert here.json("bd", "show", bead.id)["status"] == "in_progress"

    def test_closing_while_a_job_waits_and_temporal_is_down_still_closes(
        self, here: Here, bead: Bead, ledger: Ledger
    ) -> None:
        start_job(ledger, bead.id, JobState.WAITING)
        other = create(here, "another")
        assert here.json("bd", "close", other)["status"] == "closed"


class TestDependencies:
    def test_add_and_remove_show_the_bead(self, here: Here, rig: Rig) -> None:
        first, second = create(here), create(here)
        assert here.json("bd", "dep", "add", second, first)["dependencies"] == [first]
        assert here.json("bd", "dep", "add", second, first)["dependencies"] == [first]
        assert here.json("bd", "dep", "remove", second, first)["dependencies"] == []

    def test_a_circle_is_refused_and_named(self, here: Here, rig: Rig) -> None:
        first = create(here)
        second = create(here, "two", "--dep", first)
        assert "circle" in here.run("bd", "dep", "add", first, second, expect=5).err
        here.run("bd", "dep", "add", first, first, expect=5)
        here.run("bd", "dep", "add", first, "sh-zzz", expect=3)


class TestLog:
    def test_it_tells_the_bead_s_story_out_of_dolt(self, here: Here, bead: Bead) -> None:
        here.run("bd", "update", bead.id, "--title", "Another")
        here.run("bd", "close", bead.id)
        entries = here.json("bd", "log", bead.id)
        assert [set(entry) for entry in entries] == [{"at", "commit", "by", "message", "changes"}] * 3
        changed = next(entry for entry in entries if "title" in entry["changes"] and entry["changes"]["title"][0])
        assert changed["changes"]["title"] == ["Fix the login", "Another"]
        assert len(here.run("bd", "log", bead.id).out.splitlines()) == 3


class TestTarget:
    """Where a bead's work lands."""

    @pytest.fixture
    def shop(self, ledger: Ledger, remote: Path) -> Rig:
        rig = Rig(name="shop", url=str(remote), prefix="sh", branch="main", created_at=datetime.now(UTC))
        return ledger.add_rig(rig)

    def test_it_is_a_branch_of_the_remote(self, here: Here, shop: Rig) -> None:
        bead = create(here, "Fix it", "--target", "dev")
        assert here.json("bd", "show", bead)["target"] == "dev"
        assert here.json("bd", "update", bead, "--target", "main")["target"] == "main"
        assert here.json("bd", "update", bead, "--target", "")["target"] is None

    def test_a_branch_that_is_not_there_is_refused_with_those_that_are(self, here: Here, shop: Rig) -> None:
        bead = create(here)
        for argv in (("create", "x", "--rig", "shop"), ("update", bead)):
            refused = here.run("bd", *argv, "--target", "nope", expect=3)
            assert "has no branch 'nope'" in refused.err
            assert "dev main" in refused.err
        here.run("bd", "create", "x", "--rig", "shop", "--target", "a..b", expect=2)
        assert [one["id"] for one in here.json("bd", "list")] == [bead]

    def test_a_remote_that_is_away_keeps_no_bead_from_being_made(self, here: Here, shop: Rig, remote: Path) -> None:
        remote.rename(remote.with_name("away.git"))
        made = here.run("bd", "create", "x", "--rig", "shop", "--target", "later", "-o", "json")
        assert made.json["target"] == "later"
        assert "warning: whether the remote has later was not checked" in made.err
