"""The Deacon: a town's second-order watch. Witnesses ping it, and it answers."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from models.names import WorkflowType
    from models.supervision import DeaconPong, DeaconStatus, WatchedStatus, WitnessPing
    from workflows.deacon_state import DeaconState, Heard
    from workflows.labels import Labels, details

from workflows.messages import tell
from workflows.patience import Patience


@workflow.defn(name=WorkflowType.DEACON)
class DeaconWorkflow:
    """One per town, for ever."""

    @workflow.init
    def __init__(self, state: DeaconState | None = None) -> None:
        self._state = state or DeaconState()
        self._heard = dict(self._state.heard)
        self._patience = Patience(self._state.patience)
        self._labels = Labels()
        self._asked = 0
        self._seen = 0
        """pings of Boot that the loop has come by"""

    @workflow.run
    async def run(self, state: DeaconState | None = None) -> None:
        """Answer Boot from within the loop until the run hands over."""
        while not self._patience.exhausted:
            self._seen = self._asked
            self._show()
            await workflow.wait_condition(lambda: self._asked != self._seen or self._patience.exhausted)
        self._seen = self._asked
        await workflow.wait_condition(workflow.all_handlers_finished)
        workflow.continue_as_new(self.state())

    @workflow.signal(description="WITNESS_PING: a Witness lives; answered by `deacon_pong`")
    async def witness_ping(self, ping: WitnessPing) -> None:
        self._patience.count()
        self._heard[ping.witness] = Heard(ping=ping, at=workflow.now())
        await tell(ping.witness, "deacon_pong", DeaconPong(number=ping.number))

    @workflow.update(description="Boot's ping: answered by the loop, not by the handler alone")
    async def ping(self) -> None:
        self._patience.count()
        self._asked += 1
        mine = self._asked
        await workflow.wait_condition(lambda: self._seen >= mine)

    @workflow.query(description="What a fresh run would go on from")
    def state(self) -> DeaconState:
        return self._state.model_copy(update={"heard": self._heard})

    @workflow.query(description="Who is watched, and how each stands")
    def status(self) -> DeaconStatus:
        return DeaconStatus(
            watched=tuple(
                WatchedStatus(workflow_id=witness, pinged_at=heard.at, patrolled_at=heard.ping.patrolled_at)
                for witness, heard in sorted(self._heard.items())
            )
        )

    def _show(self) -> None:
        self._labels.show(role="deacon", state="watching")
        workflow.set_current_details(details("Deacon", {"watching": ", ".join(sorted(self._heard))}, "gt status"))
