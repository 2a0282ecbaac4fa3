"""The ledger: everything the record can be asked and told, over either engine."""

from __future__ import annotations

from typing import Self

from sqlalchemy import select

from ledger.beads.dependencies import DependencyRecords
from ledger.beads.exchange import ExchangeRecords
from ledger.beads.history import HistoryRecords
from ledger.beads.labels import LabelRecords
from ledger.beads.molecules import MoleculeRecords
from ledger.engine import schema, setup
from ledger.engine.engines import embedded_file, open_engine, server_without_database, unhurried
from ledger.engine.transactions import retried
from ledger.escalations import EscalationRecords
from ledger.jobs import JobRecords
from ledger.mail import MailRecords
from ledger.outbox import OutboxRecords
from ledger.rigs import RigRecords
from ledger.settings import AlertRecords, SettingRecords, TownRecords
from ledger.verify import VerifyRecords


class Ledger(
    RigRecords,
    MoleculeRecords,
    DependencyRecords,
    LabelRecords,
    ExchangeRecords,
    HistoryRecords,
    JobRecords,
    OutboxRecords,
    SettingRecords,
    EscalationRecords,
    AlertRecords,
    MailRecords,
    TownRecords,
    VerifyRecords,
):
    """The record of a town. Thread-safe; every write is idempotent, retried, and one Dolt commit."""

    @classmethod
    def open(cls, url: str, *, create: bool = True) -> Self:
        """Open a ledger and check that this program can work on it.

        Args:
            url: `mysql+pymysql://user:password@host:port/database` or `doltlite:////absolute/file`.
            create: also make what is missing: the file or database, and the tables.

        Raises:
            GtError: INVALID_VALUE, PROGRAM_MISSING, LEDGER_UNREACHABLE, LEDGER_DAMAGED, LEDGER_NEWER;
                REFUSED for an older schema.
        """
        file = embedded_file(url)
        if create and file is None:
            _ensure_database(url)
        if create and file is not None and not file.exists():
            setup.found_file(file)
        engine, versioning = open_engine(url)
        ledger = cls(engine, versioning)
        try:
            if create:
                setup.set_up(ledger, versioning, empty_is_new=file is None)
            setup.require_current(ledger.schema_version())
        except BaseException:
            ledger.close()
            raise
        return ledger

    def close(self) -> None:
        """Close every connection; the ledger must not be used afterwards."""
        self._engine.dispose()

    def ping(self) -> None:
        """Return when the ledger answers a query over its tables.

        Raises:
            GtError: LEDGER_UNREACHABLE, LEDGER_DAMAGED.
        """
        self.read(lambda connection: connection.execute(select(schema.schema_version)).all())

    def collect_garbage(self) -> None:
        """Give back the room of what no commit holds; rows and history stay, and others may work on meanwhile.

        Raises:
            GtError: LEDGER_UNREACHABLE, LEDGER_CONFLICT, LEDGER_DAMAGED, DISK_FULL.
        """

        engine = unhurried(self._engine)

        def once() -> None:
            with engine.connect() as connection:
                self._versioning.collect_garbage(connection)

        try:
            retried(once)
        finally:
            if engine is not self._engine:
                engine.dispose()

    def schema_version(self) -> int:
        """The schema that the ledger has; 0 for one that was never set up."""
        return self.read(setup.stored_version)


def _ensure_database(url: str) -> None:
    server, name = server_without_database(url)
    try:
        retried(lambda: setup.create_database(server, name))
    finally:
        server.dispose()
