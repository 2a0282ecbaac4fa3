"""README's figures, made from those of one whole run: docs/figures.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
FIGURES = ROOT / "docs" / "figures.json"
BEGIN = "<!-- made by `make bench` from docs/figures.json; a test compares them -->\n"
END = "<!-- end of the figures -->\n"
NOT_MEASURED = "\nNot measured yet: a whole `make bench` on a machine with nothing else to do writes them here.\n\n"
_PHASES = {
    "starting": "slot",
    "working": "worktree and session",
    "submitted": "agent and taking its work",
    "merged": "gate and landing",
}
_KILLED = {"agent": "an agent", "pane": "a pane", "session": "a session", "tmux server": "the tmux server with all ten"}


def write(document: Mapping[str, Any]) -> None:
    """Write docs/figures.json, and README's block from it."""
    FIGURES.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    README.write_text(with_block(README.read_text(encoding="utf-8"), block(document)), encoding="utf-8")


def measured() -> dict[str, Any] | None:
    """What the last whole run found; None before the first one."""
    if not FIGURES.exists():
        return None
    found: dict[str, Any] = json.loads(FIGURES.read_text(encoding="utf-8"))
    return found


def with_block(readme: str, made: str) -> str:
    """The text with what stands between its markers replaced.

    Raises:
        ValueError: a marker is missing.
    """
    begin, end = readme.index(BEGIN) + len(BEGIN), readme.index(END)
    return readme[:begin] + made + readme[end:]


def block(document: Mapping[str, Any] | None) -> str:
    """The machine, the run, and a table of figures."""
    if document is None:
        return NOT_MEASURED
    figures = document["figures"]
    rows = [
        *_jobs(figures["jobs"]),
        *_queue(figures["merge_queue"], figures["merge_policy"]),
        *_large(figures["large_repository"]),
        *_kills(figures["supervision"]),
        *_patrol(figures["patrol"]),
        *_commands(figures["commands"], figures["jobs"]),
        *_ledger(figures["ledger"]),
    ]
    lines = ["", *_run(document), "", "| what | measured |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {what} | {measured} |" for what, measured in rows), "", ""])


def _run(document: Mapping[str, Any]) -> list[str]:
    machine, run = document["machine"], document["run"]
    changed = f" with {run['changed_files']} changed files" if run["changed_files"] else ""
    return [
        f"One run of `make bench` ({run['minutes']} minutes) on {run['date']}, commit {run['commit']}{changed}: "
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, {machine['system']}, "
        f"Python {machine['python']}, git {machine['git']}, tmux {machine['tmux']}, "
        f"Temporal {machine['temporal_server']}, Dolt {machine['dolt']}; load {run['load_before']} before and "
        f"{max(run['loads'].values())} at most between two benchmarks.",
        "Minutes differ between machines, so the ratio to the same work without a town stands first.",
    ]


def _jobs(jobs: Mapping[str, Any]) -> list[tuple[str, str]]:
    phases = [
        f"{said} {jobs['seconds_by_phase_p50'][name]} s"
        for name, said in _PHASES.items()
        if name in jobs["seconds_by_phase_p50"]
    ]
    return [
        (
            f"{jobs['beads']} jobs whose agents commit at once, until all have landed",
            f"**{jobs['ratio_to_bare_loop']} times** the bare git and tmux work of the same jobs, one after another; "
            f"**{jobs['jobs_per_minute']} a minute**",
        ),
        (
            "what one of them costs",
            f"{jobs['events_per_job']} events and {jobs['workflow_tasks_per_job']} workflow tasks, "
            + ", ".join(f"{cpu} ms of CPU in {name}" for name, cpu in jobs["cpu_milliseconds_per_job"].items()),
        ),
        (f"where a job's time goes, medians with {jobs['beads']} at once", ", ".join(phases)),
    ]


def _queue(queue: Mapping[str, Any], policy: list[Mapping[str, Any]]) -> list[tuple[str, str]]:
    (steady,) = (row for row in policy if (row["p"], row["flakiness"]) == (0.1, 0.0))
    return [
        (
            f"a queue of {queue['changes']} good changes, in gate times",
            f"{queue['gate_times_p50_1_runners']} with one runner, {queue['gate_times_p50_2_runners']} with two",
        ),
        (
            "gate runs per landed change at 10 % bad changes, simulated",
            f"{steady['ours']['runs_per_landed']:.2f} (no method can need fewer than {steady['floor']:.2f}), "
            "see docs/merge-queue.md",
        ),
    ]


def _large(large: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (
            f"a job on a repository of {large['files']:,} files and {large['history_mb']} MB of history",
            f"{large['overhead_s_p50']} s beside git's own {large['git_alone_s_p50']} s "
            f"(the first, which clones: {large['first_job_s']} s, git alone {large['git_alone_first_s']} s)",
        )
    ]


def _kills(kills: Mapping[str, Any]) -> list[tuple[str, str]]:
    told = [
        f"{said} {kills[kind]['noticed']['p50_s']} and {kills[kind]['running']['p50_s']} s"
        for kind, said in _KILLED.items()
    ]
    worker = kills["worker"]
    return [
        ("killed: noticed, and running again (p50)", "; ".join(told)),
        (
            "worker killed: jobs go on, a dead agent runs again (p50)",
            f"{worker['job_went_on']['p50_s']} and {worker['running']['p50_s']} s",
        ),
    ]


def _patrol(patrol: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (
            f"a town with {patrol['polecats']} quiet polecats",
            f"{patrol['cpu_percent']['together']} % of one core, {patrol['memory_mb']['together']} MB",
        )
    ]


def _commands(commands: Mapping[str, float], jobs: Mapping[str, Any]) -> list[tuple[str, str]]:
    talking = jobs["milliseconds_of_commands_in_that_town"]
    return [
        (
            ", ".join(f"`{name}`" for name in group),
            ", ".join(f"{round(value)}" for value in group.values()) + " ms",
        )
        for group in (commands, talking)
    ]


def _ledger(ledger: Mapping[str, Any]) -> list[tuple[str, str]]:
    server, embedded = ledger["server"], ledger["embedded"]
    commands = embedded["commands_ms"]
    return [
        (
            "one write to the ledger with its commit, read back (p50)",
            f"{server['one_row_write_with_commit_ms']['p50']} ms on a Dolt server, "
            f"{embedded['one_row_write_with_commit_ms']['p50']} ms embedded",
        ),
        (
            f"`bd show`, `bd list --limit 50` of {embedded['beads']:,} beads, embedded ledger",
            f"{round(commands['bd show']['wall'])}, {round(commands['bd list --limit 50']['wall'])} ms",
        ),
    ]
