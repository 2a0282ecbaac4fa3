"""A real Dolt server for each pytest process, and a fresh ledger of either engine for each test.

How a Dolt 1.86.4 server has a password from birth: the first start with an empty `cfg_dir` and
DOLT_ROOT_PASSWORD and DOLT_ROOT_HOST in its environment creates `root` with that password in
`<cfg_dir>/privileges.db`. No superuser without a password exists at any time, and later starts
need neither variable. DOLT_ROOT_PATH keeps Dolt's global configuration out of HOME.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pymysql
import pytest

from ledger.engine import engines, transactions
from ledger.engine.embedded import load_doltlite
from ledger.store import Ledger
from services.ports import pick_free
from tests.pace import DEADLINE_S

# Before any test module imports sqlite3: afterwards doltlite cannot take its place.
load_doltlite()

DOLT_VERSION = "1.86.4"
MAX_CONNECTIONS = 60
LOCKED = "is locked by another dolt process"
ROOT = Path(__file__).resolve().parents[2]


def dolt_program() -> str:
    """The dolt program: GT_DOLT, PATH, or the cache that the build fills."""
    cached = Path.home() / ".cache" / "gastown" / f"dolt-{DOLT_VERSION}" / "dolt"
    for candidate in (os.environ.get("GT_DOLT"), shutil.which("dolt"), str(cached)):
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    raise FileNotFoundError(
        f"no dolt: build it with `GOBIN={cached.parent} go install github.com/dolthub/dolt/go/cmd/dolt@v{DOLT_VERSION}`"
    )


def free_port() -> int:
    """One that no connection takes of itself before the server listens on it, or while that is restarted."""
    (port,) = pick_free(1)
    return port


class DoltServer:
    """A Dolt SQL server in a folder of its own, on loopback, with a password from birth."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.password = uuid.uuid4().hex
        self._process: subprocess.Popen[bytes] | None = None
        data = folder / "data"
        data.mkdir(parents=True)
        (folder / "dolt.yaml").write_text(
            f"log_level: warning\n"
            f"behavior:\n  auto_gc_behavior:\n    enable: false\n"
            f"listener:\n  host: 127.0.0.1\n  port: {self.port}\n  max_connections: {MAX_CONNECTIONS}\n"
            f"data_dir: {data}\ncfg_dir: {data}/.doltcfg\n"
        )

    def start(self) -> None:
        """Start it; returns when it answers."""
        deadline = time.monotonic() + DEADLINE_S
        while not self._comes_up(deadline):
            time.sleep(0.1)

    def _comes_up(self, deadline: float) -> bool:
        """False where the lock of one that was killed is still held: it may be for a moment, whoever restarts it."""
        environment = os.environ | {
            "DOLT_ROOT_PASSWORD": self.password,
            "DOLT_ROOT_HOST": "127.0.0.1",
            "DOLT_ROOT_PATH": str(self.folder),
            "DOLT_DISABLE_EVENT_FLUSH": "true",
        }
        with (self.folder / "dolt.log").open("ab") as log:
            self._process = subprocess.Popen(
                [dolt_program(), "sql-server", "--config", str(self.folder / "dolt.yaml")],
                env=environment,
                stdout=log,
                stderr=log,
            )
        while not self._answers():
            ended, late = self._process.poll() is not None, time.monotonic() > deadline
            if ended or late:
                said = (self.folder / "dolt.log").read_text()
                if ended and not late and LOCKED in said.splitlines()[-1]:
                    return False
                raise RuntimeError(said)
            time.sleep(0.02)
        return True

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server does not run"
        return self._process.pid

    @contextmanager
    def crowded(self) -> Iterator[None]:
        """Inside, every connection that the server allows is in use."""
        held: list[pymysql.Connection[pymysql.cursors.Cursor]] = [self._connect()]
        try:
            while self._connections(held[0]) < MAX_CONNECTIONS:
                # It lets one that is too many wait, as a busy machine does with one that is not.
                with contextlib.suppress(pymysql.Error):
                    held.append(self._connect(timeout_s=2))
            yield
        finally:
            for connection in held:
                connection.close()

    def _connections(self, asked: pymysql.Connection[pymysql.cursors.Cursor]) -> int:
        with asked.cursor() as cursor:
            return int(cursor.execute("SHOW PROCESSLIST"))

    def url(self, database: str) -> str:
        return f"mysql+pymysql://root:{self.password}@127.0.0.1:{self.port}/{database}"

    def drop(self, database: str) -> None:
        with self._connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS `{database}`")

    def reset(self, database: str, commit: str) -> None:
        """Take a database back to one of its commits: rows, tables and history."""
        with self._connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"USE `{database}`")
            cursor.execute("CALL DOLT_RESET('--hard', %s)", (commit,))

    def _answers(self) -> bool:
        try:
            self._connect().close()
        except pymysql.Error:
            return False
        return True

    def _connect(self, timeout_s: float | None = None) -> pymysql.Connection[pymysql.cursors.Cursor]:
        return pymysql.connect(
            host="127.0.0.1", port=self.port, user="root", password=self.password, read_timeout=timeout_s
        )


