"""Landing a chain: once, whatever happens to the worker, the target or the remote in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from activities.git.command import Answer, GitRepo
from activities.git.merging import landing as landing_module
from activities.git.merging.landing import LandingActivities
from models import names
from models.errors import ErrorCode, GtError
from models.ledger.records import MergeRequest, Rig
from models.refinery.messages import BuildChain, Chain, LandChain, LandOutcome, LandResult
from models.town import TownPaths
from tests.activities.workshop import Workshop, git

MAIN = "refs/heads/main"


def build(paths: TownPaths, rig: Rig, *changes: MergeRequest) -> Chain:
    return LandingActivities(paths).build_chain(BuildChain(rig=rig, target="main", changes=changes))


def order(rig: Rig, chain: Chain) -> LandChain:
    return LandChain(rig=rig, target="main", base_sha=chain.base_sha, links=chain.links)


def land(paths: TownPaths, rig: Rig, chain: Chain) -> LandResult:
    return LandingActivities(paths).land_chain(order(rig, chain))


def history(remote: Path) -> list[str]:
    return git(remote, "log", "--format=%H", "main").split()


def hook(remote: Path, name: str, script: str) -> None:
    path = remote / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def after_push(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Run `act` between a push and what the activity does next."""
    push = GitRepo.push

    def pushing(self: GitRepo, *arguments: Any, **options: Any) -> Answer:
        answer = push(self, *arguments, **options)
        act()
        return answer

    monkeypatch.setattr(GitRepo, "push", pushing)


def act_once(results: list[str], act: Callable[[], str]) -> Callable[[], object]:
    """A callable that acts at its first call alone and keeps the result."""
    return lambda: results or results.append(act())  # type: ignore[func-returns-value]


class TestOnce:
    def test_all_links_land_in_one_push_and_the_branches_go(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, remote: Path
    ) -> None:
        chain = build(town_paths, rig, workshop.change("sh-1", {"a.txt": "a"}), workshop.change("sh-2", {"b.txt": "b"}))
        hook(remote, "post-receive", 'cat >> "$GIT_DIR/received"')
        result = land(town_paths, rig, chain)
        assert (result.outcome, result.target_sha) == (LandOutcome.LANDED, chain.links[1].sha)
        assert history(remote)[:3] == [chain.links[1].sha, chain.links[0].sha, chain.base_sha]
        assert (remote / "received").read_text().splitlines()[0] == f"{chain.base_sha} {chain.links[1].sha} {MAIN}"
        assert workshop.at_remote("refs/heads/polecat/sh-1") is None
        assert workshop.at_remote("refs/heads/polecat/sh-2") is None

    def test_landing_again_says_landed_and_adds_nothing(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, remote: Path
    ) -> None:
        chain = build(town_paths, rig, workshop.change("sh-1", {"a.txt": "a"}))
        assert land(town_paths, rig, chain).outcome is LandOutcome.LANDED
        before = history(remote)
        assert land(town_paths, rig, chain).outcome is LandOutcome.LANDED
        assert history(remote) == before

    def test_landing_again_after_others_have_pushed_on_top_says_landed(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths
    ) -> None:
        chain = build(town_paths, rig, workshop.change("sh-1", {"a.txt": "a"}))
        land(town_paths, rig, chain)
        newer = workshop.advance_main({"newer.txt": "x"})
        assert land(town_paths, rig, chain) == LandResult(outcome=LandOutcome.LANDED, target_sha=newer)

    def test_a_branch_that_was_pushed_over_since_stays(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths
    ) -> None:
        chain = build(town_paths, rig, workshop.change("sh-1", {"a.txt": "a"}))
        newer = workshop.change("sh-1", {"a.txt": "newer"})
        assert land(town_paths, rig, chain).outcome is LandOutcome.LANDED
        assert workshop.at_remote("refs/heads/polecat/sh-1") == newer.head_sha

    def test_a_remote_that_keeps_branches_undoes_no_landing(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, remote: Path
    ) -> None:
        chain = build(town_paths, rig, workshop.change("sh-1", {"a.txt": "a"}))
        git(remote, "config", "receive.denyDeletes", "true")
        assert land(town_paths, rig, chain).outcome is LandOutcome.LANDED
        assert workshop.at_remote(MAIN) == chain.links[0].sha

    @pytest.mark.parametrize("point", ["land.before_push", "land.pushed", "land.verified", "land.branches_deleted"])
    def test_a_worker_killed_while_landing_leaves_it_to_the_next_to_finish(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, remote: Path, tmp_path: Path, point: str
    ) -> None:
        chain = build(town_paths, rig, workshop.change("sh-1", {"a.txt": "a"}))
        call = order(rig, chain).model_dump_json()
        assert in_process("land_chain", call, town_paths, tmp_path, point).returncode == -signal.SIGKILL
        assert land(town_paths, rig, chain).outcome is LandOutcome.LANDED
        assert history(remote)[:2] == [chain.links[0].sha, chain.base_sha]
        assert workshop.at_remote("refs/heads/polecat/sh-1") is None

    @pytest.mark.parametrize("point", ["chain.fetched", "chain.built"])
    def test_a_worker_killed_while_building_builds_the_same_chain_again(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, tmp_path: Path, point: str
    ) -> None:
        request = workshop.change("sh-1", {"a.txt": "a"})
        call = BuildChain(rig=rig, target="main", changes=(request,)).model_dump_json()
        assert in_process("build_chain", call, town_paths, tmp_path, point).returncode == -signal.SIGKILL
        assert build(town_paths, rig, request) == build(TownPaths(tmp_path / "unkilled"), rig, request)


