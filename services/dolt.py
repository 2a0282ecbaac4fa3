"""The Dolt SQL server of a town: finding the program, and running it with a password from birth.

`python -m services.dolt --town DIR` writes the server's configuration and becomes the server.
Before its first start the `dolt` program makes the database and its one user, who has that database and nothing
else; no superuser exists at any time, and the server reads and writes no file for a query. DOLT_ROOT_PATH keeps
Dolt's own files out of the user's home.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import ErrorCode, GtError
from models.town import StoreEngine
from services.ports import LOOPBACK
from services.town import DATABASE, DOLT_PASSWORD, DOLT_USER, Town, find_town

if TYPE_CHECKING:
    from pymysql.connections import Connection
    from pymysql.cursors import Cursor

MINIMUM_VERSION = (1, 80)
_VERSION = re.compile(r"dolt version (\d+)\.(\d+)")
_PROBE_TIMEOUT_S = 20
_ANSWER_S = 3
_SET_UP_TIMEOUT_S = 60
_NO_FILES = "/dev/null/none"
"""Below what is no folder: no file of that name can come to be."""
INSTALL_HINT = "make test builds one into ~/.cache/gastown, or see https://github.com/dolthub/dolt#installation"


def find_dolt() -> Path | None:
    """The first `dolt` of a usable version: GT_DOLT, then PATH, then the user's cache.

    Raises:
        GtError: PROGRAM_MISSING when GT_DOLT names something that is no usable `dolt`.
    """
    named = os.environ.get("GT_DOLT")
    if named:
        if not _usable(Path(named)):
            raise GtError(
                ErrorCode.PROGRAM_MISSING,
                f"GT_DOLT={named} is no dolt of version {_dotted(MINIMUM_VERSION)} or newer",
                INSTALL_HINT,
            )
        return Path(named).absolute()
    return next((path for path in _candidates() if _usable(path)), None)


def require_dolt() -> Path:
    """`find_dolt()`, or GtError(PROGRAM_MISSING)."""
    found = find_dolt()
    if found is None:
        raise GtError(
            ErrorCode.PROGRAM_MISSING, f"no dolt of version {_dotted(MINIMUM_VERSION)} or newer", INSTALL_HINT
        )
    return found


def _candidates() -> Iterator[Path]:
    on_path = shutil.which("dolt")
    if on_path:
        yield Path(on_path).absolute()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gastown"
    yield from sorted(cache.glob("dolt-*/dolt"), reverse=True)


def _usable(program: Path) -> bool:
    with tempfile.TemporaryDirectory(prefix="gt-dolt-") as own_root:
        _write_global_config(Path(own_root))
        try:
            answer = subprocess.run(
                [str(program), "version"],
                capture_output=True,
                text=True,
                timeout=_PROBE_TIMEOUT_S,
                check=False,
                stdin=subprocess.DEVNULL,
                env=_environment(Path(own_root)),
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
    match = _VERSION.search(answer.stdout)
    return match is not None and (int(match[1]), int(match[2])) >= MINIMUM_VERSION


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)


def _environment(root: Path) -> dict[str, str]:
    """What a `dolt` of ours runs with: its global configuration in `root`.

    Each command but a few starts a process to send metrics, which outlives it and makes `root` anew; also where the
    configuration disables them.
    """
    return {**os.environ, "DOLT_ROOT_PATH": str(root), "DOLT_DISABLE_EVENT_FLUSH": "true"}


def _write_global_config(root: Path) -> None:
    """No questions to dolthub.com about versions, no metrics."""
    folder = root / ".dolt"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = {"versioncheck.disabled": "true", "metrics.disabled": "true"}
    (folder / "config_global.json").write_text(json.dumps(settings), encoding="utf-8")


def server_config(town: Town) -> str:
    """The server's configuration (JSON is YAML; quoting is then no question)."""
    data = town.paths.dolt_data
    return json.dumps(
        {
            "log_level": "warning",
            "behavior": {"auto_gc_behavior": {"enable": True}},
            "listener": {"host": LOOPBACK, "port": town.file.store.port, "max_connections": 200},
            "data_dir": str(data / "databases"),
            "cfg_dir": str(data / "config"),
            "privilege_file": str(_privileges(town)),
            # Dolt 1.86 lets anybody use LOAD_FILE and INTO OUTFILE, whatever FILE privilege they have.
            "system_variables": {"secure_file_priv": _NO_FILES},
        },
        indent=1,
    )


