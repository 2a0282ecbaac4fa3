"""Running a rig's gates at a candidate commit, so that what they say can be relied on."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple

from temporalio import activity

from activities.brought_files import bring_files
from activities.crash_points import crash_point
from activities.gates.checkout import AS_THE_TREE_SAYS, GateCheckout, check_out
from activities.gates.gate_sandbox import gate_plan
from activities.gates.process import Confined, Ended, end_in_folder, run_command
from activities.gates.slots import Lane, Slot, a_slot
from activities.git.command import GitRepo
from activities.git.lfs import LfsCheckout, as_options
from activities.git.submodules import SubmoduleCheckout
from activities.git.trees import discard
from models import names
from models.errors import ErrorCode, GtError
from models.ledger.records import GateSpec
from models.refinery.gates import GateOutcome, GateReport, RunGates
from models.settings import GateSettings, SandboxSettings
from models.town import TownPaths
from policies.refinery.gate_environment import gate_environment
from policies.refinery.gate_outcome import gate_end, missing_tool_hint, no_network_hint, readable_tail
from policies.refinery.path_filter import concerns
from policies.security.redaction import redact_bytes
from services.sandbox import NONE, required

_LABEL_PART: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


SETUP: Final = "setup"
"""the name under which gate.setup reports"""


class Place(NamedTuple):
    """Where gates of one run work, and in what surroundings."""

    slot: Slot
    runner: Path
    logs: Path
    settings: GateSettings
    home: Path | None
    """kept while the run lasts, and longer by setting; None: each gate has an empty one"""
    trash: Path
    kind: str
    """of sandbox: bwrap, command or none"""
    sandbox: SandboxSettings
    rig: str


class GateActivities:
    """Gates on this host; its worker takes as many at once as there are cores.

    Args:
        clean: takes secrets out of what gates print; by default those of known shapes.
    """

    def __init__(self, paths: TownPaths, clean: Callable[[bytes], bytes] = redact_bytes) -> None:
        self._paths = paths
        self._clean = clean

    @activity.defn
    async def run_gates(self, request: RunGates) -> GateReport:
        """Run the gates in order at one commit and stop at the first that does not pass.

        Raises:
            GtError: NOT_FOUND where this host does not have the commit, INVALID_VALUE, SERVICE_FAILED. A gate that
                cannot run, and a commit that cannot be checked out, is a report, not an error.
        """
        logs = self._logs(request)
        began = time.monotonic()
        if not request.gates:
            return GateReport(outcome=GateOutcome.PASSED)
        async with a_slot(self._paths.run / "gates") as slot:
            order = self._checkout(request, slot)
            wanted = list(request.gates)
            try:
                kind = await asyncio.to_thread(required, request.sandbox)
            except GtError as error:
                return _no_sandbox(error.message, error.hint)
            try:
                await asyncio.to_thread(end_in_folder, order.runner)
                await asyncio.to_thread(check_out, order)
                crash_point("gate.checked_out")
                wanted = await asyncio.to_thread(_concerned, order.land_clone, request)
                place = await asyncio.to_thread(self._furnish, request, slot, order.runner, logs, kind)
                report = await self._run_all([*_setup(request, wanted), *wanted], place)
            except (GtError, OSError) as error:
                report = _not_checked_out(error)
        skipped = tuple(gate.name for gate in request.gates if gate not in wanted)
        took = report.duration_s if report.gate else time.monotonic() - began
        return report.model_copy(update={"skipped": skipped, "duration_s": took})

    def _checkout(self, request: RunGates, slot: Slot) -> GateCheckout:
        lfs = LfsCheckout(self._paths.lfs(request.rig), request.worktree.lfs if request.url else "never")
        submodules = None
        if request.url and request.worktree.submodules != "never":
            cache = self._paths.modules(request.rig)
            submodules = SubmoduleCheckout(cache, request.url, tuple(as_options(AS_THE_TREE_SAYS)), lfs)
        return GateCheckout(
            land_clone=self._paths.clone(request.rig),
            runner=self._paths.gate_runner(request.rig, slot.number),
            trash=self._paths.trash,
            sha=request.sha,
            lfs=lfs,
            submodules=submodules,
            url=request.url,
            branch=request.branch,
            target=request.target,
            target_sha=request.base_sha or request.sha,
            kept=tuple(dict.fromkeys(folder for gate in request.gates for folder in gate.cache)),
        )

    def _furnish(self, request: RunGates, slot: Slot, runner: Path, logs: Path, kind: str) -> Place:
        """Bring the person's untracked files, and make the home that outlives a single gate."""
        source = request.worktree.copy_from
        folder = Path(source).expanduser() if source else self._paths.brought_files(request.rig)
        bring_files(request.settings.copy_files, folder, runner)
        home = None
        if request.settings.home == "person":
            home = Path.home()
        elif request.settings.home == "kept":
            home = self._paths.gate_home(request.rig)
        elif request.settings.setup:
            # What the set-up leaves in it is for the gates.
            home = slot.lane(0).home
            discard(home, self._paths.trash)
        if home is not None and request.settings.home != "person":
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Place(slot, runner, logs, request.settings, home, self._paths.trash, kind, request.sandbox, request.rig)

    async def _run_all(self, gates: Sequence[GateSpec], place: Place) -> GateReport:
        """Run gates in order, neighbours that are `parallel` together, up to the first that does not pass."""
        passed: list[str] = []
        flaked: list[str] = []
        for together, group in groupby(gates, key=lambda gate: gate.parallel):
            for batch in [list(group)] if together else [[gate] for gate in group]:
                try:
                    reports = await self._run_together(batch, place)
                finally:
                    # Nobody else works there now: what has slipped away from its gate ends too.
                    await asyncio.to_thread(end_in_folder, place.runner)
                done = [report for report in reports if report.outcome is GateOutcome.PASSED]
                passed += [report.gate for report in done if report.gate]
                flaked += [name for report in done for name in report.flaked]
                for report in reports:
                    if report.outcome is not GateOutcome.PASSED:
                        return report.model_copy(update={"passed": tuple(passed), "flaked": tuple(flaked)})
        return GateReport(outcome=GateOutcome.PASSED, passed=tuple(passed), flaked=tuple(flaked))

    async def _run_together(self, gates: Sequence[GateSpec], place: Place) -> list[GateReport]:
        """Reports of gates that run at once; once one does not pass the others are ended and say nothing."""
        running = [asyncio.create_task(self._try(gate, place, lane)) for lane, gate in enumerate(gates)]
        try:
            left = set(running)
            while left:
                ended, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
                if any(task.result().outcome is not GateOutcome.PASSED for task in ended):
                    break
            return [task.result() for task in running if task.done()]
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _try(self, gate: GateSpec, place: Place, lane: int) -> GateReport:
        """Run one gate, again where it is red and may be retried. One that passes then has flaked."""
        first_red: GateReport | None = None
        for number in range(gate.retry + 1):
            log = place.logs / (f"{gate.name}-{number + 1}.log" if number else f"{gate.name}.log")
            report = await self._run(gate, place.slot.lane(lane), place, log)
            if report.outcome is GateOutcome.PASSED:
                red = first_red is not None and first_red.outcome is GateOutcome.FAILED
                flaked = (gate.name,) if red else ()
                return report.model_copy(update={"flaked": flaked})
            first_red = first_red or report
        return report

    async def _run(self, gate: GateSpec, lane: Lane, place: Place, log: Path) -> GateReport:
        home = place.home
        if home is None:
            home = lane.home
            await asyncio.to_thread(discard, home, place.trash)
            home.mkdir(mode=0o700, parents=True)
        mark = lane.begin()

        def started(pid: int) -> None:
            lane.began(mark, pid)
            crash_point("gate.started")

        caches = place.runner.with_name(f"{place.runner.name}.cache") if gate.cache else None
        environment = gate_environment(
            os.environ, str(home), mark, str(caches) if caches else None, place.settings.environment
        )
        confined = None
        if place.kind != NONE:
            writes = [place.runner, home, *([caches] if caches else [])]
            if caches:
                caches.mkdir(mode=0o700, exist_ok=True)
            online = place.settings.network == "full" or (place.settings.network == "setup" and gate.name == SETUP)
            plan = gate_plan(
                self._paths,
                place.rig,
                gate.command,
                place.sandbox,
                environment,
                place.settings.environment,
                writes,
                online=online,
            )
            confined = Confined(place.kind, plan, place.sandbox)
        ended = await run_command(
            gate.command, place.runner, environment, log, gate.timeout_s, started, self._clean, confined
        )
        lane.end()
        crash_point("gate.finished")
        if not ended.started:
            return _no_sandbox(readable_tail(ended.tail), "gt status says which sandbox there is", gate.name)
        return _report(gate, ended, log, environment, place.settings, offline=confined is not None and not plan.network)

    def _logs(self, request: RunGates) -> Path:
        parts = request.label.split("/")
        if not all(_LABEL_PART.fullmatch(part) for part in parts):
            raise GtError(ErrorCode.INVALID_VALUE, f"{request.label[:60]!r} cannot name a folder for logs")
        return self._paths.gate_logs(names.valid_rig(request.rig)).joinpath(*parts)


