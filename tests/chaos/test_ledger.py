"""The short form of `make chaos-ledger`, and that its judge sees what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import delete, insert, select

from ledger.engine import schema
from ledger.engine.embedded import load_doltlite
from ledger.store import Ledger
from tests.chaos.ledger import Figures, judge, run, summary
from tests.chaos.ledger_writer import create, work
from tests.ledger.records import a_rig

load_doltlite()


def test_writers_and_servers_killed_at_random_lose_and_double_nothing(
    record_property: Callable[[str, object], None],
) -> None:
    figures = run(rounds=2, writers=3, seed=7)
    record_property("chaos", summary(figures))
    assert [one for one in figures if not one.ok] == []
    assert all(one.kills == 2 and one.acknowledged >= 9 for one in figures)


def judged(url: str, told: list[str]) -> Figures:
    figures = Figures("", 0)
    judge(url, told, figures)
    return figures


def test_the_judge_sees_what_was_lost_or_doubled(tmp_path: Path) -> None:
    url = f"doltlite:///{tmp_path / 'ledger.doltlite'}"
    ledger = Ledger.open(url)
    ledger.add_rig(a_rig())
    bead = create(ledger, "w0-0").id
    work(ledger, bead, 1)
    told = [f"create w0-0 {bead}", f"work {bead} 1"]
    assert judged(url, told).ok
    assert judged(url, [*told, "create w0-1 sh-zzz"]).lost == ["create w0-1 sh-zzz"]
    assert judged(url, [*told, f"work {bead} 2"]).lost == [f"work {bead} 2"]

    def double(connection: object) -> tuple[None, str]:
        row = dict(connection.execute(select(schema.beads)).mappings().one())  # type: ignore[attr-defined]
        connection.execute(insert(schema.beads).values(**row | {"id": "sh-again"}))  # type: ignore[attr-defined]
        return None, "doubled"

    ledger.write(double)
    assert judged(url, told).doubled == ["w0-0"]
    work(ledger, bead, 2)
    events = schema.job_events
    ledger.write(lambda connection: (connection.execute(delete(events).where(events.c.sequence == 1)), "lost"))
    found = judged(url, told)
    assert (found.lost, len(found.problems)) == ([f"work {bead} 1"], 1)
    ledger.close()
