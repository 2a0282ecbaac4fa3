"""The Refinery's side of one merge: the child that does it, whose failures are stalls."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from temporalio import workflow
from temporalio.exceptions import ApplicationError, ChildWorkflowError, WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from activities.search_attributes import attributes
    from models import names
    from models.refinery.messages import MergeBatch, MergeOutcome

from workflows.refinery.merge import MergeWorkflow


async def run_merge(batch: MergeBatch, leave: Callable[[], bool]) -> MergeOutcome:
    """Run a MergeWorkflow over the batch; what keeps it from ending well is a stall, never an error.

    Args:
        leave: whether it is to end, since one of its changes is wanted back, or nothing that it could decide is wanted
            any more. What it has not decided waits again.
    """
    unsure = tuple(change.id for change in batch.changes)
    rig, number = batch.rig.name, batch.number
    beads = ", ".join(change.bead for change in batch.changes[:5])
    try:
        merge = await workflow.start_child_workflow(
            MergeWorkflow.run,
            batch,
            id=names.merge_id(rig, number),
            static_summary=f"{len(batch.changes)} changes to {batch.target}: {beads}",
            search_attributes=attributes(role="merge", state="merging", rig=rig),
        )
        await workflow.wait_condition(lambda: merge.done() or leave())
        if not merge.done():
            with contextlib.suppress(ApplicationError):  # it has just ended
                await merge.signal(MergeWorkflow.stop)
        outcome = await merge
    except WorkflowAlreadyStartedError:
        # A Refinery that was reset counts from 1 again while the last merge of the old one runs on.
        return MergeOutcome(stalled=f"{names.merge_id(rig, number)} of an earlier Refinery runs", unsure=unsure)
    except ChildWorkflowError as error:
        return MergeOutcome(stalled=str(error.cause or error), unsure=unsure)
    if outcome.stopped or outcome.verdicts or outcome.could_not_run or outcome.stalled or outcome.target_red:
        return outcome
    # Without this a merge that decides nothing would be started again at once, for ever.
    return outcome.model_copy(update={"stalled": "the merge decided nothing"})
