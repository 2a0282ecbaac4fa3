"""Showing a line to whoever looks at the town right now: the worker's own terminal, and attached sessions."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Sequence

SHOWN_MS = 15_000
_TMUX_S = 5.0
_MAX_LINE = 300


async def show(tmux_socket: str, lines: Sequence[str]) -> None:
    """Show lines where a person may see them now; that nobody looks is no failure."""
    printable = ["".join(letter if letter.isprintable() else " " for letter in line)[:_MAX_LINE] for line in lines]
    if sys.stderr.isatty():
        for line in printable:
            print(f"gt alert: {line}", file=sys.stderr, flush=True)
    if printable:
        more = f" (and {len(printable) - 1} more)" if len(printable) > 1 else ""
        await _show_attached(tmux_socket, f"gt alert: {printable[-1]}{more}")


async def _show_attached(socket: str, line: str) -> None:
    """In the status line of every client attached to the town's tmux server."""
    # tmux expands formats in what it shows, and a format can run a command.
    inert = line.replace("#", "##").replace("%", "%%")
    for client in (await _tmux(socket, "list-clients", "-F", "#{client_name}")).splitlines():
        await _tmux(socket, "display-message", "-c", client, "-d", str(SHOWN_MS), "--", inert)


async def _tmux(socket: str, *argv: str) -> str:
    """Standard output; "" where there is no tmux, no server or no answer."""
    try:
        process = await asyncio.create_subprocess_exec(
            *("tmux", "-L", socket, *argv),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except FileNotFoundError:
        return ""
    try:
        async with asyncio.timeout(_TMUX_S):
            said, _ = await process.communicate()
    except TimeoutError:
        return ""
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return said.decode("utf-8", "replace")
