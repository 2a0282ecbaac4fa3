"""Limits of a sandbox by prlimit, on real processes of an ordinary user: root is exempt from one of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.settings import SandboxSettings
from policies.security.sandbox import SYSTEM, SandboxPlan
from services import sandbox

SOMEBODY = 54321
AS_SOMEBODY = f"""
import os, sys
if os.getuid() == 0:
    os.setgroups([]); os.setgid({SOMEBODY}); os.setuid({SOMEBODY})
os.execv("/bin/sh", sys.argv[1:])
"""
WRITES = "open('/tmp/a', 'wb', buffering=0).write(bytes(1000)), open('/tmp/a', 'ab', buffering=0).write(b'x')"
BUSY = """
import signal, time
signal.signal(signal.SIGXCPU, lambda *_: (print("CPU used up", flush=True), exit()))
while time.process_time() < 2:
    pass
print("done")
"""
FULL = """
import os
for folder in ("/tmp", "/dev/shm", "/dev", "/"):
    try:
        open(f"{folder}/filling", "wb", buffering=0).write(bytes(2_000_000))
        print(os.path.getsize(f"{folder}/filling"), end=" ")
    except OSError as error:
        print(error.errno, end=" ")
"""
FORKS = """
import os, time
try:
    for _ in range(40):
        if not os.fork():
            time.sleep(30)
            os._exit(0)
    print("40 processes")
except OSError as error:
    print(error.strerror)
"""


def run(settings: SandboxSettings, script: str) -> str:
    """What Python code prints in a sandbox of an ordinary user."""
    plan = SandboxPlan("/", read=SYSTEM)
    words, environment = sandbox.in_sandbox("bwrap", plan, settings, {"PATH": os.environ["PATH"]})
    argv = [sys.executable, "-c", AS_SOMEBODY, *words, "python3", "-c", script]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, cwd="/", check=False)
    return done.stdout.strip() or done.stderr.strip()


@pytest.mark.parametrize(
    ("limit", "script", "stopped", "free"),
    [
        ({"memory_bytes": 100_000_000}, "print(len(bytearray(200_000_000)))", "MemoryError", "200000000"),
        ({"file_bytes": 1000}, f"print({WRITES})", "File too large", "1000 1"),
        ({"processes": 20}, FORKS, "Resource temporarily unavailable", "40 processes"),
        ({"cpu_seconds": 1}, BUSY, "CPU used up", "done"),
        ({"tmp_bytes": 1_000_000}, FULL, "1003520 1003520 30 30", "2000000 2000000 2000000 2000000"),
    ],
)
def test_what_goes_beyond_a_limit_fails(limit: dict[str, int], script: str, stopped: str, free: str) -> None:
    assert stopped in run(SandboxSettings(**limit), script)
    assert run(SandboxSettings(), script) == free


def test_a_scope_goes_around_the_whole_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for systemd-run that notes its words: what the real one then does is systemd's."""
    (tmp_path / "systemd-run").write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/words\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n'
    )
    (tmp_path / "systemd-run").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    monkeypatch.setenv("PATH", path)
    settings = SandboxSettings(cpu_percent=150)
    words, environment = sandbox.in_sandbox("bwrap", SandboxPlan("/", read=SYSTEM), settings, {"PATH": path})
    done = subprocess.run([*words, "echo", "in"], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "in\n"
    assert "-p CPUQuota=150% -- sh -c trap" in (tmp_path / "words").read_text()
    assert sandbox._scope_fails() is None, "a pipe is handed through"
    (tmp_path / "systemd-run").write_text("#!/bin/sh\necho no bus >&2; exit 1\n")
    problem = sandbox._scope_fails()
    assert problem is not None
    assert problem.reason == "systemd-run fails: no bus"
