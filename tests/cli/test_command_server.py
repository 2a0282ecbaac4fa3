"""The server of commands: what it runs says what the caller itself would have said; without it nothing is different."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import psutil
import pytest
import tomlkit

from cli.frame import command_client
from cli.frame.command import group_of
from cli.frame.command_client import CODE, SERVED, SOCKET
from cli.frame.command_server import _APPS, CommandServer
from ledger.store import Ledger
from models.ledger.records import Bead, NewBead, Rig
from services.town import Town
from tests.cli.conftest import Outcome
from tests.pace import DEADLINE_S, pause_s

HEAVY = ("typer", "temporalio", "sqlalchemy", "pydantic", "json", "pathlib")
RAN_ITSELF = 99
SERVED_ALONE = f"""
import sys
from cli.{{program}} import main
code = main()
sys.exit({RAN_ITSELF} if set({HEAVY}) & set(sys.modules) else code)
"""
DIRECT = """
import sys
from cli.frame import command_client
command_client.ask = lambda *_: None
from cli.{program} import main
sys.exit(main())
"""


def wait_until(look: Callable[[], object]) -> None:
    begun = time.monotonic()
    while not look():
        waited = time.monotonic() - begun
        assert waited < DEADLINE_S
        time.sleep(pause_s(waited))


@contextlib.contextmanager
def command_server(town: Town, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    argv = [sys.executable, "-P", "-m", "cli.frame.command_server", "--town", str(town.root)]
    with subprocess.Popen(argv, env=environment | {"ONLY_OF": "the server"}) as process:
        try:
            wait_until(lambda: process.poll() is not None or answers(town))
            yield process
        finally:
            process.kill()


def answers(town: Town) -> bool:
    with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
        client.connect(str(town.paths.run / SOCKET))
        return client.recv(10_000) == CODE + b"\n"
    return False


@pytest.fixture
def server(town: Town, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with command_server(town, environment) as process:
        yield process


class Caller:
    """Runs command lines by the server alone, or without it."""

    def __init__(self, cwd: Path, environment: dict[str, str]) -> None:
        self.cwd, self.environment = cwd, environment

    def run(self, script: str, *argv: str, **environment: str) -> Outcome:
        program, *words = argv
        whole = [sys.executable, "-c", script.format(program=program), *words]
        if "CLOSED" in environment:
            whole = ["sh", "-c", '"$@" >&-', "sh", *whole]
        done = subprocess.run(
            whole, cwd=self.cwd, env=self.environment | environment, stdin=subprocess.DEVNULL, capture_output=True,
            encoding="utf-8", errors="surrogateescape", timeout=DEADLINE_S, check=False,
        )  # fmt: skip
        return Outcome(done.returncode, done.stdout, done.stderr)

    def is_served(self, *argv: str, **environment: str) -> bool:
        return self.run(SERVED_ALONE, *argv, **environment).code != RAN_ITSELF


@pytest.fixture
def caller(town: Town, environment: dict[str, str]) -> Caller:
    return Caller(town.root, environment)


def test_each_served_command_exists() -> None:
    for name in SERVED:
        program, *words = name.split()
        found = group_of(_APPS[program])
        for word in words:
            found = found.get_command(None, word)  # type: ignore[arg-type, assignment]
            assert found is not None, name


def test_what_is_served_is_what_the_command_itself_says(
    server: subprocess.Popen[bytes], caller: Caller, town: Town, ledger: Ledger, bead: Bead
) -> None:
    ledger.create_bead(NewBead(rig="shop", title="Größe — " + "wide " * 30))
    elsewhere = str(town.root.parent)
    lines: list[tuple[tuple[str, ...], dict[str, str]]] = [
        (("gt", "status"), {}),
        (("gt", "-o", "json", "status"), {}),
        (("gt", "status", "--debug"), {"LANG": "C", "PYTHONIOENCODING": "ascii"}),
        (("gt", "job", "show", bead.id), {}),
        (("gt", "job", "show", "--help"), {"COLUMNS": "60"}),
        (("gt", "refinery", "queue"), {"GT_DEBUG": "1"}),
        (("gt", "escalate", "list", "--no-such"), {}),
        (("gt", "peek", "nobody"), {}),
        (("gt", "mail", "inbox", "--", "-x"), {}),
        (("bd", "list"), {"COLUMNS": "50"}),
        (("bd", "list"), {"PYTHONIOENCODING": "latin-1"}),
        (("bd", "show", bead.id, "-o", "json"), {"CLOSED": "standard output"}),
        (("bd", "show", "sh-nope"), {}),
        (("bd", "search", "\udcff"), {}),
        (("bd", "log", bead.id, "--town", elsewhere), {"GT_TOWN": str(town.root)}),
        (("bd", "show", bead.id), {"GT_TOWN": elsewhere}),
    ]
    for argv, environment in lines:
        direct = caller.run(DIRECT, *argv, **environment)
        served = caller.run(SERVED_ALONE, *argv, **environment)
        if elsewhere in (argv[-1], environment.get("GT_TOWN")):
            assert served.code == RAN_ITSELF, "there is no server where there is no town"
            assert (served.out, served.err) == (direct.out, direct.err)
        else:
            assert served == direct, argv


def test_a_terminal_is_the_callers_own(server: subprocess.Popen[bytes], caller: Caller, bead: Bead) -> None:
    def on_terminal(script: str) -> bytes:
        inside, outside = pty.openpty()
        os.set_blocking(inside, False)
        argv = [sys.executable, "-c", script.format(program="bd"), "list"]
        subprocess.run(["stty", "cols", "44"], stdin=outside, check=True)
        code = subprocess.run(argv, cwd=caller.cwd, env=caller.environment, stdout=outside, stdin=outside, check=False)
        said = os.read(inside, 100_000)
        os.close(inside)
        os.close(outside)
        return b"%d %s" % (code.returncode, said)

    caller.environment.pop("COLUMNS", None)
    assert on_terminal(SERVED_ALONE) == on_terminal(DIRECT)


def test_nobody_is_asked_for_what_changes_something_or_of_a_session(
    server: subprocess.Popen[bytes], caller: Caller, town: Town, bead: Bead
) -> None:
    assert caller.is_served("bd", "show", bead.id)
    assert not caller.is_served("bd", "comment", bead.id, "said")
    assert not caller.is_served("bd", "show", bead.id, GT_TASK_FILE=str(town.root / "TASK.md"))
    planted = town.root / "rigs" / "worktree"
    planted.mkdir(parents=True)
    (planted / "town.toml").write_bytes(town.paths.config.read_bytes())
    (planted / "run").symlink_to(town.paths.run)
    assert not Caller(planted, caller.environment).is_served("bd", "list"), "a town in a town may be an agent's"


def test_a_caller_that_ends_ends_its_command(server: subprocess.Popen[bytes], caller: Caller, town: Town) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        document = tomlkit.parse(town.paths.config.read_text())
        document["temporal"]["port"] = silent.getsockname()[1]
        town.paths.config.write_text(tomlkit.dumps(document))
        argv = [sys.executable, "-c", SERVED_ALONE.format(program="gt"), "escalate", "list"]
        with subprocess.Popen(argv, cwd=caller.cwd, env=caller.environment) as process:
            silent.accept()[0].close()
            process.send_signal(signal.SIGINT)
            assert process.wait(DEADLINE_S) == 130
        wait_until(lambda: not psutil.Process(server.pid).children())


class TestWithoutAnAnswer:
    """Each time the command runs by itself."""

    def test_of_a_server_that_is_stopped_or_was_killed(
        self, server: subprocess.Popen[bytes], caller: Caller, bead: Bead
    ) -> None:
        expected = caller.run(DIRECT, "bd", "show", bead.id)
        for ending in (signal.SIGSTOP, signal.SIGKILL):
            server.send_signal(ending)
            found = caller.run(SERVED_ALONE, "bd", "show", bead.id)
            assert (found.code, found.out) == (RAN_ITSELF, expected.out)

    @pytest.mark.parametrize(
        "said", [b"", b"\n", b"another version\n", CODE, CODE + b"\n", CODE + b"\nno number\n"], ids=range(6)
    )
    def test_of_another_version_or_one_that_breaks_off(
        self, caller: Caller, town: Town, bead: Bead, said: bytes
    ) -> None:
        def answer() -> None:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(said)

        town.paths.run.mkdir(exist_ok=True)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(town.paths.run / SOCKET))
            listening.listen()
            answering = threading.Thread(target=answer)
            answering.start()
            found = caller.run(SERVED_ALONE, "bd", "show", bead.id)
            answering.join()
        assert (found.code, found.out) == (RAN_ITSELF, caller.run(DIRECT, "bd", "show", bead.id).out)

    def test_of_another_user(self, server: subprocess.Popen[bytes], town: Town) -> None:
        assert answers(town)
        with mock.patch("os.getuid", return_value=os.getuid() + 1):
            assert command_client.ask("bd", ["list", "--town", str(town.root)]) is None


def test_a_server_whose_code_was_replaced_ends(tmp_path: Path) -> None:
    source = tmp_path / "source.py"
    source.touch()
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as client:
        listening.bind(str(tmp_path / SOCKET))
        listening.listen()
        server = CommandServer(listening)
        assert str(Path(command_client.__file__)) in server._sources
        server._sources = {str(source): source.stat().st_mtime_ns - 1}
        client.connect(str(tmp_path / SOCKET))
        before = signal.getsignal(signal.SIGCHLD)
        try:
            server.serve()
        finally:
            signal.signal(signal.SIGCHLD, before)
        assert client.recv(1) == b""


def test_another_user_is_not_let_in(server: subprocess.Popen[bytes], town: Town) -> None:
    socket_file = town.paths.run / SOCKET
    assert socket_file.stat().st_mode & 0o777 == 0o600


@pytest.fixture(autouse=True)
def _rig_first(rig: Rig) -> None:
    """Every town here has one."""
