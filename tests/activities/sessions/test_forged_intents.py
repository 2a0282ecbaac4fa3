"""What is put into a session's folder by somebody who is not that session's agent."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from agents import session_folder
from agents.tokens import carries, new_token
from cli.session.agent_done import is_told_already, tell
from cli.session.agent_session import Session
from models.job.messages import ObservationKind
from policies.security.secret_scan import secret_in
from tests.activities.sessions.desk import IDLE, WORKS, Desk, eventually
from tests.activities.sessions.lookout import Lookout

DONE = {"bead": "sh-1", "attempt": 1, "status": "nothing-to-do", "head_sha": "", "message": "all is well", "at": ""}
HELP = {"problem": "reassign it", "severity": "critical", "bead": "sh-1", "attempt": 1, "at": ""}


@pytest.fixture
def lookout(desk: Desk) -> Lookout:
    return Lookout(desk)


def token_of(folder: Path) -> str:
    record = session_folder.read_json(folder / session_folder.SESSION)
    assert record is not None
    return str(record[session_folder.TOKEN_KEY])


FORGERS: dict[str, Callable[[Desk], dict[str, str]]] = {
    "no token": lambda desk: {},
    "an empty one": lambda desk: {session_folder.TOKEN_KEY: ""},
    "no text": lambda desk: {session_folder.TOKEN_KEY: ["x"]},  # type: ignore[dict-item]
    "half a letter": lambda desk: {session_folder.TOKEN_KEY: "\ud800"},
    "one of that shape": lambda desk: {session_folder.TOKEN_KEY: new_token()},
    "its own": lambda desk: {session_folder.TOKEN_KEY: token_of(desk.folder(bead="sh-2", polecat="nux"))},
    "the beginning of it": lambda desk: {session_folder.TOKEN_KEY: token_of(desk.folder())[:-1]},
    "that of the attempt before": lambda desk: {session_folder.TOKEN_KEY: token_of(desk.folder(attempt=1))},
}


@pytest.mark.parametrize("forger", FORGERS)
def test_nobody_hands_in_or_asks_in_the_name_of_another(desk: Desk, lookout: Lookout, forger: str) -> None:
    attempt = 2 if forger == "that of the attempt before" else 1
    for number in range(1, attempt + 1):
        desk.start(IDLE, attempt=number)
    desk.start(IDLE, bead="sh-2", polecat="nux")
    forged, folder = FORGERS[forger](desk), desk.folder(attempt=attempt)
    session_folder.write_json(folder / session_folder.DONE, DONE | forged)
    session_folder.write_json(folder / session_folder.HELP / "1.json", HELP | forged)
    for _ in range(2):
        lookout.look()
        assert lookout.said() == []
        place = f"sh-1/{attempt}"
        assert lookout.last.forged == (f"{place}/done.json", f"{place}/help/1.json")
    lookout.relieve()
    lookout.look()
    assert lookout.said() == [], "nor does a worker that was started anew believe it"
    (folder / session_folder.DONE).unlink()
    (folder / session_folder.HELP / "1.json").unlink()
    assert lookout.look().forged == ()


def test_a_forged_intent_does_not_keep_the_agents_own_from_being_heard(desk: Desk, lookout: Lookout) -> None:
    desk.start(IDLE)
    session = Session(desk.folder())
    mine = {**DONE, "status": "completed", "head_sha": "a" * 40}
    session_folder.write_json(session.folder / session_folder.DONE, mine)
    assert not is_told_already(session, "completed", "a" * 40)
    tell(session, mine)
    assert is_told_already(session, "completed", "a" * 40)
    lookout.look()
    assert (lookout.only().kind, lookout.last.forged) == (ObservationKind.DONE, ())


def test_a_token_that_is_replaced_while_it_is_watched_changes_nothing(desk: Desk, lookout: Lookout) -> None:
    desk.start(IDLE)
    lookout.look()
    record = session_folder.read_json(desk.folder() / session_folder.SESSION)
    assert record is not None
    planted = {session_folder.TOKEN_KEY: new_token()}
    session_folder.write_json(desk.folder() / session_folder.SESSION, record | planted)
    session_folder.write_json(desk.folder() / session_folder.DONE, DONE | planted)
    lookout.look()
    assert (lookout.said(), lookout.last.forged) == ([], ("sh-1/1/done.json",))


def test_a_planted_record_does_not_choose_the_token_of_an_attempt_to_come(desk: Desk) -> None:
    session_folder.write_json(desk.folder() / session_folder.SESSION, {session_folder.TOKEN_KEY: "gtat_mine"})
    desk.start(IDLE)
    assert token_of(desk.folder()) != "gtat_mine"


def test_the_token_is_only_where_the_attempt_is(desk: Desk, lookout: Lookout) -> None:
    desk.start(
        f'true; cat "${{GT_TASK_FILE%/*}}/session.json"; gt escalate "which till?"; gt prime; gt hook -o json; {WORKS}'
    )
    eventually(lambda: (desk.folder() / session_folder.DONE).exists())
    token = token_of(desk.folder())
    assert (secret_in(token.encode()), len(token)) == ("an attempt's token", 45)
    report = lookout.look()
    assert {one.kind for one in report.observations} == {ObservationKind.HELP, ObservationKind.DONE}
    assert token not in report.model_dump_json()
    taken = desk.take()
    assert taken.accepted
    assert token not in taken.model_dump_json()
    for seen in report.observations:
        desk.settle(seen.intent)
    assert token not in desk.tmux.capture("shop--toast", 500)
    desk.end()
    assert '"attempt": 1' in desk.evidence()["pane.txt"], "the agent has shown all of its record"
    holders = {
        path
        for path in desk.paths.root.rglob("*")
        if path.is_file() and not path.is_symlink() and token.encode() in path.read_bytes()
    }
    assert holders == {desk.folder() / name for name in (session_folder.SESSION, session_folder.DONE_TAKEN)}
    assert {stat.S_IMODE(path.stat().st_mode) for path in holders} == {0o600}


def test_only_the_very_token_is_one() -> None:
    token = new_token()
    assert carries({session_folder.TOKEN_KEY: token}, token)
    for given, wanted in [(token, ""), ("", ""), (token, None), (None, token), (token.upper(), token), (7, token)]:
        assert not carries({session_folder.TOKEN_KEY: given}, wanted)
    assert not carries(json.loads("{}"), token)