def run_server(town: Town) -> None:
    """Become the town's Dolt server; returns never.

    Raises:
        GtError: PROGRAM_MISSING without a usable dolt, REFUSED for a town whose store is no server, SERVICE_FAILED
            when the database and its user cannot be made.
    """
    if town.file.store.engine is not StoreEngine.SERVER:
        raise GtError(ErrorCode.REFUSED, f"the ledger of {town.file.name} is {town.file.store.engine}, not a server")
    program = require_dolt()
    os.umask(0o077)
    data = town.paths.dolt_data
    for folder in (data / "databases", data / "config", data / "home"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write_global_config(data / "home")
    config = data / "server.yaml"
    config.write_text(server_config(town), encoding="utf-8")
    environment = _environment(data / "home")
    _set_up(town, program, environment)
    os.chdir(data)
    os.execve(program, [str(program), "sql-server", "--config", str(config)], environment)  # noqa: S606


def _privileges(town: Town) -> Path:
    return town.paths.dolt_data / "config" / "privileges.db"


def _set_up(town: Town, program: Path, environment: dict[str, str]) -> None:
    """Make the database and its user where they are missing; no server runs on the directory yet."""
    data = town.paths.dolt_data
    done = data / "config" / "set_up"
    if done.exists() and _privileges(town).exists() and (data / "databases" / DATABASE).exists():
        return
    password = town.secrets[DOLT_PASSWORD].replace("\\", "\\\\").replace("'", "''")
    user = f"'{DOLT_USER}'@'{LOOPBACK}'"
    statements = (
        f"CREATE DATABASE IF NOT EXISTS {DATABASE}",
        f"CREATE USER IF NOT EXISTS {user} IDENTIFIED BY '{password}'",
        f"GRANT ALL ON {DATABASE}.* TO {user}",
        f"GRANT EXECUTE ON PROCEDURE {DATABASE}.dolt_gc TO {user}",
        f"DROP USER IF EXISTS 'root'@'{LOOPBACK}'",
    )
    answer = subprocess.run(
        [
            *(str(program), "--data-dir", str(data / "databases"), "--doltcfg-dir", str(data / "config")),
            *("--privilege-file", str(_privileges(town)), "sql"),
        ],
        cwd=data,
        env=environment,
        # Not as an argument: those are for everybody to see.
        input="".join(f"{statement};\n" for statement in statements),
        capture_output=True,
        text=True,
        timeout=_SET_UP_TIMEOUT_S,
        check=False,
    )
    if answer.returncode != 0:
        raise GtError(ErrorCode.SERVICE_FAILED, f"dolt cannot make the database: {answer.stderr.strip()[-300:]}")
    done.touch()


def rights(town: Town) -> tuple[str, str]:
    """Who the ledger's user is on the town's server, and the one folder in which queries may use files.

    Raises:
        OSError: the server does not answer.
    """
    import pymysql  # noqa: PLC0415 - every command imports this module

    try:
        with _connect(town) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT CURRENT_USER(), @@secure_file_priv")
            user, files = cursor.fetchone() or ("", "")
    except pymysql.Error as error:
        raise OSError(str(error)) from None
    return str(user).partition("@")[0], str(files)


def _connect(town: Town) -> Connection[Cursor]:
    import pymysql  # noqa: PLC0415

    return pymysql.connect(
        host=LOOPBACK,
        port=town.file.store.port or 0,
        user=DOLT_USER,
        password=town.secrets.get(DOLT_PASSWORD, ""),
        connect_timeout=_ANSWER_S,
        read_timeout=_ANSWER_S,
    )


def ailment(town: Town) -> str | None:
    """None when the town's server answers a query, else what is wrong in a few words."""
    import pymysql  # noqa: PLC0415

    try:
        connection = _connect(town)
    except (pymysql.Error, OSError) as error:
        return f"does not answer: {error.args[-1] if error.args else error}"
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT dolt_version()")
            cursor.fetchone()
    except (pymysql.Error, OSError) as error:
        return f"cannot be asked: {error.args[-1] if error.args else error}"
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description="Become the Dolt server of a town.")
    parser.add_argument("--town", type=Path, required=True)
    run_server(find_town(parser.parse_args().town))


if __name__ == "__main__":
    main()
