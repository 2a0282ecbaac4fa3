"""What `make bench` does with benchmarks that fail, and when it writes README's figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as bench
from benchmarks import figures

WHOLE = [name for name, one in bench.BENCHMARKS.items() if one.in_whole_run]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The documents that README's figures were made from."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(figures, "write", found.append)
    return found


def run(monkeypatch: pytest.MonkeyPatch, *words: str, failing: str = "") -> int:
    """`python -m benchmarks …`, with each benchmark's process replaced by its answer."""

    def answer(argv: Sequence[str], log: Path, limit_s: float) -> int:
        name, place = argv[argv.index("--alone") + 1], Path(argv[argv.index("--json") + 1])
        log.write_text(f"said by {name}\n")
        if name == failing:
            return 1
        place.write_text(json.dumps({"figure of": name}))
        return 0

    monkeypatch.setattr(bench, "run_contained", answer)
    monkeypatch.setattr("sys.argv", ["benchmarks", *words])
    return bench.main()


def test_a_whole_run_writes_every_benchmarks_figures(
    monkeypatch: pytest.MonkeyPatch, written: list[dict[str, Any]]
) -> None:
    assert run(monkeypatch) == 0
    (document,) = written
    assert document["figures"] == {name: {"figure of": name} for name in WHOLE}
    assert list(document["run"]["loads"]) == WHOLE


def test_one_that_fails_is_told_with_its_log_and_the_others_are_measured(
    monkeypatch: pytest.MonkeyPatch, written: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, failing="jobs") == 1
    said = capsys.readouterr()
    assert "said by jobs" in said.err
    assert "jobs: FAILED: exit code 1" in said.err
    assert set(json.loads(said.out)["figures"]) == set(WHOLE) - {"jobs"}
    assert written == []


@pytest.mark.parametrize("words", [("--quick",), ("jobs",)])
def test_a_part_or_a_quick_run_leaves_readme_alone(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, written: list[dict[str, Any]]
) -> None:
    assert run(monkeypatch, *words) == 0
    assert written == []
