"""Rigs and hosts, on both engines."""

from __future__ import annotations

import pytest

from ledger.store import Ledger
from models.errors import ErrorCode, GtError
from models.ledger.records import GateSpec
from tests.ledger.records import START, a_bead, a_host, a_merge, a_rig, a_write


def test_a_rig_comes_back_as_it_was_added(ledger: Ledger) -> None:
    rig = a_rig(gates=(GateSpec(name="build", command="make -j2"), GateSpec(name="test", command="x", timeout_s=5)))
    assert ledger.add_rig(rig) == rig
    assert ledger.rig("shop") == rig
    assert ledger.rigs() == [rig]


def test_adding_the_same_rig_twice_is_one_and_keeps_the_first_time(ledger: Ledger) -> None:
    ledger.add_rig(a_rig())
    again = ledger.add_rig(a_rig(created_at=START.replace(year=2030)))
    assert again == a_rig()
    assert len(ledger.rigs()) == 1


@pytest.mark.parametrize("other", [a_rig(url="elsewhere"), a_rig("market", prefix="sh")])
def test_another_rig_of_the_same_name_or_prefix_is_refused(ledger: Ledger, other: object) -> None:
    ledger.add_rig(a_rig())
    with pytest.raises(GtError) as failure:
        ledger.add_rig(other)  # type: ignore[arg-type]
    assert failure.value.code is ErrorCode.ALREADY_EXISTS
    assert ledger.rigs() == [a_rig()]


def test_no_rig_may_be_named_like_the_scope_of_the_town(ledger: Ledger) -> None:
    with pytest.raises(GtError) as failure:
        ledger.add_rig(a_rig("town"))
    assert failure.value.code is ErrorCode.INVALID_NAME


def test_an_unknown_rig_is_not_found_and_the_hint_lists_rigs(ledger: Ledger) -> None:
    for ask in (ledger.rig, ledger.remove_rig):
        with pytest.raises(GtError) as failure:
            ask("nowhere")
        assert (failure.value.code, failure.value.hint) == (ErrorCode.NOT_FOUND, "gt rig list")


def test_a_rig_with_an_unfinished_job_is_not_removed(ledger: Ledger) -> None:
    bead = a_bead(ledger).id
    ledger.record_job([a_write(bead, 1, 1)])
    with pytest.raises(GtError) as failure:
        ledger.remove_rig("shop")
    assert (failure.value.code, failure.value.hint) == (ErrorCode.REFUSED, f"gt job cancel {bead}")
    ledger.record_job([a_merge(bead, 1, 2)])
    ledger.remove_rig("shop")
    assert ledger.rigs() == []


def test_the_beads_of_a_removed_rig_stay_and_its_settings_go(ledger: Ledger) -> None:
    bead = a_bead(ledger)
    ledger.set_setting("shop", "health.grace", 5)
    ledger.remove_rig("shop")
    assert ledger.bead(bead.id) == bead
    ledger.add_rig(a_rig())
    assert ledger.settings("shop") == {}


def test_a_host_registers_once_and_may_change_its_cores(ledger: Ledger) -> None:
    ledger.register_host(a_host())
    later = a_host(cores=8).model_copy(update={"registered_at": START.replace(year=2030)})
    assert ledger.register_host(later) == a_host(cores=8)
    ledger.register_host(a_host("barn"))
    assert [host.name for host in ledger.hosts()] == ["barn", "mill"]
