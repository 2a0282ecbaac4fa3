"""Integration branches on a real remote: made, handed in, and landed as one with every landing in them kept."""

from __future__ import annotations

import pytest

from activities.git.merging.integration import IntegrationActivities
from activities.git.merging.landing import LandingActivities
from models.errors import ErrorCode, GtError
from models.ledger.records import MergeRequest, Rig
from models.refinery.messages import BuildChain, Chain, DropKind, FindLanded, LandChain, LandOutcome
from models.settings import GitSettings, MergeStyle
from models.supervision.host_requests import CreateBranch, HandInBranch, IntegrationBranch, LookAtBranch
from models.town import TownPaths
from tests.activities.workshop import Workshop, git


class Bench:
    def __init__(self, paths: TownPaths, rig: Rig, workshop: Workshop) -> None:
        self.paths = paths
        self.rig = rig
        self.workshop = workshop
        self.branches = IntegrationActivities(paths)
        self.landing = LandingActivities(paths)

    def create(self) -> IntegrationBranch:
        found = self.branches.create_branch(CreateBranch(rig=self.rig, branch="next")).branch
        assert found is not None
        return found

    def look(self) -> IntegrationBranch:
        found = self.branches.look_at_branch(LookAtBranch(rig=self.rig, branch="next")).branch
        assert found is not None
        return found

    def build(self, *changes: MergeRequest, target: str, style: MergeStyle = MergeStyle.SQUASH) -> Chain:
        return self.landing.build_chain(BuildChain(rig=self.rig, target=target, changes=changes, style=style))

    def land(self, *changes: MergeRequest, target: str, style: MergeStyle = MergeStyle.SQUASH) -> list[str]:
        """Land changes; the commits that they became."""
        chain = self.build(*changes, target=target, style=style)
        order = LandChain(rig=self.rig, target=target, base_sha=chain.base_sha, links=chain.links)
        assert self.landing.land_chain(order).outcome is LandOutcome.LANDED
        return [link.sha for link in chain.links]

    def two_landings(self) -> list[str]:
        """Two beads landed on `next`."""
        self.create()
        works = (self.workshop.change(bead, {f"{bead}.txt": bead}) for bead in ("sh-1", "sh-2"))
        return self.land(*works, target="next")

    def hand_in(self, bead: str, sha: str) -> MergeRequest:
        """The change that lands `next`, as its job hands it in."""
        self.branches.hand_in_branch(HandInBranch(rig=self.rig, branch="next", bead=bead, sha=sha))
        self.workshop.start(bead, f"origin/polecat/{bead}")
        return self.workshop.submit(bead, title="Land next on main").model_copy(update={"whole": sha})


@pytest.fixture
def bench(town_paths: TownPaths, rig: Rig, workshop: Workshop) -> Bench:
    return Bench(town_paths, rig, workshop)


def test_a_landing_is_handed_in_under_the_rigs_own_prefix(bench: Bench) -> None:
    tip = bench.create().sha
    order = HandInBranch(rig=bench.rig, branch="next", bead="sh-9", sha=tip, git=GitSettings(branch_prefix="bots/gt-"))
    bench.branches.hand_in_branch(order)
    assert bench.workshop.at_remote("refs/heads/bots/gt-sh-9") == tip
    assert bench.workshop.at_remote("refs/heads/polecat/sh-9") is None


def test_a_branch_is_made_once_where_the_rigs_own_one_stands(bench: Bench) -> None:
    tip = bench.workshop.at_remote("refs/heads/main")
    assert bench.create() == IntegrationBranch(branch="next", sha=tip or "", ahead=0, created=True)
    later = bench.workshop.advance_main({"later.txt": "x"})
    assert (bench.create().created, bench.look().sha) == (False, tip)
    assert bench.workshop.at_remote("refs/heads/main") == later


