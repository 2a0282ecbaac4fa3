"""What is read of a batch's changes at once is what would be read of each alone."""

from __future__ import annotations

from typing import Any

import pytest

from activities.git.command import Answer, GitRepo
from activities.git.merging import changes as changes_module
from activities.git.merging.landing import LandingActivities
from models.ledger.records import MergeRequest, Rig
from models.refinery.messages import BuildChain, Chain, DropKind, LandChain
from models.settings import MergeStyle
from models.town import TownPaths
from tests.activities.workshop import Workshop


def build(paths: TownPaths, rig: Rig, *changes: MergeRequest, style: MergeStyle = MergeStyle.SQUASH) -> Chain:
    return LandingActivities(paths).build_chain(BuildChain(rig=rig, target="main", changes=changes, style=style))


def of_every_kind(workshop: Workshop) -> list[MergeRequest]:
    """Two commits, a branch on top of another one, one that holds a merge, and one that adds nothing."""
    workshop.start("sh-1")
    workshop.commit({"a.txt": "a"}, "First half")
    workshop.commit({"b.txt": "b"}, "Second half")
    changes = [workshop.submit("sh-1")]
    workshop.start("sh-2", base="HEAD")
    workshop.commit({"c.txt": "c"}, "On top")
    changes.append(workshop.submit("sh-2"))
    workshop.start("sh-3")
    workshop.commit({"d.txt": "d"}, "Before the merge")
    workshop.advance_main({"main.txt": "x"})
    workshop.git("checkout", "--quiet", "polecat/sh-3")
    workshop.git("merge", "--quiet", "--no-edit", "origin/main")
    workshop.commit({"e.txt": "e"}, "After the merge")
    changes.append(workshop.submit("sh-3"))
    workshop.start("sh-4")
    return [*changes, workshop.submit("sh-4")]


@pytest.mark.parametrize("style", list(MergeStyle))
def test_each_change_lands_as_the_same_commit_whatever_waits_behind_it(
    workshop: Workshop, rig: Rig, town_paths: TownPaths, style: MergeStyle
) -> None:
    changes = of_every_kind(workshop)
    together = build(town_paths, rig, *changes, style=style)
    assert [link.bead for link in together.links] == ["sh-1", "sh-2", "sh-3"]
    assert [(drop.bead, drop.kind) for drop in together.dropped] == [("sh-4", DropKind.EMPTY)]
    for count in range(1, 4):
        alone = build(town_paths, rig, *changes[:count], style=style)
        assert alone.links == together.links[:count]


def test_a_batch_of_too_many_commits_to_read_at_once_gives_the_same_chain(
    workshop: Workshop, rig: Rig, town_paths: TownPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = of_every_kind(workshop)
    at_once = build(town_paths, rig, *changes)
    monkeypatch.setattr(changes_module, "MOST_READ", 3)
    assert build(town_paths, rig, *changes) == at_once


def test_each_of_several_changes_that_have_landed_is_named_with_its_own_commit(
    workshop: Workshop, rig: Rig, town_paths: TownPaths
) -> None:
    first, second, waiting = (workshop.change(f"sh-{number}", {f"{number}.txt": "x"}) for number in (1, 2, 3))
    chain = build(town_paths, rig, first, second)
    LandingActivities(town_paths).land_chain(
        LandChain(rig=rig, target="main", base_sha=chain.base_sha, links=chain.links)
    )
    # A branch that came back, as a push by a slow agent would bring it.
    workshop.git("push", "--quiet", "origin", f"{first.head_sha}:refs/heads/{first.branch}")
    again = build(town_paths, rig, waiting, second, first)
    assert {drop.bead: (drop.kind, drop.sha) for drop in again.dropped} == {
        link.bead: (DropKind.LANDED, link.sha) for link in chain.links
    }
    assert [link.bead for link in again.links] == ["sh-3"]


def test_a_further_change_costs_no_git_command(
    workshop: Workshop, rig: Rig, town_paths: TownPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[str] = []
    attempt = GitRepo.attempt

    def counted(self: GitRepo, *arguments: str, **options: Any) -> Answer:
        commands.append(arguments[0])
        return attempt(self, *arguments, **options)

    changes = [workshop.change(f"sh-{number}", {f"{number}.txt": "x"}) for number in range(1, 6)]
    build(town_paths, rig, *changes[:1])
    monkeypatch.setattr(GitRepo, "attempt", counted)
    build(town_paths, rig, *changes[:2])
    of_two = len(commands)
    build(town_paths, rig, *changes)
    assert len(commands) - of_two == of_two
