"""`gt alert`: who is told of what. Rules are in the record, URLs in a private file of the town."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.frame import connect, output
from cli.frame.command import Call, command, new_app
from cli.frame.confirm import ask_on_terminal
from cli.frame.options import YesOption
from models import names
from models.choices import AlertType, Priority
from models.errors import ErrorCode, ExitCode, GtError

if TYPE_CHECKING:
    from ledger.store import Ledger
    from models.mayor.alerts import AlertMirror, AlertRule, Message
    from services.notifications.files import AlertFiles
    from services.town import Town

_group = new_app("Say who is told of what: set, list, test, remove; channel add, list, remove.")
_channels = new_app("Where alerts are sent: names, and URLs that stay secret.")
_group.add_typer(_channels, name="channel")
app = new_app("Alerts.")
app.add_typer(_group, name="alert")

TypeOption = Annotated[AlertType, typer.Option("--type", help="What the alert is about.")]
OptionalTypeOption = Annotated[AlertType | None, typer.Option("--type", help="Only of this type.")]
ChannelOption = Annotated[str | None, typer.Option("--channel", metavar="NAME", help="A channel's name.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A channel's name, like slack.")]


@command(_group, "set")
def set_rule(
    call: Call,
    type: TypeOption,
    channel: ChannelOption = None,
    priority: Annotated[Priority | None, typer.Option("--priority", help="How urgent it counts.")] = None,
) -> None:
    """Send alerts of a type to a channel, or give them a priority, or both."""
    if channel is None and priority is None:
        raise GtError(
            ErrorCode.INVALID_VALUE, "a rule names a channel, a priority or both", "gt alert set --type … --channel …"
        )
    if channel is not None:
        names.valid_channel(channel)
    town = connect.open_town(call)
    from datetime import UTC, datetime

    from models.mayor.alerts import AlertRule

    rule = AlertRule(type=type, channel=channel, priority=priority, created_at=datetime.now(UTC))
    files = _files(town)
    with connect.open_ledger(town) as ledger:
        rule = ledger.set_alert_rule(rule)
        mirror(files, ledger)
    row = _row(rule, files)
    if row["silent"]:
        output.warn(f"channel {channel} has no URL yet: its alerts go to the log, gt inbox and attached terminals")
        output.say(f"hint: gt alert channel add {channel} < FILE")
    output.emit(call, row, _said(rule))


@command(_group, "list")
def list_rules(call: Call) -> None:
    """List the rules; a type without one goes to every channel."""
    town = connect.open_town(call)
    files = _files(town)
    rows = [_row(rule, files) for rule in _mirrored(town, files).rules]
    cells = [(row["type"], row["channel"], row["priority"], "no URL" if row["silent"] else "") for row in rows]
    text = output.table(("TYPE", "CHANNEL", "PRIORITY", "NOTE"), cells) if rows else "no rules"
    output.emit(call, rows, text)


@command(_group, "remove")
def remove_rule(call: Call, type: TypeOption, channel: ChannelOption = None) -> None:
    """Remove the rule of a type and channel, or every rule of the type."""
    town = connect.open_town(call)
    files = _files(town)
    with connect.open_ledger(town) as ledger:
        gone = ledger.remove_alert_rule(type, channel)
        mirror(files, ledger)
    if not gone:
        about = f" for channel {channel}" if channel else ""
        raise GtError(ErrorCode.NOT_FOUND, f"there is no rule for {type.value}{about}", "gt alert list")
    rows = [_row(rule, files) for rule in gone]
    output.emit(call, rows, "\n".join(f"removed: {_said(rule)}" for rule in gone))


@command(_group, "test")
def try_out(call: Call, type: OptionalTypeOption = None, channel: ChannelOption = None) -> int:
    """Send a test alert now, through one channel, those of a type, or all."""
    import asyncio

    from services.notifications.sender import send

    town = connect.open_town(call)
    channels = _tested(_files(town), type, channel)
    rows: list[dict[str, Any]] = []
    for name in channels:
        try:
            asyncio.run(send(town.root, _test_message(name, type)))
        except GtError as error:
            rows.append({"channel": name, "delivered": False, "error": error.message})
        else:
            rows.append({"channel": name, "delivered": True, "error": None})
    for row in rows:
        if row["error"]:
            output.say(f"error: {row['error']}")
    if not rows:
        output.warn("no channel would be told: alerts go to the log, gt inbox and attached terminals")
    output.emit(call, rows, "\n".join(f"{row['channel']}: delivered" for row in rows if row["delivered"]))
    return ExitCode.DONE if all(row["delivered"] for row in rows) else ExitCode.FAILED


@command(_channels, "add")
def add_channel(
    call: Call,
    name: NameArgument,
    file: Annotated[Path | None, typer.Option("--file", metavar="FILE", help="Where the URL is read from.")] = None,
) -> None:
    """Set a channel's notification URL, read from standard input or a file: never from the command line."""
    names.valid_channel(name)
    town = connect.open_town(call)
    from services.notifications.sender import check_url

    url = _read_url(file)
    check_url(url)
    added = _files(town).set_channel(name, url)
    output.emit(call, _channel(name, url, None), f"channel {name} {'is set' if added else 'was so already'}")


