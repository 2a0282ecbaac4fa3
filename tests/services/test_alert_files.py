"""The files that alerts need: channels, rules as last read, messages that have arrived; and their locks."""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from temporalio.exceptions import CancelledError

from models.errors import ErrorCode, GtError
from models.mayor.alerts import AlertMirror, Message
from models.settings import AlertSettings
from services.init_town import create_town
from services.notifications import files as alert_files
from services.notifications.files import MAX_CHANNELS, AlertFiles
from services.town import Town
from tests.pace import DEADLINE_S

AT = datetime(2026, 3, 1, 2, 10, tzinfo=UTC)


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return create_town(tmp_path / "town", "test", "embedded").town


@pytest.fixture
def files(town: Town) -> AlertFiles:
    return AlertFiles(town.paths)


def test_channels_are_kept_in_a_private_file(files: AlertFiles, town: Town) -> None:
    assert files.set_channel("slack", "json://127.0.0.1/a")
    assert not files.set_channel("slack", "json://127.0.0.1/a")
    assert files.set_channel("email", "json://127.0.0.1/b")
    assert stat.S_IMODE(town.paths.channels.stat().st_mode) == 0o600
    assert files.channels() == {"email": "json://127.0.0.1/b", "slack": "json://127.0.0.1/a"}
    assert files.remove_channel("slack")
    assert not files.remove_channel("slack")
    assert list(files.channels()) == ["email"]


def test_there_is_an_end_to_channels(files: AlertFiles) -> None:
    for number in range(MAX_CHANNELS):
        files.set_channel(f"c{number}", "json://127.0.0.1/")
    with pytest.raises(GtError) as raised:
        files.set_channel("one-more", "json://127.0.0.1/")
    assert raised.value.code is ErrorCode.REFUSED
    files.set_channel("c0", "json://127.0.0.1/other")


def test_a_broken_list_of_channels_is_said_without_its_content_and_counts_as_none(
    files: AlertFiles, town: Town
) -> None:
    town.paths.channels.write_text("[channels]\nslack = https://s3cret\n")
    with pytest.raises(GtError) as raised:
        files.channels()
    assert "s3cret" not in raised.value.message
    assert files.alerting().channels == ()


def test_what_was_changed_before_a_refresh_is_never_overwritten_by_an_older_reading(files: AlertFiles) -> None:
    record = AlertMirror()
    reading, changed = threading.Event(), threading.Event()

    def slowly() -> AlertMirror:
        seen = record
        reading.set()
        changed.wait(DEADLINE_S)
        return seen

    mayor = threading.Thread(target=files.refresh_mirror, args=(slowly,))
    mayor.start()
    reading.wait(DEADLINE_S)
    record = AlertMirror(alerts=AlertSettings(rate=7))
    person = threading.Thread(target=files.refresh_mirror, args=(lambda: record,))
    person.start()
    changed.set()
    mayor.join()
    person.join()
    assert files.mirror().alerts.rate == 7


def open_descriptors(name: str) -> list[str]:
    """Of this process, on a file of this name."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            target = str(descriptor.readlink())
            found += [target] if target.endswith(f"/{name}") else []
    return found


def test_whoever_is_cancelled_while_it_waits_for_a_lock_leaves_it_free(files: AlertFiles) -> None:
    """Temporal throws into an activity's thread; a frozen ledger made one hold the lock and others wait for it."""
    reading, thawed, over = threading.Event(), threading.Event(), threading.Event()

    def frozen() -> AlertMirror:
        reading.set()
        thawed.wait(DEADLINE_S)
        return AlertMirror()

    def cancelled() -> None:
        with contextlib.suppress(CancelledError):
            files.refresh_mirror(AlertMirror)
        over.set()

    holder = threading.Thread(target=files.refresh_mirror, args=(frozen,))
    waiting = threading.Thread(target=cancelled)
    holder.start()
    assert reading.wait(DEADLINE_S)
    waiting.start()
    assert waiting.ident is not None
    deadline = time.monotonic() + DEADLINE_S
    while len(open_descriptors("rules.lock")) < 2:
        assert time.monotonic() < deadline, "it never came to wait"
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(waiting.ident), ctypes.py_object(CancelledError))
    assert over.wait(DEADLINE_S), "it does not wait for ever, nor for the other"
    thawed.set()
    holder.join()
    waiting.join()
    assert open_descriptors("rules.lock") == []
    files.refresh_mirror(lambda: AlertMirror(alerts=AlertSettings(rate=7)))
    assert files.mirror().alerts.rate == 7


def test_who_waits_too_long_for_a_lock_is_told_so(files: AlertFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert_files, "LOCK_S", 0.1)

    def inside() -> AlertMirror:
        with pytest.raises(GtError) as raised:
            files.refresh_mirror(AlertMirror)
        assert raised.value.code is ErrorCode.TIMED_OUT
        return AlertMirror(alerts=AlertSettings(rate=7))

    files.refresh_mirror(inside)
    assert files.mirror().alerts.rate == 7


def test_arrived_messages_are_forgotten_after_a_week(files: AlertFiles, town: Town) -> None:
    first, second = (Message(id=f"hook-{number}", channel="hook", notices=()) for number in (1, 2))
    with files.sending(first):
        files.note_sent(first)
    old = (AT - timedelta(days=800)).timestamp()
    os.utime(town.paths.alerts / "sent" / "hook-1", (old, old))
    with files.sending(second):
        files.note_sent(second)
    assert [mark.name for mark in (town.paths.alerts / "sent").iterdir()] == ["hook-2"]
