"""Parked work as several hosts tell it: one entry a ref, and a command that finds what one host alone has."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cli.polecat.parked import chosen, fetch_command, together
from models.errors import ErrorCode, GtError
from models.supervision.host_requests import ParkedWork

AT = datetime(2026, 1, 1, tzinfo=UTC)
KEPT = ("files/.env",)


def work(attempt: int = 1, *, on_remote: bool = True, parked: bool = True, **more: object) -> ParkedWork:
    ref = f"refs/gastown/{'parked' if parked else 'wip'}/sh-1/{attempt}"
    facts = {
        "ref": ref, "sha": "a" * 40, "rig": "shop", "bead": "sh-1", "attempt": attempt, "parked": parked,
        "saved_at": AT + timedelta(hours=attempt), "subject": "x", "files": 1, "on_remote": on_remote, "landed": False,
    }  # fmt: skip
    return ParkedWork.model_validate({**facts, **more})


def test_what_the_remote_has_is_one_entry_of_the_host_that_is_asked_first() -> None:
    (one,) = together({"h1": [work()], "h2": [work()]})
    assert (one.host, one.on_remote, one.kept_host) == ("h1", True, "")


def test_what_one_host_alone_has_names_that_host() -> None:
    found = together({"h1": [work(1)], "h2": [work(1), work(2, on_remote=False)]})
    assert [(one.attempt, one.host) for one in found] == [(2, "h2"), (1, "h1")]


def test_a_host_that_cannot_reach_the_remote_takes_nothing_from_what_others_say() -> None:
    (one,) = together({"h1": [work(on_remote=False)], "h2": [work()]})
    assert (one.host, one.on_remote) == ("h2", True)


@pytest.mark.parametrize("sha", ["", "a" * 40])
def test_files_that_one_host_has_go_with_the_work_wherever_that_is(sha: str) -> None:
    keeps = work(on_remote=False, sha=sha, kept_files=KEPT, kept_folder="/town/kept")
    for told in ({"h1": [work()], "h2": [keeps]}, {"h2": [keeps], "h1": [work()]}):
        (one,) = together(told)
        assert (one.host, one.sha, one.kept_host, one.kept_folder) == ("h1", "a" * 40, "h2", "/town/kept")


def test_the_newest_attempt_is_chosen_and_parked_before_saved() -> None:
    works = [work(1), work(3, parked=False), work(3), work(2)]
    assert chosen(works, "sh-1", None, ()) == work(3)
    assert chosen(works, "sh-1", 2, ("h9",)) == work(2)


@pytest.mark.parametrize(
    ("works", "bead", "attempt"),
    [([], "sh-1", None), ([work()], "sh-2", None), ([work()], "sh-1", 7), ([work(sha="")], "sh-1", None)],
)
def test_what_nobody_has_is_not_found_unless_a_silent_host_may_have_it(
    works: list[ParkedWork], bead: str, attempt: int | None
) -> None:
    with pytest.raises(GtError) as missing:
        chosen(works, bead, attempt, ())
    assert missing.value.code is ErrorCode.NOT_FOUND
    with pytest.raises(GtError, match="h2 did not") as away:
        chosen(works, bead, attempt, ("h2",))
    assert away.value.code is ErrorCode.TEMPORAL_UNREACHABLE
    assert "on h2" in away.value.hint


def test_files_are_fetched_by_a_command_for_the_host_one_is_on() -> None:
    keeps = work(kept_files=KEPT, kept_folder="/a town/kept", kept_host="h2")
    assert fetch_command(keeps, "h2") == "cp -a '/a town/kept' ."
    assert fetch_command(keeps, "h1") == "scp -rp h2:'/a town/kept' ."
    assert fetch_command(work(), "h1") == ""
