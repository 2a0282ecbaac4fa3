"""The suite finds what it is for: each change is planted in a copy of the workflows, which then does not replay."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Planted:
    """One change of the code, and who notices it."""

    file: str
    before: str
    after: str
    workflow: str
    noticed: str

    def __str__(self) -> str:
        return self.noticed


PLANTED = {
    "no change": Planted("workflows/job/workflow.py", "", "", "PolecatWorkflow", ""),
    "a timer is left out": Planted(
        "workflows/supervision/witness.py",
        "                timeout=until(due_at),\n",
        "",
        "WitnessWorkflow",
        "nondeterminism",
    ),
    "a timer is longer": Planted(
        "workflows/supervision/witness.py",
        "SLACK = timedelta(seconds=10)",
        "SLACK = timedelta(seconds=11)",
        "WitnessWorkflow",
        "was recorded",
    ),
    "activities come in another order": Planted(
        "workflows/job/course.py",
        "        if seen.intent not in job.heard:\n            about",
        "        await self._host.settle(seen.intent)\n        if seen.intent not in job.heard:\n            about",
        "PolecatWorkflow",
        "nondeterminism",
    ),
    "a summary is another one": Planted(
        "workflows/job/host_work.py",
        'summary=f"start attempt {job.current_attempt} as {job.polecat}"',
        'summary=f"begin attempt {job.current_attempt} as {job.polecat}"',
        "PolecatWorkflow",
        "was recorded",
    ),
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of what workflows are made of; the rest is found where it is."""
    for name in ("models", "policies", "workflows"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)
def test_a_planted_change_is_found(package: Path, planted: Planted) -> None:
    file = package / planted.file
    code = file.read_text()
    if planted.before:
        assert code.count(planted.before) == 1, "what the change was planted in is written otherwise by now"
        file.write_text(code.replace(planted.before, planted.after))
    done = subprocess.run(
        [sys.executable, "-m", "tests.replay.strict", planted.workflow],
        cwd=package, env=os.environ | {"PYTHONPATH": f"{package}:{ROOT}"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode != 0) == bool(planted.noticed), done.stderr
    assert planted.noticed in done.stderr.lower()