@pytest.fixture(scope="session")
def dolt_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DoltServer]:
    server = DoltServer(tmp_path_factory.mktemp("dolt"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def mortal_server(tmp_path: Path) -> Iterator[DoltServer]:
    """A server that the test may kill."""
    server = DoltServer(tmp_path / "mortal")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def endless_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of many writers or of servers that come and go: on a busy machine each takes its time."""
    monkeypatch.setattr(engines, "STATEMENT_TIMEOUT_S", DEADLINE_S)
    monkeypatch.setattr(engines, "BUSY_TIMEOUT_S", DEADLINE_S)
    monkeypatch.setattr(transactions, "CONFLICT_PATIENCE_S", DEADLINE_S)
    monkeypatch.setattr(transactions, "LOST_PATIENCE_S", DEADLINE_S)


@pytest.fixture
def server_url(dolt_server: DoltServer) -> Iterator[str]:
    database = f"t{uuid.uuid4().hex[:12]}"
    yield dolt_server.url(database)
    dolt_server.drop(database)


@pytest.fixture
def embedded_url(tmp_path: Path) -> str:
    return f"doltlite:///{tmp_path / 'ledger.doltlite'}"


@pytest.fixture(scope="session")
def empty_database(dolt_server: DoltServer) -> tuple[str, str]:
    """A database with the ledger's tables, and the commit at which they are empty."""
    ledger = Ledger.open(dolt_server.url("ready"))
    commit = ledger.read(lambda connection: connection.exec_driver_sql("SELECT HASHOF('main')").scalar_one())
    ledger.close()
    return "ready", str(commit)


@pytest.fixture(scope="session")
def empty_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the ledger's tables."""
    file = tmp_path_factory.mktemp("ready") / "ledger.doltlite"
    Ledger.open(f"doltlite:///{file}").close()
    return file


@pytest.fixture
def empty_server_url(dolt_server: DoltServer, empty_database: tuple[str, str]) -> str:
    """One database for all tests, reset for each: to make its tables costs ten times as much."""
    dolt_server.reset(*empty_database)
    return dolt_server.url(empty_database[0])


@pytest.fixture
def empty_embedded_url(embedded_url: str, empty_file: Path) -> str:
    shutil.copy(empty_file, embedded_url.removeprefix("doltlite:///"))
    return embedded_url


@pytest.fixture(params=["server", "embedded"])
def new_url(request: pytest.FixtureRequest) -> str:
    """A ledger that does not exist yet, of either engine."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture(params=["server", "embedded"])
def url(request: pytest.FixtureRequest) -> str:
    """Of a ledger of either engine: an empty one where the test has `ledger` besides, else one that does not exist."""
    ready = "empty_" if "ledger" in request.fixturenames else ""
    return str(request.getfixturevalue(f"{ready}{request.param}_url"))


@pytest.fixture
def open_ledger() -> Iterator[Callable[[str], Ledger]]:
    """Opens ledgers and closes them after the test."""
    opened: list[Ledger] = []

    def open_one(url: str) -> Ledger:
        ledger = Ledger.open(url)
        opened.append(ledger)
        return ledger

    yield open_one
    for ledger in opened:
        ledger.close()


@pytest.fixture
def ledger(url: str, open_ledger: Callable[[str], Ledger]) -> Ledger:
    return open_ledger(url)
