"""A cleaner of /tmp deletes the tmux server's socket while agents work: they go on, and are found."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import psutil
import pytest

from activities.sessions.tmux import Tmux
from models.errors import ErrorCode, GtError
from services import tmux_server
from services.supervisor.processes import Birth, write_record
from tests.activities.sessions.desk import Desk, eventually
from tests.activities.sessions.lookout import Lookout
from tests.activities.sessions.test_tmux import start, tmux_command


def socket_of(tmux: Tmux) -> Path:
    return Path(tmux_command(tmux, "display-message", "-p", "#{socket_path}").strip())


def server_of(tmux: Tmux) -> psutil.Process:
    return psutil.Process(int(tmux_command(tmux, "display-message", "-p", "#{pid}")))


def test_living_sessions_are_found_again_with_what_they_say(tmux: Tmux, tmp_path: Path) -> None:
    start(tmux, tmp_path, "echo working; exec sleep 600")
    eventually(lambda: "working" in tmux.capture("shop--toast", 10))
    before = tmux.panes()
    socket_of(tmux).unlink()
    assert tmux.panes() == before
    assert "working" in tmux.capture("shop--toast", 10)


def test_its_folder_may_be_gone_too(tmux: Tmux, tmp_path: Path) -> None:
    start(tmux, tmp_path, "exec sleep 600")
    shutil.rmtree(socket_of(tmux).parent)
    assert list(tmux.panes()) == ["shop--toast"]


def test_a_new_session_joins_the_old_ones_on_the_same_server(tmux: Tmux, tmp_path: Path) -> None:
    start(tmux, tmp_path, "exec sleep 600")
    server = server_of(tmux)
    socket_of(tmux).unlink()
    start(tmux, tmp_path, "exec sleep 600", name="shop--nux")
    assert set(tmux.panes()) == {"shop--toast", "shop--nux"}
    assert server_of(tmux) == server


def test_another_process_of_the_town_finds_it_by_the_record(tmux: Tmux, tmp_path: Path) -> None:
    start(tmux, tmp_path, "exec sleep 600")
    socket_of(tmux).unlink()
    record = Path(os.environ["TMUX_TMPDIR"]) / "tmux.json"
    assert list(Tmux(tmux.socket, record).panes()) == ["shop--toast"]


def test_a_session_is_ended_though_its_socket_was_swept(tmux: Tmux, tmp_path: Path) -> None:
    start(tmux, tmp_path, "exec sleep 600")
    agent = psutil.Process(tmux.panes()["shop--toast"].pane_pid)
    socket_of(tmux).unlink()
    tmux.kill_session("shop--toast")
    eventually(lambda: not agent.is_running() or agent.status() == psutil.STATUS_ZOMBIE)
    assert tmux.panes() == {}


def test_a_server_that_really_ended_has_no_sessions(tmux: Tmux, tmp_path: Path) -> None:
    start(tmux, tmp_path, "exec sleep 600")
    server = server_of(tmux)
    server.send_signal(signal.SIGKILL)
    eventually(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)
    assert tmux.panes() == {}
    start(tmux, tmp_path, "exec sleep 600", name="shop--nux")
    assert list(tmux.panes()) == ["shop--nux"]


def test_nobody_else_gets_the_signal(tmp_path: Path) -> None:
    record = tmp_path / "tmux.json"
    mine = Birth.of(os.getpid())
    assert mine is not None
    write_record(record, tmux_server.TmuxServer(born=mine, socket=str(tmp_path / "none")))
    assert not tmux_server.find_again(record)


def test_a_living_server_that_cannot_be_reached_is_an_error_and_no_death(
    tmux: Tmux, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(tmux, tmp_path, "exec sleep 600")
    server, socket = server_of(tmux), socket_of(tmux)
    socket.unlink()
    monkeypatch.setattr(tmux_server, "_MADE_AGAIN_S", 0.1)
    server.suspend()
    try:
        with pytest.raises(GtError) as caught:
            tmux.panes()
    finally:
        server.resume()
    assert caught.value.code is ErrorCode.TMUX_FAILED
    eventually(lambda: list(tmux.panes()) == ["shop--toast"])


def test_the_patrol_takes_it_for_no_death(desk: Desk) -> None:
    desk.start()
    lookout = Lookout(desk)
    assert lookout.look().living == ("sh-1",)
    socket_of(desk.tmux).unlink()
    report = lookout.look()
    assert (report.living, report.observations) == (("sh-1",), ())
