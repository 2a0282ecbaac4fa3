"""`gt status` of a town that lives, and a rig's workflows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from temporalio.client import Client

from ledger.store import Ledger
from models import names
from models.ledger.records import Bead, Rig
from services.town import Town
from tests.cli.conftest import Here
from tests.cli.living.conftest import on_server, wait_until_listed


@pytest.mark.usefixtures("worker")
class TestStatus:
    def test_it_has_the_keys_that_scripts_rely_on(self, here: Here, rig: Rig, bead: Bead, ledger: Ledger) -> None:
        here.run("gt", "sling", bead.id, rig.name, "--agent", "true hang")
        here.run("gt", "escalate", "x")
        shown = here.json("gt", "status")
        assert {"town", "healthy", "services", "rigs", "jobs", "escalations", "web_url"} <= set(shown)
        assert {"name", "state", "pid", "restarts"} <= set(shown["services"][0])
        (row,) = shown["rigs"]
        assert row["queue"] | {"pause_reason": ""} == {
            "waiting": 0, "merging": 0, "paused": False, "pause_reason": "", "troubles": [],
        }  # fmt: skip
        assert row["ungated"] is True
        (polecat,) = row["polecats"]
        keys = {"name", "state", "bead", "attempt", "host", "health", "heartbeat_age_s", "progress_age_s"}
        assert keys <= set(polecat)
        assert (polecat["name"], polecat["bead"], polecat["host"]) == ("nux", bead.id, "h1")
        assert shown["jobs"][0]["waits_for"] == "a person"

    def test_a_person_pauses_a_rig_and_the_inbox_names_the_command_that_ends_it(self, here: Here, rig: Rig) -> None:
        paused = here.json("gt", "rig", "pause", rig.name, "--reason", "release day")
        assert (paused["rig"], paused["paused"]) == (rig.name, True)
        assert paused["pause_reason"].startswith("release day (")
        assert "PAUSED: release day" in here.run("gt", "status").out
        [item] = [one for one in here.json("gt", "inbox") if one["kind"] == "rig"]
        assert (item["rig"], item["command"]) == (rig.name, f"gt rig resume {rig.name}")
        assert "release day" in item["why"]
        here.run(*item["command"].split())
        assert [one for one in here.json("gt", "inbox") if one["kind"] == "rig"] == []
        here.run("gt", "rig", "pause", "no-such-rig", expect=3)

    def test_text_fits_the_terminal(self, here: Here, rig: Rig, bead: Bead, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        here.run("gt", "sling", bead.id, rig.name, "--agent", "true hang")
        here.run("gt", "escalate", "a long story " * 20)
        lines = here.run("gt", "status").out.splitlines()
        assert max(len(line) for line in lines[1:]) <= 80

    def test_with_the_ledger_gone_the_living_rigs_are_still_shown(
        self, here: Here, rig: Rig, bead: Bead, town: Town
    ) -> None:
        here.run("gt", "sling", bead.id, rig.name, "--agent", "true hang")
        wait_until_listed(town, bead.id)
        town.paths.doltlite_file.write_bytes(b"no ledger")
        outcome = here.run("gt", "status", "-o", "json")
        assert "the ledger cannot be read" in outcome.err
        assert outcome.json["healthy"] is False
        assert rig.name in {row["name"] for row in outcome.json["rigs"]}
        assert bead.id in {job["bead"] for job in outcome.json["jobs"]}


@pytest.mark.usefixtures("worker")
class TestRigWorkflows:
    def test_adding_starts_them_and_removing_ends_them(self, here: Here, remote: Path, server: int) -> None:
        name = f"rig-{os.urandom(4).hex()}"
        here.run("gt", "rig", "add", name, str(remote), "--gate", "test=true")
        assert _running(server, name) == {f"dispatch/{name}", f"witness/{name}", f"refinery/{name}"}
        here.run("gt", "rig", "remove", name, "--yes")
        assert _running(server, name) == set()
        assert here.json("gt", "rig", "list") == []


def _running(server: int, rig: str) -> set[str]:
    async def look(client: Client) -> set[str]:
        found = set()
        for workflow_id in (names.dispatch_id(rig), names.witness_id(rig), names.refinery_id(rig)):
            description = await client.get_workflow_handle(workflow_id).describe()
            if description.status is not None and description.status.name == "RUNNING":
                found.add(workflow_id)
        return found

    running: set[str] = on_server(server, look)
    return running
