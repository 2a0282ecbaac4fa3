"""Keeping the record small."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from temporalio import activity

from ledger.store import Ledger
from models.upkeep.ledger_gc import UpkeepReport, UpkeepRequest
from policies.upkeep.ledger_gc import garbage_due


class UpkeepActivities:
    """Args:
    ledger_source: opens the ledger; each look has its own, since it comes once an hour.
    storage: the file or folder of the ledger on this machine; None where it is on another.
    """

    def __init__(self, ledger_source: Callable[[], Ledger], storage: Path | None) -> None:
        self._source = ledger_source
        self._storage = storage

    @activity.defn
    def keep_ledger_small(self, request: UpkeepRequest) -> UpkeepReport:
        """Collect garbage where that is due. Killed in between it is done again, which changes nothing."""
        ledger = self._source()
        try:
            settings = ledger.effective_settings(None).ledger
            why = garbage_due(request.last, datetime.now(UTC), bytes_of(self._storage), settings)
            if request.last is not None and not why:
                return request.last.model_copy(update={"why": ""})
            ledger.collect_garbage()
        finally:
            ledger.close()
        activity.logger.info("the record's garbage was collected: %s", why)
        return UpkeepReport(collected_at=datetime.now(UTC), kept_bytes=bytes_of(self._storage), why=why)


def bytes_of(storage: Path | None) -> int | None:
    """What a file, or all files below a folder, take; None where there is nothing to look at."""
    if storage is None or not storage.exists():
        return None
    if storage.is_file():
        return storage.stat().st_size
    total = 0
    for folder, _, files in os.walk(storage):
        for name in files:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except FileNotFoundError:
                continue  # Dolt replaces its files while we look.
    return total
