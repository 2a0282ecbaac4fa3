"""Whether a bead's work is on the target already: asked before an agent is started again."""

from __future__ import annotations

from pathlib import Path

import pytest

from activities.git.merging.landing import LandingActivities
from models.errors import ErrorCode, GtError
from models.ledger.records import MergeRequest, Rig
from models.refinery.messages import BuildChain, FindLanded, LandChain
from models.town import TownPaths
from tests.activities.workshop import Workshop


@pytest.fixture
def landing(town_paths: TownPaths) -> LandingActivities:
    return LandingActivities(town_paths)


def land(landing: LandingActivities, rig: Rig, *changes: MergeRequest, target: str = "main") -> str:
    """Land `changes` as the Refinery does; the last landing commit."""
    chain = landing.build_chain(BuildChain(rig=rig, target=target, changes=changes))
    landing.land_chain(LandChain(rig=rig, target=target, base_sha=chain.base_sha, links=chain.links))
    return chain.links[-1].sha


def found(landing: LandingActivities, rig: Rig, bead: str, *known: str) -> str | None:
    return landing.find_landed(FindLanded(rig=rig, bead=bead, known=known)).sha


def test_landed_work_is_found_under_later_commits_by_the_host_that_landed_it_and_by_a_new_one(
    landing: LandingActivities, rig: Rig, workshop: Workshop, tmp_path: Path
) -> None:
    landed = land(landing, rig, workshop.change("sh-1", {"a.txt": "a"}), workshop.change("sh-2", {"b.txt": "b"}))
    workshop.advance_main({"later.txt": "x"})
    for host in (landing, LandingActivities(TownPaths(tmp_path / "other"))):
        assert found(host, rig, "sh-2") == landed
        assert found(host, rig, "sh-3") is None


def test_a_bead_whose_name_begins_another_ones_is_not_taken_for_it(
    landing: LandingActivities, rig: Rig, workshop: Workshop
) -> None:
    land(landing, rig, workshop.change("sh-12", {"a.txt": "a"}))
    assert found(landing, rig, "sh-1") is None


def test_work_on_the_bead_before_it_was_opened_anew_does_not_count(
    landing: LandingActivities, rig: Rig, workshop: Workshop
) -> None:
    first = land(landing, rig, workshop.change("sh-1", {"a.txt": "a"}))
    assert found(landing, rig, "sh-1", first) is None
    second = land(landing, rig, workshop.change("sh-1", {"a.txt": "b"}))
    assert found(landing, rig, "sh-1", first) == second
    assert found(landing, rig, "sh-1", "0123456789" * 4) == second, "a commit that is not here excludes nothing"


def test_it_is_looked_for_on_the_target_of_the_bead(landing: LandingActivities, rig: Rig, workshop: Workshop) -> None:
    workshop.git("push", "--quiet", "origin", "origin/main:refs/heads/next")
    landed = land(landing, rig, workshop.change("sh-1", {"a.txt": "a"}), target="next")
    assert found(landing, rig.landing_on("next"), "sh-1") == landed == workshop.at_remote("refs/heads/next")
    assert found(landing, rig.landing_on(None), "sh-1") is None


def test_a_person_who_only_names_the_bead_has_landed_nothing(
    landing: LandingActivities, rig: Rig, workshop: Workshop
) -> None:
    workshop.advance_main({"a.txt": "a"}, message="Prepare\n\nBead: sh-1\n")
    workshop.advance_main({"b.txt": "b"}, message=f"Prepare\n\nBead: sh-1\nChange: {'1' * 40}\n\nand more")
    assert found(landing, rig, "sh-1") is None


def test_with_the_remote_away_nothing_is_claimed(
    landing: LandingActivities, rig: Rig, workshop: Workshop, remote: Path
) -> None:
    remote.rename(remote.with_name("away"))
    with pytest.raises(GtError) as caught:
        found(landing, rig, "sh-1")
    assert caught.value.code is ErrorCode.REMOTE_UNREACHABLE
