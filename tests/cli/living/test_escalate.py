"""`gt escalate` on a real Mayor."""

from __future__ import annotations

import pytest

from ledger.store import Ledger
from models.ledger.records import Bead, Rig
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

    def test_what_it_is_about_exists_and_belongs_together(
        self, here: Here, rig: Rig, bead: Bead, ledger: Ledger
    ) -> None:
        here.run("gt", "escalate", "x", "--rig", "nope", expect=3)
        here.run("gt", "escalate", "x", "--rig", rig.name, "--bead", "sh-none", expect=3)
        other = ledger.add_rig(rig.model_copy(update={"name": f"{rig.name}-two", "prefix": f"{rig.prefix}two"}))
        refused = here.run("gt", "escalate", "x", "--rig", other.name, "--bead", bead.id, expect=5)
        assert f"--rig {rig.name}" in refused.err
        assert here.json("gt", "escalate", "x", "--bead", bead.id)["rig"] == rig.name

    def test_an_agent_s_with_options_of_a_person_s_is_still_about_its_bead(
        self, here: Here, rig: Rig, bead: Bead, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GT_RIG", rig.name)
        monkeypatch.setenv("GT_BEAD", bead.id)
        assert here.json("gt", "escalate", "93 % of /", "--kind", "disk_full")["bead"] == bead.id

    def test_nothing_of_a_long_problem_is_cut_off_or_it_is_refused(self, here: Here, rig: Rig) -> None:
        problem = "die Straße brennt " * 70
        told = here.json("gt", "escalate", problem)
        [row] = [one for one in here.json("gt", "escalate", "list") if one["id"] == told["id"]]
        assert row["message"].removesuffix("…") + row["evidence"].removeprefix("…") == problem
        refused = here.run("gt", "escalate", problem * 2, expect=2)
        assert "in fewer words" in refused.err

    def test_an_empty_problem_is_no_problem(self, here: Here, rig: Rig) -> None:
        here.run("gt", "escalate", " ", expect=2)

    def test_a_person_s_word_is_of_any_kind_and_is_in_the_inbox_until_it_is_answered(
        self, here: Here, ledger: Ledger
    ) -> None:
        told = here.json("gt", "escalate", "93 % of /", "--kind", "disk_full", "--severity", "medium")
        assert (told["kind"], told["level"], told["severity"]) == ("disk_full", "L3", "medium")
        [item] = [one for one in here.json("gt", "inbox") if one["id"] == told["id"]]
        assert (item["kind"], item["command"]) == ("escalation", f"gt escalate ack {told['id']}")
        here.run(*item["command"].split())
        [item] = [one for one in here.json("gt", "inbox") if one["id"] == told["id"]]
        assert "(seen)" in item["why"]
        here.run("gt", "escalate", "resolve", told["id"], "--action", "ignore")
        assert told["id"] not in {one["id"] for one in here.json("gt", "inbox")}

    def test_a_kind_that_does_not_exist_is_wrong_usage(self, here: Here) -> None:
        here.run("gt", "escalate", "something", "--kind", "alien", expect=2)
