"""A process that writes to a ledger: `writer.py create|work ARGUMENTS`, the ledger's URL on stdin.

Prints what was acknowledged, one line each, as soon as it was.
"""

from __future__ import annotations

import sys

from activities.ledger import LedgerActivities
from ledger.store import Ledger
from models.ledger.records import JobWrites, NewBead
from tests.ledger.records import a_write


def create(url: str, count: int) -> None:
    """Create beads; prints their ids."""
    ledger = Ledger.open(url)
    for number in range(count):
        print(ledger.create_bead(NewBead(rig="shop", title=f"bead {number}")).id, flush=True)
    ledger.close()


def work(url: str, bead: str, last: int) -> None:
    """Write a job's transitions 1 to `last`, through the activity; prints their sequences."""
    activities = LedgerActivities(lambda: Ledger.open(url))
    for sequence in range(1, last + 1):
        activities.record_job(JobWrites(writes=(a_write(bead, 1, sequence, restarts=sequence),)))
        print(sequence, flush=True)
    activities.close()


if __name__ == "__main__":
    ledger_url = sys.stdin.readline().strip()
    if sys.argv[1] == "create":
        create(ledger_url, int(sys.argv[2]))
    else:
        work(ledger_url, sys.argv[2], int(sys.argv[3]))
