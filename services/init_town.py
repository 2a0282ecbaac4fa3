"""Making a town: its directory, the ports and the store in its town.toml, its first secret."""

from __future__ import annotations

import contextlib
import re
import secrets
import socket
import subprocess
from pathlib import Path
from typing import NamedTuple

import tomlkit

from models import names
from models.errors import ErrorCode, GtError
from models.town import StoreEngine, TownPaths
from services.atomic_files import write_once
from services.dolt import INSTALL_HINT, find_dolt, require_dolt
from services.own_python import OWN_PYTHON
from services.ports import pick_free
from services.private_files import close_to_others
from services.town import DOLT_PASSWORD, Town, has_town, load_town


class TownCreated(NamedTuple):
    town: Town
    created: bool
    """False: it was there already and nothing was changed"""


def create_town(directory: Path, name: str | None = None, store: str = "auto") -> TownCreated:
    """Make `directory` a town; a second time changes nothing.

    Args:
        directory: made if absent.
        name: default: out of the directory's name.
        store: `embedded`, `server`, or `auto`: the server where a usable `dolt` is found.

    Raises:
        GtError: INVALID_NAME, INVALID_VALUE (no such store), REFUSED (a file is in the way, not writable,
            inside another town), ALREADY_EXISTS (a town with another name or store), PROGRAM_MISSING
            (`server` without a `dolt`).
    """
    root = directory.expanduser().absolute()
    wanted = names.valid_town(name) if name is not None else None
    if store not in {"auto", StoreEngine.EMBEDDED, StoreEngine.SERVER}:
        raise GtError(ErrorCode.INVALID_VALUE, f"{store!r} is no store: auto, embedded or server")
    if has_town(root):
        return TownCreated(_same_town(load_town(root), wanted, store), False)
    _refuse_place(root)
    engine = choose_store(store)
    file = describe(wanted or _name_from(root), engine, _short_hostname())
    paths = TownPaths(root)
    made = _make_folder(root)
    try:
        for folder in (paths.data, paths.logs, paths.run, paths.rigs, paths.evidence, paths.salvage):
            folder.mkdir(mode=0o700, exist_ok=True)
        if engine is StoreEngine.SERVER:
            write_once(paths.secrets, f'{DOLT_PASSWORD} = "{secrets.token_hex(24)}"\n')
        created = write_once(paths.config, file)
    except OSError as error:
        _remove_if_made(root, made)
        raise GtError(ErrorCode.REFUSED, f"cannot write to {root}: {error.strerror}") from None
    close_to_others(paths)
    return TownCreated(_same_town(load_town(root), wanted, store), created)


def choose_store(wanted: str) -> StoreEngine:
    """The engine for `auto`, `embedded` or `server`.

    Raises:
        GtError: PROGRAM_MISSING for `server` without a usable `dolt`, or when this Python cannot load the
            embedded engine and there is no `dolt` either.
    """
    if wanted == StoreEngine.SERVER:
        require_dolt()
        return StoreEngine.SERVER
    if wanted == "auto" and find_dolt() is not None:
        return StoreEngine.SERVER
    _try_embedded()
    return StoreEngine.EMBEDDED


def _try_embedded() -> None:
    """Load the embedded engine in a process of its own: it has to come before anything that uses sqlite3."""
    probe = (
        "import sys\nfrom ledger.engine.embedded import load_doltlite\nfrom models.errors import GtError\n"
        "try: load_doltlite()\nexcept GtError as error: sys.exit(error.message)"
    )
    answer = subprocess.run(
        [*OWN_PYTHON, "-c", probe], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if answer.returncode != 0:
        lines = answer.stderr.strip().splitlines() or ["the embedded ledger does not load"]
        raise GtError(ErrorCode.PROGRAM_MISSING, lines[-1], INSTALL_HINT)


def describe(name: str, engine: StoreEngine, host: str) -> str:
    """The text of town.toml: free ports, picked once and kept.

    Raises:
        GtError: PORT_TAKEN when the loopback interface has no four free ports left.
    """
    ports = pick_free(4)
    if len(ports) < 4:
        raise GtError(ErrorCode.PORT_TAKEN, "no free loopback ports between 20000 and 29999")
    identity = f"{name}-{secrets.token_hex(3)}"
    document = tomlkit.document()
    document.add(tomlkit.comment("Where this town's parts are. Settings that shape behaviour: gt config list"))
    document.add("format", tomlkit.item(1))
    document.add("name", tomlkit.item(name))
    document.add("id", tomlkit.item(identity).comment("keeps sessions of equally named towns apart"))
    document.add("host", tomlkit.item(host).comment("name of this machine's task queues"))
    document.add(tomlkit.comment('agent = "claude"   # for rigs that name none'))
    store = tomlkit.table()
    store.add("engine", tomlkit.item(str(engine)).comment("embedded, server, or external with `url`"))
    if engine is StoreEngine.SERVER:
        store.add("port", ports[3])
    document.add("store", store)
    temporal = tomlkit.table()
    temporal.add("external", tomlkit.item(False).comment("true: `profile` of temporalio.envconfig says where"))
    temporal.add("namespace", identity)
    temporal.add("port", ports[0])
    temporal.add("ui_port", ports[1])
    temporal.add("metrics_port", ports[2])
    temporal.add("listen", tomlkit.item("auto").comment("who reaches it: auto, loopback (all on this machine), socket"))
    document.add("temporal", temporal)
    return tomlkit.dumps(document)


def _same_town(town: Town, name: str | None, store: str) -> Town:
    if name is not None and name != town.file.name:
        raise GtError(ErrorCode.ALREADY_EXISTS, f"{town.root} is the town {town.file.name!r} already")
    if store not in {"auto", town.file.store.engine}:
        raise GtError(ErrorCode.ALREADY_EXISTS, f"{town.root} keeps its ledger as {town.file.store.engine} already")
    return town


def _refuse_place(root: Path) -> None:
    if any(ord(character) < 32 for character in str(root)):
        raise GtError(ErrorCode.INVALID_VALUE, f"{str(root)!r} has control characters in it")
    above = next((folder for folder in root.parents if has_town(folder)), None)
    if above is not None:
        raise GtError(ErrorCode.REFUSED, f"{root} is inside the town {above}", "choose a place outside of it")


def _make_folder(root: Path) -> bool:
    try:
        root.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        if not root.is_dir():
            raise GtError(ErrorCode.REFUSED, f"{root} is a file") from None
        return False
    except NotADirectoryError:
        raise GtError(ErrorCode.REFUSED, f"a parent of {root} is a file") from None
    except OSError as error:
        raise GtError(ErrorCode.REFUSED, f"cannot make {root}: {error.strerror}") from None
    return True


def _remove_if_made(root: Path, made: bool) -> None:
    made_in_it = [root / name for name in ("data", "logs", "run", "rigs", "evidence", "salvage")]
    folders = (*made_in_it, *((root,) if made else ()))
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _name_from(root: Path) -> str:
    cleaned = re.sub(r"[^A-Za-z0-9]+", "-", root.name).strip("-")[: names.MAX_NAME].strip("-")
    return cleaned or "town"


def _short_hostname() -> str:
    cleaned = re.sub(r"[^A-Za-z0-9-]+", "-", socket.gethostname().split(".")[0]).strip("-")
    return re.sub(r"-+", "-", cleaned) or "localhost"
