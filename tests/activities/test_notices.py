"""Alerts on their way to people: files of the town, real HTTP and SMTP servers, real tmux."""

from __future__ import annotations

import asyncio
import logging
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
from temporalio.testing import ActivityEnvironment

from activities.notifications import NoticeActivities
from models.errors import ErrorCode, GtError
from models.mayor.alerts import AlertMirror, AlertRule, AlertType, Edge, Message, Notice, Notices, Priority
from models.settings import DeadmanSettings
from services.init_town import create_town
from services.notifications import sender
from services.notifications.files import AlertFiles
from services.town import Town
from tests.activities.sessions.desk import eventually
from tests.pace import DEADLINE_S
from tests.sinks import HttpSink, http_sink, smtp_sink

AT = datetime(2026, 3, 1, 2, 10, tzinfo=UTC)
IN_ENV = ActivityEnvironment()


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return create_town(tmp_path / "town", "test", "embedded").town


@pytest.fixture
def files(town: Town) -> AlertFiles:
    return AlertFiles(town.paths)


@pytest.fixture
def notices(town: Town) -> NoticeActivities:
    return NoticeActivities(town.root, town.tmux_socket)


@pytest.fixture
def http() -> Iterator[HttpSink]:
    with http_sink() as sink:
        yield sink


def notice(name: str = "dolt_down@1.start", **changes: object) -> Notice:
    values: dict[str, object] = {
        "id": name, "condition": "dolt_down", "type": AlertType.DOLT_DOWN, "priority": Priority.HIGH,
        "edge": Edge.START, "title": "the ledger does not answer", "body": "3 restarts did not help",
        "source": "deacon", "command": "gt dolt status", "at": AT,
    }  # fmt: skip
    return Notice.model_validate(values | changes)


def message(channel: str, *notices: Notice, name: str = "") -> Message:
    return Message(id=name or f"{channel}-1", channel=channel, notices=notices or (notice(),))


def rule(type: AlertType, channel: str | None = None, priority: Priority | None = None) -> AlertRule:
    return AlertRule(type=type, channel=channel, priority=priority, created_at=AT)


# --- sending ------------------------------------------------------------------------------------


async def test_a_message_reaches_a_real_smtp_server_and_a_real_http_server(
    notices: NoticeActivities, files: AlertFiles, http: HttpSink
) -> None:
    with smtp_sink() as smtp:
        files.set_channel("email", smtp.url)
        files.set_channel("hook", http.url)
        for channel in ("email", "hook"):
            await IN_ENV.run(notices.send_message, message(channel))
        [mail] = smtp.mails
        title = "[test] HIGH dolt_down: the ledger does not answer"
        assert (mail["Subject"], mail["To"]) == (title, "ada@example.com")
        assert "gt dolt status" in mail.as_string()
        [body] = http.taken
        assert body["title"] == title
        assert body["message"].splitlines() == [
            "3 restarts did not help", "at: 2026-03-01T02:10:00Z", "from: deacon", "answer: gt dolt status",
        ]  # fmt: skip
        assert body["type"] == "warning"


async def test_a_title_calls_nobody_in_a_chat_and_arrives_as_it_is_elsewhere(
    notices: NoticeActivities, files: AlertFiles, http: HttpSink
) -> None:
    calls = ("@everyone", "<!channel>", "<@U123>", "[bank](https://evil.example)", "<https://evil.example|bank>")
    told = notice(title=f"sh-1 {' '.join(calls)}", body="x@here")
    files.set_channel("chat", f"mmost://127.0.0.1:{http.port}/{'a1' * 13}")
    files.set_channel("hook", http.url)
    for channel in ("chat", "hook"):
        await IN_ENV.run(notices.send_message, message(channel, told))
    chat, hook = http.taken
    assert not [call for call in (*calls, "@here") if call in chat["text"]]
    # People read the same words.
    assert " ".join(calls) in chat["text"].replace("\u200b", "")
    assert " ".join(calls) in hook["title"]
    assert "x@here" in hook["message"]


async def test_a_message_sent_twice_arrives_once(notices: NoticeActivities, files: AlertFiles, http: HttpSink) -> None:
    files.set_channel("hook", http.url)
    await asyncio.gather(*(IN_ENV.run(notices.send_message, message("hook")) for _ in range(4)))
    assert len(http.taken) == 1


async def test_a_channel_that_refuses_is_noted_until_it_takes_the_message(
    notices: NoticeActivities, files: AlertFiles
) -> None:
    with http_sink(refusals=3) as sink:
        files.set_channel("hook", sink.url)
        for tries in (1, 2, 3):
            with pytest.raises(GtError) as raised:
                await IN_ENV.run(notices.send_message, message("hook"))
            assert (raised.value.code, raised.value.retryable) == (ErrorCode.CHANNEL_FAILED, True)
            [failure] = files.failures()
            assert (failure.channel, failure.tries) == ("hook", tries)
            assert "error=503" in failure.error
        await IN_ENV.run(notices.send_message, message("hook"))
        assert files.failures() == []
        assert len(sink.taken) == 1


