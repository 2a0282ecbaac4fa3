"""What every activity shares: typed failures and heartbeats.

A `GtError` becomes an ApplicationError whose type is its code and whose details are level and
hint. An activity that was scheduled with a heartbeat timeout beats by itself, so that a killed
worker is noticed within seconds whatever the activity does.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
)

from models.errors import GtError

BEAT_S = 1.0
"""Well below the 5 s heartbeat timeout; core throttles to its own interval of 1 s."""


class ActivityConduct(Interceptor):
    """Worker interceptor: see the module."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Conduct(super().intercept_activity(next))


class _Conduct(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        threaded = input.executor is not None
        beating = asyncio.create_task(_beat(threaded)) if activity.info().heartbeat_timeout else None
        try:
            return await super().execute_activity(input)
        except GtError as error:
            raise as_application_error(error) from error
        finally:
            if beating is not None:
                beating.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await beating


async def _beat(threaded: bool) -> None:
    """Beat until cancelled. A threaded activity's heartbeat blocks on the event loop, so it must not run on it."""
    while True:
        if threaded:
            await asyncio.to_thread(activity.heartbeat)
        else:
            activity.heartbeat()
        await asyncio.sleep(BEAT_S)


def as_application_error(error: GtError) -> ApplicationError:
    """The failure as Temporal carries it: type = code, details = (level, hint)."""
    return ApplicationError(
        error.message,
        error.level.value,
        error.hint,
        type=error.code.value,
        non_retryable=not error.retryable,
    )
