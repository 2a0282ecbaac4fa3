"""tmux: one server per town on its own socket; every target exact, every command in argv form.

The server starts with a clean environment. A session's whole environment travels in the
environment of the client that makes it (tmux copies the names in `update-environment`), so that
no key of the user is ever an argument that `ps` shows.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from activities.crash_points import crash_point
from activities.sessions.process_tree import Panes, Traces, end_processes
from agents.environment import server_environment
from models import names
from models.errors import ErrorCode, GtError
from policies.security.redaction import redact
from services import tmux_server

HISTORY_LINES: Final = 20_000
TIMEOUT_S: Final = 10.0
"""A tmux server that does not answer within this is stopped or wedged."""
ARRIVAL_TIMEOUT_S: Final = 5.0

_COLUMNS, _ROWS = 200, 50
_NO_SERVER: Final = (*tmux_server.NOT_FOUND, "no current target")
_SEARCHES: Final = 3
"""Two processes that miss the socket at once may have it made twice, under each other's hands."""
_SERVER_FORMAT: Final = "#{pid}|#{socket_path}"
_SETTINGS: Final[tuple[tuple[str, ...], ...]] = (
    ("set", "-s", "exit-empty", "off"),
    ("set", "-g", "remain-on-exit", "on"),
    ("set", "-g", "history-limit", str(HISTORY_LINES)),
    ("set", "-g", "status", "off"),
    ("set", "-g", "automatic-rename", "off"),
    ("set", "-g", "allow-rename", "off"),
)
_DEATH_NOTICE: Final = re.compile(r"^Pane is dead \([^\n]*\)\Z", re.MULTILINE)
"""tmux writes it on the last row, below as many blank ones as the pane has left: what was said stands above."""
_LETTER: Final = "@gt_letter"
_PANE_FORMAT: Final = "|".join(
    (
        "#{pane_id}",
        "#{pane_pid}",
        "#{pane_dead}",
        "#{pane_dead_status}",
        "#{pane_dead_signal}",
        "#{window_activity}",
        "#{@gt_attempt}",
        "#{@gt_bead}",
        "#{session_name}",
    )
)


@dataclass(frozen=True)
class PaneFacts:
    """The agent's pane of one session, as tmux shows it."""

    session: str
    pane_id: str
    pane_pid: int
    """of the agent's first process; once dead, the number may belong to somebody else"""
    dead: bool
    dead_status: int | None
    """exit code, where the process ended by itself"""
    dead_signal: int | None
    """what ended it otherwise; None too where tmux is too old to tell"""
    activity_at: int
    """Unix time of the last output"""
    bead: str
    attempt: int
    """what the session was started for; "" and 0 in a session that is not ours"""

    @property
    def alive(self) -> bool:
        return not self.dead

    @property
    def exit_code(self) -> int | None:
        """Of a dead pane, as a shell would number it; None: alive, or tmux does not know (yet)."""
        return self.dead_status if self.dead_signal is None else 128 + self.dead_signal


