"""What a further telling of an open fault does: how urgent the fault is then, and what has to end for it to be over."""

from __future__ import annotations

from datetime import UTC, datetime

from models.mayor.alerts import Alerting, Edge, Notice, Priority
from models.mayor.escalations import Escalation
from policies.mayor.notification_rules import edges
from workflows.mayor.cases import Case
from workflows.mayor.state import MayorState

START = datetime(2026, 3, 1, tzinfo=UTC)


def ledger_down(name: str, source: str, severity: str = "critical") -> Escalation:
    return Escalation(
        id=name, kind="dolt_down", level="L3", severity=severity, source=source, message=name, opened_at=START
    )


def queue_stalls(name: str) -> Escalation:
    return Escalation(
        id=name, kind="refinery_stalled", level="L3", source="deacon", rig="shop", message=name, opened_at=START
    )


def first(state: MayorState, escalation: Escalation) -> Case:
    case = state.open(escalation, START)
    assert case is not None
    state.judge(case, START)
    return case


def again(state: MayorState, *tellings: Escalation) -> None:
    for telling in tellings:
        assert state.open(telling, START) is None


def announced(state: MayorState) -> list[Notice]:
    """What people are told now."""
    holding = state.holding()
    notices = edges(state.told, holding, (), START)
    state.announce(notices, holding, Alerting())
    return notices


def test_a_fault_that_becomes_more_urgent_by_two_steps_is_told_as_what_it_is() -> None:
    state = MayorState()
    case = first(state, ledger_down("dolt_down-1a2b", "ada", "medium"))
    announced(state)
    again(state, ledger_down("dolt_down/1", "deacon"))
    [notice] = announced(state)
    assert (notice.edge, notice.priority, case.status.severity) == (Edge.REPEAT, Priority.CRITICAL, "critical")


def test_what_a_workflow_tells_anew_takes_the_place_of_what_it_had_told_before_its_code_failed() -> None:
    state = MayorState()
    case = first(state, ledger_down("dolt_down/1", "deacon"))
    again(state, ledger_down("shop.recovery.policy.1", "witness/shop"))
    state = MayorState.model_validate_json(state.model_dump_json())
    again(state, ledger_down("dolt_down/2", "deacon"), ledger_down("shop.recovery.policy.2", "witness/shop"))
    state.clear("shop.recovery.policy.2", START)
    assert len(state.open_cases()) == 1
    state.clear("dolt_down/2", START)
    assert state.open_cases() == []
    assert case.status.id == "dolt_down/1"


def test_a_late_end_of_a_telling_that_was_replaced_does_not_end_the_fault() -> None:
    state = MayorState()
    first(state, ledger_down("dolt_down/1", "deacon"))
    again(state, ledger_down("dolt_down/2", "deacon"))
    state.clear("dolt_down/1", START)
    assert [case.ids for case in state.open_cases()] == [["dolt_down/2"]]


def test_two_conditions_of_one_workflow_that_are_one_fault_both_have_to_end() -> None:
    """The Deacon finds that a Refinery does not answer, and that its queue does not get further."""
    state = MayorState()
    first(state, queue_stalls("refinery_stalled/refinery/shop/1"))
    again(state, queue_stalls("refinery_stalled/shop/1"))
    state.clear("refinery_stalled/shop/1", START)
    assert len(state.open_cases()) == 1
    state.clear("refinery_stalled/refinery/shop/1", START)
    assert state.open_cases() == []
