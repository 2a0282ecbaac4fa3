"""Forty kinds of secrets in all that a town reads of agents and gates: none is kept and none is sent.

Beside each stands a harmless mark, which is: so the search would find the secret.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import MetaData, select

from ledger.engine.engines import open_engine
from tests.e2e.living_town import QUICK, LivingTown, wait_until
from tests.planted_secrets import Planted, planted
from tests.sinks import HttpSink, http_sink

AGENT = """\
case $GT_ATTEMPT in
1) cat {plant}/pane.txt; exit 3;;
2) echo bad > bad.txt
   for part in {plant}/help.*.txt; do gt escalate "$(cat $part)"; done
   gt mail send human -s "$(head -1 {plant}/mail.txt)" - < {plant}/mail.txt;;
*) git rm -q bad.txt; echo good > good.txt;;
esac
git add -A && git -c user.name=a -c user.email=a@example.com commit -qF {plant}/commit.txt && gt done
"""
DOORS = ("pane", "gate", "commit", "mail", "help")
KEPT_BY_GIT = ("rigs", "run/sessions")
"""The agent's own: its repository, and the folder that it writes to itself."""


@pytest.fixture
def town() -> Iterator[LivingTown]:
    with tempfile.TemporaryDirectory(prefix="gt-") as folder:
        living = LivingTown(Path(folder))
        try:
            living.init()
            living.up()
            living.configure(QUICK)
            yield living
        finally:
            living.close()


def test_secrets_of_forty_kinds_are_in_no_history_record_log_evidence_or_alert(town: LivingTown) -> None:
    with http_sink() as sink:
        town.add_channel("hook", sink.url)
        secrets = {
            door: [*planted(seed), Planted("own", f"to {sink.url}", (sink.url,))] for seed, door in enumerate(DOORS)
        }
        assert min(len({one.kind for one in kinds}) for kinds in secrets.values()) >= 40
        plant = town.shared
        write(plant, secrets)
        gate = f"cat {plant}/gate.txt; test ! -e bad.txt"
        town.run("gt", "rig", "add", "shop", str(town.remote), "--prefix", "sh", "--gate", f"leaks={gate}")
        (plant / "agent.sh").write_text(AGENT.format(plant=plant))
        bead = town.bead("Leak")
        town.sling(bead, f"sh {plant}/agent.sh")
        town.wait_closed(bead)
        wait_until("the alert", lambda: mark("help", 0) in str(sink.taken))
        found = found_everywhere(town, sink)
    marks = {door: [mark(door, number) for number in range(len(kinds))] for door, kinds in secrets.items()}
    controls = {
        # A page of the database may end within a mark, and a pane's last words are few.
        "history": {"help": 40, "gate": 40, "pane": 5},
        "record": {"help": 45, "gate": 40, "mail": 45},
        "files": {"pane": 45, "gate": 45, "commit": 45},
        "alerts": {"help": 10},
    }
    for place, doors in controls.items():
        for door, least in doors.items():
            seen = sum(one in found[place] for one in marks[door])
            assert seen >= least, f"only {seen} marks of {door} are in the {place}"
    leaked = {
        (place, door, one.kind)
        for place, told in found.items() for door, kinds in secrets.items() for one in kinds
        if any(part in told for part in one.hidden)
    }  # fmt: skip
    assert leaked == set()


def mark(door: str, number: int) -> str:
    return f"mark-{door}-{number:02}."


def write(plant: Path, secrets: dict[str, list[Planted]]) -> None:
    for door, kinds in secrets.items():
        lines = [f"{mark(door, number)}\n{one.line}\n" for number, one in enumerate(kinds)]
        (plant / f"{door}.txt").write_text("".join(lines))
        if door == "help":
            for start in range(0, len(lines), 10):
                (plant / f"help.{start:02}.txt").write_text("".join(lines[start : start + 10]))


def found_everywhere(town: LivingTown, sink: HttpSink) -> dict[str, str]:
    """Temporal's database, the record's tables, what else is in the town's files once it was stopped, the channel."""
    record = record_dump(town.town.ledger_url())
    town.run("gt", "down", "--sessions")
    history, files = "", ""
    for path in files_of(town):
        text = path.read_text(errors="replace")
        history, files = (history + text, files) if "temporal" in path.name else (history, files + text)
    alerts = "\n".join(f"{body['title']}\n{body['message']}" for body in sink.taken)
    return {"history": history, "record": record, "files": files, "alerts": alerts}


def record_dump(url: str) -> str:
    engine, _ = open_engine(url)
    try:
        known = MetaData()
        known.reflect(engine)
        with engine.connect() as connection:
            return "\n".join(
                str(tuple(row)) for table in known.sorted_tables for row in connection.execute(select(table))
            )
    finally:
        engine.dispose()


def files_of(town: LivingTown) -> Iterator[Path]:
    own = [town.root / place for place in KEPT_BY_GIT]
    for path in sorted(town.root.rglob("*")):
        private = path == town.town.paths.channels
        if path.is_file() and not path.is_symlink() and not private and not any(map(path.is_relative_to, own)):
            yield path
