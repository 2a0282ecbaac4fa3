"""Submodules on real repositories: whether others can get their commits, and their files in a work tree."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from activities.git.command import Answer, GitRepo
from activities.git.lfs import LfsCheckout
from activities.git.submodules import SubmoduleCheckout, check_reachable, gitlinks
from models.errors import ErrorCode, GtError
from tests.activities.workshop import Workshop, git


@pytest.fixture
def library(tmp_path: Path) -> Workshop:
    """A clone of the repository that is to be a submodule; its remote is `remote/lib.git`."""
    remote = tmp_path / "remote" / "lib.git"
    remote.mkdir(parents=True, exist_ok=True)
    git(remote, "init", "--quiet", "--bare", "--initial-branch=main")
    seed = tmp_path / "seed"
    git(tmp_path, "init", "--quiet", "--initial-branch=main", str(seed))
    (seed / "lib.py").write_text("one\n")
    git(seed, "add", "--all")
    git(seed, "commit", "--quiet", "-m", "Library")
    git(seed, "push", "--quiet", str(remote), "main")
    return Workshop(remote, tmp_path / "library")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "town" / "modules"


def repo_of(workshop: Workshop) -> GitRepo:
    return GitRepo(workshop.folder / ".git")


def link(
    workshop: Workshop, sha: str, url: str = "../lib.git", path: str = "libs/x", name: str = "libs/x", more: str = ""
) -> str:
    """Commit a submodule; the new commit."""
    text = f'[submodule "{name}"]\n\tpath = {path}\n\turl = {url}\n{more}'
    (workshop.folder / ".gitmodules").write_text(text)
    workshop.git("add", ".gitmodules")
    workshop.git("update-index", "--add", "--cacheinfo", f"160000,{sha},{path}")
    workshop.git("commit", "--quiet", "-m", "Link")
    return workshop.git("rev-parse", "HEAD")


def work_tree(workshop: Workshop, head: str, folder: Path) -> GitRepo:
    """A fresh clone's folder with the files of `head`, submodules left out."""
    git(folder.parent, "clone", "--quiet", "--no-checkout", str(workshop.folder), str(folder))
    repo = GitRepo(folder / ".git", folder)
    repo.run("read-tree", "--reset", "-u", head)
    (folder / ".git" / "HEAD").write_text(f"{head}\n")
    return repo


class TestGitlinks:
    def test_each_link_has_its_path_commit_address_and_name(self, workshop: Workshop, library: Workshop) -> None:
        tip = library.git("rev-parse", "HEAD")
        head = link(workshop, tip, name="x")
        assert gitlinks(repo_of(workshop), head) == [("libs/x", tip, "../lib.git", "x")]

    def test_a_tree_without_any_has_none(self, workshop: Workshop) -> None:
        assert gitlinks(repo_of(workshop), "HEAD") == []


