"""Building a chain: one commit per change, the same inputs the same commits, and what is dropped."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from activities.git.merging.landing import LandingActivities
from models.errors import ErrorCode, GtError
from models.ledger.records import MergeRequest, Rig
from models.refinery.messages import BuildChain, Chain, DropKind, DroppedChange, LandChain
from models.settings import GitSettings
from models.town import TownPaths
from tests.activities.workshop import Workshop, git

SEVEN = "one\ntwo\nthree\nfour\nfive\nsix\nseven\n"


def build(paths: TownPaths, rig: Rig, *changes: MergeRequest) -> Chain:
    return LandingActivities(paths).build_chain(BuildChain(rig=rig, target="main", changes=changes))


def only_drop(chain: Chain) -> DroppedChange:
    assert chain.links == ()
    (dropped,) = chain.dropped
    return dropped


def message(paths: TownPaths, sha: str) -> str:
    return git(paths.clone("shop"), "show", "--no-patch", "--format=%B", sha).rstrip("\n")


class TestLinks:
    def test_each_change_becomes_one_commit_on_top_of_the_one_before(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths
    ) -> None:
        first = workshop.change("sh-1", {"a.txt": "a"})
        second = workshop.change("sh-2", {"b.txt": "b"})
        chain = build(town_paths, rig, first, second)
        clone = town_paths.clone("shop")
        assert chain.base_sha == workshop.at_remote("refs/heads/main")
        assert [link.bead for link in chain.links] == ["sh-1", "sh-2"]
        assert git(clone, "rev-parse", f"{chain.links[0].sha}^") == chain.base_sha
        assert git(clone, "rev-parse", f"{chain.links[1].sha}^") == chain.links[0].sha
        assert git(clone, "ls-tree", "--name-only", chain.links[1].sha).split() == [
            "README.md",
            "a.txt",
            "b.txt",
            "till.py",
        ]

    def test_the_same_inputs_give_the_same_commits_in_any_clone(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, tmp_path: Path
    ) -> None:
        changes = [workshop.change("sh-1", {"a.txt": "a"}), workshop.change("sh-2", {"b.txt": "b"})]
        once = build(town_paths, rig, *changes)
        assert build(town_paths, rig, *changes) == once
        assert build(TownPaths(tmp_path / "other"), rig, *changes) == once

    def test_a_change_of_several_commits_lands_as_its_merged_tree(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths
    ) -> None:
        workshop.start("sh-1")
        workshop.commit({"a.txt": "1"}, "First step")
        workshop.commit({"a.txt": "2", "c.txt": "c"}, "Second step")
        request = workshop.submit("sh-1", title="Build the thing")
        workshop.advance_main({"other.txt": "x"})
        (link,) = build(town_paths, rig, request).links
        assert git(town_paths.clone("shop"), "show", f"{link.sha}:a.txt") == "2"
        assert git(town_paths.clone("shop"), "show", f"{link.sha}:other.txt") == "x"
        assert message(town_paths, link.sha) == (
            "Build the thing\n\n* First step\n\n* Second step\n\n"
            f"Bead: sh-1\nPolecat: shop/toast\nChange: {request.head_sha}"
        )

    def test_author_and_date_are_the_changes_own_and_the_committer_is_the_refinery(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths
    ) -> None:
        workshop.start("sh-1")
        workshop.commit(
            {"a.txt": "a"},
            GIT_AUTHOR_NAME="Zoë O'Neil",
            GIT_AUTHOR_EMAIL="z@x.org",
            GIT_AUTHOR_DATE="@1600000000 -0330",
        )
        (link,) = build(town_paths, rig, workshop.submit("sh-1")).links
        shown = git(town_paths.clone("shop"), "show", "-s", "--date=raw", "--format=%an|%ae|%ad|%cn|%ce|%cd", link.sha)
        refinery = "Gas Town Refinery|refinery@gastown.invalid"
        assert shown == f"Zoë O'Neil|z@x.org|1600000000 -0330|{refinery}|1600000000 -0330"

    def test_committer_sign_off_and_the_agent_behind_the_author_are_as_set(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths
    ) -> None:
        person = "Dev Eloper <dev@example.com>"
        workshop.start("sh-1")
        workshop.commit({"a.txt": "a"}, GIT_AUTHOR_NAME="Dev Eloper", GIT_AUTHOR_EMAIL="dev@example.com")
        order = BuildChain(
            rig=rig, target="main", changes=(workshop.submit("sh-1"),),
            git=GitSettings(author=person, committer=person, sign_off=True),
        )  # fmt: skip
        (link,) = LandingActivities(town_paths).build_chain(order).links
        shown = git(town_paths.clone("shop"), "show", "-s", "--format=%an <%ae>|%cn <%ce>", link.sha)
        assert shown == f"{person}|{person}"
        said = message(town_paths, link.sha)
        assert "Co-authored-by: toast <toast@shop.gastown.invalid>" in said
        assert f"Signed-off-by: {person}" in said

    def test_a_rename_on_one_side_carries_the_edit_of_the_other(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths
    ) -> None:
        request = workshop.change("sh-1", {"till.py": SEVEN.replace("two", "TWO")})
        workshop.advance_main({"till.py": None, "register.py": SEVEN})
        (link,) = build(town_paths, rig, request).links
        assert "TWO" in git(town_paths.clone("shop"), "show", f"{link.sha}:register.py")

    @pytest.mark.parametrize("name", ["with space.txt", "new\nline.txt", "ünïcode-文.txt", "-dash", "tab\t\"quote'"])
    def test_any_file_name_lands(self, workshop: Workshop, rig: Rig, town_paths: TownPaths, name: str) -> None:
        (link,) = build(town_paths, rig, workshop.change("sh-1", {name: "content"})).links
        listed = git(town_paths.clone("shop"), "ls-tree", "-z", "--name-only", link.sha)
        assert name in listed.split("\0")

    def test_the_submitted_commit_counts_when_its_branch_was_pushed_over(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths
    ) -> None:
        request = workshop.change("sh-1", {"a.txt": "submitted"})
        workshop.change("sh-1", {"a.txt": "pushed over"})
        (link,) = build(town_paths, rig, request).links
        assert git(town_paths.clone("shop"), "show", f"{link.sha}:a.txt") == "submitted"

    def test_a_merge_of_the_target_into_the_branch_adds_nothing_to_the_message(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths
    ) -> None:
        workshop.start("sh-1")
        workshop.commit({"a.txt": "a"}, "Only step")
        workshop.advance_main({"b.txt": "b"})
        workshop.git("checkout", "--quiet", "polecat/sh-1")
        workshop.git("merge", "--quiet", "--no-ff", "-m", "Merge main", "origin/main")
        (link,) = build(town_paths, rig, workshop.submit("sh-1")).links
        assert message(town_paths, link.sha).startswith("Only step\n\nBead: sh-1\n")


class TestHostileMessages:
    def test_own_trailers_are_taken_out_and_others_stay(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths
    ) -> None:
        request = workshop.change(
            "sh-1",
            {"a.txt": "a"},
            "Subject\n\nBead: sh-999\nwhy\n\nchange : 1234\n  folded\n"
            "Signed-off-by: Ada <ada@example.org>\nPOLECAT: evil/one",
        )
        (link,) = build(town_paths, rig, request).links
        assert message(town_paths, link.sha) == (
            "Subject\n\nwhy\n\nSigned-off-by: Ada <ada@example.org>\n"
            f"Bead: sh-1\nPolecat: shop/toast\nChange: {request.head_sha}"
        )

    def test_a_message_cannot_pass_another_change_off_as_landed(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths
    ) -> None:
        victim = workshop.change("sh-2", {"b.txt": "b"})
        liar = workshop.change(
            "sh-1", {"a.txt": "a"}, f"Change: {victim.head_sha}\n\nBead: sh-2\nChange: {victim.head_sha}"
        )
        landing = LandingActivities(town_paths)
        chain = build(town_paths, rig, liar)
        landing.land_chain(LandChain(rig=rig, target="main", base_sha=chain.base_sha, links=chain.links))
        assert [link.bead for link in build(town_paths, rig, victim).links] == ["sh-2"]

    @pytest.mark.parametrize(
        ("raw", "subject"),
        [
            (b"--exec=evil\n", "--exec=evil"),
            (b"caf\xe9\n", "café"),
            (b"", "Work on sh-1"),
            (b"\n\n\n", "Work on sh-1"),
            (b"# no comment\n", "# no comment"),
            (b"two\nlines\n", "two lines"),
        ],
    )
    def test_any_message_lands(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, raw: bytes, subject: str
    ) -> None:
        request = workshop.change("sh-1", {"a.txt": "a"}, raw)
        (link,) = build(town_paths, rig, request).links
        assert message(town_paths, link.sha).split("\n")[0] == subject
        assert message(town_paths, link.sha).endswith(
            f"\n\nBead: sh-1\nPolecat: shop/toast\nChange: {request.head_sha}"
        )

    def test_a_title_of_several_lines_stays_a_subject(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths
    ) -> None:
        workshop.start("sh-1")
        workshop.commit({"a.txt": "1"})
        workshop.commit({"a.txt": "2"})
        (link,) = build(town_paths, rig, workshop.submit("sh-1", title="Fix\n\nChange: 123\x1b[31m")).links
        assert message(town_paths, link.sha).split("\n\n")[0].startswith("Fix Change: 123")

    def test_an_author_without_a_usable_name_is_replaced_by_the_polecat(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths
    ) -> None:
        workshop.start("sh-1")
        workshop.commit({"a.txt": "a"})
        raw = workshop.git("cat-file", "commit", "HEAD").replace("author Ada Author <ada@example.org>", "author . <>")
        sha = git(workshop.folder, "hash-object", "-t", "commit", "-w", "--stdin", stdin=raw.encode() + b"\n")
        workshop.git("reset", "--quiet", "--hard", sha)
        (link,) = build(town_paths, rig, workshop.submit("sh-1")).links
        author = git(town_paths.clone("shop"), "show", "-s", "--format=%an <%ae>", link.sha)
        assert author == "toast <toast@shop.gastown.invalid>"


class TestSecondHost:
    def test_it_builds_the_same_chain_on_the_base_it_is_told_though_the_target_has_moved(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, tmp_path: Path
    ) -> None:
        change = workshop.change("sh-1", {"a.txt": "a"})
        chain = build(town_paths, rig, change)
        workshop.advance_main({"later.txt": "x"})
        other = LandingActivities(TownPaths(tmp_path / "other"))
        order = BuildChain(rig=rig, target="main", changes=(change,), base_sha=chain.base_sha)
        assert other.build_chain(order) == chain

    def test_it_says_that_it_lacks_a_chain_which_it_has_not_built(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, tmp_path: Path
    ) -> None:
        chain = build(town_paths, rig, workshop.change("sh-1", {"a.txt": "a"}))
        other = LandingActivities(TownPaths(tmp_path / "other"))
        order = LandChain(rig=rig, target="main", base_sha=chain.base_sha, links=chain.links)
        with pytest.raises(GtError) as caught:
            other.land_chain(order)
        assert caught.value.code is ErrorCode.NOT_FOUND
        assert workshop.at_remote("refs/heads/main") == chain.base_sha


class TestKilledGit:
    def test_the_lock_of_a_fetch_that_was_killed_is_removed(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths
    ) -> None:
        build(town_paths, rig, workshop.change("sh-1", {"a.txt": "a"}))
        (town_paths.clone("shop") / "refs" / "gastown" / "target" / "main.lock").touch()
        workshop.advance_main({"b.txt": "b"})
        assert len(build(town_paths, rig, workshop.change("sh-2", {"c.txt": "c"})).links) == 1

    def test_two_builds_at_once_in_a_new_clone_both_succeed(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths
    ) -> None:
        request = workshop.change("sh-1", {"a.txt": "a"})
        with ThreadPoolExecutor(4) as pool:
            chains = list(pool.map(lambda _: build(town_paths, rig, request), range(4)))
        assert len({chain.model_dump_json() for chain in chains}) == 1


class TestDrops:
    @pytest.mark.document("5: 冲突")
    def test_a_conflict_is_dropped_with_its_files_and_the_chain_goes_on(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths
    ) -> None:
        bad = workshop.change("sh-1", {"till.py": SEVEN.replace("two", "ZWEI"), "dir/new\nname": "mine"})
        good = workshop.change("sh-2", {"b.txt": "b"})
        workshop.advance_main({"till.py": SEVEN.replace("two", "DEUX"), "dir/new\nname": "theirs"})
        chain = build(town_paths, rig, bad, good)
        assert [link.bead for link in chain.links] == ["sh-2"]
        (dropped,) = chain.dropped
        assert dropped.kind is DropKind.CONFLICT
        assert dropped.files == ("dir/new\nname", "till.py")
        assert "Merge conflict in till.py" in dropped.detail

    def test_a_binary_file_changed_on_both_sides_is_a_conflict(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths
    ) -> None:
        workshop.advance_main({"logo.bin": bytes(range(256))})
        request = workshop.change("sh-1", {"logo.bin": bytes(range(255, -1, -1))})
        workshop.advance_main({"logo.bin": bytes(256)})
        dropped = only_drop(build(town_paths, rig, request))
        assert (dropped.kind, dropped.files) == (DropKind.CONFLICT, ("logo.bin",))

    def test_a_file_deleted_on_one_side_and_edited_on_the_other_is_a_conflict(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths
    ) -> None:
        request = workshop.change("sh-1", {"till.py": SEVEN + "eight\n"})
        workshop.advance_main({"till.py": None})
        dropped = only_drop(build(town_paths, rig, request))
        assert (dropped.kind, dropped.files) == (DropKind.CONFLICT, ("till.py",))

    def test_a_branch_without_a_common_commit_is_a_conflict_and_the_chain_goes_on(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths
    ) -> None:
        """git ends at it, and merges what follows all the same."""
        after = [workshop.change(f"sh-{number}", {f"{number}.py": "x\n"}) for number in (2, 3)]
        workshop.git("checkout", "--quiet", "--orphan", "alone")
        workshop.git("commit", "--quiet", "-m", "Alone")
        chain = build(town_paths, rig, after[0], workshop.submit("sh-1"), after[1])
        (dropped,) = chain.dropped
        assert dropped.kind is DropKind.CONFLICT
        assert "no commit in common" in dropped.detail
        assert [link.bead for link in chain.links] == ["sh-2", "sh-3"]

    def test_a_conflict_with_an_earlier_link_is_a_conflict_and_the_chain_goes_on(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths
    ) -> None:
        first = workshop.change("sh-1", {"till.py": SEVEN.replace("two", "ZWEI")})
        second = workshop.change("sh-2", {"till.py": SEVEN.replace("two", "DEUX")})
        third = workshop.change("sh-3", {"c.txt": "c"})
        chain = build(town_paths, rig, first, second, third)
        assert [link.bead for link in chain.links] == ["sh-1", "sh-3"]
        assert [(drop.bead, drop.kind) for drop in chain.dropped] == [("sh-2", DropKind.CONFLICT)]

    def test_a_conflict_names_the_beads_that_landed_the_other_side(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths
    ) -> None:
        late = workshop.change("sh-3", {"till.py": SEVEN.replace("two", "DEUX")})
        chain = build(town_paths, rig, workshop.change("sh-1", {"till.py": SEVEN.replace("two", "ZWEI")}))
        LandingActivities(town_paths).land_chain(
            LandChain(rig=rig, target="main", base_sha=chain.base_sha, links=chain.links)
        )
        elsewhere = workshop.change("sh-2", {"b.txt": "b"})
        (dropped,) = build(town_paths, rig, elsewhere, late).dropped
        assert (dropped.bead, dropped.rivals) == ("sh-3", ("sh-1",))

    def test_what_needs_a_dropped_change_waits_and_what_needs_a_landed_one_does_not(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths
    ) -> None:
        bad = workshop.change("sh-1", {"till.py": SEVEN.replace("two", "ZWEI")})
        after_bad = workshop.change("sh-2", {"b.txt": "b"})
        good = workshop.change("sh-3", {"c.txt": "c"})
        after_good = workshop.change("sh-4", {"d.txt": "d"})
        workshop.advance_main({"till.py": SEVEN.replace("two", "DEUX")})
        needs = {"sh-2": ("sh-1",), "sh-4": ("sh-3",)}
        chain = LandingActivities(town_paths).build_chain(
            BuildChain(rig=rig, target="main", changes=(bad, after_bad, good, after_good), needs=needs)
        )
        assert [link.bead for link in chain.links] == ["sh-3", "sh-4"]
        assert [(drop.bead, drop.kind) for drop in chain.dropped] == [
            ("sh-1", DropKind.CONFLICT),
            ("sh-2", DropKind.WAITS),
        ]

    def test_what_an_earlier_link_already_does_is_empty(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths
    ) -> None:
        first = workshop.change("sh-1", {"a.txt": "a", "b.txt": "b"})
        second = workshop.change("sh-2", {"a.txt": "a"})
        chain = build(town_paths, rig, first, second)
        assert [link.bead for link in chain.links] == ["sh-1"]
        (empty,) = chain.dropped
        assert (empty.bead, empty.kind, empty.sha) == ("sh-2", DropKind.EMPTY, chain.links[0].sha)

    def test_a_change_whose_content_the_target_has_is_empty_and_the_commit_that_has_it_is_named(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths
    ) -> None:
        request = workshop.change("sh-1", {"a*.txt": "a"})
        holder = workshop.advance_main({"a*.txt": "a"})
        workshop.advance_main({"aa.txt": "named like the pattern that the other one's name is"})
        drop = only_drop(build(town_paths, rig, request))
        assert (drop.kind, drop.sha) == (DropKind.EMPTY, holder)

    def test_an_empty_commit_is_answered_with_the_target_s_tip(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths
    ) -> None:
        workshop.start("sh-1")
        workshop.git("commit", "--quiet", "--allow-empty", "-m", "Nothing")
        request = workshop.submit("sh-1")
        tip = workshop.advance_main({"a.txt": "a"})
        drop = only_drop(build(town_paths, rig, request))
        assert (drop.kind, drop.sha) == (DropKind.EMPTY, tip)

    def test_a_deleted_branch_is_gone_even_while_the_remote_still_has_the_commit(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths
    ) -> None:
        gone = workshop.change("sh-1", {"a.txt": "a"})
        good = workshop.change("sh-2", {"b.txt": "b"})
        git(workshop.remote, "update-ref", "-d", "refs/heads/polecat/sh-1")
        chain = build(town_paths, rig, gone, good)
        assert [(drop.bead, drop.kind) for drop in chain.dropped] == [("sh-1", DropKind.GONE)]
        assert [link.bead for link in chain.links] == ["sh-2"]

    def test_a_commit_that_the_remote_lost_is_gone(self, workshop: Workshop, rig: Rig, town_paths: TownPaths) -> None:
        gone = workshop.change("sh-1", {"a.txt": "a"}).model_copy(update={"head_sha": "1234567890" * 4})
        good = workshop.change("sh-2", {"b.txt": "b"})
        chain = build(town_paths, rig, gone, good)
        assert [(drop.bead, drop.kind) for drop in chain.dropped] == [("sh-1", DropKind.GONE)]
        assert [link.bead for link in chain.links] == ["sh-2"]

    def test_a_change_that_has_landed_is_named_with_its_commit_also_by_a_new_clone(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, tmp_path: Path
    ) -> None:
        request = workshop.change("sh-1", {"a.txt": "a"})
        chain = build(town_paths, rig, request)
        LandingActivities(town_paths).land_chain(
            LandChain(rig=rig, target="main", base_sha=chain.base_sha, links=chain.links)
        )
        workshop.advance_main({"later.txt": "x"})
        for paths in (town_paths, TownPaths(tmp_path / "other")):
            dropped = only_drop(build(paths, rig, request))
            assert (dropped.kind, dropped.sha) == (DropKind.LANDED, chain.links[0].sha)


class TestRefusals:
    def test_a_target_that_the_remote_lacks_is_an_error(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths
    ) -> None:
        request = workshop.change("sh-1", {"a.txt": "a"})
        with pytest.raises(GtError) as caught:
            LandingActivities(town_paths).build_chain(BuildChain(rig=rig, target="nowhere", changes=(request,)))
        assert caught.value.code is ErrorCode.NO_SUCH_BRANCH

    def test_a_remote_that_is_away_is_tried_again(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, remote: Path
    ) -> None:
        request = workshop.change("sh-1", {"a.txt": "a"})
        remote.rename(remote.with_name("away"))
        with pytest.raises(GtError) as caught:
            build(town_paths, rig, request)
        assert caught.value.code is ErrorCode.REMOTE_UNREACHABLE
        assert caught.value.retryable
        remote.with_name("away").rename(remote)
        assert len(build(town_paths, rig, request).links) == 1
