"""`gt rig`: projects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.frame import agent_programs, connect, host_requests, output
from cli.frame.command import Call, command, new_app
from cli.frame.confirm import require_consent
from cli.frame.options import DryRunOption, YesOption
from cli.work import remote, remote_look
from models import names
from models.errors import ErrorCode, GtError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from temporalio.client import Client

    from ledger.store import Ledger
    from models.ledger.records import GateSpec, Rig
    from models.refinery.gates import GateReport
    from services.town import Town

_group = new_app("Add, list, change and remove rigs: a rig is one project.")
app = new_app("Rigs.")
app.add_typer(_group, name="rig")

PREFIX_LETTERS = 2
LONGEST_PREFIX = 10
CHECK_S = 120.0
"""for a worker to take the gates, and to fetch the tip"""
SETTINGS = "settings_changed"
"""the signal that lets a Refinery or a Witness read its rig"""


@command(_group, "add")
def add(
    call: Call,
    name: Annotated[str, typer.Argument(metavar="NAME", help="How the rig is called.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="Its git remote: a path, file, ssh or https URL.")],
    prefix: Annotated[str | None, typer.Option("--prefix", metavar="P", help="Prefix of its beads' ids.")] = None,
    branch: Annotated[
        str | None, typer.Option("--branch", metavar="B", help="Where work lands; default: the remote's HEAD.")
    ] = None,
    gate: Annotated[
        list[str] | None, typer.Option("--gate", metavar="NAME=CMD", help="A command that must exit 0. Repeatable.")
    ] = None,
    max_polecats: Annotated[
        int, typer.Option("--max-polecats", min=1, max=1000, help="Sessions that may live at once.")
    ] = 10,
    agent: Annotated[
        str | None, typer.Option("--agent", metavar="CMD", help="Agent command, or claude, codex, gemini, …")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Run the gates at the branch's tip and tell.")] = False,
) -> None:
    """Add a project, after a look at its remote."""
    names.valid_rig(name)
    url = remote.expanded(remote.absolute(url))
    if prefix is not None:
        names.valid_prefix(prefix)
    if branch is not None:
        names.valid_branch(branch)
    town = connect.open_town(call)
    gates = _gates(gate or [])
    if agent:
        agent_programs.require_agent(agent, town)
    with connect.open_ledger(town) as ledger:
        rigs = ledger.rigs()
        if prefix is None:
            prefix = _prefix(name, rigs)
        target = remote.target_branch(url, branch)
        found = remote_look.look(url, target)
        rig = ledger.add_rig(_rig(name, url, prefix, target, gates, max_polecats, agent))
        found = found.model_copy(update={"commits_as": _identities(town, ledger, name)})
    if not gates:
        output.warn(f"{name} has no gates: what its polecats hand in lands untested (--gate NAME=CMD)")
    remote_look.say(name, target, found)
    _start_workflows(town, name)
    if check and gates:
        found = found.model_copy(update={"gates": _checked(town, rig)})
    output.emit(call, output.document(rig) | {"found": output.document(found)}, _line(rig))


@command(_group, "list")
def list_rigs(call: Call) -> None:
    """List the town's rigs."""
    with connect.open_ledger(connect.open_town(call)) as ledger:
        rigs = ledger.rigs()
    header = ("NAME", "PREFIX", "BRANCH", "MAX", "GATES", "URL")
    rows = [
        (rig.name, rig.prefix, rig.branch, rig.max_polecats, " ".join(gate.name for gate in rig.gates), rig.url)
        for rig in rigs
    ]
    output.emit(call, output.documents(rigs), output.table(header, rows) if rows else "no rigs")


@command(_group, "set")
def set_rig(
    call: Call,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The rig.")],
    url: Annotated[str | None, typer.Option("--url", metavar="U", help="Where its repository is now.")] = None,
    branch: Annotated[str | None, typer.Option("--branch", metavar="B", help="Where work lands from now on.")] = None,
    gate: Annotated[
        list[str] | None, typer.Option("--gate", metavar="NAME=CMD", help="Add or change a gate. Repeatable.")
    ] = None,
    max_polecats: Annotated[
        int | None, typer.Option("--max-polecats", min=1, max=1000, help="Sessions that may live at once.")
    ] = None,
    agent: Annotated[
        str | None, typer.Option("--agent", metavar="CMD", help="Agent of jobs that begin from now on; '' for none.")
    ] = None,
    prefix: Annotated[str | None, typer.Option("--prefix", hidden=True)] = None,
) -> None:
    """Change a rig, also while jobs run: they go on with the rig as it is from their next step on."""
    names.valid_rig(name)
    if prefix is not None:
        raise GtError(
            ErrorCode.REFUSED, "a rig's prefix stays: its beads' ids begin with it", "gt rig add NAME URL --prefix P"
        )
    if all(value is None for value in (url, branch, gate, max_polecats, agent)):
        raise GtError(ErrorCode.INVALID_VALUE, "nothing to change was given", f"gt rig set {name} --branch B")
    url = None if url is None else remote.expanded(remote.absolute(url))
    if branch is not None:
        names.valid_branch(branch)
    gates = _gates(gate or [])
    town = connect.open_town(call)
    if agent:
        agent_programs.require_agent(agent, town)
    given = {"url": url, "branch": branch, "max_polecats": max_polecats, "agent": agent}
    changes = {key: value or None for key, value in given.items() if value is not None}
    with connect.open_ledger(town) as ledger:
        before = ledger.rig(name)
        if url is not None or branch is not None:
            remote.target_branch(url or before.url, branch or before.branch)

        def edit(rig: Rig) -> Rig:
            return rig.model_copy(update={**changes, "gates": _with_gates(rig.gates, gates)})

        rig = ledger.edit_rig(
            name, edit, f"set by {connect.person()}: {', '.join([*changes, *(spec.name for spec in gates)])}"
        )
    if rig != before:
        _say_changed(town, name)
    else:
        output.say(f"{name} is as it was: nothing to change")
    output.emit(call, output.document(rig), _line(rig))


