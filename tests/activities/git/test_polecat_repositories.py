"""Nothing that an agent does in its repository reaches another polecat, the town's own git or the next job."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from activities.git.worktree.polecat_repo import PolecatRepo
from activities.git.worktree.worktrees import Worktrees
from models.errors import ErrorCode, GtError
from models.ledger.records import Rig
from models.settings import GitSettings, WorktreeSettings
from models.town import TownPaths
from tests.activities.workshop import Workshop, git


@pytest.fixture
def worktrees(town_paths: TownPaths) -> Worktrees:
    return Worktrees(town_paths)


@pytest.fixture
def toast(worktrees: Worktrees, rig: Rig) -> Path:
    return worktrees.prepare(rig, "toast", "sh-1", "main").path


OLD = b"old" * 1000
"""what `old.bin` of the shop with LFS holds"""


def commit(path: Path, name: str, content: str = "x\n") -> str:
    (path / name).write_text(content)
    git(path, "add", "--", name)
    git(path, "commit", "--quiet", "-m", f"Add {name}")
    return git(path, "rev-parse", "HEAD")


class TestAnOrdinaryRepository:
    def test_branches_tags_and_the_default_branch_are_those_of_a_clone(
        self, worktrees: Worktrees, rig: Rig, workshop: Workshop, tmp_path: Path
    ) -> None:
        git(workshop.remote, "tag", "-a", "-m", "One", "v1", "main^", GIT_COMMITTER_NAME="Ada")
        git(workshop.remote, "tag", "light", "main")
        path = worktrees.prepare(rig, "toast", "sh-1", "main").path
        plain = tmp_path / "plain"
        git(tmp_path, "clone", "--quiet", str(workshop.remote), str(plain))
        for question in (
            ("for-each-ref", "refs/remotes", "refs/tags"), ("describe", "--tags"),
            ("symbolic-ref", "refs/remotes/origin/HEAD"), ("rev-parse", "v1^{commit}"),
            ("config", "remote.origin.fetch"), ("config", "remote.origin.url"),
        ):  # fmt: skip
            assert git(path, *question) == git(plain, *question), question
        assert git(path, "rev-parse", "--abbrev-ref", "@{upstream}") == "origin/main"
        assert git(path, "status", "--porcelain") == ""
        assert git(path, "fsck", "--connectivity-only") == ""

    def test_branches_of_other_polecats_are_not_there(self, worktrees: Worktrees, rig: Rig, workshop: Workshop) -> None:
        workshop.change("sh-9", {"other.txt": "x"})
        path = worktrees.prepare(rig, "toast", "sh-1", "main").path
        assert "sh-9" not in git(path, "for-each-ref")

    def test_it_cannot_push(self, toast: Path, workshop: Workshop) -> None:
        commit(toast, "bad.txt")
        with pytest.raises(AssertionError, match="agents-do-not-push/run-gt-done"):
            git(toast, "push", "origin", "HEAD:main")

    def test_after_the_remote_moved_origin_is_the_new_one(
        self, worktrees: Worktrees, rig: Rig, toast: Path, workshop: Workshop, tmp_path: Path
    ) -> None:
        moved = tmp_path / "moved.git"
        git(tmp_path, "clone", "--quiet", "--bare", str(workshop.remote), str(moved))
        worktrees.prepare(rig.model_copy(update={"url": str(moved)}), "toast", "sh-1", "main")
        assert git(toast, "remote", "get-url", "origin") == str(moved)

    def test_commits_carry_the_author_that_is_set(self, worktrees: Worktrees, rig: Rig) -> None:
        settings = GitSettings(author="Dev Eloper <dev@example.com>")
        path = worktrees.prepare(rig, "toast", "sh-1", "main", git=settings).path
        assert (git(path, "config", "user.name"), git(path, "config", "user.email")) == (
            "Dev Eloper",
            "dev@example.com",
        )


_MISCHIEF = {
    "a stash": "echo x >> till.py; git stash",
    "a hook": "printf '#!/bin/sh\\nexit 1\\n' > .git/hooks/pre-commit; chmod +x .git/hooks/pre-commit",
    "a hook by configuration": (
        "mkdir h; printf '#!/bin/sh\\nexit 1\\n' > h/pre-commit; chmod +x h/*; git config core.hooksPath $PWD/h"
    ),
    "ignored files": "echo '*' > .git/info/exclude",
    "attributes": "echo '* filter=evil' > .git/info/attributes; git config filter.evil.clean 'echo evil'",
    "a broken configuration": "echo '[broken' > .git/config",
    "a lock on main": "mkdir -p .git/refs/remotes/origin; touch .git/refs/remotes/origin/main.lock",
    "branches": "git branch -f main HEAD^; git tag -f v9; git update-ref refs/remotes/origin/main HEAD^",
    "garbage collection": "git reflog expire --expire=now --all; git gc --quiet --prune=now --aggressive",
    "init over it": "GIT_DIR=$PWD/.git git init --quiet --bare",
    "a replaced object": "git replace HEAD HEAD^",
    "no objects": "rm -rf .git/objects",
    "no repository": "rm -rf .git",
    "a repository elsewhere": "mv .git ../elsewhere.git; echo \"gitdir: $PWD/../elsewhere.git\" > .git",
    "a commondir": "mkdir ../c; cp -r .git/. ../c; echo $PWD/../c > .git/commondir",
    "an alias for everything": "git config url./nowhere/.insteadOf /",
}  # fmt: skip


@pytest.mark.parametrize("mischief", _MISCHIEF)
class TestMischief:
    @pytest.fixture(autouse=True)
    def _done(self, toast: Path, mischief: str) -> None:
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
        subprocess.run(["sh", "-c", _MISCHIEF[mischief]], cwd=toast, check=False, env=environment, capture_output=True)

    def test_another_polecat_works_and_is_published(
        self, worktrees: Worktrees, rig: Rig, workshop: Workshop, mischief: str
    ) -> None:
        path = worktrees.prepare(rig, "nux", "sh-2", "main").path
        head = commit(path, "good.txt")
        assert git(path, "stash", "list") == ""
        assert worktrees.publish(rig, "nux", "sh-2").head == head
        assert workshop.at_remote("refs/heads/polecat/sh-2") == head

    def test_the_next_job_of_the_same_polecat_is_as_the_first(
        self, worktrees: Worktrees, rig: Rig, workshop: Workshop, tmp_path: Path, mischief: str
    ) -> None:
        made = worktrees.prepare(rig, "toast", "sh-2", "main")
        assert (made.resumed, git(made.path, "status", "--porcelain")) == (False, "")
        assert made.head_sha == workshop.at_remote("refs/heads/main")
        assert {path.name for path in (made.path / ".git" / "hooks").iterdir()} == set()
        assert git(made.path, "for-each-ref", "--format=%(refname)").split() == [
            "refs/heads/polecat/sh-2",
            *(f"refs/remotes/origin/{name}" for name in ("HEAD", "main", "release")),
        ]
        head = commit(made.path, "good.txt")
        assert worktrees.publish(rig, "toast", "sh-2").head == head


class TestTheTownsGit:
    """What an agent configures never runs in the worker, and never leads it elsewhere."""

    @pytest.mark.parametrize(
        "command",
        [
            "git config filter.evil.clean '{run}; cat'; echo '* filter=evil' > .git/info/attributes",
            "git config filter.evil.process '{run}'; echo '* filter=evil' > .gitattributes; git commit -qam x",
            "git config core.fsmonitor '{run}'",
            "git config core.sshCommand '{run}'; git config core.alternateRefsCommand '{run}'",
            "printf '[core]\\n\\tfsmonitor = {run}\\n' > more; git config include.path $PWD/more",
            "git config diff.external '{run}'; git config diff.e.textconv '{run}'; echo '* diff=e' > .gitattributes",
            "git config uploadpack.packObjectsHook '{run}; git'; git config gc.auto 1",
            "cd .git/hooks; for h in post-index-change reference-transaction post-checkout pre-push; "
            "do printf '#!/bin/sh\\n{run}\\n' > $h; chmod +x $h; done",
        ],
    )  # fmt: skip
    def test_no_command_of_an_agents_repository_runs(
        self, worktrees: Worktrees, rig: Rig, toast: Path, tmp_path: Path, command: str
    ) -> None:
        mark = tmp_path / "ran"
        commit(toast, "done.txt")
        subprocess.run(["sh", "-c", command.format(run=f"touch {mark}")], cwd=toast, check=False, capture_output=True)
        mark.unlink(missing_ok=True)
        (toast / "half.txt").write_text("half\n")
        (toast / "till.py").write_text("edited\n")
        worktrees.status(rig, "toast", "sh-1")
        worktrees.publish(rig, "toast", "sh-1")
        worktrees.park(rig, "toast", "sh-1", 1, None)
        worktrees.release(rig, "toast", "sh-1")
        assert not mark.exists()

    @pytest.mark.parametrize("way", ["alternates", "folder of packs", "folder of objects", "one object"])
    def test_objects_of_a_repository_elsewhere_do_not_come_along(
        self, worktrees: Worktrees, rig: Rig, toast: Path, tmp_path: Path, way: str
    ) -> None:
        private = tmp_path / "private"
        git(tmp_path, "init", "--quiet", str(private))
        secret = commit(private, "secret.txt")
        theirs, own = private / ".git" / "objects", toast / ".git" / "objects"
        loose = [path for path in theirs.glob("[0-9a-f][0-9a-f]/*") if path.is_file()]
        if way == "alternates":
            with (own / "info" / "alternates").open("a") as alternates:
                alternates.write(f"{theirs}\n")
        elif way == "folder of packs":
            git(private, "repack", "-adq")
            (own / "pack").rename(own / "pack.before")
            (own / "pack").symlink_to(theirs / "pack")
        else:
            for path in loose:
                link, target = (own / path.parent.name, path.parent) if way == "folder of objects" else (
                    own / path.parent.name / path.name, path,
                )  # fmt: skip
                link.parent.mkdir(exist_ok=True)
                link.symlink_to(target)
        git(toast, "update-ref", "refs/heads/polecat/sh-1", secret)
        assert git(toast, "show", "HEAD:secret.txt") == "x"
        with pytest.raises(GtError):
            worktrees.publish(rig, "toast", "sh-1")

    def test_an_object_that_no_repository_should_take_is_refused_with_its_name(
        self, worktrees: Worktrees, rig: Rig, toast: Path
    ) -> None:
        blob = git(toast, "hash-object", "-w", "--stdin", stdin=b"x")
        tree = git(
            toast,
            "hash-object",
            "-w",
            "-t",
            "tree",
            "--literally",
            "--stdin",
            stdin=b"100644 .git\0" + bytes.fromhex(blob),
        )
        head = git(toast, "commit-tree", "-p", "HEAD", "-m", "Bad", tree)
        git(toast, "update-ref", "refs/heads/polecat/sh-1", head)
        with pytest.raises(GtError, match="hasDotgit") as refused:
            worktrees.publish(rig, "toast", "sh-1")
        assert refused.value.code is ErrorCode.INVALID_VALUE

    def test_what_an_agent_left_in_its_git_directory_is_listed(
        self, worktrees: Worktrees, rig: Rig, toast: Path, town_paths: TownPaths
    ) -> None:
        git(toast, "config", "alias.x", "!evil")
        (toast / ".git" / "hooks" / "pre-commit").write_text("x")
        left = PolecatRepo(town_paths, "shop", "toast").left_behind()
        assert "x = !evil" in left
        assert "hooks/pre-commit" in left


class TestPublishing:
    def test_a_branch_of_somebody_else_is_never_moved(
        self, worktrees: Worktrees, rig: Rig, toast: Path, workshop: Workshop
    ) -> None:
        strangers = workshop.change("sh-1", {"strangers.txt": "x"}).head_sha
        head = commit(toast, "mine.txt")
        assert worktrees.publish(rig, "toast", "sh-1", 1).branch == "polecat/sh-1.1"
        assert workshop.at_remote("refs/heads/polecat/sh-1") == strangers
        assert workshop.at_remote("refs/heads/polecat/sh-1.1") == head

    def test_a_remote_that_takes_no_forced_push_takes_a_rebased_attempt(
        self, worktrees: Worktrees, rig: Rig, toast: Path, workshop: Workshop
    ) -> None:
        git(workshop.remote, "config", "receive.denyNonFastForwards", "true")
        git(workshop.remote, "config", "receive.denyDeletes", "true")
        commit(toast, "mine.txt")
        worktrees.publish(rig, "toast", "sh-1", 1)
        git(toast, "commit", "--quiet", "--amend", "-m", "Rebased")
        assert worktrees.publish(rig, "toast", "sh-1", 2) == (git(toast, "rev-parse", "HEAD"), "polecat/sh-1.2")

    def test_the_prefix_of_branches_is_a_setting(
        self, worktrees: Worktrees, rig: Rig, toast: Path, workshop: Workshop
    ) -> None:
        head = commit(toast, "mine.txt")
        settings = GitSettings(branch_prefix="bots/gt-")
        assert worktrees.publish(rig, "toast", "sh-1", 1, settings).branch == "bots/gt-sh-1"
        assert worktrees.prepare(rig, "nux", "sh-1", "main", git=settings).head_sha == head

    def test_work_that_was_accepted_is_published_again_from_this_hosts_own_copy(
        self, worktrees: Worktrees, rig: Rig, toast: Path, workshop: Workshop
    ) -> None:
        head = commit(toast, "mine.txt")
        worktrees.publish(rig, "toast", "sh-1", 1)
        commit(toast, "later.txt")
        git(workshop.remote, "update-ref", "-d", "refs/heads/polecat/sh-1")
        worktrees.publish(rig, "toast", "sh-1", 1, accepted=head)
        assert workshop.at_remote("refs/heads/polecat/sh-1") == head


class TestPartsOfARepository:
    def test_lfs_content_is_there_and_what_a_commit_adds_is_uploaded_first(
        self, worktrees: Worktrees, rig: Rig, lfs_shop: Workshop
    ) -> None:
        path = worktrees.prepare(rig, "toast", "sh-1", "main").path
        assert (path / "old.bin").read_bytes() == OLD
        assert git(path, "status", "--porcelain") == ""
        (path / "new.bin").write_bytes(b"new content")
        git(path, "add", ".")
        git(path, "commit", "--quiet", "-m", "New")
        assert not worktrees.status(rig, "toast", "sh-1").dirty
        worktrees.publish(rig, "toast", "sh-1")
        stored = {one.read_bytes() for one in (lfs_shop.remote / "lfs" / "objects").rglob("*") if one.is_file()}
        assert {OLD, b"new content"} <= stored

    def test_unfinished_work_with_lfs_content_goes_on_elsewhere(
        self, worktrees: Worktrees, rig: Rig, lfs_shop: Workshop
    ) -> None:
        path = worktrees.prepare(rig, "toast", "sh-1", "main", 1, 1).path
        (path / "half.bin").write_bytes(b"half content")
        worktrees.park(rig, "toast", "sh-1", 1, None)
        worktrees.release(rig, "toast", "sh-1")
        other = Worktrees(TownPaths(path.parents[4] / "other"))
        made = other.prepare(rig, "nux", "sh-1", "main", 2, 1)
        assert (made.path / "half.bin").read_bytes() == b"half content"

    def test_by_setting_pointers_stay_pointers(self, worktrees: Worktrees, rig: Rig, lfs_shop: Workshop) -> None:
        never = worktrees.prepare(rig, "toast", "sh-1", "main", worktree=WorktreeSettings(lfs="never")).path
        assert (never / "old.bin").read_bytes().startswith(b"version https://git-lfs")
        worktrees.park(rig, "toast", "sh-1", 1, None)
        worktrees.release(rig, "toast", "sh-1")
        again = worktrees.prepare(rig, "toast", "sh-2", "main").path
        assert (again / "old.bin").read_bytes() == OLD

    def test_submodules_are_checked_out_and_a_commit_of_one_that_nobody_has_is_refused(
        self, worktrees: Worktrees, rig: Rig, workshop: Workshop, tmp_path: Path
    ) -> None:
        library = tmp_path / "library"
        git(tmp_path, "init", "--quiet", "-b", "main", str(library))
        commit(library, "lib.py")
        workshop.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(library), "lib")
        workshop.git("commit", "--quiet", "-m", "A submodule")
        workshop.git("push", "--quiet", "origin", "HEAD:main")
        path = worktrees.prepare(rig, "toast", "sh-1", "main").path
        assert (path / "lib" / "lib.py").exists()
        assert git(path, "submodule", "status").startswith(" ")
        moved = commit(path / "lib", "more.py")
        git(path, "commit", "--quiet", "-am", "Moved")
        with pytest.raises(GtError, match=f"submodule lib is at {moved}") as refused:
            worktrees.publish(rig, "toast", "sh-1")
        assert refused.value.code is ErrorCode.REFUSED

    @pytest.mark.parametrize("settings", [GitSettings(depth=1), GitSettings(clone="blobless")])
    def test_a_part_of_a_large_history_is_enough_to_work_and_to_hand_in(
        self, worktrees: Worktrees, rig: Rig, workshop: Workshop, settings: GitSettings
    ) -> None:
        git(workshop.remote, "config", "uploadpack.allowFilter", "true")
        git(workshop.remote, "config", "uploadpack.allowAnySHA1InWant", "true")
        url = f"file://{rig.url}"
        part = rig.model_copy(update={"url": url})
        path = worktrees.prepare(part, "toast", "sh-1", "main", git=settings).path
        assert git(path, "status", "--porcelain") == ""
        head = commit(path, "done.txt")
        assert not worktrees.status(part, "toast", "sh-1").dirty
        assert worktrees.publish(part, "toast", "sh-1", 1, settings).head == head
        if settings.depth:
            assert git(path, "rev-list", "--count", "origin/main") == "1"
        else:
            git(path, "log", "-p", "--format=")
