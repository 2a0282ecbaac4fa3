"""The town's own look at whether Dolt, git and Temporal agree."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from temporalio import activity
from temporalio.client import Client

from ledger.store import Ledger
from ledger.verify_rules import troubles
from models.errors import ErrorCode, GtError
from models.ledger.records import Rig
from models.town import TownPaths
from models.upkeep.verification import MOST_SHOWN, StoreFacts, TemporalFacts, TownLook
from services.verification import TEMPORAL, Compared, compare, temporal_facts


class VerifyActivities:
    """Args:
    ledger_source: opens the ledger; each look has its own, since it comes once an hour.
    """

    def __init__(self, client: Client, paths: TownPaths, ledger_source: Callable[[], Ledger]) -> None:
        self._client = client
        self._paths = paths
        self._source = ledger_source

    @activity.defn
    async def verify_town(self) -> TownLook:
        """Compare once; nothing is changed.

        Raises:
            GtError: LEDGER_UNREACHABLE. What else cannot be asked is an answer.
        """
        loop = asyncio.get_running_loop()

        def ask_temporal(rigs: list[Rig]) -> TemporalFacts:
            asking = temporal_facts(self._client, [rig.name for rig in rigs])
            return asyncio.run_coroutine_threadsafe(asking, loop).result()

        compared = await asyncio.to_thread(self._compare, ask_temporal)
        return TownLook(
            problems=tuple(compared.problems[:MOST_SHOWN]),
            more=len(compared.problems[MOST_SHOWN:]),
            unread_rigs=tuple(sorted(compared.unread.keys() - {TEMPORAL})),
            temporal_unread=TEMPORAL in compared.unread,
            ledger_unread=compared.ledger_unread,
        )

    def _compare(self, ask_temporal: Callable[[list[Rig]], TemporalFacts]) -> Compared:
        try:
            ledger = self._source()
            try:
                return compare(self._paths, ledger, ask_temporal)
            finally:
                ledger.close()
        except GtError as error:
            if error.code is not ErrorCode.LEDGER_DAMAGED:
                raise
            return Compared(troubles(StoreFacts(damage=error.message)), {}, moving=False, ledger_unread=True)
