"""What a person asks of one host: each is one activity there, and the person waits for its answer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from models.base import Frozen
from models.ledger.records import Rig
from models.mayor.mail import Message
from models.refinery.gates import GateReport
from models.settings import GateSettings, GitSettings, SandboxSettings


class Nudge(Frozen):
    """Type a text into a polecat's session and press Enter."""

    kind: Literal["nudge"] = "nudge"
    rig: str
    polecat: str
    text: str
    letter: str = ""
    """the errand that it belongs to: a retry types nothing twice"""


class ListParked(Frozen):
    """Parked work of a rig, and saves of unfinished work."""

    kind: Literal["list_parked"] = "list_parked"
    rig: Rig
    targets: dict[str, str] = Field(default_factory=dict)
    """by bead: where its work lands, of those whose work does not land on the rig's branch"""


class Unpark(Frozen):
    """Put parked work on its bead's branch on the remote."""

    kind: Literal["unpark"] = "unpark"
    rig: Rig
    bead: str
    attempt: int | None = None
    """None: the newest"""
    dry_run: bool = False
    git: GitSettings = GitSettings()


class DeliverLetter(Frozen):
    """Put a letter into the inbox of an attempt's session."""

    kind: Literal["deliver_letter"] = "deliver_letter"
    rig: str
    polecat: str
    bead: str
    attempt: int
    letter: Message


class ParkedRef(Frozen):
    ref: str
    sha: str
    """what it holds: one that holds something else by now is left alone; "": there is no such ref"""


class ExpireParked(Frozen):
    """Delete refs of parked work, on the remote and on the host."""

    kind: Literal["expire_parked"] = "expire_parked"
    rig: Rig
    refs: tuple[ParkedRef, ...]
    kept: bool = False
    """also files that were kept on the host because they must not leave it, or git ignores them"""


class ParkedWork(ParkedRef):
    """Work of one attempt that was put aside."""

    rig: str
    bead: str
    attempt: int
    parked: bool = True
    """False: a save of unfinished work, made while the agent worked"""
    saved_at: datetime
    subject: str
    files: int
    """that differ from the target"""
    on_remote: bool
    """False: on the host alone, because the remote would not take it"""
    landed: bool
    """the target holds all of it"""
    stayed_here: str = ""
    """files that were left on the host where it was parked, one a line, and why"""
    host: str = ""
    """that says so; where `on_remote` is False, the one that has it"""
    kept_host: str = ""
    """that has files of it which nobody else has"""
    kept_folder: str = ""
    """on that host; "" for none"""
    kept_files: tuple[str, ...] = ()
    """paths in that folder, printable"""


class Unparked(Frozen):
    bead: str
    attempt: int
    ref: str
    branch: str
    sha: str
    """where the branch is now, or would be"""
    stayed_here: str = ""
    kept_folder: str | None = None
    """on the host that did it: has the files which stayed there; None: there are none"""


class CreateBranch(Frozen):
    """Make an integration branch on the remote, where the rig's own branch stands; one that is there stays."""

    kind: Literal["create_branch"] = "create_branch"
    rig: Rig
    branch: str


class LookAtBranch(Frozen):
    """Where an integration branch stands on the remote."""

    kind: Literal["look_at_branch"] = "look_at_branch"
    rig: Rig
    branch: str


class HandInBranch(Frozen):
    """Put where an integration branch stood on the branch of the bead that lands it, unless that one is there."""

    kind: Literal["hand_in_branch"] = "hand_in_branch"
    rig: Rig
    branch: str
    bead: str
    sha: str
    git: GitSettings = GitSettings()


class CheckGates(Frozen):
    """Run the rig's gates at the tip of its branch, as a merge would; nothing lands."""

    kind: Literal["check_gates"] = "check_gates"
    rig: Rig
    settings: GateSettings = GateSettings()
    sandbox: SandboxSettings = SandboxSettings()


class IntegrationBranch(Frozen):
    branch: str
    sha: str
    ahead: int
    """commits that the rig's own branch lacks"""
    created: bool = False


Task = (
    Nudge | DeliverLetter | ListParked | Unpark | ExpireParked | CreateBranch | LookAtBranch | HandInBranch | CheckGates
)


class Errand(Frozen):
    host: str
    task: Annotated[Task, Field(discriminator="kind")]


class ErrandResult(Frozen):
    """What came of it; only what was asked for is set."""

    parked: tuple[ParkedWork, ...] = ()
    problem: str = ""
    """list_parked: why the remote is not in the answer"""
    unparked: Unparked | None = None
    expired: tuple[str, ...] = ()
    delivered: bool = False
    """deliver_letter: the session has it since now"""
    branch: IntegrationBranch | None = None
    gates: GateReport | None = None
    """check_gates"""
