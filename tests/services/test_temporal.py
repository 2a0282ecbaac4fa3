"""Clients of Temporal and the long-lived workflows that are started through them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client

from models import names
from models.errors import ErrorCode, GtError
from models.supervision.messages import TASK_TIMEOUT
from services.init_town import create_town
from services.supervisor.programs import SEARCH_ATTRIBUTES
from services.temporal.client import connect, register_search_attributes, start_rig_workflows, start_town_workflows
from services.town import Town, load_town


@pytest.fixture
async def client(running_town: Town) -> Client:
    return await connect(running_town, identity="test")


async def run_ids(client: Client, *workflow_ids: str) -> list[str | None]:
    described = await asyncio.gather(*(client.get_workflow_handle(each).describe() for each in workflow_ids))
    return [each.run_id for each in described]


async def test_a_town_that_is_down_is_told_soon_and_with_the_next_step(tmp_path: Path) -> None:
    town = create_town(tmp_path / "mill", store="embedded").town
    begun = time.monotonic()
    with pytest.raises(GtError) as caught:
        await connect(town, timeout_s=1)
    assert time.monotonic() - begun < 30
    assert (caught.value.code, caught.value.exit_code) == (ErrorCode.TEMPORAL_UNREACHABLE, 4)
    assert caught.value.hint == "gt up"


async def test_a_lazy_client_needs_no_server(tmp_path: Path) -> None:
    town = create_town(tmp_path / "mill", store="embedded").town
    client = await connect(town, lazy=True)
    assert client.namespace == town.file.temporal.namespace


async def test_an_external_temporal_is_found_through_the_environment(
    running_town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = create_town(tmp_path / "mill", store="embedded").town
    text = here.paths.config.read_text().replace("external = false", "external = true")
    text = text.replace(here.file.temporal.namespace, running_town.file.temporal.namespace)
    here.paths.config.write_text(text)
    monkeypatch.setenv("TEMPORAL_ADDRESS", running_town.temporal_address)
    client = await connect(load_town(here.root))
    assert client.namespace == running_town.file.temporal.namespace
    assert await client.service_client.check_health()


async def test_search_attributes_are_registered_once(client: Client) -> None:
    for _ in range(2):
        await register_search_attributes(client, "default")
    request = ListSearchAttributesRequest(namespace="default")
    known = await client.operator_service.list_search_attributes(request)
    assert set(SEARCH_ATTRIBUTES) <= set(known.custom_attributes)


async def test_a_rigs_workflows_are_started_once_and_labelled(client: Client) -> None:
    wanted = (names.dispatch_id("shop"), names.refinery_id("shop"), names.witness_id("shop"))
    await start_rig_workflows(client, "shop")
    first = await run_ids(client, *wanted)
    await asyncio.gather(start_rig_workflows(client, "shop"), start_rig_workflows(client, "shop"))
    assert await run_ids(client, *wanted) == first
    described = await client.get_workflow_handle(names.witness_id("shop")).describe()
    labels = {pair.key.name: pair.value for pair in described.typed_search_attributes.search_attributes}
    assert (labels["GtRole"], labels["GtRig"]) == ("witness", "shop")
    assert described.task_queue == names.TOWN_QUEUE
    assert described.workflow_type == "WitnessWorkflow"
    assert await described.static_summary() == "Witness of shop"
    execution = described.raw_description.execution_config
    assert execution.default_workflow_task_timeout.ToTimedelta() == TASK_TIMEOUT


async def test_the_mayor_is_started_once(client: Client) -> None:
    await start_town_workflows(client)
    first = await run_ids(client, names.MAYOR_ID)
    await start_town_workflows(client)
    assert await run_ids(client, names.MAYOR_ID) == first


async def test_a_rig_name_is_validated_before_anything_starts(client: Client) -> None:
    with pytest.raises(GtError) as caught:
        await start_rig_workflows(client, "../x")
    assert caught.value.code is ErrorCode.INVALID_NAME
