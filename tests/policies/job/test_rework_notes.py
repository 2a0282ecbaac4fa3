"""What an agent and a person are told of how the last attempt ended."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from cli.demo.table import job_facts
from ledger.store import Ledger
from models.job.messages import Observation, ObservationKind
from models.ledger.records import JobEvent
from policies.job.rework_notes import death_note

GONE = "its tmux session is gone"


def death(exit_code: int | None, detail: str = "") -> Observation:
    return Observation(
        bead="sh-1", polecat="toast", host="h1", attempt=2, kind=ObservationKind.DIED,
        exit_code=exit_code, detail=detail,
    )  # fmt: skip


ENDS = [
    (death(1, "exit code 1\nTraceback …"), "it ended with exit code 1"),
    (death(0, "exit code 0"), "it ended with exit code 0"),
    (death(137, "killed by signal 9\nhalf a word"), "it was killed by signal 9"),
    (
        death(137, "exit code 137\nKilled"),
        "it ended with exit code 137 (signal 9)",
    ),
    (death(129, "exit code 129\nusage: git …"), "it ended with exit code 129"),
    (death(255, "exit code 255"), "it ended with exit code 255"),
    (death(None, GONE), GONE),
    (death(None, "the tmux server is gone"), "the tmux server is gone"),
    (death(None), "its session is gone"),
]


@pytest.mark.parametrize(("seen", "how"), ENDS)
def test_a_note_says_how_the_agent_ended(seen: Observation, how: str) -> None:
    words = [line for line in seen.detail.splitlines()[1:] if line]
    said = f" It said last: {words[0]}" if words else ""
    assert death_note(seen, "").splitlines()[0] == f"The agent of attempt 2 died: {how}.{said}"


def test_its_last_words_are_in_the_story() -> None:
    said = "exit code 1\nLoading …\n\n  You've hit your  limit\n--------\nresets 3am (UTC)\n❯\n"
    first = death_note(death(1, said), "").splitlines()[0]
    assert first.endswith("exit code 1. It said last: Loading … / You've hit your limit / resets 3am (UTC)")
    assert len(death_note(death(1, f"exit code 1\n{'x' * 9000}"), "").splitlines()[0]) < 400


def test_people_are_told_why_the_work_of_an_agent_that_ended_could_not_be_taken() -> None:
    first = death_note(death(0), "the worktree is on my-own").splitlines()[0]
    assert first.endswith("it ended with exit code 0. Its work could not be taken: the worktree is on my-own")


@pytest.mark.parametrize(("seen", "how"), ENDS)
def test_the_demonstration_names_what_the_ledger_names(seen: Observation, how: str) -> None:
    note = death_note(seen, "").splitlines()[0]
    assert what_went_wrong("agent_died", f"{note} Restart 1 of 3 at once.") == f"agent died: {how}"


def test_an_attempt_that_could_not_be_started_is_not_called_a_death_by_the_agent() -> None:
    said = "The attempt could not be started: no such branch"
    assert what_went_wrong("agent_died", said) == f"agent died: {said}"


def what_went_wrong(event: str, detail: str) -> str:
    class OneEvent:
        def job(self, _: str) -> None:
            return None

        def job_events(self, bead: str) -> list[JobEvent]:
            at = datetime(2026, 1, 1, tzinfo=UTC)
            return [JobEvent(bead=bead, attempt=2, sequence=3, at=at, event=event, detail=detail)]

    facts: dict[str, Any] = job_facts(cast(Ledger, OneEvent()), "receipt", "sh-1", "Print a receipt")
    return str(facts["what_went_wrong"])
