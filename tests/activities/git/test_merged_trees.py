"""Merges in a repository without a checkout: whose attributes count, which drivers run, and what is left behind."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activities.git.command import GitRepo
from activities.git.merging import attributes as merge_attributes
from activities.git.merging.landing import LandingActivities
from models.ledger.records import MergeRequest, Rig
from models.refinery.messages import BuildChain, Chain, DropKind, LandChain, LandOutcome
from models.settings import MergeStyle
from models.town import TownPaths
from tests.activities.workshop import Workshop, git

LOG = "one\ntwo\nthree\n"
UNION = "* merge=union\n"
Build = Callable[..., Chain]


@pytest.fixture
def build(rig: Rig, town_paths: TownPaths) -> Build:
    def chain_of(*changes: MergeRequest, style: MergeStyle = MergeStyle.SQUASH) -> Chain:
        return LandingActivities(town_paths).build_chain(
            BuildChain(rig=rig, target="main", changes=changes, style=style)
        )

    return chain_of


def disputed(workshop: Workshop, name: str = "log.txt", attributes: str | bytes = "") -> MergeRequest:
    """A change that adds a line where the target has added another one since."""
    files: dict[str, str | bytes | None] = {name: LOG}
    if attributes:
        files[".gitattributes"] = attributes
    workshop.advance_main(files)
    request = workshop.change("sh-1", {name: f"{LOG}ours\n"})
    workshop.advance_main({name: f"{LOG}theirs\n"})
    return request


def shown(paths: TownPaths, chain: Chain, name: str) -> str:
    return git(paths.clone("shop"), "show", f"{chain.links[-1].sha}:{name}")


def drops(chain: Chain) -> list[tuple[DropKind, tuple[str, ...]]]:
    return [(drop.kind, drop.files) for drop in chain.dropped]


class TestWhoseAttributesCount:
    @pytest.mark.parametrize("style", list(MergeStyle))
    def test_a_file_with_merge_union_keeps_the_lines_of_both(
        self, workshop: Workshop, town_paths: TownPaths, build: Build, style: MergeStyle
    ) -> None:
        chain = build(disputed(workshop, attributes="log.txt merge=union\n"), style=style)
        assert sorted(shown(town_paths, chain, "log.txt").split()) == ["one", "ours", "theirs", "three", "two"]

    @pytest.mark.parametrize("value", ["-merge", "binary", "merge=binary", "-merge -text"])
    def test_a_file_that_git_is_told_never_to_merge_is_a_conflict_although_its_lines_would_merge(
        self, workshop: Workshop, build: Build, value: str
    ) -> None:
        workshop.advance_main({"shop.lock": LOG, ".gitattributes": f"*.lock {value}\n"})
        request = workshop.change("sh-1", {"shop.lock": f"first\n{LOG}"})
        workshop.advance_main({"shop.lock": f"{LOG}last\n"})
        assert drops(build(request)) == [(DropKind.CONFLICT, ("shop.lock",))]

    def test_a_file_with_merge_ours_stays_as_the_target_has_it(
        self, workshop: Workshop, town_paths: TownPaths, build: Build
    ) -> None:
        workshop.advance_main({"version": LOG, ".gitattributes": "version merge=ours\n"})
        request = workshop.change("sh-1", {"version": f"{LOG}ours\n", "other.txt": "x"})
        workshop.advance_main({"version": f"{LOG}theirs\n"})
        assert shown(town_paths, build(request), "version") == f"{LOG}theirs"

    def test_those_of_a_folder_count_in_it_and_above_the_roots(
        self, workshop: Workshop, town_paths: TownPaths, build: Build
    ) -> None:
        workshop.advance_main({"docs/notes/.gitattributes": UNION, ".gitattributes": "* -merge\n"})
        chain = build(disputed(workshop, "docs/notes/log.txt"))
        assert "theirs" in shown(town_paths, chain, "docs/notes/log.txt")

    def test_those_of_the_target_count_not_those_of_the_change(self, workshop: Workshop, build: Build) -> None:
        workshop.advance_main({"log.txt": LOG})
        request = workshop.change("sh-1", {"log.txt": f"{LOG}ours\n", ".gitattributes": UNION})
        workshop.advance_main({"log.txt": f"{LOG}theirs\n"})
        assert drops(build(request)) == [(DropKind.CONFLICT, ("log.txt",))]

    def test_those_that_a_change_brings_count_for_the_changes_after_it(
        self, workshop: Workshop, town_paths: TownPaths, build: Build
    ) -> None:
        request = disputed(workshop)
        rules = workshop.change("sh-2", {".gitattributes": UNION})
        assert drops(build(request)) == [(DropKind.CONFLICT, ("log.txt",))]
        chain = build(rules, request)
        assert [link.bead for link in chain.links] == ["sh-2", "sh-1"]
        assert "theirs\nours" in shown(town_paths, chain, "log.txt")

    def test_those_that_a_change_takes_away_count_no_more(self, workshop: Workshop, build: Build) -> None:
        request = disputed(workshop, attributes=UNION)
        rules = workshop.change("sh-2", {".gitattributes": None})
        assert drops(build(rules, request)) == [(DropKind.CONFLICT, ("log.txt",))]

    @pytest.mark.parametrize("attributes", ["[attr]both merge=union\n* both\n", b"* merge=union\r\n"])
    def test_macros_and_line_ends_are_read_as_git_reads_them(
        self, workshop: Workshop, town_paths: TownPaths, build: Build, attributes: str | bytes
    ) -> None:
        assert "theirs" in shown(town_paths, build(disputed(workshop, attributes=attributes)), "log.txt")

    def test_a_link_or_a_folder_of_that_name_says_nothing(
        self, workshop: Workshop, build: Build, town_paths: TownPaths
    ) -> None:
        workshop.git("checkout", "--quiet", "--detach", "origin/main")
        (workshop.folder / ".gitattributes").symlink_to("rules")
        workshop.commit({"rules": UNION, "lib/.gitattributes/x": UNION})
        workshop.git("push", "--quiet", "origin", "HEAD:refs/heads/main")
        assert drops(build(disputed(workshop))) == [(DropKind.CONFLICT, ("log.txt",))]

    def test_attributes_that_a_checkout_would_encode_otherwise_say_nothing_as_in_a_checkout(
        self, workshop: Workshop, build: Build
    ) -> None:
        workshop.advance_main({"log.txt": LOG})
        base = workshop.git("rev-parse", "HEAD")
        blob = git(
            workshop.folder, "hash-object", "-w", "--stdin", stdin=b"* merge=union working-tree-encoding=UTF-16\n"
        )
        workshop.git("update-index", "--add", "--cacheinfo", f"100644,{blob},.gitattributes")
        sides = []
        for line in ("ours", "theirs"):
            log = git(workshop.folder, "hash-object", "-w", "--stdin", stdin=f"{LOG}{line}\n".encode())
            workshop.git("update-index", "--cacheinfo", f"100644,{log},log.txt")
            sides.append(workshop.git("commit-tree", "-p", base, "-m", line, workshop.git("write-tree")))
        workshop.git("push", "--quiet", "--force", "origin", f"{sides[0]}:refs/heads/main")
        workshop.git("reset", "--quiet", "--soft", sides[1])
        assert drops(build(workshop.submit("sh-1"))) == [(DropKind.CONFLICT, ("log.txt",))]

    def test_a_persons_own_attributes_and_settings_play_no_part(
        self, workshop: Workshop, town_paths: TownPaths, build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        workshop.advance_main({"till.py": LOG * 3})
        renamed = workshop.change("sh-2", {"till.py": None, "register.py": LOG * 3})
        workshop.advance_main({"till.py": f"{LOG * 3}theirs\n"})
        request = disputed(workshop)
        both = disputed(workshop, "docs/log.txt")
        workshop.advance_main({"docs/.gitattributes": UNION})
        both = both.model_copy(update={"id": "sh-3.1", "bead": "sh-3"})
        before = build(request, renamed, both)
        assert [link.bead for link in before.links] == ["sh-2", "sh-3"]
        home = tmp_path / "home"
        (home / ".config/git").mkdir(parents=True)
        (home / ".config/git/attributes").write_text(UNION)
        (home / ".gitconfig").write_text(
            "[merge]\n\tdefault = union\n\trenormalize = true\n\trenameLimit = 1\n\trenames = false\n"
            "\tdirectoryRenames = true\n[diff]\n\trenames = false\n\trenameLimit = 1\n"
            '[merge "union"]\n\tdriver = false\n[merge "text"]\n\tdriver = true\n'
        )
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
        assert build(request, renamed, both) == before
        (home / ".gitconfig").write_text(f"[core]\n\tattributesFile = {home}/.config/git/attributes\n")
        assert build(request, renamed, both) == before


class TestDrivers:
    @pytest.mark.parametrize("name", ["npm-lock", 'a="b\\c', "x.y", "über", "$(touch${IFS}pwned)", "%P"])
    def test_a_driver_that_is_not_gits_own_refuses_the_change_with_its_name_and_the_file(
        self, workshop: Workshop, build: Build, name: str
    ) -> None:
        chain = build(disputed(workshop, "shop's lock", f"shop* merge={name}\n"))
        assert drops(chain) == [(DropKind.CONFLICT, ("shop's lock",))]
        assert f"shop's lock, whose merge driver {name} (.gitattributes)" in chain.dropped[0].detail

    def test_where_one_side_only_changed_the_file_no_driver_is_asked(
        self, workshop: Workshop, town_paths: TownPaths, build: Build
    ) -> None:
        workshop.advance_main({"shop.lock": LOG, ".gitattributes": "*.lock merge=npm\n"})
        request = workshop.change("sh-1", {"shop.lock": f"{LOG}ours\n"})
        workshop.advance_main({"other.txt": "x"})
        assert shown(town_paths, build(request), "shop.lock") == f"{LOG}ours"

    def test_the_change_lands_once_its_polecat_has_merged_the_file(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, build: Build
    ) -> None:
        build(disputed(workshop, "shop.lock", "*.lock merge=npm\n"))
        mended = workshop.change("sh-1", {"shop.lock": f"{LOG}theirs\nours\n"})
        chain = build(mended)
        order = LandChain(rig=rig, target="main", base_sha=chain.base_sha, links=chain.links)
        assert LandingActivities(town_paths).land_chain(order).outcome is LandOutcome.LANDED

    def test_the_conflicts_of_other_files_are_told_too(self, workshop: Workshop, build: Build) -> None:
        workshop.advance_main({"shop.lock": LOG, "a.txt": LOG, ".gitattributes": "*.lock merge=npm\n"})
        request = workshop.change("sh-1", {"shop.lock": f"{LOG}ours\n", "a.txt": f"{LOG}ours\n"})
        workshop.advance_main({"shop.lock": f"{LOG}theirs\n", "a.txt": f"{LOG}theirs\n"})
        chain = build(request)
        assert drops(chain) == [(DropKind.CONFLICT, ("shop.lock", "a.txt"))]
        assert "Merge conflict in a.txt" in chain.dropped[0].detail
        assert "merge driver npm" in chain.dropped[0].detail

    def test_pointers_of_lfs_are_merged_as_text_as_git_lfs_itself_leaves_it(
        self, workshop: Workshop, build: Build
    ) -> None:
        chain = build(disputed(workshop, "logo.bin", "*.bin filter=lfs diff=lfs merge=lfs -text\n"))
        assert drops(chain) == [(DropKind.CONFLICT, ("logo.bin",))]
        assert "driver" not in chain.dropped[0].detail


class TestHostileAttributes:
    def test_a_tree_bomb_of_folders_is_read_once_each(
        self, workshop: Workshop, remote: Path, build: Build, town_paths: TownPaths
    ) -> None:
        request = self._bomb(workshop, remote, {"x": "100644 blob", ".gitignore": "100644 blob"})
        assert [link.bead for link in build(request).links] == ["sh-1"]

    def test_a_tree_with_attributes_without_end_is_refused_in_words(
        self, workshop: Workshop, remote: Path, build: Build
    ) -> None:
        request = self._bomb(workshop, remote, {".gitattributes": "100644 blob"})
        (dropped,) = build(request).dropped
        assert dropped.kind is DropKind.CONFLICT
        assert f"more than {merge_attributes.MOST_FILES} .gitattributes files" in dropped.detail

    def test_a_target_that_names_drivers_without_end_is_refused_in_words(
        self, workshop: Workshop, build: Build
    ) -> None:
        rules = "".join(f"f{number} merge=d{number}\n" for number in range(merge_attributes.MOST_DRIVERS + 1))
        (dropped,) = build(disputed(workshop, attributes=rules)).dropped
        assert "more than 1000 merge drivers" in dropped.detail

    @settings(max_examples=100)
    @given(content=st.lists(st.binary(min_size=1, max_size=20), max_size=8).map(b" merge=".join))
    def test_whatever_stands_in_an_attributes_file_git_can_read_the_drivers(
        self, tmp_path_factory: pytest.TempPathFactory, content: bytes
    ) -> None:
        place = tmp_path_factory.mktemp("place")
        folder = merge_attributes.AttributeFolder(GitRepo(place), place / "folder")
        folder.fill({b".gitattributes": "0" * 40}, {b".gitattributes": content})
        if folder.options:
            git(place, *folder.options, "config", "--list")

    def _bomb(self, workshop: Workshop, remote: Path, leaf: dict[str, str]) -> MergeRequest:
        """A target with ten folders in each of ten folders, twelve deep: 13 trees, a billion places."""
        blob = git(remote, "hash-object", "-w", "--stdin", stdin=UNION.encode())
        tree = git(remote, "mktree", stdin="".join(f"{kind} {blob}\t{name}\n" for name, kind in leaf.items()).encode())
        for _ in range(12):
            tree = git(remote, "mktree", stdin="".join(f"040000 tree {tree}\td{n}\n" for n in range(10)).encode())
        base = git(remote, "rev-parse", "refs/heads/main")
        bomb = git(remote, "commit-tree", "-p", base, "-m", "bomb", tree)
        extra = git(remote, "ls-tree", bomb) + f"\n100644 blob {blob}\tzz"
        head_tree = git(remote, "mktree", stdin=f"{extra}\n".encode())
        head = git(remote, "commit-tree", "-p", bomb, "-m", "head", head_tree)
        request = workshop.change("sh-1", {"a.txt": "a"})
        git(remote, "update-ref", "refs/heads/main", bomb)
        git(remote, "update-ref", f"refs/heads/{request.branch}", head)
        return request.model_copy(update={"head_sha": head})

    def test_folders_too_deep_to_be_checked_out_are_passed_over(
        self, workshop: Workshop, remote: Path, build: Build, town_paths: TownPaths
    ) -> None:
        request = disputed(workshop, attributes=UNION)
        blob = git(remote, "hash-object", "-w", "--stdin", stdin=b"* -merge\n")
        entry = f"100644 blob {blob}\t.gitattributes"
        for number in range(40):
            tree = git(remote, "mktree", stdin=f"{entry}\n".encode())
            entry = f"040000 tree {tree}\t{'x' * (300 if number == 0 else 200)}"
        tip = git(remote, "rev-parse", "refs/heads/main")
        tree = git(remote, "mktree", stdin=f"{git(remote, 'ls-tree', tip)}\n{entry}\n".encode())
        deep = git(remote, "commit-tree", "-p", tip, "-m", "deep", tree)
        git(remote, "update-ref", "refs/heads/main", deep)
        assert "theirs" in shown(town_paths, build(request), "log.txt")


class TestNothingIsLeft:
    def left(self, town_paths: TownPaths) -> list[str]:
        return sorted(path.name for path in (town_paths.clone("shop") / "merging").iterdir())

    def test_after_a_chain_no_folder_is_left(self, workshop: Workshop, town_paths: TownPaths, build: Build) -> None:
        build(disputed(workshop, attributes=UNION))
        assert self.left(town_paths) == ["0.lock"]

    def test_without_attributes_no_folder_is_made(
        self, workshop: Workshop, town_paths: TownPaths, build: Build
    ) -> None:
        build(disputed(workshop))
        assert not (town_paths.clone("shop") / "merging").exists()

    def test_what_a_killed_merge_left_is_cleared_by_the_next(
        self, workshop: Workshop, town_paths: TownPaths, build: Build
    ) -> None:
        request = disputed(workshop, attributes="log.txt merge=union\n")
        build()
        place = town_paths.clone("shop") / "merging/0"
        (place / "tree/docs").mkdir(parents=True)
        (place / "tree/docs/.gitattributes").write_text("* -merge\n")
        (place / "tree/.merge_file_a1b2c3").write_text("left")
        (place / "called").write_text("left")
        assert "theirs" in shown(town_paths, build(request), "log.txt")
        assert self.left(town_paths) == ["0.lock"]

    def test_several_chains_at_once_merge_as_one_alone_does(
        self, workshop: Workshop, town_paths: TownPaths, build: Build
    ) -> None:
        request = disputed(workshop, attributes=UNION)
        rules = workshop.change("sh-2", {".gitattributes": "* merge=npm\n"})
        orders = [(request,), (rules, request), (rules,), (request, rules)] * 3
        alone = [build(*order) for order in orders[:4]] * 3
        with ThreadPoolExecutor(6) as pool:
            assert list(pool.map(lambda order: build(*order), orders)) == alone
        assert all(name.endswith(".lock") for name in self.left(town_paths))

    def test_no_git_process_outlives_the_chain(
        self, workshop: Workshop, town_paths: TownPaths, build: Build, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        started: list[subprocess.Popen[bytes]] = []
        real = subprocess.Popen

        def noted(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
            process = real(*arguments, **options)  # type: ignore[call-overload]
            started.append(process)
            return process  # type: ignore[no-any-return]

        monkeypatch.setattr("activities.git.command.subprocess.Popen", noted)
        build(disputed(workshop, attributes=UNION))
        assert started
        assert all(process.poll() is not None for process in started)
