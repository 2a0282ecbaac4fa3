"""Keeps a query from moving a workflow on.

A query that waits for a worker is answered from the history as it is then. That may end with messages that no
workflow task has taken in yet; the SDK takes them in for the query, at the time of the last task, keeps the
workflow so in memory, and the task that comes for them finds nothing new. A replay takes them in at the time of
that task, so whatever was decided by the clock may be decided otherwise, and the workflow does not replay any
more. Here such a query is refused, which puts the workflow out of memory, and the asker asks again
(`services.temporal.query_retry`, docs/decisions/0020).
"""

from __future__ import annotations

import logging
from typing import NamedTuple

from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.worker import WorkflowInstance, WorkflowRunner

from services.temporal.query_retry import NOT_CAUGHT_UP
from services.worker.wrapped_runner import WrappedInstance, WrappedRunner

log = logging.getLogger(__name__)


class QueryGuard(WrappedRunner):
    """Runs workflows in `inner`, and none by a query."""

    def __init__(self, inner: WorkflowRunner) -> None:
        super().__init__(inner, _Guarded)


class _Seen(NamedTuple):
    """Of the history, as the last activation had it."""

    task_started_ns: int
    events: int

    @classmethod
    def by(cls, activation: WorkflowActivation) -> _Seen:
        return cls(activation.timestamp.ToNanoseconds(), activation.history_length)


class _Guarded(WrappedInstance):
    def __init__(self, inner: WorkflowInstance) -> None:
        super().__init__(inner)
        self._seen: _Seen | None = None

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        before, self._seen = self._seen, _Seen.by(act)
        if before is None or act.is_replaying or not _is_news(before, self._seen):
            return self._inner.activate(act)
        log.info("a query of %s waits for a workflow task", self._inner.get_info().workflow_id)
        refusal = WorkflowActivationCompletion(run_id=act.run_id)
        refusal.failed.failure.message = NOT_CAUGHT_UP
        return refusal


def _is_news(before: _Seen, now: _Seen) -> bool:
    """Whether there are new events without a new workflow task: each task starts later than the one before."""
    return now.task_started_ns == before.task_started_ns and now.events > before.events
