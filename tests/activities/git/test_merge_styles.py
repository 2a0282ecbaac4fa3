"""Rebase and merge commits, co-authors and signatures: real git, the same inputs the same commits."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from activities.git.merging.landing import LandingActivities
from models.ledger.records import MergeRequest, Rig
from models.refinery.messages import BuildChain, Chain, DropKind, LandChain, LandOutcome
from models.settings import MergeStyle
from models.town import TownPaths
from tests.activities.workshop import Workshop, git

SEVEN = "one\ntwo\nthree\nfour\nfive\nsix\nseven\n"
REBASE, MERGE = MergeStyle.REBASE, MergeStyle.MERGE


def build(paths: TownPaths, rig: Rig, style: MergeStyle, *changes: MergeRequest, key: str = "") -> Chain:
    order = BuildChain(rig=rig, target="main", changes=changes, style=style, signing_key=key)
    return LandingActivities(paths).build_chain(order)


def land(paths: TownPaths, rig: Rig, chain: Chain) -> None:
    order = LandChain(rig=rig, target="main", base_sha=chain.base_sha, links=chain.links)
    assert LandingActivities(paths).land_chain(order).outcome is LandOutcome.LANDED


def subjects(repository: Path, upto: str, count: int) -> list[str]:
    return git(repository, "log", "--format=%s", f"-{count}", upto).splitlines()


def two_steps(workshop: Workshop, bead: str = "sh-1") -> MergeRequest:
    """Two commits of different authors, on a main that has moved since."""
    workshop.start(bead)
    workshop.commit({"a.txt": "1"}, "First step\n\nBead: sh-99\nwhy")
    workshop.commit({"a.txt": "2"}, "Second step", GIT_AUTHOR_NAME="Bob", GIT_AUTHOR_EMAIL="bob@example.org")
    request = workshop.submit(bead, title="Two steps")
    workshop.advance_main({"other.txt": "x"})
    return request


class TestRebase:
    def test_each_commit_is_kept_with_its_author_and_the_last_closes_the_change(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths
    ) -> None:
        request = two_steps(workshop)
        chain = build(town_paths, rig, REBASE, request)
        clone, (link,) = town_paths.clone("shop"), chain.links
        assert subjects(clone, link.sha, 2) == ["Second step", "First step"]
        assert git(clone, "log", "--format=%an|%cn", "-2", link.sha).splitlines() == [
            "Bob|Gas Town Refinery", "Ada Author|Gas Town Refinery",
        ]  # fmt: skip
        assert git(clone, "rev-parse", f"{link.sha}~2") == chain.base_sha
        assert git(clone, "show", f"{link.sha}~1:a.txt") == "1"
        first, last = (git(clone, "show", "-s", "--format=%B", sha) for sha in (f"{link.sha}~1", link.sha))
        assert first.strip() == "First step\n\nwhy", "what only the town may say is taken out"
        assert f"Change: {request.head_sha}" in last

    def test_a_conflict_in_the_middle_names_its_files_and_drops_the_whole_change(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths
    ) -> None:
        workshop.start("sh-1")
        workshop.commit({"till.py": SEVEN.replace("two", "ZWEI")})
        workshop.commit({"till.py": SEVEN})
        workshop.commit({"a.txt": "a"})
        request = workshop.submit("sh-1")
        workshop.advance_main({"till.py": SEVEN.replace("two", "DEUX")})
        chain = build(town_paths, rig, REBASE, request)
        assert chain.links == ()
        assert [(drop.kind, drop.files) for drop in chain.dropped] == [(DropKind.CONFLICT, ("till.py",))]

    def test_a_commit_that_the_target_has_already_is_left_out(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths
    ) -> None:
        workshop.start("sh-1")
        workshop.commit({"a.txt": "a"}, "There already")
        workshop.commit({"b.txt": "b"}, "New")
        request = workshop.submit("sh-1")
        workshop.advance_main({"a.txt": "a"})
        chain = build(town_paths, rig, REBASE, request)
        clone = town_paths.clone("shop")
        assert git(clone, "rev-parse", f"{chain.links[0].sha}^") == chain.base_sha
        assert subjects(clone, chain.links[0].sha, 1) == ["New"]

    def test_a_change_with_a_merge_in_it_is_squashed(self, workshop: Workshop, rig: Rig, town_paths: TownPaths) -> None:
        workshop.start("sh-1")
        workshop.commit({"a.txt": "a"}, "Only step")
        workshop.advance_main({"b.txt": "b"})
        workshop.git("checkout", "--quiet", "polecat/sh-1")
        workshop.git("merge", "--quiet", "--no-ff", "-m", "Merge main", "origin/main")
        chain = build(town_paths, rig, REBASE, workshop.submit("sh-1"))
        assert git(town_paths.clone("shop"), "rev-parse", f"{chain.links[0].sha}^") == chain.base_sha


class TestMergeCommit:
    def test_the_branch_stays_as_the_second_parent(self, workshop: Workshop, rig: Rig, town_paths: TownPaths) -> None:
        workshop.start("sh-1")
        workshop.commit({"a.txt": "1"}, "Step")
        request = workshop.submit("sh-1", title="One thing")
        chain = build(town_paths, rig, MERGE, request)
        clone, (link,) = town_paths.clone("shop"), chain.links
        assert git(clone, "show", "-s", "--format=%P", link.sha).split() == [chain.base_sha, request.head_sha]
        assert subjects(clone, link.sha, 1) == ["Merge sh-1: One thing"]

    def test_a_branch_that_claims_to_have_landed_another_is_squashed_so_the_claim_never_lands(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths
    ) -> None:
        victim = workshop.change("sh-2", {"b.txt": "b"})
        liar = workshop.change("sh-1", {"a.txt": "a"}, f"Lie\n\nBead: sh-2\nChange: {victim.head_sha}")
        land(town_paths, rig, build(town_paths, rig, MERGE, liar))
        assert [link.bead for link in build(town_paths, rig, MERGE, victim).links] == ["sh-2"]

    def test_both_styles_land_once_and_are_found_again(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, tmp_path: Path
    ) -> None:
        for bead, style in (("sh-1", REBASE), ("sh-2", MERGE)):
            workshop.start(bead)
            workshop.commit({f"{bead}.txt": "1"})
            workshop.commit({f"{bead}.txt": "2"})
            request = workshop.submit(bead)
            chain = build(town_paths, rig, style, request)
            land(town_paths, rig, chain)
            for paths in (town_paths, TownPaths(tmp_path / f"fresh-{bead}")):
                (drop,) = build(paths, rig, style, request).dropped
                assert (drop.kind, drop.sha) == (DropKind.LANDED, chain.links[0].sha)


class TestAlways:
    @pytest.mark.parametrize("style", list(MergeStyle))
    def test_the_same_inputs_give_the_same_commits_in_any_clone(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, tmp_path: Path, style: MergeStyle
    ) -> None:
        changes = (two_steps(workshop), workshop.change("sh-2", {"b.txt": "b"}))
        once = build(town_paths, rig, style, *changes)
        assert len(once.links) == 2
        assert build(town_paths, rig, style, *changes) == once
        assert build(TownPaths(tmp_path / "other"), rig, style, *changes) == once

    @pytest.mark.parametrize("style", list(MergeStyle))
    def test_the_target_holds_the_same_files_whatever_the_style(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, style: MergeStyle
    ) -> None:
        chain = build(town_paths, rig, style, two_steps(workshop))
        squashed = build(town_paths, rig, MergeStyle.SQUASH, two_steps(workshop, "sh-5"))
        clone = town_paths.clone("shop")
        files = git(clone, "ls-tree", "-r", chain.links[0].sha)
        assert files == git(clone, "ls-tree", "-r", squashed.links[0].sha)

    def test_a_squash_names_the_others_who_wrote_a_part(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths
    ) -> None:
        (link,) = build(town_paths, rig, MergeStyle.SQUASH, two_steps(workshop)).links
        message = git(town_paths.clone("shop"), "show", "-s", "--format=%B", link.sha)
        assert "Co-authored-by: Ada Author <ada@example.org>" in message.splitlines()
        assert "Bob" not in message, "he is the commit's author"


class TestSigned:
    @pytest.fixture
    def key(self, tmp_path: Path) -> Path:
        path = tmp_path / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
        return path

    @pytest.mark.parametrize("style", list(MergeStyle))
    def test_landing_commits_are_signed_and_still_the_same_each_time(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, tmp_path: Path, key: Path, style: MergeStyle
    ) -> None:
        request = two_steps(workshop)
        chain = build(town_paths, rig, style, request, key=str(key))
        assert build(TownPaths(tmp_path / "other"), rig, style, request, key=str(key)) == chain
        allowed = tmp_path / "allowed"
        allowed.write_text(f"refinery@gastown.invalid {key.with_suffix('.pub').read_text()}")
        trust = ("-c", "gpg.format=ssh", "-c", f"gpg.ssh.allowedSignersFile={allowed}")
        sign = git(town_paths.clone("shop"), *trust, "log", "-1", "--format=%G?", chain.links[0].sha)
        assert sign == "G"
