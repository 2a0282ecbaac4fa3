"""Looks at a real disk and clock, and at a real Refinery's queue on a real Temporal server."""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import Worker

from activities import host_checks
from activities.host_checks import HostCheckActivities, QueueChecks
from activities.sessions.tmux import Tmux
from models import names
from models.ledger.records import MergeRequest
from models.refinery.answers import QueueFacts, QueueFactsRequest
from models.refinery.messages import PauseRequest
from models.supervision.messages import HostSigns, QueueSigns
from models.town import TownPaths
from services.temporal import long_lived
from tests.pace import DEADLINE_S
from tests.temporal_server import client_of_namespace
from workflows.refinery.workflow import RefineryWorkflow
from workflows.shared.sandbox import workflow_runner


async def look(root: Path) -> HostSigns:
    return await ActivityEnvironment().run(
        HostCheckActivities("h1", TownPaths(root), Tmux(f"gt-{root.name}")).look_at_host
    )


async def test_a_host_tells_its_disk_and_its_clock(tmp_path: Path) -> None:
    asked = datetime.now(UTC)
    first = await look(tmp_path)
    assert asked <= first.at <= datetime.now(UTC)
    usage = shutil.disk_usage(tmp_path)
    assert first.host == "h1"
    assert first.disk_percent == pytest.approx(100 * usage.used / (usage.used + usage.free), abs=1)
    begun = time.monotonic()
    second = await look(tmp_path)
    assert second.steady_since == first.steady_since
    assert 0 <= second.steady_s - first.steady_s <= time.monotonic() - begun + 10


async def test_a_town_that_cannot_be_asked_is_an_error_and_not_an_empty_disk(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        await look(tmp_path / "gone")


@activity.defn(name="queue_facts")
async def no_facts(_asked: QueueFactsRequest) -> QueueFacts:
    """Without facts the Refinery queues and does not merge."""
    raise ApplicationError("no facts", type="not_found", non_retryable=True)


@pytest.fixture
async def client(temporal_port: int) -> AsyncIterator[Client]:
    client = await client_of_namespace(temporal_port)
    async with Worker(
        client,
        task_queue=names.TOWN_QUEUE,
        workflows=[RefineryWorkflow],
        activities=[no_facts],
        workflow_runner=workflow_runner(),
    ):
        yield client


def change(bead: str) -> MergeRequest:
    return MergeRequest(
        id=f"{bead}.1", rig="shop", bead=bead, title=bead, polecat="nux", attempt=1, branch=f"polecat/{bead}",
        head_sha="a" * 40, target="main", submitted_at=datetime.now(UTC),
    )  # fmt: skip


async def test_a_queue_is_marked_by_what_comes_next_and_not_by_who_joins_its_end(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_checks, "ASK_S", DEADLINE_S)
    refinery = await long_lived.start(client, names.refinery_id("shop"))

    async def queues() -> tuple[QueueSigns, ...]:
        return await ActivityEnvironment().run(QueueChecks(client).look, ("mill", "shop"))

    (empty,) = await queues()
    assert (empty.rig, empty.waiting, empty.merging, empty.paused) == ("shop", 0, 0, False)
    await refinery.signal("submit", change("sh-1"))
    (first,) = await queues()
    assert first.waiting == 1
    assert first.mark != empty.mark
    await refinery.signal("submit", change("sh-2"))
    (second,) = await queues()
    assert (second.waiting, second.mark) == (2, first.mark)
    await refinery.execute_update("pause", PauseRequest(by="ada"))
    (paused,) = await queues()
    assert paused.paused
