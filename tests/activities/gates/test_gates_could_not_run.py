"""Gates that could not run, each caused for real: at the candidate, and at the target's tip as the control."""

from __future__ import annotations

import pytest

from activities.gates import run as gates_module
from activities.gates.checkout import GateCheckout
from activities.gates.run import GateActivities
from activities.git.merging.landing import LandingActivities
from models.errors import ErrorCode, GtError
from models.ledger.records import GateSpec, Rig
from models.refinery.gates import GateOutcome, GateReport, RunGates
from models.refinery.messages import BuildChain
from models.town import TownPaths
from tests.activities.workshop import Workshop
from tests.sandboxes import open_at

CAUSES = {
    "not_executable": "exec ./README.md\n",
    "no_such_command": "exec no-such-program-anywhere\n",
    "killed": "kill -9 $$\n",
    "killed/a_child": "sh -c 'kill -9 $$'; exit $?\n",
    "killed/asked_to_end": "kill -TERM $$\n",
    "timed_out": "exec sleep 1000\n",
    "disk_full": "cp README.md /dev/full\n",
    "disk_full/as_it_says": "echo 'write: No space left on device'; exit 1\n",
}
"""by reason (and kind), a script that ends so"""


def gate(script: str, timeout_s: int = 600) -> GateSpec:
    return GateSpec(name="test", command=f"sh {script}", timeout_s=timeout_s)


async def gated(paths: TownPaths, sha: str, spec: GateSpec) -> GateReport:
    beside = open_at(paths.root.parent)
    call = RunGates(rig="shop", sha=sha, gates=(spec,), label="merge/shop/1/tip-1", sandbox=beside)
    return await GateActivities(paths).run_gates(call)


async def ends(paths: TownPaths, sha: str, folder: str, hanging_s: int) -> dict[str, tuple[GateOutcome, str]]:
    """How each script of `folder` ends as a gate at the commit `sha`; the one that may hang has so much time."""
    found = {}
    for cause in CAUSES:
        report = await gated(paths, sha, gate(f"{folder}/{cause}.sh", hanging_s if cause == "timed_out" else 60))
        found[cause] = (report.outcome, report.reason)
    return found


async def test_each_reason_is_told_by_the_candidate_and_by_a_failing_control_and_a_healthy_control_passes(
    workshop: Workshop, rig: Rig, town_paths: TownPaths
) -> None:
    healthy = {f"good/{cause}.sh": "exit 0\n" for cause in CAUSES}
    workshop.advance_main({**healthy, **{f"broken/{cause}.sh": script for cause, script in CAUSES.items()}})
    request = workshop.change("sh-1", {f"good/{cause}.sh": script for cause, script in CAUSES.items()})
    chain = LandingActivities(town_paths).build_chain(BuildChain(rig=rig, target="main", changes=(request,)))
    could_not = {cause: (GateOutcome.COULD_NOT_RUN, cause.partition("/")[0]) for cause in CAUSES}
    assert await ends(town_paths, chain.links[0].sha, "good", hanging_s=1) == could_not, "the candidate"
    assert await ends(town_paths, chain.base_sha, "broken", hanging_s=1) == could_not, "a failing control"
    passed = dict.fromkeys(CAUSES, (GateOutcome.PASSED, ""))
    assert await ends(town_paths, chain.base_sha, "good", hanging_s=60) == passed, "a healthy control"


async def test_a_log_on_a_full_disk_blames_nobody_and_what_passes_all_the_same_has_passed(
    workshop: Workshop, rig: Rig, town_paths: TownPaths
) -> None:
    logs = town_paths.gate_logs("shop") / "merge" / "shop" / "1" / "tip-1"
    logs.mkdir(parents=True)
    (logs / "test.log").symlink_to("/dev/full")
    request = workshop.change("sh-1", {"red.sh": "echo x; exit 1\n", "green.sh": "echo x\n"})
    chain = LandingActivities(town_paths).build_chain(BuildChain(rig=rig, target="main", changes=(request,)))
    red = await gated(town_paths, chain.links[0].sha, gate("red.sh"))
    assert (red.outcome, red.reason) == (GateOutcome.COULD_NOT_RUN, "disk_full")
    assert (await gated(town_paths, chain.links[0].sha, gate("green.sh"))).outcome is GateOutcome.PASSED


async def test_a_disk_without_room_for_the_files_blames_nobody(
    town_paths: TownPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(order: GateCheckout) -> None:
        raise GtError(ErrorCode.DISK_FULL, "checking out: no space left on device")

    monkeypatch.setattr(gates_module, "check_out", full)
    report = await gated(town_paths, "1234567890" * 4, gate("gate.sh"))
    assert (report.outcome, report.reason, report.gate) == (GateOutcome.COULD_NOT_RUN, "disk_full", None)
