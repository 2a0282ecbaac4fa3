"""A target that lost commits while work was under way: no landing brings them back."""

from __future__ import annotations

import pytest

from activities.git.merging.landing import LandingActivities
from models.ledger.records import MergeRequest, Rig, TargetBase
from models.refinery.messages import BuildChain, Chain, DropKind, LandChain, LandOutcome
from models.settings import MergeStyle
from models.town import TownPaths
from tests.activities.workshop import Workshop, git


def build(
    paths: TownPaths, rig: Rig, *changes: MergeRequest, style: MergeStyle = MergeStyle.SQUASH, target: str = "main"
) -> Chain:
    return LandingActivities(paths).build_chain(BuildChain(rig=rig, target=target, changes=changes, style=style))


def land(paths: TownPaths, rig: Rig, chain: Chain) -> None:
    order = LandChain(rig=rig, target="main", base_sha=chain.base_sha, links=chain.links)
    assert LandingActivities(paths).land_chain(order).outcome is LandOutcome.LANDED


def files(paths: TownPaths, sha: str) -> list[str]:
    return git(paths.clone("shop"), "ls-tree", "-r", "--name-only", sha).split()


def started_at(request: MergeRequest, *bases: str, target: str = "main") -> MergeRequest:
    """The request of a job whose attempts began at `bases`."""
    return request.model_copy(update={"bases": tuple(TargetBase(target=target, sha=sha) for sha in bases)})


def force_main(workshop: Workshop, sha: str) -> None:
    workshop.git("push", "--quiet", "--force", "origin", f"{sha}:refs/heads/main")


@pytest.fixture
def good(workshop: Workshop) -> str:
    """Where main stood before the leak, and stands again in the end."""
    sha = workshop.at_remote("refs/heads/main")
    assert sha is not None
    return sha


@pytest.fixture
def leak(workshop: Workshop, good: str) -> str:
    """A commit on main that a person takes off again."""
    return workshop.advance_main({"leaked.txt": "key=hunter2"}, "oops: leaks a key")


class TestWhatWasTakenOffTheTargetStaysOff:
    @pytest.mark.parametrize("style", list(MergeStyle))
    def test_a_change_that_began_on_removed_commits_lands_without_them(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, good: str, leak: str, style: MergeStyle
    ) -> None:
        request = started_at(workshop.change("sh-1", {"work.txt": "work"}, "Do the work"), leak)
        force_main(workshop, good)
        workshop.advance_main({"more.txt": "more"}, "a good commit")
        chain = build(town_paths, rig, request, style=style)
        (link,) = chain.links
        assert files(town_paths, link.sha) == ["README.md", "more.txt", "till.py", "work.txt"]
        history = git(town_paths.clone("shop"), "log", "--format=%H %B", link.sha)
        assert leak not in history
        assert "oops: leaks a key" not in history
        assert "Do the work" in history
        assert f"Change: {request.head_sha}" in history

    def test_a_tip_that_the_town_saw_counts_even_where_no_job_began_there(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, good: str, leak: str
    ) -> None:
        build(town_paths, rig, workshop.change("sh-9", {"other.txt": "x"}))
        request = workshop.change("sh-1", {"work.txt": "work"})
        force_main(workshop, good)
        (link,) = build(town_paths, rig, request).links
        assert "leaked.txt" not in files(town_paths, link.sha)

    def test_a_landing_of_the_town_that_was_taken_off_stays_off(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, good: str
    ) -> None:
        land(town_paths, rig, build(town_paths, rig, workshop.change("sh-9", {"bad.txt": "x"})))
        workshop.start("sh-1")
        workshop.commit({"work.txt": "work"})
        request = workshop.submit("sh-1")
        force_main(workshop, good)
        (link,) = build(town_paths, rig, request).links
        assert "bad.txt" not in files(town_paths, link.sha)

    def test_a_change_that_merged_the_removed_commits_in_lands_without_them(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, good: str, leak: str
    ) -> None:
        workshop.start("sh-1", good)
        workshop.commit({"early.txt": "early"})
        workshop.git("merge", "--quiet", "--no-edit", leak)
        workshop.commit({"late.txt": "late"})
        request = started_at(workshop.submit("sh-1"), good, leak)
        force_main(workshop, good)
        (link,) = build(town_paths, rig, request).links
        assert files(town_paths, link.sha) == ["README.md", "early.txt", "late.txt", "till.py"]

    def test_what_does_not_apply_without_them_goes_back_with_the_command_that_mends_it(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, good: str, leak: str
    ) -> None:
        request = started_at(workshop.change("sh-1", {"leaked.txt": "key=rotated"}), leak)
        force_main(workshop, good)
        (dropped,) = build(town_paths, rig, request).dropped
        assert dropped.kind is DropKind.CONFLICT
        assert "main was rewritten" in dropped.detail
        assert f"{leak[:12]} oops: leaks a key" in dropped.detail
        assert f"git rebase --onto origin/main {leak}" in dropped.detail

    def test_a_change_that_was_itself_taken_off_goes_back(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, good: str, leak: str
    ) -> None:
        workshop.start("sh-1", leak)
        request = started_at(workshop.submit("sh-1"), leak)
        force_main(workshop, good)
        (dropped,) = build(town_paths, rig, request).dropped
        assert dropped.kind is DropKind.CONFLICT
        assert "nothing of its own" in dropped.detail

    def test_copies_of_removed_commits_that_a_plain_rebase_makes_go_back(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, good: str, leak: str
    ) -> None:
        town_paths.rig("shop").mkdir(parents=True)
        request = workshop.change("sh-1", {"work.txt": "work"})
        force_main(workshop, good)
        workshop.advance_main({"more.txt": "more"})
        workshop.git("checkout", "--quiet", request.branch)
        workshop.git("rebase", "--quiet", "origin/main")
        again = started_at(workshop.submit("sh-1", attempt=2), leak, good)
        # The clone that the job began in; the remote itself gives the removed commit to nobody.
        git(town_paths.root, "clone", "--quiet", "--bare", str(workshop.folder), str(town_paths.clone("shop")))
        (dropped,) = build(town_paths, rig, again).dropped
        assert dropped.kind is DropKind.CONFLICT
        assert "oops: leaks a key" in dropped.detail

    def test_a_bead_whose_own_landing_was_taken_off_can_land_again(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, good: str
    ) -> None:
        request = started_at(workshop.change("sh-1", {"work.txt": "work"}), good)
        land(town_paths, rig, build(town_paths, rig, request))
        force_main(workshop, good)
        workshop.git("checkout", "--quiet", request.branch)
        again = started_at(workshop.submit("sh-1", attempt=2), good)
        (link,) = build(town_paths, rig, again).links
        assert "work.txt" in files(town_paths, link.sha)

    def test_commits_that_came_back_are_no_longer_removed(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, good: str, leak: str
    ) -> None:
        request = started_at(workshop.change("sh-1", {"work.txt": "work"}), leak)
        force_main(workshop, good)
        build(town_paths, rig, request)
        force_main(workshop, leak)
        chain = build(town_paths, rig, request)
        assert chain.rewound == ()
        assert "leaked.txt" in files(town_paths, chain.links[0].sha)


