"""Code that nobody has read, as an agent and as a gate: with the sandbox it reaches nothing but its own work.

The same attacks without it show that each of them would be seen.
"""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e import attacker
from tests.e2e.living_town import LivingTown, git, shell_agent, wait_until

TOKEN = "planted-a1b2c3"
DAEMONS = {"agent": "98761.5", "gate": "98762.5"}


class AttackedTown(LivingTown):
    """A town with everything that an attacker could want, planted."""

    sandbox = "bwrap"

    def plant(self) -> dict[str, Any]:
        home = Path(self.env["HOME"])
        (home / ".ssh").mkdir()
        (home / ".ssh" / "id_ed25519").write_text(TOKEN)
        for name in ("secrets.toml", "channels.toml"):
            with (self.root / name).open("a") as file:
                file.write(f"\n# {TOKEN}\n")
        paths = self.town.paths
        session, worktree = paths.session("shop", "other", "sh-0", 1), paths.worktree("shop", "other")
        for folder in (session, worktree):
            folder.mkdir(parents=True)
        self.agent = socket.socket(socket.AF_UNIX)
        self.agent.bind(str(self.folder / "agent.sock"))
        self.agent.listen()
        return {
            "token": TOKEN,
            "secrets": str(paths.secrets),
            "channels": str(paths.channels),
            "ledger": str(paths.doltlite_file),
            "pid": self.service("worker").pid,
            "port": self.town.file.temporal.port,
            "supervisor": str(next(path for path in paths.run.rglob("*") if path.is_socket())),
            "agent": str(self.folder / "agent.sock"),
            "tmux": self.tmux_socket(),
            "key": str(home / ".ssh" / "id_ed25519"),
            "remote": str(self.remote),
            "clone": str(paths.clone("shop")),
            "worktree": str(worktree),
            "session": str(session),
            "home": str(home),
            "daemon": DAEMONS,
        }


@pytest.fixture(scope="module")
def town() -> Iterator[AttackedTown]:
    with tempfile.TemporaryDirectory(prefix="gt-") as folder:
        living = AttackedTown(Path(folder))
        living.env["GT_PLANTED"] = TOKEN
        try:
            living.init()
            living.up()
            yield living
        finally:
            end_daemons()
            living.close()


def daemons() -> dict[str, psutil.Process]:
    found = {}
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        for role, seconds in DAEMONS.items():
            if words[-1:] == [seconds] and "sleep" in words[0]:
                found[role] = process
    return found


def end_daemons() -> None:
    for process in daemons().values():
        process.kill()


def effects(town: AttackedTown, to: dict[str, Any], bead: str) -> dict[str, set[str]]:
    """By role: the attacks that had an effect. What they left is removed."""
    evidence = town.town.paths.evidence / bead / "1" / "pane.txt"
    logs = sorted(town.town.paths.gate_logs("shop").rglob("attacked.log"), key=lambda path: path.stat().st_mtime)
    refs = git(town.remote, "for-each-ref", "--format=%(refname:short)", "refs/heads").split()
    config = Path(to["clone"], "config").read_text()
    found: dict[str, set[str]] = {}
    for role, text in {"agent": evidence.read_text(), "gate": logs[-1].read_text()}.items():
        said = [line for line in text.replace("\n", " ").split(attacker.SAID)[1:]]
        assert said, f"the {role} ran no attack:\n{text}"
        found[role] = set(json.loads(said[0][: said[0].index("]") + 1]))
        marks = {"clone": "clone", "worktree": "worktree", "session": "forged session", "home": "home"}
        for key, name in marks.items():
            mark = Path(to[key], f"{role}.mark")
            if mark.exists():
                found[role].add(name)
                mark.unlink()
        if f"{role}.mark" in refs:
            found[role].add("push")
            git(town.remote, "branch", "-D", f"{role}.mark")
        if f"{role} = 1" in config:
            found[role].add("git config")
            subprocess.run(["git", "--git-dir", to["clone"], "config", "--unset", f"planted.{role}"], check=True)
        if role in daemons():
            found[role].add("daemon")
    end_daemons()
    return found


def test_in_the_sandbox_none_of_the_attacks_has_an_effect_and_without_it_each_has(town: AttackedTown) -> None:
    script = shlex.join([sys.executable, attacker.__file__])
    town.configure({"agent.network": "none", "sandbox.mode": "bwrap"})
    told = town.json("gt", "status")["sandbox"]
    assert (told["kind"], told["reason"]) == ("bwrap", "")
    to = town.plant()
    gate = f"{script} gate {shlex.quote(json.dumps(to))}"
    town.run("gt", "rig", "add", "shop", str(town.remote), "--prefix", "sh", "--gate", f"attacked={gate}")
    found = {}
    for mode in ("bwrap", "none"):
        town.configure({"sandbox.mode": mode})
        bead = town.bead(f"attack with {mode}")
        agent = shell_agent(file=f"{mode}.py", before=f"{script} agent {shlex.quote(json.dumps(to))}")
        town.sling(bead, agent)
        town.wait_closed(bead)
        wait_until("the session to end", lambda: town.sessions() == [])
        found[mode] = effects(town, to, bead)
    every = set(attacker.ATTACKS)
    assert found["bwrap"] == {"agent": set(), "gate": set()}
    unseen = {role: sorted(every - seen) for role, seen in found["none"].items()}
    # By the time of the gate the session is over, and its tmux server with it.
    assert unseen == {"agent": [], "gate": ["tmux"]}, "each attack has an effect without a sandbox"
    print(f"{2 * len(every)} attacks, 2 doors, 0 effects")
    assert "NO SANDBOX" in town.run("gt", "status").stdout
