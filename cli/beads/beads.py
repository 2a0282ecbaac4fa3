"""`bd create`, `list`, `ready`, `search`, `show`, `update`: beads themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.frame import connect, output, time_args
from cli.frame.command import Call, command, new_app
from cli.frame.options import BeadArgument, LimitOption, OptionalRigOption
from cli.session import agent_rights
from cli.work import remote
from models import names
from models.choices import BeadStatus, BeadType
from models.errors import ErrorCode, GtError

if TYPE_CHECKING:
    from ledger.queries import Ask
    from ledger.store import Ledger
    from models.ledger.beads import BeadFilter, Comment
    from models.ledger.records import Bead, BeadChanges
    from services.town import Town

app = new_app("Beads.")

_OWN_LINES = frozenset({"dependencies", "labels", "description", "comments", "as_of"})

DescriptionOption = Annotated[str | None, typer.Option("-d", "--description", metavar="TEXT", help="Description.")]
PriorityOption = Annotated[int | None, typer.Option("-p", "--priority", min=0, max=4, help="0 is the most urgent.")]
KindOption = Annotated[BeadType | None, typer.Option("-t", "--type", help="Kind of work.")]
TargetOption = Annotated[
    str | None, typer.Option("--target", metavar="BRANCH", help="Where its work lands; default: the rig's branch.")
]
StatusesOption = Annotated[
    list[BeadStatus] | None, typer.Option("--status", help="Only beads of this status; several: any of them.")
]
LabelsOption = Annotated[
    list[str] | None, typer.Option("-l", "--label", metavar="LABEL", help="Only with this label; several: all of them.")
]


@command(app, "create")
def create(
    call: Call,
    title: Annotated[str, typer.Argument(metavar="TITLE", help="What is to be done, in one line.")],
    rig: Annotated[str, typer.Option("--rig", metavar="R", help="The rig it belongs to.")],
    description: DescriptionOption = None,
    priority: PriorityOption = None,
    type: KindOption = None,
    assignee: Annotated[str | None, typer.Option("--assignee", metavar="WHO", help="Who works on it.")] = None,
    dep: Annotated[
        list[str] | None, typer.Option("--dep", metavar="ID", help="A bead that must be closed first.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option("-l", "--label", metavar="LABEL", help="A label.")] = None,
    target: TargetOption = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="KEY", help="For scripts: creating again with this key is once.")
    ] = None,
) -> None:
    """Create a bead."""
    names.valid_rig(rig)
    needs = tuple(names.valid_bead(bead) for bead in dep or ())
    town = connect.open_town(call)
    from models.ledger.records import NewBead
    from models.texts import storable_text

    storable_text("assignee", assignee)
    new = NewBead(
        rig=rig,
        title=title,
        description=description or "",
        priority=2 if priority is None else priority,
        type=type or BeadType.TASK,
        assignee=assignee or None,
        dependencies=needs,
        labels=tuple(label or ()),
        target=target or None,
    )
    with connect.open_ledger(town) as ledger:
        _require_branch(ledger, rig, target)
        bead = ledger.create_bead(new, key=key)
    output.emit(call, output.document(bead), f"{bead.id}  {bead.title}")


@command(app, "list")
def list_beads(
    call: Call,
    rig: OptionalRigOption = None,
    status: StatusesOption = None,
    type: Annotated[BeadType | None, typer.Option("-t", "--type", help="Only this kind of work.")] = None,
    priority: Annotated[
        int | None, typer.Option("-p", "--priority", min=0, max=4, help="Only of this priority.")
    ] = None,
    assignee: Annotated[
        str | None, typer.Option("--assignee", metavar="WHO", help="Only whom this is assigned to; empty: nobody.")
    ] = None,
    label: LabelsOption = None,
    limit: LimitOption = None,
) -> None:
    """List beads, oldest first."""
    wanted = _filter(rig, status, type=type, priority=priority, assignee=assignee, labels=tuple(label or ()))
    show_beads(call, _find(call, wanted, rig, limit))


@command(app, "ready")
def ready(call: Call, rig: OptionalRigOption = None, limit: LimitOption = None) -> None:
    """List open beads that wait for no other bead, the most urgent first."""
    from ledger import queries

    def question(ask: Ask) -> list[Bead]:
        _require_rig(ask, rig)
        return queries.ready(ask, rig, limit)

    show_beads(call, connect.ask_ledger(connect.open_town(call), question), "nothing is ready")


@command(app, "search")
def search(
    call: Call,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Words in the id, title, description or a comment.")],
    rig: OptionalRigOption = None,
    status: StatusesOption = None,
    label: LabelsOption = None,
    limit: LimitOption = None,
) -> None:
    """Find beads by words in them, whatever the case of their letters."""
    if not text.strip():
        raise GtError(ErrorCode.INVALID_VALUE, "nothing to look for was named", "bd search TEXT")
    wanted = _filter(rig, status, text=text, labels=tuple(label or ()))
    show_beads(call, _find(call, wanted, rig, limit), "nothing was found")


@command(app, "show")
def show(
    call: Call,
    bead: BeadArgument,
    as_of: Annotated[
        str | None, typer.Option("--as-of", metavar="TIME|COMMIT", help="As it was then: a time, 2h ago, or a commit.")
    ] = None,
) -> None:
    """Show one bead, now or as it was."""
    names.valid_bead(bead)
    agent_rights.require_bead(bead, "bd show")
    moment = None if as_of is None else time_args.parse(as_of)
    own = agent_rights.own_bead(bead)
    if own is not None and moment is None:
        _show_own(call, bead, own)
        return
    town = connect.open_town(call)
    if moment is not None:
        with connect.open_ledger(town) as ledger:
            found, then = ledger.bead_as_of(bead, moment)
        show_bead(call, found, as_of=output.document(then))
        return
    _show_now(call, town, bead)


def _show_now(call: Call, town: Town, bead: str) -> None:
    from ledger import queries

    found, said = connect.ask_ledger(town, lambda ask: (queries.bead(ask, bead), queries.comments(ask, bead)))
    show_bead(call, found, comments=comment_documents(said))


def _show_own(call: Call, bead: str, own: dict[str, Any]) -> None:
    """An agent's own bead; where its town is out of reach, as it was when the attempt started."""
    try:
        _show_now(call, connect.open_town(call), bead)
    except GtError as error:
        output.warn(f"as of the start of attempt {own['attempt']}: {error.message}")
        shown = {key: value for key, value in own.items() if key != "attempt"}
        lines = output.fields({key: value for key, value in shown.items() if key != "description"})
        output.emit(call, shown, f"{lines}\n\n{own['description']}".rstrip())