_PROGRAM = """
import sys
from pathlib import Path
from activities.git.merging.landing import LandingActivities
from models.refinery import messages as merging
from models.town import TownPaths
method, model, town = sys.argv[1:]
request = getattr(merging, model).model_validate_json(sys.stdin.read())
getattr(LandingActivities(TownPaths(Path(town))), method)(request)
"""


def in_process(
    method: str, call: str, paths: TownPaths, tmp_path: Path, point: str
) -> subprocess.CompletedProcess[str]:
    """Run an activity in a process of its own that dies at the crash point `point`."""
    model = {"land_chain": "LandChain", "build_chain": "BuildChain"}[method]
    return subprocess.run(
        [sys.executable, "-c", _PROGRAM, method, model, str(paths.root)],
        input=call,
        capture_output=True,
        text=True,
        cwd=Path(landing_module.__file__).parents[3],
        env={**os.environ, "GT_CRASH_POINT": point, "GT_CRASH_MARK": str(tmp_path / "mark")},
        check=False,
    )


class TestMoved:
    def test_a_target_that_moved_is_left_alone(self, workshop: Workshop, rig: Rig, town_paths: TownPaths) -> None:
        chain = build(town_paths, rig, workshop.change("sh-1", {"a.txt": "a"}))
        theirs = workshop.advance_main({"theirs.txt": "x"})
        result = land(town_paths, rig, chain)
        assert (result.outcome, result.target_sha) == (LandOutcome.MOVED, theirs)
        assert workshop.at_remote(MAIN) == theirs
        assert workshop.at_remote("refs/heads/polecat/sh-1") is not None

    def test_a_target_that_moves_between_the_look_and_the_push_is_left_alone(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        chain = build(town_paths, rig, workshop.change("sh-1", {"a.txt": "a"}))
        moved = []

        def racing(point: str) -> None:
            if point == "land.before_push":
                moved.append(workshop.advance_main({"theirs.txt": "x"}))

        monkeypatch.setattr(landing_module, "crash_point", racing)
        result = land(town_paths, rig, chain)
        assert (result.outcome, result.target_sha) == (LandOutcome.MOVED, moved[0])
        assert workshop.at_remote(MAIN) == moved[0]

    def test_a_target_that_moves_while_the_remote_takes_the_push_is_left_alone(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, remote: Path
    ) -> None:
        chain = build(town_paths, rig, workshop.change("sh-1", {"a.txt": "a"}))
        theirs = workshop.advance_main({"theirs.txt": "x"})
        git(remote, "update-ref", MAIN, chain.base_sha)
        hook(remote, "pre-receive", f"env -u GIT_QUARANTINE_PATH git update-ref {MAIN} {theirs}")
        result = land(town_paths, rig, chain)
        assert (result.outcome, result.target_sha) == (LandOutcome.MOVED, theirs)

    def test_someone_elses_push_on_top_between_push_and_look_is_still_landed(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        chain = build(town_paths, rig, workshop.change("sh-1", {"a.txt": "a"}))
        newer: list[str] = []
        after_push(monkeypatch, act_once(newer, lambda: workshop.advance_main({"on_top.txt": "x"})))
        assert land(town_paths, rig, chain) == LandResult(outcome=LandOutcome.LANDED, target_sha=newer[0])


class TestRefused:
    def test_a_hooks_refusal_carries_the_remotes_words(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, remote: Path
    ) -> None:
        chain = build(town_paths, rig, workshop.change("sh-1", {"a.txt": "a"}))
        hook(remote, "pre-receive", 'echo "GH006: nobody pushes to main" >&2; exit 1')
        result = land(town_paths, rig, chain)
        assert result.outcome is LandOutcome.REFUSED
        assert "GH006: nobody pushes to main" in result.detail
        assert "pre-receive hook declined" in result.detail
        assert workshop.at_remote(MAIN) == chain.base_sha

    @pytest.mark.document("2: 网络抖动", "5: 推送失败")
    def test_a_remote_that_is_away_is_tried_again_and_then_lands_once(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, remote: Path
    ) -> None:
        chain = build(town_paths, rig, workshop.change("sh-1", {"a.txt": "a"}))
        remote.rename(remote.with_name("away"))
        with pytest.raises(GtError) as caught:
            land(town_paths, rig, chain)
        assert caught.value.code is ErrorCode.REMOTE_UNREACHABLE
        remote.with_name("away").rename(remote)
        assert land(town_paths, rig, chain).outcome is LandOutcome.LANDED

    def test_an_answer_lost_after_the_push_is_found_by_the_retry(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, remote: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        chain = build(town_paths, rig, workshop.change("sh-1", {"a.txt": "a"}))
        with monkeypatch.context() as patch:
            after_push(patch, lambda: remote.exists() and remote.rename(remote.with_name("away")))
            with pytest.raises(GtError) as caught:
                land(town_paths, rig, chain)
        assert caught.value.code is ErrorCode.REMOTE_UNREACHABLE
        remote.with_name("away").rename(remote)
        assert land(town_paths, rig, chain).outcome is LandOutcome.LANDED
        assert history(remote)[:2] == [chain.links[0].sha, chain.base_sha]

    def test_a_chain_without_links_is_an_error(self, rig: Rig, town_paths: TownPaths) -> None:
        with pytest.raises(GtError) as caught:
            LandingActivities(town_paths).land_chain(LandChain(rig=rig, target="main", base_sha="0" * 40, links=()))
        assert caught.value.code is ErrorCode.INVALID_VALUE


class TestEpoch:
    def raise_epoch(self, remote: Path, number: int) -> str:
        tree = git(remote, "mktree", stdin=b"")
        sha = git(remote, "commit-tree", "-m", f"epoch {number}", tree)
        git(remote, "update-ref", names.EPOCH_REF, sha)
        return sha

    def test_the_towns_own_epoch_lets_it_land(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, remote: Path
    ) -> None:
        epoch = self.raise_epoch(remote, 1)
        for bead in ("sh-1", "sh-2"):
            chain = build(town_paths, rig, workshop.change(bead, {f"{bead}.txt": "a"}))
            assert land(town_paths, rig, chain).outcome is LandOutcome.LANDED
        assert workshop.at_remote(names.EPOCH_REF) == epoch

    def test_an_epoch_raised_by_another_town_stops_this_one(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, remote: Path
    ) -> None:
        self.raise_epoch(remote, 1)
        assert land(town_paths, rig, build(town_paths, rig, workshop.change("sh-1", {"a.txt": "a"}))).outcome is (
            LandOutcome.LANDED
        )
        self.raise_epoch(remote, 2)
        chain = build(town_paths, rig, workshop.change("sh-2", {"b.txt": "b"}))
        result = land(town_paths, rig, chain)
        assert result.outcome is LandOutcome.REFUSED
        assert "another town" in result.detail
        assert workshop.at_remote(MAIN) == chain.base_sha

    def test_an_epoch_raised_between_the_look_and_the_push_stops_it(
        self, workshop: Workshop, rig: Rig, town_paths: TownPaths, remote: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.raise_epoch(remote, 1)
        chain = build(town_paths, rig, workshop.change("sh-1", {"a.txt": "a"}))
        with monkeypatch.context() as patch:
            patch.setattr(
                landing_module,
                "crash_point",
                lambda point: self.raise_epoch(remote, 2) if point == "land.before_push" else None,
            )
            with pytest.raises(GtError):
                land(town_paths, rig, chain)
        assert workshop.at_remote(MAIN) == chain.base_sha
        assert land(town_paths, rig, chain).outcome is LandOutcome.REFUSED
