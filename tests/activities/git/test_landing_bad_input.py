"""Changes of every awkward kind: they land byte for byte, or conflict; none breaks the chain."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.git.command import Answer, GitRepo
from activities.git.merging.changes import Submitted
from activities.git.merging.landing import SINGLED_OUT_AT, LandingActivities
from activities.git.merging.styles import Commit, Hand
from activities.git.merging.trees import Conflict
from models import names
from models.errors import ErrorCode, GtError
from models.ledger.records import MergeRequest, Rig
from models.refinery.messages import BuildChain, Chain, DropKind, LandChain, LandOutcome, LandResult
from models.town import TownPaths
from tests.activities.workshop import Workshop, git

MAIN = "refs/heads/main"
MANY = 10_000
Build = Callable[..., Chain]


@pytest.fixture
def build(rig: Rig, town_paths: TownPaths) -> Build:
    def chain_of(*changes: MergeRequest) -> Chain:
        return LandingActivities(town_paths).build_chain(BuildChain(rig=rig, target="main", changes=changes))

    return chain_of


@pytest.fixture
def land(rig: Rig, town_paths: TownPaths) -> Callable[[Chain], LandResult]:
    def landing_of(chain: Chain) -> LandResult:
        order = LandChain(rig=rig, target="main", base_sha=chain.base_sha, links=chain.links)
        return LandingActivities(town_paths).land_chain(order)

    return landing_of


def entry(remote: Path, name: str) -> str:
    """`<mode> <type> <object>` of a file on the remote's main."""
    return git(remote, "ls-tree", "main", "--", name).partition("\t")[0]


def commit_index(workshop: Workshop, message: str = "Change") -> None:
    """Commit what is in the index, work tree or not."""
    tree = workshop.git("write-tree")
    workshop.git("reset", "--quiet", "--soft", git(workshop.folder, "commit-tree", "-p", "HEAD", "-m", message, tree))


