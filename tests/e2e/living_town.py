"""A town of one's own for a test: commands as a person types them, processes that can be killed."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import tomlkit
from temporalio.service import RPCError, RPCStatusCode

from ledger.store import Ledger
from models.errors import ErrorCode, GtError
from services.ports import pick_free
from services.supervisor.up_and_down import ServiceState, service_states
from services.town import Town, find_town
from tests.pace import DEADLINE_S, pause_s

BIN = Path(sys.executable).parent
GATE = 'python3 -c \'import glob; [compile(open(f).read(), f, "exec") for f in glob.glob("*.py")]\''
QUICK = {"session.done_grace": 1, "health.check_interval": 3}
"""Nothing is waited for by the clock: a session need not live on, and the next survey comes soon."""

AWAY = {
    *(ErrorCode.LEDGER_UNREACHABLE, ErrorCode.TEMPORAL_UNREACHABLE),
    *(RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED),
}


class CommandFailed(AssertionError):
    """A command ended otherwise than expected; its output is in the message."""


def wait_until(what: str, holds: Callable[[], Any], timeout_s: float = DEADLINE_S) -> Any:
    """Poll `holds` until it is true; return its value. AssertionError after `timeout_s`.

    While ledger or Temporal do not answer, as those that have just been started, nothing is true yet. It is asked less
    often the longer it takes.
    """
    begun = time.monotonic()
    while True:
        try:
            value = holds()
        except (GtError, RPCError) as error:
            if (error.code if isinstance(error, GtError) else error.status) not in AWAY:
                raise
            value = None
        if value:
            return value
        waited = time.monotonic() - begun
        if waited > timeout_s:
            raise AssertionError(f"waited {timeout_s:.0f} s for {what}")
        time.sleep(pause_s(waited, 0.1))


def git(cwd: Path, *argv: str) -> str:
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
    return subprocess.run(["git", *identity, *argv], cwd=cwd, check=True, capture_output=True, text=True).stdout


def landings(remote: Path) -> dict[str, list[str]]:
    """Commits on the remote's main by the bead that their trailer names."""
    log = git(remote, "log", "--format=%H %(trailers:key=Bead,valueonly,separator=%x2C)", "main")
    found: dict[str, list[str]] = {}
    for line in log.splitlines():
        sha, _, bead = line.partition(" ")
        if bead.strip():
            found.setdefault(bead.strip(), []).append(sha)
    return found


