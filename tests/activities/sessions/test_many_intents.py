"""An agent that tells more than anybody can hear: its neighbours are heard all the same."""

from __future__ import annotations

from pathlib import Path

from activities.sessions.scanner import MORE_HELPS
from activities.sessions.watched import HELPS, HELPS_EVERY_S
from activities.sessions.watching import MOST_BYTES, MOST_NEWS, first_news
from agents import session_folder
from models.job.attempts import observation_key
from models.job.messages import Observation, ObservationKind
from tests.activities.sessions.desk import IDLE, WORKS, Desk, eventually
from tests.activities.sessions.lookout import Lookout
from tests.activities.sessions.test_forged_intents import HELP, token_of

MANY = 3_000


def ask(folder: Path, count: int) -> None:
    token = {session_folder.TOKEN_KEY: token_of(folder)}
    (folder / session_folder.HELP / "first.json").unlink(missing_ok=True)
    session_folder.write_json(folder / session_folder.HELP / "first.json", HELP | token | {"problem": "x" * 100_000})
    for number in range(count):
        (folder / session_folder.HELP / f"{number:06}.json").hardlink_to(folder / session_folder.HELP / "first.json")


def test_of_thousands_of_calls_for_help_a_few_are_heard_and_the_others_later(desk: Desk) -> None:
    desk.start(IDLE)
    ask(desk.folder(), MANY)
    desk.start(WORKS, bead="sh-2", polecat="nux")
    eventually((desk.folder(bead="sh-2", polecat="nux") / session_folder.DONE).exists)
    lookout = Lookout(desk)
    report = lookout.look()
    assert [one.kind for one in report.observations if one.bead == "sh-2"] == [ObservationKind.DONE]
    heard = {observation_key(one) for one in report.observations if one.bead == "sh-1"}
    assert len(heard) == HELPS
    assert len(report.model_dump_json()) < 100_000
    assert report.model_dump_json().count(MORE_HELPS) == 1
    lookout.watch(5)
    assert {observation_key(one) for one in lookout.said() if one.bead == "sh-1"} == heard, "the same until later"
    for one in report.observations:
        if one.bead == "sh-1":
            desk.settle(one.intent)
    lookout.watch(int(HELPS_EVERY_S))
    later = [one for one in lookout.said() if one.bead == "sh-1"]
    assert (len(later), heard & {observation_key(one) for one in later}) == (HELPS, set())
    assert MORE_HELPS not in str(later), "that is told once"
    assert len(list((desk.folder() / session_folder.HELP).iterdir())) == MANY + 1 - HELPS, "nothing is lost"


def test_a_report_fits_into_one_of_temporals_messages() -> None:
    def told(number: int, kind: ObservationKind, detail: str) -> Observation:
        return Observation(bead=f"sh-{number}", polecat="p", host="h1", attempt=1, kind=kind, detail=detail)

    many = [told(number, ObservationKind.HELP, "x" * 4_000) for number in range(2_000)]
    dones = [told(number, ObservationKind.DONE, "") for number in range(50)]
    first = first_news([*many, *dones])
    assert set(dones) <= set(first)
    asked_first = [told(1, ObservationKind.HELP, "which way?"), told(2, ObservationKind.DONE, "")]
    assert first_news(asked_first) == tuple(asked_first), "a `gt done` heard first would end what was asked"
    assert 50 < len(first) <= MOST_NEWS
    assert sum(len(one.detail) for one in first) <= MOST_BYTES
    assert first_news([told(1, ObservationKind.HELP, "x" * (MOST_BYTES + 1))]), "one is always told"
    assert len(first_news([told(number, ObservationKind.DONE, "") for number in range(999)])) == MOST_NEWS