@command(_group, "remove")
def remove(
    call: Call,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The rig.")],
    yes: YesOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Forget a rig; its beads, their history and the remote stay."""
    names.valid_rig(name)
    town = connect.open_town(call)
    with connect.open_ledger(town) as ledger:
        rig = ledger.rig(name)
        _refuse_unfinished(ledger, name)
        if dry_run:
            output.emit(call, output.document(rig), f"{name} would be removed; its remote {rig.url} stays as it is")
            return
        require_consent(f"Remove the rig {name}?", f"gt rig remove {name} --yes", yes)
        _stop_workflows(town, name)
        try:
            ledger.remove_rig(name)
        except GtError:
            _start_workflows(town, name)
            raise
    output.emit(call, output.document(rig), f"{name} is removed; its remote {rig.url} is as it was")


@command(_group, "pause")
def pause(
    call: Call,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The rig.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why.")] = "",
) -> None:
    """Start no further session in a rig until `resume`; those that live go on, and what is handed in is merged."""
    _order(call, name, "pause", reason)


@command(_group, "resume")
def resume(call: Call, name: Annotated[str, typer.Argument(metavar="NAME", help="The rig.")]) -> None:
    """Start sessions again, whoever paused the rig; while a disk is full the Deacon pauses it anew."""
    _order(call, name, "resume")


def _order(call: Call, rig: str, signal: str, reason: str = "") -> None:
    from models.job.messages import DispatchStatus
    from models.refinery.messages import PauseRequest
    from services.temporal import long_lived

    names.valid_rig(rig)
    town = connect.open_town(call)
    with connect.open_ledger(town) as ledger:
        ledger.rig(rig)

    async def give(client: Client) -> DispatchStatus:
        request = PauseRequest(reason=reason, by=connect.person())
        handle = await long_lived.start(client, names.dispatch_id(rig), signal=signal, message=request)
        return await connect.ask(handle, "status", DispatchStatus)

    status = connect.converse(town, give)
    document = {"rig": rig, "paused": status.paused, "pause_reason": status.pause_reason}
    standing = f"paused: {status.pause_reason or 'no reason was given'}" if status.paused else "starts sessions"
    output.emit(call, document, f"{rig}: {standing}")


def _checked(town: Town, rig: Rig) -> GateReport | None:
    """The gates at the tip of the rig's branch, run by a worker as for a merge; a red one is told."""
    from models.refinery.gates import GateOutcome
    from models.supervision.host_requests import CheckGates

    again = f"gt rig add {rig.name} {rig.url} --check"
    patience = CHECK_S + sum(gate.timeout_s for gate in rig.gates)
    with connect.open_ledger(town) as ledger:
        settings = ledger.effective_settings(rig.name)
    try:
        check = CheckGates(rig=rig, settings=settings.gate, sandbox=settings.sandbox)
        answer = host_requests.ask_host(town, town.file.host, check, again, patience)
    except GtError as error:
        output.warn(f"the gates could not be run: {error.message}; once the town is up: {again}")
        return None
    report = answer.gates
    if report is not None and report.outcome is GateOutcome.PASSED:
        output.say(f"{rig.name}: its gates pass on {rig.branch}")
    elif report is not None:
        how = report.reason or f"exit {report.exit_code}"
        output.warn(
            f"the gate {report.gate} does not pass on {rig.branch} itself ({how}), so nothing will land:\n{report.tail}"
        )
    return report


def _line(rig: Rig) -> str:
    return f"{rig.name}: {rig.url}, branch {rig.branch}, beads {rig.prefix}-…, gates: {_named(rig.gates) or 'none'}"


def _named(gates: Sequence[GateSpec]) -> str:
    return ", ".join(spec.name for spec in gates)


def _with_gates(known: tuple[GateSpec, ...], given: Sequence[GateSpec]) -> tuple[GateSpec, ...]:
    """A gate that is known keeps its place and all but its command."""
    lines = {spec.name: spec.command for spec in given}
    kept = (spec.model_copy(update={"command": lines.get(spec.name, spec.command)}) for spec in known)
    return (*kept, *(spec for spec in given if spec.name not in {one.name for one in known}))


def _say_changed(town: Town, rig: str) -> None:
    """Let the rig's workflows read it now; they tell its jobs. One that does not hear reads it by its next cycle."""

    async def tell(client: Client) -> None:
        told = ((names.dispatch_id(rig), "wake"), (names.refinery_id(rig), SETTINGS), (names.witness_id(rig), SETTINGS))
        for workflow_id, signal in told:
            try:
                await client.get_workflow_handle(workflow_id).signal(signal)
            except Exception as error:
                output.warn(f"{workflow_id}: {connect.as_gt_error(error).message}; it reads the rig by its next cycle")

    try:
        connect.converse(town, tell)
    except GtError as error:
        output.warn(f"{error.message}; what runs reads the rig by its next cycle")


def _rig(
    name: str, url: str, prefix: str, branch: str, gates: Sequence[GateSpec], max_polecats: int, agent: str | None
) -> Rig:
    from datetime import UTC, datetime

    from models.ledger.records import Rig

    return Rig(
        name=name,
        url=url,
        prefix=prefix,
        branch=branch,
        gates=tuple(gates),
        max_polecats=max_polecats,
        agent=agent or None,
        created_at=datetime.now(UTC),
    )


def _gates(texts: list[str]) -> list[GateSpec]:
    from models.ledger.records import GateSpec

    gates: list[GateSpec] = []
    for text in texts:
        gate, equals, line = text.partition("=")
        if not equals or not line.strip():
            raise GtError(ErrorCode.INVALID_VALUE, f"--gate {text!r} is not NAME=CMD", '--gate test="pytest -q"')
        if gate in {known.name for known in gates}:
            raise GtError(ErrorCode.INVALID_VALUE, f"the gate {gate!r} is given twice")
        gates.append(GateSpec(name=gate, command=line))
    return gates


def _identities(town: Town, ledger: Ledger, rig: str) -> str:
    """Whom commits of the rig name from now on, where that is set: the person who adds it, unless a setting says else.

    Remotes' rules on addresses and signatures are about people, and mail to a polecat's address reaches nobody.
    """
    from services.git_config import write_town_config

    person = write_town_config(town.paths).identity
    settings = ledger.effective_settings(rig).git
    if person and not settings.author and not settings.committer:
        for key in ("git.author", "git.committer"):
            ledger.set_setting(rig, key, person)
        return person
    return settings.author


def _prefix(name: str, rigs: Sequence[Rig]) -> str:
    """The shortest free prefix out of the name's letters; the same rig keeps its own."""
    taken = {rig.prefix for rig in rigs if rig.name != name}
    known = next((rig.prefix for rig in rigs if rig.name == name), None)
    if known is not None:
        return known
    letters = "".join(character for character in name.lower() if "a" <= character <= "z") or "rig"
    words = [letters[:length] for length in range(min(PREFIX_LETTERS, len(letters)), LONGEST_PREFIX + 1)]
    numbered = [f"{letters[:PREFIX_LETTERS]}{number}" for number in range(2, len(taken) + 3)]
    return next(word for word in [*words, *numbered] if word not in taken)


def _refuse_unfinished(ledger: Ledger, name: str) -> None:
    unfinished = ledger.jobs(rig=name, unfinished=True)
    if unfinished:
        beads = " ".join(job.bead for job in unfinished[:5])
        raise GtError(
            ErrorCode.REFUSED,
            f"{name} has {len(unfinished)} unfinished jobs: {beads}",
            f"gt job cancel {unfinished[0].bead}",
        )


def _start_workflows(town: Town, rig: str) -> None:
    """Start the rig's long-lived workflows; a worker does it later where Temporal does not answer."""
    from services.temporal.client import start_rig_workflows

    try:
        connect.converse(town, lambda client: start_rig_workflows(client, rig))
    except GtError as error:
        if error.code is not ErrorCode.TEMPORAL_UNREACHABLE:
            raise
        output.say(f"{rig} is recorded; Temporal does not answer, so its workflows start with the next `gt up`")


def _stop_workflows(town: Town, rig: str) -> None:
    """End the rig's long-lived workflows before it is forgotten: they would have nothing to read."""
    from temporalio.service import RPCError, RPCStatusCode

    async def stop(client: Client) -> None:
        for workflow_id in (names.dispatch_id(rig), names.witness_id(rig), names.refinery_id(rig)):
            try:
                await client.get_workflow_handle(workflow_id).terminate(f"rig removed by {connect.person()}")
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise

    connect.converse(town, stop)
