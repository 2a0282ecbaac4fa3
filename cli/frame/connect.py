"""Opening what a command works on: the town, its ledger, its Temporal. Heavy libraries load here only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from cli.frame import output
from cli.frame.command import Call
from models.errors import ErrorCode, GtError, Level

if TYPE_CHECKING:
    from temporalio.client import Client, WorkflowHandle

    from ledger.queries import Ask
    from ledger.store import Ledger
    from services.town import Town

T = TypeVar("T")

CONNECT_S = 5.0
ACCEPT_S = 8.0
"""how long a worker may take to accept an update: a worker that was just restarted needs about 5 s"""
ANSWER_S = 40.0
"""how long an accepted update may take: its handler asks the ledger for up to 20 s"""
QUERY_S = 3.0


class WorkflowAbsent(GtError):
    """NOT_FOUND: no such workflow runs, as opposed to a workflow that says that something is not there."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.NOT_FOUND, "no such workflow runs", "gt status")


def open_town(call: Call) -> Town:
    """The town that the command is about.

    Raises:
        GtError: NOT_FOUND, INVALID_VALUE.
    """
    from services.town import find_town

    return find_town(call.town)


def without_secrets(town: Town, text: str) -> str:
    """What somebody says, as it is kept and sent: with the kind of each secret in its place, and a warning."""
    from services.redaction import Redactor

    shown = Redactor(town.paths).text(text)
    if shown is not text:
        output.warn("it holds a secret, which was left out: text is kept in the record's history and sent to people")
    return shown


@contextmanager
def open_ledger(town: Town) -> Iterator[Ledger]:
    """The town's ledger, closed again at the end.

    Raises:
        GtError: LEDGER_UNREACHABLE, LEDGER_DAMAGED, LEDGER_NEWER.
    """
    from ledger.store import Ledger

    ledger = Ledger.open(town.ledger_url())
    ledger.author = writer()
    try:
        yield ledger
    finally:
        ledger.close()


def ask_ledger(town: Town, question: Callable[[Ask], T]) -> T:
    """What `question` (of ledger/queries.py) makes of the town's ledger, as quickly as can be.

    Raises:
        GtError: LEDGER_UNREACHABLE, LEDGER_DAMAGED, LEDGER_NEWER; what `question` refuses.
    """
    from ledger.queries import Unanswered, ask_once

    try:
        return ask_once(town.ledger_url(), question)
    except Unanswered:
        from ledger.engine.rows import asking

        with open_ledger(town) as ledger:
            return ledger.read(lambda connection: question(asking(connection)))


def converse(town: Town, conversation: Callable[[Client], Awaitable[T]]) -> T:
    """Run `conversation` with a client of the town's Temporal.

    Raises:
        GtError: TEMPORAL_UNREACHABLE, or whatever a workflow refused with.
    """
    import asyncio

    require_listener(town)

    async def talk() -> T:
        from services.temporal.client import connect

        client = await connect(town, timeout_s=CONNECT_S)
        try:
            return await conversation(client)
        except Exception as error:
            raise as_gt_error(error) from error

    return asyncio.run(talk())


def require_listener(town: Town) -> None:
    """Find out in a millisecond, before the client is loaded, that the town's own Temporal is down."""
    import socket

    if town.file.temporal.external:
        return
    try:
        if town.temporal_listening().on_socket:
            from services.supervisor.programs import temporal_socket

            with socket.socket(socket.AF_UNIX) as door:
                door.settimeout(CONNECT_S)
                door.connect(str(temporal_socket(town)))
            return
        host, _, port = town.temporal_address.rpartition(":")
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
    except OSError:
        raise GtError(
            ErrorCode.TEMPORAL_UNREACHABLE, f"Temporal does not answer at {town.temporal_address}", "gt up"
        ) from None


async def running_rigs(client: Client) -> list[str]:
    """The rigs whose dispatcher runs, for when the ledger cannot name them."""
    from models import names

    query = f"WorkflowType = '{names.WorkflowType.DISPATCH}' AND ExecutionStatus = 'Running'"
    return sorted([found.id.partition("/")[2] async for found in client.list_workflows(query)])


async def ask(
    handle: WorkflowHandle[Any, Any], query: str, answer: type[T], *arguments: Any, within_s: float | None = None
) -> T:
    """The answer to a query, within a bound of seconds; default: QUERY_S."""
    import asyncio

    limit_s = QUERY_S if within_s is None else within_s
    return await asyncio.wait_for(handle.query(query, args=arguments, result_type=answer), limit_s)


