"""town.toml: where things are. What shapes behaviour is in models/settings.py instead."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from models import names


class StoreEngine(StrEnum):
    EMBEDDED = "embedded"
    """doltlite: one file in the town"""
    SERVER = "server"
    """a Dolt SQL server that `gt up` runs"""
    EXTERNAL = "external"
    """a Dolt SQL server elsewhere, at `url`"""


class Listen(StrEnum):
    """Who reaches the Temporal that `gt up` runs."""

    AUTO = "auto"
    """the socket where other people have accounts on the machine and it can be had, else loopback"""
    LOOPBACK = "loopback"
    """whoever is on the machine"""
    SOCKET = "socket"
    """the owner alone, through a Unix socket"""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StoreSection(_Section):
    engine: StoreEngine = StoreEngine.EMBEDDED
    url: str | None = None
    """external only: `mysql+pymysql://user@host:port/database`; the password is a secret"""
    port: int | None = None
    """server only: loopback port"""


class TemporalSection(_Section):
    external: bool = False
    """true: `gt up` starts no Temporal; the connection comes from `profile` and the environment"""
    profile: str | None = None
    """temporalio.envconfig profile"""
    namespace: str
    port: int | None = None
    ui_port: int | None = None
    metrics_port: int | None = None
    """of the Temporal server"""
    listen: Listen = Listen.AUTO
    ui_url: str | None = None
    """external only: address of its Web UI"""


class WorkerSection(_Section):
    metrics_port: int | None = None
    """Prometheus port of the worker on the loopback interface; none by default"""


class TownFile(_Section):
    """The content of town.toml."""

    name: str
    id: str
    """name plus a random suffix: keeps tmux sockets of equally named towns apart"""
    host: str
    agent: str | None = None
    """agent command for rigs that name none"""
    store: StoreSection = StoreSection()
    temporal: TemporalSection
    worker: WorkerSection = WorkerSection()
    format: int = Field(1, ge=1)


class TemporalListening(BaseModel):
    """Where the Temporal that runs was told to listen, whatever town.toml says by now."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    on_socket: bool = False
    """behind the town's Unix socket, in a network of its own"""
    ui_host: str = "127.0.0.1"
    """where the Web UI itself listens"""
    lacks: str = ""
    """why it is less closed than `auto` would have had it"""


class TownEpoch(BaseModel):
    """Which incarnation of the town counts: raised when another town takes over."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    epoch: int
    raised_at: datetime | None = None
    """None: never raised"""
    raised_by: str = ""
    cause: str = ""


class TownPaths:
    """Every path inside a town directory. Pure: nothing is created or read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "town.toml"
        self.secrets = root / "secrets.toml"
        self.channels = root / "channels.toml"
        """URLs of alert channels: as secret as passwords"""
        self.data = root / "data"
        self.logs = root / "logs"
        self.run = root / "run"
        self.rigs = root / "rigs"
        self.temporal_db = self.data / "temporal.db"
        self.dolt_data = self.data / "dolt"
        self.doltlite_file = self.data / "ledger.doltlite"
        self.supervisor_config = self.run / "supervisord.conf"
        self.sessions = self.run / "sessions"
        self.attempts = self.run / "attempts"
        """the records of sessions once more, out of their agents' reach"""
        self.door = self.run / "door"
        """holds the socket where sandboxes hand in commands"""
        self.temporal_listening = self.run / "temporal.listening.json"
        self.tmux_server = self.run / "tmux.json"
        """which process is the town's tmux server"""
        self.alerts = self.run / "alerts"
        """the rules' mirror, and what is known of deliveries"""
        self.alerts_log = self.logs / "alerts.log"
        self.evidence = root / "evidence"
        self.salvage = root / "salvage"
        """what stood in a worktree's place or within one, and git could not save"""
        self.trash = self.salvage / "trash"
        """what the town could not delete, renamed aside"""
        self.bin = self.run / "bin"
        """holds `gt` and `bd` for the PATH of agents"""

    def rig(self, rig: str) -> Path:
        return self.rigs / names.valid_rig(rig)

    def clone(self, rig: str) -> Path:
        """Bare cache clone, written by the town alone: chains are built in it, polecats borrow its objects."""
        return self.rig(rig) / "repo.git"

    def served(self, rig: str) -> Path:
        """What agents fetch instead of a remote on another machine: its branches and tags, over `clone`'s objects."""
        return self.rig(rig) / "origin.git"

    def lfs(self, rig: str) -> Path:
        """Contents of Git LFS, for every checkout that the town makes."""
        return self.rig(rig) / "lfs"

    def modules(self, rig: str) -> Path:
        """Bare clones of submodules, one per address."""
        return self.rig(rig) / "modules"

    def worktree(self, rig: str, polecat: str) -> Path:
        """A polecat's work tree, with a repository of its own in it."""
        return self.rig(rig) / "polecats" / names.valid_polecat(polecat)

    def worktree_side(self, rig: str, polecat: str) -> Path:
        """What the town keeps about a polecat's work tree: whose it is, and the git directory it looks through."""
        return self.rig(rig) / "worktrees" / names.valid_polecat(polecat)

    def salvaged(self, rig: str, polecat: str, bead: str, attempt: int) -> Path:
        """Where a work tree goes that holds what no snapshot can hold."""
        name = f"{names.valid_bead(bead)}.{attempt}.{names.valid_polecat(polecat)}"
        return self.salvage / names.valid_rig(rig) / name

    @property
    def git_config(self) -> Path:
        """The only user configuration that the town's own git reads."""
        return self.root / "gitconfig"

    def worktree_lock(self, rig: str, polecat: str) -> Path:
        """Held by whoever changes the polecat's worktree, or saves what stands in it."""
        return self.rig(rig) / "locks" / f"{names.valid_polecat(polecat)}.lock"

    def gate_runner(self, rig: str, runner: int) -> Path:
        return self.rig(rig) / "gates" / str(runner)

    def gate_home(self, rig: str) -> Path:
        """HOME of gates where it is kept from run to run."""
        return self.rig(rig) / "gates" / "home"

    def brought_files(self, rig: str) -> Path:
        """Untracked files that worktrees and checkouts get, unless a setting names another folder."""
        return self.rig(rig) / "files"

    def gate_logs(self, rig: str) -> Path:
        return self.logs / "gates" / names.valid_rig(rig)

    def session(self, rig: str, polecat: str, bead: str, attempt: int) -> Path:
        """The session folder: attempt numbers are per bead, so the bead is part of the path."""
        return (
            self.sessions / names.valid_rig(rig) / names.valid_polecat(polecat) / names.valid_bead(bead) / str(attempt)
        )

    def record(self, session: Path) -> Path:
        """What the town keeps of a session folder's attempt beside it, while that lasts."""
        return self.attempts / session.relative_to(self.sessions)


def tmux_socket(town_id: str) -> str:
    """Name of the town's own tmux server (`tmux -L`)."""
    return f"gt-{town_id}"
