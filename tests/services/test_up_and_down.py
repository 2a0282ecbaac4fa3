"""`gt up` and `gt down`: all or nothing, clear about why not, and nothing left behind."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import threading
from pathlib import Path

import psutil
import pytest

from models.errors import ErrorCode, GtError
from services.init_town import create_town
from services.supervisor import programs, up_and_down
from services.supervisor.client import State, Supervisor
from services.supervisor.programs import supervisor_socket
from services.supervisor.up_and_down import UpReport, down, service_states
from services.town import Town
from services.worker.readiness import ready_path
from tests.pace import DEADLINE_S
from tests.services.conftest import STAND_IN, end_all, living, scratch_town, up, wait_until


def test_a_taken_port_is_named_and_nothing_is_started(town: Town) -> None:
    port = town.file.temporal.ui_port
    assert port is not None
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        with pytest.raises(GtError) as caught:
            up(town)
    assert caught.value.code is ErrorCode.PORT_TAKEN
    assert str(port) in caught.value.message
    assert "temporal.ui_port" in caught.value.message
    assert "town.toml" in caught.value.hint
    assert living(town) == {}


@pytest.mark.parametrize("missing", ["git", "tmux"])
def test_without_a_program_that_every_job_needs_nothing_is_started(
    town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    for name in {"git", "tmux"} - {missing}:
        (tmp_path / name).symlink_to(shutil.which(name) or name)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GtError) as caught:
        up(town)
    assert caught.value.code is ErrorCode.PROGRAM_MISSING
    assert caught.value.message == f"{missing} is not installed"
    assert living(town) == {}


def test_two_ups_at_once_start_one_of_each_another_town_is_not_met_and_down_leaves_none_to_the_next_up(
    town: Town,
) -> None:
    reports: list[UpReport] = []
    threads = [threading.Thread(target=lambda: reports.append(up(town))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(report.started for report in reports) == [False, True]
    helpers = ["services.notifications.alarm", "services.temporal.door", "cli.frame.command_server"]
    each = ["start-dev", STAND_IN, *helpers, "supervisor.supervisord"]

    def running() -> list[str]:
        return sorted(word for command in living(town).values() for word in each if word in command)

    wait_until("one of each", lambda: running() == sorted(each))
    assert len(living(town)) == len(each)

    with scratch_town("embedded") as other:
        up(other)
        mine = set(living(town))
        down(other)
        assert living(other) == {}
        assert set(living(town)) == mine
        assert not up(town).started

    assert down(town).stopped
    assert living(town) == {}
    assert {state.state for state in service_states(town)} == {State.STOPPED}
    assert not ready_path(town).exists(), "the worker drained and left nothing to clear up"
    assert not down(town).stopped
    again = up(town)
    assert again.started
    assert {again.web_url} == {report.web_url for report in reports}


def test_a_town_whose_directory_is_gone_ends_and_makes_nothing_anew(town: Town) -> None:
    up(town)
    running = [psutil.Process(pid) for pid in living(town)]
    assert len(running) >= 4
    try:
        wait_until("it to be deleted, whatever is written meanwhile", lambda: deleted(town.root))
        _, left = psutil.wait_procs(running, timeout=DEADLINE_S)
        assert [" ".join(process.cmdline()) for process in left] == []
        assert [str(path) for path in town.root.rglob("*")] == []
    finally:
        for process in running:
            with contextlib.suppress(psutil.Error):
                process.kill()


def deleted(folder: Path) -> bool:
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def test_a_service_that_keeps_ending_is_reported_with_its_log_and_still_retried(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "WORKER_MODULE", "no_such_worker")
    monkeypatch.setattr(up_and_down, "_HOPELESS_FAILURES", 3)
    with pytest.raises(GtError) as caught:
        up(town)
    assert caught.value.code is ErrorCode.SERVICE_FAILED
    assert "no_such_worker" in caught.value.message
    wait_until("the state to say so", lambda: service_states(town)[-1].state is State.FAILING)
    seen = service_states(town)[-1].restarts
    wait_until("another try", lambda: service_states(town)[-1].restarts > seen)


def test_up_does_not_wait_for_services_when_told_so_but_for_a_supervisor_that_is_ending(town: Town) -> None:
    report = up(town, wait=False)
    assert report.started
    assert len(report.services) == 2
    supervisor = Supervisor(supervisor_socket(town))
    for _ in range(2):
        supervisor.shutdown()
    assert supervisor.condition() in {State.STOPPING, State.STOPPED}
    assert up(town, wait=False).started


def test_a_long_and_odd_path_still_gets_a_supervisor(light_worker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(tempfile.mkdtemp(prefix="gt-"))
    monkeypatch.setattr(programs, "PRIVATE_PARENT", folder)
    town = create_town(folder / ("long" * 20) / "an odd ;'%(x)s town", store="embedded").town
    try:
        assert programs.supervisor_socket(town).is_relative_to(folder / f"gastown-{folder.stat().st_uid}")
        assert {state.state for state in up(town).services} == {State.RUNNING}
        down(town)
        assert living(town) == {}
    finally:
        end_all(town)
        shutil.rmtree(folder)


def test_a_private_folder_that_others_can_enter_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "PRIVATE_PARENT", tmp_path)
    (tmp_path / f"gastown-{tmp_path.stat().st_uid}").mkdir(mode=0o777)
    (tmp_path / f"gastown-{tmp_path.stat().st_uid}").chmod(0o777)
    town = create_town(tmp_path / ("long" * 25), store="embedded").town
    with pytest.raises(GtError) as caught:
        programs.supervisor_socket(town)
    assert caught.value.code is ErrorCode.REFUSED
