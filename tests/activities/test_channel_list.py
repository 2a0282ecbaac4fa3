"""A list of channels that cannot be read: its channels are still known by name, and no alert is lost to them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from temporalio.testing import ActivityEnvironment

from activities.notifications import NoticeActivities
from models.errors import ErrorCode, GtError
from models.mayor.alerts import AlertType, Edge, Notice, Priority
from models.mayor.escalations import Escalation
from policies.mayor.notification_rules import edges
from services.init_town import create_town
from services.notifications.files import AlertFiles
from services.town import Town
from tests.sinks import HttpSink, http_sink
from workflows.mayor.state import MayorState

AT = datetime(2026, 3, 1, 2, 10, tzinfo=UTC)
BROKEN = "\noops"
"""a person is editing the list"""


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return create_town(tmp_path / "town", "test", "embedded").town


@pytest.fixture
def files(town: Town) -> AlertFiles:
    return AlertFiles(town.paths)


@pytest.fixture
def http() -> Iterator[HttpSink]:
    with http_sink() as sink:
        yield sink


def edit(town: Town, text: str) -> None:
    town.paths.channels.write_text(text)


def test_the_mayor_puts_an_alert_before_channels_whose_list_cannot_be_read(files: AlertFiles, town: Town) -> None:
    edit(town, '[channels]\nmail = "mailto://ada:s3cret@example.org"\n')
    assert files.alerting().channels == ("mail",)
    edit(town, town.paths.channels.read_text() + BROKEN)
    full = Escalation(
        id="e", kind="disk_full", level="L3", severity="critical", source="deacon", subject="h1", message="full",
        opened_at=AT,
    )  # fmt: skip
    mayor = MayorState()
    case = mayor.open(full, AT)
    assert case is not None
    mayor.judge(case, AT)
    holding = mayor.holding()
    mayor.announce(edges(mayor.told, holding, (), AT), holding, files.alerting())
    assert [notice.title for notice in mayor.queues["mail"].waiting] == ["full"]
    with pytest.raises(GtError, match="is not TOML"):
        files.channels()


async def test_what_is_told_while_the_list_cannot_be_read_arrives_once_it_can(
    files: AlertFiles, town: Town, http: HttpSink
) -> None:
    files.set_channel("hook", http.url)
    good = town.paths.channels.read_text()
    edit(town, good + BROKEN)
    announce = NoticeActivities(town.root, town.tmux_socket).announce
    notice = Notice(
        id="disk_full@1.start", type=AlertType.DISK_FULL, priority=Priority.CRITICAL, edge=Edge.START, title="full",
        source="deacon", at=AT,
    )  # fmt: skip
    with pytest.raises(GtError) as raised:
        await ActivityEnvironment().run(announce, notice)
    assert (raised.value.code, raised.value.retryable) == (ErrorCode.CHANNEL_FAILED, True)
    edit(town, good)
    await ActivityEnvironment().run(announce, notice)
    assert len(http.taken) == 1


def test_no_url_is_kept_beside_the_private_list(files: AlertFiles, town: Town) -> None:
    files.set_channel("mail", "mailto://ada:s3cret@example.org")
    assert files.alerting().channels == ("mail",)
    kept = [path.read_text() for path in town.paths.alerts.rglob("*") if path.is_file()]
    assert any("mail" in text for text in kept)
    assert not any("s3cret" in text for text in kept)


def test_a_channel_that_was_removed_is_known_no_more(files: AlertFiles, town: Town) -> None:
    files.set_channel("hook", "json://127.0.0.1/a")
    files.set_channel("mail", "json://127.0.0.1/b")
    files.remove_channel("hook")
    edit(town, BROKEN)
    assert files.alerting().channels == ("mail",)
