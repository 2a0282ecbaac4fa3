"""Running a rig's gates at a candidate commit, so that what they say can be relied on."""

from __future__ import annotations

import asyncio
import os
import re
import time
from pathlib import Path
from typing import Final

from temporalio import activity

from activities.crash_points import crash_point
from activities.gate_checkout import check_out, remove_tree
from activities.gate_process import Ended, run_command
from activities.gate_slots import Slot, a_slot
from models import names
from models.errors import ErrorCode, GtError
from models.gating import GateOutcome, GateReport, RunGates
from models.records import GateSpec
from models.town import TownPaths
from policies.gate_environment import gate_environment
from policies.gate_outcome import gate_end, readable_tail

_LABEL_PART: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


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
        passed: list[str] = []
        if not request.gates:
            return GateReport(outcome=GateOutcome.PASSED)
        async with a_slot(self._paths.run / "gates", os.cpu_count() or 1) as slot:
            runner = self._paths.gate_runner(request.rig, slot.number)
            try:
                await asyncio.to_thread(check_out, self._paths.land_clone(request.rig), runner, request.sha)
                crash_point("gate.checked_out")
                for gate in request.gates:
                    report = await self._run(gate, slot, runner, logs / f"{gate.name}.log")
                    if report.outcome is not GateOutcome.PASSED:
                        return report.model_copy(update={"passed": tuple(passed)})
                    passed.append(gate.name)
            except GtError as error:
                if error.code is not ErrorCode.DISK_FULL:
                    raise
                return GateReport(outcome=GateOutcome.COULD_NOT_RUN, reason="disk_full", tail=error.message)
        return GateReport(outcome=GateOutcome.PASSED, passed=tuple(passed), duration_s=time.monotonic() - began)

    async def _run(self, gate: GateSpec, slot: Slot, runner: Path, log: Path) -> GateReport:
        await asyncio.to_thread(remove_tree, slot.home)
        slot.home.mkdir(mode=0o700, parents=True)
        mark = slot.begin()

        def started(pid: int) -> None:
            slot.began(mark, pid)
            crash_point("gate.started")

        environment = gate_environment(os.environ, str(slot.home), mark)
        ended = await run_command(gate.command, runner, environment, log, gate.timeout_s, started)
        slot.end()
        crash_point("gate.finished")
        return _report(gate, ended, log)

    def _logs(self, request: RunGates) -> Path:
        parts = request.label.split("/")
        if not all(_LABEL_PART.fullmatch(part) for part in parts):
            raise GtError(ErrorCode.INVALID_VALUE, f"{request.label[:60]!r} cannot name a folder for logs")
        return self._paths.gate_logs(names.valid_rig(request.rig)).joinpath(*parts)


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
