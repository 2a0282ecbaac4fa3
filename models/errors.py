"""The closed set of failures that the system reports.

Each failure has a code, a level (product.md section 3: L1 transient to L4 disaster), the exit
code that a command ends with (interface.md), and whether trying again can help.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

DISK_FULL_HINT = "free some room on that disk: gt polecat parked expire drops what was kept long enough"
DAMAGED_HINT = "gt down; put a backup of the ledger in its place; gt up"


class Level(StrEnum):
    """Severity of a fault, by who has to act."""

    L1 = "L1"
    """Transient: retried by itself."""
    L2 = "L2"
    """An agent: the agent is restarted."""
    L3 = "L3"
    """A system: contained, alerted, a human acts."""
    L4 = "L4"
    """A disaster: backup and restore, failover."""


class ExitCode(IntEnum):
    """What a command's exit status means."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    REFUSED = 5
    TIMED_OUT = 6
    INTERRUPTED = 130


class ErrorCode(StrEnum):
    """The name of a failure; it is also the `type` of the ApplicationError in Temporal."""

    INVALID_NAME = "invalid_name"
    INVALID_VALUE = "invalid_value"
    NOT_FOUND = "not_found"
    ALREADY_EXISTS = "already_exists"
    REFUSED = "refused"
    STALE_ATTEMPT = "stale_attempt"
    TIMED_OUT = "timed_out"
    TEMPORAL_UNREACHABLE = "temporal_unreachable"
    LEDGER_UNREACHABLE = "ledger_unreachable"
    LEDGER_CONFLICT = "ledger_conflict"
    LEDGER_DAMAGED = "ledger_damaged"
    LEDGER_NEWER = "ledger_newer"
    REMOTE_UNREACHABLE = "remote_unreachable"
    REMOTE_REFUSED = "remote_refused"
    NOT_A_REPOSITORY = "not_a_repository"
    NO_SUCH_BRANCH = "no_such_branch"
    GIT_FAILED = "git_failed"
    TMUX_FAILED = "tmux_failed"
    AGENT_NOT_FOUND = "agent_not_found"
    PROGRAM_MISSING = "program_missing"
    PORT_TAKEN = "port_taken"
    SERVICE_FAILED = "service_failed"
    DISK_FULL = "disk_full"
    CHANNEL_FAILED = "channel_failed"
    INTERNAL = "internal"


@dataclass(frozen=True)
class ErrorTraits:
    """What follows from an error's code alone."""

    level: Level
    exit_code: ExitCode
    retryable: bool


_TRAITS: dict[ErrorCode, ErrorTraits] = {
    ErrorCode.INVALID_NAME: ErrorTraits(Level.L1, ExitCode.USAGE, False),
    ErrorCode.INVALID_VALUE: ErrorTraits(Level.L1, ExitCode.USAGE, False),
    ErrorCode.NOT_FOUND: ErrorTraits(Level.L1, ExitCode.NOT_FOUND, False),
    ErrorCode.ALREADY_EXISTS: ErrorTraits(Level.L1, ExitCode.REFUSED, False),
    ErrorCode.REFUSED: ErrorTraits(Level.L1, ExitCode.REFUSED, False),
    ErrorCode.STALE_ATTEMPT: ErrorTraits(Level.L1, ExitCode.REFUSED, False),
    ErrorCode.TIMED_OUT: ErrorTraits(Level.L1, ExitCode.TIMED_OUT, True),
    ErrorCode.TEMPORAL_UNREACHABLE: ErrorTraits(Level.L3, ExitCode.UNREACHABLE, True),
    ErrorCode.LEDGER_UNREACHABLE: ErrorTraits(Level.L3, ExitCode.UNREACHABLE, True),
    ErrorCode.LEDGER_CONFLICT: ErrorTraits(Level.L1, ExitCode.FAILED, True),
    ErrorCode.LEDGER_DAMAGED: ErrorTraits(Level.L4, ExitCode.FAILED, True),
    ErrorCode.LEDGER_NEWER: ErrorTraits(Level.L3, ExitCode.FAILED, True),
    ErrorCode.REMOTE_UNREACHABLE: ErrorTraits(Level.L1, ExitCode.UNREACHABLE, True),
    ErrorCode.REMOTE_REFUSED: ErrorTraits(Level.L3, ExitCode.REFUSED, False),
    ErrorCode.NOT_A_REPOSITORY: ErrorTraits(Level.L3, ExitCode.FAILED, False),
    ErrorCode.NO_SUCH_BRANCH: ErrorTraits(Level.L1, ExitCode.NOT_FOUND, False),
    ErrorCode.GIT_FAILED: ErrorTraits(Level.L1, ExitCode.FAILED, True),
    ErrorCode.TMUX_FAILED: ErrorTraits(Level.L2, ExitCode.FAILED, True),
    ErrorCode.AGENT_NOT_FOUND: ErrorTraits(Level.L2, ExitCode.USAGE, False),
    ErrorCode.PROGRAM_MISSING: ErrorTraits(Level.L3, ExitCode.FAILED, False),
    ErrorCode.PORT_TAKEN: ErrorTraits(Level.L3, ExitCode.FAILED, False),
    ErrorCode.SERVICE_FAILED: ErrorTraits(Level.L3, ExitCode.FAILED, True),
    ErrorCode.DISK_FULL: ErrorTraits(Level.L3, ExitCode.FAILED, True),
    ErrorCode.CHANNEL_FAILED: ErrorTraits(Level.L1, ExitCode.FAILED, True),
    ErrorCode.INTERNAL: ErrorTraits(Level.L3, ExitCode.FAILED, False),
}


class GtError(Exception):
    """A failure with a code, a message for people and, where there is one, the next step.

    Args:
        code: which failure it is.
        message: what happened, in one line, without the word "error".
        hint: a command or an action that helps, or "".
    """

    def __init__(self, code: ErrorCode, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

    @property
    def traits(self) -> ErrorTraits:
        return _TRAITS[self.code]

    @property
    def level(self) -> Level:
        return self.traits.level

    @property
    def exit_code(self) -> ExitCode:
        return self.traits.exit_code

    @property
    def retryable(self) -> bool:
        return self.traits.retryable
