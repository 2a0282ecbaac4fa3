"""README's figures are those of one run, and nobody's hand has touched them."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.figures import BEGIN, END, README, block, measured, with_block

KILLS = {"times": 6, "noticed": {"p50_s": 0.5, "most_s": 1.0}, "running": {"p50_s": 1.25, "most_s": 2.0}}
WORKER = {"running": {"p50_s": 5.5}, "job_went_on": {"p50_s": 5.0}}
LEDGER = {
    "one_row_write_with_commit_ms": {"p50": 5.5},
    "beads": 10_000,
    "commands_ms": {"bd show": {"wall": 225.4}, "bd list --limit 50": {"wall": 202.0}},
}
JOBS = {
    "beads": 40,
    "ratio_to_bare_loop": 3.75,
    "jobs_per_minute": 209.5,
    "events_per_job": 128.5,
    "workflow_tasks_per_job": 20.5,
    "cpu_milliseconds_per_job": {"worker": 75, "temporal": 180},
    "seconds_by_phase_p50": {"starting": 0.5, "working": 2.5, "submitted": 2.75, "merged": 2.0},
    "milliseconds_of_commands_in_that_town": {"gt status": 496.0},
}
DOCUMENT: dict[str, Any] = {
    "machine": {
        "processor": "Pentium", "cores": 2, "memory_gb": 8, "system": "Linux 6", "python": "3.11.7", "git": "2.39.5",
        "tmux": "3.3", "temporal_server": "1.32.0", "dolt": "1.86.4",
    },
    "run": {
        "date": "2026-11-30", "commit": "abcdef0123", "changed_files": 0, "minutes": 9.5, "load_before": 0.25,
        "loads": {"commands": 0.25, "jobs": 1.75},
    },
    "figures": {
        "commands": {"gt --help": 53.2},
        "jobs": JOBS,
        "large_repository": {
            "files": 10_000, "history_mb": 200, "overhead_s_p50": 1.5, "git_alone_s_p50": 0.75, "first_job_s": 6.5,
            "git_alone_first_s": 4.5,
        },
        "merge_queue": {"changes": 40, "gate_times_p50_1_runners": 2.5, "gate_times_p50_2_runners": 2.25},
        "merge_policy": [
            {"p": 0.1, "flakiness": 0.0, "floor": 0.521, "ours": {"runs_per_landed": 0.538}},
            {"p": 0.1, "flakiness": 0.05, "floor": 0.521, "ours": {"runs_per_landed": 0.681}},
        ],
        "ledger": {"server": LEDGER, "embedded": LEDGER},
        "patrol": {"polecats": 200, "cpu_percent": {"together": 8.5}, "memory_mb": {"together": 640}},
        "supervision": {"agent": KILLS, "pane": KILLS, "session": KILLS, "tmux server": KILLS, "worker": WORKER},
    },
}  # fmt: skip


def test_readme_shows_the_figures_of_the_last_whole_run() -> None:
    readme = README.read_text(encoding="utf-8")
    assert readme == with_block(readme, block(measured())), "`make bench` makes the block and docs/figures.json"


def test_the_machine_and_its_load_are_named() -> None:
    named = block(DOCUMENT).partition("| what")[0]
    for word in (
        "Pentium",
        "2 cores",
        "8 GB",
        "Python 3.11.7",
        "commit abcdef0123:",
        "9.5 minutes",
        "load 0.25",
        "1.75",
    ):
        assert word in named


def test_a_run_of_changed_files_says_so() -> None:
    changed = DOCUMENT | {"run": DOCUMENT["run"] | {"changed_files": 3}}
    assert "commit abcdef0123 with 3 changed files" in block(changed)


def test_the_ratio_to_the_bare_loop_stands_first() -> None:
    rows = block(DOCUMENT).partition("| --- | --- |\n")[2].splitlines()
    assert rows[0] == (
        "| 40 jobs whose agents commit at once, until all have landed | **3.75 times** the bare git and tmux work of "
        "the same jobs, one after another; **209.5 a minute** |"
    )


def test_every_benchmark_of_a_whole_run_has_its_row() -> None:
    table = block(DOCUMENT)
    for figure in ("128.5 events", "2.5 with one runner", "0.54 (no method", "1.5 s beside git's own 0.75 s", "8.5 %"):
        assert figure in table
    for figure in ("an agent 0.5 and 1.25 s", "5.0 and 5.5 s", "53 ms", "496 ms", "5.5 ms embedded", "225, 202 ms"):
        assert figure in table


def test_what_stands_around_the_block_stays() -> None:
    assert with_block(f"a\n{BEGIN}old\n{END}b\n", "new\n") == f"a\n{BEGIN}new\n{END}b\n"


def test_a_readme_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="substring not found"):
        with_block("no block here", "new\n")
