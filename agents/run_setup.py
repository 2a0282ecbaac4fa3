"""`python run_setup.py STATE LIMIT_S SCRIPT COMMAND`: a worktree's set-up in front of its agent, in the agent's pane.

Runs the shell script, with nothing to read and no terminal to ask on, then becomes `sh -c COMMAND`. Where the script
fails or takes longer than LIMIT_S seconds, the agent is not started and the exit code is FAILED. STATE holds
`running`, then `done`, or `failed: why`: by it the patrol tells a failed set-up from a dead agent.

Standard library alone, and no import of ours: it runs as a file, in the agent's environment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

FAILED: Final = 78
"""EX_CONFIG of sysexits(3)"""
RUNNING, DONE, FAILURE = "running", "done", "failed"
NAME: Final = "worktree.setup"
_GRACE_S: Final = 5.0


def main() -> None:
    state, limit_s, script, command = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3], sys.argv[4]
    _write(state, RUNNING)
    print(f"{NAME}: {Path(script).read_text(encoding='utf-8').strip()}", flush=True)
    began = time.monotonic()
    problem = _problem(script, limit_s)
    took = f"{time.monotonic() - began:.0f} s"
    if problem:
        _write(state, f"{FAILURE}: {problem}")
        print(f"{NAME} failed after {took}: {problem}. The agent was not started.", flush=True)
        sys.exit(FAILED)
    _write(state, DONE)
    print(f"{NAME} took {took}", flush=True)
    os.execvp("sh", ["sh", "-c", command])  # noqa: S606 - as the agent is started without a set-up


def _problem(script: str, limit_s: float) -> str:
    """How the set-up failed; "" where it did not."""
    # A kernel session of its own: what asks on /dev/tty fails at once, and all of it can be ended together.
    process = subprocess.Popen(["sh", script], stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        code = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        _end(process)
        return f"it took longer than {limit_s:.0f} s ({NAME}_timeout)"
    except KeyboardInterrupt:
        _end(process)
        return "a person interrupted it"
    if code == 0:
        return ""
    return f"exit code {code}" if code > 0 else f"killed by signal {-code}"


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)
            return


def _write(state: Path, text: str) -> None:
    fresh = state.with_name(f".{state.name}.{os.getpid()}")
    fresh.write_text(f"{text}\n", encoding="utf-8")
    os.replace(fresh, state)


if __name__ == "__main__":
    main()
