"""A scripted agent for chaos: works in steps, leaves marks, and notes what it did and found in a diary.

Run by the town in a polecat's worktree as `python3 agent.py STAGE SEED`. Standard library only.
A mark is a file `marks/<bead>.<attempt>.<step>`; noted as `left` once it is on disk, so whoever
kills the agent afterwards must not lose it.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

BEAD, ATTEMPT = os.environ["GT_BEAD"], int(os.environ["GT_ATTEMPT"])
STEP_S = (0.3, 1.5)


class Diary:
    """One line a note, written whole: a reader never sees half of one that matters."""

    def __init__(self, stage: Path) -> None:
        self._path = stage / f"{BEAD}.{ATTEMPT}.jsonl"

    def note(self, what: str, **facts: object) -> None:
        line = json.dumps({"what": what, "at": time.time(), "bead": BEAD, "attempt": ATTEMPT, **facts})
        handle = os.open(self._path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        os.write(handle, f"{line}\n".encode())
        os.close(handle)


def main() -> int:
    stage, seed = Path(sys.argv[1]), sys.argv[2]
    own = random.Random(f"{seed}/{BEAD}/{ATTEMPT}")
    trait = random.Random(f"{seed}/{BEAD}")
    beats, breaks, litters, ponders = (trait.random() < share for share in (0.5, 0.15, 0.3, 0.3))
    diary = Diary(stage)
    diary.note("started", pid=os.getpid(), found=sorted(path.name for path in Path("marks").glob("*")))
    mend(breaks)
    for step in range(own.randint(12, 20) if ponders else own.randint(2, 4)):
        leave(diary, f"{BEAD}.{ATTEMPT}.{step}")
        if beats:
            run("gt", "heartbeat")
            diary.note("beat")
            keep_beating()
        time.sleep(own.uniform(*STEP_S))
        if own.random() < 0.4:
            commit(f"step {step} of attempt {ATTEMPT}")
    commit(f"attempt {ATTEMPT}")
    diary.note("handing_in")
    run("gt", "done")
    diary.note("done")
    if litters:
        leave(diary, f"{BEAD}.{ATTEMPT}.late")
    return 0


def keep_beating() -> None:
    """Beat on beside the work, for as long as this process is not stopped: commands take long on a busy machine."""
    if threading.active_count() == 1:
        threading.Thread(target=_beat_on, daemon=True).start()


def _beat_on() -> None:
    while True:
        with contextlib.suppress(OSError):
            Path(os.environ["GT_TASK_FILE"]).with_name("heartbeat").touch()
        time.sleep(0.3)


def mend(breaks: bool) -> None:
    """A bead that breaks the gate does so until the town has shown it the log."""
    module = Path(f"{BEAD.replace('-', '_')}.py")
    told = os.path.getsize(os.environ["GT_FAILURE_LOG"]) > 0
    module.write_text("answer = 42\n" if told or not breaks else "answer = = 42\n")


def leave(diary: Diary, name: str) -> None:
    place = Path("marks", name)
    place.parent.mkdir(exist_ok=True)
    place.write_text(f"{name}\n")
    diary.note("left", mark=name)


def commit(message: str) -> None:
    run("git", "add", "--all")
    if subprocess.run(["git", "diff", "--cached", "--quiet"], check=False).returncode != 0:
        run("git", "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "--quiet", "--message", message)


def run(*argv: str) -> None:
    print("$", " ".join(argv), flush=True)
    subprocess.run(argv, check=True)


if __name__ == "__main__":
    sys.exit(main())
