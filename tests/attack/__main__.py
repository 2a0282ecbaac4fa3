"""`make attack`: what a session, a gate and another user may not do to a town, tried on both ledgers.

Each attack is tried once more with the protections off, where each must have its effect: the control. The last line
is the figure; the exit code is 1 where an attack had an effect, or one that ought to have one had none.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from models.doctor import Finding
from services.security_checks import check_files
from tests.attack.town import Outcome, besieged

LEDGERS: Final = ("embedded", "server")


class Report(NamedTuple):
    """Of one town."""

    store: str
    guarded: Outcome
    files: Finding
    """of `gt doctor`, once a job has landed"""
    control: Outcome | None


def run(store: str, *, control: bool = True) -> Report:
    """Attack a town on that ledger engine, as it is by default, and with the protections off as a control.

    Agents have the host's network with the embedded ledger, as by default, and a list of hosts with the other.
    """
    with (
        tempfile.TemporaryDirectory(prefix="gt-") as folder,
        besieged(store, Path(folder), offline=store == "server", number=LEDGERS.index(store)) as siege,
    ):
        guarded = siege.attack("bwrap")
        files = check_files(siege.town.town)
        if not control:
            return Report(store, guarded, files, None)
        siege.town.disarm()
        return Report(store, guarded, files, siege.attack("none"))


def without_effect(report: Report) -> list[tuple[str, str]]:
    """What had no effect in the control by any door, and so proves nothing."""
    if report.control is None:
        return []
    shown = {name for _, name in report.control.effects}
    return sorted((door, name) for door, name in report.control.tried if name not in shown)


def line(reports: list[Report]) -> str:
    """The figure: different attacks, doors, and effects in all towns."""
    tried = [one for report in reports for one in report.guarded.tried]
    names, doors = {name for _, name in tried}, {door for door, _ in tried}
    effects = sum(len(report.guarded.effects) for report in reports)
    return f"attack: {len(names)} attacks, {len(doors)} doors, {effects} effects"


def main() -> int:
    began = time.monotonic()
    with ThreadPoolExecutor(len(LEDGERS)) as towns:
        reports = list(towns.map(run, LEDGERS))
    for report in reports:
        assert report.control is not None
        for door, name in sorted(report.guarded.effects):
            print(f"{report.store}: EFFECT by {door}: {name}")
        for door, name in without_effect(report):
            print(f"{report.store}: no effect without protections either: {door}: {name}")
        tried, effects = len(report.guarded.tried), len(report.guarded.effects)
        shown = f"{len(report.control.effects)} of {len(report.control.tried)} without the protections"
        print(f"{report.store} ledger: {tried} tried, {effects} effects; {shown}")
    if os.getuid() != 0:
        print("another user of the machine: not tried, which takes root")
    print(f"in {time.monotonic() - began:.0f} s")
    print(line(reports))
    return 1 if any(report.guarded.effects or without_effect(report) for report in reports) else 0


if __name__ == "__main__":
    sys.exit(main())
