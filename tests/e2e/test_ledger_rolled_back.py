"""A ledger that was swapped for an older copy under a living town: people hear of it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from services.worker.ledger_head import head_path
from tests.e2e.living_town import LivingTown, wait_until
from tests.e2e.test_alerts import add_channel
from tests.sinks import http_sink


def test_an_older_copy_in_the_ledgers_place_is_told() -> None:
    with tempfile.TemporaryDirectory(prefix="gt-") as folder, http_sink() as sink:
        town = LivingTown(Path(folder))
        try:
            town.init()
            town.up()
            add_channel(town, "hook", sink.url)
            town.add_rig()
            file, note = town.town.paths.doltlite_file, head_path(town.town.paths)
            older = file.read_bytes()
            town.bead("Lost")
            wait_until("the newest commit to be noted", note.exists)
            known = note.read_text()
            town.bead("Lost too")
            wait_until("the next one", lambda: note.read_text() != known)
            file.write_bytes(older)
            wait_until("the alert", lambda: "swapped for an older copy" in str(sink.taken))
            [told] = [body for body in sink.taken if "swapped" in str(body)]
            assert "CRITICAL disagreement" in told["title"]
            assert str(note) in told["message"]
        finally:
            town.close()
