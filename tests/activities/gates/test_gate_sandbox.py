"""A gate in its sandbox."""

from __future__ import annotations

import shutil
import socket

import pytest

from activities.gates.process import Confined
from activities.gates.run import GateActivities
from activities.git.merging.landing import LandingActivities
from models.ledger.records import GateSpec, Rig
from models.refinery.gates import GateOutcome, GateReport, RunGates
from models.refinery.messages import BuildChain
from models.settings import GateSettings, SandboxSettings
from models.town import TownPaths
from policies.security.sandbox import SandboxPlan
from services import sandbox

SERVES = """python3 - <<'PY'
import http.server, threading, urllib.request
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("served", urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/README.md").status)
PY"""


@pytest.fixture
def sha(town_paths: TownPaths, rig: Rig) -> str:
    return LandingActivities(town_paths).build_chain(BuildChain(rig=rig, target="main", changes=())).base_sha


async def gated(
    paths: TownPaths, sha: str, command: str, settings: GateSettings | None = None, mode: str = "bwrap"
) -> GateReport:
    spec = GateSpec(name="test", command=command, timeout_s=600)
    order = RunGates(
        rig="shop", sha=sha, gates=(spec,), label="merge/1/x", settings=settings or GateSettings(),
        sandbox=SandboxSettings(mode=mode),
    )  # fmt: skip
    return await GateActivities(paths).run_gates(order)


async def test_it_serves_itself_and_reaches_nobody_else(town_paths: TownPaths, sha: str) -> None:
    report = await gated(town_paths, sha, SERVES)
    assert report.outcome is GateOutcome.PASSED, report.tail
    ask = "python3 -c 'import socket; socket.create_connection((\"192.0.2.1\", 80), 2)'"
    failed = await gated(town_paths, sha, ask)
    assert (failed.outcome, failed.exit_code) == (GateOutcome.FAILED, 1)
    assert "Network is unreachable" in failed.tail
    assert "gt config gate.network full" in failed.hint
    links = "tail -n +3 /proc/net/dev | cut -d: -f1; exit 1"
    assert (await gated(town_paths, sha, links)).tail.split() == ["lo"]
    shared = await gated(town_paths, sha, links, GateSettings(network="full"))
    assert shared.tail.split() == [name for _, name in socket.if_nameindex()]


async def test_its_own_end_keeps_its_meaning(town_paths: TownPaths, sha: str) -> None:
    ends = {
        command: (report.outcome, report.reason, report.exit_code)
        for command in ("exit 3", "no-such-tool", "kill -9 $$", "/dev/null")
        for report in [await gated(town_paths, sha, command)]
    }
    assert ends == {
        "exit 3": (GateOutcome.FAILED, "", 3),
        "no-such-tool": (GateOutcome.COULD_NOT_RUN, "no_such_command", 127),
        "kill -9 $$": (GateOutcome.COULD_NOT_RUN, "killed", 137),
        "/dev/null": (GateOutcome.COULD_NOT_RUN, "not_executable", 126),
    }


async def test_it_keeps_to_its_checkout(town_paths: TownPaths, sha: str) -> None:
    (town_paths.root / "secrets.toml").write_text("planted")
    town = town_paths.root
    look = f"ls -A {town} {town}/rigs/shop; touch out /tmp/mine; ! touch {town}/mark"
    report = await gated(town_paths, sha, f"{look}; git log -1 --format=%H; git status --short; exit 1")
    lines = report.tail.splitlines()
    assert "secrets.toml" not in lines
    assert sha in lines, "its history is there"
    assert "?? out" in lines


async def test_a_sandbox_that_does_not_start_is_a_gate_that_could_not_run(
    town_paths: TownPaths, sha: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = SandboxPlan(str(town_paths.root / "gone"), read=("/usr", "/bin", "/lib", "/lib64"))
    monkeypatch.setattr("activities.gates.run.Confined", lambda kind, _, settings: Confined(kind, plan, settings))
    report = await gated(town_paths, sha, "true")
    assert (report.outcome, report.reason, report.gate) == (GateOutcome.COULD_NOT_RUN, "no_sandbox", "test")
    assert "bwrap: " in report.tail


async def test_where_it_is_demanded_and_missing_nothing_is_run(
    town_paths: TownPaths, sha: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "_found_to_work", dict)
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, **more: None if name == "bwrap" else which(name, **more))
    report = await gated(town_paths, sha, "true")
    assert (report.outcome, report.reason) == (GateOutcome.COULD_NOT_RUN, "no_sandbox")
    assert "bubblewrap is not installed" in report.tail
    assert "apt-get install bubblewrap" in report.hint
    assert (await gated(town_paths, sha, "true", mode="auto")).outcome is GateOutcome.PASSED
