"""`gt refinery gate`: what a rig's changes have to pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from cli.frame import connect, output
from cli.frame.command import Call, command, new_app
from cli.frame.confirm import ask_on_terminal
from cli.frame.options import RigOption, YesOption
from models import names
from models.errors import ErrorCode, GtError

if TYPE_CHECKING:
    from temporalio.client import Client

    from models.ledger.records import GateSpec, Rig
    from services.town import Town

group = new_app("List, set and remove a rig's gates.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The gate, like test or lint.")]


@command(group, "list")
def list_gates(call: Call, rig: RigOption) -> None:
    """Show the gates in the order in which they run."""
    with connect.open_ledger(connect.open_town(call)) as ledger:
        _emit(call, ledger.rig(rig))


@command(group, "set")
def set_gate(
    call: Call,
    name: NameArgument,
    rig: RigOption,
    run: Annotated[str | None, typer.Option("--run", metavar="CMD", help="The command; it must exit 0.")] = None,
    timeout: Annotated[int | None, typer.Option("--timeout", min=1, max=86400, metavar="S", help="Seconds.")] = None,
    parallel: Annotated[
        bool | None, typer.Option("--parallel/--no-parallel", help="At the same time as its parallel neighbours.")
    ] = None,
    retry: Annotated[int | None, typer.Option("--retry", min=0, max=9, metavar="N", help="Further tries.")] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="GLOB", help="Only for changes of such files. Repeatable.")
    ] = None,
    cache: Annotated[
        list[str] | None, typer.Option("--cache", metavar="DIR", help="Kept from run to run. Repeatable.")
    ] = None,
) -> None:
    """Change a gate, or add it behind the others. What is not given stays; `--only ''` empties that list."""
    names.valid_gate(name)
    given: dict[str, object] = {
        "command": run,
        "timeout_s": timeout,
        "parallel": parallel,
        "retry": retry,
        "only": None if only is None else tuple(each for each in only if each),
        "cache": None if cache is None else tuple(each for each in cache if each),
    }
    changes = {key: value for key, value in given.items() if value is not None}

    def edit(gates: tuple[GateSpec, ...]) -> tuple[GateSpec, ...]:
        from models.ledger.records import GateSpec

        known = next((gate for gate in gates if gate.name == name), None)
        if known is None and run is None:
            raise GtError(ErrorCode.NOT_FOUND, f"{rig} has no gate {name}", f"gt refinery gate set {name} --run CMD")
        made = GateSpec.model_validate({"name": name, **(known.model_dump() if known else {}), **changes})
        return tuple(made if gate is known else gate for gate in gates) if known else (*gates, made)

    _edit(call, rig, edit, f"gate {name} set")


@command(group, "remove")
def remove_gate(call: Call, name: NameArgument, rig: RigOption, yes: YesOption = False) -> None:
    """Changes need not pass this gate any more."""
    ask_on_terminal(f"Let changes of {rig} land that do not pass {name}?", yes)

    def edit(gates: tuple[GateSpec, ...]) -> tuple[GateSpec, ...]:
        if name not in {gate.name for gate in gates}:
            raise GtError(ErrorCode.NOT_FOUND, f"{rig} has no gate {name}", f"gt refinery gate list --rig {rig}")
        return tuple(gate for gate in gates if gate.name != name)

    _edit(call, rig, edit, f"gate {name} removed")


def _edit(call: Call, rig: str, edit: Callable[[tuple[GateSpec, ...]], tuple[GateSpec, ...]], what: str) -> None:
    town = connect.open_town(call)
    with connect.open_ledger(town) as ledger:
        changed = ledger.edit_gates(rig, edit, what)
    if not changed.gates:
        output.warn(f"{rig} has no gates: what its polecats hand in lands untested")
    say_changed(town, [rig])
    _emit(call, changed)


def _emit(call: Call, rig: Rig) -> None:
    header = ("GATE", "TIMEOUT", "PARALLEL", "RETRY", "ONLY", "CACHE", "COMMAND")
    cells: list[tuple[object, ...]] = [
        (
            gate.name,
            output.duration(gate.timeout_s),
            gate.parallel,
            gate.retry,
            " ".join(gate.only),
            " ".join(gate.cache),
            gate.command,
        )
        for gate in rig.gates
    ]
    document = {"rig": rig.name, "gates": output.documents(rig.gates)}
    output.emit(call, document, output.table(header, cells) if cells else "no gates")


def say_changed(town: Town, rigs: list[str]) -> None:
    """Let running Refineries read their settings now; one that does not hear reads them by its next cycle."""

    async def tell(client: Client) -> None:
        for rig in rigs:
            try:
                await client.get_workflow_handle(names.refinery_id(rig)).signal("settings_changed")
            except Exception as error:
                output.warn(f"{rig}: {connect.as_gt_error(error).message}; it reads its settings by its next cycle")

    try:
        connect.converse(town, tell)
    except GtError as error:
        output.warn(f"{error.message}; the Refineries read their settings by their next cycle")
