"""What fits into what a long-lived workflow carries."""

from __future__ import annotations

from datetime import UTC, datetime

from models.ledger.records import MergeRequest, TargetBase
from policies.dispatch.room import AT_ONCE, change_bytes, has_room, job_bytes, room_for


def test_one_more_fits_as_long_as_all_of_them_do() -> None:
    assert has_room([400, 400], 200, 1000)
    assert not has_room([400, 400], 201, 1000)
    assert not has_room([], 1, 0)


def test_as_many_come_in_as_fit_and_some_at_a_time() -> None:
    assert room_for([400, 400], 100, 1000) == 2
    assert room_for([900, 400], 100, 1000) == 0
    assert room_for([], 1, 1000) == AT_ONCE


def test_a_job_grows_with_its_rigs_url_and_with_what_it_waits_for() -> None:
    small = job_bytes("main of /srv/shop.git", ())
    assert job_bytes("main of /srv/shop.git", ("sh-1",)) > small
    assert job_bytes("main of https://example.org/shop.git", ()) > small


def test_a_change_grows_with_its_title_in_bytes_and_with_the_bases_of_its_attempts() -> None:
    request = MergeRequest(
        id="sh-1.1", rig="shop", bead="sh-1", title="uu", polecat="toast", attempt=1, branch="polecat/sh-1",
        head_sha="a" * 40, target="main", submitted_at=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    assert change_bytes(request.model_copy(update={"title": "üü"})) == change_bytes(request) + 2
    based = request.model_copy(update={"bases": (TargetBase(target="main", sha="b" * 40),)})
    more = len(based.model_dump_json()) - len(request.model_dump_json())
    assert change_bytes(based) - change_bytes(request) >= more
