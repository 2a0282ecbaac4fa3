"""Commits that reach the target past the queue: people's are shown, a polecat's are told."""

from __future__ import annotations

import pytest

from activities.git.clones import cache_clone
from activities.git.merging.foreign_commits import look_at_target
from activities.git.merging.landing import LandingActivities
from models.job.messages import RigFacts
from models.ledger.records import MergeRequest, Rig, TargetBase
from models.refinery.messages import BuildChain, Chain, ForeignCommit, LandChain, LandOutcome
from models.settings import MergeStyle, Settings
from models.town import TownPaths
from tests.activities.workshop import Workshop

POLECAT = {"GIT_AUTHOR_NAME": "toast", "GIT_AUTHOR_EMAIL": "toast@shop.gastown.invalid"}


def build(paths: TownPaths, rig: Rig, *changes: MergeRequest) -> Chain:
    return LandingActivities(paths).build_chain(BuildChain(rig=rig, target="main", changes=changes))


def found(paths: TownPaths, rig: Rig) -> tuple[ForeignCommit, ...]:
    """What a patrol's look finds."""
    return look_at_target(paths, RigFacts(rig=rig, settings=Settings(), hosts=("h1",)))


@pytest.fixture
def base(workshop: Workshop) -> str:
    sha = workshop.at_remote("refs/heads/main")
    assert sha is not None
    return sha


def test_a_person_s_push_is_seen_once_and_is_nobody_s_fault(
    workshop: Workshop, rig: Rig, town_paths: TownPaths
) -> None:
    assert build(town_paths, rig).foreign == ()
    pushed = workshop.advance_main({"more.txt": "more"}, "A person's own work")
    (seen,) = build(town_paths, rig).foreign
    assert (seen.sha, seen.subject, seen.author) == (pushed, "A person's own work", "Ada Author <ada@example.org>")
    assert (seen.polecat, seen.bead) == ("", "")
    assert build(town_paths, rig).foreign == ()


def test_a_landing_of_the_town_is_not_foreign(workshop: Workshop, rig: Rig, town_paths: TownPaths) -> None:
    chain = build(town_paths, rig, workshop.change("sh-1", {"a.txt": "a"}))
    order = LandChain(rig=rig, target="main", base_sha=chain.base_sha, links=chain.links)
    assert LandingActivities(town_paths).land_chain(order).outcome is LandOutcome.LANDED
    assert build(town_paths, rig).foreign == ()


def test_a_landing_by_another_host_of_the_town_is_not_foreign(
    workshop: Workshop, rig: Rig, town_paths: TownPaths, tmp_path_factory: pytest.TempPathFactory
) -> None:
    build(town_paths, rig)
    elsewhere = LandingActivities(TownPaths(tmp_path_factory.mktemp("elsewhere")))
    chain = elsewhere.build_chain(
        BuildChain(rig=rig, target="main", changes=(workshop.change("sh-1", {"a.txt": "a"}),))
    )
    elsewhere.land_chain(LandChain(rig=rig, target="main", base_sha=chain.base_sha, links=chain.links))
    assert build(town_paths, rig).foreign == ()


@pytest.mark.parametrize("style", list(MergeStyle))
def test_a_landed_change_that_is_handed_in_again_was_pushed_by_nobody(
    workshop: Workshop, rig: Rig, town_paths: TownPaths, base: str, style: MergeStyle
) -> None:
    workshop.start("sh-1")
    workshop.commit({"a.txt": "a"}, "one", **POLECAT)
    workshop.commit({"b.txt": "b"}, "two", **POLECAT)
    request = workshop.submit("sh-1").model_copy(update={"bases": (TargetBase(target="main", sha=base),)})
    landing = LandingActivities(town_paths)
    order = BuildChain(rig=rig, target="main", changes=(request,), style=style)
    chain = landing.build_chain(order)
    landing.land_chain(LandChain(rig=rig, target="main", base_sha=chain.base_sha, links=chain.links))
    workshop.git("push", "--quiet", "--force", "origin", f"{request.head_sha}:refs/heads/{request.branch}")
    again = landing.build_chain(order)
    assert (again.links, again.foreign) == ((), ())


def test_what_a_polecat_pushed_is_known_by_its_author(workshop: Workshop, rig: Rig, town_paths: TownPaths) -> None:
    build(town_paths, rig)
    workshop.start("sh-1")
    pushed = workshop.commit({"ungated.txt": "x"}, "past the queue", **POLECAT)
    workshop.git("push", "--quiet", "origin", "HEAD:refs/heads/main")
    (seen,) = build(town_paths, rig).foreign
    assert (seen.sha, seen.polecat) == (pushed, "toast")


def test_a_change_that_is_on_the_target_without_a_landing_was_pushed_there_by_its_polecat(
    workshop: Workshop, rig: Rig, town_paths: TownPaths, base: str
) -> None:
    request = workshop.change("sh-1", {"ungated.txt": "x"})
    request = request.model_copy(update={"bases": (TargetBase(target="main", sha=base),)})
    workshop.git("push", "--quiet", "origin", "HEAD:refs/heads/main")
    (seen,) = build(town_paths, rig, request).foreign
    assert (seen.sha, seen.bead, seen.polecat) == (request.head_sha, "sh-1", "toast")


def test_a_change_without_commits_of_its_own_was_pushed_by_nobody(
    workshop: Workshop, rig: Rig, town_paths: TownPaths, base: str
) -> None:
    workshop.start("sh-1")
    request = workshop.submit("sh-1").model_copy(update={"bases": (TargetBase(target="main", sha=base),)})
    assert build(town_paths, rig, request).foreign == ()


def test_a_patrol_finds_a_push_between_merges_until_a_merge_has_seen_it(
    workshop: Workshop, rig: Rig, town_paths: TownPaths
) -> None:
    build(town_paths, rig)
    assert found(town_paths, rig) == ()
    workshop.start("sh-1")
    pushed = workshop.commit({"ungated.txt": "x"}, "past the queue", **POLECAT)
    workshop.git("push", "--quiet", "origin", "HEAD:refs/heads/main")
    for _ in range(2):
        (seen,) = found(town_paths, rig)
        assert (seen.sha, seen.polecat) == (pushed, "toast")
    assert [each.sha for each in build(town_paths, rig).foreign] == [pushed]
    assert found(town_paths, rig) == ()


def test_a_patrol_of_a_rig_without_a_merge_yet_counts_from_where_work_began(
    workshop: Workshop, rig: Rig, town_paths: TownPaths
) -> None:
    assert found(town_paths, rig) == (), "nobody has worked here"
    cache_clone(town_paths, rig).fetch(rig.url, ["+refs/heads/*:refs/remotes/origin/*"])
    assert found(town_paths, rig) == ()
    pushed = workshop.advance_main({"more.txt": "more"}, "A stranger's work")
    assert [each.sha for each in found(town_paths, rig)] == [pushed]


def test_a_landing_is_nothing_that_a_patrol_finds(workshop: Workshop, rig: Rig, town_paths: TownPaths) -> None:
    chain = build(town_paths, rig, workshop.change("sh-1", {"a.txt": "a"}))
    LandingActivities(town_paths).land_chain(
        LandChain(rig=rig, target="main", base_sha=chain.base_sha, links=chain.links)
    )
    assert found(town_paths, rig) == ()
