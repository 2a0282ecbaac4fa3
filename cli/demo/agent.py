"""A scripted agent for the demonstration: it really edits, tests, commits and runs `gt done`.

Run by the town in a polecat's worktree as `python3 agent.py ROLE STAGE`, where STAGE is a folder
through which the roles wait for one another, so that each fault happens every time.
Standard library only.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

DEADLINE_S = 300.0


def main() -> int:
    role, stage = sys.argv[1], Path(sys.argv[2])
    attempt = int(os.environ["GT_ATTEMPT"])
    print(f"{role}: attempt {attempt} of {os.environ['GT_BEAD']}", flush=True)
    ROLES[role](stage)
    return 0


def add_function(name: str, body: str, expected: str) -> None:
    """Add `shop/<name>.py` with a test of its own, and commit."""
    Path("shop", f"{name}.py").write_text(f"def {name}(who: str) -> str:\n    return {body}\n")
    Path("tests", f"test_{name}.py").write_text(
        "import unittest\n\n"
        f"from shop.{name} import {name}\n\n\n"
        f"class Test{name.capitalize()}(unittest.TestCase):\n"
        f"    def test_{name}(self) -> None:\n"
        f'        self.assertEqual({name}("Ada"), "{expected}")\n'
    )
    commit(f"Add {name}")


def commit(message: str) -> None:
    run("git", "add", "--all")
    run("git", "commit", "--quiet", "--message", message)


def done() -> None:
    run("gt", "done")


def run(*argv: str) -> None:
    print("$", " ".join(argv), flush=True)
    subprocess.run(argv, check=True)


def reached(stage: Path, name: str) -> None:
    (stage / name).touch()


def wait_until(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"gave up waiting for {what}")
        time.sleep(0.1)


def greet(stage: Path) -> None:
    add_function("greet", 'f"Hello, {who}!"', "Hello, Ada!")
    done()


def part(stage: Path) -> None:
    add_function("part", 'f"Goodbye, {who}."', "Goodbye, Ada.")
    done()


def shout(stage: Path) -> None:
    add_function("shout", 'who.upper() + "!"', "ADA!")
    done()


def welcome(stage: Path) -> None:
    """Builds on greet: its import fails unless that bead has landed before."""
    from_greet = Path("shop", "greet.py").exists()
    print(f"greet is there: {from_greet}", flush=True)
    Path("shop", "welcome.py").write_text(
        'from shop.greet import greet\n\n\ndef welcome(who: str) -> str:\n    return greet(who) + " Come in."\n'
    )
    Path("tests", "test_welcome.py").write_text(
        "import unittest\n\n"
        "from shop.welcome import welcome\n\n\n"
        "class TestWelcome(unittest.TestCase):\n"
        "    def test_welcome(self) -> None:\n"
        '        self.assertEqual(welcome("Ada"), "Hello, Ada! Come in.")\n'
    )
    commit("Add welcome on top of greet")
    done()


def total(stage: Path) -> None:
    """Breaks the tests first; repairs what the failure log names."""
    if not Path("shop", "total.py").exists():
        Path("shop", "total.py").write_text("def total(prices: list[int]) -> int:\n    return len(prices)\n")
        Path("tests", "test_total.py").write_text(
            "import unittest\n\n"
            "from shop.total import total\n\n\n"
            "class TestTotal(unittest.TestCase):\n"
            "    def test_total(self) -> None:\n"
            "        self.assertEqual(total([2, 3]), 5)\n"
            "        self.assertEqual(total([7]), 7)\n"
        )
        commit("Add total")
    else:
        log = Path(os.environ["GT_FAILURE_LOG"]).read_text(errors="replace")
        print("the gate said:", log.strip().splitlines()[-1:], flush=True)
        Path("shop", "total.py").write_text("def total(prices: list[int]) -> int:\n    return sum(prices)\n")
        commit("Sum the prices instead of counting them")
    done()


def currency_euro(stage: Path) -> None:
    """Lands first; waits until its rival has started from the same base."""
    wait_until("the rival of the same lines", lambda: (stage / "rival-started").exists())
    Path("shop", "currency.py").write_text('SYMBOL = "€"\nDECIMALS = 2\n')
    commit("Price in euro")
    done()


def currency_yen(stage: Path) -> None:
    """Edits the same lines; comes second, so that it must rebase."""
    if not (stage / "rival-started").exists():
        reached(stage, "rival-started")
        target = f"origin/{os.environ['GT_TARGET']}"
        base = revision(target)
        Path("shop", "currency.py").write_text('SYMBOL = "¥"\nDECIMALS = 0\n')
        commit("Price in yen")
        wait_until("the first of the two to land", lambda: landed_since(base))
        done()
        return
    subprocess.run(["git", "fetch", "--quiet", "origin"], check=True)
    rebase = subprocess.run(["git", "rebase", "--quiet", f"origin/{os.environ['GT_TARGET']}"], check=False)
    if rebase.returncode != 0:
        Path("shop", "currency.py").write_text('SYMBOL = "¥"\nDECIMALS = 0\n')
        run("git", "add", "shop/currency.py")
        run("git", "-c", "core.editor=true", "rebase", "--continue")
    done()


def revision(name: str) -> str:
    return subprocess.run(["git", "rev-parse", name], check=True, capture_output=True, text=True).stdout.strip()


def landed_since(base: str) -> bool:
    """Whether the euro has reached the target on the remote."""
    target = os.environ["GT_TARGET"]
    subprocess.run(["git", "fetch", "--quiet", "origin", target], check=True)
    shown = subprocess.run(
        ["git", "show", "FETCH_HEAD:shop/currency.py"], check=True, capture_output=True, text=True
    ).stdout
    return "€" in shown


def receipt(stage: Path) -> None:
    """Is killed in mid-work the first time; the next attempt finds its files and finishes."""
    if not (stage / "victim").exists():
        Path("shop", "receipt.py").write_text("def receipt(who: str) -> str:\n    # half done")
        reached(stage, "victim")
        print("thinking ...", flush=True)
        time.sleep(DEADLINE_S)
        raise SystemExit("nobody killed me")
    print("found from the attempt before:", sorted(p.name for p in Path("shop").iterdir()), flush=True)
    add_function("receipt", 'f"Receipt for {who}"', "Receipt for Ada")
    done()


def stock(stage: Path) -> None:
    """Beats once and then hangs, the first time; only its silence tells. The next attempt finishes."""
    if not (stage / "hung").exists():
        Path("shop", "stock.py").write_text("def stock(who: str) -> str:\n    # half done")
        run("gt", "heartbeat")
        reached(stage, "hung")
        print("hanging ...", flush=True)
        time.sleep(DEADLINE_S)
        raise SystemExit("nobody noticed that I hang")
    print("found from the attempt before:", sorted(p.name for p in Path("shop").iterdir()), flush=True)
    add_function("stock", 'f"{who} has 3 left"', "Ada has 3 left")
    done()


ROLES: dict[str, Callable[[Path], None]] = {
    "greet": greet,
    "part": part,
    "shout": shout,
    "welcome": welcome,
    "total": total,
    "euro": currency_euro,
    "yen": currency_yen,
    "receipt": receipt,
    "stock": stock,
}

if __name__ == "__main__":
    sys.exit(main())
