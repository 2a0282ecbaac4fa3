"""The town that a benchmark measures."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from models.town import Listen
from tests.e2e.quick_town import QuickTown

START_S = 240.0
"""for `gt up` on a machine with other work: it is measured nowhere here"""


@contextmanager
def bench_town(
    *, max_polecats: int, settings: Mapping[str, int] | None = None, listen: Listen = Listen.AUTO
) -> Iterator[QuickTown]:
    """A running town with the rig `shop`; at the end it is stopped and its folder removed."""
    with tempfile.TemporaryDirectory(prefix="gt-bench-", ignore_cleanup_errors=True) as folder:
        town = QuickTown(Path(folder))
        try:
            town.init()
            text = town.town.paths.config.read_text()
            town.town.paths.config.write_text(text.replace('listen = "auto"', f'listen = "{listen}"'))
            town.run("gt", "up", "--timeout", f"{START_S:.0f}", timeout_s=START_S + 30)
            town.configure(dict(settings or {}))
            town.add_rig("--max-polecats", str(max_polecats))
            yield town
        finally:
            town.close()
