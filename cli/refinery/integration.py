"""`gt refinery integration`: branches that several beads land on, and that land on the rig's branch as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.frame import agent_programs, connect, output
from cli.frame.command import Call, command, new_app
from cli.frame.host_requests import ask_host
from cli.frame.options import RigOption
from models import names
from models.errors import ErrorCode, GtError

if TYPE_CHECKING:
    from ledger.store import Ledger
    from models.job.messages import SlingResult
    from models.ledger.records import Bead, Rig
    from models.supervision.host_requests import IntegrationBranch
    from services.town import Town

group = new_app("Branches that several beads land on, and that land on the rig's branch as one.")

BranchArgument = Annotated[str, typer.Argument(metavar="BRANCH", help="The integration branch.")]


@command(group, "create")
def create(call: Call, branch: BranchArgument, rig: RigOption) -> None:
    """Make the branch on the remote, where the rig's own branch stands; one that is there stays as it is."""
    from models.supervision.host_requests import CreateBranch

    town = connect.open_town(call)
    with connect.open_ledger(town) as ledger:
        home = _home(ledger, rig, branch)
    again = f"gt refinery integration create {branch} --rig {rig}"
    found = ask_host(town, town.file.host, CreateBranch(rig=home, branch=branch), again).branch
    assert found is not None
    made = "made" if found.created else f"there already, {found.ahead} commits ahead of {home.branch}"
    text = f"{branch}: {made}, at {found.sha[:12]}\nbd create TITLE --rig {rig} --target {branch} works for it"
    output.emit(call, {"rig": rig, **output.document(found)}, text)


@command(group, "land")
def land(
    call: Call,
    branch: BranchArgument,
    rig: RigOption,
    priority: Annotated[int, typer.Option("-p", "--priority", min=0, max=4, help="0 is the most urgent.")] = 2,
    agent: Annotated[
        str | None, typer.Option("--agent", metavar="CMD", help="Who repairs it if it goes back; default: the rig's.")
    ] = None,
) -> None:
    """Hand the whole branch in as one change for the rig's own branch; again while that is under way is the same.

    A bead of its own stands for the landing: its gates run over all of it, and it lands by one merge commit.
    """
    from models.supervision.host_requests import LookAtBranch

    town = connect.open_town(call)
    if agent is not None:
        agent_programs.require_agent(agent, town)
    again = f"gt refinery integration land {branch} --rig {rig}"
    with connect.open_ledger(town) as ledger:
        home = _home(ledger, rig, branch)
        found = ask_host(town, town.file.host, LookAtBranch(rig=home, branch=branch), again).branch
        assert found is not None
        beads = ledger.beads(rig)
        landings = [bead for bead in beads if bead.integrates == branch]
        bead = next((bead for bead in landings if not _is_over(ledger, bead)), None)
        if bead is None and found.ahead:
            if not (agent or home.agent or town.file.agent):
                why = f"no agent is configured for the rig {rig}: nobody could repair {branch}"
                raise GtError(ErrorCode.AGENT_NOT_FOUND, why, f"{again} --agent CMD")
            bead = _new_landing(ledger, home, found, len(landings), priority)
        began = bead is not None and ledger.job(bead.id) is not None
    waiting = [each.id for each in beads if each.target == branch and each.status.value != "closed"]
    if waiting:
        output.warn(f"not closed yet, and not in what is landed now: {' '.join(waiting)}")
    told: dict[str, object] = {"rig": rig, "target": home.branch, **output.document(found), "open_beads": waiting}
    if bead is None:
        last = landings[-1].id if landings else None
        output.emit(
            call,
            told | {"bead": last, "workflow_id": None, "state": "landed"},
            f"{home.branch} holds all of {branch} already",
        )
        return
    result = _handed_in(town, home, bead, agent, again, began=began)
    document = told | {"sha": bead.integrates_sha, "bead": bead.id, "workflow_id": result.workflow_id}
    text = f"{bead.id}: {branch} at {(bead.integrates_sha or '')[:12]} for {home.branch}: {result.state.value}"
    output.emit(call, document | {"state": result.state.value}, f"{text}\ngt refinery why {bead.id}")
    if result.note:
        output.warn(result.note)
    if bead.integrates_sha != found.sha:
        output.warn(f"{branch} has moved on to {found.sha[:12]}: land it again when {bead.id} is over")


def _home(ledger: Ledger, rig: str, branch: str) -> Rig:
    """The rig, whose own branch is another one."""
    names.valid_target(branch)
    home = ledger.rig(names.valid_rig(rig))
    if home.branch == branch:
        raise GtError(ErrorCode.INVALID_VALUE, f"{branch} is the rig's own branch", "gt refinery integration --help")
    return home


def _is_over(ledger: Ledger, bead: Bead) -> bool:
    job = ledger.job(bead.id)
    return bead.status.value == "closed" or (job is not None and job.state.final)


def _new_landing(ledger: Ledger, home: Rig, found: IntegrationBranch, earlier: int, priority: int) -> Bead:
    """The bead that stands for this landing: two commands at once make one."""
    from models.ledger.records import BeadType, NewBead

    new = NewBead(
        rig=home.name,
        title=f"Land {found.branch} on {home.branch}",
        description=f"All of the integration branch `{found.branch}`, as it stood at {found.sha}, as one change.",
        priority=priority,
        type=BeadType.CHORE,
        integrates=found.branch,
        integrates_sha=found.sha,
    )
    return ledger.create_bead(new, key=f"integration/{home.name}/{found.branch}/{earlier}")


def _handed_in(town: Town, home: Rig, bead: Bead, agent: str | None, again: str, *, began: bool) -> SlingResult:
    """The landing's job; what it hands in is put on the bead's branch before it begins, and never after."""
    from cli.work.sling import hand_over
    from models.job.messages import SlingRequest
    from models.supervision.host_requests import HandInBranch

    assert bead.integrates is not None
    assert bead.integrates_sha is not None
    if not began:
        with connect.open_ledger(town) as ledger:
            git = ledger.effective_settings(home.name).git
        task = HandInBranch(rig=home, branch=bead.integrates, bead=bead.id, sha=bead.integrates_sha, git=git)
        ask_host(town, town.file.host, task, again)
    request = SlingRequest(bead=bead.id, rig=home.name, agent=agent)
    return connect.converse(town, lambda client: hand_over(client, town, request))
