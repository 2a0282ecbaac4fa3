"""`gt alert`: the user's spellings, channels that stay secret, tests that reach a real server."""

from __future__ import annotations

import io
import stat
from pathlib import Path

import pytest

from models.mayor.alerts import AlertType, Priority
from services.notifications.files import AlertFiles
from services.town import Town
from tests.cli.conftest import Here
from tests.fault_document import documented
from tests.sinks import http_sink

SECRET = "json://127.0.0.1/hook-s3cret"


@pytest.fixture
def files(town: Town) -> AlertFiles:
    return AlertFiles(town.paths)


def typed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


class TestRules:
    @pytest.mark.parametrize(
        ("line", "channel", "priority"),
        [
            (documented("gt alert set --type=polecat_stuck --channel=slack"), "slack", None),
            (documented("gt alert set --type=witness_down --channel=email"), "email", None),
            (documented("gt alert set --type=disk_full --priority=critical"), None, "critical"),
            (
                ["gt", "alert", "set", "--type", "gate_broken", "--channel", "pager", "--priority", "high"],
                "pager",
                "high",
            ),
        ],
    )
    def test_the_spellings_of_the_users_document_set_a_rule_in_the_record_and_its_mirror(
        self, here: Here, files: AlertFiles, line: list[str], channel: str | None, priority: str | None
    ) -> None:
        row = here.json(*line)
        assert (row["channel"], row["priority"], row["silent"]) == (channel, priority, channel is not None)
        assert {"type", "channel", "priority", "created_at"} <= set(row)
        [listed] = here.json("gt", "alert", "list")
        assert listed == row
        [mirrored] = files.mirror().rules
        assert (mirrored.channel, mirrored.priority) == (channel, priority)

    def test_a_rule_for_a_channel_without_a_url_is_kept_with_a_warning(self, here: Here, files: AlertFiles) -> None:
        said = here.run("gt", "alert", "set", "--type=polecat_stuck", "--channel=slack")
        assert "no URL yet" in said.err
        assert "gt alert channel add slack" in said.err
        assert files.channels_told(AlertType.POLECAT_STUCK) == ()
        files.set_channel("slack", SECRET)
        assert "warning" not in here.run("gt", "alert", "set", "--type=polecat_stuck", "--channel=slack").err
        assert files.channels_told(AlertType.POLECAT_STUCK) == ("slack",)

    def test_setting_it_again_replaces_the_rule_of_that_type_and_channel(self, here: Here, files: AlertFiles) -> None:
        for priority in ("low", "critical"):
            here.run("gt", "alert", "set", "--type=disk_full", f"--priority={priority}")
        [rule] = files.mirror().rules
        assert rule.priority is Priority.CRITICAL

    def test_removing_rules(self, here: Here, files: AlertFiles) -> None:
        for channel in ("slack", "email"):
            here.run("gt", "alert", "set", "--type=disk_full", f"--channel={channel}")
        here.run("gt", "alert", "remove", "--type=disk_full", "--channel=slack")
        assert [rule.channel for rule in files.mirror().rules] == ["email"]
        here.run("gt", "alert", "remove", "--type=disk_full", "--channel=slack", expect=3)
        assert len(here.json("gt", "alert", "remove", "--type=disk_full")) == 1
        assert files.mirror().rules == ()
        assert here.json("gt", "alert", "list") == []

    @pytest.mark.parametrize(
        "argv",
        [
            ("--type=disk_full",),
            ("--channel=slack",),
            ("--type=nonsense", "--channel=slack"),
            ("--type=disk_full", "--channel=../etc"),
            ("--type=disk_full", "--priority=urgent"),
        ],
    )
    def test_wrong_usage_changes_nothing(self, here: Here, files: AlertFiles, argv: tuple[str, ...]) -> None:
        here.run("gt", "alert", "set", *argv, expect=2)
        assert files.mirror().rules == ()

    def test_with_the_ledger_unreadable_the_last_known_rules_are_listed(
        self, here: Here, town: Town, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here.run("gt", "alert", "set", "--type=disk_full", "--priority=critical")
        monkeypatch.setattr(Town, "ledger_url", lambda _self: "mysql+pymysql://root:x@127.0.0.1:1/gastown")
        monkeypatch.setattr("ledger.engine.transactions.LOST_PATIENCE_S", 0.1)
        said = here.run("gt", "alert", "list", "-o", "json")
        assert [row["type"] for row in said.json] == ["disk_full"]
        assert "last known" in said.err
        here.run("gt", "alert", "set", "--type=disk_full", "--priority=low", expect=4)


class TestChannels:
    def test_the_url_is_read_from_standard_input_and_never_shown(
        self, here: Here, town: Town, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        typed(monkeypatch, SECRET + "\n")
        said = here.run("gt", "alert", "channel", "add", "slack", "-o", "json")
        assert said.json == {"name": "slack", "service": "json", "failing": None}
        shown = here.run("gt", "alert", "channel", "list")
        assert "s3cret" not in said.out + said.err + shown.out + shown.err
        assert stat.S_IMODE(town.paths.channels.stat().st_mode) == 0o600

    def test_the_url_is_read_from_a_file(self, here: Here, files: AlertFiles, tmp_path: Path) -> None:
        source = tmp_path / "url"
        source.write_text(SECRET + "\n")
        here.run("gt", "alert", "channel", "add", "slack", "--file", str(source))
        assert files.channels() == {"slack": SECRET}

    @pytest.mark.parametrize("text", ["", "\n", "s3cret", "bogus://s3cret", "json://s3cret\x07", "x" * 5000])
    def test_what_is_no_url_is_refused_and_not_repeated(
        self, here: Here, files: AlertFiles, monkeypatch: pytest.MonkeyPatch, text: str
    ) -> None:
        typed(monkeypatch, text)
        said = here.run("gt", "alert", "channel", "add", "slack", expect=2)
        assert "s3cret" not in said.err
        assert files.channels() == {}

    def test_a_file_that_is_not_there_is_named(self, here: Here) -> None:
        said = here.run("gt", "alert", "channel", "add", "slack", "--file", "/nowhere/url", expect=2)
        assert "/nowhere/url" in said.err

    def test_a_channel_is_forgotten_and_its_rules_stay(self, here: Here, files: AlertFiles) -> None:
        files.set_channel("slack", SECRET)
        here.run("gt", "alert", "set", "--type=disk_full", "--channel=slack")
        here.run("gt", "alert", "channel", "remove", "slack")
        here.run("gt", "alert", "channel", "remove", "slack", expect=3)
        [rule] = here.json("gt", "alert", "list")
        assert rule["silent"] is True


class TestTesting:
    def test_a_test_reaches_every_channel(self, here: Here, files: AlertFiles) -> None:
        with http_sink() as sink:
            files.set_channel("hook", sink.url)
            assert here.json("gt", "alert", "test") == [{"channel": "hook", "delivered": True, "error": None}]
            here.run("gt", "alert", "test")
            assert len(sink.taken) == 2, "each test is a message of its own"
            assert "a test" in sink.titles()[0]

    def test_a_test_of_a_type_goes_where_its_rules_say(self, here: Here, files: AlertFiles) -> None:
        with http_sink() as slack, http_sink() as email:
            files.set_channel("slack", slack.url)
            files.set_channel("email", email.url)
            here.run("gt", "alert", "set", "--type=disk_full", "--channel=email")
            here.run("gt", "alert", "test", "--type=disk_full")
            assert (len(slack.taken), len(email.taken)) == (0, 1)

    def test_a_channel_that_refuses_ends_1_and_is_in_the_inbox_until_it_works(
        self, here: Here, files: AlertFiles
    ) -> None:
        with http_sink(refusals=1) as sink:
            files.set_channel("hook", sink.url)
            said = here.run("gt", "alert", "test", "--channel", "hook", "-o", "json", expect=1)
            assert said.json[0]["delivered"] is False
            assert "error: " in said.err
            [item] = [one for one in here.json("gt", "inbox") if one["kind"] == "channel"]
            assert (item["id"], item["command"]) == ("hook", "gt alert test --channel hook")
            assert "s3cret" not in str(item)
            here.run("gt", "alert", "test", "--channel", "hook")
            assert here.json("gt", "inbox") == []

    def test_without_channels_a_test_says_where_alerts_go(self, here: Here) -> None:
        said = here.run("gt", "alert", "test")
        assert "gt inbox" in said.err
        here.run("gt", "alert", "test", "--channel", "slack", expect=3)


class TestSettings:
    def test_pace_and_switch_are_mirrored_as_soon_as_they_are_set(self, here: Here, files: AlertFiles) -> None:
        here.run("gt", "config", "alerts.quiet_hours", "22:00-07:00")
        here.run("gt", "config", "deadman.url", "https://hc.example.com/abc")
        here.run("gt", "config", "alerts.rate", "5")
        mirror = files.mirror()
        assert (mirror.alerts.quiet_hours, mirror.alerts.rate) == ("22:00-07:00", 5)
        assert mirror.deadman.url == "https://hc.example.com/abc"
        here.run("gt", "config", "unset", "deadman.url")
        assert files.mirror().deadman.url == ""

    @pytest.mark.parametrize(
        ("key", "value"),
        [("alerts.quiet_hours", "22-7"), ("alerts.quiet_hours", "25:00-07:00"), ("deadman.url", "file:///etc/passwd")],
    )
    def test_what_makes_no_sense_is_refused(self, here: Here, key: str, value: str) -> None:
        here.run("gt", "config", key, value, expect=2)
