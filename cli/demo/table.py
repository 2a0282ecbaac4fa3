"""The demonstration's tables: live on a terminal, plain lines elsewhere, one at the end."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.table import Table

    from ledger.store import Ledger
    from models.ledger.records import JobEvent

_TROUBLE = {
    "agent_died": ("agent died", "restarted in its worktree"),
    "agent_unresponsive": ("agent hung", "restarted in its worktree"),
    "merge_failed": ("tests failed", "told why, repaired"),
    "rework_request": ("conflict", "rebased"),
    "work_refused": ("work refused", "told why, repaired"),
    "setup_failed": ("set-up failed", "tried again"),
    "reassigned": ("polecat given up", "given to another"),
}
_CAUSED = frozenset({"agent_died", "work_refused", "setup_failed", "reassigned"})
"""What may have many causes, so that the one which the ledger names is shown."""
_DEATH = re.compile(r"The agent of attempt \d+ died: (.+?)\.(?:\s|$)")


def job_facts(ledger: Ledger, role: str, bead: str, title: str) -> dict[str, Any]:
    """What the record says of one bead's job."""
    row = ledger.job(bead)
    troubles = [event for event in ledger.job_events(bead) if event.event in _TROUBLE]
    return {
        "role": role,
        "bead": bead,
        "title": title,
        "state": row.state.value if row else "waiting",
        "attempts": row.attempt if row else 0,
        "polecat": row.polecat if row else None,
        "merged_sha": row.merged_sha if row else None,
        "what_went_wrong": ", ".join(map(_what_went_wrong, troubles)),
        "recovered_by": ", ".join(_TROUBLE[event.event][1] for event in troubles),
    }


def _what_went_wrong(event: JobEvent) -> str:
    wrong, _ = _TROUBLE[event.event]
    if event.event not in _CAUSED or not event.detail.strip():
        return wrong
    death = _DEATH.match(event.detail)
    return f"{wrong}: {death[1] if death else event.detail.strip().splitlines()[0]}"


class Shown(Protocol):
    def update(self, jobs: list[dict[str, Any]]) -> None: ...


@contextmanager
def live() -> Iterator[Shown]:
    """A table that redraws itself on a terminal; otherwise one line for each change."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), auto_refresh=False) as screen:
        yield _Redrawn(screen)


class _Redrawn:
    def __init__(self, screen: Any) -> None:
        self._screen = screen

    def update(self, jobs: list[dict[str, Any]]) -> None:
        self._screen.update(_jobs_table(jobs), refresh=True)


class _Lines:
    def __init__(self) -> None:
        self._last: dict[str, tuple[str, int]] = {}

    def update(self, jobs: list[dict[str, Any]]) -> None:
        for job in jobs:
            now = (job["state"], job["attempts"])
            if self._last.get(job["bead"]) != now:
                self._last[job["bead"]] = now
                trouble = f"  ({job['what_went_wrong']})" if job["what_went_wrong"] else ""
                sys.stderr.write(f"{job['bead']}  {now[0]:<10} attempt {now[1]}  {job['title']}{trouble}\n")
                sys.stderr.flush()


def _jobs_table(jobs: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    shown = Table()
    for column in ("bead", "work", "polecat", "state", "attempts", "what went wrong", "recovered by", "merged as"):
        shown.add_column(column)
    for job in jobs:
        shown.add_row(
            job["bead"], job["title"], job["polecat"] or "", job["state"], str(job["attempts"]),
            job["what_went_wrong"], job["recovered_by"], (job["merged_sha"] or "")[:10],
        )  # fmt: skip
    return shown


def final(report: dict[str, Any]) -> None:
    """The closing table and the verdict, on standard output."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(_jobs_table(report["jobs"]))
    for job in report["jobs"]:
        if job["landed"] != [job["merged_sha"]]:
            console.print(f"{job['bead']} is on the remote {len(job['landed'])} times, not once", style="bold red")
    for item in report.get("queue", ()):
        if item["reason"]:
            console.print(f"{item['bead']} waits in the queue: {item['reason']}", soft_wrap=True)
    tests = "pass" if report["tests_pass"] else "FAIL"
    once = "every bead landed exactly once" if report["ok"] else "NOT every bead landed exactly once"
    console.print(f"read from the remote: {once}; the project's tests {tests} at its head; {report['seconds']} s")
    console.print(f"Web UI: {report['web_url']}")