class LivingTown:
    """A town directory, a bare remote `shop.git` beside it, and the commands to run on them.

    Agents and gates have the sandbox that a town has by default, and beside their work see `shared` alone.
    """

    def __init__(self, folder: Path, *, store: str = "embedded") -> None:
        self.folder = folder
        self.root = folder / "town"
        self.shared = folder / "shared"
        """where agents and tests tell each other of what they do"""
        self.shared.mkdir()
        self.store = store
        home = folder / "home"
        home.mkdir()
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("GT_", "TEMPORAL_"))},
            "HOME": str(home),
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "NO_COLOR": "1",
        }
        if "GT_DOLT" in os.environ:
            self.env["GT_DOLT"] = os.environ["GT_DOLT"]
        self.remote = self.make_remote("shop")

    def make_remote(self, name: str) -> Path:
        """A bare repository `NAME.git` whose `main` has one commit."""
        remote, seed = self.folder / f"{name}.git", self.folder / f"{name}.seed"
        git(self.folder, "init", "-q", "--bare", "-b", "main", str(remote))
        git(self.folder, "init", "-q", "-b", "main", str(seed))
        (seed / "README.md").write_text(f"{name}\n")
        git(seed, "add", ".")
        git(seed, "commit", "-qm", "first")
        git(seed, "push", "-q", str(remote), "main")
        return remote

    # --- commands ---------------------------------------------------------------------------

    def run(
        self, *argv: str, expect: int | None = 0, timeout_s: float = DEADLINE_S
    ) -> subprocess.CompletedProcess[str]:
        """Run `gt …` or `bd …` in the town; `expect` is the exit code, None for any."""
        cwd = self.root if self.root.exists() else self.folder
        done = subprocess.run(
            [str(BIN / argv[0]), *argv[1:]],
            cwd=cwd, env=self.env, capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        if expect is not None and done.returncode != expect:
            raise CommandFailed(f"{argv} ended {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def json(self, *argv: str, expect: int | None = 0) -> Any:
        return json.loads(self.run(*argv, "-o", "json", expect=expect).stdout)

    def init(self) -> None:
        self.run("gt", "init", str(self.root), "--name", "test", "--store", self.store)
        file, own = self.root / "town.toml", iter(pick_free(4))
        document: Any = tomlkit.parse(file.read_text())
        for table, key in (
            ("temporal", "port"),
            ("temporal", "ui_port"),
            ("temporal", "metrics_port"),
            ("store", "port"),
        ):
            if key in document[table]:
                document[table][key] = next(own)
        file.write_text(tomlkit.dumps(document))

    def up(self) -> None:
        self.run("gt", "up", "--timeout", f"{DEADLINE_S:.0f}", timeout_s=2 * DEADLINE_S)

    def add_rig(self, *extra: str) -> None:
        self.configure({"sandbox.write": shlex.quote(str(self.shared))})
        self.run("gt", "rig", "add", "shop", str(self.remote), "--prefix", "sh", "--gate", f"syntax={GATE}", *extra)

    def bead(self, title: str, *extra: str) -> str:
        return str(self.json("bd", "create", title, "--rig", "shop", *extra)["id"])

    def sling(self, bead: str, agent: str) -> None:
        self.run("gt", "sling", bead, "shop", "--agent", agent)

    def add_channel(self, name: str, url: str) -> None:
        """As a person does it: the URL on standard input."""
        argv = [str(BIN / "gt"), "alert", "channel", "add", name]
        subprocess.run(
            argv, cwd=self.root, env=self.env, input=url, text=True, check=True, capture_output=True, timeout=DEADLINE_S
        )

    def configure(self, settings: Mapping[str, int | str]) -> None:
        """What `gt config KEY VALUE` does, for all of them at once; jobs keep what held when they were slung."""
        # `gt up` may be back before the worker has made the tables.
        with contextlib.closing(Ledger.open(self.town.ledger_url())) as ledger:
            for key, value in settings.items():
                ledger.set_setting("town", key, str(value))

    # --- what is true of the world: asked in this process, for a whole command costs as much as a job's step ----

    @property
    def town(self) -> Town:
        return find_town(self.root)

    @contextlib.contextmanager
    def record(self) -> Iterator[Ledger]:
        with contextlib.closing(Ledger.open(self.town.ledger_url(), create=False)) as ledger:
            yield ledger

    def landed(self, bead: str) -> list[str]:
        """Commits on the remote's main that carry this bead's trailer."""
        return landings(self.remote).get(bead, [])

    def status_of(self, bead: str) -> str:
        with self.record() as ledger:
            return ledger.bead(bead).status.value

    def wait_closed(self, bead: str, timeout_s: float = DEADLINE_S) -> None:
        try:
            wait_until(f"{bead} to be closed", lambda: self.status_of(bead) == "closed", timeout_s)
        except AssertionError as error:
            story = self.run("gt", "job", "show", bead, expect=None)
            raise AssertionError(f"{error}\n{story.stdout}\n{story.stderr}") from None

    def sessions(self) -> list[str]:
        """Names of the town's tmux sessions whose pane lives."""
        done = subprocess.run(
            ["tmux", "-L", self.tmux_socket(), "list-panes", "-a", "-F", "#{session_name} #{pane_dead}"],
            env=self.env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return [line.split()[0] for line in done.stdout.splitlines() if line.endswith(" 0")]

    def tmux_socket(self) -> str:
        return f"gt-{self.town.file.id}"

    def tmux_pid(self) -> int:
        """Of the server that holds the town's sessions."""
        argv = ["tmux", "-L", self.tmux_socket(), "display-message", "-p", "#{pid}"]
        return int(subprocess.run(argv, env=self.env, capture_output=True, text=True, check=True).stdout)

    def service(self, name: str) -> ServiceState:
        return next(state for state in service_states(self.town) if state.name == name)

    def kill_service(self, name: str) -> int:
        """kill -9 of a supervised service; returns the pid that died."""
        pid = self.service(name).pid
        assert pid is not None, f"{name} does not run"
        os.kill(pid, signal.SIGKILL)
        return pid

    def close(self) -> None:
        if self.root.exists():
            self.run("gt", "down", "--sessions", expect=None)
            subprocess.run(
                ["tmux", "-L", self.tmux_socket(), "kill-server"], env=self.env, capture_output=True, check=False
            )


Kind = TypeVar("Kind", bound=LivingTown)


@contextlib.contextmanager
def running_town(kind: type[Kind], store: str, *rig: str) -> Iterator[Kind]:
    """A town that is up on that ledger engine, with QUICK settings and the rig `shop`; gone at the end.

    Args:
        rig: more words of `gt rig add`.
    """
    with tempfile.TemporaryDirectory(prefix="gt-") as folder:
        living = kind(Path(folder), store=store)
        try:
            living.init()
            living.up()
            living.configure(QUICK)
            living.add_rig(*rig)
            yield living
        finally:
            living.close()


def shell_agent(*, file: str, text: str = "x = 1", before: str = "true", after: str = "gt done") -> str:
    """An agent command: edits `file`, commits it if it is not committed yet, and runs `after`."""
    return (
        f"{before}; [ -e {file} ] || {{ echo '{text}' > {file}; }}; git add -A; "
        f"git diff --cached --quiet || git -c user.name=a -c user.email=a@example.com commit -qm 'add {file}'; {after}"
    )
