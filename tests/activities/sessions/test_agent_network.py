"""An agent whose network is a list of hosts: real sessions of bubblewrap, and the proxy that is started with each."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import psutil
import pytest

from activities.sessions.agent_network import make_proxy_folder, proxy_line
from models.errors import ErrorCode, GtError
from models.settings import SandboxSettings
from tests.activities.sessions import network_probe
from tests.activities.sessions.desk import Desk, eventually
from tests.sinks import serving

ROOT = Path(__file__).parents[3]
HERE = socket.gethostname()
"""on most machines a name that leads to them"""


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = f"reached {self.path} of {self.headers['Host']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def port() -> Iterator[int]:
    """Of a web server on this host's loopback."""
    with serving(_Answers) as port:
        yield port


def probe(*urls: str) -> str:
    return f"{sys.executable} {network_probe.__file__} {' '.join(urls)}; exec sleep 600"


def proxies(desk: Desk) -> list[psutil.Process]:
    """Those of this desk's sandboxes."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "-S" in words[:3] and str(desk.paths.attempts) in " ".join(words) and "agent_proxy" in " ".join(words):
            found.append(process)
    return found


def waiting(desk: Desk) -> int:
    """How many shells of this desk wait to start a proxy."""
    script = str(desk.paths.run / "sandboxes" / "shop--toast.sh")
    return sum(process.info["cmdline"] == ["sh", script] for process in psutil.process_iter(["cmdline"]))


def answers(shown: str) -> dict[str, str]:
    """By URL, from a pane."""
    lines = shown.replace("\n", "").replace("http://", "\nhttp://").replace("direct://", "\ndirect://")
    lines = lines.replace("udp://", "\nudp://").replace("connect://", "\nconnect://").replace("all tried", "\n")
    return dict(line.split(" -> ", 1) for line in lines.split("\n") if " -> " in line)


def _resolves(name: str) -> bool:
    with contextlib.suppress(OSError):
        return bool(socket.getaddrinfo(name, 80))
    return False


def test_it_reaches_what_is_listed_and_nothing_else(confined: Desk, port: int) -> None:
    allowed, other = f"127.0.0.1:{port}", f"[::1]:{port}"
    refused = [
        f"http://{other}/", "http://evil.example/", f"http://{HERE}:{port}/",
        "http://169.254.169.254/latest/meta-data/", "connect://127.0.0.1:22",
        "connect://93.184.215.14:443", "connect://evil.example:22", f"connect://localhost:{port}",
    ]  # fmt: skip
    leads_here = [f"http://{HERE}/", f"connect://{HERE}:443"] if _resolves(HERE) else []
    refused += leads_here
    nowhere = [
        "direct://93.184.215.14:80", "direct://169.254.169.254:80", "direct://evil.example:80", "udp://8.8.8.8:53",
        "direct://127.0.0.1:22", f"direct://192.0.2.2:{port}",
    ]  # fmt: skip
    reached = {
        f"http://{allowed}/a?b": f"200 reached /a?b of {allowed}",
        f"connect://{allowed}": f"reached / of {allowed}",
        f"direct://{allowed}": "reached / of 127.0.0.1",
    }
    confined.start(probe(*reached, *refused, *nowhere), network=f"{allowed} {HERE} 169.254.169.253")
    told = answers(confined.shown("all tried"))
    assert {url: told[url] for url in reached} == reached
    for url in refused:
        assert "403" in told[url], f"{url}: {told[url]}"
    for url in nowhere:
        assert told[url].startswith("failed"), f"{url}: {told[url]}"
    confined.end()
    lines = confined.evidence()["refused-hosts.txt"].splitlines()
    assert "evil.example:80: agent.network does not list it" in lines
    if leads_here:
        assert re.search(rf"{HERE}:443: its address [0-9.a-f:]+ is this host's own", "\n".join(lines))
    assert len(lines) == len(refused)
    eventually(lambda: not proxies(confined))


def test_a_killed_proxy_comes_back_and_is_waited_for(confined: Desk, port: int) -> None:
    asks = f"{sys.executable} {network_probe.__file__} http://127.0.0.1:{port}/"
    confined.start(f"{asks}; read line; {asks}; exec sleep 600", network=f"127.0.0.1:{port}")
    assert confined.shown("all tried").count("200 reached") == 1
    (proxy,) = proxies(confined)
    proxy.kill()
    confined.tmux.send_text("shop--toast", "go")
    shown = eventually(lambda: (shown := confined.shown("all tried")).count("all tried") == 2 and shown)
    assert shown.count("200 reached") == 2
    (again,) = proxies(confined)
    assert again.pid != proxy.pid


def test_where_the_proxy_stays_away_that_is_said(tmp_path: Path) -> None:
    relay = "from agents import network_relay as r; r._PATIENCE_S = 0.1; r.main()"
    argv = ["bwrap", "--dev-bind", "/", "/", "--unshare-net", "--unshare-pid", "--die-with-parent", "--"]
    argv += [sys.executable, "-c", relay, str(tmp_path), "3128", "127.0.0.1:8181", "--"]
    argv += [sys.executable, network_probe.__file__, "http://a.example/", "direct://127.0.0.1:8181"]
    environment = {**os.environ, "HTTP_PROXY": "http://127.0.0.1:3128"}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, cwd=ROOT, check=True)
    asked, placed = done.stdout.splitlines()[:2]
    assert asked.startswith("http://a.example/ -> 503 'The proxy of agent.network does not run")
    assert placed.partition(" -> ")[2] in {"", "failed: [Errno 104] Connection reset by peer"}


def test_the_proxy_is_started_once_it_is_asked_for_and_ends_with_its_agent(confined: Desk, port: int) -> None:
    asks = f"{sys.executable} {network_probe.__file__} http://127.0.0.1:{port}/"
    confined.start(f"echo ready; read line; {asks}; read line; exit 3", network=f"127.0.0.1:{port}")
    confined.shown("ready")
    assert (waiting(confined), proxies(confined)) == (1, [])
    confined.tmux.send_text("shop--toast", "go")
    assert "200 reached" in confined.shown("all tried")
    assert len(proxies(confined)) == 1
    confined.tmux.send_text("shop--toast", "go")
    eventually(lambda: (pane := confined.pane()) and pane.dead and pane.exit_code == 3)
    eventually(lambda: not proxies(confined) and not waiting(confined))


def test_of_an_agent_that_asks_for_nothing_nothing_is_left(confined: Desk) -> None:
    confined.start("echo ready; ls -l /proc/self/fd; echo all shown; read line; exit 3", network="a.example")
    assert "wanted" not in confined.shown("all shown"), "the agent has no end of the pipe"
    assert waiting(confined) == 1
    confined.tmux.send_text("shop--toast", "go")
    eventually(lambda: (pane := confined.pane()) and pane.dead and pane.exit_code == 3)
    eventually(lambda: not waiting(confined))


@pytest.mark.parametrize("words", [["true"], ["bwrap", "--no-such-option"]])
def test_of_a_sandbox_that_ends_at_once_nothing_is_left(tmp_path: Path, words: list[str]) -> None:
    make_proxy_folder(tmp_path)
    reading, writing = os.pipe()
    script = f"{proxy_line(tmp_path, ['a.example'])}exec {shlex.join(words)}"
    # What waits for a proxy keeps this pipe open as well.
    script = script.replace("exec 4<", f"exec 9>&{writing} 4<")
    with subprocess.Popen(["sh", "-c", script], pass_fds=[writing], stderr=subprocess.DEVNULL):
        os.close(writing)
        with os.fdopen(reading) as ended:
            assert ended.read() == ""


def test_its_commands_know_neither_the_relay_nor_what_python_ignores(confined: Desk) -> None:
    shows = (
        "grep SigIgn /proc/self/status; jobs; wait; echo proxy: $http_proxy $NO_PROXY; yes | head -1; echo all shown"
    )
    confined.start(f"{shows}; exec sleep 600", network="a.example")
    shown = confined.shown("\ny\nall shown")
    assert int(shown.split("SigIgn:")[1].split()[0], 16) & (1 << 12) == 0, "SIGPIPE ends a pipeline"
    assert "proxy: http://127.0.0.1:3128 localhost,127.0.0.1,::1" in shown.replace("\n", "")


@pytest.mark.parametrize("network", ["none", "a.example"])
def test_without_a_sandbox_nothing_starts_that_is_to_have_less_than_the_hosts_network(
    confined: Desk, network: str
) -> None:
    confined.sandbox = SandboxSettings(mode="none")
    with pytest.raises(GtError, match=f"agent.network is {network}, and sandbox.mode is none") as error:
        confined.start(network=network)
    assert error.value.code is ErrorCode.REFUSED
    assert "gt config sandbox.mode auto" in error.value.hint
    assert confined.pane() is None


def test_a_runner_of_the_persons_own_gets_no_network_and_the_relay(confined: Desk, port: int) -> None:
    runner = "bwrap --dev-bind / / --unshare-net --die-with-parent --chdir {folder} env N={network}"
    confined.sandbox = SandboxSettings(command=runner)
    url = f"http://127.0.0.1:{port}/"
    confined.start(f"echo net: $N; pwd; {probe(url, 'http://evil.example/')}", network=f"127.0.0.1:{port}")
    shown = confined.shown("all tried")
    assert "net: none" in shown
    assert str(confined.paths.worktree("shop", "toast")) in shown.replace("\n", "")
    assert answers(shown)[url].startswith("200 reached /")
