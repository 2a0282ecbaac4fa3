"""`gt escalate` on a real Mayor."""

from __future__ import annotations

import pytest

from models.records import Bead, Rig
from tests.cli.conftest import Here


@pytest.mark.usefixtures("worker")
class TestEscalate:
    def test_a_person_s_problem_is_listed_acknowledged_and_resolved(self, here: Here, rig: Rig, bead: Bead) -> None:
        told = here.json("gt", "escalate", "the build box is on fire", "--bead", bead.id, "--severity", "critical")
        rows = {row["id"]: row for row in here.json("gt", "escalate", "list")}
        row = rows[told["id"]]
        assert {"id", "severity", "kind", "source", "bead", "opened_at", "acked", "message"} <= set(row)
        assert (row["severity"], row["bead"], row["acked"]) == ("critical", bead.id, False)
        assert row["message"] == "the build box is on fire"
        assert told["id"] in {one["id"] for one in here.json("gt", "status")["escalations"]}
        assert here.json("gt", "escalate", "ack", told["id"])["acked"] is True
        resolved = here.json("gt", "escalate", "resolve", told["id"], "--action", "ignore")
        assert (resolved["resolved"], resolved["action"]) == (True, "ignore")
        assert told["id"] not in {row["id"] for row in here.json("gt", "escalate", "list")}
        assert told["id"] in {row["id"] for row in here.json("gt", "escalate", "list", "--all")}

    def test_an_unknown_one_is_not_found(self, here: Here, rig: Rig) -> None:
        here.run("gt", "escalate", "something")
        here.run("gt", "escalate", "ack", "nope", expect=3)
        here.run("gt", "escalate", "resolve", "nope", "--action", "retry", expect=3)

    def test_an_empty_problem_is_no_problem(self, here: Here, rig: Rig) -> None:
        here.run("gt", "escalate", " ", expect=2)
