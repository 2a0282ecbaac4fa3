"""What a new town's town.toml says."""

from __future__ import annotations

import secrets
import subprocess
import sys

import tomlkit

from models.errors import ErrorCode, GtError
from models.town import StoreEngine
from services.dolt import INSTALL_HINT, find_dolt, require_dolt
from services.ports import pick_free


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
        "import sys\nfrom ledger.embedded import load_doltlite\nfrom models.errors import GtError\n"
        "try: load_doltlite()\nexcept GtError as error: sys.exit(error.message)"
    )
    answer = subprocess.run(
        [sys.executable, "-P", "-c", probe], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
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
    document.add("temporal", temporal)
    return tomlkit.dumps(document)