class TestReachable:
    def test_a_commit_that_the_submodules_remote_has_is_fine(
        self, workshop: Workshop, library: Workshop, cache: Path
    ) -> None:
        base = workshop.git("rev-parse", "HEAD")
        head = link(workshop, library.git("rev-parse", "HEAD"))
        check_reachable(repo_of(workshop), head, base, str(workshop.remote), cache)

    def test_a_commit_that_was_never_pushed_is_refused_with_name_and_commit(
        self, workshop: Workshop, library: Workshop, cache: Path
    ) -> None:
        base = workshop.git("rev-parse", "HEAD")
        unpushed = library.commit({"lib.py": "two\n"})
        head = link(workshop, unpushed)
        with pytest.raises(GtError) as refused:
            check_reachable(repo_of(workshop), head, base, str(workshop.remote), cache)
        assert refused.value.code is ErrorCode.REFUSED
        assert "libs/x" in refused.value.message
        assert unpushed in refused.value.message
        assert "push the submodule's commit" in refused.value.hint

    def test_it_is_fine_once_it_was_pushed(self, workshop: Workshop, library: Workshop, cache: Path) -> None:
        base = workshop.git("rev-parse", "HEAD")
        head = link(workshop, library.commit({"lib.py": "two\n"}))
        with pytest.raises(GtError):
            check_reachable(repo_of(workshop), head, base, str(workshop.remote), cache)
        library.git("push", "--quiet", "origin", "HEAD:main")
        check_reachable(repo_of(workshop), head, base, str(workshop.remote), cache)

    def test_of_a_commit_that_the_remote_does_not_have_nothing_else_of_it_comes_into_sight(
        self, workshop: Workshop, library: Workshop, cache: Path
    ) -> None:
        head = link(workshop, "1" * 40)
        with pytest.raises(GtError, match="does not have that commit"):
            check_reachable(repo_of(workshop), head, f"{head}^", str(workshop.remote), cache)
        seen = [git(repo, "cat-file", "--batch-check", "--batch-all-objects") for repo in cache.glob("*.git")]
        assert seen == [""], "agents see these clones"
        assert [path.name for path in cache.parent.iterdir()] == ["modules"]

    def test_a_remote_that_gives_only_what_has_a_name_is_asked_by_its_names(
        self, workshop: Workshop, library: Workshop, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = library.git("rev-parse", "HEAD")
        library.commit({"more.py": "two\n"})
        library.git("push", "--quiet", "origin", "HEAD:main")
        attempt = GitRepo.attempt

        def old_fetch(repo: GitRepo, *arguments: str, **more: Any) -> Answer:
            old = ("-c", "protocol.version=0") if arguments[0] == "fetch" else ()
            return attempt(repo, *old, *arguments, **more)

        monkeypatch.setattr(GitRepo, "attempt", old_fetch)
        head = link(workshop, first)
        check_reachable(repo_of(workshop), head, f"{head}^", str(workshop.remote), cache)
        (clone,) = cache.glob("*.git")
        assert git(clone, "cat-file", "-t", first) == "commit"
        assert git(clone, "rev-list", "--all") == first

    def test_a_link_that_the_change_leaves_alone_is_not_asked_for(
        self, workshop: Workshop, library: Workshop, cache: Path
    ) -> None:
        base = link(workshop, library.commit({"lib.py": "never pushed\n"}))
        head = workshop.commit({"other.txt": "x\n"})
        check_reachable(repo_of(workshop), head, base, str(workshop.remote), cache)

    def test_a_remote_that_is_no_repository_is_refused_and_not_waited_for(
        self, workshop: Workshop, library: Workshop, cache: Path
    ) -> None:
        base = workshop.git("rev-parse", "HEAD")
        head = link(workshop, library.git("rev-parse", "HEAD"), url="../nothing.git")
        with pytest.raises(GtError) as refused:
            check_reachable(repo_of(workshop), head, base, str(workshop.remote), cache)
        assert refused.value.code is ErrorCode.REFUSED

    @pytest.mark.parametrize(
        ("url", "rig_url"),
        [
            ("ext::sh -c whoami", "/srv/shop.git"),
            ("--upload-pack=touch", "/srv/shop.git"),
            ("/srv/lib.git", "https://example.org/shop.git"),
            ("file:///srv/lib.git", "git@example.org:shop.git"),
            ("", "/srv/shop.git"),
        ],
    )
    def test_an_address_of_a_kind_that_is_not_allowed_is_refused(
        self, workshop: Workshop, library: Workshop, cache: Path, url: str, rig_url: str
    ) -> None:
        base = workshop.git("rev-parse", "HEAD")
        head = link(workshop, library.git("rev-parse", "HEAD"), url=url)
        with pytest.raises(GtError) as refused:
            check_reachable(repo_of(workshop), head, base, rig_url, cache)
        assert refused.value.code is ErrorCode.REFUSED


class TestCheckOut:
    def test_files_stand_there_and_git_knows_them_as_a_submodule(
        self, workshop: Workshop, library: Workshop, cache: Path, tmp_path: Path
    ) -> None:
        tip = library.git("rev-parse", "HEAD")
        head = link(workshop, tip)
        repo = work_tree(workshop, head, tmp_path / "tree")
        assert SubmoduleCheckout(cache, str(workshop.remote)).fill(repo, head) == ["libs/x"]
        assert (tmp_path / "tree" / "libs" / "x" / "lib.py").read_text() == "one\n"
        assert git(tmp_path / "tree", "submodule", "status").split()[:2] == [tip, "libs/x"]
        assert git(tmp_path / "tree", "status", "--porcelain") == ""
        assert git(tmp_path / "tree" / "libs" / "x", "log", "--format=%s") == "Library"

    def test_nothing_that_the_change_names_is_run(
        self, workshop: Workshop, library: Workshop, cache: Path, tmp_path: Path
    ) -> None:
        more = f"\tupdate = !touch {workshop.folder}/ran\n[include]\n\tpath = {workshop.folder}/config\n"
        head = link(workshop, library.git("rev-parse", "HEAD"), more=more)
        SubmoduleCheckout(cache, str(workshop.remote)).fill(work_tree(workshop, head, tmp_path / "tree"), head)
        assert not (workshop.folder / "ran").exists()

    def test_submodules_of_submodules_are_there_too(
        self, workshop: Workshop, library: Workshop, cache: Path, tmp_path: Path
    ) -> None:
        inner = library.git("rev-parse", "HEAD")
        middle_remote = tmp_path / "remote" / "middle.git"
        shutil.copytree(library.remote, middle_remote)
        middle = Workshop(middle_remote, tmp_path / "middle")
        outer = link(middle, inner, path="deep", name="deep")
        middle.git("push", "--quiet", "origin", "HEAD:main")
        head = link(workshop, outer, url="../middle.git")
        repo = work_tree(workshop, head, tmp_path / "tree")
        filled = SubmoduleCheckout(cache, str(workshop.remote)).fill(repo, head)
        assert filled == ["libs/x", "libs/x/deep"]
        assert (tmp_path / "tree" / "libs" / "x" / "deep" / "lib.py").read_text() == "one\n"

    def test_their_lfs_content_is_there(
        self, workshop: Workshop, library: Workshop, cache: Path, tmp_path: Path
    ) -> None:
        library.use_lfs()
        head = link(workshop, library.git("rev-parse", "HEAD"))
        repo = work_tree(workshop, head, tmp_path / "tree")
        checkout = SubmoduleCheckout(cache, str(workshop.remote), lfs=LfsCheckout(tmp_path / "town" / "lfs"))
        checkout.fill(repo, head)
        assert (tmp_path / "tree" / "libs" / "x" / "old.bin").read_bytes() == b"old" * 1000

    @pytest.mark.parametrize("name", ["../../evil", "a/b", "-x", "x y", "hooks"])
    def test_an_odd_name_stays_within_the_git_directory(
        self, workshop: Workshop, library: Workshop, cache: Path, tmp_path: Path, name: str
    ) -> None:
        head = link(workshop, library.git("rev-parse", "HEAD"), name=name)
        repo = work_tree(workshop, head, tmp_path / "tree")
        SubmoduleCheckout(cache, str(workshop.remote)).fill(repo, head)
        made = list((tmp_path / "tree" / ".git" / "modules").iterdir())
        assert len(made) == 1
        assert (made[0] / "HEAD").exists()

    def test_no_way_leads_through_a_link(
        self, workshop: Workshop, library: Workshop, cache: Path, tmp_path: Path
    ) -> None:
        head = link(workshop, library.git("rev-parse", "HEAD"))
        repo = work_tree(workshop, head, tmp_path / "tree")
        outside = tmp_path / "outside"
        (outside / "x").mkdir(parents=True)
        (outside / "x" / "dear").write_text("kept")
        shutil.rmtree(tmp_path / "tree" / "libs")
        (tmp_path / "tree" / "libs").symlink_to(outside)
        with pytest.raises(GtError, match="link"):
            SubmoduleCheckout(cache, str(workshop.remote)).fill(repo, head)
        assert (outside / "x" / "dear").read_text() == "kept"
