"""Queries to the time-skipping server, sent again when it loses one (docs/decisions/0018)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio.client import Interceptor, OutboundInterceptor, QueryWorkflowInput
from temporalio.service import RPCError, RPCStatusCode

PATIENCE = timedelta(seconds=5)
TIMES = 6
LOST = (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED)


class AskAgain(Interceptor):
    """A client whose queries are sent up to six times, five seconds each, while the server does not answer them."""

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _Asking(super().intercept_client(next))


class _Asking(OutboundInterceptor):
    async def query_workflow(self, input: QueryWorkflowInput) -> Any:
        if input.rpc_timeout is None:
            input.rpc_timeout = PATIENCE
        for _ in range(TIMES - 1):
            try:
                return await super().query_workflow(input)
            except RPCError as error:
                if error.status not in LOST:
                    raise
        return await super().query_workflow(input)
