"""The record's upkeep: once an hour a look at its room, and its garbage collected where that is due."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.ledger_gc import UpkeepActivities
    from models.names import WorkflowType
    from models.upkeep.ledger_gc import UpkeepReport, UpkeepRequest
    from workflows.shared import activity_options
    from workflows.shared.web_ui import Labels


@workflow.defn(name=WorkflowType.UPKEEP)
class UpkeepWorkflow:
    """One look, started by the Schedule `upkeep`. It fails where the ledger does not answer: another look will come."""

    @workflow.run
    async def run(self, last: UpkeepReport | None = None) -> UpkeepReport:
        """Look, and collect where it is due.

        Args:
            last: what the look before came to; default: the Schedule's last result.
        """
        last = last or workflow.get_last_completion_result(UpkeepReport)
        Labels().show(role="upkeep", state="looking")
        return await workflow.execute_activity_method(
            UpkeepActivities.keep_ledger_small,
            UpkeepRequest(last=last),
            summary="collect the ledger's garbage where it is due",
            **activity_options.ledger_upkeep(),
        )