class TestTrees:
    def test_a_submodule_lands_as_the_commit_that_it_names_and_is_not_fetched(
        self, workshop: Workshop, remote: Path, build: Build, land: Callable[[Chain], LandResult]
    ) -> None:
        elsewhere = "1234567890" * 4
        workshop.start("sh-1")
        workshop.git("update-index", "--add", "--cacheinfo", f"160000,{elsewhere},vendor/lib")
        commit_index(workshop)
        assert land(build(workshop.submit("sh-1"))).outcome is LandOutcome.LANDED
        assert entry(remote, "vendor/lib") == f"160000 commit {elsewhere}"

    def test_a_submodule_that_both_sides_moved_is_a_conflict(self, workshop: Workshop, build: Build) -> None:
        changes = []
        for bead, digit in (("sh-1", "1"), ("sh-2", "2")):
            workshop.start(bead)
            workshop.git("update-index", "--add", "--cacheinfo", f"160000,{digit * 40},lib")
            commit_index(workshop)
            changes.append(workshop.submit(bead))
        workshop.git("reset", "--quiet", "--hard")
        changes.append(workshop.change("sh-3", {"other.py": "x"}))
        chain = build(*changes)
        assert [link.bead for link in chain.links] == ["sh-1", "sh-3"]
        assert [(drop.bead, drop.kind, drop.files) for drop in chain.dropped] == [("sh-2", DropKind.CONFLICT, ("lib",))]

    def test_a_mode_on_one_side_and_an_edit_on_the_other_both_land(
        self, workshop: Workshop, remote: Path, build: Build, land: Callable[[Chain], LandResult]
    ) -> None:
        workshop.start("sh-1")
        workshop.git("update-index", "--chmod=+x", "till.py")
        commit_index(workshop)
        request = workshop.submit("sh-1")
        workshop.git("reset", "--quiet", "--hard")
        workshop.advance_main({"till.py": "edited\n"})
        assert land(build(request)).outcome is LandOutcome.LANDED
        assert entry(remote, "till.py").startswith("100755 blob")
        assert git(remote, "show", "main:till.py") == "edited"

    def test_a_link_lands_as_a_link(
        self, workshop: Workshop, remote: Path, build: Build, land: Callable[[Chain], LandResult]
    ) -> None:
        workshop.start("sh-1")
        (workshop.folder / "out").symlink_to("/etc/passwd")
        workshop.commit({})
        assert land(build(workshop.submit("sh-1"))).outcome is LandOutcome.LANDED
        assert entry(remote, "out").startswith("120000 blob")
        assert git(remote, "show", "main:out") == "/etc/passwd"

    @pytest.mark.parametrize("content", [b"one\r\ntwo\r\n", b"mixed\r\nends\n", b"\x00\xff\r\n", b"no newline"])
    def test_line_ends_and_bytes_are_as_the_author_committed_them(
        self, workshop: Workshop, remote: Path, build: Build, land: Callable[[Chain], LandResult], content: bytes
    ) -> None:
        blob = git(workshop.folder, "hash-object", "-w", "--stdin", "--no-filters", stdin=content)
        workshop.start("sh-1")
        workshop.git("update-index", "--add", "--cacheinfo", f"100644,{blob},file.txt")
        attributes = git(workshop.folder, "hash-object", "-w", "--stdin", stdin=b"* text=auto eol=crlf\n")
        workshop.git("update-index", "--add", "--cacheinfo", f"100644,{attributes},.gitattributes")
        commit_index(workshop)
        assert land(build(workshop.submit("sh-1"))).outcome is LandOutcome.LANDED
        assert entry(remote, "file.txt") == f"100644 blob {blob}"

    def test_a_file_renamed_differently_on_both_sides_is_a_conflict(self, workshop: Workshop, build: Build) -> None:
        content = "one\ntwo\nthree\nfour\nfive\nsix\nseven\n"
        request = workshop.change("sh-1", {"till.py": None, "counter.py": content})
        workshop.advance_main({"till.py": None, "register.py": content})
        (dropped,) = build(request).dropped
        assert dropped.kind is DropKind.CONFLICT
        assert "till.py" in dropped.files

    def test_a_folder_where_the_other_side_has_a_file_is_a_conflict(self, workshop: Workshop, build: Build) -> None:
        request = workshop.change("sh-1", {"tools/run.sh": "x"})
        workshop.advance_main({"tools": "a file"})
        (dropped,) = build(request).dropped
        assert dropped.kind is DropKind.CONFLICT


class TestSize:
    def test_a_change_of_ten_thousand_files_lands(
        self, workshop: Workshop, remote: Path, build: Build, land: Callable[[Chain], LandResult]
    ) -> None:
        lines = ["commit refs/heads/big", "committer A <a@example.org> 1700000000 +0000", "data 3\nbig"]
        lines += [f"from {git(remote, 'rev-parse', MAIN)}"]
        lines += [f"M 100644 inline d{number % 50}/f{number}\ndata 2\n{number % 10}\n" for number in range(MANY)]
        git(workshop.folder, "fast-import", "--quiet", stdin=("\n".join(lines) + "\n").encode())
        workshop.git("push", "--quiet", "origin", f"big:refs/heads/{names.job_branch('sh-1')}")
        request = workshop.change("sh-2", {"b.txt": "b"})
        big = request.model_copy(
            update={
                "id": "sh-1.1",
                "bead": "sh-1",
                "branch": names.job_branch("sh-1"),
                "head_sha": workshop.git("rev-parse", "big"),
            }
        )
        chain = build(big, request)
        assert [link.bead for link in chain.links] == ["sh-1", "sh-2"]
        assert land(chain).outcome is LandOutcome.LANDED
        assert len(git(remote, "ls-tree", "-r", "--name-only", "main").splitlines()) == MANY + 3


