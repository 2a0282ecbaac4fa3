"""The one way out of an agent's sandbox: commands that `agent.may` names, run for it by the town.

A sandbox shows neither ledger nor Temporal. Each host's worker listens on a Unix socket that every sandbox sees
(`run/door/`); an agent's `gt` and `bd` hand their line in with the token of its attempt (cli/session/agent_door.py),
and here it is run outside, as if in that session. Whose token it is, and what that attempt may do, is read from the
town's own copy of the session's record, which no agent sees: what it writes into its own session.json changes nothing
here.

One request a connection: a line of JSON, `{token, program, words, stdin}`; the answer: `{code, out, err}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from agents import session_folder
from agents.door import MOST_BYTES, door_socket
from agents.tokens import carries
from models.errors import ExitCode
from models.town import TownPaths

OPEN: Final = frozenset(
    {
        *("bd show", "bd comments", "bd log", "bd comment", "bd list", "bd ready", "bd search", "bd create"),
        *("gt mail send", "gt mail reply", "gt mail search"),
    }
)
"""Commands that may be handed in: they name no file of the host and wait for nobody."""
REQUESTS: Final = 60
REQUESTS_EVERY_S: Final = 60.0
"""Of one attempt so many are taken in this time."""
AT_ONCE: Final = 2
"""commands that run; others wait"""
CONNECTIONS: Final = 50
READ_S: Final = 10.0
RUN_S: Final = 60.0
_RETRY_S: Final = 5.0
_PIECE: Final = 65_536

_log = logging.getLogger(__name__)


class AgentDoor:
    """The door of one host.

    Args:
        environment: what the commands inherit; the worker's by default.
    """

    def __init__(self, paths: TownPaths, environment: Mapping[str, str] | None = None) -> None:
        self._paths = paths
        self._environment = dict(os.environ if environment is None else environment)
        self._running = asyncio.Semaphore(AT_ONCE)
        self._connections = 0
        self._taken: dict[Path, deque[float]] = {}
        """by attempt: when its last requests were taken, in monotonic seconds"""

    async def serve(self) -> None:
        """Listen; returns never."""
        while True:
            try:
                async with self.listening():
                    await asyncio.Event().wait()
            except OSError as error:
                _log.warning("agents cannot hand in commands: %s", error)
                await asyncio.sleep(_RETRY_S)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Requests are answered meanwhile.

        Raises:
            OSError: the socket cannot be made.
        """
        folder = self._paths.door
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with door_socket(folder) as place:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(place)
            before = os.umask(0o177)
            try:
                server = await asyncio.start_unix_server(self._greet, place)
            finally:
                os.umask(before)
            async with server:
                yield

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            with contextlib.suppress(OSError, TimeoutError):
                if self._connections > CONNECTIONS:
                    answer = _refusal(f"more than {CONNECTIONS} requests at once", "try again")
                else:
                    async with asyncio.timeout(READ_S):
                        raw = await _line(reader)
                    answer = await self.answer(raw)
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        finally:
            self._connections -= 1
            writer.close()

    async def answer(self, raw: bytes | None) -> dict[str, Any]:
        """What comes of a request; None: it was too long."""
        if raw is None:
            return _refusal(f"the request is longer than {MOST_BYTES} bytes", "say it shorter, or commit it as a file")
        try:
            told = json.loads(raw)
            program, words, stdin = told["program"], told["words"], told.get("stdin", "")
            whole = all(isinstance(word, str) and "\0" not in word for word in (program, stdin, *words))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            whole = False
        if not whole or not isinstance(words, list):
            return _refusal("that is no request")
        record = self._record_of(told)
        if record is None:
            return _refusal("no attempt that runs has this token: it is over, or it never was one", "stop working here")
        why = session_folder.over_because(self._session(record))
        if why:
            return _refusal(f"the attempt is over: {why}", "stop working here: nothing more of it will be taken")
        if not self._take(record):
            return _refusal(f"more than {REQUESTS} requests within {REQUESTS_EVERY_S:.0f} s", "wait a minute")
        command = " ".join([program, *words[: 2 if words[:1] == ["mail"] else 1]])
        if command not in OPEN:
            return _refusal(f"`{command[:60]}` cannot be run from a sandbox", "gt prime names what can be")
        if any(word.startswith("--town") for word in words):
            return _refusal("a session belongs to its own town: --town is not an agent's to give")
        async with self._running:
            return await self._run(record, program, words, stdin)

    def _record_of(self, told: Mapping[str, Any]) -> Path | None:
        """The folder of the town's record of the attempt that has the request's token."""
        for path in self._paths.attempts.glob(f"*/*/*/*/{session_folder.SESSION}"):
            record = session_folder.read_json(path)
            if record is not None and carries(told, record.get(session_folder.TOKEN_KEY)):
                return path.parent
        return None

    def _session(self, record: Path) -> Path:
        return self._paths.sessions / record.relative_to(self._paths.attempts)

    def _take(self, record: Path) -> bool:
        """Whether one more request of this attempt is taken."""
        now = time.monotonic()
        self._taken = {one: times for one, times in self._taken.items() if now - times[-1] < REQUESTS_EVERY_S}
        times = self._taken.setdefault(record, deque(maxlen=REQUESTS))
        if len(times) == REQUESTS and now - times[0] < REQUESTS_EVERY_S:
            return False
        times.append(now)
        return True

    async def _run(self, record: Path, program: str, words: Sequence[str], stdin: str) -> dict[str, Any]:
        environment = {
            **self._environment,
            "GT_TOWN": str(self._paths.root),
            "GT_TASK_FILE": str(record / session_folder.TASK),
            "NO_COLOR": "1",
        }
        process = await asyncio.create_subprocess_exec(
            str(self._paths.bin / program), *words, cwd=self._paths.root, env=environment,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(RUN_S):
                out, err = await process.communicate(stdin.encode("utf-8", "replace"))
        except TimeoutError:
            return _failure(ExitCode.TIMED_OUT, f"no answer within {RUN_S:.0f} s", "try again")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return {
            "code": process.returncode,
            "out": out.decode("utf-8", "replace"),
            "err": err.decode("utf-8", "replace"),
        }


async def _line(reader: asyncio.StreamReader) -> bytes | None:
    """What is sent before the end of a line, or of the connection; None: too much, which is read all the same, since
    whoever sends would not hear the answer otherwise."""
    said, long = b"", False
    while piece := await reader.read(_PIECE):
        line, end, _ = piece.partition(b"\n")
        said += b"" if long else line
        long = long or len(said) > MOST_BYTES
        if end:
            break
    return None if long else said


def _refusal(message: str, hint: str = "") -> dict[str, Any]:
    return _failure(ExitCode.REFUSED, message, hint)


def _failure(code: ExitCode, message: str, hint: str = "") -> dict[str, Any]:
    return {"code": int(code), "out": "", "err": f"error: {message}\n" + (f"hint: {hint}\n" if hint else "")}
