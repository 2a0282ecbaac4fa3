"""What a database driver's error means: try again, or which failure to report."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from models.errors import DAMAGED_HINT, DISK_FULL_HINT, ErrorCode, GtError

_CONFLICT_CODES = frozenset({1205, 1213})
_LOST_CODES = frozenset({1040, 1053, 1158, 1159, 1160, 1161, 2002, 2003, 2006, 2013, 2014, 2055})
_DENIED_CODES = frozenset({1044, 1045, 1698})
_UNKNOWN_DATABASE = 1049
_MISSING_TABLE_OR_COLUMN = frozenset({1054, 1146})
_LEFT = re.compile(r"Packet sequence number wrong|this connection can no longer be used|too many connections", re.I)
"""Words of a server that has given up a connection; a garbage collection is one reason."""
_UP_HINT = "gt up"


class NotRecorded(Exception):
    """The ledger said that it committed, and then did not have the commit."""


@dataclass(frozen=True)
class Fault:
    """A failure to report, and whether the same transaction may succeed when it is run again."""

    error: GtError
    again: bool


def fault_of(error: DBAPIError | PoolTimeout | NotRecorded) -> Fault:
    """Classify a driver's error of either engine."""
    if isinstance(error, NotRecorded):
        return Fault(GtError(ErrorCode.LEDGER_CONFLICT, "a write was not found again after its commit"), True)
    if isinstance(error, PoolTimeout):
        return Fault(GtError(ErrorCode.LEDGER_CONFLICT, "every connection to the ledger is in use"), True)
    original = error.orig
    text = " ".join(str(part) for part in (original.args if original is not None else ())) or str(error)
    if re.search(r"no space left on device|disk is full", text, re.IGNORECASE):
        return Fault(GtError(ErrorCode.DISK_FULL, "the ledger's disk is full", DISK_FULL_HINT), False)
    if type(original).__module__.startswith("pymysql"):
        return _server_fault(error, text)
    return _embedded_fault(error, text)


def _server_fault(error: DBAPIError, text: str) -> Fault:
    code = _code(error)
    if code in _CONFLICT_CODES or isinstance(error, IntegrityError) or "constraint violations" in text:
        return _conflict(text)
    if code in _DENIED_CODES:
        return _unreachable(f"the ledger's server refuses this user or password: {_short(text)}", again=False)
    if code == _UNKNOWN_DATABASE:
        return _unreachable(f"the ledger's server has no such database: {_short(text)}", again=False)
    if code in _MISSING_TABLE_OR_COLUMN:
        return _damaged(text)
    lost = code in _LOST_CODES or error.connection_invalidated
    # Code 0 is pymysql's InterfaceError: the connection broke before this statement.
    if lost or code in (0, errno.ECONNRESET, errno.ECONNREFUSED) or _LEFT.search(text):
        return _unreachable(f"the ledger's server does not answer: {_short(text)}", again=True)
    return Fault(GtError(ErrorCode.INTERNAL, f"the ledger's server refuses a statement: {_short(text)}"), False)


def _embedded_fault(error: DBAPIError, text: str) -> Fault:
    if isinstance(error, IntegrityError) or re.search(r"locked|busy|conflict", text, re.IGNORECASE):
        return _conflict(text)
    if re.search(r"not a database|malformed|corrupt|failed to load|no such (table|column)", text, re.IGNORECASE):
        return _damaged(text)
    if re.search(r"unable to open|disk I/O error|readonly|read-only", text, re.IGNORECASE):
        return _unreachable(f"the ledger's file cannot be used: {_short(text)}", again=False)
    return Fault(GtError(ErrorCode.INTERNAL, f"the ledger refuses a statement: {_short(text)}"), False)


def _code(error: DBAPIError) -> int | None:
    arguments = error.orig.args if error.orig is not None else ()
    return arguments[0] if arguments and isinstance(arguments[0], int) else None


def _conflict(text: str) -> Fault:
    return Fault(GtError(ErrorCode.LEDGER_CONFLICT, f"others write the same rows of the ledger: {_short(text)}"), True)


def _unreachable(message: str, *, again: bool) -> Fault:
    return Fault(GtError(ErrorCode.LEDGER_UNREACHABLE, message, _UP_HINT), again)


def _damaged(text: str) -> Fault:
    return Fault(GtError(ErrorCode.LEDGER_DAMAGED, f"the ledger is damaged: {_short(text)}", DAMAGED_HINT), False)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else line[:197] + "..."
