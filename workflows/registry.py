"""Every workflow class that a worker registers."""

from __future__ import annotations

from typing import Final

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
from workflows.verify import VerifyWorkflow
from workflows.witness import WitnessWorkflow

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
