"""Parked work is listed with what became of it, put on its bead's branch by one command, and deleted only as asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from activities.git.worktree.parked import ParkedActivities
from activities.git.worktree.worktrees import Worktrees
from models.errors import ErrorCode, GtError
from models.ledger.records import Rig
from models.settings import GitSettings
from models.supervision.host_requests import ExpireParked, ListParked, ParkedRef, ParkedWork, Unpark, Unparked
from models.town import TownPaths
from tests.activities.workshop import Workshop, git

KEY = "AKIA" + "QWERTYUIOP234567"


class Bench:
    def __init__(self, paths: TownPaths, rig: Rig, workshop: Workshop) -> None:
        self.paths = paths
        self.rig = rig
        self.workshop = workshop
        self.worktrees = Worktrees(paths)
        self.activities = ParkedActivities(paths)

    def work(self, bead: str = "sh-1", attempt: int = 1) -> Path:
        return self.worktrees.prepare(self.rig, "toast", bead, "main", attempt, attempt).path

    def park(self, bead: str = "sh-1", attempt: int = 1) -> str:
        ref = self.worktrees.park(self.rig, "toast", bead, attempt, None)
        assert ref is not None
        self.worktrees.release(self.rig, "toast", bead)
        return ref

    def parked(self, files: dict[str, str], bead: str = "sh-1", attempt: int = 1) -> str:
        path = self.work(bead, attempt)
        for name, content in files.items():
            (path / name).write_text(content)
        return self.park(bead, attempt)

    def listed(self, targets: dict[str, str] | None = None) -> dict[str, ParkedWork]:
        request = ListParked(rig=self.rig, targets=targets or {})
        return {one.ref: one for one in self.activities.list_parked(request).parked}

    def unpark(self, bead: str = "sh-1", **more: object) -> Unparked:
        request = Unpark.model_validate({"rig": self.rig, "bead": bead, **more})
        done = self.activities.unpark(request).unparked
        assert done is not None
        return done

    def expire(self, *refs: tuple[str, str], kept: bool = False) -> tuple[str, ...]:
        wanted = tuple(ParkedRef(ref=ref, sha=sha) for ref, sha in refs)
        return self.activities.expire_parked(ExpireParked(rig=self.rig, refs=wanted, kept=kept)).expired


@pytest.fixture
def bench(town_paths: TownPaths, rig: Rig, workshop: Workshop) -> Bench:
    return Bench(town_paths, rig, workshop)


def commit(path: Path, name: str) -> str:
    (path / name).write_text("x\n")
    git(path, "add", "--", name)
    git(path, "commit", "--quiet", "-m", f"Add {name}")
    return git(path, "rev-parse", "HEAD")


def test_unparked_work_is_where_the_rigs_branches_are_and_the_next_attempt_goes_on_from_it(bench: Bench) -> None:
    git_settings = GitSettings(branch_prefix="bots/gt-")
    bench.parked({"a.txt": "a\n"})
    done = bench.unpark(git=git_settings)
    assert done.branch == "bots/gt-sh-1"
    assert bench.workshop.at_remote("refs/heads/bots/gt-sh-1") == done.sha
    assert bench.workshop.at_remote("refs/heads/polecat/sh-1") is None
    assert bench.worktrees.prepare(bench.rig, "nux", "sh-1", "main", git=git_settings).head_sha == done.sha


class TestListing:
    def test_each_is_told_with_bead_attempt_and_how_much_it_is(self, bench: Bench) -> None:
        ref = bench.parked({"a.txt": "a\n", "b.txt": "b\n", ".env": "X=1\n"}, attempt=3)
        (work,) = bench.listed().values()
        assert (work.ref, work.bead, work.attempt, work.files, work.rig) == (ref, "sh-1", 3, 2, "shop")
        assert (work.on_remote, work.landed, work.parked) == (True, False, True)
        assert ".env" in work.stayed_here
        assert work.subject == "Parked work of sh-1, attempt 3"

    def test_files_that_stayed_here_are_told_with_their_folder_also_when_the_ref_is_gone(self, bench: Bench) -> None:
        ref = bench.parked({".env": "X=1\n"}, attempt=3)
        (work,) = bench.listed().values()
        assert (work.kept_folder, work.kept_files) == (str(bench.paths.salvaged("shop", "toast", "sh-1", 3)), (".env",))
        assert bench.expire((ref, work.sha)) == (ref,)
        (left,) = bench.listed().values()
        assert (left.ref, left.sha, left.on_remote, left.landed) == (ref, "", False, False)
        assert left.kept_files == (".env",)
        assert bench.expire((ref, ""), kept=True) == (ref,)
        assert bench.listed() == {}

    def test_commits_that_have_landed_meanwhile_are_told_as_landed(self, bench: Bench) -> None:
        path = bench.work()
        head = commit(path, "done.txt")
        ref = bench.park()
        assert not bench.listed()[ref].landed
        git(bench.paths.clone("shop"), "push", "--quiet", bench.rig.url, f"{head}:refs/heads/main")
        assert bench.listed()[ref].landed

    def test_what_has_landed_is_judged_by_the_target_of_the_bead(self, bench: Bench) -> None:
        done = commit(bench.work(), "a.txt")
        ref = bench.park()
        bench.workshop.git("fetch", "--quiet", "origin", ref)
        bench.workshop.git("push", "--quiet", "origin", f"{done}:refs/heads/next")
        assert not bench.listed()[ref].landed
        assert bench.listed({"sh-1": "next"})[ref].landed
        assert not bench.listed({"sh-1": "gone"})[ref].landed

    def test_what_was_never_committed_is_never_told_as_landed(self, bench: Bench) -> None:
        ref = bench.parked({"a.txt": "a\n"})
        bench.workshop.advance_main({"a.txt": "a\n"})
        assert not bench.listed()[ref].landed

    def test_what_another_host_has_parked_is_listed_too(self, bench: Bench, tmp_path: Path) -> None:
        other = Bench(TownPaths(tmp_path / "other"), bench.rig, bench.workshop)
        ref = other.parked({"a.txt": "a\n"}, "sh-2")
        assert list(bench.listed()) == [ref]

    def test_with_the_remote_away_what_is_here_is_listed_and_the_trouble_told(self, bench: Bench) -> None:
        ref = bench.parked({"a.txt": "a\n"})
        remote = bench.workshop.remote
        remote.rename(remote.with_name("away"))
        answer = bench.activities.list_parked(ListParked(rig=bench.rig))
        assert [(one.ref, one.on_remote) for one in answer.parked] == [(ref, False)]
        assert answer.problem

    def test_saves_of_unfinished_work_are_told_apart_and_other_refs_are_not_listed(self, bench: Bench) -> None:
        bench.workshop.git("push", "--quiet", "origin", "origin/main:refs/gastown/wip/sh-3/2")
        bench.workshop.git("push", "--quiet", "origin", "origin/main:refs/gastown/parked/sh-3/deep/er")
        bench.workshop.git("push", "--quiet", "origin", "origin/main:refs/gastown/epoch")
        assert {ref: one.parked for ref, one in bench.listed().items()} == {"refs/gastown/wip/sh-3/2": False}


class TestUnparking:
    def test_the_next_attempt_finds_it_all_on_the_beads_branch(self, bench: Bench) -> None:
        path = bench.work()
        head = commit(path, "done.txt")
        (path / "half.txt").write_text("half\n")
        (path / "till.py").unlink()
        bench.park()
        done = bench.unpark()
        assert bench.workshop.at_remote("refs/heads/polecat/sh-1") == done.sha
        assert git(bench.workshop.remote, "log", "-1", "--format=%P", done.sha) == head
        made = bench.worktrees.prepare(bench.rig, "nux", "sh-1", "main", 2, 2)
        assert made.head_sha == done.sha
        assert (made.path / "half.txt").read_text() == "half\n"
        assert not (made.path / "till.py").exists()

    def test_commits_alone_are_put_there_as_they_are(self, bench: Bench) -> None:
        head = commit(bench.work(), "done.txt")
        bench.park()
        assert bench.unpark().sha == head

    def test_again_it_finds_the_branch_as_it_left_it(self, bench: Bench) -> None:
        bench.parked({"a.txt": "a\n"})
        assert bench.unpark() == bench.unpark()

    def test_the_newest_attempt_is_taken_or_the_one_that_is_named(self, bench: Bench) -> None:
        bench.parked({"first.txt": "x"}, attempt=1)
        bench.parked({"second.txt": "x"}, attempt=2)
        assert bench.unpark(dry_run=True).attempt == 2
        assert bench.unpark(attempt=1).attempt == 1
        assert bench.workshop.at_remote("refs/heads/polecat/sh-1") is not None

    def test_a_dry_run_changes_nothing(self, bench: Bench) -> None:
        bench.parked({"a.txt": "a\n"})
        assert bench.unpark(dry_run=True).branch == "polecat/sh-1"
        assert bench.workshop.at_remote("refs/heads/polecat/sh-1") is None

    def test_a_branch_with_other_work_is_not_moved(self, bench: Bench) -> None:
        bench.parked({"a.txt": "a\n"})
        other = bench.workshop.change("sh-1", {"other.txt": "x"}).head_sha
        with pytest.raises(GtError) as refused:
            bench.unpark()
        assert refused.value.code is ErrorCode.REFUSED
        assert bench.workshop.at_remote("refs/heads/polecat/sh-1") == other

    def test_secrets_that_stayed_here_are_told_with_where_they_are_and_not_published(self, bench: Bench) -> None:
        bench.parked({"a.txt": "a\n", "settings.py": f"key = '{KEY}'\n"})
        done = bench.unpark()
        assert "settings.py" in done.stayed_here
        assert done.kept_folder is not None
        assert (Path(done.kept_folder) / "settings.py").read_text() == f"key = '{KEY}'\n"
        assert KEY not in git(bench.workshop.remote, "cat-file", "--batch-all-objects", "--batch")

    @pytest.mark.parametrize("more", [{}, {"attempt": 7}])
    def test_what_is_not_there_is_not_found(self, bench: Bench, more: dict[str, object]) -> None:
        if more:
            bench.parked({"a.txt": "a\n"})
        with pytest.raises(GtError) as missing:
            bench.unpark("sh-1", **more)
        assert missing.value.code is ErrorCode.NOT_FOUND


class TestExpiring:
    def test_it_goes_on_the_remote_and_here(self, bench: Bench) -> None:
        ref = bench.parked({"a.txt": "a\n"})
        sha = bench.listed()[ref].sha
        assert bench.expire((ref, sha)) == (ref,)
        assert bench.listed() == {}
        assert git(bench.paths.clone("shop"), "for-each-ref", "refs/gastown/parked") == ""
        assert bench.expire((ref, sha)) == (ref,)

    def test_what_was_parked_anew_since_it_was_listed_stays(self, bench: Bench) -> None:
        ref = bench.parked({"a.txt": "a\n"})
        bench.workshop.git("push", "--quiet", "--force", "origin", f"origin/main:{ref}")
        assert bench.expire((ref, git(bench.paths.clone("shop"), "rev-parse", ref))) == ()
        assert bench.workshop.at_remote(ref) is not None

    def test_nothing_but_parked_work_can_be_deleted_this_way(self, bench: Bench) -> None:
        tip = str(bench.workshop.at_remote("refs/heads/main"))
        bench.work()
        assert bench.expire(("refs/heads/main", tip), ("refs/gastown/epoch", tip)) == ()
        assert bench.workshop.at_remote("refs/heads/main") == tip
