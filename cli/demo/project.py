"""The demonstration's sample project: a bare remote with a small shop that has real tests."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

GATE = "python3 -m unittest discover -q -s tests -t ."

_FILES = {
    "README.md": "# shop\n\nA sample project.\n",
    "shop/__init__.py": "",
    "shop/currency.py": 'SYMBOL = "$"\nDECIMALS = 2\n',
    "tests/__init__.py": "",
    "tests/test_currency.py": (
        "import unittest\n\n"
        "from shop.currency import DECIMALS, SYMBOL\n\n\n"
        "class TestCurrency(unittest.TestCase):\n"
        "    def test_symbol_is_one_character(self) -> None:\n"
        "        self.assertEqual(len(SYMBOL), 1)\n"
        "        self.assertIn(DECIMALS, (0, 2))\n"
    ),
    ".gitignore": "__pycache__/\n",
}


def make_remote(folder: Path) -> Path:
    """Create `folder/shop.git`, a bare repository whose `main` holds the sample project."""
    remote = folder / "shop.git"
    seed = folder / "seed"
    _git(folder, "init", "--quiet", "--bare", "--initial-branch=main", str(remote))
    _git(folder, "init", "--quiet", "--initial-branch=main", str(seed))
    for name, text in _FILES.items():
        path = seed / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    _git(seed, "add", "--all")
    _git(seed, "commit", "--quiet", "--message", "A small shop")
    _git(seed, "push", "--quiet", str(remote), "main")
    return remote


def trailers(remote: Path) -> dict[str, list[str]]:
    """Landing commits on the remote's main, by bead: `{bead: [sha, …]}`."""
    log = _git(remote, "log", "--format=%H %(trailers:key=Bead,valueonly,separator=%x2C)", "main")
    landed: dict[str, list[str]] = {}
    for line in log.splitlines():
        sha, _, beads = line.partition(" ")
        for bead in filter(None, beads.split(",")):
            landed.setdefault(bead.strip(), []).append(sha)
    return landed


def tests_pass(remote: Path, folder: Path) -> bool:
    """Whether the project's own tests pass at the head of the remote's main."""
    check = folder / "check"
    _git(folder, "clone", "--quiet", "--branch", "main", str(remote), str(check))
    return subprocess.run(["/bin/sh", "-c", GATE], cwd=check, capture_output=True, check=False).returncode == 0


def _git(cwd: Path, *argv: str) -> str:
    # Neither the repository that a hook or an alias works on, nor a person's hooks, signing and default branch.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    identity = ["-c", "user.name=Gas Town", "-c", "user.email=demo@gastown.invalid"]
    return subprocess.run(
        ["git", *identity, *argv], cwd=cwd, env=environment, check=True, capture_output=True, text=True
    ).stdout
