"""Clients of Temporal, and the long-lived workflows that a town and its rigs have.

The only place that names the data converter for clients.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable
from typing import Any

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfigProfile
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.service import GrpcCompression, HttpConnectProxyConfig, RPCError, RPCStatusCode

from models import names
from models.errors import ErrorCode, GtError
from models.settings import DeadmanSettings
from services.supervisor.programs import temporal_socket
from services.temporal.query_retry import PatientQueries
from services.town import Town

_UNDELIVERABLE = frozenset({RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT})
"""of a signal: nobody runs, or its run has all the signals that it may have"""


async def connect(
    town: Town,
    *,
    identity: str | None = None,
    lazy: bool = False,
    timeout_s: float = 5.0,
    runtime: Runtime | None = None,
) -> Client:
    """A client of the town's Temporal.

    Args:
        town: its file says where; an external Temporal's address, TLS and API key come from the
            temporalio.envconfig profile and the environment.
        identity: what the server shows of this client.
        lazy: connect with the first call instead of now.
        timeout_s: for the connection.
        runtime: for metrics and the SDK's log; default: one without either.

    Raises:
        GtError: TEMPORAL_UNREACHABLE when nobody answers, INVALID_VALUE when the profile cannot be read.
    """
    where = _where(town)
    address = where["target_host"]
    try:
        async with asyncio.timeout(timeout_s):
            return await Client.connect(
                **where,
                data_converter=pydantic_data_converter,
                identity=identity,
                lazy=lazy,
                runtime=runtime or _silent_runtime(),
                interceptors=[PatientQueries()],
            )
    except (RuntimeError, TimeoutError):
        hint = f"is it up at {address}?" if town.file.temporal.external else "gt up"
        raise GtError(ErrorCode.TEMPORAL_UNREACHABLE, f"Temporal does not answer at {address}", hint) from None


@functools.cache
def _silent_runtime() -> Runtime:
    """The SDK logs to standard output, warnings of its own settings too: a command's JSON would begin with them."""
    return Runtime(telemetry=TelemetryConfig(logging=None))


def _where(town: Town) -> dict[str, Any]:
    section = town.file.temporal
    if not section.external:
        # Nothing of it leaves the machine: compressing costs more than it saves (docs/decisions/0021).
        plain = GrpcCompression.NONE
        where = {"target_host": town.temporal_address, "namespace": section.namespace, "grpc_compression": plain}
        if not town.temporal_listening().on_socket:
            return where
        door = HttpConnectProxyConfig(target_host=f"unix:{temporal_socket(town)}")
        return {**where, "http_connect_proxy_config": door, "dns_load_balancing_config": None}
    try:
        profile = ClientConfigProfile.load(section.profile).to_client_connect_config()
    except RuntimeError as error:
        raise GtError(ErrorCode.INVALID_VALUE, f"Temporal profile {section.profile or 'default'}: {error}") from None
    return {"target_host": "localhost:7233", **profile, "namespace": section.namespace}


async def register_search_attributes(client: Client, namespace: str) -> None:
    """Make sure that the namespace knows our search attributes; a second time changes nothing.

    Raises:
        GtError: TEMPORAL_UNREACHABLE when the server does not answer or refuses.
    """
    operator = client.operator_service
    try:
        known = await operator.list_search_attributes(ListSearchAttributesRequest(namespace=namespace))
        missing = [name for name in names.SEARCH_ATTRIBUTES.values() if name not in known.custom_attributes]
        if missing:
            keyword = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
            await operator.add_search_attributes(
                AddSearchAttributesRequest(namespace=namespace, search_attributes=dict.fromkeys(missing, keyword))
            )
    except RPCError as error:
        if error.status is not RPCStatusCode.ALREADY_EXISTS:
            raise _unreachable(error) from error


async def start_town_workflows(client: Client) -> None:
    """Start the town's long-lived workflows where they do not run.

    Raises:
        GtError: TEMPORAL_UNREACHABLE when the server does not answer.
    """
    await _start(client, names.MAYOR_ID, names.DEACON_ID)


async def start_schedules(client: Client, deadman: DeadmanSettings) -> None:
    """Create the town's Schedules where they are missing, or differ from what this version wants.

    Raises:
        GtError: TEMPORAL_UNREACHABLE when the server does not answer.
    """
    # Not at the top, as in _start: commands that only ask something do without.
    from services.temporal.schedules import keep_deadman, keep_schedules  # noqa: PLC0415

    try:
        await keep_schedules(client)
        await keep_deadman(client, deadman)
    except RPCError as error:
        raise _unreachable(error) from error


async def start_rig_workflows(client: Client, rig: str) -> None:
    """Start a rig's Dispatcher, Refinery and Witness where they do not run.

    Raises:
        GtError: INVALID_NAME for a name that no rig can have, TEMPORAL_UNREACHABLE when the server does not answer.
    """
    await _start(client, names.dispatch_id(rig), names.refinery_id(rig), names.witness_id(rig))


async def wake_dispatchers(client: Client, rigs: Iterable[str]) -> None:
    """Tell Dispatchers that the record has changed; a rig whose Dispatcher is absent or takes no more is passed over.

    Without it they see what changed within a minute.

    Raises:
        GtError: TEMPORAL_UNREACHABLE when the server does not answer.
    """
    for rig in rigs:
        try:
            await client.get_workflow_handle(names.dispatch_id(rig)).signal("wake")
        except RPCError as error:
            if error.status not in _UNDELIVERABLE:
                raise _unreachable(error) from error


async def _start(client: Client, *workflow_ids: str) -> None:
    from services.temporal import long_lived  # noqa: PLC0415

    try:
        await asyncio.gather(*(long_lived.start(client, workflow_id) for workflow_id in workflow_ids))
    except RPCError as error:
        raise _unreachable(error) from error


def _unreachable(error: RPCError) -> GtError:
    return GtError(ErrorCode.TEMPORAL_UNREACHABLE, f"Temporal: {error.status.name.lower()}: {error.message}", "gt up")
