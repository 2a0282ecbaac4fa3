"""A town with everything that an attacker could want, and what became of the attacks on it."""

from __future__ import annotations

import contextlib
import ctypes
import http.server
import json
import os
import shlex
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple
from unittest import mock

import psutil

from agents import session_folder
from agents.environment import server_environment
from agents.inbox import deliver
from cli.frame import command_client
from models.mayor.mail import Message
from models.town import StoreEngine
from services.atomic_files import make_folders
from services.supervisor.programs import supervisor_socket, temporal_socket
from tests.attack import attacks, disarmed_worker
from tests.attack.attacks import GATE, SESSION, USER, Attack
from tests.e2e.living_town import git, wait_until
from tests.e2e.quick_town import QuickTown
from tests.pace import DEADLINE_S

TOKEN: Final = "planted-a1b2c3"
KEY_SHAPE: Final = "sk-" + "ant-api03-" + "q7" * 45
NOBODY: Final = 65534
"""another user of the machine"""
HEARD: Final = 10
"""calls for help of an attempt in a minute"""
BYSTANDER: Final = "bystander"
"""a tmux session"""
SCRATCH: Final = ("/tmp", "/dev/shm", "/var/tmp")
"""where everybody may write"""
HOMES: Final = (
    *(".ssh/id_ed25519", ".git-credentials", ".netrc", ".aws/credentials", ".config/gh/hosts.yml", ".pgpass"),
    *(".docker/config.json", ".gnupg/secring.gpg", ".kube/config", ".bash_history", ".npmrc", "work/plan.txt"),
)
_PROGRAMS: Final = Path(attacks.__file__)

POLITE: Final = (
    *("gt refinery gate remove attacked --rig shop", "gt alert channel remove hook", "gt deacon stop", "gt down"),
    *("gt rig remove shop --yes", "gt config sandbox.mode none", "gt job cancel sh-0", "gt sling sh-0 shop"),
    *("gt dolt reset --force", "gt mail send bank/nux -s x x", "gt mail inbox --identity mayor"),
    *("bd close sh-0", "bd update sh-0 --title x", "bd list", "bd comment sh-0 x", "bd export"),
)
"""commands that are no agent's to run"""
RUDE: Final = (
    "gt config checkpoint.interval 601",
    "bd create by-{door} --rig shop",
    "gt mail send human -s by-{door} x",
)
"""the same without saying that it is a session"""


class Outcome(NamedTuple):
    """What one round of attacks did, by (door, attack)."""

    tried: frozenset[tuple[str, str]]
    effects: frozenset[tuple[str, str]]


