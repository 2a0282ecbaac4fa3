"""How a dispatcher says no."""

from __future__ import annotations

from temporalio.exceptions import ActivityError, ApplicationError

from models import names
from models.errors import ErrorCode, GtError, Level


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
