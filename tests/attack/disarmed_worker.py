"""A town's worker that gives up its own guards when it is told: `python -m tests.attack.disarmed_worker --town DIR`.

Until SIGUSR1 it is the worker as it is. Then what only its guards stop has an effect: the control of the attacks.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import worker
from activities.sessions.watched import Watched
from agents import environment
from services import redaction

DISARMED = Path("run", "disarmed")
"""there once it is; in the town's directory, which the worker starts in"""

_calls = Watched.calls_for_help


def _all_calls(self: Watched) -> list[tuple[str, dict[str, Any]]]:
    self.helps_left = 10**6
    return _calls(self)


def _disarm(*_: object) -> None:
    setattr(redaction, "redact", lambda text, known: text)  # noqa: B010
    setattr(redaction, "redact_bytes", lambda text, known: text)  # noqa: B010
    setattr(environment, "DENIED", ())  # noqa: B010
    setattr(environment, "_GIT_KEEPS", ("*",))  # noqa: B010
    setattr(Watched, "calls_for_help", _all_calls)  # noqa: B010
    DISARMED.touch()


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, _disarm)
    worker.main()
