"""The town's epoch: which of two towns on the same remotes is the one that counts."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, update

from ledger.engine import schema
from ledger.engine.rows import now_stamp
from ledger.engine.transactions import Transactions
from models.errors import ErrorCode, GtError
from models.texts import storable_text
from models.town import TownEpoch

_ROW = 1
FIRST_EPOCH = 1


class TownRecords(Transactions):
    """What is true of the town as a whole."""

    def town_epoch(self) -> TownEpoch:
        """The epoch that the town is in; the first where none was ever raised."""
        return self.read(_epoch)

    def raise_epoch(self, expected: int, by: str, cause: str) -> TownEpoch:
        """Go from the epoch `expected` to the next; said again by the same for the same cause it is once.

        Raises:
            GtError: REFUSED where the town is in another epoch.
        """
        storable_text("cause", cause)
        values = {"epoch": expected + 1, "raised_at": now_stamp(), "raised_by": by, "cause": cause}

        def change(connection: Connection) -> tuple[None, str | None]:
            known = _epoch(connection)
            if known.epoch == expected + 1 and (known.raised_by, known.cause) == (by, cause):
                return None, None
            if known.epoch != expected:
                raise GtError(ErrorCode.REFUSED, f"the town is in epoch {known.epoch}, not {expected}", "gt status")
            mine = (schema.town.c.id == _ROW) & (schema.town.c.epoch == expected)
            if not connection.execute(update(schema.town).where(mine).values(**values)).rowcount:
                connection.execute(insert(schema.town).values(id=_ROW, **values))
            return None, f"epoch {expected + 1}: {cause}"

        self.write(change, by=by)
        return self.town_epoch()


def _epoch(connection: Connection) -> TownEpoch:
    row = connection.execute(select(schema.town).where(schema.town.c.id == _ROW)).mappings().first()
    return TownEpoch(epoch=FIRST_EPOCH) if row is None else TownEpoch.model_validate(dict(row))