def _concerned(clone: Path, request: RunGates) -> list[GateSpec]:
    """The gates that what changed since the base concerns."""
    if not request.base_sha or not any(gate.only for gate in request.gates):
        return list(request.gates)
    changed = ("diff", "--name-only", "--no-renames", "-z", request.base_sha, request.sha, "--")
    files = [name for name in GitRepo(clone).run(*changed).text.split("\0") if name]
    return [gate for gate in request.gates if concerns(gate.only, files)]


def _setup(request: RunGates, wanted: Sequence[GateSpec]) -> list[GateSpec]:
    """gate.setup as the first gate, where there is one and any gate follows it."""
    if not request.settings.setup or not wanted:
        return []
    caches = tuple(dict.fromkeys(folder for gate in wanted for folder in gate.cache))
    timeout_s = request.worktree.setup_timeout
    return [GateSpec(name=SETUP, command=request.settings.setup, timeout_s=timeout_s, cache=caches)]


def _not_checked_out(error: GtError | OSError) -> GateReport:
    """What is in the tree, or what it needs from elsewhere, keeps the gates from running: tried for ever it stays so.

    Raises:
        GtError: one that means something else: the commit is not here, or the host is out of order.
    """
    if isinstance(error, OSError):
        reason = "disk_full" if error.errno in {errno.ENOSPC, errno.EDQUOT} else "checkout_failed"
        return GateReport(outcome=GateOutcome.COULD_NOT_RUN, reason=reason, tail=f"checking out: {error}")
    if error.code in {ErrorCode.NOT_FOUND, ErrorCode.SERVICE_FAILED, ErrorCode.INTERNAL}:
        raise error
    reason = "disk_full" if error.code is ErrorCode.DISK_FULL else "checkout_failed"
    return GateReport(outcome=GateOutcome.COULD_NOT_RUN, reason=reason, tail=error.message, hint=error.hint)


def _no_sandbox(why: str, hint: str, gate: str | None = None) -> GateReport:
    """The sandbox that is demanded cannot be made: nothing was run, and nobody is blamed."""
    return GateReport(outcome=GateOutcome.COULD_NOT_RUN, gate=gate, reason="no_sandbox", tail=why, hint=hint)


def _report(
    gate: GateSpec,
    ended: Ended,
    log: Path,
    environment: Mapping[str, str],
    settings: GateSettings,
    *,
    offline: bool,
) -> GateReport:
    tail = readable_tail(ended.tail)
    end = gate_end(ended.exit_code, timed_out=ended.timed_out, disk_full=ended.disk_full, tail=tail)
    hint = missing_tool_hint(ended.exit_code, tail, ended.duration_s, environment, settings.home)
    if offline:
        hint = " ".join(filter(None, [hint, no_network_hint(ended.exit_code, tail)]))
    if hint:
        tail = readable_tail(f"{tail}\n[{hint}]".encode())
    return GateReport(
        outcome=end.outcome,
        gate=gate.name,
        exit_code=ended.exit_code,
        reason=end.reason,
        duration_s=ended.duration_s,
        log_path=str(log),
        tail=tail,
        hint=hint,
    )
