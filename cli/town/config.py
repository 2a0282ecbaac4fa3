"""`gt config`: settings that shape behaviour. `gt config KEY [VALUE]` reads or sets one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.frame import connect, output
from cli.frame.command import Call, DefaultCommandGroup, command, new_app
from models import names
from models.errors import ErrorCode, GtError

if TYPE_CHECKING:
    from collections.abc import Container

    from temporalio.client import Client

    from ledger.store import Ledger
    from models.settings import SettingSpec
    from services.town import Town


_SHORT = {"sandbox": "sandbox.mode"}
"""Settings that a person may name by their group alone."""


class _Config(DefaultCommandGroup):
    default = "set"


_group = new_app("Read and change settings: gt config KEY [VALUE], list, unset.", cls=_Config)
app = new_app("Settings.")
app.add_typer(_group, name="config")

TOWN = "town"
KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="Like health.check_interval; see `gt config list`.")]
ScopeOption = Annotated[
    str | None, typer.Option("--rig", metavar="R", help="For this rig only; default: the whole town.")
]


@command(_group, "set", any_options=True)
def set_or_show(
    call: Call,
    key: KeyArgument,
    value: Annotated[str | None, typer.Argument(metavar="[VALUE]", help="New value; seconds also as 5m, 4h.")] = None,
    rig: ScopeOption = None,
) -> None:
    """Show a setting, or set it when a value is given. The word `set` may be left out."""
    for word in (key, value or ""):
        if word.startswith("-") and not word[1:2].isdigit():
            raise GtError(ErrorCode.INVALID_VALUE, f"no such option: {word}", "gt config --help")
    key = _SHORT.get(key, key)
    _check(key, value, rig)
    town = connect.open_town(call)
    with connect.open_ledger(town) as ledger:
        if value is not None:
            ledger.set_setting(rig or TOWN, key, value)
            _mirror(town, ledger, key)
        row = setting_rows(ledger, {key}, rig)[0]
    if value is not None:
        _reschedule(town, key)
    _emit(call, row)


@command(_group, "unset")
def unset(call: Call, key: KeyArgument, rig: ScopeOption = None) -> None:
    """Let the wider scope's value, or the default, hold again."""
    key = _SHORT.get(key, key)
    _check(key, None, rig)
    town = connect.open_town(call)
    with connect.open_ledger(town) as ledger:
        ledger.unset_setting(rig or TOWN, key)
        _mirror(town, ledger, key)
        row = setting_rows(ledger, {key}, rig)[0]
    _reschedule(town, key)
    _emit(call, row)


@command(_group, "list")
def list_settings(call: Call, rig: ScopeOption = None) -> None:
    """Show every setting: value, default and where the value comes from."""
    from models.settings import setting_specs

    with connect.open_ledger(connect.open_town(call)) as ledger:
        rows = setting_rows(ledger, setting_specs(), rig)
    header = ("KEY", "VALUE", "DEFAULT", "ORIGIN", "MEANING")
    cells = [(row["key"], row["value"], row["default"], row["origin"], row["meaning"]) for row in rows]
    output.emit(call, rows, output.table(header, cells))


def _mirror(town: Town, ledger: Ledger, key: str) -> None:
    """What alerts work by is in a file of the town too, for when the ledger is down."""
    if key.startswith(("alerts.", "deadman.")):
        from cli.town.alert import mirror
        from services.notifications.files import AlertFiles

        mirror(AlertFiles(town.paths), ledger)


def _reschedule(town: Town, key: str) -> None:
    """The dead man's switch is a Schedule; with Temporal down the worker's next start brings it up to date."""
    if not key.startswith("deadman."):
        return
    from services.notifications.files import AlertFiles

    settings = AlertFiles(town.paths).mirror().deadman

    async def keep(client: Client) -> None:
        from services.temporal.schedules import keep_deadman

        await keep_deadman(client, settings)

    try:
        connect.converse(town, keep)
    except GtError as error:
        output.warn(f"{error.message}: the change holds from the next gt up")


def _check(key: str, value: str | None, rig: str | None) -> None:
    """Judge what was typed before the ledger is opened."""
    from models.settings import parse_setting, setting_specs

    if rig is not None:
        names.valid_rig(rig)
    if value is not None:
        parsed = parse_setting(key, value)
        if key == "agent.may":
            _require_commands(parsed)
    elif key not in setting_specs():
        raise GtError(ErrorCode.NOT_FOUND, f"there is no setting {key!r}", "gt config list")


def _require_commands(listed: str) -> None:
    """Refuse a name that is no command's: nobody would be allowed what it was meant for."""
    from cli import app
    from cli.beads import app as bead_app
    from models.settings import listed_commands

    for line in listed_commands(listed):
        program, *words = line.split()
        found: Any = typer.main.get_group(app.app if program == "gt" else bead_app.app)
        for word in words:
            found = found.get_command(None, word) if hasattr(found, "get_command") else None
            if found is None:
                message = f"there is no command `{line}`; several are separated by commas"
                raise GtError(ErrorCode.INVALID_VALUE, message, f"{program} --help")


def setting_rows(ledger: Ledger, keys: Container[str], rig: str | None) -> list[dict[str, Any]]:
    """Value, default and origin of each of `keys`, for the town or a rig; GtError(NOT_FOUND) for the rig."""
    from models.settings import setting_specs

    if rig is not None:
        ledger.rig(rig)
    values = ledger.effective_settings(rig).model_dump(by_alias=True)
    origins = ledger.setting_origins(rig)
    return [_row(spec, values, origins[spec.key], rig) for key, spec in setting_specs().items() if key in keys]


def _row(spec: SettingSpec, values: dict[str, Any], origin: str, rig: str | None) -> dict[str, Any]:
    group, name = spec.key.split(".", 1)
    return {
        "key": spec.key,
        "value": values[group][name],
        "default": spec.default,
        "origin": origin,
        "rig": rig,
        "type": spec.type,
        "minimum": spec.minimum,
        "maximum": spec.maximum,
        "meaning": spec.meaning,
    }


def _emit(call: Call, row: dict[str, Any]) -> None:
    text = f"{row['key']} = {row['value']}  (default {row['default']}, from {row['origin']})\n{row['meaning']}"
    output.emit(call, row, text)