@command(_channels, "list")
def list_channels(call: Call) -> None:
    """List channels by name; URLs are not shown."""
    files = _files(connect.open_town(call))
    failing = {failure.channel: failure.error for failure in files.failures()}
    rows = [_channel(name, url, failing.get(name)) for name, url in files.channels().items()]
    cells = [(row["name"], row["service"], row["failing"]) for row in rows]
    text = output.table(("NAME", "SERVICE", "FAILING"), cells) if rows else "no channels: gt alert channel add NAME"
    output.emit(call, rows, text)


@command(_channels, "remove")
def remove_channel(call: Call, name: NameArgument, yes: YesOption = False) -> None:
    """Forget a channel's URL; rules that name it stay."""
    names.valid_channel(name)
    ask_on_terminal(f"Send no more alerts to {name}?", yes)
    if not _files(connect.open_town(call)).remove_channel(name):
        raise GtError(ErrorCode.NOT_FOUND, f"there is no channel {name}", "gt alert channel list")
    output.emit(call, {"name": name, "removed": True}, f"channel {name} is forgotten")


# --- parts ----------------------------------------------------------------------------------------


def _files(town: Town) -> AlertFiles:
    from services.notifications.files import AlertFiles

    return AlertFiles(town.paths)


def mirror(files: AlertFiles, ledger: Ledger) -> None:
    """Bring the town's own copy of rules and alert settings up to date; the worker's next cycle does so too."""
    from services.notifications.files import mirror_of

    try:
        files.refresh_mirror(lambda: mirror_of(ledger))
    except GtError as error:
        if error.code is not ErrorCode.TIMED_OUT:
            raise
        output.warn(f"it holds from the worker's next cycle on: {error.message}")


def _mirrored(town: Town, files: AlertFiles) -> AlertMirror:
    """The record's rules; the last ones known where it cannot be read."""
    try:
        with connect.open_ledger(town) as ledger:
            mirror(files, ledger)
    except GtError as error:
        output.warn(f"the ledger cannot be read ({error.message}); these are the rules last known")
    return files.mirror()


def _row(rule: AlertRule, files: AlertFiles) -> dict[str, Any]:
    silent = rule.channel is not None and rule.channel not in files.channels()
    return {**output.document(rule), "silent": silent}


def _said(rule: AlertRule) -> str:
    where = f"to {rule.channel}" if rule.channel else ""
    urgent = f"as {rule.priority.value}" if rule.priority else ""
    return " ".join(part for part in (rule.type.value, where, urgent) if part)


def _channel(name: str, url: str, failing: str | None) -> dict[str, Any]:
    """A channel without its secrets: the URL's scheme says which service it is."""
    return {"name": name, "service": url.partition("://")[0].lower(), "failing": failing}


def _read_url(file: Path | None) -> str:
    from services.notifications.files import MAX_URL

    url = (_asked() if file is None else _read_file(file)).strip()
    if not url or len(url) > MAX_URL or any(not letter.isprintable() for letter in url):
        raise GtError(ErrorCode.INVALID_VALUE, "one line with a notification URL is needed", "gt alert channel add -h")
    return url


def _asked() -> str:
    import getpass
    import sys

    if sys.stdin.isatty():
        return getpass.getpass("notification URL: ")
    return sys.stdin.readline()


def _read_file(file: Path) -> str:
    try:
        return file.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise GtError(ErrorCode.INVALID_VALUE, f"cannot read {file}: {why}") from None


def _tested(files: AlertFiles, type: AlertType | None, channel: str | None) -> list[str]:
    """Which channels a test goes to."""
    known = files.channels()
    if channel is not None:
        if channel not in known:
            raise GtError(ErrorCode.NOT_FOUND, f"channel {channel} has no URL", f"gt alert channel add {channel}")
        return [channel]
    if type is None:
        return list(known)
    return list(files.channels_told(type))


def _test_message(channel: str, type: AlertType | None) -> Message:
    import secrets
    from datetime import UTC, datetime

    from models.mayor.alerts import Edge, Message, Notice

    identity = f"test-{secrets.token_hex(8)}"
    notice = Notice(
        id=identity,
        type=type or AlertType.ESCALATION,
        priority=Priority.LOW,
        edge=Edge.START,
        title="a test: alerts reach you here",
        source=connect.person(),
        at=datetime.now(UTC),
    )
    return Message(id=identity, channel=channel, notices=(notice,))
