"""Every workflow class that a worker registers."""

from __future__ import annotations

from typing import Final

from workflows.dispatch.workflow import DispatchWorkflow
from workflows.job.workflow import PolecatWorkflow
from workflows.mayor.workflow import MayorWorkflow
from workflows.refinery.merge import MergeWorkflow
from workflows.refinery.workflow import RefineryWorkflow
from workflows.supervision.boot import BootWorkflow
from workflows.supervision.deacon import DeaconWorkflow
from workflows.supervision.witness import WitnessWorkflow
from workflows.upkeep.cleanup import CleanupWorkflow
from workflows.upkeep.deadman import DeadmanWorkflow
from workflows.upkeep.host_request import ErrandWorkflow
from workflows.upkeep.ledger_gc import UpkeepWorkflow
from workflows.upkeep.verify import VerifyWorkflow

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
    VerifyWorkflow,
    WitnessWorkflow,
]