async def test_no_part_of_a_url_is_told_when_its_service_fails(
    notices: NoticeActivities, files: AlertFiles, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    files.set_channel("hook", "json://user-s3cret:pass-s3cret@127.0.0.1:1/hook-s3cret?+X-Token=head-s3cret")
    with pytest.raises(GtError) as raised:
        await IN_ENV.run(notices.send_message, message("hook"))
    [failure] = files.failures()
    for told in (str(raised.value), failure.model_dump_json(), caplog.text):
        assert "s3cret" not in told


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "401 for https://hooks.slack.com/services/T1JJ3T/B0ABCD/xyz123",
            "401 for https://hooks.slack.com/***/***/***/***",
        ),
        ("token xyz123 is invalid", "token *** is invalid"),
        ("TOKEN XYZ123", "TOKEN ***"),
        ("no answer from hooks.slack.com", "no answer from hooks.slack.com"),
    ],
)
def test_secrets_of_a_url_are_cleared_from_what_a_service_says(text: str, shown: str) -> None:
    assert sender.redacted(text, "https://hooks.slack.com/services/T1JJ3T/B0ABCD/xyz123") == shown


async def test_a_channel_without_a_url_takes_everything(notices: NoticeActivities, files: AlertFiles) -> None:
    await IN_ENV.run(notices.send_message, message("slack"))
    assert files.failures() == []


