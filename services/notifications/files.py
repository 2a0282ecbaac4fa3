"""What a town keeps about alerts in files of its own, so that alerts need neither ledger nor Temporal.

- `channels.toml`: name and notification URL of each channel; URLs are secrets, so the file is private and
  nothing of a URL ever leaves this module but into the sender.
- `run/alerts/rules.json`: the record's rules and settings, as last read.
- `run/alerts/channels.json`: the channels' names, as last read: they hold while `channels.toml` cannot be read.
- `run/alerts/failing/`: channels that do not take what they are sent.
- `run/alerts/sent/`: messages that have arrived, so that sending one again after a kill is nothing.
- `logs/alerts.log`: every notice, once.
"""

from __future__ import annotations

import contextlib
import io
import os
import time
import tomllib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import tomlkit

from models import names
from models.errors import ErrorCode, GtError
from models.mayor.alerts import Alerting, AlertMirror, AlertType, ChannelFailure, ChannelNames, Message, Notice
from models.town import TownPaths
from policies.mayor.notification_rules import channels_for
from services.atomic_files import write_whole
from services.locks import locked_within, open_lock
from services.redaction import Redactor
from services.supervisor.processes import read_record, write_record

if TYPE_CHECKING:
    from ledger.store import Ledger

MAX_CHANNELS = 10
MAX_URL = 2000
"""characters"""
LOCK_S = 15.0
"""A reader of the record may hold the rules' lock for as long as the ledger takes to answer or to fail."""
REMEMBERED_S = 7 * 86400.0
"""how long an arrived message is known"""
_LOG_TAIL = 256_000
"""bytes of the log in which a notice is looked for before it is written again"""


