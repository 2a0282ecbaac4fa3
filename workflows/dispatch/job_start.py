"""How a dispatcher brings a job's workflow to life, and how it says no."""

from __future__ import annotations

from temporalio import workflow
from temporalio.common import Priority
from temporalio.exceptions import ActivityError, ApplicationError, WorkflowAlreadyStartedError
from temporalio.workflow import ParentClosePolicy

from models import names
from models.errors import ErrorCode, GtError, Level
from models.job.messages import Admission, SlotGrant
from models.ledger.records import JobState
from models.supervision.messages import TASK_TIMEOUT
from workflows.job.rebuild import state_of
from workflows.job.workflow import PolecatWorkflow
from workflows.shared.web_ui import attributes

ENDING_TRIES = 10
"""seconds to wait for the bead's last job to end, when it has said that it does"""
DESCRIPTION_LENGTH = 200_000
"""characters that a job carries; Temporal takes no payload above 2 MB"""
SUMMARY_BYTES = 200


async def start_workflow(rig: str, admission: Admission, ended: list[str], grant: SlotGrant | None) -> bool:
    """Start the job's workflow, or adopt the one that runs already.

    Args:
        ended: beads whose job has said that it ends; the one that is started anew is taken out.
        grant: a slot that it starts with; None: it asks for one.

    Returns:
        False where one ran already: it has heard of no grant.

    Raises:
        ApplicationError: REFUSED while the bead's last job has not ended after all.
    """
    bead = admission.bead
    carried = bead.model_copy(update={"description": _clipped(bead.description, bead.id)})
    state = state_of(admission.model_copy(update={"bead": carried}))
    state.grant = grant
    shown = attributes(
        role="polecat",
        state=(JobState.STARTING if grant else JobState.WAITING).value,
        rig=rig,
        bead=bead.id,
        polecat=grant.polecat if grant else None,
    )
    for _ in range(ENDING_TRIES):
        try:
            await workflow.start_child_workflow(
                PolecatWorkflow.run,
                state,
                id=names.polecat_id(rig, bead.id),
                parent_close_policy=ParentClosePolicy.ABANDON,
                task_timeout=TASK_TIMEOUT,
                static_summary=f"{bead.id} {bead.title}".encode()[:SUMMARY_BYTES].decode(errors="ignore"),
                search_attributes=shown,
                priority=Priority(fairness_key=rig),
            )
        except WorkflowAlreadyStartedError:
            if bead.id not in ended:
                return False
            await workflow.sleep(1, summary=f"the last job of {bead.id} is ending")
        else:
            ended[:] = [other for other in ended if other != bead.id]
            return True
    raise refusal(
        ErrorCode.REFUSED, f"the last job of {bead.id} has ended but is not recorded yet", f"gt job show {bead.id}"
    )


def validate(bead: str) -> None:
    """Refuse what is no bead's id."""
    try:
        names.valid_bead(bead)
    except GtError as error:
        raise refusal(error.code, error.message, error.hint) from error


def refusal(code: ErrorCode, message: str, hint: str = "") -> ApplicationError:
    """The failure of an update, as a command understands it."""
    return ApplicationError(message, GtError(code, message).level.value, hint, type=code.value, non_retryable=True)


def cause(error: ActivityError) -> ApplicationError:
    """The failure of an update: the activity's own where it has one, else the ledger did not answer."""
    reason = error.cause
    if isinstance(reason, ApplicationError):
        return ApplicationError(reason.message, *reason.details, type=reason.type, non_retryable=True)
    return ApplicationError(
        "the ledger does not answer",
        Level.L3.value,
        "gt status",
        type=ErrorCode.LEDGER_UNREACHABLE.value,
        non_retryable=True,
    )


def _clipped(description: str, bead: str) -> str:
    if len(description) <= DESCRIPTION_LENGTH:
        return description
    return f"{description[:DESCRIPTION_LENGTH]}…\n\n(cut here; `bd show {bead}` has all of it)"
