"""A town's worker that is told while it works where to die: `python -m tests.e2e.armed_worker --town DIR`.

SIGUSR1 makes it read ORDER, a file of the environment variables of `activities.crash_points`, and remove that file.
A worker takes a second or two of CPU to start: one that has finished a job is armed for the next.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import worker

ORDER = "crash-order.json"
"""in the folder that the worker is started in"""


def arm(folder: Path, environment: dict[str, str], pid: int) -> None:
    """Have the worker that was started in `folder` obey; it has done so when the file is gone."""
    written = folder / f"{ORDER}.tmp"
    written.write_text(json.dumps(environment))
    written.rename(folder / ORDER)
    os.kill(pid, signal.SIGUSR1)


def _obey(*_: object) -> None:
    order = Path(ORDER)
    os.environ.update(json.loads(order.read_text()))
    order.unlink()


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, _obey)
    worker.main()
