"""`gt refinery` on a real Refinery."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from temporalio.client import Client

from models import names
from models.ledger.records import Bead, MergeRequest, Rig
from models.refinery.gates import GateRecord, Seen
from models.refinery.messages import QueueItemState
from tests.cli.conftest import Here
from tests.cli.living.conftest import on_server
from tests.fault_document import documented
from workflows.refinery.state import RefineryState


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
            from services.temporal.client import start_rig_workflows

            await start_rig_workflows(client, rig.name)
            await client.get_workflow_handle(names.refinery_id(rig.name)).signal("submit", request)

        on_server(server, submit)
        return request.id

    def test_the_queue_is_shown_with_the_keys_that_scripts_rely_on(
        self, here: Here, rig: Rig, bead: Bead, item: str
    ) -> None:
        shown = here.json(*documented("gt refinery queue --rig gastown", {"gastown": rig.name}))
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
        words = {"<queue-item>": item, "gastown": rig.name}
        assert here.json(*documented("gt refinery skip <queue-item>", words))["state"] == QueueItemState.HELD
        assert here.json(*documented("gt refinery process <queue-item>", words))["state"] == QueueItemState.WAITING
        assert here.json("gt", "refinery", "skip", item, "--rig", rig.name)["state"] == QueueItemState.HELD
        assert here.json(*documented("gt refinery clear --rig gastown", words))["returned"] == [item]
        assert here.json("gt", "refinery", "queue", "--rig", rig.name)["items"] == []
        assert "not in the merge queue" in here.run("gt", "refinery", "skip", item, expect=3).err

    def test_an_unknown_rig_is_not_found_and_a_rig_without_refinery_is_unreachable(self, here: Here, rig: Rig) -> None:
        here.run("gt", "refinery", "queue", "--rig", "nope", expect=3)
        assert "hint: gt up" in here.run("gt", "refinery", "queue", "--rig", rig.name, expect=4).err

    def test_what_an_item_waits_for_is_said_in_plain_words(self, here: Here, rig: Rig, bead: Bead, item: str) -> None:
        here.run("gt", "refinery", "skip", item)
        for name in (item, bead.id):
            told = here.json("gt", "refinery", "why", name)
            assert (told["id"], told["state"]) == (item, "held")
            assert told["words"] == ["A person has put it on hold."]
            assert told["next_command"] == f"gt refinery process {item}"
        assert "on hold" in here.run("gt", "refinery", "why", item).out
        assert "does not know" in here.run("gt", "refinery", "why", "sh-zzz.1", "--rig", rig.name, expect=3).err

    def test_an_item_that_was_returned_is_in_the_history_and_cannot_be_retried(
        self, here: Here, rig: Rig, bead: Bead, item: str
    ) -> None:
        assert here.json("gt", "refinery", "retry", item, "--front")["state"] == QueueItemState.WAITING
        here.run("gt", "refinery", "clear", "--rig", rig.name)
        (entry,) = here.json("gt", "refinery", "history", "--rig", rig.name, "--limit", "5")["items"]
        assert (entry["id"], entry["bead"], entry["outcome"]) == (item, bead.id, "returned")
        assert item in here.run("gt", "refinery", "history", "--rig", rig.name).out
        refused = here.run("gt", "refinery", "retry", item, expect=5)
        assert f"hint: gt refinery why {item}" in refused.err
        here.run("gt", "refinery", "retry", "sh-zzz.1", "--rig", rig.name, expect=3)

    @pytest.mark.document("8: 重启服务")
    def test_stop_and_start_show_the_state_that_they_leave(self, here: Here, rig: Rig, item: str) -> None:
        (stopped,) = here.json("gt", "refinery", "stop", "--rig", rig.name)
        assert (stopped["rig"], stopped["state"], stopped["waiting"]) == (rig.name, "stopped", 1)
        assert here.json("gt", "refinery", "status", "--rig", rig.name) == [stopped]
        (started,) = here.json(*documented("gt refinery start --all-rigs"))
        assert started["state"] == "waiting"
        assert rig.name in here.run("gt", "refinery", "status").out

    def test_start_begins_a_refinery_that_does_not_run(self, here: Here, rig: Rig) -> None:
        here.run("gt", "refinery", "status", "--rig", rig.name, expect=4)
        assert here.json("gt", "refinery", "start", "--rig", rig.name)[0]["state"] == "idle"
        assert here.json("gt", "refinery", "status", "--rig", rig.name)[0]["state"] == "idle"

    def test_a_rig_has_to_be_named_or_all_of_them(self, here: Here, rig: Rig) -> None:
        here.run("gt", "refinery", "start", expect=2)
        here.run("gt", "refinery", "stop", "--rig", rig.name, "--all-rigs", expect=2)
        here.run("gt", "refinery", "start", "--rig", "nope", expect=3)

    def test_a_freeze_and_a_drain_are_pauses_of_their_own_kind(self, here: Here, rig: Rig, item: str) -> None:
        here.json("gt", "refinery", "pause", "--rig", rig.name, "--above-priority", "1")
        assert here.json("gt", "refinery", "status", "--rig", rig.name)[0]["above_priority"] == 1
        here.json("gt", "refinery", "resume", "--rig", rig.name)
        here.json("gt", "refinery", "pause", "--rig", rig.name, "--drain")
        assert here.json("gt", "refinery", "status", "--rig", rig.name)[0]["state"] == "draining"
        both = ("--drain", "--above-priority", "1")
        here.run("gt", "refinery", "pause", "--rig", rig.name, *both, expect=2)

    def test_stats_have_the_keys_that_scripts_rely_on(self, here: Here, rig: Rig, item: str) -> None:
        told = here.json("gt", "refinery", "stats", "--rig", rig.name)
        rates = {"landed_per_hour", "runs_per_landed", "wait_p50_s", "wait_p95_s", "failure_rate"}
        assert {"landed", "sent_back", "gate_runs", "gates", *rates} <= set(told)
        assert "failure rate" in here.run("gt", "refinery", "stats", "--rig", rig.name).out

    @pytest.mark.parametrize(
        ("line", "key", "value"),
        [
            (documented("gt refinery config --retry-count=3"), "merge_queue.retry_count", 3),
            (documented("gt refinery config --retry-delay=60"), "merge_queue.retry_delay", 60),
        ],
    )
    def test_the_users_spelling_of_a_setting_holds_for_the_town(
        self, here: Here, rig: Rig, item: str, line: list[str], key: str, value: int
    ) -> None:
        rows = {row["key"]: row for row in here.json(*line)}
        assert (rows[key]["value"], rows[key]["origin"]) == (value, "town")
        assert here.json("gt", "config", key)["value"] == value

    def test_a_setting_of_one_rig_leaves_the_town_as_it_was_and_nonsense_is_refused(
        self, here: Here, rig: Rig, item: str
    ) -> None:
        given = ("--retry-count", "7", "--retry-delay", "5m", "--confirm-runs", "2", "--max-concurrent", "2")
        rows = {row["key"]: row for row in here.json("gt", "refinery", "config", "--rig", rig.name, *given)}
        shown = {key: (row["value"], row["origin"]) for key, row in rows.items() if row["origin"] == "rig"}
        assert shown == {
            "merge_queue.retry_count": (7, "rig"),
            "merge_queue.retry_delay": (300, "rig"),
            "merge_queue.confirm_runs": ("2", "rig"),
            "merge_queue.max_concurrent": (2, "rig"),
        }
        assert here.json("gt", "config", "merge_queue.retry_count")["origin"] == "default"
        here.run("gt", "refinery", "config", "--retry-count=-1", expect=2)
        here.run("gt", "refinery", "config", "--rig", "nope", "--retry-count=1", expect=3)
        assert "retry_count" in here.run("gt", "refinery", "config").out

    def test_a_gate_that_lies_is_in_the_stats_and_in_the_inbox(self, here: Here, rig: Rig, server: int) -> None:
        lies = GateRecord(gate="test", flakes=5, runs=50, failures=7, flaky_runs=5, flaked_at="a" * 40)
        state = RefineryState(rig=rig.name, seen=Seen(gates=(lies,)))

        async def begin(client: Client) -> None:
            await client.start_workflow(
                names.WorkflowType.REFINERY.value,
                state,
                id=names.refinery_id(rig.name),
                task_queue=names.TOWN_QUEUE,
            )

        on_server(server, begin)
        (gate,) = here.json("gt", "refinery", "stats", "--rig", rig.name)["gates"]
        assert (gate["gate"], gate["flaky_runs"], gate["flaked_at"]) == ("test", 5, "a" * 40)
        items = [item for item in here.json("gt", "inbox") if item["kind"] == "gate"]
        assert [item["command"] for item in items] == [f"gt refinery stats --rig {rig.name}"]
