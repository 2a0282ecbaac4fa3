"""Which failure a driver's error is."""

from __future__ import annotations

import sqlite3

import pymysql
import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ledger.engine.faults import NotRecorded, fault_of
from models.errors import ErrorCode


def wrapped(error: Exception, kind: type[DBAPIError] = DBAPIError) -> DBAPIError:
    return kind("SELECT 1", {}, error)


@pytest.mark.parametrize(
    ("error", "code", "again"),
    [
        (pymysql.OperationalError(1213, "serialization failure"), ErrorCode.LEDGER_CONFLICT, True),
        (pymysql.OperationalError(1205, "lock wait timeout"), ErrorCode.LEDGER_CONFLICT, True),
        (pymysql.OperationalError(1105, "… with constraint violations, …"), ErrorCode.LEDGER_CONFLICT, True),
        (pymysql.OperationalError(2013, "Lost connection"), ErrorCode.LEDGER_UNREACHABLE, True),
        (pymysql.OperationalError(2006, "gone away"), ErrorCode.LEDGER_UNREACHABLE, True),
        (pymysql.OperationalError(2003, "Can't connect"), ErrorCode.LEDGER_UNREACHABLE, True),
        (pymysql.OperationalError(1040, "Too many connections"), ErrorCode.LEDGER_UNREACHABLE, True),
        (
            pymysql.OperationalError(1105, "… garbage collection. this connection can no longer be used. …"),
            ErrorCode.LEDGER_UNREACHABLE,
            True,
        ),
        (pymysql.InterfaceError(0, ""), ErrorCode.LEDGER_UNREACHABLE, True),
        (pymysql.InternalError("Packet sequence number wrong - got 1"), ErrorCode.LEDGER_UNREACHABLE, True),
        (pymysql.OperationalError(1045, "Access denied"), ErrorCode.LEDGER_UNREACHABLE, False),
        (pymysql.OperationalError(1049, "database not found: x"), ErrorCode.LEDGER_UNREACHABLE, False),
        (pymysql.ProgrammingError(1146, "table not found: beads"), ErrorCode.LEDGER_DAMAGED, False),
        (pymysql.OperationalError(1105, "write x: no space left on device"), ErrorCode.DISK_FULL, False),
        (pymysql.ProgrammingError(1064, "syntax"), ErrorCode.INTERNAL, False),
        (sqlite3.OperationalError("database is locked"), ErrorCode.LEDGER_CONFLICT, True),
        (sqlite3.DatabaseError("database disk image is malformed"), ErrorCode.LEDGER_DAMAGED, False),
        (sqlite3.OperationalError("no such table: beads"), ErrorCode.LEDGER_DAMAGED, False),
        (sqlite3.OperationalError("database or disk is full"), ErrorCode.DISK_FULL, False),
        (sqlite3.OperationalError("attempt to write a readonly database"), ErrorCode.LEDGER_UNREACHABLE, False),
        (sqlite3.OperationalError("near SELECT: syntax error"), ErrorCode.INTERNAL, False),
    ],
)
def test_a_drivers_error_is_classified(error: Exception, code: ErrorCode, again: bool) -> None:
    fault = fault_of(wrapped(error))
    assert (fault.error.code, fault.again) == (code, again)
    assert len(fault.error.message) < 300


def test_a_duplicate_key_a_full_pool_and_a_lost_commit_are_conflicts_worth_a_retry() -> None:
    for error in (
        wrapped(pymysql.IntegrityError(1062, "duplicate"), IntegrityError),
        wrapped(sqlite3.IntegrityError("UNIQUE constraint failed"), IntegrityError),
        PoolTimeout(),
        NotRecorded(),
    ):
        fault = fault_of(error)
        assert (fault.error.code, fault.again) == (ErrorCode.LEDGER_CONFLICT, True)