class TestWhatIsTold:
    def test_a_rewind_is_told_with_what_was_removed(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, good: str, leak: str
    ) -> None:
        request = started_at(workshop.change("sh-1", {"work.txt": "work"}), leak)
        force_main(workshop, good)
        (rewound,) = build(town_paths, rig, request).rewound
        assert (rewound.target, rewound.left_sha, rewound.removed) == ("main", good, 1)
        assert rewound.commits == (f"{leak[:12]} oops: leaks a key",)

    def test_a_rewind_has_one_name_whatever_is_known_of_it(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, good: str, leak: str
    ) -> None:
        second = workshop.advance_main({"second.txt": "x"}, "one more")
        first_job = started_at(workshop.change("sh-1", {"a.txt": "a"}), leak)
        second_job = started_at(workshop.change("sh-2", {"b.txt": "b"}), second)
        force_main(workshop, good)
        (told,) = build(town_paths, rig, first_job).rewound
        (again,) = build(town_paths, rig, first_job, second_job).rewound
        assert told.left_sha == again.left_sha == good
        assert again.removed == 2

    def test_a_target_that_only_moved_on_is_told_of_nothing(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, good: str
    ) -> None:
        request = started_at(workshop.change("sh-1", {"work.txt": "work"}), good)
        land(town_paths, rig, build(town_paths, rig, request))
        workshop.advance_main({"more.txt": "more"})
        chain = build(town_paths, rig, started_at(workshop.change("sh-2", {"b.txt": "b"}), good))
        assert chain.rewound == ()

    def test_a_job_that_began_on_another_branch_takes_only_its_own_work_along_and_nothing_is_told(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, good: str
    ) -> None:
        request = workshop.change("sh-1", {"work.txt": "work"}).model_copy(update={"target": "release"})
        chain = build(town_paths, rig, started_at(request, good, target="main"), target="release")
        assert files(town_paths, chain.links[0].sha) == ["README.md", "work.txt"]
        assert chain.rewound == ()


def test_another_host_builds_the_same_chain_without_ever_having_seen_the_removed_commits(
    workshop: Workshop, rig: Rig, town_paths: TownPaths, good: str, leak: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    build(town_paths, rig, workshop.change("sh-9", {"other.txt": "x"}))
    request = workshop.change("sh-1", {"work.txt": "work"})
    force_main(workshop, good)
    here = build(town_paths, rig, request)
    elsewhere = LandingActivities(TownPaths(tmp_path_factory.mktemp("elsewhere")))
    order = BuildChain(rig=rig, target="main", changes=(request,), base_sha=here.base_sha, forks=here.forks)
    assert elsewhere.build_chain(order).links == here.links
