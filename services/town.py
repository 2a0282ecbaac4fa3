"""A town on disk: making its directory, finding it again, and where its servers are.

Cheap to import: every command starts here.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import ValidationError

from models import names
from models.errors import ErrorCode, GtError
from models.town import StoreEngine, TownFile, TownPaths, tmux_socket
from services.ports import LOOPBACK

DATABASE = "gastown"
DOLT_PASSWORD = "dolt_password"  # noqa: S105 - the name of the secret, not the secret
LEDGER_PASSWORD = "ledger_password"  # noqa: S105


@dataclass(frozen=True)
class Town:
    """A town directory, read once. Secrets stay out of `repr`."""

    paths: TownPaths
    file: TownFile
    secrets: Mapping[str, str] = field(repr=False)

    @property
    def root(self) -> Path:
        return self.paths.root

    @property
    def temporal_address(self) -> str:
        """`host:port` of the Temporal that `gt up` runs.

        Raises:
            GtError: REFUSED when Temporal is external; its address is the profile's.
        """
        if self.file.temporal.external or self.file.temporal.port is None:
            raise GtError(ErrorCode.REFUSED, "Temporal is external: its address is in the temporalio.envconfig profile")
        return f"{LOOPBACK}:{self.file.temporal.port}"

    @property
    def tmux_socket(self) -> str:
        return tmux_socket(self.file.id)

    def ledger_url(self) -> str:
        """SQLAlchemy URL of the ledger, password included: for engines only, never for messages."""
        store = self.file.store
        if store.engine is StoreEngine.EMBEDDED:
            return f"doltlite:///{self.paths.doltlite_file}"
        if store.engine is StoreEngine.SERVER:
            password = quote(self.secrets.get(DOLT_PASSWORD, ""), safe="")
            return f"mysql+pymysql://root:{password}@{LOOPBACK}:{store.port}/{DATABASE}"
        if store.url is None:
            raise GtError(ErrorCode.INVALID_VALUE, f"{self.paths.config}: an external store needs `url`")
        return _with_password(store.url, os.environ.get("GT_LEDGER_PASSWORD") or self.secrets.get(LEDGER_PASSWORD))

    def web_url(self, workflow_id: str | None = None, run_id: str | None = None) -> str | None:
        """Address of the Web UI, or of one workflow in it; None where it is not known (external Temporal)."""
        temporal = self.file.temporal
        if temporal.ui_url:
            base = temporal.ui_url.rstrip("/")
        elif temporal.external or temporal.ui_port is None:
            return None
        else:
            base = f"http://{LOOPBACK}:{temporal.ui_port}"
        url = f"{base}/namespaces/{quote(temporal.namespace, safe='')}/workflows"
        if workflow_id is not None:
            url += f"/{quote(workflow_id, safe='')}"
            if run_id is not None:
                url += f"/{quote(run_id, safe='')}/history"
        return url


class TownCreated(NamedTuple):
    town: Town
    created: bool
    """False: it was there already and nothing was changed"""


def find_town(explicit: Path | None = None) -> Town:
    """The town that a command is about: `explicit`, else GT_TOWN, else the nearest parent with a town.toml.

    Raises:
        GtError: NOT_FOUND when there is none, INVALID_VALUE when its file cannot be understood.
    """
    named = explicit or (Path(os.environ["GT_TOWN"]) if os.environ.get("GT_TOWN") else None)
    if named is not None:
        root = named.expanduser().absolute()
        if not _has_town(root):
            raise GtError(ErrorCode.NOT_FOUND, f"{root} is not a town", f"gt init {root}")
        return load_town(root)
    try:
        here = Path.cwd()
    except FileNotFoundError:
        raise GtError(ErrorCode.NOT_FOUND, "the current directory is gone", "gt --town DIR …") from None
    root_or_none = next((folder for folder in (here, *here.parents) if _has_town(folder)), None)
    if root_or_none is None:
        raise GtError(ErrorCode.NOT_FOUND, f"no town here: neither {here} nor a parent has a town.toml", "gt init DIR")
    return load_town(root_or_none)


def load_town(root: Path) -> Town:
    """Read the town in `root`.

    Raises:
        GtError: INVALID_VALUE when a file cannot be understood, REFUSED when it cannot be read.
    """
    paths = TownPaths(root)
    try:
        file = TownFile.model_validate(_read_toml(paths.config))
        names.valid_town(file.name)
        names.valid_host(file.host)
    except GtError as error:
        raise GtError(error.code, f"{paths.config}: {error.message.removeprefix(f'{paths.config}: ')}") from None
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise GtError(ErrorCode.INVALID_VALUE, f"{paths.config}: {where}: {problem['msg']}") from None
    known = _read_toml(paths.secrets) if paths.secrets.exists() else {}
    return Town(paths, file, {key: value for key, value in known.items() if isinstance(value, str)})


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
    # Only `gt init` pays for these; services.dolt itself stands on this module.
    from services.founding import choose_store, describe  # noqa: PLC0415

    root = directory.expanduser().absolute()
    wanted = names.valid_town(name) if name is not None else None
    if store not in {"auto", StoreEngine.EMBEDDED, StoreEngine.SERVER}:
        raise GtError(ErrorCode.INVALID_VALUE, f"{store!r} is no store: auto, embedded or server")
    if _has_town(root):
        return TownCreated(_same_town(load_town(root), wanted, store), False)
    _refuse_place(root)
    engine = choose_store(store)
    file = describe(wanted or _name_from(root), engine, _short_hostname())
    paths = TownPaths(root)
    made = _make_folder(root)
    try:
        for folder in (paths.data, paths.logs, paths.run):
            folder.mkdir(mode=0o700, exist_ok=True)
        if engine is StoreEngine.SERVER:
            _write_once(paths.secrets, f'{DOLT_PASSWORD} = "{secrets.token_hex(24)}"\n')
        created = _write_once(paths.config, file)
    except OSError as error:
        _remove_if_made(root, made)
        raise GtError(ErrorCode.REFUSED, f"cannot write to {root}: {error.strerror}") from None
    return TownCreated(_same_town(load_town(root), wanted, store), created)


def _has_town(folder: Path) -> bool:
    try:
        return (folder / "town.toml").is_file()
    except OSError:
        return False


def _same_town(town: Town, name: str | None, store: str) -> Town:
    if name is not None and name != town.file.name:
        raise GtError(ErrorCode.ALREADY_EXISTS, f"{town.root} is the town {town.file.name!r} already")
    if store not in {"auto", town.file.store.engine}:
        raise GtError(ErrorCode.ALREADY_EXISTS, f"{town.root} keeps its ledger as {town.file.store.engine} already")
    return town


def _refuse_place(root: Path) -> None:
    if any(ord(character) < 32 for character in str(root)):
        raise GtError(ErrorCode.INVALID_VALUE, f"{str(root)!r} has control characters in it")
    above = next((folder for folder in root.parents if _has_town(folder)), None)
    if above is not None:
        raise GtError(ErrorCode.REFUSED, f"{root} is inside the town {above}", "choose a place outside of it")


def _make_folder(root: Path) -> bool:
    try:
        root.mkdir(parents=True)
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
    folders = (root / "data", root / "logs", root / "run", *((root,) if made else ()))
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _write_once(path: Path, text: str) -> bool:
    """Write a 0600 file whole or not at all, and only where there is none; False: there was one."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary)
    return True


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            return tomllib.load(stream)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise GtError(ErrorCode.INVALID_VALUE, f"{path}: {error}") from None
    except OSError as error:
        raise GtError(ErrorCode.REFUSED, f"cannot read {path}: {error.strerror}") from None


def _with_password(url: str, password: str | None) -> str:
    parts = urlsplit(url)
    if password is None or parts.password is not None or "@" not in parts.netloc:
        return url
    user, _, address = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{address}"))


def _name_from(root: Path) -> str:
    cleaned = re.sub(r"[^A-Za-z0-9]+", "-", root.name).strip("-")[: names.MAX_NAME].strip("-")
    return cleaned or "town"


def _short_hostname() -> str:
    cleaned = re.sub(r"[^A-Za-z0-9-]+", "-", socket.gethostname().split(".")[0]).strip("-")
    return re.sub(r"-+", "-", cleaned) or "localhost"
