"""Commands that have something done on other hosts: parked work on each, mail on its session's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from temporalio.client import Client

from ledger.store import Ledger
from models import names
from models.ledger.records import Host, NewBead, Rig
from tests.cli.conftest import Here
from tests.cli.living import standins
from tests.cli.living.conftest import on_server, working
from tests.ledger.records import a_write


@pytest.fixture
def worker(server: int) -> Iterator[None]:
    with working(server, [standins.Hosts], standins.activities):
        yield


@pytest.mark.usefixtures("worker")
def test_every_host_is_asked_and_the_one_that_has_it_does_it(here: Here, ledger: Ledger, rig: Rig) -> None:
    for host in ("h2", "away"):
        ledger.register_host(Host(name=host, cores=2, registered_at=datetime.now(UTC)))
    bead = ledger.create_bead(NewBead(rig=rig.name, title="Fix", target="release")).id

    listed = here.run("gt", "polecat", "parked", "--rig", rig.name, "-o", "json")
    (work,) = listed.json
    assert "no worker answers on the host away" in listed.err
    assert (work["bead"], work["host"], work["on_remote"], work["kept_host"]) == (bead, "h2", False, "h2")
    assert work["fetch"] == "scp -rp h2:/town/kept/4 ."
    assert not work["merged"], "it has landed, but a file of it is on one host alone"

    done = here.json("gt", "polecat", "unpark", bead)
    assert (done["attempt"], done["host"], done["fetch"]) == (4, "h2", work["fetch"])
    missing = here.run("gt", "polecat", "unpark", bead, "--attempt", "2", expect=4)
    assert "away did not" in missing.err

    assert here.json("gt", "polecat", "parked", "expire", "--rig", rig.name, "--yes")["expired"] == []
    told = here.run("gt", "polecat", "parked", "expire", bead, "--yes")
    assert "files/.env" in told.out


@pytest.mark.usefixtures("worker")
def test_mail_goes_to_the_host_of_its_recipient_s_session(here: Here, ledger: Ledger, rig: Rig, server: int) -> None:
    bead = ledger.create_bead(NewBead(rig=rig.name, title="Fix")).id
    ledger.record_job([a_write(bead, 2, 1, rig=rig.name, host="h2")])
    token = f"m-{bead}-{rig.name}"
    for _ in range(2):
        here.run("gt", "mail", "send", f"{rig.name}/toast", "-s", "Hello", "there", "--id", token)

    async def sent(client: Client) -> dict[str, Any]:
        history = await client.get_workflow_handle(names.errand_id(f"mail.{token}")).fetch_history()
        (payload,) = history.events[0].workflow_execution_started_event_attributes.input.payloads
        return dict(json.loads(payload.data))

    errand = on_server(server, sent)
    assert (errand["host"], errand["task"]["bead"], errand["task"]["attempt"]) == ("h2", bead, 2)
    assert errand["task"]["letter"]["body"] == "there"
