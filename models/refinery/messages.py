"""Messages of the Refinery and of one merge: the queue, the chain, the landing."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from models.base import Frozen
from models.job.attempts import ReleaseWorktree, WorktreeReleased
from models.job.messages import Verdict
from models.ledger.records import MergeRequest, Rig
from models.refinery.gates import GatedCommit, GateTally, Seen
from models.settings import (
    GateSettings,
    GitSettings,
    MergeQueueSettings,
    MergeStyle,
    SandboxSettings,
    WorktreeSettings,
)

# --- the queue --------------------------------------------------------------------------------


class QueueItemState(StrEnum):
    WAITING = "waiting"
    MERGING = "merging"
    RETRYING = "retrying"
    HELD = "held"
    TARGET_RED = "target_red"
    """its target fails its gates by itself: it keeps its place until that is green"""


class QueueItem(Frozen):
    """interface.md's row of `gt refinery queue`."""

    id: str
    bead: str
    polecat: str
    state: QueueItemState
    position: int
    attempts: int
    waiting_s: float
    reason: str = ""
    target: str = ""


class QueueStatus(Frozen):
    """Answer of the Refinery's query `queue`."""

    rig: str
    target: str
    paused: bool
    pause_reason: str = ""
    ungated: bool = False
    flaky: tuple[str, ...] = ()
    """gates that have been red and green at one commit, and still count as flaky"""
    held_targets: dict[str, str] = Field(default_factory=dict)
    """by target: why nothing is merged to it until `resume`, though the queue goes on"""
    red_targets: dict[str, str] = Field(default_factory=dict)
    """by target that fails its gates by itself: what fails; the queue goes on once it passes"""
    merge: str | None = None
    """workflow id of the running merge"""
    more_in_ledger: bool = False
    """further changes wait in the ledger until there is room"""
    items: tuple[QueueItem, ...] = ()


class PauseRequest(Frozen):
    """`above_priority` and `drain` are the Refinery's alone."""

    reason: str = ""
    by: str = ""
    above_priority: int | None = None
    """changes more urgent than this are merged all the same"""
    drain: bool = False
    """what waits already is merged first"""


class QueueItemRef(Frozen):
    """One item of the queue: input of the Refinery's updates `process` and `skip`, which answer with a QueueItem."""

    id: str


class QueueCleared(Frozen):
    """Answer of the Refinery's update `clear`: the items that went back to their jobs."""

    returned: tuple[str, ...] = ()


class Withdraw(Frozen):
    """A job takes its merge request back (cancelled, reassigned)."""

    merge_request: str
    bead: str = ""
    attempt: int = 0


# --- one merge --------------------------------------------------------------------------------


class TargetRed(Frozen):
    """The target's own tip fails a gate: nobody who builds on it is to blame."""

    sha: str
    gate: str | None = None
    why: str
    """in one line: "gate test failed (exit 1)" """
    tail: str = ""
    """the end of the gate's output"""
    log_path: str | None = None


class MergeBatch(Frozen):
    """Input of a MergeWorkflow: changes in queue order, to be landed on one target."""

    rig: Rig
    target: str
    host: str
    more_hosts: tuple[str, ...] = ()
    """gates run there as well, and everything where `host` is silent"""
    host_timeout_s: int = 60
    """work that nobody takes for so long goes to another host"""
    number: int
    changes: tuple[MergeRequest, ...]
    settings: MergeQueueSettings
    git: GitSettings = GitSettings()
    gate: GateSettings = GateSettings()
    worktree: WorktreeSettings = WorktreeSettings()
    sandbox: SandboxSettings = SandboxSettings()
    seen: Seen = Seen()
    needs: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """by bead: those of the same batch that have to be merged before it"""
    red: TargetRed | None = None
    """the target was red when it was last gated: it is gated before the changes are"""
    mends: bool = False
    """a person wants these tried although the target is red: they may be what mends it"""


class Rewound(Frozen):
    """A target that lost commits: somebody has rewritten its history by force."""

    target: str
    left_sha: str
    """the last commit that the old and the new history share; "": none. It names the rewind"""
    target_sha: str
    removed: int
    """commits"""
    commits: tuple[str, ...] = ()
    """the latest of them, a line each: short name and subject"""


class ForeignCommit(Frozen):
    """A commit on the target that no landing of the town has put there."""

    target: str
    sha: str
    subject: str
    author: str
    """`Name <email>`"""
    polecat: str = ""
    """of the rig, that it came from; "": as far as can be seen, from nobody of ours"""
    bead: str = ""
    """whose work it is, where that is known"""


class ForeignFound(Frozen):
    """Signal to a Refinery: a patrol found these on a target between two merges. Telling it again changes nothing."""

    commits: tuple[ForeignCommit, ...]


