"""Killed at any durable step of a save and looked at again, the remote holds the work once, under one ref."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from activities.crash_points import CHECKPOINT_POINTS
from models.ledger.records import Rig
from models.town import TownPaths
from tests.activities.checkpoint_bench import WIP, Bench
from tests.activities.workshop import Workshop, git

SCRIPT = """
import sys; from pathlib import Path
from activities.git.worktree.checkpoints import CheckpointSaver
from models.job.checkpoints import CheckpointOrder; from models.town import TownPaths
root, order = sys.argv[1:]
CheckpointSaver(TownPaths(Path(root)), "h1").save(CheckpointOrder.model_validate_json(order), "toast")
"""


@pytest.mark.parametrize("earlier", [False, True], ids=["first save", "later save"])
@pytest.mark.parametrize("point", CHECKPOINT_POINTS)
def test_a_save_killed_at_a_durable_step_is_finished_by_the_next_look(
    town_paths: TownPaths, rig: Rig, workshop: Workshop, tmp_path: Path, point: str, earlier: bool
) -> None:
    bench = Bench(town_paths, rig, workshop)
    if earlier:
        bench.write("half.txt", "earlier\n")
        bench.save()
    bench.write("half.txt", "half\n")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(town_paths.root), bench.order.model_dump_json()],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "GT_CRASH_POINT": point, "GT_CRASH_MARK": str(tmp_path / "mark")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -9, done.stderr
    made = git(town_paths.clone("shop"), "rev-parse", WIP)
    assert bench.save() == made
    assert bench.show("half.txt") == "half"
    assert bench.saver.save(bench.order, "toast") is not None
    assert git(workshop.remote, "for-each-ref", "--format=%(refname)", "refs/gastown").split() == [WIP]
