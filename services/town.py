"""A town on disk: finding its directory, and where its servers are. services/init_town.py makes one.

Cheap to import: every command starts here.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import ValidationError

from models import names
from models.errors import ErrorCode, GtError
from models.town import StoreEngine, TemporalListening, TownFile, TownPaths, tmux_socket
from services.ports import LOOPBACK

DATABASE = "gastown"
DOLT_USER = "gastown"
"""of the Dolt server that `gt up` runs; no other user exists there"""
DOLT_PASSWORD = "dolt_password"  # noqa: S105 - the name of the secret, not the secret
LEDGER_PASSWORD = "ledger_password"  # noqa: S105
LEDGER_PASSWORD_VARIABLE = "GT_LEDGER_PASSWORD"  # noqa: S105 - it wins over the file


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

    def temporal_listening(self) -> TemporalListening:
        """Where the Temporal that `gt up` started last listens."""
        try:
            return TemporalListening.model_validate_json(self.paths.temporal_listening.read_bytes())
        except (OSError, ValueError):
            return TemporalListening()

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
            return f"mysql+pymysql://{DOLT_USER}:{password}@{LOOPBACK}:{store.port}/{DATABASE}"
        if store.url is None:
            raise GtError(ErrorCode.INVALID_VALUE, f"{self.paths.config}: an external store needs `url`")
        return _with_password(store.url, self.secrets.get(LEDGER_PASSWORD))

    def ledger_storage(self) -> Path | None:
        """The file or folder that the ledger takes on this machine; None where it is elsewhere."""
        match self.file.store.engine:
            case StoreEngine.EMBEDDED:
                return self.paths.doltlite_file
            case StoreEngine.SERVER:
                return self.paths.dolt_data
        return None

    def web_url(self, workflow_id: str | None = None, run_id: str | None = None) -> str | None:
        """Address of the Web UI, or of one workflow in it; None where it is not known (external Temporal) or there is
        none but `gt ui` opens one."""
        temporal = self.file.temporal
        if temporal.ui_url:
            base = temporal.ui_url.rstrip("/")
        elif temporal.external or temporal.ui_port is None or self.temporal_listening().on_socket:
            return None
        else:
            base = f"http://{LOOPBACK}:{temporal.ui_port}"
        url = f"{base}/namespaces/{quote(temporal.namespace, safe='')}/workflows"
        if workflow_id is not None:
            url += f"/{quote(workflow_id, safe='')}"
            if run_id is not None:
                url += f"/{quote(run_id, safe='')}/history"
        return url


def find_town(explicit: Path | None = None) -> Town:
    """The town that a command is about: `explicit`, else GT_TOWN, else the nearest parent with a town.toml.

    Raises:
        GtError: NOT_FOUND when there is none, INVALID_VALUE when its file cannot be understood.
    """
    named = explicit or (Path(os.environ["GT_TOWN"]) if os.environ.get("GT_TOWN") else None)
    if named is not None:
        root = named.expanduser().absolute()
        if not has_town(root):
            raise GtError(ErrorCode.NOT_FOUND, f"{root} is not a town", f"gt init {root}")
        return load_town(root)
    try:
        here = Path.cwd()
    except FileNotFoundError:
        raise GtError(ErrorCode.NOT_FOUND, "the current directory is gone", "gt --town DIR …") from None
    root_or_none = next((folder for folder in (here, *here.parents) if has_town(folder)), None)
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
    if os.environ.get(LEDGER_PASSWORD_VARIABLE):
        known[LEDGER_PASSWORD] = os.environ[LEDGER_PASSWORD_VARIABLE]
    return Town(paths, file, {key: value for key, value in known.items() if isinstance(value, str)})


def has_town(folder: Path) -> bool:
    """Whether `folder` is a town; a folder that cannot be read is none."""
    try:
        return (folder / "town.toml").is_file()
    except OSError:
        return False


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