class MergeOutcome(Frozen):
    """Result of a MergeWorkflow. Changes without a verdict go back into the queue as they were."""

    verdicts: tuple[Verdict, ...] = ()
    could_not_run: str = ""
    """set when gates could not run and their control failed too: the queue pauses"""
    stalled: str = ""
    """set when the target moved too often, or the remote refuses for ever, in the remote's words"""
    target_red: TargetRed | None = None
    """set when the target's own tip fails its gates: what is undecided keeps its place"""
    stopped: bool = False
    """it was told to end before all was decided: a person or a job wants one of its changes back"""
    unsure: tuple[str, ...] = ()
    """undecided changes whose landing was under way when the merge ended: they may be on the target"""
    target_cleared: bool = False
    """the tip passes the gate that `MergeBatch.red` names"""
    gate_runs: int = 0
    landed: int = 0
    """changes that this merge itself has put on the target"""
    blamed: int = 0
    """changes that its gates blame"""
    tallies: tuple[GateTally, ...] = ()
    commits: tuple[GatedCommit, ...] = ()
    """what it gated, and what it knew of commits before, oldest first"""
    rewound: tuple[Rewound, ...] = ()
    """what was taken off the target by force"""
    foreign: tuple[ForeignCommit, ...] = ()
    """what came to the target past the queue since it was seen last"""
    target_missing: bool = False
    """it stalled because the remote has no such branch"""


class MergeProgress(Frozen):
    """What a merge has decided so far, told to the Refinery while the merge goes on."""

    number: int
    verdicts: tuple[Verdict, ...] = ()
    target: str = ""
    waits_for: str = ""
    """what has not come about for so long that a person must know"""


# --- host work: chain and landing -------------------------------------------------------------


class BuildChain(Frozen):
    """Build one commit per change on top of the target's tip, without a checkout."""

    rig: Rig
    target: str
    changes: tuple[MergeRequest, ...]
    needs: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """by bead: those that have to stand before it in the chain"""
    base_sha: str = ""
    """build on this commit of the target, wherever it stands now: what another host has built"""
    forks: dict[str, str] = Field(default_factory=dict)
    """with `base_sha`: the other host's"""
    style: MergeStyle = MergeStyle.SQUASH
    signing_key: str = ""
    """an SSH private key's path on the host; "" signs nothing"""
    git: GitSettings = GitSettings()
    """whom commits name"""


class ChainLink(Frozen):
    merge_request: str
    bead: str
    head_sha: str
    sha: str
    """the commit that lands this change on top of all earlier links"""
    branch: str = ""
    """that the change was handed in on"""


class DropKind(StrEnum):
    CONFLICT = "conflict"
    LANDED = "landed"
    """the target holds a commit with this change's trailer already: `sha` names it"""
    WAITS = "waits"
    """what it needs is neither landed nor in the chain before it"""
    GONE = "gone"
    """the branch, or the submitted commit, is not on the remote"""
    EMPTY = "empty"
    """nothing to land: the tree would not change; `sha` names the commit before it that holds the content"""
    BROKEN = "broken"
    """git cannot work with what is in it: `detail` has git's words"""


class DroppedChange(Frozen):
    merge_request: str
    bead: str
    kind: DropKind
    sha: str | None = None
    files: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    """CONFLICT: the beads whose landings changed those files on the other side"""
    detail: str = ""


class Chain(Frozen):
    base_sha: str
    """the target's tip that the chain stands on"""
    links: tuple[ChainLink, ...] = ()
    dropped: tuple[DroppedChange, ...] = ()
    forks: dict[str, str] = Field(default_factory=dict)
    """by merge request: the last commit of the change that the target had and lost; it lands without that"""
    rewound: tuple[Rewound, ...] = ()
    foreign: tuple[ForeignCommit, ...] = ()
    """what came to the target past the queue since this host saw it last"""


class LandChain(Frozen):
    """Move the target from `base_sha` to the last link, if it still stands there."""

    rig: Rig
    target: str
    base_sha: str
    links: tuple[ChainLink, ...]


class LandOutcome(StrEnum):
    LANDED = "landed"
    """the target's history on the remote holds every link (now, or since an earlier try)"""
    MOVED = "moved"
    """the target stands elsewhere: rebuild"""
    REFUSED = "refused"
    """the remote said no: `detail` has its words"""


class LandResult(Frozen):
    outcome: LandOutcome
    target_sha: str
    detail: str = ""


class FindRenamed(Frozen):
    """What has become of the rig's branch, which its remote does not have any more."""

    rig: Rig
    bases: tuple[str, ...] = ()
    """commits that it is known to have had"""


class Renamed(Frozen):
    branch: str = ""
    """the remote's HEAD names it, and it holds all that the old one is known to have had; "": there is none such"""
    words: str = ""
    """what a person should know who looks for it"""


class FindLanded(Frozen):
    """Whether the target on the remote holds work of `bead` that its job does not know to be landed."""

    rig: Rig
    bead: str
    known: tuple[str, ...] = ()
    """commits whose history need not be searched: earlier landings, and where the job's work began"""


class Landed(Frozen):
    sha: str | None = None
    """the newest landing commit of the bead; None: there is none"""


class ConfirmLanded(Frozen):
    """Whether the remote bears out the verdict that `change` is merged: asked by its job before the bead is closed."""

    rig: Rig
    change: MergeRequest
    verdict: Verdict
    release: ReleaseWorktree | None = None
    """what nobody needs any more once the verdict is borne out"""


class Confirmation(Frozen):
    doubt: str = ""
    """what the remote has instead; "": it bears the verdict out"""
    released: WorktreeReleased | None = None
    """None: nothing was to be released, or that failed and is to be tried by itself"""
