"""What every activity shares: typed failures, heartbeats, no secrets.

A `GtError` becomes an ApplicationError whose type is its code and whose details are level and
hint. An activity that was scheduled with a heartbeat timeout beats by itself, so that a killed
worker is noticed within seconds whatever the activity does.

Failures, and what activities of a host answer, are kept by Temporal and go on from there into the record and to people:
secrets are taken out of both here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from enum import Enum
from typing import Any

from pydantic import BaseModel
from temporalio import activity
from temporalio.exceptions import ApplicationError, FailureError
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
)

from models.errors import GtError
from policies.security.redaction import redact

BEAT_S = 1.0
"""Well below the 5 s heartbeat timeout; core throttles to its own interval of 1 s."""


class ActivityConduct(Interceptor):
    """Worker interceptor: see the module.

    Args:
        clean: takes secrets out of a text; by default those of known shapes.
        results: also out of what activities answer. Not where that is the record's: its text is people's own.
    """

    def __init__(self, clean: Callable[[str], str] = redact, *, results: bool = False) -> None:
        self._clean = clean
        self._results = results

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Conduct(super().intercept_activity(next), self._clean, self._results)


class _Conduct(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, clean: Callable[[str], str], results: bool) -> None:
        super().__init__(next)
        self._clean = clean
        self._results = results

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        threaded = input.executor is not None
        beating = asyncio.create_task(_beat(threaded)) if activity.info().heartbeat_timeout else None
        try:
            result = await super().execute_activity(input)
            return cleaned(result, self._clean) if self._results else result
        except Exception as error:
            cause = None if _tells_secrets(error, self._clean) else error
            if isinstance(error, GtError):
                raise as_application_error(error, self._clean) from cause
            if cause is None and not isinstance(error, FailureError):
                raise ApplicationError(self._clean(str(error)), type=type(error).__name__) from None
            raise
        finally:
            if beating is not None:
                beating.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await beating


def cleaned(value: Any, clean: Callable[[str], str]) -> Any:
    """What an activity answers, with every text in it cleaned; `value` itself where that changes nothing."""
    if isinstance(value, str):
        return value if isinstance(value, Enum) else clean(value)
    if isinstance(value, BaseModel):
        told = {name: getattr(value, name) for name in type(value).model_fields}
        changes = {name: new for name, old in told.items() if (new := cleaned(old, clean)) is not old}
        return value.model_copy(update=changes) if changes else value
    if isinstance(value, (list, tuple)):
        parts = [cleaned(part, clean) for part in value]
        same = all(new is old for new, old in zip(parts, value, strict=True))
        if same:
            return value
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, dict):
        pairs = {key: cleaned(part, clean) for key, part in value.items()}
        return value if all(pairs[key] is part for key, part in value.items()) else pairs
    return value


def _tells_secrets(error: BaseException | None, clean: Callable[[str], str]) -> bool:
    """Whether an error or one of its causes, whose words and lines of code would be kept too, holds a secret."""
    while error is not None:
        if clean(told := str(error)) != told:
            return True
        error = error.__cause__ or error.__context__
    return False


async def _beat(threaded: bool) -> None:
    """Beat until cancelled: not at once, for most activities end before they have to.

    A threaded activity's heartbeat blocks on the event loop, so it must not run on it.
    """
    while True:
        await asyncio.sleep(BEAT_S)
        if threaded:
            await asyncio.to_thread(activity.heartbeat)
        else:
            activity.heartbeat()


def as_application_error(error: GtError, clean: Callable[[str], str] = redact) -> ApplicationError:
    """The failure as Temporal carries it: type = code, details = (level, hint)."""
    return ApplicationError(
        clean(error.message),
        error.level.value,
        clean(error.hint),
        type=error.code.value,
        non_retryable=not error.retryable,
    )
