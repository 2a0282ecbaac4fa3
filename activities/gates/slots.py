"""Where gates run on a host, and what a killed worker left running.

How many run at once is the worker's to say. Each run holds a slot: a lock file that the kernel frees when its holder
dies. Beside it stands a note of the run that goes on, written before the run starts; a note on a free slot names an
orphan. No process outlives its host, so the notes need not either.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import psutil

from activities.gates.process import end_marked, kill_process
from agents.session_folder import read_json, write_json
from services.locks import try_exclusive


class Lane:
    """One of the gates that run at once in a slot: its home, and the note of its process."""

    def __init__(self, note: Path, home: Path) -> None:
        self._note = note
        self.home = home

    def begin(self) -> str:
        """Note that a run begins; its mark."""
        mark = uuid.uuid4().hex
        write_json(self._note, {"mark": mark}, synced=False)
        return mark

    def began(self, mark: str, pid: int) -> None:
        """Note the process that leads the run, with the time it started at: ids are used again."""
        with contextlib.suppress(psutil.NoSuchProcess):
            note = {"mark": mark, "pid": pid, "started": psutil.Process(pid).create_time()}
            write_json(self._note, note, synced=False)

    def end(self) -> None:
        self._note.unlink(missing_ok=True)

    def end_orphan(self) -> None:
        """End what a killed worker left running here."""
        note = read_json(self._note)
        if note is None:
            self.end()
            return
        pid, mark = note.get("pid"), note.get("mark")
        # Its leader gone, a session keeps its number until its last process is.
        if isinstance(pid, int) and _started(pid) in {note.get("started"), 0.0}:
            _kill_session(pid)
        if isinstance(mark, str):
            end_marked(mark)
        self.end()


class Slot:
    """The right to run the gates of one commit at a time.

    Attributes:
        number: from 0; no two living holders on this host have the same.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._folder = folder
        self.number = number

    def lane(self, number: int) -> Lane:
        """From 0; gates that run at once have a lane each."""
        name = f"{self.number}.{number}" if number else str(self.number)
        return Lane(self._folder / f"{name}.json", self._folder / f"{name}.home")

    def end_orphans(self) -> None:
        """End what a killed worker left running in this slot."""
        more = (int(path.stem.partition(".")[2]) for path in self._folder.glob(f"{self.number}.*.json"))
        for number in (0, *more):
            self.lane(number).end_orphan()


@contextlib.asynccontextmanager
async def a_slot(folder: Path) -> AsyncIterator[Slot]:
    """Hold the first free slot. Orphans in any free slot are ended first.

    Args:
        folder: where the host's locks and notes are.
    """
    slot, lock = await asyncio.to_thread(_take, folder)
    with lock:
        yield slot


def _take(folder: Path) -> tuple[Slot, io.FileIO]:
    """The first free slot with its lock; every free slot is swept, since a retry may come by another one."""
    taken: tuple[Slot, io.FileIO] | None = None
    number = 0
    while taken is None or (folder / f"{number}.lock").exists():
        lock = try_exclusive(folder / f"{number}.lock")
        slot = Slot(folder, number)
        number += 1
        if lock is None:
            continue
        with contextlib.ExitStack() as held:
            held.enter_context(lock)
            slot.end_orphans()
            if taken is None:
                taken = slot, lock
                held.pop_all()
    return taken


def _started(pid: int) -> float:
    """When the process with this id started, 0 where there is none."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return 0.0


def _kill_session(leader: int) -> None:
    """Kill the session that the process `leader` leads or led, itself included."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == leader:
                kill_process(process)
