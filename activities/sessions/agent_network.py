"""The network of an agent whose `agent.network` is a list: none, but for a proxy of its own outside of the sandbox.

The proxy (services/agent_proxy.py) is started beside the sandbox, once the agent asks for something, and ends with it.
One that is killed is started again when it is missed; the sandbox has no other way out.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agents import network_relay
from models.network_list import entry
from policies.security.network_list import PROXY_PORT, loopback_doors
from services.atomic_files import make_folders

REFUSED: Final = "refused-hosts.txt"
_ROOT: Final = str(Path(__file__).resolve().parents[2])
# asyncio does without ssl where there is none, and TLS is passed on unopened: 15 ms of CPU less.
_PROXY: Final = (
    f"import sys; sys.modules['ssl'] = None; sys.path.append({_ROOT!r}); from services.agent_proxy import main; main()"
)
# Without site-packages: it starts in half the time, and needs none.
_PYTHON: Final = (sys.executable, "-I", "-S")


def proxy_folder(record: Path) -> Path:
    """What the sandbox sees of the proxy.

    Args:
        record: folder of the town's record of the attempt.
    """
    return record / "network"


def make_proxy_folder(record: Path) -> None:
    """With the pipe in it by which the relay asks for the proxy. Repeating it changes nothing."""
    make_folders(proxy_folder(record))
    with contextlib.suppress(FileExistsError):
        os.mkfifo(proxy_folder(record) / network_relay.WANTED, 0o600)


def proxy_line(record: Path, hosts: Sequence[str]) -> str:
    """Lines for the shell that becomes the sandbox: the proxy runs, once it is asked for, while that process does.

    Not before: its imports are more work than all else at the start of an agent, which asks for nothing yet.
    The sandbox is handed the pipe's writing end, until its relay has one of its own; so the waiting ends with it,
    however early it ends.
    """
    folder = proxy_folder(record)
    before = shlex.join([*_PYTHON, "-c", _PROXY, str(folder), str(record / REFUSED)])
    log, wanted = shlex.quote(str(record / "proxy.log")), shlex.quote(str(folder / network_relay.WANTED))
    proxy = f"{before} $$ {shlex.join(hosts)} 2>{log}"
    waits = f"exec 4<{wanted} 3>&-; while read -r _ <&4 && kill -0 $$; do {proxy}; done"
    return f"exec 3<>{wanted}\n{{ {waits}; }} </dev/null >/dev/null 2>&1 &\n"


def relay_words(record: Path, hosts: Sequence[str]) -> list[str]:
    """Words in front of the agent's own, within its sandbox."""
    doors = loopback_doors([entry(host) for host in hosts])
    return [*_PYTHON, network_relay.__file__, str(proxy_folder(record)), str(PROXY_PORT), *doors, "--"]