async def request(handle: WorkflowHandle[Any, Any], update: str, argument: Any, answer: type[T]) -> T:
    """Send an update and wait for its answer; `argument` None: it takes none.

    An update is durable only once a worker has accepted it, so acceptance has its own short limit.

    Raises:
        GtError: TEMPORAL_UNREACHABLE when no worker accepts it in time, NOT_FOUND when no such
            workflow runs, and whatever the workflow refused with.
    """
    import asyncio

    from services.temporal.updates import accepted

    arguments = [] if argument is None else [argument]
    try:
        under_way = await asyncio.wait_for(accepted(handle, update, arguments, answer), ACCEPT_S)
        told: T = await asyncio.wait_for(under_way.result(), ANSWER_S)
        return told
    except Exception as error:
        raise as_gt_error(error) from error


async def result_of(
    client: Client, kind: str, workflow_id: str, argument: Any, answer: type[T], *, timeout_s: float, again: str
) -> T:
    """Start a workflow, or find the one of that id that runs, and wait for what it answers.

    Args:
        again: the command that asks for the same once more.

    Raises:
        GtError: TIMED_OUT when it goes on for longer than `timeout_s`, and whatever it failed with.
    """
    import asyncio

    from temporalio.client import WorkflowFailureError
    from temporalio.common import WorkflowIDConflictPolicy

    from models import names

    handle = await client.start_workflow(
        kind,
        argument,
        id=workflow_id,
        task_queue=names.TOWN_QUEUE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        result_type=answer,
    )
    try:
        return await asyncio.wait_for(handle.result(), timeout_s)
    except TimeoutError:
        what = f"no answer within {timeout_s:.0f} s; it goes on as the workflow {workflow_id}"
        raise GtError(ErrorCode.TIMED_OUT, what, again) from None
    except WorkflowFailureError as error:
        raise as_gt_error(error) from error


def person() -> str:
    """Who runs the command, for notes about who decided what."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"


def writer() -> str:
    """Who changes the record: the polecat in whose session the command runs, or the person."""
    import os

    from cli.session.agent_rights import session_record

    # Not the environment, which an agent may set as it likes.
    at = session_record() or {"rig": os.environ.get("GT_RIG"), "polecat": os.environ.get("GT_POLECAT")}
    return f"{at['rig']}/{at['polecat']}" if at.get("rig") and at.get("polecat") else person()


def as_gt_error(error: BaseException) -> GtError:
    """What the command reports for a failure of a client call.

    An `ApplicationError` carries type = ErrorCode and details = (level, hint).
    """
    from temporalio.client import WorkflowQueryFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
    from temporalio.exceptions import ApplicationError
    from temporalio.service import RPCError, RPCStatusCode

    if isinstance(error, GtError):
        return error
    refusal = _application_error(error, ApplicationError)
    if refusal is not None:
        return _refused(refusal.message, refusal.type, list(refusal.details))
    if isinstance(error, TimeoutError | WorkflowUpdateRPCTimeoutOrCancelledError):
        return GtError(ErrorCode.TEMPORAL_UNREACHABLE, "no worker answered in time", "gt up")
    if isinstance(error, RPCError):
        if error.status is RPCStatusCode.NOT_FOUND:
            return WorkflowAbsent()
        unreachable = {RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED}
        if error.status in unreachable:
            return GtError(ErrorCode.TEMPORAL_UNREACHABLE, f"Temporal does not answer: {error.message}", "gt up")
        return GtError(ErrorCode.SERVICE_FAILED, f"Temporal refused: {error.message}", "gt status")
    if isinstance(error, WorkflowQueryFailedError):
        return GtError(ErrorCode.SERVICE_FAILED, f"the workflow did not answer: {error.message}", "gt status")
    return GtError(ErrorCode.INTERNAL, f"{type(error).__name__}: {error}")


def _application_error(error: BaseException | None, kind: type[T]) -> T | None:
    while error is not None:
        if isinstance(error, kind):
            return error
        error = error.__cause__ or getattr(error, "cause", None)
    return None


def _refused(message: str, code: str | None, details: list[Any]) -> GtError:
    known = ErrorCode(code) if code in set(ErrorCode) else ErrorCode.SERVICE_FAILED
    texts = [str(detail) for detail in details]
    has_level = bool(texts) and texts[0] in set(Level)
    hint = texts[1] if has_level and len(texts) > 1 else ""
    return GtError(known, message, hint)
