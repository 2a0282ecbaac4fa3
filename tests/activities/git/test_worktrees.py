"""Worktrees: prepared for a bead, looked at and published."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from activities.git.clones import MOST_PACKS
from activities.git.worktree.worktrees import Worktrees
from models.errors import ErrorCode, GtError
from models.ledger.records import Rig
from models.town import TownPaths
from tests.activities.workshop import Workshop, git

BRANCH = "refs/heads/polecat/sh-1"


@pytest.fixture
def worktrees(town_paths: TownPaths) -> Worktrees:
    return Worktrees(town_paths)


def commit(path: Path, name: str, content: str = "x\n") -> str:
    """What an agent does: plain git, its own configuration."""
    (path / name).write_text(content)
    git(path, "add", "--", name)
    git(path, "commit", "--quiet", "-m", f"Add {name}")
    return git(path, "rev-parse", "HEAD")


class TestPrepare:
    def test_a_new_bead_starts_on_its_branch_at_the_targets_tip(
        self, worktrees: Worktrees, rig: Rig, workshop: Workshop
    ) -> None:
        made = worktrees.prepare(rig, "toast", "sh-1", "main")
        tip = workshop.at_remote("refs/heads/main")
        assert (made.base_sha, made.head_sha, made.resumed) == (tip, tip, False)
        assert git(made.path, "symbolic-ref", "HEAD") == BRANCH
        assert git(made.path, "status", "--porcelain") == ""
        assert (made.path / "till.py").exists()

    def test_commits_made_in_it_carry_the_polecats_name(self, worktrees: Worktrees, rig: Rig) -> None:
        path = worktrees.prepare(rig, "toast", "sh-1", "main").path
        assert git(path, "config", "user.name") == "toast"
        assert git(path, "config", "user.email") == "toast@shop.gastown.invalid"
        other = worktrees.prepare(rig, "nux", "sh-2", "main").path
        assert git(other, "config", "user.name") == "nux"

    def test_an_agent_can_fetch_and_rebase_with_plain_git(
        self, worktrees: Worktrees, rig: Rig, workshop: Workshop
    ) -> None:
        path = worktrees.prepare(rig, "toast", "sh-1", "main").path
        commit(path, "mine.txt")
        theirs = workshop.advance_main({"theirs.txt": "x"})
        git(path, "fetch", "--quiet", "origin")
        git(path, "rebase", "--quiet", "origin/main")
        assert git(path, "rev-parse", "HEAD^") == theirs

    def test_an_earlier_attempts_work_stays_exactly_as_it_is(
        self, worktrees: Worktrees, rig: Rig, workshop: Workshop
    ) -> None:
        path = worktrees.prepare(rig, "toast", "sh-1", "main").path
        base = git(path, "rev-parse", "HEAD")
        head = commit(path, "done.txt")
        (path / "half.txt").write_text("half")
        (path / "till.py").write_text("edited")
        git(path, "add", "till.py")
        workshop.advance_main({"theirs.txt": "x"})
        again = worktrees.prepare(rig, "toast", "sh-1", "main")
        assert (again.resumed, again.head_sha, again.base_sha) == (True, head, base)
        assert (path / "half.txt").read_text() == "half"
        assert git(path, "status", "--porcelain").splitlines() == ["M  till.py", "?? half.txt"]

    def test_a_rebase_that_an_earlier_attempt_left_halfway_stays(
        self, worktrees: Worktrees, rig: Rig, workshop: Workshop
    ) -> None:
        path = worktrees.prepare(rig, "toast", "sh-1", "main").path
        commit(path, "till.py", "mine\n")
        workshop.advance_main({"till.py": "theirs\n"})
        git(path, "fetch", "--quiet", "origin")
        with pytest.raises(AssertionError, match=r"could not apply|conflict"):
            git(path, "rebase", "origin/main")
        assert worktrees.prepare(rig, "toast", "sh-1", "main").resumed
        status = worktrees.status(rig, "toast", "sh-1")
        assert (status.in_progress, status.branch, status.dirty_files) == ("rebase", "polecat/sh-1", ("till.py",))

    def test_a_reassigned_bead_goes_on_from_its_branch_on_the_remote(
        self, worktrees: Worktrees, rig: Rig, workshop: Workshop
    ) -> None:
        workshop.start("sh-1")
        head = workshop.commit({"done.txt": "x"})
        workshop.submit("sh-1")
        base = workshop.at_remote("refs/heads/main")
        made = worktrees.prepare(rig, "nux", "sh-1", "main")
        assert (made.head_sha, made.base_sha, made.resumed) == (head, base, False)

    def test_a_bead_that_moves_to_another_polecat_takes_its_branch_along(self, worktrees: Worktrees, rig: Rig) -> None:
        old = worktrees.prepare(rig, "toast", "sh-1", "main").path
        head = commit(old, "done.txt")
        (old / "half.txt").write_text("half")
        made = worktrees.prepare(rig, "nux", "sh-1", "main")
        assert made.head_sha == head
        assert git(made.path, "symbolic-ref", "HEAD") == BRANCH
        commit(made.path, "more.txt")
        assert git(old, "rev-parse", "HEAD") == head
        assert (old / "half.txt").read_text() == "half"

    def test_local_commits_that_the_remotes_branch_lacks_are_kept(
        self, worktrees: Worktrees, rig: Rig, workshop: Workshop, town_paths: TownPaths
    ) -> None:
        lost = commit(worktrees.prepare(rig, "toast", "sh-1", "main").path, "lost.txt")
        published = workshop.change("sh-1", {"published.txt": "x"}).head_sha
        assert worktrees.prepare(rig, "nux", "sh-1", "main").head_sha == published
        assert git(town_paths.clone("shop"), "rev-parse", f"refs/gastown/kept/sh-1/{lost}") == lost

    def test_another_beads_leftovers_are_parked_before_the_worktree_is_used_again(
        self, worktrees: Worktrees, rig: Rig, workshop: Workshop
    ) -> None:
        path = worktrees.prepare(rig, "toast", "sh-1", "main").path
        head = commit(path, "done.txt")
        (path / "half.txt").write_text("half")
        (path / "till.py").unlink()
        made = worktrees.prepare(rig, "toast", "sh-2", "main")
        parked = workshop.at_remote("refs/gastown/parked/sh-1/0")
        assert parked is not None
        assert git(workshop.remote, "show", f"{parked}:half.txt") == "half"
        assert git(workshop.remote, "rev-parse", f"{parked}^") == head
        assert made.head_sha == made.base_sha
        assert sorted(entry.name for entry in path.iterdir()) == [".git", "README.md", "till.py"]

    def test_a_polecat_whose_worktree_was_deleted_gets_one_with_what_was_taken(
        self, worktrees: Worktrees, rig: Rig
    ) -> None:
        made = worktrees.prepare(rig, "toast", "sh-1", "main")
        head = commit(made.path, "done.txt")
        worktrees.publish(rig, "toast", "sh-1")
        os.rename(made.path, made.path.with_name("taken-away"))
        again = worktrees.prepare(rig, "toast", "sh-1", "main")
        assert again.head_sha == head
        assert (again.path / "done.txt").exists()

    def test_what_is_no_worktree_is_moved_aside_not_deleted(
        self, worktrees: Worktrees, rig: Rig, town_paths: TownPaths
    ) -> None:
        path = town_paths.worktree("shop", "toast")
        path.mkdir(parents=True)
        (path / "precious.txt").write_text("precious")
        worktrees.prepare(rig, "toast", "sh-1", "main")
        (kept,) = (town_paths.root / "salvage" / "shop").iterdir()
        assert (kept / "precious.txt").read_text() == "precious"

    def test_a_branch_whose_name_is_no_text_stands_in_nobodys_way(self, worktrees: Worktrees, rig: Rig) -> None:
        path = worktrees.prepare(rig, "toast", "sh-1", "main").path
        git(path, "checkout", "--quiet", "-b", os.fsdecode(b"caf\xe9"))
        made = worktrees.prepare(rig, "nux", "sh-2", "main")
        assert git(made.path, "symbolic-ref", "HEAD") == "refs/heads/polecat/sh-2"
        assert worktrees.prepare(rig, "toast", "sh-1", "main").resumed

    def test_the_index_lock_of_a_killed_git_is_removed(self, worktrees: Worktrees, rig: Rig) -> None:
        path = worktrees.prepare(rig, "toast", "sh-1", "main").path
        lock = Path(git(path, "rev-parse", "--absolute-git-dir")) / "index.lock"
        lock.touch()
        worktrees.prepare(rig, "toast", "sh-1", "main")
        commit(path, "works_again.txt")

    def test_the_index_lock_of_a_running_git_stays(self, worktrees: Worktrees, rig: Rig) -> None:
        path = worktrees.prepare(rig, "toast", "sh-1", "main").path
        lock = Path(git(path, "rev-parse", "--absolute-git-dir")) / "index.lock"
        lock.touch()
        running = psutil.Popen(["git", "cat-file", "--batch"], cwd=path, stdin=-1, stdout=-1)
        try:
            worktrees.prepare(rig, "toast", "sh-1", "main")
            assert lock.exists()
        finally:
            running.communicate()

    def test_work_for_another_target_starts_from_that_ones_tip(
        self, worktrees: Worktrees, rig: Rig, workshop: Workshop
    ) -> None:
        workshop.git("checkout", "--quiet", "--detach", "origin/main")
        tip = workshop.commit({"next.txt": "x"})
        workshop.git("push", "--quiet", "origin", "HEAD:refs/heads/next")
        made = worktrees.prepare(rig, "toast", "sh-1", "next")
        assert (made.base_sha, made.head_sha) == (tip, tip)
        assert worktrees.status(rig, "toast", "sh-1").commits_ahead == 0
        assert worktrees.prepare(rig, "nux", "sh-2", "main").head_sha == workshop.at_remote("refs/heads/main")

    def test_a_target_that_the_remote_lacks_is_an_error(self, worktrees: Worktrees, rig: Rig) -> None:
        with pytest.raises(GtError) as caught:
            worktrees.prepare(rig, "toast", "sh-1", "nowhere")
        assert caught.value.code is ErrorCode.NO_SUCH_BRANCH


class TestStatus:
    def test_clean_and_fresh(self, worktrees: Worktrees, rig: Rig) -> None:
        made = worktrees.prepare(rig, "toast", "sh-1", "main")
        status = worktrees.status(rig, "toast", "sh-1")
        assert (status.head_sha, status.base_sha) == (made.head_sha, made.base_sha)
        assert (status.branch, status.dirty, status.commits_ahead, status.in_progress) == ("polecat/sh-1", False, 0, "")

    def test_files_of_every_kind_are_named_and_ignored_ones_are_not(self, worktrees: Worktrees, rig: Rig) -> None:
        path = worktrees.prepare(rig, "toast", "sh-1", "main").path
        commit(path, ".gitignore", "*.log\n")
        git(path, "mv", "till.py", "new till.py")
        (path / "README.md").write_text("changed")
        (path / "line\nbreak").write_text("x")
        (path / "noise.log").write_text("x")
        status = worktrees.status(rig, "toast", "sh-1")
        assert status.dirty
        assert sorted(status.dirty_files) == ["README.md", "line\nbreak", "new till.py"]
        assert status.commits_ahead == 1

    def test_of_a_target_that_was_renamed_meanwhile_only_its_own_commits_count(
        self, worktrees: Worktrees, rig: Rig, workshop: Workshop
    ) -> None:
        path = worktrees.prepare(rig, "toast", "sh-1", "main").path
        git(workshop.remote, "branch", "-m", "main", "trunk")
        # Another start fetches what the remote has by now: the target's branch is gone from this host, too.
        with pytest.raises(GtError) as gone:
            worktrees.prepare(rig, "nux", "sh-2", "main")
        assert gone.value.code is ErrorCode.NO_SUCH_BRANCH
        assert worktrees.status(rig, "toast", "sh-1").commits_ahead == 0
        commit(path, "mine.txt")
        assert worktrees.status(rig, "toast", "sh-1").commits_ahead == 1
        worktrees.publish(rig, "toast", "sh-1")
        assert worktrees.status(rig, "toast", "sh-1").commits_ahead == 1, "its own branch is no reason"

    def test_a_detached_head_has_no_branch(self, worktrees: Worktrees, rig: Rig) -> None:
        path = worktrees.prepare(rig, "toast", "sh-1", "main").path
        git(path, "checkout", "--quiet", "--detach")
        assert worktrees.status(rig, "toast", "sh-1").branch == ""

    def test_a_branch_without_commits_has_no_head(self, worktrees: Worktrees, rig: Rig) -> None:
        path = worktrees.prepare(rig, "toast", "sh-1", "main").path
        git(path, "checkout", "--quiet", "--orphan", "alone")
        status = worktrees.status(rig, "toast", "sh-1")
        assert (status.head_sha, status.branch, status.dirty) == ("", "alone", True)

    def test_a_polecat_without_a_worktree_is_not_found(self, worktrees: Worktrees, rig: Rig) -> None:
        with pytest.raises(GtError) as caught:
            worktrees.status(rig, "toast", "sh-1")
        assert caught.value.code is ErrorCode.NOT_FOUND


class TestPublish:
    def test_puts_the_branch_on_the_remote_and_again_changes_nothing(
        self, worktrees: Worktrees, rig: Rig, workshop: Workshop
    ) -> None:
        head = commit(worktrees.prepare(rig, "toast", "sh-1", "main").path, "done.txt")
        assert worktrees.publish(rig, "toast", "sh-1").head == head
        assert worktrees.publish(rig, "toast", "sh-1").head == head
        assert workshop.at_remote(BRANCH) == head

    def test_a_rebased_branch_replaces_what_was_published(
        self, worktrees: Worktrees, rig: Rig, workshop: Workshop
    ) -> None:
        path = worktrees.prepare(rig, "toast", "sh-1", "main").path
        commit(path, "done.txt")
        worktrees.publish(rig, "toast", "sh-1")
        git(path, "commit", "--quiet", "--amend", "-m", "Better")
        head = git(path, "rev-parse", "HEAD")
        published = worktrees.publish(rig, "toast", "sh-1", 2)
        assert published == (head, "polecat/sh-1.2")
        assert workshop.at_remote("refs/heads/polecat/sh-1.2") == head
        assert workshop.at_remote(BRANCH) is None

    def test_hooks_of_the_repository_do_not_run(
        self, worktrees: Worktrees, rig: Rig, town_paths: TownPaths, tmp_path: Path
    ) -> None:
        path = worktrees.prepare(rig, "toast", "sh-1", "main").path
        commit(path, "done.txt")
        hook = town_paths.clone("shop") / "hooks" / "pre-push"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        hook.chmod(0o755)
        worktrees.publish(rig, "toast", "sh-1")
        assert not (tmp_path / "ran").exists()

    def test_a_refusal_carries_the_remotes_words(self, worktrees: Worktrees, rig: Rig, remote: Path) -> None:
        commit(worktrees.prepare(rig, "toast", "sh-1", "main").path, "done.txt")
        hook = remote / "hooks" / "pre-receive"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text("#!/bin/sh\necho 'no polecats here' >&2\nexit 1\n")
        hook.chmod(0o755)
        with pytest.raises(GtError, match="no polecats here") as caught:
            worktrees.publish(rig, "toast", "sh-1")
        assert caught.value.code is ErrorCode.REMOTE_REFUSED

    def test_a_bead_without_a_branch_here_is_an_error(self, worktrees: Worktrees, rig: Rig) -> None:
        worktrees.prepare(rig, "toast", "sh-1", "main")
        with pytest.raises(GtError) as caught:
            worktrees.publish(rig, "toast", "sh-9")
        assert caught.value.code is ErrorCode.NO_SUCH_BRANCH


def test_a_clone_does_not_grow_with_each_job(worktrees: Worktrees, rig: Rig, town_paths: TownPaths) -> None:
    clone = town_paths.clone("shop")
    made, packs = [], []
    for number in range(MOST_PACKS + 2):
        bead = f"sh-{number}"
        made.append(commit(worktrees.prepare(rig, "toast", bead, "main", 1).path, f"file{number}"))
        worktrees.publish(rig, "toast", bead, 1)
        worktrees.park(rig, "toast", bead, 1, made[-1])
        worktrees.release(rig, "toast", bead, landed=1)
        packs.append(len(list((clone / "objects" / "pack").glob("*.pack"))))
    assert max(packs) == MOST_PACKS + 1
    assert packs[-1] == 2, "joined, and the last job's own"
    assert git(clone, "for-each-ref", "refs/gastown/published", "refs/gastown/work") == ""
    found = git(clone, "cat-file", "--batch-check=%(objecttype)", stdin="\n".join(made).encode())
    assert found.split() == ["commit"] * len(made), "what is joined is all still there"
