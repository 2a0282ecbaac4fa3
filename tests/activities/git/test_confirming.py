"""Whether the remote bears a verdict out: asked of real remotes, by clones that have all of it or only a part."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from activities.git.command import GitRepo
from activities.git.merging.landing import LandingActivities
from models.errors import ErrorCode, GtError
from models.job.messages import Verdict, VerdictKind
from models.ledger.records import MergeRequest, Rig
from models.refinery.messages import BuildChain, Chain, ConfirmLanded, DropKind, FindLanded, LandChain
from models.settings import MergeStyle
from models.town import TownPaths
from tests.activities.workshop import Workshop, git

MADE_UP = "0123456789" * 4


@pytest.fixture
def landing(town_paths: TownPaths) -> LandingActivities:
    return LandingActivities(town_paths)


@pytest.fixture
def elsewhere(tmp_path: Path) -> LandingActivities:
    """A host that has never seen the rig."""
    return LandingActivities(TownPaths(tmp_path / "elsewhere"))


def build(landing: LandingActivities, rig: Rig, *changes: MergeRequest, style: MergeStyle = MergeStyle.SQUASH) -> Chain:
    return landing.build_chain(BuildChain(rig=rig, target="main", changes=changes, style=style))


def land(landing: LandingActivities, rig: Rig, change: MergeRequest, style: MergeStyle = MergeStyle.SQUASH) -> str:
    """Land the change as the Refinery does; its landing commit."""
    chain = build(landing, rig, change, style=style)
    landing.land_chain(LandChain(rig=rig, target="main", base_sha=chain.base_sha, links=chain.links))
    return chain.links[-1].sha


def doubt(landing: LandingActivities, rig: Rig, change: MergeRequest, sha: str | None, **more: object) -> str:
    facts = {"merge_request": change.id, "bead": change.bead, "attempt": change.attempt, "kind": VerdictKind.MERGED}
    verdict = Verdict.model_validate(facts | {"merged_sha": sha} | more)
    return landing.confirm_landed(ConfirmLanded(rig=rig, change=change, verdict=verdict)).doubt


@pytest.mark.parametrize("style", MergeStyle)
def test_a_landing_of_each_style_is_borne_out_as_the_tip_and_under_later_commits(
    landing: LandingActivities, elsewhere: LandingActivities, rig: Rig, workshop: Workshop, style: MergeStyle
) -> None:
    workshop.start("sh-1")
    workshop.commit({"a.txt": "a"})
    workshop.commit({"b.txt": "b"})
    change = workshop.submit("sh-1")
    sha = land(landing, rig, change, style)
    for host in (landing, elsewhere):
        assert doubt(host, rig, change, sha) == ""
    workshop.advance_main({"later.txt": "x"})
    for host in (landing, elsewhere):
        assert doubt(host, rig, change, sha) == ""


def test_a_made_up_commit_is_doubted_and_what_the_remote_has_is_named(
    landing: LandingActivities, rig: Rig, workshop: Workshop
) -> None:
    change = workshop.change("sh-1", {"a.txt": "a"})
    tip = workshop.at_remote("refs/heads/main")
    for sha in (MADE_UP, None, "", "main", "HEAD", "--all", change.head_sha, MADE_UP[:12]):
        found = doubt(landing, rig, change, sha)
        assert f"main on the remote stands at {tip}" in found, sha


def test_a_commit_of_the_target_that_is_not_this_change_s_landing_is_doubted(
    landing: LandingActivities, rig: Rig, workshop: Workshop
) -> None:
    first = workshop.change("sh-1", {"a.txt": "a"})
    sha = land(landing, rig, first)
    other, again = workshop.change("sh-2", {"b.txt": "b"}), workshop.change("sh-1", {"a.txt": "again"})
    plain = workshop.advance_main({"later.txt": "x"})
    quoted = workshop.advance_main({"q.txt": "q"}, f"Quote\n\nBead: sh-2\nChange: {other.head_sha}\n\nand more")
    for change, claimed in ((other, sha), (again, sha), (other, plain), (other, quoted)):
        assert f"does not carry Bead: {change.bead} and Change: {change.head_sha}" in doubt(
            landing, rig, change, claimed
        )
    assert doubt(landing, rig, first, sha) == ""


def test_a_landing_that_was_taken_off_the_target_by_force_is_doubted(
    landing: LandingActivities, rig: Rig, workshop: Workshop
) -> None:
    change = workshop.change("sh-1", {"a.txt": "a"})
    before = workshop.at_remote("refs/heads/main")
    sha = land(landing, rig, change)
    git(workshop.remote, "update-ref", "refs/heads/main", str(before))
    assert "does not hold" in doubt(landing, rig, change, sha)


def test_content_that_the_target_held_before_is_borne_out_and_content_that_it_lacks_is_doubted(
    landing: LandingActivities, elsewhere: LandingActivities, rig: Rig, workshop: Workshop
) -> None:
    same, other = workshop.change("sh-1", {"a.txt": "a"}), workshop.change("sh-2", {"b.txt": "b"})
    holder = workshop.advance_main({"a.txt": "a"})
    (dropped,) = build(landing, rig, same).dropped
    assert (dropped.kind, dropped.sha) == (DropKind.EMPTY, holder)
    # What comes later, even one that takes the content away, changes nothing about where it was judged.
    workshop.advance_main({"a.txt": "something else"})
    for host in (landing, elsewhere):
        assert doubt(host, rig, same, holder, base_sha=holder, already_there=True) == ""
        assert "adds to" in doubt(host, rig, other, holder, base_sha=holder, already_there=True)
        for base in (None, MADE_UP):
            assert "does not hold" in doubt(host, rig, same, holder, base_sha=base, already_there=True)


def test_a_change_that_was_pushed_past_the_queue_is_there(
    landing: LandingActivities, rig: Rig, workshop: Workshop
) -> None:
    change = workshop.change("sh-1", {"a.txt": "a"})
    workshop.git("push", "--quiet", "origin", f"{change.head_sha}:refs/heads/main")
    (dropped,) = build(landing, rig, change).dropped
    assert doubt(landing, rig, change, dropped.sha, base_sha=change.head_sha, already_there=True) == ""


def shallow(landing: LandingActivities, paths: TownPaths, rig: Rig) -> GitRepo:
    """Cut the history of the host's clone behind the target's tip, as fetches with git.depth do."""
    repo = GitRepo(paths.clone(rig.name))
    shutil.rmtree(repo.git_dir)
    landing.find_landed(FindLanded(rig=rig, bead="sh-0"))
    shutil.rmtree(repo.git_dir / "objects")
    (repo.git_dir / "objects").mkdir()
    for ref in repo.git_dir.glob("refs/gastown/**/*"):
        if ref.is_file():
            ref.unlink()
    tip = git(Path(rig.url), "rev-parse", "main")
    repo.fetch(f"file://{rig.url}", [tip], ["--depth=1"])
    assert (repo.git_dir / "shallow").exists()
    return repo


@pytest.mark.parametrize("filters", ["true", "false"])
def test_a_clone_of_one_commit_alone_gives_no_false_alarm_and_hides_no_true_one(
    landing: LandingActivities, town_paths: TownPaths, rig: Rig, workshop: Workshop, filters: str
) -> None:
    git(workshop.remote, "config", "uploadpack.allowFilter", filters)
    change = workshop.change("sh-1", {"a.txt": "a"})
    sha = land(landing, rig, change)
    workshop.advance_main({"later.txt": "x"})
    workshop.advance_main({"later.txt": "y"})
    repo = shallow(landing, town_paths, rig)
    assert repo.resolve(sha) is None
    before = sorted(path.name for path in repo.git_dir.parent.iterdir())
    assert doubt(landing, rig, change, sha) == ""
    assert "does not hold" in doubt(landing, rig, change, MADE_UP)
    assert "does not carry" in doubt(landing, rig, workshop.change("sh-2", {"c.txt": "c"}), sha)
    left = {path.name for path in repo.git_dir.parent.iterdir()} - set(before)
    assert {name for name in left if not name.endswith(".lock")} == set()


def test_a_target_that_is_gone_is_named(landing: LandingActivities, rig: Rig, workshop: Workshop) -> None:
    change = workshop.change("sh-1", {"a.txt": "a"}).model_copy(update={"target": "next"})
    assert doubt(landing, rig, change, MADE_UP) == "the remote of shop has no branch next"


def test_a_remote_that_is_away_is_no_doubt(
    landing: LandingActivities, rig: Rig, workshop: Workshop, remote: Path
) -> None:
    change = workshop.change("sh-1", {"a.txt": "a"})
    remote.rename(remote.with_name("away"))
    with pytest.raises(GtError) as caught:
        doubt(landing, rig, change, MADE_UP)
    assert caught.value.code is ErrorCode.REMOTE_UNREACHABLE
    assert caught.value.retryable
