"""Gates with path filters, tries, neighbours at the same time, and folders that are kept."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import psutil
import pytest

from activities.gates.run import GateActivities
from activities.git.merging.landing import LandingActivities
from models.errors import GtError
from models.ledger.records import GateSpec, Rig
from models.refinery.gates import GateOutcome, GateReport, RunGates
from models.refinery.messages import BuildChain, Chain
from models.settings import SandboxSettings
from models.town import TownPaths
from tests.activities.workshop import Workshop
from tests.pace import DEADLINE_S
from tests.sandboxes import BARE, open_at


@pytest.fixture
def chain(workshop: Workshop, rig: Rig, town_paths: TownPaths) -> Chain:
    """Two changes on main: one of the docs, one of the source."""
    changes = (workshop.change("sh-1", {"docs/a.md": "a"}), workshop.change("sh-2", {"src/b.py": "b"}))
    return LandingActivities(town_paths).build_chain(BuildChain(rig=rig, target="main", changes=changes))


def gate(name: str, command: str, **more: Any) -> GateSpec:
    return GateSpec(name=name, command=command, **{"timeout_s": 600, **more})


async def run(
    paths: TownPaths,
    sha: str,
    *gates: GateSpec,
    base: str = "",
    label: str = "merge/shop/1/x-1",
    sandbox: SandboxSettings | None = None,
) -> GateReport:
    beside = sandbox or open_at(paths.root.parent)
    order = RunGates(rig="shop", sha=sha, gates=gates, base_sha=base, label=label, sandbox=beside)
    return await GateActivities(paths).run_gates(order)


class TestFilters:
    async def test_a_gate_runs_only_for_changes_that_it_concerns(self, town_paths: TownPaths, chain: Chain) -> None:
        gates = (gate("docs", "true", only=("docs/**",)), gate("code", "exit 3", only=("**/*.py",)))
        first, second = chain.links
        docs = await run(town_paths, first.sha, *gates, base=chain.base_sha)
        assert (docs.outcome, docs.passed, docs.skipped) == (GateOutcome.PASSED, ("docs",), ("code",))
        both = await run(town_paths, second.sha, *gates, base=chain.base_sha)
        assert (both.gate, both.exit_code, both.skipped) == ("code", 3, ())
        code = await run(town_paths, second.sha, *gates, base=first.sha)
        assert (code.gate, code.skipped) == ("code", ("docs",))

    async def test_a_commit_by_itself_runs_every_gate(self, town_paths: TownPaths, chain: Chain) -> None:
        report = await run(town_paths, chain.base_sha, gate("docs", "exit 2", only=("docs/**",)))
        assert (report.gate, report.skipped) == ("docs", ())

    async def test_a_change_that_concerns_no_gate_passes(self, town_paths: TownPaths, chain: Chain) -> None:
        only = gate("never", "false", only=("nowhere/**",))
        report = await run(town_paths, chain.links[0].sha, only, base=chain.base_sha)
        assert (report.outcome, report.passed, report.skipped) == (GateOutcome.PASSED, (), ("never",))


class TestTries:
    async def test_a_gate_that_passes_when_tried_again_has_flaked(
        self, town_paths: TownPaths, chain: Chain, tmp_path: Path
    ) -> None:
        lying = gate("test", f"echo x >> {tmp_path}/tries; [ $(wc -l < {tmp_path}/tries) -gt 2 ]", retry=2)
        report = await run(town_paths, chain.links[0].sha, lying)
        assert (report.outcome, report.passed, report.flaked) == (GateOutcome.PASSED, ("test",), ("test",))

    async def test_a_gate_that_stays_red_is_tried_as_often_as_told_with_a_log_for_each(
        self, town_paths: TownPaths, chain: Chain, tmp_path: Path
    ) -> None:
        report = await run(town_paths, chain.links[0].sha, gate("test", f"echo x >> {tmp_path}/n; exit 4", retry=2))
        assert (report.outcome, report.exit_code, report.flaked) == (GateOutcome.FAILED, 4, ())
        assert (tmp_path / "n").read_text() == "x\nx\nx\n"
        assert report.log_path is not None
        assert sorted(path.name for path in Path(report.log_path).parent.iterdir()) == [
            "test-2.log", "test-3.log", "test.log",
        ]  # fmt: skip


class TestTogether:
    async def test_parallel_neighbours_run_at_once_and_behind_what_stands_before_them(
        self, town_paths: TownPaths, chain: Chain, tmp_path: Path
    ) -> None:
        def meet(own: str, other: str) -> str:
            met = f"while [ ! -e {tmp_path}/{other} ]; do sleep 0.05; done"
            return f"[ -e {tmp_path}/setup ] && touch {tmp_path}/{own}; {met}"

        report = await run(
            town_paths,
            chain.links[0].sha,
            gate("setup", f"touch {tmp_path}/setup"),
            gate("lint", meet("a", "b"), parallel=True),
            gate("types", meet("b", "a"), parallel=True),
            gate("test", f"[ -e {tmp_path}/a ] && [ -e {tmp_path}/b ]"),
        )
        assert (report.outcome, report.passed) == (GateOutcome.PASSED, ("setup", "lint", "types", "test"))

    async def test_the_first_that_fails_ends_its_neighbours(
        self, town_paths: TownPaths, chain: Chain, tmp_path: Path
    ) -> None:
        slow = gate("slow", f"echo $$ > {tmp_path}/pid; exec sleep 1000", parallel=True)
        broken = gate("broken", f"while [ ! -s {tmp_path}/pid ]; do sleep 0.05; done; exit 5", parallel=True)
        report = await asyncio.wait_for(run(town_paths, chain.links[0].sha, slow, broken, sandbox=BARE), DEADLINE_S)
        assert (report.gate, report.exit_code) == ("broken", 5)
        assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))

    async def test_neighbours_have_a_home_each(self, town_paths: TownPaths, chain: Chain, tmp_path: Path) -> None:
        homes = [gate(name, f"pwd > ~/x; echo ~ > {tmp_path}/{name}", parallel=True) for name in ("a", "b")]
        assert (await run(town_paths, chain.links[0].sha, *homes)).outcome is GateOutcome.PASSED
        assert (tmp_path / "a").read_text() != (tmp_path / "b").read_text()


class TestCaches:
    async def test_a_kept_folder_and_the_package_managers_caches_outlive_a_run_and_nothing_else_does(
        self, town_paths: TownPaths, chain: Chain
    ) -> None:
        fill = "mkdir -p node_modules out $XDG_CACHE_HOME && touch node_modules/m out/o $XDG_CACHE_HOME/pip"
        look = "ls node_modules; ls out 2>&1; ls $XDG_CACHE_HOME; echo $npm_config_cache; exit 1"
        first, second = chain.links
        await run(town_paths, first.sha, gate("fill", fill, cache=("node_modules",)))
        report = await run(town_paths, second.sha, gate("look", look, cache=("node_modules",)))
        lines = report.tail.splitlines()
        assert lines[0] == "m"
        assert "out" in lines[1]
        assert lines[2] == "pip"
        assert lines[3].endswith(".cache/npm")
        bare = await run(town_paths, first.sha, gate("look", "ls node_modules && exit 9; [ -z $XDG_CACHE_HOME ]"))
        assert bare.outcome is GateOutcome.PASSED, bare.tail

    @pytest.mark.parametrize("folder", ["../x", "/etc", ".git", "a/.git/b", "a//b", "*", "-e", "", "#x", "!x"])
    def test_what_is_no_folder_below_the_top_is_refused(self, folder: str) -> None:
        with pytest.raises(GtError):
            gate("x", "true", cache=(folder,))

    @pytest.mark.parametrize("pattern", ["", "/etc/**", "a\x00b"])
    def test_what_is_no_pattern_is_refused(self, pattern: str) -> None:
        with pytest.raises(GtError):
            gate("x", "true", only=(pattern,))
