"""What surrounds beads, by command: words, history, molecules, exchange."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ledger.store import Ledger
from models.ledger.records import Bead, Rig
from tests.cli.conftest import Commands, Here
from tests.cli.test_beads import create, start_job
from tests.fault_document import documented

TEMPLATE = """
title = "Release {{version}}"
description = "All of {{ version }}."
priority = 1
type = "epic"
labels = ["release"]

[[steps]]
name = "build"
title = "Build {{version}}"

[[steps]]
name = "ship"
title = "Ship it"
needs = ["build"]
"""


@pytest.fixture
def template(tmp_path: Path) -> Path:
    file = tmp_path / "release.toml"
    file.write_text(TEMPLATE)
    return file


class TestFind:
    def test_list_filters_by_everything_that_is_known(self, here: Here, rig: Rig) -> None:
        bug = create(here, "a bug", "-t", "bug", "-p", "0", "-l", "ui", "-l", "slow", "--assignee", "ada")
        task = create(here, "a task", "-l", "ui")
        here.run("bd", "close", task)
        for argv, found in (
            (("-t", "bug"), [bug]),
            (("-p", "0"), [bug]),
            (("--assignee", "ada"), [bug]),
            (("--assignee", ""), [task]),
            (("-l", "ui"), [bug, task]),
            (("-l", "ui", "-l", "slow"), [bug]),
            (("--status", "closed", "--status", "open"), [bug, task]),
            (("--status", "deferred"), []),
        ):
            assert [bead["id"] for bead in here.json("bd", "list", *argv)] == found, argv

    def test_search_finds_words_in_any_case(self, here: Here, rig: Rig) -> None:
        login = create(here, "Fix the Login")
        other = create(here, "other")
        here.run("bd", "comment", other, "about LOGIN too")
        assert [bead["id"] for bead in here.json("bd", "search", "login")] == [login, other]
        assert here.json("bd", "search", "nothing like it") == []
        assert here.run("bd", "search", "zzz").out == "nothing was found\n"
        here.run("bd", "search", " ", expect=2)


class TestWords:
    def test_labels_are_added_removed_and_listed(self, here: Here, bead: Bead) -> None:
        assert here.json("bd", "label", "add", bead.id, "ui", "area:login")["labels"] == ["area:login", "ui"]
        assert here.json("bd", "label", "list") == [{"label": "area:login", "beads": 1}, {"label": "ui", "beads": 1}]
        assert here.json("bd", "label", "remove", bead.id, "ui", "never")["labels"] == ["area:login"]
        assert here.run("bd", "label", "add", bead.id, "two words", expect=2).err.startswith("error: ")
        here.run("bd", "label", "add", "sh-zzz", "ui", expect=3)

    def test_comments_are_said_and_shown(self, here: Here, bead: Bead) -> None:
        told = here.json("bd", "comment", bead.id, "why?\n😀")
        assert set(told) == {"id", "bead", "author", "at", "text"}
        assert [comment["text"] for comment in here.json("bd", "comments", bead.id)] == ["why?\n😀"]
        assert here.json("bd", "show", bead.id)["comments"] == here.json("bd", "comments", bead.id)
        assert "why?" in here.run("bd", "show", bead.id).out
        here.run("bd", "comment", bead.id, " ", expect=2)
        here.run("bd", "comments", "sh-zzz", expect=3)

    def test_a_comment_is_read_from_standard_input(self, commands: Commands, bead: Bead) -> None:
        commands.run("bd", "comment", bead.id, "-", expect=2)

    def test_in_a_session_the_polecat_is_named(self, here: Here, bead: Bead, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GT_RIG", "shop")
        monkeypatch.setenv("GT_POLECAT", "toast")
        assert here.json("bd", "comment", bead.id, "done so far")["author"] == "shop/toast"
        assert here.json("bd", "log", bead.id)[-1]["by"] == "shop/toast"


class TestEndings:
    def test_a_closed_bead_is_opened_again(self, here: Here, bead: Bead) -> None:
        here.run("bd", "close", bead.id, "--reason", "wontfix")
        opened = here.json("bd", "reopen", bead.id, "--reason", "we want it after all")
        assert (opened["status"], opened["close_reason"], opened["closed_at"]) == ("open", None, None)
        assert here.json("bd", "reopen", bead.id)["status"] == "open"
        assert here.json("bd", "log", bead.id)[-1]["message"] == f"{bead.id}: reopened (we want it after all)"
        here.run("bd", "reopen", "sh-zzz", expect=3)

    @pytest.mark.parametrize("status", ["hooked", "submitted"])
    def test_what_only_a_job_can_give_is_not_given_by_hand(self, here: Here, bead: Bead, status: str) -> None:
        outcome = here.run("bd", "update", bead.id, "--status", status, expect=5)
        assert f"hint: gt sling {bead.id} shop" in outcome.err

    def test_no_status_is_changed_behind_a_running_job(self, here: Here, bead: Bead, ledger: Ledger) -> None:
        start_job(ledger, bead.id)
        for status in ("open", "deferred", "blocked"):
            assert f"gt job cancel {bead.id}" in here.run("bd", "update", bead.id, "--status", status, expect=5).err
        assert here.json("bd", "update", bead.id, "--title", "Other words")["status"] == "in_progress"

    def test_a_tree_shows_what_a_bead_needs(self, here: Here, rig: Rig) -> None:
        base = create(here, "base")
        top = create(here, "top", "--dep", base)
        tree = here.json("bd", "dep", "tree", top)
        assert (tree["id"], [need["id"] for need in tree["needs"]]) == (top, [base])
        assert here.run("bd", "dep", "tree", top).out.splitlines() == [f"{top}  open  top", f"└─ {base}  open  base"]
        here.run("bd", "dep", "tree", "sh-zzz", expect=3)


class TestHistory:
    def test_a_bead_is_shown_as_it_was(self, here: Here, bead: Bead) -> None:
        commit = here.json("bd", "log", bead.id)[0]["commit"]
        here.run("bd", "update", bead.id, "--title", "Another")
        for moment in (commit, commit[:8]):
            shown = here.json("bd", "show", bead.id, "--as-of", moment)
            assert (shown["title"], shown["as_of"]["commit"]) == ("Fix the login", commit)
        assert here.json("bd", "show", bead.id, "--as-of", "0s")["title"] == "Another"

    @pytest.mark.parametrize(
        ("moment", "code"),
        [("1969-01-01", 3), ("1h", 3), ("0000000", 3), ("yesterday", 3), ("last week", 2), ("", 2), ("'; --", 2)],
    )
    def test_a_moment_without_the_bead_is_said(self, here: Here, bead: Bead, moment: str, code: int) -> None:
        assert here.run("bd", "show", bead.id, "--as-of", moment, expect=code).err.startswith("error: ")

    def test_diff_shows_what_is_different_since(self, here: Here, bead: Bead) -> None:
        start = here.json("bd", "log", bead.id)[0]["commit"]
        here.run("bd", "update", bead.id, "--title", "Another", "-p", "0")
        new = create(here, "new")
        told = here.json("bd", "diff", "--since", start)
        by_bead = {one["bead"]: one for one in told["beads"]}
        assert by_bead[bead.id]["changes"] == {"title": ["Fix the login", "Another"], "priority": [2, 0]}
        assert by_bead[new]["kind"] == "added"
        assert told["older"]["commit"] == start
        text = here.run("bd", "diff", "--since", start).out
        assert f"~ {bead.id}  Another" in text
        assert "title: Fix the login → Another" in text
        assert here.run("bd", "diff", "--since", told["newer"]["commit"]).out == "nothing differs\n"
        assert {one["bead"] for one in here.json("bd", "diff")["beads"]} == {bead.id, new}

    def test_dolt_log_tells_the_newest_first(self, here: Here, bead: Bead) -> None:
        here.run("bd", "close", bead.id)
        entries = here.json("gt", "dolt", "log", "--limit", "2")
        assert [entry["message"] for entry in entries] == [
            f"{bead.id}: closed (closed by hand)",
            f"{bead.id}: created (Fix the login)",
        ]
        assert set(entries[0]) == {"at", "commit", "by", "message"}
        assert len(here.run("gt", "dolt", "log").out.splitlines()) == len(here.json("gt", "dolt", "log"))

    def test_garbage_is_collected_and_everything_stays(self, here: Here, bead: Bead) -> None:
        before = here.json("bd", "log", bead.id)
        assert here.json("gt", "dolt", "gc") == {"collected": True}
        assert here.json("bd", "log", bead.id) == before


class TestMolecules:
    def test_a_molecule_is_made_from_a_template(self, here: Here, rig: Rig, template: Path) -> None:
        made = here.json("bd", "mol", "create", str(template), "--rig", "shop", "--var", "version=1.2")
        assert (made["title"], made["template"], made["done"], made["total"]) == ("Release 1.2", "release", 0, 2)
        assert made["next"] == ["build"]
        bead = here.json("bd", "show", made["bead"])
        assert (bead["description"], bead["priority"], bead["type"]) == ("All of 1.2.", 1, "epic")
        assert [one["bead"] for one in here.json("bd", "mol", "list", "--rig", "shop")] == [made["bead"]]
        assert "0/2" in here.run("bd", "mol", "list").out
        assert "Build 1.2" in here.run("bd", "mol", "show", made["bead"]).out

    def test_progress_notes_what_is_done(self, here: Here, rig: Rig, template: Path) -> None:
        bead = here.json("bd", "mol", "create", str(template), "--rig", "shop", "--var", "version=1")["bead"]
        assert "build" in here.run("bd", "mol", "progress", bead, "--done", "ship", expect=5).err
        assert here.json("bd", "mol", "progress", bead, "--done", "build")["next"] == ["ship"]
        assert here.run("bd", "mol", "progress", bead).out == f"{bead}: 1 of 2 steps done; next: ship\n"
        assert here.json("bd", "mol", "progress", bead, "--undone", "build")["done"] == 0
        here.run("bd", "mol", "progress", bead, "--done", "never", expect=3)

    def test_cleanup_removes_the_steps_of_closed_beads(self, here: Here, rig: Rig, template: Path) -> None:
        bead = here.json("bd", "mol", "create", str(template), "--rig", "shop", "--var", "version=1")["bead"]
        here.run("bd", "mol", "cleanup", expect=2)
        assert here.json("bd", "mol", "cleanup", "--completed") == {"cleaned": []}
        here.run("bd", "close", bead)
        assert here.json(*documented("bd mol cleanup --completed")) == {"cleaned": [bead]}
        here.run("bd", "mol", "show", bead, expect=3)
        assert here.json("bd", "show", bead)["status"] == "closed"

    @pytest.mark.parametrize(
        ("text", "code"),
        [
            (None, 3),
            ("title =", 2),
            ('title = "x"', 2),
            ('title = "x"\nsteps = []', 2),
            ('title = "x"\npriority = 9\n[[steps]]\nname="a"\ntitle="A"', 2),
            ('title = "{{never}}"\n[[steps]]\nname="a"\ntitle="A"', 2),
            ('title = "x"\n[[steps]]\nname="a"\ntitle="A"\nneeds=["b"]', 2),
            ('title = ""\n[[steps]]\nname="a"\ntitle="A"', 2),
        ],
    )
    def test_what_is_no_template_is_refused(
        self, here: Here, rig: Rig, tmp_path: Path, text: str | None, code: int
    ) -> None:
        file = tmp_path / "wrong.toml"
        if text is not None:
            file.write_text(text)
        outcome = here.run("bd", "mol", "create", str(file), "--rig", "shop", expect=code)
        assert outcome.err.startswith("error: ")
        assert "Traceback" not in outcome.err
        assert here.json("bd", "list") == []


class TestExchange:
    def test_what_was_exported_is_imported_as_it_was(self, here: Here, rig: Rig, tmp_path: Path) -> None:
        first = create(here, "one 😀", "-l", "ui", "-d", "a\nb")
        create(here, "two", "--dep", first)
        here.run("bd", "comment", first, "said")
        told = here.run("bd", "export").out
        assert [json.loads(line)["title"] for line in told.splitlines()] == ["one 😀", "two"]
        file = tmp_path / "beads.jsonl"
        assert here.json("bd", "export", str(file)) == {"file": str(file), "beads": 2}
        assert file.read_text() == told
        report = here.json("bd", "import", str(file))
        assert (report["created"], len(report["known"])) == ([], 2)
        assert here.run("bd", "export").out == told

    def test_a_file_of_the_go_program_is_taken_in(self, here: Here, rig: Rig, tmp_path: Path) -> None:
        file = tmp_path / "issues.jsonl"
        line = {"id": "bd-1", "title": "Old", "status": "open", "priority": 1, "created_at": "2025-01-01T00:00:00Z"}
        file.write_text(json.dumps(line) + "\n")
        assert "bd import FILE --rig R" in here.run("bd", "import", str(file), expect=3).err
        assert here.json("bd", "import", str(file), "--rig", "shop", "--dry-run")["dry_run"] is True
        assert here.json("bd", "list") == []
        report = here.json("bd", "import", str(file), "--rig", "shop")
        assert here.json("bd", "show", report["renamed"]["bd-1"])["origin"] == "bd-1"

    def test_a_file_with_a_wrong_line_is_not_taken_in_at_all(self, here: Here, rig: Rig, tmp_path: Path) -> None:
        file = tmp_path / "issues.jsonl"
        good = json.dumps({"id": "sh-1", "title": "x", "created_at": "2025-01-01T00:00:00Z"})
        file.write_bytes(good.encode() + b"\n{\n\xff\xfe\n" + good.replace("x", "").encode())
        outcome = here.run("bd", "import", str(file), expect=2)
        for said in ("line 2", "line 3: not valid UTF-8", "line 4"):
            assert said in outcome.err
        assert here.json("bd", "list") == []
        here.run("bd", "import", str(tmp_path / "never.jsonl"), expect=3)
        here.run("bd", "import", str(tmp_path), expect=2)

    def test_only_plain_files_are_written_over(self, here: Here, bead: Bead, tmp_path: Path) -> None:
        """Written by renaming, an export would take the place of a device: as root, of /dev/null."""
        pipe, device, link, real = (tmp_path / name for name in ("pipe", "device", "link", "real"))
        os.mkfifo(pipe)
        device.symlink_to("/dev/full")
        link.symlink_to(real)
        for odd in (tmp_path, pipe, device, Path("/dev/full")):
            before = os.lstat(odd).st_ino
            outcome = here.run("bd", "export", str(odd), expect=2)
            assert (f"{odd} is no plain file" in outcome.err, os.lstat(odd).st_ino) == (True, before)
        here.run("bd", "export", str(link))
        assert (link.is_symlink(), bead.id in real.read_text()) == (True, True)
        assert bead.id in here.run("bd", "export", "/dev/stdout").out
