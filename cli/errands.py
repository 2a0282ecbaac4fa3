"""Asking one host for one thing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cli import connect
from models import names

if TYPE_CHECKING:
    from models.errands import ErrandResult
    from services.town import Town

ANSWER_S = 90.0


def ask_host(town: Town, host: str, task: Any, again: str) -> ErrandResult:
    """Have `task` (models.errands) done on `host` and wait for its answer.

    Raises:
        GtError: TEMPORAL_UNREACHABLE where Temporal or the host's worker does not answer, TIMED_OUT, and what the
            host says against it.
    """
    import uuid

    from models.errands import Errand, ErrandResult

    return connect.converse(
        town,
        lambda client: connect.result_of(
            client,
            names.WorkflowType.ERRAND.value,
            names.errand_id(uuid.uuid4().hex),
            Errand(host=host, task=task),
            ErrandResult,
            timeout_s=ANSWER_S,
            again=again,
        ),
    )
