"""`gt polecat parked`, `unpark` and `expire` ask every host, and say which did not answer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from ledger.store import Ledger
from models.records import Host, NewBead, Rig
from tests.cli.conftest import Here
from tests.cli.living import standins
from tests.cli.living.conftest import working


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