class Tmux:
    """One tmux server, named by its socket.

    Args:
        record: file that remembers the server's process, so that it is found though its socket was deleted.
        clean: takes secrets out of what panes show; by default those of known shapes.

    Every method raises GtError: PROGRAM_MISSING without tmux, TMUX_FAILED where it refuses or
    does not answer. A server that does not run is not an error: it has no sessions.
    """

    def __init__(self, socket: str, record: Path | None = None, clean: Callable[[str], str] = redact) -> None:
        self.socket = socket
        self._record = record
        self.clean = clean
        self._starting = threading.Lock()

    def panes(self) -> dict[str, PaneFacts]:
        """The agent's pane of every session, by session name, from one call.

        A person may have split a window; the agent's pane is the oldest one of its session.
        """
        answer = self._run(["list-panes", "-a", "-F", _PANE_FORMAT])
        if answer is None:
            return {}
        found: dict[str, PaneFacts] = {}
        for line in answer.splitlines():
            pane = _pane(line)
            if pane is not None and (pane.session not in found or _age(pane) < _age(found[pane.session])):
                found[pane.session] = pane
        return found

    def new_session(
        self, name: str, cwd: Path, environment: Mapping[str, str], argv: Sequence[str], *, bead: str, attempt: int
    ) -> None:
        """Start `argv` in a new session and tag it with the bead and the attempt.

        Args:
            environment: the agent's whole environment (tmux adds TERM and its own variables).
        """
        # Names one by one: tmux 3.3 copies only the first variable that a pattern matches.
        copied = ["set", "-g", "update-environment", " ".join(name for name in environment if name.isidentifier())]
        make = ["new-session", "-d", "-s", name, "-x", str(_COLUMNS), "-y", str(_ROWS)]
        # tmux expands formats in the directory (`#{…}`, `#(…)` would even run), so `#` is doubled.
        make += ["-c", str(cwd).replace("#", "##"), "--", *argv]
        tags = [
            ["set", "-t", _target(name), "@gt_bead", bead],
            ["set", "-t", _target(name), "@gt_attempt", str(attempt)],
        ]
        with self._starting:
            # Where the server has only lost its socket, a second one would hide all that run under the first.
            self._find_again()
            # Apart from the session's own call: the first client's environment becomes the server's.
            starting = _joined(["start-server"], *map(list, _SETTINGS), ["display-message", "-p", _SERVER_FORMAT])
            self._remember(self._demand(starting, server_environment(os.environ)))
            self._demand(_joined(copied, make, *tags, ["set", "-s", "exit-empty", "on"]), environment)

    def capture(self, name: str, lines: int) -> str:
        """The last `lines` lines of the agent's pane; "" without a session.

        Without secrets, and without what tmux adds below the lines.
        """
        return self.clean(self._shown(name, lines))

    def _shown(self, name: str, lines: int) -> str:
        command = ["capture-pane", "-p", "-J", "-S", f"-{lines}", "-t", f"{_target(name)}^.{{top-left}}"]
        answer = self._run(command, may_fail=True)
        text = _DEATH_NOTICE.sub("", (answer or "").rstrip()).rstrip()
        return "\n".join(text.splitlines()[-lines:])

    def send_text(self, name: str, text: str, letter: str = "") -> None:
        """Paste `text` into the agent's pane and press Enter, each once what came before has arrived.

        Args:
            letter: what the session remembers it by: what was typed of it is not typed again.

        Raises:
            GtError: NOT_FOUND without such a session; TMUX_FAILED when the pane shows no change.
        """
        if name not in self.panes():
            raise GtError(ErrorCode.NOT_FOUND, f"there is no session {name}", "gt polecat list")
        target = f"{_target(name)}^.{{top-left}}"
        buffer = f"gt-{uuid.uuid4().hex}"
        typed = self._run(["show-options", "-qv", "-t", _target(name), _LETTER], may_fail=True) if letter else None
        typed = (typed or "").strip()
        if typed == f"{letter} entered":
            return
        if typed != f"{letter} pasted":
            before = self._shown(name, _ROWS)
            self._demand(["load-buffer", "-b", buffer, "-"], text=text)
            paste = ["paste-buffer", "-p", "-d", "-b", buffer, "-t", target]
            self._demand(_joined(paste, ["set", "-t", _target(name), _LETTER, f"{letter} pasted"]))
            crash_point("nudge.pasted")
            arrived = _within(ARRIVAL_TIMEOUT_S, lambda: self._shown(name, _ROWS) != before)
            if not arrived:
                raise GtError(ErrorCode.TMUX_FAILED, f"the text did not arrive in session {name}", "gt peek NAME")
        enter = ["send-keys", "-t", target, "Enter"]
        self._demand(_joined(enter, ["set", "-t", _target(name), _LETTER, f"{letter} entered"]))
        crash_point("nudge.entered")

    def kill_session(self, name: str, traces: Traces | None = None) -> None:
        """End the session and every process of it: SIGTERM, SIGKILL, then the session itself.

        Args:
            traces: what daemons that left the pane are known by.
        """
        end_processes(self._panes_of(name), traces)
        self._run(["kill-session", "-t", _target(name)], may_fail=True)

    def kill_leftovers(self, traces: Traces) -> None:
        """End processes that outlived their session (a killed tmux server leaves such)."""
        shown = (self._run(["display-message", "-p", "#{pid}"], may_fail=True) or "").strip()
        end_processes(Panes(server=_number(shown)), traces)

    def kill_server(self) -> None:
        """End every session with its processes, then the server."""
        for name in self.panes():
            self.kill_session(name)
        self._run(["kill-server"], may_fail=True)

    def _panes_of(self, name: str) -> Panes:
        shown = self._run(
            ["list-panes", "-s", "-t", _target(name), "-F", "#{pane_dead} #{pane_pid} #{pid}"],
            may_fail=True,
        )
        rows = [line.split() for line in (shown or "").splitlines()]
        return Panes(
            living=frozenset(int(pid) for dead, pid, _ in rows if dead == "0"),
            dead=frozenset(int(pid) for dead, pid, _ in rows if dead != "0"),
            server=int(rows[0][2]) if rows else None,
        )

    def _demand(self, command: list[str], environment: Mapping[str, str] | None = None, text: str | None = None) -> str:
        answer = self._run(command, environment=environment, text=text)
        if answer is None:
            raise GtError(ErrorCode.TMUX_FAILED, "the tmux server ended while it was used")
        return answer

    def _find_again(self) -> bool:
        return self._record is not None and tmux_server.find_again(self._record)

    def _remember(self, shown: str) -> None:
        pid, _, path = shown.strip().partition("|")
        if self._record is not None and pid.isdecimal():
            tmux_server.remember(self._record, int(pid), path)

    def _run(
        self,
        command: list[str],
        *,
        environment: Mapping[str, str] | None = None,
        text: str | None = None,
        may_fail: bool = False,
    ) -> str | None:
        """Standard output; None where no server runs (or, with `may_fail`, where tmux refuses)."""
        for _ in range(_SEARCHES):
            answer = self._called(command, environment, text)
            if answer.returncode == 0:
                return answer.stdout
            missing = any(sign in answer.stderr for sign in tmux_server.NOT_FOUND)
            if not missing or not self._find_again():
                break
        else:
            raise GtError(ErrorCode.TMUX_FAILED, f"the tmux server lives and does not answer: {answer.stderr.strip()}")
        if may_fail or any(sign in answer.stderr for sign in _NO_SERVER):
            return None
        raise GtError(ErrorCode.TMUX_FAILED, f"tmux {command[0]}: {answer.stderr.strip() or 'failed'}")

    def _called(
        self, command: list[str], environment: Mapping[str, str] | None, text: str | None
    ) -> subprocess.CompletedProcess[str]:
        # -u: without it tmux writes what is not ASCII as underscores.
        argv = ["tmux", "-u", "-L", self.socket, "-f", "/dev/null", *command]
        try:
            return subprocess.run(
                argv,
                env=self._client_environment(environment),
                input=text,
                stdin=subprocess.DEVNULL if text is None else None,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=TIMEOUT_S,
                check=False,
            )
        except FileNotFoundError:
            raise GtError(
                ErrorCode.PROGRAM_MISSING, "tmux is not installed", "install tmux 3.2 or newer (apt install tmux)"
            ) from None
        except subprocess.TimeoutExpired:
            raise GtError(
                ErrorCode.TMUX_FAILED,
                f"tmux did not answer for {TIMEOUT_S:.0f} s",
                "if it stays so: gt down --sessions && gt up",
            ) from None

    def _client_environment(self, environment: Mapping[str, str] | None) -> dict[str, str]:
        """Every client must look for the socket where the server has put it."""
        if environment is None:
            return server_environment(os.environ)
        sockets = {"TMUX_TMPDIR": os.environ["TMUX_TMPDIR"]} if "TMUX_TMPDIR" in os.environ else {}
        return {name: value for name, value in environment.items() if name != "TMUX_TMPDIR"} | sockets


