"""Asking the town's command server (cli/frame/command_server.py) to run a command that only reads.

Standard library only, and of that what loads in a few milliseconds: `_socket`, not `socket`. Whatever is not as it
should be (no server, another version, no answer in time), the command runs in this process instead, and says the same.
"""

from __future__ import annotations

import _socket
import os
import sys
from collections.abc import Sequence

SERVED = frozenset(
    {
        *(
            "gt status",
            "gt inbox",
            "gt why",
            "gt peek",
            "gt job list",
            "gt job show",
            "gt escalate list",
            "gt rig list",
        ),
        *("gt refinery queue", "gt refinery status", "gt refinery history", "gt refinery why", "gt refinery stats"),
        *(
            "gt witness status",
            "gt deacon status",
            "gt boot status",
            "gt mayor status",
            "gt mail inbox",
            "gt mail search",
        ),
        *("gt polecat list", "gt polecat status", "gt polecat peek", "gt config list"),
        *("bd show", "bd list", "bd ready", "bd search", "bd comments", "bd log", "bd diff", "bd dep tree"),
        *("bd label list", "bd mol list", "bd mol show", "bd mol progress"),
    }
)
"""Commands that change nothing and ask nobody anything."""
SOCKET = "commands.sock"
"""in the town's run/"""
START_S = 2.0
"""for the server to answer at all; what a command takes after that is its own affair"""
CODE = "\0".join(
    [os.path.dirname(os.path.dirname(os.path.dirname(__file__))), sys.prefix, sys.version, sys.getfilesystemencoding()]
).encode("utf-8", "backslashreplace")
"""whose commands these are: the server says the same, or it is not asked"""
_WITH_VALUE = ("-o", "--output", "--town")


def ask(program: str, argv: Sequence[str]) -> int | None:
    """The exit code of `PROGRAM ARGV`, run by the town's command server with this process's terminal, files, directory
    and environment; None: it was not, and is to be run here."""
    if sys.platform != "linux":
        return None
    words, town = _words(argv)
    if not any(" ".join([program, *words[:count]]) in SERVED for count in (1, 2)):
        return None
    try:
        root = town or os.environ.get("GT_TOWN") or _town_here()
        return _asked(os.path.join(root, "run"), program, argv) if root else None
    except (OSError, ValueError):
        return None


def request_of(program: str, argv: Sequence[str]) -> bytes:
    """What the server is told: NUL stands in no argument and no variable."""
    texts = [program, sys.stdout.encoding, sys.stderr.encoding, str(len(argv)), *argv]
    return b"\0".join([*map(os.fsencode, texts), *(name + b"=" + value for name, value in os.environb.items())])


def _words(argv: Sequence[str]) -> tuple[list[str], str]:
    """The words before the first option that is not every command's, and the value of --town."""
    words, town = [], ""
    rest = iter(argv)
    for word in rest:
        name, equals, value = word.partition("=")
        if name in _WITH_VALUE:
            value = value if equals else next(rest, "")
            town = value if name == "--town" else town
        elif not word.startswith("-"):
            words.append(word)
        elif word != "--debug" and not (word.startswith("-o") and word[2:] in {"json", "text"}):
            break
    return words, town


def _town_here() -> str:
    """The town around the current directory; "" for one in another: an agent may have made that of its worktree."""
    folder, found = os.getcwd(), []
    while True:
        if os.path.isfile(os.path.join(folder, "town.toml")):
            found.append(folder)
        above = os.path.dirname(folder)
        if above == folder:
            return found[0] if len(found) == 1 else ""
        folder = above


def _asked(run: str, program: str, argv: Sequence[str]) -> int | None:
    # By way of the folder: a socket's own path may be longer than its address may be.
    handles = [os.open(os.path.expanduser(run), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]
    server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        server.settimeout(START_S)
        server.connect(f"/proc/self/fd/{handles[0]}/{SOCKET}")
        if peer_of(server) != os.getuid() or _line(server) != CODE:
            return None
        handles.append(os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        request = request_of(program, argv)
        passed = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2, handles[1]))
        length = len(request).to_bytes(8, sys.byteorder)
        server.sendmsg([length], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, passed)])
        server.sendall(request)
        server.settimeout(None)
        return int(_line(server))
    finally:
        server.close()
        for handle in handles:
            os.close(handle)


def peer_of(connection: _socket.socket) -> int:
    """The user at the other end."""
    credentials = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[4:8], sys.byteorder)


def _line(connection: _socket.socket) -> bytes:
    """A line without its end; ValueError where the connection ends first."""
    said = b""
    while not said.endswith(b"\n"):
        piece = connection.recv(4096)
        if not piece:
            raise ValueError
        said += piece
    return said[:-1]
