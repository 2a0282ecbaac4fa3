"""Queries of tests, sent again while a run that hands over does not answer them (docs/decisions/0018, 0028)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from temporalio.client import Interceptor, OutboundInterceptor, QueryWorkflowInput
from temporalio.service import RPCError, RPCStatusCode

PATIENCE = timedelta(seconds=5)
TIMES = 12
LOST = (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED)
"""how the Java server loses one"""
NOT_READY = "Workflow task is not scheduled yet."
"""what a real server says of a run that has just begun"""


class AskAgain(Interceptor):
    """A client whose queries are sent up to twelve times, five seconds each, while the server does not answer them."""

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
                if error.message == NOT_READY:
                    await asyncio.sleep(PATIENCE.total_seconds() / 5)
                elif error.status not in LOST:
                    raise
        return await super().query_workflow(input)
