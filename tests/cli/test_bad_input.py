"""What broke other programs, given to `bd`: a clear error, or kept as it was written."""

from __future__ import annotations

import pytest

from ledger.store import Ledger
from models.ledger.records import Bead, Rig
from services.town import Town
from tests.cli.conftest import Commands, Here

WORDS = [
    "'; DROP TABLE beads; --",
    '" OR 1=1 --',
    "%s %(x)s :y {z} \\",
    "😀👩‍👩‍👧 שלום \u202eright to left",
    "two\nlines\r\nand\ttabs",
    "--looks-like-an-option",
    "x" * 1000,
]


def came_back(program: Commands | Here, rig: Rig, text: str) -> None:
    argv = ("bd", "create", "-o", "json", "--rig", rig.name, f"--description={text * 3}", "--", text)
    made = program.run(*argv).json
    assert (made["title"], made["description"]) == (text, text * 3)
    assert program.json("bd", "show", made["id"])["title"] == text


def test_any_words_come_back_as_they_were_written(here: Here, rig: Rig) -> None:
    for text in WORDS:
        came_back(here, rig, text)
    assert {one["title"] for one in here.json("bd", "list")} == set(WORDS)
    assert "\u202e" not in here.run("bd", "list").out


def test_any_words_come_back_as_they_were_written_through_whole_processes(commands: Commands, rig: Rig) -> None:
    came_back(commands, rig, "".join(WORDS)[:1000])


def test_a_description_of_a_megabyte_is_kept(here: Here, rig: Rig, ledger: Ledger) -> None:
    # The system's own limit for one argument is 128 kB: what is longer comes from a file.
    from models.ledger.records import BeadChanges

    bead = here.json("bd", "create", "long", "--rig", rig.name)["id"]
    ledger.update_bead(bead, BeadChanges(description="é" * 600_000))
    assert here.json("bd", "show", bead)["description"] == "é" * 600_000


def test_words_that_are_no_utf_8_are_refused(here: Here, commands: Commands, rig: Rig) -> None:
    for word in (b"half \xed\xa0\xbd", b"\xff\xfe", b"caf\xe9"):
        outcome = commands.run("bd", "create", word, "--rig", rig.name, expect=2)
        assert "not valid UTF-8" in outcome.err, word
    assert here.json("bd", "list") == []


MEANINGLESS = [
    (("bd", "show", "sh-1'; --"), 2),
    (("bd", "show", "../../etc/passwd"), 2),
    (("bd", "show", "SH-1A2"), 2),
    (("bd", "show", "zz-1a2"), 3),
    (("bd", "update", "sh-1a2", "-p", "9"), 2),
    (("bd", "update", "sh-1a2", "-p", "high"), 2),
    (("bd", "update", "sh-1a2", "--status", "nonsense"), 2),
    (("bd", "list", "--limit", "0"), 2),
    (("bd", "list", "--limit", "many"), 2),
    (("bd", "create", "x", "--rig", "shop; rm -rf /"), 2),
    (("bd", "create", "x", "--rig", "shop", "--dep", "zz-none"), 3),
    (("bd", "create", "x", "--rig", "shop", "-l", "two words"), 2),
    (("bd", "diff", "--since", "0000-00-00"), 2),
]


def test_what_means_nothing_is_an_error_in_one_line(here: Here, bead: Bead) -> None:
    for argv, code in MEANINGLESS:
        outcome = here.run(*argv, "-o", "json", expect=code)
        assert outcome.out == ""
        assert outcome.err.startswith("error: "), argv
        assert "Traceback" not in outcome.err
    assert [one["id"] for one in here.json("bd", "list")] == [bead.id]


@pytest.mark.parametrize("content", [b"not a database " * 400, b"SQLite format 3\x00" + bytes(4080)])
def test_a_file_that_is_no_ledger_is_said_and_stays_as_it_is(here: Here, town: Town, content: bytes) -> None:
    file = town.paths.doltlite_file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    outcome = here.run("bd", "list", expect=1)
    assert outcome.err.startswith("error: ")
    assert "Traceback" not in outcome.err
    assert file.read_bytes() == content


def test_a_ledger_of_a_newer_release_is_said_and_not_touched(here: Here, bead: Bead, ledger: Ledger) -> None:
    from sqlalchemy import update

    from ledger.engine import schema

    ledger.write(lambda connection: (connection.execute(update(schema.schema_version).values(version=99)), "newer"))
    outcome = here.run("bd", "show", bead.id, expect=1)
    assert "schema 99" in outcome.err
    assert "hint: install the newer release" in outcome.err
