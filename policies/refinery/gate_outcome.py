"""What the end of a gate's command says about the change: passed, failed, or nothing at all."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from typing import Final, NamedTuple

from models.refinery.gates import GateOutcome

TAIL_BYTES: Final = 4096
_SHELL_SIGNAL_BASE: Final = 128
"""sh reports a command that died of signal n as 128 + n"""
_CRASHES: Final = frozenset(
    (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGSYS)
)
"""Signals that a program brings on itself: a test that crashes is a failing test."""
_OTHERS: Final = frozenset(
    (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGXCPU)
)
"""Signals that come from somebody else: the out-of-memory killer, an operator, a limit, a shutdown."""
_DISK_FULL: Final = re.compile(r"no space left on device|disk quota exceeded|\bENOSPC\b", re.IGNORECASE)
_ESCAPES: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours and cursor movements
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # titles and links
    r"|\x1b[@-_]"
)
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


_NO_TOOL: Final = re.compile(
    r"command not found|: not found|no such file or directory|no such command|not installed|not recognized"
    r"|could not choose a version|no default is configured|no default toolchain|toolchain '?\S*'? is not"
    r"|cannot find module|no module named|unable to locate|could not find|is not in path|version .{0,60} is not",
    re.IGNORECASE,
)
"""How shells, rustup, nvm, pyenv, asdf and their like say that a tool is not there."""
_AT_ONCE_S: Final = 2.0
"""A gate that ends later has found its tools."""
_PATH_CHARACTERS: Final = 500


class GateEnd(NamedTuple):
    outcome: GateOutcome
    reason: str = ""
    """could_not_run: timed_out, killed, not_executable, no_such_command, disk_full; others know no_sandbox"""


def gate_end(exit_code: int, *, timed_out: bool = False, disk_full: bool = False, tail: str = "") -> GateEnd:
    """Judge a gate's end.

    Args:
        exit_code: of `sh -c`; negative where it died of that signal.
        timed_out: it was ended because its time was over.
        disk_full: its log could not be written for want of space.
        tail: the last lines of its output.
    """
    if timed_out:
        return GateEnd(GateOutcome.COULD_NOT_RUN, "timed_out")
    if exit_code == 0:
        return GateEnd(GateOutcome.PASSED)
    if disk_full or _DISK_FULL.search(tail):
        return GateEnd(GateOutcome.COULD_NOT_RUN, "disk_full")
    if exit_code == 126:
        return GateEnd(GateOutcome.COULD_NOT_RUN, "not_executable")
    if exit_code == 127:
        return GateEnd(GateOutcome.COULD_NOT_RUN, "no_such_command")
    died_of = -exit_code if exit_code < 0 else exit_code - _SHELL_SIGNAL_BASE
    if died_of in _OTHERS or (exit_code < 0 and died_of not in _CRASHES):
        return GateEnd(GateOutcome.COULD_NOT_RUN, "killed")
    return GateEnd(GateOutcome.FAILED)


def missing_tool_hint(
    exit_code: int, tail: str, duration_s: float, environment: Mapping[str, str], home_setting: str
) -> str:
    """What the gate's surroundings may have to do with its end; "" where nothing says so.

    Args:
        exit_code: of `sh -c`.
        tail: the last lines of its output.
        environment: that it ran with.
        home_setting: gate.home.
    """
    at_once = duration_s <= _AT_ONCE_S and exit_code != 0
    if exit_code != 127 and not (at_once and _NO_TOOL.search(tail)):
        return ""
    home = {"scratch": "an empty folder", "kept": "a folder of the rig's own", "person": "the worker's own"}
    return (
        f"the gate ran with HOME={environment.get('HOME', '')} ({home.get(home_setting, home_setting)}) and "
        f"PATH={environment.get('PATH', '')[:_PATH_CHARACTERS]}: if the tool is set up elsewhere, see "
        "gt config gate.home person|kept, gt config gate.environment NAME=VALUE and gt config gate.setup COMMAND"
    )


_NO_NETWORK: Final = re.compile(
    r"could not resolve host|temporary failure in name resolution|name or service not known|network is unreachable"
    r"|no address associated with hostname|nodename nor servname|enotfound|eai_again|enetunreach"
    r"|failed to establish a new connection|dns error|no such host|failed to lookup address",
    re.IGNORECASE,
)
"""How programs say that there is no network."""


def no_network_hint(exit_code: int, tail: str) -> str:
    """What a gate without a network may have missed; "" where nothing says so.

    Args:
        exit_code: of `sh -c`.
        tail: the last lines of its output.
    """
    if exit_code == 0 or not _NO_NETWORK.search(tail):
        return ""
    return "gates have no network: gt config gate.network full, or setup for gate.setup alone"


def readable_tail(output: bytes, limit: int = TAIL_BYTES) -> str:
    """The last lines of `output` for people: UTF-8, no escape sequences, at most `limit` bytes."""
    text = _ESCAPES.sub("", output.decode("utf-8", "replace"))
    # What a progress bar wrote over stands before the last carriage return of its line.
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    cleaned = _CONTROLS.sub("", "\n".join(lines)).strip("\n")
    encoded = cleaned.encode()
    if len(encoded) <= limit:
        return cleaned
    kept = encoded[-limit:].decode("utf-8", "ignore")
    _, newline, whole_lines = kept.partition("\n")
    return whole_lines if newline and whole_lines else kept