class AttackedTown(QuickTown):
    """A living town, Temporal behind its socket, whose worker can be disarmed."""

    def found(self) -> None:
        self.init()
        text = (self.root / "town.toml").read_text()
        (self.root / "town.toml").write_text(text.replace('listen = "auto"', 'listen = "socket"'))
        self.env["GT_PLANTED"] = TOKEN
        for name in ("GITHUB_TOKEN", "GT_LEDGER_SECRET", "SSH_AUTH_SOCK"):
            self.env[name] = TOKEN
        # As `gt up`, with another module for the worker.
        script = (
            "import sys; from services.supervisor import programs; "
            f"programs.WORKER_MODULE = {disarmed_worker.__name__!r}; "
            "from cli.gt import main; sys.exit(main())"
        )
        argv = [sys.executable, "-c", script, "up", "--town", str(self.root), "--timeout", f"{DEADLINE_S:.0f}"]
        done = subprocess.run(
            argv,
            cwd=_PROGRAMS.parents[2],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=2 * DEADLINE_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def disarm(self) -> None:
        pid = self.service("worker").pid
        assert pid is not None
        os.kill(pid, signal.SIGUSR1)
        wait_until("the worker to be disarmed", lambda: (self.root / disarmed_worker.DISARMED).exists())


class Siege:
    """Targets and attackers of one town."""

    def __init__(self, town: AttackedTown, *, offline: bool, number: int) -> None:
        self.town = town
        self.offline = offline
        self.outside = town.folder / "outside"
        self.place = town.folder / "targets.json"
        self._things = contextlib.ExitStack()
        self._key = 0x67740000 + os.getpid() % 0x10000 * 2 + number
        self.sleep = {SESSION: f"98761.{number}{os.getpid()}", GATE: f"98762.{number}{os.getpid()}"}
        self.to: dict[str, Any] = {}

    def __enter__(self) -> Siege:
        # Others may see the folder: what keeps them out of the town is to be its own.
        self.town.folder.chmod(0o755)
        self.town.configure({"health.check_interval": 5})
        command = shlex.join([sys.executable, str(_PROGRAMS), GATE, str(self.place)])
        gate = f"printf '%s\\n' {KEY_SHAPE}; {command}"
        self.town.run("gt", "rig", "add", "shop", str(self.town.remote), "--prefix", "sh", "--gate", f"attacked={gate}")
        self.to = self._plant()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._daemons().values():
            process.kill()
        self._things.close()

    # --- what there is to attack ------------------------------------------------------------------

    def _plant(self) -> dict[str, Any]:
        """What attackers are told, once it is there."""
        town, paths = self.town, self.town.town.paths
        home, worktree = Path(town.env["HOME"]), paths.worktree("shop", "other")
        self.outside.mkdir()
        for shared in (paths.modules("shop"), paths.lfs("shop")):
            make_folders(shared)
        home.chmod(0o700)
        for folder in ("inbox", "victims", "shed"):
            (self.outside / folder).mkdir(mode=0o700)
        self._make_victims()
        self._write(self.outside / "near.txt", TOKEN)
        read, hold, write = self._readable(home), self._held(), self._writable(home)
        for repository in (paths.served("shop"), worktree / ".git"):
            git(town.folder, "init", "-q", "--bare", str(repository))
        append = {"secrets.toml": paths.secrets, "town.toml": paths.config, "the person's shell": home / ".bashrc"}
        program = subprocess.Popen(["sleep", "600"], cwd=self.outside, env={"GT_PLANTED": TOKEN})
        self._things.callback(program.wait)
        self._things.callback(program.kill)
        commands = paths.run / command_client.SOCKET
        wait_until("the server of commands", commands.is_socket)
        sockets = {
            "the supervisor": supervisor_socket(town.town),
            "Temporal": temporal_socket(town.town),
            "the server of commands": commands,
            "the ssh agent": town.folder / "agent.sock",
            "tmux": self._tmux(),
        }
        repositories = {
            "the remote": town.remote,
            "the town's clone": paths.clone("shop"),
            "what agents fetch": paths.served("shop"),
            "another's repository": worktree / ".git",
        }
        return {
            **{"token": TOKEN, "key_shape": KEY_SHAPE, "unique": self._key, "root": os.getuid() == 0},
            **{"town": str(town.root), "home": str(home), "remote": str(town.remote), "outside": str(self.outside)},
            **{"victims": str(self.outside / "victims"), "shed": str(self.outside / "shed"), "offline": self.offline},
            **{"read": _texts(read), "hold": _texts(hold), "write": _texts(write), "append": _texts(append)},
            **{"sockets": _texts(sockets), "repositories": _texts(repositories), "key": str(home / ".ssh/id_ed25519")},
            **{"scratch": SCRATCH, "listeners": self._listeners(sockets["the ssh agent"]), "sleep": self.sleep},
            "pids": {"a program": program.pid, "the worker": town.service("worker").pid, "tmux": town.tmux_pid()},
            "network": self._network() if self.offline else {},
            "door": str(paths.door / "agent.sock"),
            "shared_memory": self._share_memory(),
            "terminal": self._terminal(),
            **{"polite": POLITE, "rude": RUDE, "programs": str(Path(sys.executable).parent)},
        }

    def _readable(self, home: Path) -> dict[str, Path]:
        """Files that hold the token, private to the town's user."""
        root, paths = self.town.root, self.town.town.paths
        session = paths.session("shop", "other", "sh-0", 1)
        found = {
            "secrets.toml": paths.secrets,
            "channels.toml": paths.channels,
            "another's record": session / "session.json",
            "the record of another's": paths.record(session) / "session.json",
            "another's task": session / "task.md",
            "another's letters": session / "inbox" / "m-1.json",
            "another's work": paths.worktree("shop", "other") / "work.txt",
            "how another is started": paths.run / "sandboxes" / "shop--other.sh",
            "evidence": paths.evidence / "sh-0" / "1" / "pane.txt",
            "logs of gates": paths.gate_logs("shop") / "other.log",
            "brought files": paths.brought_files("shop") / ".env",
            "a backup": root / "backups" / "b" / "data",
            "salvaged work": paths.salvage / "shop" / "work.txt",
            "alerts": paths.alerts / "planted.txt",
            **{f"~/{name}": home / name for name in HOMES},
            **{f"{folder}/…": Path(folder, f"gt-{self._key}") for folder in SCRATCH[:2]},
        }
        for path in found.values():
            self._write(path, f"# {TOKEN}\n")
        for folder in SCRATCH[:2]:
            self._things.callback(Path(folder, f"gt-{self._key}").unlink)
        return found

    def _held(self) -> dict[str, Path]:
        """Files of the town's own, whatever is in them."""
        paths = self.town.town.paths
        embedded = self.town.town.file.store.engine is StoreEngine.EMBEDDED
        ledger = (
            paths.doltlite_file if embedded else next(path for path in paths.dolt_data.rglob("*") if path.is_file())
        )
        return {
            "town.toml": paths.config,
            "the ledger": ledger,
            "Temporal's database": paths.temporal_db,
            "the worker's log": paths.logs / "worker.log",
            "the supervisor's settings": paths.supervisor_config,
        }

    def _writable(self, home: Path) -> dict[str, Path]:
        """Folders that only the town and its user write to."""
        root, paths = self.town.root, self.town.town.paths
        session, clone = paths.session("shop", "other", "sh-0", 1), paths.clone("shop")
        return {
            "the town": root,
            "the ledger's folder": paths.data,
            "the supervisor's folder": paths.run,
            "the programs of agents": paths.bin,
            "another's session": session,
            "another's inbox": session / "inbox",
            "another's work": paths.worktree("shop", "other"),
            "the rig": paths.rig("shop"),
            "the town's clone": clone,
            "the clone's objects": clone / "objects",
            "brought files": paths.brought_files("shop"),
            "what agents fetch": paths.served("shop"),
            "clones of submodules": paths.modules("shop"),
            "contents of LFS": paths.lfs("shop"),
            "records of attempts": paths.attempts,
            "the door of agents": paths.door,
            "evidence": paths.evidence,
            "alerts": paths.alerts,
            "logs": paths.logs,
            "logs of gates": paths.gate_logs("shop"),
            "backups": root / "backups",
            "the remote": self.town.remote,
            "the home": home,
            **{f"~/{name}": home / name for name in (".ssh", ".config", ".gnupg", "work")},
            "the installation": Path(sys.prefix),
            "what is beside the town": self.town.folder,
        }

    def _write(self, path: Path, text: str) -> None:
        make_folders(path.parent)
        with path.open("a") as file:
            file.write(text)
        path.chmod(0o600)

    def _listeners(self, named: Path) -> dict[str, Any]:
        """What listens on this host's network: addresses; and on the socket `named`."""
        nameless = f"\0gt-attack-{self._key}"
        ssh_agent, hidden, port = (
            socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX), socket.create_server(("127.0.0.1", 0)),
        )  # fmt: skip
        ssh_agent.bind(str(named))
        named.chmod(0o600)
        hidden.bind(nameless)
        for server in (ssh_agent, hidden, port):
            server.listen(50)
            self._things.callback(server.close)
        found = {"a port of the host": list(port.getsockname()), "a socket without a name": nameless}
        ledger = self.town.town.file.store.port
        return found | ({"the ledger's port": ["127.0.0.1", ledger]} if ledger is not None else {})

    def _network(self) -> dict[str, Any]:
        """Places of this machine that an agent with a list of hosts may ask for: of one it may."""
        listed, other = (http.server.ThreadingHTTPServer(("0.0.0.0", 0), _Page) for _ in range(2))
        resolver = socketserver.UDPServer(("0.0.0.0", 0), _Resolver)
        for server in (listed, other, resolver):
            serving = threading.Thread(target=server.serve_forever)
            serving.start()
            for end in (server.server_close, serving.join, server.shutdown):
                self._things.callback(end)
        proxy = socket.socket(socket.AF_UNIX)
        place = self.town.town.paths.record(self.town.town.paths.session("shop", "other", "sh-0", 1)) / "network"
        make_folders(place)
        proxy.bind(str(place / "proxy.sock"))
        proxy.listen()
        self._things.callback(proxy.close)
        return {
            **{"listed": listed.server_port, "other": other.server_port, "resolver": resolver.server_address[1]},
            **{"name": _own_name(), "own": _own_address(), "socket": str(place / "proxy.sock")},
        }

    def _reaches_metadata(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("169.254.169.254", 80), timeout=5):
            return True
        return False

    def _tmux(self) -> Path:
        """The socket of the town's tmux server, which a session keeps alive that is nobody's."""
        self._ask_tmux("new-session", "-d", "-s", BYSTANDER, "sleep 600")
        return Path(self._ask_tmux("display-message", "-p", "#{socket_path}"))

    def _terminal(self) -> str:
        """That of the session which is nobody's."""
        return self._ask_tmux("display-message", "-p", "-t", BYSTANDER, "#{pane_tty}")

    def _ask_tmux(self, *argv: str) -> str:
        words = ["tmux", "-L", self.town.tmux_socket(), *argv]
        # As the town starts the server: with what it needs to run.
        kept = server_environment(self.town.env)
        return subprocess.run(words, env=kept, check=True, capture_output=True, text=True).stdout.strip()

    def _share_memory(self) -> int:
        """The key of a page and of a queue of messages that processes of the host share."""
        libc = ctypes.CDLL(None, use_errno=True)
        known, queue = libc.shmget(self._key, 4096, 0o1600), libc.msgget(self._key, 0o1600)
        assert known >= 0, os.strerror(ctypes.get_errno())
        assert queue >= 0, os.strerror(ctypes.get_errno())
        self._things.callback(libc.shmctl, known, 0, None)
        self._things.callback(libc.msgctl, queue, 0, None)
        return self._key

    # --- a round of attacks -----------------------------------------------------------------------

    def attack(self, mode: str) -> Outcome:
        """Every attack by every door once, with that `sandbox.mode`; what they left is removed."""
        town = self.town
        network = self.to["network"]
        listed = f"127.0.0.1:{network['listed']}" if network else ""
        listed += f" {network['name']}:{network['other']}" if network.get("name") else ""
        town.configure({"sandbox.mode": mode, "agent.network": listed if listed and mode != "none" else "full"})
        # Those that might work then would be the end of the town; RUDE stands for them.
        self.to["polite"] = POLITE if mode != "none" else ()
        self.place.write_text(json.dumps(self.to))
        self.place.chmod(0o644)
        self._make_victims()
        first, second = town.bead(f"attack with {mode}"), town.bead(f"bend with {mode}")
        script = shlex.join([sys.executable, str(_PROGRAMS)])
        place, go = shlex.quote(str(self.place)), '"${GT_TASK_FILE%/*}/go"'
        work = f"echo 1 > {mode}.txt; git add -A; git -c user.name=a -c user.email=a@example.com commit -qm {mode}"
        waits = f"while [ ! -e {go} ]; do sleep 0.1; done"
        town.sling(first, f"{script} {SESSION} {place}; {work}; {waits}; gt done")
        town.sling(second, f"{script} bend {place}; sleep 600")
        other = self._as_another_user(NOBODY if mode != "none" else os.getuid())
        answer = wait_until("the agent to have tried", lambda: self._folder(first, attacks.ANSWER))
        began = time.monotonic()
        effects = {(USER, name) for name in other} | {(SESSION, name) for name in json.loads(answer.read_text())}
        self._write_letter(answer.parent, mode)
        least = HEARD if mode != "none" else attacks.CRIES

        def heard() -> int:
            """Calls for help: the file of one goes when it was."""
            return attacks.CRIES - len(list((answer.parent / "help").glob("*.json")))

        wait_until("calls for help to be heard", lambda: heard() >= least)
        # A minute's worth more than whole minutes: one may have begun before this one.
        allowed = HEARD * (2 + int((time.monotonic() - began) / 60))
        cries = heard()
        (answer.parent / "go").touch()
        for bead in (first, second):
            town.wait_closed(bead)
        wait_until("sessions to end", lambda: town.sessions() == [BYSTANDER])
        logs = town.town.paths.gate_logs("shop").rglob("attacked.log")
        log = max(logs, key=lambda path: path.stat().st_mtime).read_text()
        effects |= {(GATE, name) for name in json.loads(log.rpartition("ATTACKS ")[2].splitlines()[0])}
        if listed:
            assert (SESSION, attacks.LISTED) in effects, "what is listed was not reached: the others prove nothing"
            effects.remove((SESSION, attacks.LISTED))
        tables = {door: self._table(door) for door in self.doors}
        for door, table in tables.items():
            effects |= {(door, attack.name) for attack in table if attack.mark and self._left(attack.mark, first)}
        tried = {(door, attack.name) for door, table in tables.items() for attack in table}
        tried -= {(SESSION, attacks.LISTED)}
        if mode == "none" and not self._reaches_metadata():
            tried -= {(SESSION, attacks.METADATA)}  # nothing answers there on this machine: no control of it
        for name, mark in attacks.bent_marks(self.to).items():
            tried.add((SESSION, name))
            if Path(mark).exists():
                Path(mark).unlink()
                effects.add((SESSION, name))
        tried |= {(SESSION, "call for help without end"), (GATE, "leave a secret in its log")}
        if cries > allowed:
            effects.add((SESSION, "call for help without end"))
        if KEY_SHAPE in log:
            effects.add((GATE, "leave a secret in its log"))
        return Outcome(frozenset(tried), frozenset(effects))

    @property
    def doors(self) -> tuple[str, ...]:
        return (SESSION, GATE, USER) if os.getuid() == 0 else (SESSION, GATE)

    def _table(self, door: str) -> list[Attack]:
        return attacks.attacks(door, self.to)

    def _make_victims(self) -> None:
        for name in (SESSION, GATE, USER):
            (self.outside / "victims" / name).touch()

    def _folder(self, bead: str, name: str) -> Path | None:
        return next(iter(self.town.town.paths.sessions.glob(f"shop/*/{bead}/1/{name}")), None)

    def _as_another_user(self, uid: int) -> list[str]:
        if os.getuid() != 0:
            return []
        argv = [sys.executable, str(_PROGRAMS), USER, str(self.place), str(uid)]
        done = subprocess.run(
            argv, capture_output=True, text=True, cwd="/", env={"PATH": os.environ["PATH"]}, check=True
        )
        return [str(name) for name in json.loads(done.stdout.rpartition("ATTACKS ")[2])]

    def _write_letter(self, folder: Path, mode: str) -> None:
        """What `gt mail send` does with one for this session."""
        letter = Message(
            id="letter", sender="human", recipient="shop/toast", subject="Hello", body="x", sent_at=datetime.now(UTC)
        )
        unguarded = mock.patch.object(session_folder, "own_folder", lambda path: path)
        with unguarded if mode == "none" else contextlib.nullcontext():
            assert deliver(folder, letter)

    def _left(self, mark: str, bead: str) -> bool:
        """Whether the mark is there; it is removed."""
        kind, _, rest = mark.partition(":")
        match kind:
            case "sleep":
                process = self._daemons().get(rest)
                if process is not None:
                    process.kill()
                return process is not None
            case "ref":
                repository, _, ref = rest.partition(":")
                if not git(Path(repository), "for-each-ref", ref).strip():
                    return False
                git(Path(repository), "update-ref", "-d", ref)
                return True
            case "line":
                path, _, line = rest.partition(":")
                text = Path(path).read_text() if Path(path).exists() else ""
                if line in text:
                    Path(path).write_text(text.replace(line, "").replace("[planted]\n", ""))
                return line in text
            case "gone":
                return not Path(rest).exists()
            case "pane":
                return KEY_SHAPE in (self.town.town.paths.evidence / bead / "1" / "pane.txt").read_text().replace(
                    "\n", ""
                )
            case "helps":
                return False  # counted while it was heard
            case _:
                there = os.path.lexists(mark)
                if there:
                    os.unlink(mark)
                return there

    def _daemons(self) -> dict[str, psutil.Process]:
        found = {}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                if words and words[0].endswith("sleep") and words[-1].startswith(tuple(self.sleep.values())):
                    found[words[-1]] = process
        return found


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


class _Resolver(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request[1].sendto(b"!", self.client_address)


def _own_name() -> str:
    """One that leads to this machine; "" where there is none beside localhost."""
    with contextlib.suppress(OSError):
        if socket.gethostbyname(socket.gethostname()) in {"127.0.0.1", "127.0.1.1", _own_address()}:
            return socket.gethostname()
    return ""


def _own_address() -> str:
    """One of this machine's that is no loopback; loopback where it has no other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        with contextlib.suppress(OSError):
            asking.connect(("192.0.2.1", 9))
        return str(asking.getsockname()[0]).replace("0.0.0.0", "127.0.0.1")


def _texts(paths: Mapping[str, Path]) -> dict[str, str]:
    return {name: str(path) for name, path in paths.items()}


@contextlib.contextmanager
def besieged(store: str, folder: Path, *, offline: bool, number: int) -> Iterator[Siege]:
    """A town on that ledger engine with its targets; gone at the end."""
    town = AttackedTown(folder, store=store)
    try:
        town.found()
        with Siege(town, offline=offline, number=number) as siege:
            yield siege
    finally:
        town.close()