class TestServers:
    def hook(self, remote: Path, script: str) -> None:
        path = remote / "hooks" / "update"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def test_a_server_that_refuses_three_times_then_accepts_gets_the_change_once(
        self, workshop: Workshop, remote: Path, build: Build, land: Callable[[Chain], LandResult], tmp_path: Path
    ) -> None:
        chain = build(workshop.change("sh-1", {"a.txt": "a"}))
        count = tmp_path / "tries"
        self.hook(
            remote,
            f'[ "$1" = {MAIN} ] || exit 0; echo x >> {count}; '
            f"[ $(wc -l < {count}) -gt 3 ] || {{ echo 'come back later' >&2; exit 1; }}",
        )
        results = [land(chain) for _ in range(4)]
        assert [result.outcome for result in results] == [LandOutcome.REFUSED] * 3 + [LandOutcome.LANDED]
        assert "come back later" in results[0].detail
        landed = git(remote, "log", "--format=%H", "main").split()
        assert landed.count(chain.links[0].sha) == 1

    def test_a_protected_target_says_so_and_stays(
        self, workshop: Workshop, remote: Path, build: Build, land: Callable[[Chain], LandResult]
    ) -> None:
        chain = build(workshop.change("sh-1", {"a.txt": "a"}))
        self.hook(remote, f'[ "$1" != {MAIN} ] || {{ echo "GH006: Protected branch update failed" >&2; exit 1; }}')
        result = land(chain)
        assert (result.outcome, result.target_sha) == (LandOutcome.REFUSED, chain.base_sha)
        assert "GH006: Protected branch update failed" in result.detail
        assert workshop.at_remote(MAIN) == chain.base_sha


class TestWhatGitFailsAt:
    """A change that git cannot work with is left out from the third try on; the others are merged."""

    def chain_at(self, attempt: int, rig: Rig, paths: TownPaths, *changes: MergeRequest) -> Chain:
        environment = ActivityEnvironment()
        environment.info = dataclasses.replace(environment.info, attempt=attempt)
        order = BuildChain(rig=rig, target="main", changes=changes)
        built: Chain = environment.run(LandingActivities(paths).build_chain, order)
        return built

    def test_while_merging(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        changes = [submitted(workshop, bead) for bead in ("sh-1", "sh-2", "sh-3")]
        land = Hand.land

        def failing(hand: Hand, change: MergeRequest, batch: Submitted, tip: Commit) -> Commit | Conflict:
            if change.bead == "sh-2":
                raise GtError(ErrorCode.GIT_FAILED, "fatal: cannot read tree")
            return land(hand, change, batch, tip)

        monkeypatch.setattr(Hand, "land", failing)
        with pytest.raises(GtError):
            self.chain_at(SINGLED_OUT_AT - 1, rig, town_paths, *changes)
        chain = self.chain_at(SINGLED_OUT_AT, rig, town_paths, *changes)
        assert [link.bead for link in chain.links] == ["sh-1", "sh-3"]
        assert [(drop.bead, drop.kind, drop.detail) for drop in chain.dropped] == [
            ("sh-2", DropKind.BROKEN, "fatal: cannot read tree")
        ]

    def test_while_fetching(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        changes = [submitted(workshop, bead) for bead in ("sh-1", "sh-2")]
        fetch = GitRepo.try_fetch

        def failing(repo: GitRepo, url: str, refspecs: Sequence[str], *options: Any, **more: Any) -> Answer:
            if changes[1].head_sha in refspecs:
                return Answer(128, b"", "fatal: fsck error in packed object")
            return fetch(repo, url, refspecs, *options, **more)

        monkeypatch.setattr(GitRepo, "try_fetch", failing)
        with pytest.raises(GtError):
            self.chain_at(1, rig, town_paths, *changes)
        chain = self.chain_at(SINGLED_OUT_AT, rig, town_paths, *changes)
        assert [link.bead for link in chain.links] == ["sh-1"]
        (drop,) = chain.dropped
        assert (drop.bead, drop.kind) == ("sh-2", DropKind.BROKEN)
        assert "fsck error" in drop.detail

    def test_a_chain_without_changes_says_where_the_target_stands(
        self, rig: Rig, remote: Path, town_paths: TownPaths
    ) -> None:
        chain = self.chain_at(1, rig, town_paths)
        assert (chain.base_sha, chain.links, chain.dropped) == (git(remote, "rev-parse", MAIN), (), ())


def submitted(workshop: Workshop, bead: str) -> MergeRequest:
    workshop.start(bead)
    workshop.commit({f"{bead}.txt": bead})
    return workshop.submit(bead)
