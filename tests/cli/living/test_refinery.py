"""`gt refinery` on a real Refinery."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from temporalio.client import Client

from models import names
from models.merging import QueueItemState
from models.records import Bead, MergeRequest, Rig
from tests.cli.conftest import Here
from tests.cli.living.conftest import on_server


@pytest.mark.usefixtures("worker")
class TestRefinery:
    @pytest.fixture
    def item(self, here: Here, rig: Rig, bead: Bead, server: int) -> str:
        """A change in the queue of a Refinery that cannot merge it (its rig's facts are not there)."""
        request = MergeRequest(
            id=names.merge_request_id(bead.id, 1),
            rig=rig.name,
            bead=bead.id,
            title=bead.title,
            polecat="nux",
            attempt=1,
            branch=names.job_branch(bead.id),
            head_sha="a" * 40,
            target="main",
            submitted_at=datetime.now(UTC),
        )

        async def submit(client: Client) -> None:
            from services.temporal import start_rig_workflows

            await start_rig_workflows(client, rig.name)
            await client.get_workflow_handle(names.refinery_id(rig.name)).signal("submit", request)

        on_server(server, submit)
        return request.id

    def test_the_queue_is_shown_with_the_keys_that_scripts_rely_on(
        self, here: Here, rig: Rig, bead: Bead, item: str
    ) -> None:
        shown = here.json("gt", "refinery", "queue", "--rig", rig.name)
        assert {"rig", "target", "paused", "items"} <= set(shown)
        assert (shown["rig"], shown["paused"]) == (rig.name, False)
        (row,) = shown["items"]
        assert {"id", "bead", "polecat", "state", "position", "attempts", "waiting_s", "reason"} <= set(row)
        assert (row["id"], row["bead"], row["polecat"], row["state"]) == (item, bead.id, "nux", "waiting")
        assert item in here.run("gt", "refinery", "queue", "--rig", rig.name).out

    def test_pause_and_resume_show_the_queue_that_they_leave(self, here: Here, rig: Rig, item: str) -> None:
        paused = here.json("gt", "refinery", "pause", "--rig", rig.name, "--reason", "release day")
        assert (paused["paused"], paused["pause_reason"]) == (True, "release day")
        assert here.json("gt", "status")["rigs"][0]["queue"]["paused"] is True
        assert here.json("gt", "refinery", "resume", "--rig", rig.name)["paused"] is False

    def test_an_item_is_held_released_and_returned(self, here: Here, rig: Rig, item: str) -> None:
        assert here.json("gt", "refinery", "skip", item)["state"] == QueueItemState.HELD
        assert here.json("gt", "refinery", "process", item, "--rig", rig.name)["state"] == QueueItemState.WAITING
        assert here.json("gt", "refinery", "clear", "--rig", rig.name)["returned"] == [item]
        assert here.json("gt", "refinery", "queue", "--rig", rig.name)["items"] == []
        assert "not in the merge queue" in here.run("gt", "refinery", "skip", item, expect=3).err

    def test_an_unknown_rig_is_not_found_and_a_rig_without_refinery_is_unreachable(self, here: Here, rig: Rig) -> None:
        here.run("gt", "refinery", "queue", "--rig", "nope", expect=3)
        assert "hint: gt up" in here.run("gt", "refinery", "queue", "--rig", rig.name, expect=4).err