class AlertFiles:
    """The files of one town. Every write is whole or nothing; readers need no lock."""

    def __init__(self, paths: TownPaths) -> None:
        self._paths = paths
        self._rules = paths.alerts / "rules.json"
        self._known = paths.alerts / "channels.json"
        self._failing = paths.alerts / "failing"
        self._sent = paths.alerts / "sent"
        self._redactor = Redactor(paths)

    # --- rules and settings -------------------------------------------------------------------

    def mirror(self) -> AlertMirror:
        """The record's rules and settings as last read; none were: no rules and the defaults."""
        return read_record(self._rules, AlertMirror) or AlertMirror()

    def refresh_mirror(self, read: Callable[[], AlertMirror]) -> AlertMirror:
        """Replace the mirror by what `read` finds in the record.

        Reading and writing happen under one lock, so that who has changed the record and then refreshes is
        never overwritten by somebody who has read it before.

        Raises:
            GtError: TIMED_OUT while another one reads; what `read` raises.
        """
        with self._locked("rules"):
            mirror = read()
            self._paths.alerts.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_record(self._rules, mirror)
        return mirror

    def alerting(self) -> Alerting:
        """Rules, settings and channels, as they are now. While the list cannot be read, the channels last read hold.

        Otherwise what is told meanwhile would count as told, and reach no channel when the list is mended.
        """
        known = read_record(self._known, ChannelNames) or ChannelNames()
        try:
            channels = tuple(self.channels())
        except GtError:
            channels = known.names
        if channels != known.names:
            self._remember(channels)
        offset_s = int(time.localtime().tm_gmtoff)
        return Alerting(**dict(self.mirror()), channels=channels, utc_offset_s=offset_s)

    def _remember(self, channels: tuple[str, ...]) -> None:
        with contextlib.suppress(OSError):  # a full disk must not keep an alert back
            self._paths.alerts.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_record(self._known, ChannelNames(names=channels))

    def channels_told(self, type: AlertType) -> tuple[str, ...]:
        """Which channels hear of a type now."""
        alerting = self.alerting()
        return channels_for(type, alerting.rules, alerting.channels)

    # --- channels -------------------------------------------------------------------------------

    def channels(self) -> dict[str, str]:
        """Name and URL of each channel, by name.

        Raises:
            GtError: INVALID_VALUE when the file cannot be understood, REFUSED when it cannot be read.
        """
        path = self._paths.channels
        try:
            known = tomllib.loads(path.read_text(encoding="utf-8")).get("channels", {})
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise GtError(ErrorCode.REFUSED, f"cannot read {path}: {error.strerror}") from None
        except ValueError:
            # The reason would quote the line, and with it a URL.
            raise GtError(ErrorCode.INVALID_VALUE, f"{path} is not TOML", f"mend it or remove it: {path}") from None
        return {name: url for name, url in sorted(known.items()) if isinstance(url, str)}

    def set_channel(self, name: str, url: str) -> bool:
        """Set a channel's URL; False when it was just that already.

        Raises:
            GtError: INVALID_NAME, REFUSED past MAX_CHANNELS, and what `channels` raises.
        """
        names.valid_channel(name)
        with self._locked("channels"):
            channels = self.channels()
            if channels.get(name) == url:
                return False
            if name not in channels and len(channels) >= MAX_CHANNELS:
                raise GtError(
                    ErrorCode.REFUSED, f"there are {MAX_CHANNELS} channels already", "gt alert channel remove NAME"
                )
            self._write_channels({**channels, name: url})
        return True

    def remove_channel(self, name: str) -> bool:
        """Forget a channel and its failures; False when there is none of this name."""
        with self._locked("channels"):
            channels = self.channels()
            if channels.pop(name, None) is None:
                return False
            self._write_channels(channels)
        self.forget_failure(name)
        return True

    def _write_channels(self, channels: dict[str, str]) -> None:
        document = tomlkit.document()
        document.add(tomlkit.comment("Notification URLs: secret. gt alert channel add|list|remove"))
        table = tomlkit.table()
        for name, url in channels.items():
            table.add(name, url)
        document.add("channels", table)
        write_whole(self._paths.channels, tomlkit.dumps(document))
        self._remember(tuple(sorted(channels)))

    # --- what became of messages ----------------------------------------------------------------

    def failures(self) -> list[ChannelFailure]:
        """Channels that do not take what they are sent, by name."""
        found = (read_record(path, ChannelFailure) for path in sorted(self._failing.glob("*.json")))
        return [failure for failure in found if failure is not None]

    def note_failure(self, channel: str, error: str, title: str) -> ChannelFailure:
        """Remember that a channel did not take a message."""
        self._failing.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._failure(channel)
        before = read_record(path, ChannelFailure)
        failure = ChannelFailure(
            channel=channel,
            since=before.since if before else datetime.now(UTC),
            tries=before.tries + 1 if before else 1,
            error=error,
            title=title,
        )
        write_record(path, failure)
        return failure

    def forget_failure(self, channel: str) -> None:
        self._failure(channel).unlink(missing_ok=True)

    def _failure(self, channel: str) -> Path:
        return self._failing / f"{names.valid_channel(channel)}.json"

    @contextlib.contextmanager
    def sending(self, message: Message) -> Iterator[bool]:
        """Hold the channel for one message; yields whether the message has arrived before."""
        mark = self._sent / message.id
        with self._locked_if_possible(f"channel-{names.valid_channel(message.channel)}"):
            yield mark.exists()

    def note_sent(self, message: Message) -> None:
        """Remember that a message has arrived. Call while `sending` holds the channel."""
        self._sent.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._sent / message.id).touch(mode=0o600)
        oldest = time.time() - REMEMBERED_S
        for mark in self._sent.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if mark.stat().st_mtime < oldest:
                    mark.unlink()

    def log(self, notices: tuple[Notice, ...]) -> tuple[Notice, ...]:
        """Write notices to the log; returns those that were not there yet."""
        self._paths.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._locked_if_possible("log"):
            known = _tail(self._paths.alerts_log)
            new = tuple(notice for notice in notices if _mark(notice) not in known)
            if new:
                with open(self._paths.alerts_log, "a", encoding="utf-8", opener=_private) as stream:
                    stream.writelines(self._redactor.text(_log_line(notice)) + _mark(notice) for notice in new)
                    stream.flush()
                    os.fsync(stream.fileno())
        return new

    @contextlib.contextmanager
    def _locked(self, name: str, opened: io.FileIO | None = None) -> Iterator[None]:
        """Hold a lock.

        It is waited for in small steps: Temporal throws into a thread whose activity timed out, and one that was
        asleep in the kernel would wake up holding what nobody releases.

        Raises:
            GtError: TIMED_OUT.
        """
        lock = self._paths.alerts / f"{name}.lock"
        with opened or open_lock(lock) as held:
            if not locked_within(held, LOCK_S):
                raise GtError(ErrorCode.TIMED_OUT, f"{lock} is held by another process", f"fuser {lock}")
            yield

    @contextlib.contextmanager
    def _locked_if_possible(self, name: str) -> Iterator[None]:
        """A full disk must not keep an alert back: without a lock the worst is a message that arrives twice."""
        try:
            opened = open_lock(self._paths.alerts / f"{name}.lock")
        except OSError:
            yield
            return
        with self._locked(name, opened):
            yield


def mirror_of(ledger: Ledger) -> AlertMirror:
    """What the record says about alerts now."""
    settings = ledger.effective_settings(None)
    return AlertMirror(
        rules=tuple(ledger.alert_rules()), alerts=settings.alerts, deadman=settings.deadman, disk=settings.disk
    )


def _log_line(notice: Notice) -> str:
    at = notice.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    words = f"{at} {notice.edge.value} {notice.priority.value} {notice.type.value} ({notice.source}): {notice.title}"
    return " ".join(words.split())


def _mark(notice: Notice) -> str:
    """How a line of the log ends: by this a notice is known to be there."""
    return f" id={'_'.join(notice.id.split())}\n"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _LOG_TAIL))
            return stream.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
