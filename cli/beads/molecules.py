"""`bd mol`: beads with steps, made from templates."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.frame import connect, output
from cli.frame.command import Call, command, new_app
from cli.frame.options import BeadArgument, OptionalRigOption
from models import names
from models.errors import ErrorCode, GtError

if TYPE_CHECKING:
    from models.ledger.beads import Molecule, MoleculePlan

app = new_app("Molecules.")
mol = new_app("Molecules: beads with steps.")
app.add_typer(mol, name="mol")

MAX_TEMPLATE = 1_000_000
"""bytes"""


@command(mol, "create")
def create(
    call: Call,
    template: Annotated[Path, typer.Argument(metavar="TEMPLATE", help="A TOML file: title, and a [[steps]] each.")],
    rig: Annotated[str, typer.Option("--rig", metavar="R", help="The rig it belongs to.")],
    var: Annotated[
        list[str] | None, typer.Option("--var", metavar="NAME=VALUE", help="Stands for {{NAME}} in the template.")
    ] = None,
) -> None:
    """Create a bead with steps from a template."""
    names.valid_rig(rig)
    town = connect.open_town(call)
    plan = read_template(template, dict(_pair(one) for one in var or ()))
    with connect.open_ledger(town) as ledger:
        made = ledger.create_molecule(rig, plan)
    output.emit(call, _document(made), f"{made.bead}  {made.title} ({len(made.steps)} steps)")


@command(mol, "list")
def list_molecules(call: Call, rig: OptionalRigOption = None) -> None:
    """List beads with steps, oldest first."""
    with connect.open_ledger(connect.open_town(call)) as ledger:
        if rig is not None:
            ledger.rig(names.valid_rig(rig))
        found = ledger.molecules(rig)
    rows = [(one.bead, one.status, f"{one.done}/{len(one.steps)}", one.template, one.title) for one in found]
    header = ("BEAD", "STATUS", "DONE", "TEMPLATE", "TITLE")
    output.emit(call, [_document(one) for one in found], output.table(header, rows) if rows else "no molecules")


@command(mol, "show")
def show(call: Call, bead: BeadArgument) -> None:
    """Show a bead with its steps."""
    names.valid_bead(bead)
    with connect.open_ledger(connect.open_town(call)) as ledger:
        found = ledger.molecule(bead)
    output.emit(call, _document(found), _text(found))


@command(mol, "progress")
def progress(
    call: Call,
    bead: BeadArgument,
    done: Annotated[list[str] | None, typer.Option("--done", metavar="STEP", help="This step is done.")] = None,
    undone: Annotated[list[str] | None, typer.Option("--undone", metavar="STEP", help="It is not, after all.")] = None,
) -> None:
    """Show how far a molecule is and what can be done next; note what is done."""
    names.valid_bead(bead)
    with connect.open_ledger(connect.open_town(call)) as ledger:
        for step in done or ():
            ledger.mark_step(bead, step, done=True, by=connect.writer())
        for step in undone or ():
            ledger.mark_step(bead, step, done=False, by=connect.writer())
        found = ledger.molecule(bead)
    following = ", ".join(step.name for step in found.next_steps)
    text = f"{bead}: {found.done} of {len(found.steps)} steps done" + (f"; next: {following}" if following else "")
    output.emit(call, _document(found), text)


@command(mol, "cleanup")
def cleanup(
    call: Call,
    completed: Annotated[
        bool, typer.Option("--completed", help="Of beads that are closed; nothing else can go.")
    ] = False,
    rig: OptionalRigOption = None,
) -> None:
    """Forget the steps of closed beads; the beads stay, and Dolt's history keeps the steps."""
    if not completed:
        raise GtError(ErrorCode.INVALID_VALUE, "only what is completed can be cleaned up", "bd mol cleanup --completed")
    with connect.open_ledger(connect.open_town(call)) as ledger:
        if rig is not None:
            ledger.rig(names.valid_rig(rig))
        cleaned = ledger.clean_molecules(rig)
    text = f"steps of {len(cleaned)} closed beads were removed" if cleaned else "nothing to clean up"
    output.emit(call, {"cleaned": cleaned}, text)


def read_template(file: Path, values: dict[str, str]) -> MoleculePlan:
    """The plan that a TOML file describes, with `{{name}}` replaced by what was given.

    Raises:
        GtError: NOT_FOUND for the file; INVALID_VALUE for what cannot be a plan.
    """
    from pydantic import ValidationError

    from models.ledger.beads import MoleculePlan

    told = _filled(_load(file), values)
    try:
        return MoleculePlan.model_validate({"template": file.stem, **told})
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise GtError(ErrorCode.INVALID_VALUE, f"{file}: {where}: {problem['msg']}") from None


def _load(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > MAX_TEMPLATE:
            raise GtError(ErrorCode.INVALID_VALUE, f"{file} is larger than {MAX_TEMPLATE} bytes")
        return tomllib.loads(file.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise GtError(ErrorCode.NOT_FOUND, f"there is no file {file}") from None
    except OSError as error:
        raise GtError(ErrorCode.INVALID_VALUE, f"{file} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise GtError(ErrorCode.INVALID_VALUE, f"{file} is no TOML: {error}") from None


def _filled(value: Any, values: dict[str, str]) -> Any:
    """`value` with each `{{name}}` in its texts replaced; GtError(INVALID_VALUE) for a name that was not given."""
    if isinstance(value, dict):
        return {key: _filled(one, values) for key, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, values) for one in value]
    if not isinstance(value, str):
        return value
    import re

    def given(found: re.Match[str]) -> str:
        if found[1] not in values:
            raise GtError(ErrorCode.INVALID_VALUE, f"the template needs {found[1]!r}", f"--var {found[1]}=VALUE")
        return values[found[1]]

    return re.sub(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}", given, value)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise GtError(ErrorCode.INVALID_VALUE, f"{text[:60]!r} is not NAME=VALUE", "bd mol create --help")
    return name, value


def _document(molecule: Molecule) -> dict[str, Any]:
    following = [step.name for step in molecule.next_steps]
    return output.document(molecule) | {"done": molecule.done, "total": len(molecule.steps), "next": following}


def _text(molecule: Molecule) -> str:
    head = output.fields({"bead": molecule.bead, "title": molecule.title, "status": molecule.status})
    rows = [
        (step.number, step.name, "done" if step.done_at else "-", " ".join(step.needs) or "-", step.title)
        for step in molecule.steps
    ]
    return f"{head}\n\n{output.table(('#', 'STEP', 'STATE', 'NEEDS', 'TITLE'), rows)}"
