"""Every workflow class that a worker registers, and the sandbox that they run in."""

from __future__ import annotations

from typing import Final

from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from workflows.boot import BootWorkflow
from workflows.cleanup import CleanupWorkflow
from workflows.deacon import DeaconWorkflow
from workflows.deadman import DeadmanWorkflow
from workflows.dispatch import DispatchWorkflow
from workflows.errand import ErrandWorkflow
from workflows.mayor import MayorWorkflow
from workflows.merge import MergeWorkflow
from workflows.polecat import PolecatWorkflow
from workflows.refinery import RefineryWorkflow
from workflows.upkeep import UpkeepWorkflow
from workflows.witness import WitnessWorkflow

PASSED_THROUGH: Final = (
    "models",
    "policies",
    "activities",
    "pydantic",
    "pydantic_core",
    "workflows.deacon_state",
    "workflows.job_state",
    "workflows.dispatch_state",
    "workflows.mayor_case",
    "workflows.mayor_state",
    "workflows.witness_state",
    "workflows.options",
    "workflows.labels",
    "workflows.refinery_state",
    "workflows.merge_queue",
    "workflows.queue_view",
    "workflows.gate_tallies",
)
"""Imported once per process. Workflow classes themselves are loaded anew for each run, so that
no state of one leaks into another; data classes and pure functions cannot leak and are costly to
rebuild."""

WORKFLOWS: Final[list[type]] = [
    BootWorkflow,
    CleanupWorkflow,
    DeaconWorkflow,
    DeadmanWorkflow,
    DispatchWorkflow,
    ErrandWorkflow,
    MayorWorkflow,
    MergeWorkflow,
    PolecatWorkflow,
    RefineryWorkflow,
    UpkeepWorkflow,
    WitnessWorkflow,
]


def workflow_runner() -> SandboxedWorkflowRunner:
    """The sandbox for workers, tests and replays alike."""
    return SandboxedWorkflowRunner(restrictions=SandboxRestrictions.default.with_passthrough_modules(*PASSED_THROUGH))
