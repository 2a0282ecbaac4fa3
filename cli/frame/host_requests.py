"""Asking hosts for one thing each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from cli.frame import connect
from models import names
from models.errors import ErrorCode, GtError

if TYPE_CHECKING:
    from temporalio.client import Client

    from models.supervision.host_requests import ErrandResult
    from services.town import Town

ANSWER_S = 90.0
_AWAY = frozenset({ErrorCode.TEMPORAL_UNREACHABLE, ErrorCode.TIMED_OUT})


class HostAnswers(NamedTuple):
    """What hosts said, each for itself."""

    answers: dict[str, ErrandResult]
    """by host"""
    unreached: tuple[str, ...]
    """hosts on which no worker answered"""


def ask_host(town: Town, host: str, task: Any, again: str, timeout_s: float = ANSWER_S) -> ErrandResult:
    """Have `task` (models.supervision.host_requests) done on `host` and wait for its answer.

    Raises:
        GtError: TEMPORAL_UNREACHABLE where Temporal or the host's worker does not answer, TIMED_OUT, and what the
            host says against it.
    """
    return connect.converse(town, lambda client: _ask(client, host, task, again, timeout_s))


def ask_hosts(town: Town, tasks: Mapping[str, Any], again: str) -> HostAnswers:
    """Have every host do its task (models.supervision.host_requests), all at the same time.

    Raises:
        GtError: TEMPORAL_UNREACHABLE where Temporal does not answer, or no host does; what a host says against it.
    """
    import asyncio

    async def ask(client: Client) -> list[ErrandResult | BaseException]:
        asked = (_ask(client, host, task, again) for host, task in tasks.items())
        return await asyncio.gather(*asked, return_exceptions=True)

    answers: dict[str, ErrandResult] = {}
    away: dict[str, GtError] = {}
    for host, found in zip(tasks, connect.converse(town, ask), strict=True):
        if not isinstance(found, BaseException):
            answers[host] = found
            continue
        error = connect.as_gt_error(found)
        if error.code not in _AWAY:
            raise error
        away[host] = error
    if away and not answers:
        raise next(iter(away.values()))
    return HostAnswers(answers, tuple(away))


def send_host(town: Town, host: str, task: Any, token: str) -> None:
    """Have `task` (models.supervision.host_requests) done on `host` without waiting for its answer; once for one token.

    Raises:
        GtError: TEMPORAL_UNREACHABLE where Temporal does not answer.
    """

    async def start(client: Client) -> None:
        from temporalio.common import WorkflowIDConflictPolicy

        from models.supervision.host_requests import Errand

        await client.start_workflow(
            names.WorkflowType.ERRAND.value,
            Errand(host=host, task=task),
            id=names.errand_id(token),
            task_queue=names.TOWN_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        )

    connect.converse(town, start)


async def _ask(client: Client, host: str, task: Any, again: str, timeout_s: float = ANSWER_S) -> ErrandResult:
    import uuid

    from models.supervision.host_requests import Errand, ErrandResult

    return await connect.result_of(
        client,
        names.WorkflowType.ERRAND.value,
        names.errand_id(uuid.uuid4().hex),
        Errand(host=host, task=task),
        ErrandResult,
        timeout_s=timeout_s,
        again=again,
    )