def _target(name: str) -> str:
    """Exactly this session: without `=` tmux takes prefixes and patterns."""
    return f"={name}:"


def _joined(*commands: list[str]) -> list[str]:
    """Several commands in one call. An argument that ends in `;` would end its command, so it is escaped."""
    joined: list[str] = []
    for command in commands:
        if joined:
            joined.append(";")
        joined += [f"{word[:-1]}\\;" if word.endswith(";") else word for word in command]
    return joined


def _pane(line: str) -> PaneFacts | None:
    fields = line.split("|", 8)
    if len(fields) != 9:
        return None
    pane_id, pid, dead, status, signal, activity, attempt, bead, session = fields
    return PaneFacts(
        session=session,
        pane_id=pane_id,
        pane_pid=_number(pid) or 0,
        dead=dead == "1",
        dead_status=_number(status),
        dead_signal=_number(signal),
        activity_at=_number(activity) or 0,
        bead=bead if _is_bead(bead) else "",
        attempt=_number(attempt) or 0,
    )


def _is_bead(text: str) -> bool:
    """Tags can be changed from inside the session, so what they say is checked."""
    try:
        return bool(names.valid_bead(text))
    except GtError:
        return False


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _age(pane: PaneFacts) -> int:
    return _number(pane.pane_id.removeprefix("%")) or 0


def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
