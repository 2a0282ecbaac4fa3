"""Git LFS with the real git-lfs: what commits bring along, where it is taken from, and where it has to be."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from activities.git import lfs
from activities.git.command import GitRepo
from models.errors import ErrorCode, GtError
from tests.activities.git.lfs_server import LfsServer
from tests.activities.workshop import LFS_ATTRIBUTES, Workshop


@pytest.fixture
def server() -> Iterator[LfsServer]:
    with LfsServer() as running:
        yield running


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    return tmp_path / "town" / "lfs"


def repo_of(workshop: Workshop) -> GitRepo:
    return GitRepo(workshop.folder / ".git")


def oid(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def stored(folder: Path) -> set[str]:
    return {path.name for path in (folder / "objects").rglob("*") if path.is_file() and len(path.name) == 64}


def check_out(repo: GitRepo, commit: str, url: str, storage: Path, tree: Path, mode: str = "auto") -> None:
    tree.mkdir(parents=True)
    options = lfs.LfsCheckout(storage, mode).options(repo, commit, url)
    files = GitRepo(repo.git_dir, tree, {"GIT_INDEX_FILE": str(tree.with_suffix(".index"))})
    files.run(*options, "read-tree", "--reset", "-u", commit)


class TestUsesLfs:
    def test_a_tree_without_attributes_does_not(self, workshop: Workshop) -> None:
        assert not lfs.uses_lfs(repo_of(workshop), "HEAD")

    def test_attributes_at_the_top_or_in_a_folder_say_so_and_comments_do_not(self, workshop: Workshop) -> None:
        commented = workshop.commit({".gitattributes": "# *.bin filter=lfs\n*.sh text\n"})
        below = workshop.commit({"art/.gitattributes": LFS_ATTRIBUTES})
        assert not lfs.uses_lfs(repo_of(workshop), commented)
        assert lfs.uses_lfs(repo_of(workshop), below)

    def test_a_host_without_the_program_says_how_to_get_it(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(GtError) as refused:
            lfs.lfs_program()
        assert refused.value.code is ErrorCode.PROGRAM_MISSING
        assert "apt-get install git-lfs" in refused.value.hint


class TestPointers:
    def test_every_commit_counts_and_not_the_tip_alone(self, lfs_shop: Workshop) -> None:
        base = lfs_shop.git("rev-parse", "HEAD")
        lfs_shop.commit({"a.bin": b"first", "note.txt": "text"})
        lfs_shop.commit({"a.bin": b"second"})
        head = lfs_shop.commit({"a.bin": None})
        found = lfs.pointers(repo_of(lfs_shop), head, [base])
        assert {(one.oid, one.size, one.path) for one in found} == {
            (oid(b"first"), 5, "a.bin"),
            (oid(b"second"), 6, "a.bin"),
        }

    def test_a_text_that_looks_like_a_pointer_is_not_content_of_lfs(self, lfs_shop: Workshop) -> None:
        base = lfs_shop.git("rev-parse", "HEAD")
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 5\n"
        head = lfs_shop.commit({"example.txt": text})
        assert [one.filtered for one in lfs.pointers(repo_of(lfs_shop), head, [base])] == [False]

    def test_attributes_that_the_towns_clone_switches_off_still_count(self, lfs_shop: Workshop) -> None:
        base = lfs_shop.git("rev-parse", "HEAD")
        head = lfs_shop.commit({"a.bin": b"first"})
        (lfs_shop.folder / ".git" / "info").mkdir(exist_ok=True)
        (lfs_shop.folder / ".git" / "info" / "attributes").write_text("* -filter -diff -merge\n")
        assert [one.filtered for one in lfs.pointers(repo_of(lfs_shop), head, [base])] == [True]


class TestAdopt:
    def test_an_object_is_copied_once_it_is_what_its_name_says(self, lfs_shop: Workshop, storage: Path) -> None:
        own = lfs_shop.folder / ".git" / "lfs"
        good = lfs.Pointer(oid(b"old" * 1000), 3000, "old.bin")
        assert lfs.adopt([good], own, storage) == []
        assert stored(storage) == {good.oid}

    @pytest.mark.parametrize("spoiled", ["content", "size", "link", "pipe", "linked folder", "absent"])
    def test_anything_else_under_that_name_is_left(
        self, lfs_shop: Workshop, storage: Path, tmp_path: Path, spoiled: str
    ) -> None:
        own = lfs_shop.folder / ".git" / "lfs"
        wanted = lfs.Pointer(oid(b"old" * 1000), 3000, "old.bin")
        place = own / "objects" / wanted.oid[:2] / wanted.oid[2:4] / wanted.oid
        elsewhere = tmp_path / "elsewhere"
        if spoiled == "content":
            place.chmod(0o644)
            place.write_bytes(b"x" * 3000)
        elif spoiled == "size":
            wanted = wanted._replace(size=2999)
        elif spoiled == "linked folder":
            shutil.move(own, elsewhere)
            own.symlink_to(elsewhere)
        else:
            shutil.move(place, elsewhere)
        if spoiled == "link":
            place.symlink_to(elsewhere)
        if spoiled == "pipe":
            os.mkfifo(place)
        assert lfs.adopt([wanted], own, storage) == [wanted]
        assert stored(storage) == set()


class TestPublish:
    @pytest.mark.parametrize("form", ["{}", "file://{}"])
    def test_a_remote_on_this_machine_gets_what_a_change_brings(
        self, lfs_shop: Workshop, storage: Path, form: str
    ) -> None:
        base = lfs_shop.git("rev-parse", "HEAD")
        head = lfs_shop.commit({"new.bin": b"new"})
        url = form.format(lfs_shop.remote)
        own = lfs_shop.folder / ".git" / "lfs"
        assert lfs.publish_objects(repo_of(lfs_shop), url, head, [base], own, storage) == 1
        assert oid(b"new") in stored(lfs_shop.remote / "lfs")

    def test_a_remote_elsewhere_gets_it_by_git_lfs(self, lfs_shop: Workshop, storage: Path, server: LfsServer) -> None:
        base = lfs_shop.git("rev-parse", "HEAD")
        head = lfs_shop.commit({"new.bin": b"new", "other.bin": b"other"})
        own = lfs_shop.folder / ".git" / "lfs"
        lfs.publish_objects(repo_of(lfs_shop), server.url, head, [base], own, storage)
        assert server.objects == {oid(b"new"): b"new", oid(b"other"): b"other"}

    def test_the_servers_no_is_told_in_its_words(self, lfs_shop: Workshop, storage: Path, server: LfsServer) -> None:
        server.quota = 0
        base = lfs_shop.git("rev-parse", "HEAD")
        head = lfs_shop.commit({"new.bin": b"new"})
        with pytest.raises(GtError) as refused:
            lfs.publish_objects(repo_of(lfs_shop), server.url, head, [base], lfs_shop.folder / ".git" / "lfs", storage)
        assert refused.value.code is ErrorCode.REMOTE_REFUSED
        assert "storage quota" in refused.value.message

    def test_a_server_that_is_away_is_unreachable(self, lfs_shop: Workshop, storage: Path) -> None:
        base = lfs_shop.git("rev-parse", "HEAD")
        head = lfs_shop.commit({"new.bin": b"new"})
        with pytest.raises(GtError) as lost:
            lfs.publish_objects(
                repo_of(lfs_shop), "http://127.0.0.1:9/shop.git", head, [base], lfs_shop.folder / ".git/lfs", storage
            )
        assert lost.value.code is ErrorCode.REMOTE_UNREACHABLE

    @pytest.mark.parametrize("where", ["here", "elsewhere"])
    def test_a_content_that_is_nowhere_is_refused_with_the_files_name(
        self, lfs_shop: Workshop, storage: Path, server: LfsServer, where: str
    ) -> None:
        url = str(lfs_shop.remote) if where == "here" else server.url
        base = lfs_shop.git("rev-parse", "HEAD")
        head = lfs_shop.commit({"new.bin": b"new"})
        with pytest.raises(GtError) as refused:
            lfs.publish_objects(repo_of(lfs_shop), url, head, [base], None, storage)
        assert refused.value.code is ErrorCode.REFUSED
        assert "new.bin" in refused.value.message

    @pytest.mark.parametrize("where", ["here", "elsewhere"])
    def test_a_content_that_only_the_remote_has_is_enough(
        self, lfs_shop: Workshop, storage: Path, server: LfsServer, where: str
    ) -> None:
        server.objects[oid(b"old" * 1000)] = b"old" * 1000
        url = str(lfs_shop.remote) if where == "here" else server.url
        base = lfs_shop.git("rev-parse", "HEAD")
        head = lfs_shop.commit({"copy.bin": b"old" * 1000})
        known = f"{base}~1"
        lfs.publish_objects(repo_of(lfs_shop), url, head, [known], None, storage)

    def test_a_change_may_not_send_the_town_to_another_kind_of_place(
        self, lfs_shop: Workshop, storage: Path, server: LfsServer, tmp_path: Path
    ) -> None:
        base = lfs_shop.git("rev-parse", "HEAD")
        head = lfs_shop.commit({"new.bin": b"new", ".lfsconfig": f"[lfs]\n\turl = file://{tmp_path}/x\n"})
        own = lfs_shop.folder / ".git" / "lfs"
        with pytest.raises(GtError) as refused:
            lfs.publish_objects(repo_of(lfs_shop), server.url, head, [base], own, storage)
        assert refused.value.code is ErrorCode.REFUSED
        assert "lfs.url" in refused.value.message

    def test_another_server_that_the_repository_names_is_used(
        self, lfs_shop: Workshop, storage: Path, server: LfsServer
    ) -> None:
        base = lfs_shop.git("rev-parse", "HEAD")
        head = lfs_shop.commit({"new.bin": b"new", ".lfsconfig": f"[lfs]\n\turl = {server.url}/info/lfs\n"})
        own = lfs_shop.folder / ".git" / "lfs"
        lfs.publish_objects(repo_of(lfs_shop), str(lfs_shop.remote), head, [base], own, storage)
        assert set(server.objects) == {oid(b"new")}


class TestCheckout:
    @pytest.mark.parametrize("form", ["{}", "file://{}"])
    def test_files_hold_the_content_of_a_remote_on_this_machine(
        self, lfs_shop: Workshop, storage: Path, tmp_path: Path, form: str
    ) -> None:
        check_out(repo_of(lfs_shop), "HEAD", form.format(lfs_shop.remote), storage, tmp_path / "tree")
        assert (tmp_path / "tree" / "old.bin").read_bytes() == b"old" * 1000

    def test_files_hold_the_content_of_a_server(
        self, lfs_shop: Workshop, storage: Path, server: LfsServer, tmp_path: Path
    ) -> None:
        server.objects[oid(b"old" * 1000)] = b"old" * 1000
        check_out(repo_of(lfs_shop), "HEAD", server.url, storage, tmp_path / "tree")
        assert (tmp_path / "tree" / "old.bin").read_bytes() == b"old" * 1000

    def test_by_setting_pointers_stay_pointers(self, lfs_shop: Workshop, storage: Path, tmp_path: Path) -> None:
        check_out(repo_of(lfs_shop), "HEAD", str(lfs_shop.remote), storage, tmp_path / "tree", "never")
        assert (tmp_path / "tree" / "old.bin").read_bytes().startswith(b"version https://git-lfs")

    def test_a_lost_content_fails_the_checkout_and_names_the_file(
        self, lfs_shop: Workshop, storage: Path, server: LfsServer, tmp_path: Path
    ) -> None:
        with pytest.raises(GtError, match=r"old\.bin"):
            check_out(repo_of(lfs_shop), "HEAD", server.url, storage, tmp_path / "tree")
