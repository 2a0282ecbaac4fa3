"""Chaos of the ledger: writers, and separately the Dolt server, killed -9 at random under load.

`make chaos-ledger ARGS="--rounds 20 --writers 8 --seed 7"`. What each writer was told is kept outside the ledger, in
a synced file, and compared at the end: what was acknowledged is there, and nothing is there twice. Prints one line for
each part and a last one with the sum; exit code 1 when anything was lost, doubled or does not verify.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ledger.store import Ledger
from ledger.verify_rules import disagreements, troubles
from tests.ledger.conftest import ROOT, DoltServer
from tests.ledger.records import a_rig
from tests.pace import DEADLINE_S

BETWEEN_KILLS_S = (0.2, 1.2)


@dataclass
class Figures:
    """What came of one part."""

    part: str
    rounds: int
    kills: int = 0
    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return not (self.lost or self.doubled or self.problems)

    def __str__(self) -> str:
        verify = "verify clean" if not self.problems else f"verify: {'; '.join(self.problems[:5])}"
        return (
            f"{self.part}: {self.kills} kills, {self.acknowledged} acknowledged writes, "
            f"{len(self.lost)} lost, {len(self.doubled)} doubled, {verify} ({self.seconds:.0f} s)"
        )


class Writers:
    """Processes that write to one ledger until they are killed."""

    def __init__(self, url: str, folder: Path, count: int) -> None:
        self._url = url
        self._folder = folder
        self._processes: dict[int, subprocess.Popen[str]] = {}
        self.count = count

    def acks(self, number: int) -> Path:
        return self._folder / f"acks-{number}"

    def start(self, number: int) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.ledger_writer", f"w{number}", str(self.acks(number))],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stderr=(self._folder / f"errors-{number}").open("a"),
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        assert process.stdin is not None
        process.stdin.write(self._url + "\n")
        process.stdin.flush()
        self._processes[number] = process

    def kill(self, number: int) -> None:
        process = self._processes.pop(number)
        if process.poll() is not None:
            raise RuntimeError(f"a writer ended by itself: {(self._folder / f'errors-{number}').read_text()[-2000:]}")
        process.kill()
        process.wait()

    def told(self) -> list[str]:
        """Every acknowledged write, of all writers."""
        files = [self.acks(number) for number in range(self.count) if self.acks(number).exists()]
        return [line.rstrip(";") for file in files for line in file.read_text().splitlines() if line.endswith(";")]

    def wait_for_more(self, than: dict[int, int]) -> None:
        """Until every writer has been told of more writes than it had."""
        deadline = time.monotonic() + DEADLINE_S
        while any(self.size(number) <= than.get(number, 0) for number in range(self.count)):
            for number, process in self._processes.items():
                if process.poll() is not None:
                    raise RuntimeError((self._folder / f"errors-{number}").read_text()[-2000:])
            if time.monotonic() > deadline:
                raise RuntimeError(f"the writers do not go on: {than}")
            time.sleep(0.02)

    def size(self, number: int) -> int:
        file = self.acks(number)
        return file.stat().st_size if file.exists() else 0

    def sizes(self) -> dict[int, int]:
        return {number: self.size(number) for number in range(self.count)}

    def stop(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()


def kill_writers(part: str, url: str, folder: Path, rounds: int, writers: int, chance: random.Random) -> Figures:
    """Each round kills one writer in the middle of its work, and starts it again."""

    def round_of(crowd: Writers) -> int:
        before = crowd.sizes()
        time.sleep(chance.uniform(*BETWEEN_KILLS_S))
        victim = chance.randrange(writers)
        crowd.kill(victim)
        crowd.start(victim)
        crowd.wait_for_more(before)
        return 1

    return _part(part, url, folder, rounds, writers, round_of)


def kill_server(
    part: str, server: DoltServer, folder: Path, rounds: int, writers: int, chance: random.Random
) -> Figures:
    """Each round kills the server under all writers, and starts it again."""

    def round_of(crowd: Writers) -> int:
        time.sleep(chance.uniform(*BETWEEN_KILLS_S))
        server.kill()
        time.sleep(chance.uniform(0.0, 0.5))
        server.start()
        crowd.wait_for_more(crowd.sizes())
        return 1

    return _part(part, server.url("chaos"), folder, rounds, writers, round_of)


def _part(part: str, url: str, folder: Path, rounds: int, writers: int, round_of: Callable[[Writers], int]) -> Figures:
    figures, started = Figures(part, rounds), time.monotonic()
    seeded = Ledger.open(url)
    seeded.add_rig(a_rig())
    seeded.close()
    crowd = Writers(url, folder, writers)
    try:
        for number in range(writers):
            crowd.start(number)
        crowd.wait_for_more({})
        for _ in range(rounds):
            figures.kills += round_of(crowd)
    finally:
        crowd.stop()
    judge(url, crowd.told(), figures)
    figures.seconds = time.monotonic() - started
    return figures


def judge(url: str, told: list[str], figures: Figures) -> None:
    """Compare what the ledger holds with what the writers were told."""
    ledger = Ledger.open(url)
    beads = ledger.beads()
    titles = Counter(bead.title for bead in beads)
    created = {(bead.title, bead.id) for bead in beads}
    events = {bead.id: [event.sequence for event in ledger.job_events(bead.id)] for bead in beads}
    figures.acknowledged = len(told)
    for line in told:
        words = line.split()
        if words[0] == "create" and (words[1], words[2]) not in created:
            figures.lost.append(line)
        if words[0] == "work" and int(words[2]) not in events.get(words[1], []):
            figures.lost.append(line)
    figures.doubled += [title for title, count in titles.items() if count > 1]
    messages = Counter(entry.message for entry in ledger.log())
    figures.doubled += [message for message, count in messages.items() if count > 1]
    gaps = [bead for bead, seen in events.items() if seen != list(range(1, len(seen) + 1))]
    figures.problems += [f"{bead}: its events have gaps" for bead in gaps]
    found = troubles(ledger.store_facts()) + disagreements(ledger.record_facts(), {}, None)
    figures.problems += [problem.message for problem in found]
    ledger.close()


def run(rounds: int, writers: int, seed: int) -> list[Figures]:
    """All three parts: writers of each engine, and the server."""
    chance = random.Random(seed)
    figures: list[Figures] = []
    with tempfile.TemporaryDirectory(prefix="gt-chaos-") as name:
        folder = Path(name)
        for part in ("embedded", "server", "crash"):
            (folder / part).mkdir()
        url = f"doltlite:///{folder / 'embedded' / 'ledger.doltlite'}"
        figures.append(kill_writers("writers, embedded", url, folder / "embedded", rounds, writers, chance))
        print(figures[-1], flush=True)
        server = DoltServer(folder / "dolt")
        server.start()
        try:
            url = server.url("writers")
            figures.append(kill_writers("writers, server", url, folder / "server", rounds, writers, chance))
            print(figures[-1], flush=True)
            figures.append(kill_server("the Dolt server", server, folder / "crash", rounds, writers, chance))
            print(figures[-1], flush=True)
        finally:
            server.kill()
    return figures


def summary(figures: list[Figures]) -> str:
    kills, told = sum(one.kills for one in figures), sum(one.acknowledged for one in figures)
    lost, doubled = sum(len(one.lost) for one in figures), sum(len(one.doubled) for one in figures)
    return f"chaos-ledger: {kills} kills, {told} acknowledged writes: {lost} lost, {doubled} doubled"


def main() -> None:
    parser = argparse.ArgumentParser(prog="make chaos-ledger", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="kills in each of the three parts")
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    figures = run(options.rounds, options.writers, options.seed)
    print(summary(figures))
    sys.exit(0 if all(one.ok for one in figures) else 1)


if __name__ == "__main__":
    main()
