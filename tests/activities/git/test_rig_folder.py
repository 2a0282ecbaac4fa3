"""A rig that was removed and added anew is another one: it starts with clones of its own."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from activities.git.merging.landing import LandingActivities
from activities.git.rig_folder import MARK, own_rig_folder
from activities.git.worktree.worktrees import Worktrees
from models.ledger.records import Rig
from models.refinery.messages import BuildChain
from models.town import TownPaths
from tests.activities.workshop import Workshop, git


def added_anew(rig: Rig, url: str) -> Rig:
    return rig.model_copy(update={"url": url, "created_at": rig.created_at + timedelta(days=1)})


def test_a_rig_that_was_added_anew_with_another_url_begins_with_clones_of_its_own(
    workshop: Workshop, rig: Rig, town_paths: TownPaths, tmp_path: Path
) -> None:
    Worktrees(town_paths).prepare(rig, "toast", "sh-1", "main")
    LandingActivities(town_paths).build_chain(
        BuildChain(rig=rig, target="main", changes=(workshop.change("sh-1", {"a.txt": "a"}),))
    )
    other = tmp_path / "other.git"
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", str(other))
    seed = git(other, "commit-tree", git(other, "mktree", stdin=b""), "-m", "another project")
    git(other, "update-ref", "refs/heads/main", seed)
    anew = added_anew(rig, str(other))
    prepared = Worktrees(town_paths).prepare(anew, "toast", "sh-2", "main")
    assert prepared.base_sha == seed
    assert git(prepared.path, "remote", "get-url", "origin") == str(other)
    chain = LandingActivities(town_paths).build_chain(BuildChain(rig=anew, target="main", changes=()))
    assert (chain.base_sha, chain.rewound) == (seed, ())
    [aside] = town_paths.salvage.iterdir()
    assert (aside / "polecats" / "toast").exists(), "what was in its worktrees is still there"


def test_a_rig_that_was_only_changed_keeps_them(rig: Rig, town_paths: TownPaths, tmp_path: Path) -> None:
    folder = own_rig_folder(town_paths, rig)
    (folder / "something").touch()
    moved = rig.model_copy(update={"url": str(tmp_path / "moved.git"), "branch": "trunk"})
    assert (own_rig_folder(town_paths, moved) / "something").exists()


def test_a_folder_of_before_marks_is_the_rig_s(rig: Rig, town_paths: TownPaths) -> None:
    folder = town_paths.rig("shop")
    (folder / "repo.git").mkdir(parents=True)
    assert (own_rig_folder(town_paths, rig) / "repo.git").exists()
    assert (folder / MARK).exists()