@command(app, "update")
def update(
    call: Call,
    bead: BeadArgument,
    title: Annotated[str | None, typer.Option("--title", metavar="TEXT", help="New title.")] = None,
    description: DescriptionOption = None,
    priority: PriorityOption = None,
    type: KindOption = None,
    status: Annotated[BeadStatus | None, typer.Option("--status", help="New status; closing is `bd close`.")] = None,
    assignee: Annotated[
        str | None, typer.Option("--assignee", metavar="WHO", help="Who works on it; empty: nobody.")
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", metavar="BRANCH", help="Where its work lands; empty: the rig's branch.")
    ] = None,
) -> None:
    """Change a bead; what is not named stays."""
    names.valid_bead(bead)
    given: dict[str, str | int | None] = {
        "title": title,
        "description": description,
        "priority": priority,
        "type": type,
        "status": status,
        "assignee": assignee,
        "target": target,
    }
    if all(value is None for value in given.values()):
        raise GtError(ErrorCode.INVALID_VALUE, "nothing to change was named", "bd update --help")
    town = connect.open_town(call)
    changes = _changes(given)
    with connect.open_ledger(town) as ledger:
        if target:
            _require_branch(ledger, ledger.bead(bead).rig, target)
        changed = ledger.update_bead(bead, changes)
    show_bead(call, changed)


def _changes(given: dict[str, str | int | None]) -> BeadChanges:
    from pydantic import ValidationError

    from models.ledger.records import BeadChanges

    try:
        return BeadChanges.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise GtError(ErrorCode.INVALID_VALUE, str(error.errors()[0]["msg"])) from None


def _filter(rig: str | None, status: list[BeadStatus] | None, **more: object) -> BeadFilter:
    from models.ledger.beads import BeadFilter

    return BeadFilter.model_validate({"rig": rig, "status": status or (), **more})


def _require_branch(ledger: Ledger, rig: str, target: str | None) -> None:
    """Refuse a target that the rig's remote lacks. A remote that does not answer is no reason to refuse."""
    if not target:
        return
    url = ledger.rig(rig).url
    try:
        remote.target_branch(url, target)
    except GtError as error:
        if error.code is ErrorCode.NO_SUCH_BRANCH:
            raise
        output.warn(f"whether the remote has {target} was not checked: {error.message}")


def _find(call: Call, wanted: BeadFilter, rig: str | None, limit: int | None) -> list[Bead]:
    from ledger import queries

    def question(ask: Ask) -> list[Bead]:
        _require_rig(ask, rig)
        return queries.find(ask, wanted, limit)

    return connect.ask_ledger(connect.open_town(call), question)


def _require_rig(ask: Ask, rig: str | None) -> None:
    from ledger import queries

    if rig is not None:
        queries.require_rig(ask, names.valid_rig(rig))


def show_bead(call: Call, bead: Bead, **more: Any) -> None:
    """Print one bead; `more` are further keys of its document."""
    shown = output.document(bead) | more
    text = output.fields({name: value for name, value in shown.items() if name not in _OWN_LINES})
    lists = {"needs": " ".join(bead.dependencies), "labels": " ".join(bead.labels)}
    if any(lists.values()):
        text += "\n" + output.fields(lists)
    if bead.description:
        text += f"\n\n{bead.description}"
    for comment in more.get("comments", ()):
        text += f"\n\n{comment['author']}, {comment['at']}:\n{comment['text']}"
    output.emit(call, shown, text)


def show_beads(call: Call, beads: list[Bead], nothing: str = "no beads") -> None:
    """Print many beads."""
    # Only what is asked for: there may be ten thousand.
    if call.json:
        output.emit(call, output.documents(beads), "")
        return
    rows = [(bead.id, bead.rig, bead.status, bead.priority, bead.type, bead.assignee, bead.title) for bead in beads]
    header = ("ID", "RIG", "STATUS", "P", "TYPE", "ASSIGNEE", "TITLE")
    output.emit(call, None, output.table(header, rows) if rows else nothing)


def comment_documents(said: list[Comment]) -> list[dict[str, Any]]:
    """Comments as JSON values; the bead is named once, outside."""
    return [{key: value for key, value in output.document(one).items() if key != "bead"} for one in said]
