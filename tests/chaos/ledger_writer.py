"""A writer that may be killed at any moment: `python -m tests.chaos.ledger_writer NAME ACKS`, the URL on its input.

Creates beads and records a job's transitions, for ever. What the ledger acknowledged is appended to the file ACKS
and synced, one line each; a writer that is started again goes on behind the last line, with the same keys.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ledger.store import Ledger
from models.errors import GtError
from models.ledger.records import Bead, NewBead
from tests.ledger.records import a_write

T = TypeVar("T")
WRITES_PER_BEAD = 5
PAUSE_S = 0.05


def main(name: str, acks: Path) -> None:
    url = sys.stdin.readline().strip()
    ledger = patiently(lambda: Ledger.open(url))
    done = acks.read_text(encoding="utf-8").splitlines() if acks.exists() else []
    with acks.open("a", encoding="utf-8") as log:

        def acknowledge(line: str) -> None:
            log.write(line + "\n")
            log.flush()
            os.fsync(log.fileno())

        # A line that was cut by the kill belongs to a write that was acknowledged and will be again.
        lines = [line for line in done if line.endswith(";")]
        number = sum(line.startswith("create") for line in lines)
        bead, sequence = "", WRITES_PER_BEAD
        if lines and number:
            last = lines[-1].rstrip(";").split()
            bead, sequence = (last[2], 0) if last[0] == "create" else (last[1], int(last[2]))
        while True:
            if sequence >= WRITES_PER_BEAD:
                title = f"{name}-{number}"
                bead, number, sequence = patiently(lambda title=title: create(ledger, title)).id, number + 1, 0  # type: ignore[misc]
                acknowledge(f"create {title} {bead};")
            else:
                sequence += 1
                patiently(lambda bead=bead, sequence=sequence: work(ledger, bead, sequence))  # type: ignore[misc]
                acknowledge(f"work {bead} {sequence};")


def create(ledger: Ledger, title: str) -> Bead:
    return ledger.create_bead(NewBead(rig="shop", title=title), key=title)


def work(ledger: Ledger, bead: str, sequence: int) -> None:
    ledger.record_job([a_write(bead, 1, sequence, polecat=f"p{bead[3:]}", detail=f"#{sequence}")])


def patiently(action: Callable[[], T]) -> T:
    """As a durable activity does: until it succeeds, with the same key."""
    while True:
        try:
            return action()
        except GtError as error:
            if not error.retryable:
                raise
            time.sleep(PAUSE_S)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
