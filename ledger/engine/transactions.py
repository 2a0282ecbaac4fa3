"""Running transactions: retries with an end, one Dolt commit for each, nothing half done.

Every change may run more than once: because another transaction won, or because the connection
broke when nobody can say whether the commit arrived. Changes are therefore written to look at
what is there first, within the same transaction.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable
from typing import Final, TypeVar

from sqlalchemy import Connection, Engine, insert, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ledger.engine.faults import Fault, NotRecorded, fault_of
from ledger.engine.schema import turns
from ledger.engine.versioning import Versioning
from models.errors import ErrorCode

T = TypeVar("T")
Read = TypeVar("Read")

CONFLICT_PATIENCE_S: Final = 20.0
"""Below the 30 s that an activity may take; the engine's own wait for a lock comes on top."""
LOST_PATIENCE_S: Final = 4.0
"""A restarted server is back within a second; a person waits for the answer of a command."""
_FIRST_DELAY_S: Final = 0.02
_MAX_DELAY_S: Final = 0.5


class Transactions:
    """Reads and writes of one engine. Thread-safe."""

    def __init__(self, engine: Engine, versioning: Versioning) -> None:
        self._engine = engine
        self._versioning = versioning
        self.author = "gt"
        """who writes, for Dolt's log: a person or a workflow"""
        self.announce: Callable[[str], None] | None = None
        """told "ledger.before_commit" and "ledger.committed": where tests kill"""

    def read(self, query: Callable[[Connection], T]) -> T:
        """Run `query`; all its reads see one state of the ledger.

        Raises:
            GtError: LEDGER_UNREACHABLE, LEDGER_CONFLICT or LEDGER_DAMAGED, once patience ends.
        """

        def once() -> T:
            with self._engine.connect() as connection:
                self._versioning.begin_read(connection)
                return query(connection)

        return retried(once)

    def write(self, change: Callable[[Connection], tuple[T, str | None]], by: str | None = None) -> T:
        """Run `change` in a transaction of its own and commit it to Dolt; return once the commit was read back.

        Args:
            change: does the writing; returns its result and the message of the Dolt commit, or
                None for the message when there was nothing to change. It may run more than once.
            by: who is named in Dolt's log, if not `author`.

        Raises:
            GtError: as `read`, and what `change` raises; then nothing was changed.
        """
        return self.write_and_read(change, lambda _connection, result: result, by)

    def write_and_read(
        self,
        change: Callable[[Connection], tuple[T, str | None]],
        then: Callable[[Connection, T], Read],
        by: str | None = None,
    ) -> Read:
        """As `write`, but return what `then` reads in the transaction in which the commit was found again.

        Args:
            then: gets the result of `change`. One transaction less than a `read` afterwards.
        """

        def once() -> Read:
            with self._engine.connect() as connection:
                self._versioning.begin_write(connection)
                result, message = change(connection)
                if message is not None:
                    self._tell("ledger.before_commit")
                    commit = self._versioning.commit(connection, one_line(message), by or self.author)
                    self._tell("ledger.committed")
                    self._read_back(connection, commit)
                return then(connection, result)

        return retried(once)

    def _read_back(self, connection: Connection, commit: str | None) -> None:
        """Acknowledge nothing that another transaction cannot see."""
        if commit is None:
            # Dolt had nothing to commit, and has not ended the transaction either.
            connection.commit()
        self._versioning.begin_read(connection)
        if commit is not None and not self._versioning.holds(connection, commit):
            raise NotRecorded

    def _tell(self, point: str) -> None:
        if self.announce is not None:
            self.announce(point)


def retried(action: Callable[[], T]) -> T:
    """Run `action` until it succeeds, its fault is not worth a retry, or patience ends.

    Raises:
        GtError: what the driver's last error means.
    """
    started = time.monotonic()
    delay = _FIRST_DELAY_S
    while True:
        try:
            return action()
        except (DBAPIError, PoolTimeout, NotRecorded) as error:
            fault = fault_of(error)
            pause = delay * random.uniform(0.5, 1.5)  # noqa: S311 - jitter, not a secret
            if not fault.again or time.monotonic() - started + pause > _patience_s(fault):
                raise fault.error from error
        time.sleep(pause)
        delay = min(delay * 2, _MAX_DELAY_S)


def _patience_s(fault: Fault) -> float:
    return LOST_PATIENCE_S if fault.error.code is ErrorCode.LEDGER_UNREACHABLE else CONFLICT_PATIENCE_S


def new_token() -> str:
    """A value that no other transaction writes, so that two for one cell are a conflict."""
    return uuid.uuid4().hex


def take_turn(connection: Connection, name: str) -> None:
    """Make transactions that take the same turn conflict with one another.

    Dolt ignores SELECT … FOR UPDATE, and would merge two transactions that read each other's
    tables and write different rows. Both write their own token into one cell here, so the later
    one is refused (1213), runs again, and sees what the earlier one did.
    """
    token = new_token()
    if not connection.execute(update(turns).where(turns.c.name == name).values(token=token)).rowcount:
        connection.execute(insert(turns).values(name=name, token=token))


def one_line(message: str) -> str:
    """`message` as Dolt's log keeps it: one line of at most 300 characters."""
    line = " ".join(message.split())
    return line if len(line) <= 300 else line[:297] + "..."
