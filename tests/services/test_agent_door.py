"""The door of the sandboxes: whose requests it takes, and what it refuses with which reason."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agents import session_folder
from agents.door import SOCKET, door_socket
from agents.tokens import new_token
from models.errors import ExitCode
from models.town import TownPaths
from services.worker import agent_door
from services.worker.agent_door import REQUESTS, AgentDoor

TOKEN = new_token()
STAND_IN = '#!/bin/sh\necho "$(basename "$0") $*"\necho "in $GT_TASK_FILE of $GT_TOWN" >&2\ncat\nexit 3\n'


@pytest.fixture
def paths(tmp_path: Path) -> TownPaths:
    """A town, deeper down than the address of a socket may be long, with an attempt that runs."""
    paths = TownPaths(tmp_path / ("deep" * 20) / "town")
    folder = paths.session("shop", "toast", "sh-1", 1)
    for place in (folder, paths.attempts / folder.relative_to(paths.sessions)):
        session_folder.write_json(place / session_folder.SESSION, {session_folder.TOKEN_KEY: TOKEN})
    paths.bin.mkdir(parents=True)
    for program in ("gt", "bd"):
        (paths.bin / program).write_text(STAND_IN)
        (paths.bin / program).chmod(0o755)
    return paths


@pytest.fixture
async def door(paths: TownPaths) -> AsyncIterator[AgentDoor]:
    opened = AgentDoor(paths, {"PATH": os.environ["PATH"], "GT_DOLT_PASSWORD": "x"})
    async with opened.listening():
        yield opened


async def send(paths: TownPaths, said: bytes) -> dict[str, Any]:
    with door_socket(paths.door) as place:
        reader, writer = await asyncio.open_unix_connection(place)
    writer.write(said)
    writer.write_eof()
    answer: dict[str, Any] = json.loads(await reader.read())
    writer.close()
    return answer


def request(*words: str, program: str = "bd", token: Any = TOKEN, **more: Any) -> bytes:
    return json.dumps({"token": token, "program": program, "words": words, **more}).encode() + b"\n"


async def test_a_line_is_run_as_in_its_session_with_its_input(paths: TownPaths, door: AgentDoor) -> None:
    answer = await send(paths, request("mail", "send", "mayor", "-s", "x", "-", program="gt", stdin="all\nis well\n"))
    record = paths.attempts / "shop" / "toast" / "sh-1" / "1"
    assert answer == {
        "code": 3,
        "out": "gt mail send mayor -s x -\nall\nis well\n",
        "err": f"in {record / session_folder.TASK} of {paths.root}\n",
    }
    assert ((paths.door / SOCKET).stat().st_mode & 0o777) == 0o600


REFUSED = {
    "a made-up token": (request("list", token=new_token()), "no attempt that runs has this token"),
    "no token": (request("list", token=""), "no attempt that runs"),
    "a token that is no text": (request("list", token=["x"]), "no attempt that runs"),
    "a command that harms": (request("close", "sh-1"), "`bd close` cannot be run from a sandbox"),
    "one that writes files": (request("export", "/etc/passwd"), "`bd export` cannot be run"),
    "one behind an option": (request("-o", "json", "export"), "`bd -o` cannot be run"),
    "another program": (request("x", program="../../bin/sh"), "cannot be run from a sandbox"),
    "another town": (request("list", "--town=/elsewhere"), "--town is not an agent's to give"),
    "too much": (request("comment", "sh-1", "x" * 1_000_000), "the request is longer than 200000 bytes"),
    "a word that no process takes": (request("comment", "a\0b"), "that is no request"),
    "a number for a word": (request("list", 7), "that is no request"),  # type: ignore[arg-type]
    "text for words": (b'{"token": "x", "program": "bd", "words": "list"}\n', "that is no request"),
    "no JSON": (b"GET / HTTP/1.1\r\n\r\n", "that is no request"),
    "deep JSON": (b"[" * 100_000, "that is no request"),
    "nothing": (b"", "that is no request"),
}


@pytest.mark.parametrize("kind", REFUSED)
async def test_what_is_no_agents_to_ask_is_refused_with_the_reason(
    paths: TownPaths, door: AgentDoor, kind: str
) -> None:
    said, reason = REFUSED[kind]
    answer = await send(paths, said)
    assert (answer["code"], answer["out"]) == (ExitCode.REFUSED, "")
    assert reason in answer["err"]


async def test_an_attempt_that_is_over_is_heard_no_more(paths: TownPaths, door: AgentDoor) -> None:
    folder = paths.session("shop", "toast", "sh-1", 1)
    (folder / session_folder.ENDED).write_text("the job is over")
    assert "the attempt is over: the job is over" in (await send(paths, request("list")))["err"]
    (folder / session_folder.ENDED).unlink()
    assert (await send(paths, request("list")))["code"] == 3
    paths.session("shop", "nux", "sh-1", 2).mkdir(parents=True)
    assert "attempt 2 runs now" in (await send(paths, request("list")))["err"]


async def test_what_an_agent_writes_into_its_own_record_makes_it_nobody_else(paths: TownPaths, door: AgentDoor) -> None:
    planted = new_token()
    folder = paths.session("shop", "toast", "sh-1", 1)
    session_folder.write_json(folder / session_folder.SESSION, {session_folder.TOKEN_KEY: planted, "may": ["bd close"]})
    assert "no attempt that runs" in (await send(paths, request("list", token=planted)))["err"]


async def test_of_a_thousand_requests_a_minute_s_worth_is_taken(
    paths: TownPaths, door: AgentDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert agent_door.REQUESTS_EVERY_S == 60
    monkeypatch.setattr(agent_door, "REQUESTS_EVERY_S", 3600.0)  # a busy machine may take minutes for a thousand
    answers = [await send(paths, request("close", "sh-1")) for _ in range(1000)]
    told = [answer["err"].partition("\n")[0] for answer in answers]
    assert told[:REQUESTS] == ["error: `bd close` cannot be run from a sandbox"] * REQUESTS
    assert set(told[REQUESTS:]) == {f"error: more than {REQUESTS} requests within 3600 s"}
    assert "no attempt that runs" in (await send(paths, request("list", token=new_token())))["err"], "others are heard"


async def test_connections_that_say_nothing_keep_no_other_from_being_told(
    paths: TownPaths, door: AgentDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_door, "CONNECTIONS", 3)
    monkeypatch.setattr(agent_door, "READ_S", 3600.0)  # a busy machine may let the silent ones go before that
    silent = [socket.socket(socket.AF_UNIX) for _ in range(3)]
    with door_socket(paths.door) as place:
        for one in silent:
            one.connect(place)
        answer = await send(paths, b"")
    assert "more than 3 requests at once" in answer["err"]
    for one in silent:
        one.close()
    while (await send(paths, request("list")))["code"] != 3:
        await asyncio.sleep(0.01)


async def test_a_command_that_does_not_end_is_ended(
    paths: TownPaths, door: AgentDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_door, "RUN_S", 0.1)
    (paths.bin / "bd").write_text("#!/bin/sh\nexec sleep 600\n")
    answer = await send(paths, request("list"))
    assert (answer["code"], answer["err"].partition("\n")[0]) == (ExitCode.TIMED_OUT, "error: no answer within 0 s")


async def test_a_door_that_is_opened_again_is_the_same(paths: TownPaths) -> None:
    for _ in range(2):
        async with AgentDoor(paths).listening():
            assert (await send(paths, request("list")))["code"] == 3
