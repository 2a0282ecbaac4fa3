"""Making a town directory and finding it again."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from models.errors import ErrorCode, GtError
from models.town import StoreEngine
from services.init_town import TownCreated, create_town
from services.supervisor.programs import program_names
from services.town import find_town, load_town


def ports_of(created: TownCreated) -> list[int | None]:
    file = created.town.file
    return [file.temporal.port, file.temporal.ui_port, file.temporal.metrics_port, file.store.port]


def error_of(directory: Path, name: str | None = None, store: str = "embedded") -> GtError:
    with pytest.raises(GtError) as caught:
        create_town(directory, name, store)
    return caught.value


def test_init_twice_makes_one_town_and_keeps_its_ports(tmp_path: Path) -> None:
    first = create_town(tmp_path / "mill", store="server")
    second = create_town(tmp_path / "mill")
    assert (first.created, second.created) == (True, False)
    assert second.town.file == first.town.file
    assert second.town.secrets == first.town.secrets
    assert first.town.file.name == "mill"


def test_every_server_has_a_port_of_its_own(tmp_path: Path) -> None:
    ports = ports_of(create_town(tmp_path / "a", store="server")) + ports_of(
        create_town(tmp_path / "b", store="server")
    )
    assert None not in ports
    assert len(set(ports[:4])) == len(set(ports[4:])) == 4


def test_equally_named_towns_have_sessions_and_namespaces_of_their_own(tmp_path: Path) -> None:
    one, other = (create_town(tmp_path / side, "mill", "embedded").town for side in "ab")
    assert one.tmux_socket != other.tmux_socket
    assert one.file.temporal.namespace != other.file.temporal.namespace


def test_the_dolt_password_is_for_the_owner_alone_and_never_shown(tmp_path: Path) -> None:
    town = create_town(tmp_path / "mill", store="server").town
    password = town.secrets["dolt_password"]
    assert stat.S_IMODE(town.paths.secrets.stat().st_mode) == 0o600
    assert len(password) >= 32
    assert password in town.ledger_url()
    assert password not in repr(town)
    assert password not in town.paths.config.read_text()


def test_concurrent_inits_agree_on_one_town(tmp_path: Path) -> None:
    made: list[TownCreated] = []
    threads = [
        threading.Thread(target=lambda: made.append(create_town(tmp_path / "mill", store="server"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 4
    assert sum(one.created for one in made) == 1
    assert len({(one.town.file.id, one.town.secrets["dolt_password"]) for one in made}) == 1


def test_auto_takes_the_embedded_ledger_where_there_is_no_dolt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GT_DOLT", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    created = create_town(tmp_path / "mill")
    assert created.town.file.store.engine is StoreEngine.EMBEDDED
    assert created.town.ledger_url() == f"doltlite:///{tmp_path}/mill/data/ledger.doltlite"
    assert error_of(tmp_path / "other", store="server").code is ErrorCode.PROGRAM_MISSING
    assert not (tmp_path / "other").exists()


def test_looking_for_dolt_leaves_no_process_behind(tmp_path: Path) -> None:
    """`dolt version` alone starts one that outlives it, and makes the folder of its configuration anew."""
    becomes_parent_of_orphans = "import ctypes; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)"
    look = f"{becomes_parent_of_orphans}; from services.dolt import find_dolt; assert find_dolt()"
    ask = "import os\ntry: print(os.waitpid(-1, 0))\nexcept ChildProcessError: print('none')"
    program = f"{look}\n{ask}"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    found = subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True)
    assert found.stdout == "none\n"


def test_a_dolt_that_is_too_old_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "dolt"
    old.write_text("#!/bin/sh\necho dolt version 1.79.9\n")
    old.chmod(0o755)
    monkeypatch.setenv("GT_DOLT", str(old))
    error = error_of(tmp_path / "mill", store="auto")
    assert error.code is ErrorCode.PROGRAM_MISSING
    assert "1.80" in error.message


def test_a_place_that_cannot_be_a_town_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    town = create_town(tmp_path / "mill", store="embedded").town
    before = sorted(tmp_path.rglob("*"))
    assert error_of(tmp_path / "file").code is ErrorCode.REFUSED
    assert error_of(tmp_path / "file" / "below").code is ErrorCode.REFUSED
    assert "inside the town" in error_of(town.root / "rigs" / "x").message
    assert error_of(Path("/proc/mill")).code is ErrorCode.REFUSED
    assert error_of(tmp_path / "a\nb").code is ErrorCode.INVALID_VALUE
    assert sorted(tmp_path.rglob("*")) == before


def test_another_name_or_store_for_a_town_that_is_there_is_refused(tmp_path: Path) -> None:
    create_town(tmp_path / "mill", store="embedded")
    assert error_of(tmp_path / "mill", name="other").code is ErrorCode.ALREADY_EXISTS
    assert error_of(tmp_path / "mill", store="server").code is ErrorCode.ALREADY_EXISTS


@pytest.mark.parametrize("name", ["../x", "-x", "a b", "$(id)", "x" * 300, ""])
def test_a_hostile_name_is_refused(tmp_path: Path, name: str) -> None:
    assert error_of(tmp_path / "mill", name=name).code is ErrorCode.INVALID_NAME
    assert not (tmp_path / "mill").exists()


def test_a_directory_with_an_odd_name_gives_the_town_a_plain_one(tmp_path: Path) -> None:
    assert create_town(tmp_path / "Ünsere; $town (1)", store="embedded").town.file.name == "nsere-town-1"


def test_a_town_is_found_by_option_then_variable_then_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, three = (create_town(tmp_path / name, store="embedded").town for name in ("one", "two", "three"))
    below = three.root / "rigs" / "deep"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    monkeypatch.delenv("GT_TOWN", raising=False)
    assert find_town().file == three.file
    monkeypatch.setenv("GT_TOWN", str(two.root))
    assert find_town().file == two.file
    assert find_town(one.root).file == one.file


def test_no_town_names_the_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GT_TOWN", raising=False)
    for explicit in (None, tmp_path / "nowhere"):
        with pytest.raises(GtError) as caught:
            find_town(explicit)
        assert caught.value.exit_code == 3
        assert "gt init" in caught.value.hint


@pytest.mark.parametrize("content", ["not toml", 'name = "x"', "", 'format = 1\nname = "a b"'])
def test_a_town_file_that_cannot_be_understood_says_where(tmp_path: Path, content: str) -> None:
    (tmp_path / "town.toml").write_text(content)
    with pytest.raises(GtError) as caught:
        load_town(tmp_path)
    assert caught.value.code in {ErrorCode.INVALID_VALUE, ErrorCode.INVALID_NAME}
    assert str(tmp_path / "town.toml") in caught.value.message


def test_the_web_address_of_a_workflow_is_quoted(tmp_path: Path) -> None:
    town = create_town(tmp_path / "mill", store="embedded").town
    url = town.web_url("polecat/shop/sh-1")
    assert url is not None
    assert url.endswith(f"/namespaces/{town.file.temporal.namespace}/workflows/polecat%2Fshop%2Fsh-1")


def test_an_external_ledgers_password_comes_from_the_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GT_LEDGER_PASSWORD", raising=False)
    town = create_town(tmp_path / "mill", store="embedded").town
    text = town.paths.config.read_text().replace(
        'engine = "embedded"', 'engine = "external"\nurl = "mysql+pymysql://gt@db:3306/gastown"'
    )
    town.paths.config.write_text(text)
    town.paths.secrets.write_text('ledger_password = "p@ss/word"\n')
    assert load_town(town.root).ledger_url() == "mysql+pymysql://gt:p%40ss%2Fword@db:3306/gastown"
    monkeypatch.setenv("GT_LEDGER_PASSWORD", "other")
    assert load_town(town.root).ledger_url() == "mysql+pymysql://gt:other@db:3306/gastown"


def test_finding_a_town_imports_nothing_heavy() -> None:
    code = (
        "import sys, services.town; "
        "print([m for m in ('temporalio', 'sqlalchemy', 'pymysql', 'tomlkit', 'psutil') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "[]"


def test_the_town_of_the_compose_file_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "town.toml").write_text((Path(__file__).parents[2] / "docker" / "town.toml").read_text())
    monkeypatch.setenv("GT_LEDGER_PASSWORD", "secret")
    town = load_town(tmp_path)
    assert town.ledger_url() == "mysql+pymysql://root:secret@dolt:3306/gastown"
    assert town.web_url() == "http://127.0.0.1:8233/namespaces/gastown/workflows"
    assert program_names(town) == ("worker",)
