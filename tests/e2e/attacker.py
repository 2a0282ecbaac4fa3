"""`python attacker.py ROLE TARGETS`: what code that nobody has read may try on the machine that runs it.

Run as an agent and as a gate. Prints the names of the attacks whose effect it sees itself; what only the host can see
(files that were written, a process that lives on) the test looks for. TARGETS is a JSON object. Standard library only.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

SAID = "ATTACKS WITH AN EFFECT:"


def main() -> None:
    role, targets = sys.argv[1], json.loads(sys.argv[2])
    seen = []
    for name, attack in ATTACKS.items():
        with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
            if attack(role, targets):
                seen.append(name)
    print(SAID, json.dumps(seen), flush=True)


def reads(path: str, token: str) -> bool:
    return token in Path(path).read_text(errors="replace")


def touches(folder: str, role: str) -> None:
    Path(folder, f"{role}.mark").write_text(role)


def connects(address: Any) -> bool:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as client:
        client.settimeout(5)
        client.connect(address)
    return True


def others_environments(role: str, to: dict[str, Any]) -> bool:
    for path in glob.glob("/proc/[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if b"GT_PLANTED=" in Path(path).read_bytes() and path != f"/proc/{os.getpid()}/environ":
                return True
    return False


def leaves_a_daemon(role: str, to: dict[str, Any]) -> None:
    subprocess.Popen(
        ["env", "-i", "/bin/sleep", to["daemon"][role]], cwd="/", start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def signals(role: str, to: dict[str, Any]) -> bool:
    os.kill(to["pid"], 0)
    return True


def quiet(*argv: str) -> bool:
    return subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=20, check=False).returncode == 0


def pushes(role: str, to: dict[str, Any]) -> None:
    quiet("git", "push", to["remote"], f"HEAD:refs/heads/{role}.mark")


def configures(role: str, to: dict[str, Any]) -> None:
    quiet("git", "--git-dir", to["clone"], "config", f"planted.{role}", "1")


ATTACKS: dict[str, Callable[[str, dict[str, Any]], Any]] = {
    "secrets": lambda role, to: reads(to["secrets"], to["token"]),
    "channels": lambda role, to: reads(to["channels"], to["token"]),
    "ledger": lambda role, to: bool(Path(to["ledger"]).read_bytes()),
    "environments": others_environments,
    "processes": signals,
    "temporal": lambda role, to: connects(("127.0.0.1", to["port"])),
    "supervisor": lambda role, to: connects(to["supervisor"]),
    "ssh agent": lambda role, to: connects(to["agent"]),
    "tmux": lambda role, to: quiet("tmux", "-L", to["tmux"], "list-sessions"),
    "key": lambda role, to: reads(to["key"], to["token"]),
    "push": pushes,
    "git config": configures,
    "clone": lambda role, to: touches(to["clone"], role),
    "worktree": lambda role, to: touches(to["worktree"], role),
    "forged session": lambda role, to: touches(to["session"], role),
    "home": lambda role, to: touches(to["home"], role),
    "daemon": leaves_a_daemon,
}

if __name__ == "__main__":
    main()
