"""`gt escalate` on a real Mayor."""

from __future__ import annotations

import pytest

from models.records import Bead, Rig
from tests.cli.conftest import Commands


@pytest.mark.usefixtures("worker")
class TestEscalate:
    def test_a_person_s_problem_is_listed_acknowledged_and_resolved(
        self, commands: Commands, rig: Rig, bead: Bead
    ) -> None:
        told = commands.json("gt", "escalate", "the build box is on fire", "--bead", bead.id, "--severity", "critical")
        rows = {row["id"]: row for row in commands.json("gt", "escalate", "list")}
        row = rows[told["id"]]
        assert {"id", "severity", "kind", "source", "bead", "opened_at", "acked", "message"} <= set(row)
        assert (row["severity"], row["bead"], row["acked"]) == ("critical", bead.id, False)
        assert row["message"] == "the build box is on fire"
        assert told["id"] in {one["id"] for one in commands.json("gt", "status")["escalations"]}
        assert commands.json("gt", "escalate", "ack", told["id"])["acked"] is True
        resolved = commands.json("gt", "escalate", "resolve", told["id"], "--action", "ignore")
        assert (resolved["resolved"], resolved["action"]) == (True, "ignore")
        assert told["id"] not in {row["id"] for row in commands.json("gt", "escalate", "list")}
        assert told["id"] in {row["id"] for row in commands.json("gt", "escalate", "list", "--all")}

    def test_an_unknown_one_is_not_found(self, commands: Commands, rig: Rig) -> None:
        commands.run("gt", "escalate", "something")
        commands.run("gt", "escalate", "ack", "nope", expect=3)
        commands.run("gt", "escalate", "resolve", "nope", "--action", "retry", expect=3)

    def test_an_empty_problem_is_no_problem(self, commands: Commands, rig: Rig) -> None:
        commands.run("gt", "escalate", " ", expect=2)
