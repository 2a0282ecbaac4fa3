"""The programs, installed once into the cache as the lock file says."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
INSTALL = "node_modules/@anthropic-ai/claude-code/install.cjs"
FILES = ("package.json", "package-lock.json")


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder with `claude` and `codex`. Skips where npm is not installed, but in CI."""
    if shutil.which("npm") is None:
        if "CI" in os.environ:
            pytest.fail("npm is not installed: apt-get install npm")
        pytest.skip("npm is not installed, so the real agent programs are not tried")
    key = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in FILES)).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gastown"
    place = cache / f"agents-{key}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "agents.lock").open("w") as lock:
        # The test processes of one run, and runs side by side, install once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "installed").exists():
            place.mkdir(exist_ok=True)
            for name in FILES:
                shutil.copy(HERE / name, place)
            # claude's own script puts its program of this platform in place; no other package's is run.
            for argv in (["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], ["node", INSTALL]):
                done = subprocess.run(argv, cwd=place, capture_output=True, text=True, timeout=1200, check=False)
                assert done.returncode == 0, done.stdout + done.stderr
            (place / "installed").touch()
    return place / "node_modules" / ".bin"
