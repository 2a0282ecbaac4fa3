"""Where a town's own Temporal listens: for everybody on this machine, or for the owner alone (`temporal.listen`)."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import Final, NamedTuple

from models.errors import ErrorCode, GtError
from models.town import Listen, TemporalListening
from services.temporal import network_namespace
from services.town import Town

_PASSWD: Final = Path("/etc/passwd")
_FIRST_PERSON: Final = 1000
_NOBODY: Final = 65534
_NO_LOGIN: Final = ("nologin", "false", "sync")


class Choice(NamedTuple):
    """What was taken, and why where that is not what one would wish for."""

    on_socket: bool
    lacks: str = ""


def choose(town: Town) -> Choice:
    """Take the socket where the setting says so, or where other people could reach loopback.

    Raises:
        GtError: REFUSED where the setting asks for the socket and this machine has no networks for one program.
    """
    listen = town.file.temporal.listen
    if town.file.temporal.external or listen is Listen.LOOPBACK:
        return Choice(False)
    if listen is Listen.AUTO and not has_other_people():
        return Choice(False)
    if network_namespace.is_possible():
        return Choice(True)
    if listen is Listen.SOCKET:
        raise GtError(
            ErrorCode.REFUSED,
            "temporal.listen is socket, and this machine gives no program a network of its own (user namespaces)",
            f'allow unprivileged user namespaces, or set listen = "loopback" under [temporal] in {town.paths.config}',
        )
    return Choice(
        False, "others have accounts here and reach Temporal on loopback: no program has a network of its own"
    )


def has_other_people(passwd: Path = _PASSWD) -> bool:
    """Whether more than one person can log in to this machine; directories of a network's users are not asked."""
    try:
        lines = passwd.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    accounts = [line.split(":") for line in lines]
    people = {fields[2] for fields in accounts if len(fields) == 7 and _is_person(fields[2], fields[6])}
    return len(people) > 1


def _is_person(uid: str, shell: str) -> bool:
    known = uid.isdecimal() and int(uid) >= _FIRST_PERSON and int(uid) != _NOBODY
    return known and os.path.basename(shell) not in _NO_LOGIN


def listening_of(choice: Choice) -> TemporalListening:
    """What is kept of a choice until the next start; beside a hidden address for the Web UI where it needs one."""
    if choice.on_socket or sys.platform != "linux":
        return TemporalListening(on_socket=choice.on_socket, lacks=choice.lacks)
    # Every address that begins with 127 is loopback on Linux, and no page in a browser can try them all.
    parts = [str(secrets.randbelow(254) + 1) for _ in range(3)]
    return TemporalListening(ui_host=f"127.{'.'.join(parts)}", lacks=choice.lacks)
