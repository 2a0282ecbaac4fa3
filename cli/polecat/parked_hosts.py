"""Parked work as several hosts tell it: which is the same, who holds it, and who is to be asked for it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from models.errors import ErrorCode, GtError

if TYPE_CHECKING:
    from models.supervision.host_requests import ParkedWork


def together(told: Mapping[str, Sequence[ParkedWork]]) -> list[ParkedWork]:
    """One entry a ref, newest first: what the remote has where it has it, else what its host has.

    Args:
        told: by host, the one that is asked first before the others.
    """
    found: dict[str, ParkedWork] = {}
    for host, works in told.items():
        for work in works:
            kept = {"kept_host": host} if work.kept_files else {}
            mine = work.model_copy(update={"host": host, **kept})
            other = found.get(work.ref)
            found[work.ref] = mine if other is None else _both(other, mine)
    return sorted(found.values(), key=lambda work: work.saved_at, reverse=True)


def _both(one: ParkedWork, other: ParkedWork) -> ParkedWork:
    better = max(one, other, key=lambda work: (work.on_remote, bool(work.sha)))
    keeps = one if one.kept_files else other
    kept = {name: getattr(keeps, name) for name in ("kept_host", "kept_folder", "kept_files")}
    return better.model_copy(update=kept)


def chosen(works: Iterable[ParkedWork], bead: str, attempt: int | None, unreached: Sequence[str]) -> ParkedWork:
    """Of a bead the newest attempt's, or that of the one asked for; parked comes after saved.

    Raises:
        GtError: NOT_FOUND; TEMPORAL_UNREACHABLE where a host that did not answer may have it.
    """
    fitting = [work for work in works if work.sha and work.bead == bead and attempt in (None, work.attempt)]
    if fitting:
        return max(fitting, key=lambda work: (work.attempt, work.parked))
    what = f"attempt {attempt} of {bead}" if attempt is not None else bead
    if unreached:
        raise GtError(
            ErrorCode.TEMPORAL_UNREACHABLE,
            f"nothing of {what} is on the remote or on the hosts that answer; {' and '.join(unreached)} did not",
            f"gt worker   # on {unreached[0]}, then gt polecat unpark {bead}",
        )
    raise GtError(ErrorCode.NOT_FOUND, f"nothing of {what} is parked", "gt polecat parked")


def fetch_command(work: ParkedWork, here: str) -> str:
    """What a person runs to have the files that one host alone has; "" where there are none."""
    if not work.kept_files:
        return ""
    if work.kept_host == here:
        return f"cp -a {shlex.quote(work.kept_folder)} ."
    return f"scp -rp {work.kept_host}:{shlex.quote(work.kept_folder)} ."
