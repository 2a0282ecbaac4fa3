"""Running a rig's gates at a candidate commit, so that what they say can be relied on."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple

from temporalio import activity

from activities.crash_points import crash_point
from activities.gates.checkout import check_out, remove_tree
from activities.gates.process import Ended, run_command
from activities.gates.slots import Lane, Slot, a_slot
from activities.git.command import GitRepo
from models import names
from models.errors import ErrorCode, GtError
from models.gating import GateOutcome, GateReport, RunGates
from models.records import GateSpec
from models.town import TownPaths
from policies.gate_environment import gate_environment
from policies.gate_outcome import gate_end, readable_tail
from policies.path_filter import concerns

_LABEL_PART: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Place(NamedTuple):
    """Where gates of one run work."""

    slot: Slot
    runner: Path
    logs: Path


class GateActivities:
    """Gates on this host: at most as many at once as it has cores."""

    def __init__(self, paths: TownPaths) -> None:
        self._paths = paths

    @activity.defn
    async def run_gates(self, request: RunGates) -> GateReport:
        """Run the gates in order at one commit and stop at the first that does not pass.

        Raises:
            GtError: NOT_FOUND where this host does not have the commit, INVALID_VALUE, GIT_FAILED,
                SERVICE_FAILED. A gate that cannot run is a report, not an error.
        """
        logs = self._logs(request)
        began = time.monotonic()
        if not request.gates:
            return GateReport(outcome=GateOutcome.PASSED)
        async with a_slot(self._paths.run / "gates", os.cpu_count() or 1) as slot:
            runner = self._paths.gate_runner(request.rig, slot.number)
            clone = self._paths.land_clone(request.rig)
            kept = tuple(dict.fromkeys(folder for gate in request.gates for folder in gate.cache))
            wanted = list(request.gates)
            try:
                await asyncio.to_thread(check_out, clone, runner, request.sha, kept)
                crash_point("gate.checked_out")
                wanted = await asyncio.to_thread(_concerned, clone, request)
                report = await self._run_all(wanted, Place(slot, runner, logs))
            except GtError as error:
                if error.code is not ErrorCode.DISK_FULL:
                    raise
                report = GateReport(outcome=GateOutcome.COULD_NOT_RUN, reason="disk_full", tail=error.message)
        skipped = tuple(gate.name for gate in request.gates if gate not in wanted)
        took = report.duration_s if report.gate else time.monotonic() - began
        return report.model_copy(update={"skipped": skipped, "duration_s": took})

    async def _run_all(self, gates: Sequence[GateSpec], place: Place) -> GateReport:
        """Run gates in order, neighbours that are `parallel` together, up to the first that does not pass."""
        passed: list[str] = []
        flaked: list[str] = []
        for together, group in groupby(gates, key=lambda gate: gate.parallel):
            for batch in [list(group)] if together else [[gate] for gate in group]:
                reports = await self._run_together(batch, place)
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
        await asyncio.to_thread(remove_tree, lane.home)
        lane.home.mkdir(mode=0o700, parents=True)
        mark = lane.begin()

        def started(pid: int) -> None:
            lane.began(mark, pid)
            crash_point("gate.started")

        caches = place.runner.with_name(f"{place.runner.name}.cache") if gate.cache else None
        environment = gate_environment(os.environ, str(lane.home), mark, str(caches) if caches else None)
        ended = await run_command(gate.command, place.runner, environment, log, gate.timeout_s, started)
        lane.end()
        crash_point("gate.finished")
        return _report(gate, ended, log)

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


def _report(gate: GateSpec, ended: Ended, log: Path) -> GateReport:
    tail = readable_tail(ended.tail)
    end = gate_end(ended.exit_code, timed_out=ended.timed_out, disk_full=ended.disk_full, tail=tail)
    return GateReport(
        outcome=end.outcome,
        gate=gate.name,
        exit_code=ended.exit_code,
        reason=end.reason,
        duration_s=ended.duration_s,
        log_path=str(log),
        tail=tail,
    )
