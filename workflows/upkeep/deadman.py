"""The dead man's switch: a service elsewhere hears of this town regularly, and calls people when it does not."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.notifications import NoticeActivities
    from models.names import WorkflowType
    from workflows.shared import activity_options
    from workflows.shared.web_ui import Labels


@workflow.defn(name=WorkflowType.DEADMAN)
class DeadmanWorkflow:
    """One ping, started by the Schedule `deadman`. It fails where nobody answers, for the Web UI to show."""

    @workflow.run
    async def run(self) -> bool:
        """Ping `deadman.url`. False: none is set."""
        Labels().show(role="deadman", state="pinging")
        return await workflow.execute_activity_method(
            NoticeActivities.ping_deadman, summary="ping deadman.url", **activity_options.deadman_ping()
        )
