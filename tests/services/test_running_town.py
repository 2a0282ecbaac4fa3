"""A town that is up: what is killed comes back by itself; a second `gt up` changes nothing.

And who reaches its Temporal, and the long-lived workflows that are started through a client.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psutil
import pymysql
import pytest
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client

from activities.supervised import ServiceActivities
from ledger.queries import _server
from models import names
from models.errors import ErrorCode, GtError
from models.supervision.messages import TASK_TIMEOUT, ServiceName
from services.init_town import create_town
from services.private_files import open_to_others
from services.supervisor.client import State, Supervisor
from services.supervisor.guard import tenant
from services.supervisor.health import ailment
from services.supervisor.programs import DOLT, TEMPORAL, WORKER, lock_path, supervisor_socket
from services.supervisor.up_and_down import SUPERVISOR, ServiceState, down, service_states
from services.temporal.client import connect, register_search_attributes, start_rig_workflows, start_town_workflows
from services.town import Town, load_town
from tests.fault_document import documented
from tests.pace import DEADLINE_S
from tests.services.conftest import living, up, wait_until
from tests.services.test_processes import as_ordinary_user, exit_code
from tests.services.test_temporal_door import NAMESPACES, status

ALL = (TEMPORAL, DOLT, WORKER)


def state_of(town: Town, name: str) -> ServiceState:
    return next(state for state in service_states(town) if state.name == name)


def pid_of(town: Town, name: str) -> int:
    pid = state_of(town, name).pid
    assert pid is not None
    return pid


def asked_to_end(pid: int) -> bool:
    """Whether SIGTERM waits for a process that is stopped."""
    status = Path(f"/proc/{pid}/status").read_text()
    pending = next(line.split()[1] for line in status.splitlines() if line.startswith("ShdPnd"))
    return bool(int(pending, 16) >> (signal.SIGTERM - 1) & 1)


def test_up_twice_changes_nothing(running_town: Town) -> None:
    before = living(running_town)
    report = up(running_town)
    assert not report.started
    assert set(living(running_town)) == set(before)
    assert [(state.name, state.state) for state in report.services] == [(name, State.RUNNING) for name in ALL]
    assert len(before) == len(ALL) + 4, "supervisord, its alarm, the server of commands and the door beside them"


def test_everything_listens_on_loopback_alone(running_town: Town) -> None:
    addresses = set()
    for pid in living(running_town):
        for connection in psutil.Process(pid).net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr:
                addresses.add(connection.laddr.ip)
    assert all(address.startswith("127.") for address in addresses)


def test_no_password_shows_in_a_command_line_or_log(running_town: Town) -> None:
    password = running_town.secrets["dolt_password"]
    assert not any(password in line for line in living(running_town).values())
    assert not any(password in log.read_text() for log in running_town.paths.logs.iterdir())
    assert password not in running_town.paths.supervisor_config.read_text()


def test_nothing_of_a_town_is_open_to_other_users(running_town: Town) -> None:
    paths = running_town.paths
    assert list(open_to_others(paths)) == []
    parts = [
        paths.root,
        paths.secrets,
        paths.config,
        paths.temporal_db,
        paths.dolt_data,
        supervisor_socket(running_town),
    ]
    assert all(part.exists() for part in parts)
    if os.getuid() == 0:
        assert exit_code(as_ordinary_user(lambda: any(os.access(part, os.R_OK) for part in parts))) == 0


def test_what_was_opened_to_others_is_closed_by_the_next_up(running_town: Town) -> None:
    paths = running_town.paths
    down(running_town)
    opened = [paths.root, paths.secrets, paths.temporal_db, paths.logs]
    for part in opened:
        part.chmod(part.stat().st_mode | 0o055)
    assert set(open_to_others(paths)) == set(opened)
    up(running_town)
    assert list(open_to_others(paths)) == []


def test_the_ledgers_user_reads_no_file_and_makes_no_user(running_town: Town) -> None:
    """Each of these worked for the superuser that the ledger used to be."""
    paths = running_town.paths
    made = paths.root / "made"
    with closing(_server(running_town.ledger_url())) as connection, connection.cursor() as cursor:
        for statement in (
            f"SELECT load_file('{paths.secrets}')",
            f"SELECT 1 INTO OUTFILE '{made}'",
            f"SELECT 1 INTO DUMPFILE '{made}'",
            f"CALL dolt_backup('sync-url', 'file://{made}')",
            f"CALL dolt_clone('file://{paths.dolt_data}/databases/gastown', 'other')",
            "CREATE USER other",
            "SELECT * FROM mysql.user",
        ):
            with pytest.raises(pymysql.Error):
                cursor.execute(statement)
        cursor.execute("CALL dolt_gc()")
    assert not made.exists()
    password = running_town.secrets["dolt_password"]
    for known in ("", password):
        with pytest.raises(pymysql.Error, match="denied"):
            pymysql.connect(host="127.0.0.1", port=running_town.file.store.port or 0, user="root", password=known)


def test_the_doctor_finds_a_town_that_is_up_well_and_closed(running_town: Town) -> None:
    gt = str(Path(sys.executable).parent / "gt")
    argv = [gt, *documented("gt doctor")[1:], "--town", str(running_town.root), "-o", "json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    told = json.loads(done.stdout)
    by_name = {check["name"]: check for check in told["checks"]}
    assert (done.returncode, told["ok"]) == (0, True), told
    assert set(ALL) < set(by_name)
    # A machine of several people, and one whose only user is root, are told about.
    may_warn = {"temporal_listen", "worker_memory"}
    assert {name for name, check in by_name.items() if check["state"] != "ok"} <= may_warn
    assert by_name["worker_memory"]["state"] != "ok", "the stand-in forbids nothing, or the town runs as root"


def test_the_dolt_server_refuses_who_has_no_password(running_town: Town) -> None:
    stranger = Town(running_town.paths, running_town.file, {})
    problem = ailment(stranger, DOLT)
    assert problem is not None
    assert "denied" in problem.lower()


@pytest.mark.parametrize("name", ALL)
def test_a_killed_service_is_back_and_healthy_by_itself(running_town: Town, name: str) -> None:
    before = state_of(running_town, name)
    assert before.pid is not None
    os.kill(before.pid, signal.SIGKILL)
    wait_until(f"{name} to be replaced", lambda: state_of(running_town, name).pid not in (before.pid, None))
    for each in ALL:
        wait_until(f"{each} to be healthy", lambda each=each: ailment(running_town, each) is None)  # type: ignore[misc]
    after = state_of(running_town, name)
    assert (after.state, after.restarts) == (State.RUNNING, before.restarts + 1)


def test_a_killed_supervisor_takes_its_services_along_and_up_leaves_one_of_each(running_town: Town) -> None:
    before = living(running_town)
    holder = wait_until("the supervisor", lambda: next((p for p, c in before.items() if SUPERVISOR in c), None))
    assert holder is not None
    os.kill(holder, signal.SIGKILL)
    report = up(running_town)
    after = living(running_town)
    assert report.started
    assert len(after) == len(ALL) + 4
    assert not set(before) & set(after)
    assert [state.restarts for state in report.services] == [0, 0, 0]


def test_a_supervisor_that_hangs_is_replaced(running_town: Town) -> None:
    before = living(running_town)
    hung = next(pid for pid, command in before.items() if SUPERVISOR in command)
    os.kill(hung, signal.SIGSTOP)
    try:
        report = up(running_town)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(hung, signal.SIGCONT)
    assert report.started
    assert not set(before) & set(living(running_town))


def test_a_hung_worker_is_not_called_healthy(running_town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.worker.readiness.SILENT_AFTER_S", 3.0)
    pid = pid_of(running_town, WORKER)
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until("the silence to be seen", lambda: "silent" in (ailment(running_town, WORKER) or ""))
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until("the worker to be heard again", lambda: ailment(running_town, WORKER) is None)


def test_a_service_that_hangs_is_restarted_when_asked_and_one_that_is_well_is_left_alone(running_town: Town) -> None:
    services = ServiceActivities(running_town)
    assert asyncio.run(services.restart_service(ServiceName(name=DOLT))) is False
    hung = pid_of(running_town, DOLT)
    os.kill(hung, signal.SIGSTOP)
    try:
        assert asyncio.run(services.restart_service(ServiceName(name=DOLT))) is True
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(hung, signal.SIGCONT)
    wait_until("dolt to be healthy", lambda: ailment(running_town, DOLT) is None)
    assert pid_of(running_town, DOLT) != hung


def test_a_restart_whose_worker_is_killed_in_the_midst_leaves_no_service_stopped(running_town: Town) -> None:
    hung = pid_of(running_town, DOLT)
    os.kill(hung, signal.SIGSTOP)
    restart = "import asyncio, pathlib, sys; from activities.supervised import *; from services.town import find_town; "
    restart += "town = find_town(pathlib.Path(sys.argv[1])); "
    restart += "asyncio.run(ServiceActivities(town).restart_service(ServiceName(name='dolt')))"
    asker = subprocess.Popen([sys.executable, "-c", restart, str(running_town.root)])
    try:
        wait_until("the hung server to be asked to end", lambda: asked_to_end(hung))
    finally:
        asker.kill()
        asker.wait()
        os.kill(hung, signal.SIGCONT)
    wait_until("dolt to be healthy", lambda: ailment(running_town, DOLT) is None and pid_of(running_town, DOLT) != hung)


def test_what_a_person_has_stopped_and_what_the_town_does_not_run_is_not_restarted(running_town: Town) -> None:
    services, supervisor = ServiceActivities(running_town), Supervisor(supervisor_socket(running_town))
    supervisor.stop(DOLT)
    try:
        for name, why in ((DOLT, "stopped by a person"), ("postgres", "runs no postgres")):
            with pytest.raises(GtError) as raised:
                asyncio.run(services.restart_service(ServiceName(name=name)))
            assert raised.value.code is ErrorCode.REFUSED
            assert why in raised.value.message
    finally:
        supervisor.start(DOLT)
    wait_until("dolt to be healthy", lambda: ailment(running_town, DOLT) is None)


def test_locks_name_the_processes_that_run(running_town: Town) -> None:

    for name in ALL:
        holder = tenant(lock_path(running_town, name))
        assert holder is not None
        assert holder.pid == pid_of(running_town, name)
        assert holder.lives()


# --- its Temporal -----------------------------------------------------------------------------------


def test_on_loopback_a_name_that_points_here_gets_nothing(running_town: Town) -> None:
    port = running_town.file.temporal.ui_port or 0
    for own in (f"127.0.0.1:{port}", f"localhost:{port}", f"LOCALHOST:{port}"):
        assert status("127.0.0.1", port, Host=own) == 200
    for foreign in (f"gastown.example:{port}", "gastown.example", "127.0.0.1", f"127.0.0.1.gastown.example:{port}", ""):
        for path in (NAMESPACES, "/"):
            assert status("127.0.0.1", port, path, Host=foreign) == 403
    server = tenant(lock_path(running_town, TEMPORAL))
    assert server is not None
    known = [each for each in psutil.Process(server.pid).net_connections("tcp") if each.status == psutil.CONN_LISTEN]
    addresses = {each.laddr.ip for each in known if each.laddr and each.laddr.port == port}
    assert addresses
    assert "127.0.0.1" not in addresses, "the Web UI itself is where nobody looks for it"


def test_a_page_of_another_site_gives_no_order(running_town: Town) -> None:
    temporal = running_town.file.temporal
    asking = http.client.HTTPConnection("127.0.0.1", temporal.ui_port or 0, timeout=DEADLINE_S)
    path = f"{NAMESPACES}/{temporal.namespace}/workflows/dispatch%2Fshop/signal/pause"
    with contextlib.closing(asking):
        # As a browser sends a form without asking first.
        asking.request("POST", path, "{}", {"Origin": "http://gastown.example", "Content-Type": "text/plain"})
        answer = asking.getresponse()
        assert answer.status == 400
        assert b"csrf" in answer.read()


@pytest.fixture
async def client(running_town: Town) -> Client:
    return await connect(running_town, identity="test")


async def run_ids(client: Client, *workflow_ids: str) -> list[str | None]:
    described = await asyncio.gather(*(client.get_workflow_handle(each).describe() for each in workflow_ids))
    return [each.run_id for each in described]


async def test_a_town_that_is_down_is_told_with_the_next_step(tmp_path: Path) -> None:
    town = create_town(tmp_path / "mill", store="embedded").town
    with pytest.raises(GtError) as caught:
        await connect(town, timeout_s=1)
    assert (caught.value.code, caught.value.exit_code) == (ErrorCode.TEMPORAL_UNREACHABLE, 4)
    assert caught.value.hint == "gt up"


async def test_a_lazy_client_needs_no_server(tmp_path: Path) -> None:
    town = create_town(tmp_path / "mill", store="embedded").town
    client = await connect(town, lazy=True)
    assert client.namespace == town.file.temporal.namespace


async def test_an_external_temporal_is_found_through_the_environment(
    running_town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = create_town(tmp_path / "mill", store="embedded").town
    text = here.paths.config.read_text().replace("external = false", "external = true")
    text = text.replace(here.file.temporal.namespace, running_town.file.temporal.namespace)
    here.paths.config.write_text(text)
    monkeypatch.setenv("TEMPORAL_ADDRESS", running_town.temporal_address)
    client = await connect(load_town(here.root))
    assert client.namespace == running_town.file.temporal.namespace
    assert await client.service_client.check_health()


async def test_search_attributes_are_registered_once(client: Client) -> None:
    for _ in range(2):
        await register_search_attributes(client, "default")
    request = ListSearchAttributesRequest(namespace="default")
    known = await client.operator_service.list_search_attributes(request)
    assert set(names.SEARCH_ATTRIBUTES.values()) <= set(known.custom_attributes)


async def test_a_rigs_workflows_are_started_once_and_labelled(client: Client) -> None:
    wanted = (names.dispatch_id("shop"), names.refinery_id("shop"), names.witness_id("shop"))
    await start_rig_workflows(client, "shop")
    first = await run_ids(client, *wanted)
    await asyncio.gather(start_rig_workflows(client, "shop"), start_rig_workflows(client, "shop"))
    assert await run_ids(client, *wanted) == first
    described = await client.get_workflow_handle(names.witness_id("shop")).describe()
    labels = {pair.key.name: pair.value for pair in described.typed_search_attributes.search_attributes}
    assert (labels["GtRole"], labels["GtRig"]) == ("witness", "shop")
    assert described.task_queue == names.TOWN_QUEUE
    assert described.workflow_type == "WitnessWorkflow"
    assert await described.static_summary() == "Witness of shop"
    execution = described.raw_description.execution_config
    assert execution.default_workflow_task_timeout.ToTimedelta() == TASK_TIMEOUT


async def test_the_mayor_is_started_once(client: Client) -> None:
    await start_town_workflows(client)
    first = await run_ids(client, names.MAYOR_ID)
    await start_town_workflows(client)
    assert await run_ids(client, names.MAYOR_ID) == first


async def test_a_rig_name_is_validated_before_anything_starts(client: Client) -> None:
    with pytest.raises(GtError) as caught:
        await start_rig_workflows(client, "../x")
    assert caught.value.code is ErrorCode.INVALID_NAME