def command_line(process: psutil.Process) -> list[str]:
    """Nothing of one that has ended meanwhile."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


async def test_a_service_that_never_answers_is_given_up_and_its_sender_ended(town: Town, files: AlertFiles) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as deaf:
        files.set_channel("hook", f"json://127.0.0.1:{deaf.getsockname()[1]}/?rto=300&cto=300")
        with pytest.raises(GtError) as raised:
            await sender.send(town.root, message("hook"), timeout_s=3.0)
    assert "no answer within 3 s" in raised.value.message
    assert [child for child in psutil.Process().children() if "alert_sender" in " ".join(command_line(child))] == []


def test_a_sender_whose_worker_was_killed_and_the_retry_deliver_one(town: Town, files: AlertFiles) -> None:
    with http_sink() as sink:
        files.set_channel("hook", sink.url)
        script = (
            "import asyncio, sys\nfrom pathlib import Path\n"
            "from models.mayor.alerts import Message\nfrom services.notifications.sender import send\n"
            "asyncio.run(send(Path(sys.argv[1]), Message.model_validate_json(sys.argv[2])))\n"
        )
        argv = [sys.executable, "-c", script, str(town.root), message("hook").model_dump_json()]
        worker = subprocess.Popen(argv)
        eventually(lambda: worker.poll() is not None or psutil.Process(worker.pid).children())
        worker.kill()
        worker.wait()
        asyncio.run(sender.send(town.root, message("hook")))
        assert len(sink.taken) == 1


async def test_hostile_words_reach_a_service_as_words(
    notices: NoticeActivities, files: AlertFiles, http: HttpSink
) -> None:
    files.set_channel("hook", http.url)
    words = "$(touch x) `id` {{ 7*7 }} <b>\x1b[31m\r\nBcc: eve@example.com"
    await IN_ENV.run(notices.send_message, message("hook", notice(title=words, body=words)))
    [title] = http.titles()
    assert "\n" not in title
    assert "{{ 7*7 }}" in title


async def test_alerts_get_out_although_nothing_can_be_written(
    notices: NoticeActivities, files: AlertFiles, town: Town, http: HttpSink
) -> None:
    """As on a full disk: neither log nor lock nor mark can be made."""
    files.set_channel("hook", http.url)
    for in_the_way in (town.paths.alerts / "sent", town.paths.alerts / "failing"):
        in_the_way.write_text("")
    town.paths.alerts_log.mkdir(parents=True)
    (town.paths.alerts / "channel-hook.lock").mkdir()
    await IN_ENV.run(notices.announce, notice())
    assert len(http.taken) == 1


# --- the log and terminals ----------------------------------------------------------------------


async def test_a_notice_is_logged_once_however_often_it_is_written_down(notices: NoticeActivities, town: Town) -> None:
    both = Notices(notices=(notice(), notice("disk_full@2.start", type=AlertType.DISK_FULL, title="93 %\nof /")))
    for _ in range(2):
        await IN_ENV.run(notices.write_down, both)
    assert town.paths.alerts_log.read_text().splitlines() == [
        "2026-03-01T02:10:00Z start high dolt_down (deacon): the ledger does not answer id=dolt_down@1.start",
        "2026-03-01T02:10:00Z start high disk_full (deacon): 93 % of / id=disk_full@2.start",
    ]


def test_an_attached_terminal_shows_an_alert_and_runs_nothing_of_it(
    notices: NoticeActivities, town: Town, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    tmux = ["tmux", "-L", town.tmux_socket]
    subprocess.run([*tmux, "new-session", "-d", "-s", "shop--toast", "sleep 60"], check=True)
    seen = bytearray()
    try:
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ["TERM"] = "xterm"
            os.execvp("tmux", [*tmux, "attach", "-t", "=shop--toast"])
        reader = threading.Thread(target=_read_into, args=(seen, terminal), daemon=True)
        reader.start()
        clients = [*tmux, "list-clients"]
        eventually(lambda: subprocess.run(clients, capture_output=True, check=False).stdout)
        hostile = notice(title=f"#{{host}} 100% #(touch {mark})")
        asyncio.run(IN_ENV.run(notices.write_down, Notices(notices=(hostile,))))
        eventually(lambda: b"gt alert: HIGH dolt_down" in seen)
        assert b"#{host} 100%" in seen
        assert not mark.exists()
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)
        os.waitpid(pid, 0)
        os.close(terminal)


def _read_into(seen: bytearray, terminal: int) -> None:
    try:
        while chunk := os.read(terminal, 4096):
            seen.extend(chunk)
    except OSError:
        return  # the terminal's other end is gone


# --- announcing at once -------------------------------------------------------------------------


async def test_an_announcement_goes_where_rules_say_under_their_priority(
    notices: NoticeActivities, files: AlertFiles, http: HttpSink
) -> None:
    with smtp_sink() as smtp:
        files.set_channel("email", smtp.url)
        files.set_channel("hook", http.url)
        rules = (rule(AlertType.DOLT_DOWN, "email"), rule(AlertType.DOLT_DOWN, priority=Priority.CRITICAL))
        files.refresh_mirror(lambda: AlertMirror(rules=rules))
        await IN_ENV.run(notices.announce, notice())
        assert smtp.subjects() == ["[test] CRITICAL dolt_down: the ledger does not answer"]
        await IN_ENV.run(notices.announce, notice("disk_full@1.start", type=AlertType.DISK_FULL))
        assert (len(smtp.mails), len(http.taken)) == (2, 1)


async def test_repeating_an_announcement_reaches_only_the_channel_that_failed(
    notices: NoticeActivities, files: AlertFiles, town: Town
) -> None:
    with http_sink() as good, http_sink(refusals=1) as weak:
        files.set_channel("a", weak.url)
        files.set_channel("b", good.url)
        with pytest.raises(GtError):
            await IN_ENV.run(notices.announce, notice())
        assert (len(weak.taken), len(good.taken)) == (0, 1)
        await IN_ENV.run(notices.announce, notice())
        assert (len(weak.taken), len(good.taken)) == (1, 1)
        assert len(town.paths.alerts_log.read_text().splitlines()) == 1


async def test_a_channel_that_hangs_keeps_no_other_from_an_announcement(
    notices: NoticeActivities, files: AlertFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        files.set_channel(name, "json://127.0.0.1:9")
    other_told = asyncio.Event()

    async def send(root: Path, message: Message) -> None:
        if message.channel == "b":
            other_told.set()
        await asyncio.wait_for(other_told.wait(), DEADLINE_S)

    monkeypatch.setattr(sender, "send", send)
    await IN_ENV.run(notices.announce, notice())


async def test_without_any_channel_an_announcement_is_logged(notices: NoticeActivities, town: Town) -> None:
    await IN_ENV.run(notices.announce, notice())
    assert "dolt_down" in town.paths.alerts_log.read_text()


# --- the dead man's switch ------------------------------------------------------------------------


async def test_the_dead_man_s_switch_is_pinged_where_one_is_set(
    notices: NoticeActivities, files: AlertFiles, http: HttpSink
) -> None:
    assert await IN_ENV.run(notices.ping_deadman) is False
    url = f"http://127.0.0.1:{http.port}/ping/abc"
    files.refresh_mirror(lambda: AlertMirror(deadman=DeadmanSettings(url=url)))
    assert await IN_ENV.run(notices.ping_deadman) is True
    assert http.asked == ["/ping/abc"]


async def test_a_dead_man_s_switch_that_refuses_is_a_failure(notices: NoticeActivities, files: AlertFiles) -> None:
    with http_sink(refusals=1) as sink:
        url = f"http://127.0.0.1:{sink.port}/"
        files.refresh_mirror(lambda: AlertMirror(deadman=DeadmanSettings(url=url)))
        with pytest.raises(GtError):
            await IN_ENV.run(notices.ping_deadman)
