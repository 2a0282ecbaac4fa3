"""From inside a sandbox: commands that the town runs for an agent (services/worker/agent_door.py).

Standard library only.

GT_DOOR names the folder of the door's socket; it is set in a sandbox alone.
"""

from __future__ import annotations

import json
import socket
import sys
from typing import Any

from agents.door import MOST_BYTES, door_socket
from cli.frame import streams
from cli.session import agent_rights
from cli.session.agent_session import Refusal

WAIT_S = 90.0
_MOST_ANSWER = 64_000_000


def hand_in(folder: str, program: str, name: str, arguments: list[str]) -> int | None:
    """Have the town run `PROGRAM NAME ARGUMENTS`: its exit code, once what it said was said here.

    Returns:
        None where the command line itself has to answer: nobody is at the door, and it can without the town.

    Raises:
        Refusal: nobody is at the door, or more is said than it takes.
    """
    stdin = ""
    if "-" in arguments and not sys.stdin.isatty():
        stdin = sys.stdin.buffer.read(MOST_BYTES + 1).decode("utf-8", "replace")
    token = str((agent_rights.session_record() or {}).get("token", ""))
    request = {"token": token, "program": program, "words": [*name.split(), *arguments], "stdin": stdin}
    said = json.dumps(request).encode()
    if len(said) > MOST_BYTES:
        raise Refusal(f"the request is longer than {MOST_BYTES} bytes", "say it shorter, or commit it as a file")
    try:
        answer = _ask(folder, said + b"\n")
        code, out, err = int(answer["code"]), str(answer["out"]), str(answer["err"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        if (program, name) == ("bd", "show"):
            return None  # of the own bead there is a copy
        raise Refusal(f"the town does not answer: {error}", "try again in a minute", "UNREACHABLE") from None
    for stream, text in ((sys.stdout, out), (sys.stderr, err)):
        try:
            stream.write(streams.printable(text))
            stream.flush()
        except OSError:
            streams.let_go(stream.fileno())
    return code


def _ask(folder: str, said: bytes) -> Any:
    with door_socket(folder) as place, socket.socket(socket.AF_UNIX) as door:
        door.settimeout(WAIT_S)
        door.connect(place)
        door.sendall(said)
        pieces = [b""]
        while len(pieces) < _MOST_ANSWER // 65_536 and (piece := door.recv(65_536)):
            pieces.append(piece)
    return json.loads(b"".join(pieces))