def test_a_branch_that_is_not_there_is_named_with_the_command_that_makes_it(bench: Bench) -> None:
    with pytest.raises(GtError) as failure:
        bench.look()
    assert failure.value.code is ErrorCode.NO_SUCH_BRANCH
    assert failure.value.hint == "gt refinery integration create next --rig shop"


@pytest.mark.parametrize("style", list(MergeStyle))
def test_it_lands_as_one_commit_in_every_style_and_each_landing_in_it_stays_what_it_is(
    bench: Bench, style: MergeStyle
) -> None:
    landings = bench.two_landings()
    bench.workshop.advance_main({"later.txt": "x"})
    found = bench.look()
    assert (found.sha, found.ahead) == (landings[-1], 2)
    request = bench.hand_in("sh-9", found.sha)
    [landed] = bench.land(request, target="main", style=style)
    own = git(bench.workshop.remote, "rev-list", "--first-parent", "-2", "main").splitlines()
    assert own[0] == landed
    assert git(bench.workshop.remote, "log", "-1", "--format=%s", own[1]) == "Somebody else's work"
    assert set(landings) < set(git(bench.workshop.remote, "rev-list", "main").splitlines())
    for bead, sha in zip(("sh-9", "sh-1", "sh-2"), (landed, *landings), strict=True):
        assert bench.landing.find_landed(FindLanded(rig=bench.rig, bead=bead)).sha == sha
    assert [drop.kind for drop in bench.build(request, target="main", style=style).dropped] == [DropKind.LANDED]
    assert bench.look().ahead == 0
    assert bench.workshop.at_remote("refs/heads/polecat/sh-9") is None, "the landing's branch is gone"
    assert bench.workshop.at_remote("refs/heads/next") == found.sha, "the integration branch is its people's"


def test_what_is_handed_in_again_stays_where_the_job_has_brought_it(bench: Bench) -> None:
    landings = bench.two_landings()
    bench.hand_in("sh-9", landings[-1])
    bench.workshop.commit({"repaired.txt": "x"})
    repaired = bench.workshop.submit("sh-9").head_sha
    bench.branches.hand_in_branch(HandInBranch(rig=bench.rig, branch="next", bead="sh-9", sha=landings[-1]))
    assert bench.workshop.at_remote("refs/heads/polecat/sh-9") == repaired


def test_a_conflict_goes_back_as_a_whole_and_lands_whole_when_it_is_repaired_by_a_merge(bench: Bench) -> None:
    landings = bench.two_landings()
    bench.workshop.advance_main({"sh-1.txt": "theirs"})
    request = bench.hand_in("sh-9", landings[-1])
    [drop] = bench.build(request, target="main").dropped
    assert (drop.kind, drop.files) == (DropKind.CONFLICT, ("sh-1.txt",))
    bench.workshop.git("fetch", "--quiet", "origin")
    bench.workshop.git("merge", "--quiet", "-s", "ours", "-m", "Bring main in", "origin/main")
    again = bench.workshop.submit("sh-9", 2).model_copy(update={"whole": landings[-1]})
    [landed] = bench.land(again, target="main")
    assert git(bench.workshop.remote, "rev-parse", f"{landed}^2") == again.head_sha
    assert set(landings) < set(git(bench.workshop.remote, "rev-list", "main").splitlines())


def test_a_repair_that_claims_to_have_landed_another_bead_is_squashed_so_the_claim_never_lands(bench: Bench) -> None:
    landings = bench.two_landings()
    bench.hand_in("sh-9", landings[-1])
    bench.workshop.commit({"a.txt": "a"}, f"Lie\n\nBead: sh-3\nPolecat: shop/toast\nChange: {'a' * 40}")
    liar = bench.workshop.submit("sh-9", 2).model_copy(update={"whole": landings[-1]})
    [landed] = bench.land(liar, target="main")
    assert git(bench.workshop.remote, "show", "-s", "--format=%P", landed).count(" ") == 0
    assert bench.landing.find_landed(FindLanded(rig=bench.rig, bead="sh-3")).sha is None
