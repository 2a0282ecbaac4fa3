"""A worker that dies as soon as it starts, until the file `heal` is in the town; then it is the stand-in."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    if not Path("heal").exists():
        sys.exit("this worker cannot be kept alive")
    runpy.run_module("tests.services.stand_in_worker", run_name="__main__")
