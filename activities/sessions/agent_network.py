"""The network of an agent whose `agent.network` is a list: none, but for a proxy of its own outside of the sandbox.

The proxy (services/agent_proxy.py) is started beside the sandbox and ends with it. One that is killed is started again;
until then what the agent asks for fails, since its sandbox has no other way out.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agents import network_relay
from models.network_list import entry
from policies.security.network_list import PROXY_PORT, loopback_doors

REFUSED: Final = "refused-hosts.txt"
_ROOT: Final = str(Path(__file__).resolve().parents[2])
_PROXY: Final = f"import sys; sys.path.append({_ROOT!r}); from services.agent_proxy import main; main()"
# Without site-packages: it starts in half the time, and needs none.
_PYTHON: Final = (sys.executable, "-I", "-S")


def proxy_folder(record: Path) -> Path:
    """What the sandbox sees of the proxy.

    Args:
        record: folder of the town's record of the attempt.
    """
    return record / "network"


def proxy_line(record: Path, hosts: Sequence[str]) -> str:
    """A line for the shell that becomes the sandbox: the proxy runs while that process does."""
    before = shlex.join([*_PYTHON, "-c", _PROXY, str(proxy_folder(record)), str(record / REFUSED)])
    log = shlex.quote(str(record / "proxy.log"))
    proxy = f"{before} $$ {shlex.join(hosts)} 2>{log}"
    return f"while kill -0 $$; do {proxy}; sleep 1; done </dev/null >/dev/null 2>&1 &\n"


def relay_words(record: Path, hosts: Sequence[str]) -> list[str]:
    """Words in front of the agent's own, within its sandbox."""
    doors = loopback_doors([entry(host) for host in hosts])
    return [*_PYTHON, network_relay.__file__, str(proxy_folder(record)), str(PROXY_PORT), *doors, "--"]
