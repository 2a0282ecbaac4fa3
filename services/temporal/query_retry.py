"""Queries asked again while a worker has not caught up with a workflow (`services.worker.stale_query_guard`)."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from temporalio.client import Interceptor, OutboundInterceptor, QueryWorkflowInput, WorkflowQueryFailedError

NOT_CAUGHT_UP: Final = "a worker has just taken this workflow over and has messages of it to read first: ask again"
TIMES: Final = 50
AGAIN_S: Final = 0.2


class PatientQueries(Interceptor):
    """A client that asks again, for ten seconds, when it is told NOT_CAUGHT_UP.

    The task that is due may have to wait for the time limit of one that a killed worker had begun.
    """

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _Patient(super().intercept_client(next))


class _Patient(OutboundInterceptor):
    async def query_workflow(self, input: QueryWorkflowInput) -> Any:
        for _ in range(TIMES):
            try:
                return await super().query_workflow(input)
            except WorkflowQueryFailedError as error:
                if error.message != NOT_CAUGHT_UP:
                    raise
                await asyncio.sleep(AGAIN_S)
        return await super().query_workflow(input)
