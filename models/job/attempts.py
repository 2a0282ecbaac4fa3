"""Host work for one attempt: start it, take its work, end its session; and the patrol's watch."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from models.base import Frozen
from models.job.checkpoints import CheckpointOrder
from models.job.health import HealthReport, Thresholds, Zombie
from models.job.messages import AttemptNote, Observation
from models.ledger.records import BeadType, Rig
from models.settings import (
    AgentSettings,
    GitSettings,
    HealthSettings,
    LimitSettings,
    SandboxSettings,
    WorktreeSettings,
)

DONE_INTENT = "done.json"
"""a done intent that carries no identity"""


class StartAttempt(Frozen):
    """Worktree, session folder and tmux session for one attempt of a bead's job."""

    rig: Rig
    bead: str
    title: str
    description: str
    polecat: str
    attempt: int
    agent: str
    """the agent's command line, run by `sh -c` in the worktree"""
    notes: tuple[AttemptNote, ...] = ()
    failure_log: str | None = None
    """path of a gate's log on this host, copied to the file named by GT_FAILURE_LOG"""
    first_attempt: int = 0
    """of this job: what its attempts have saved is restored where the worktree is new; 0: nothing is"""
    git: GitSettings = GitSettings()
    worktree: WorktreeSettings = WorktreeSettings()
    may: str = AgentSettings().may
    """`agent.may`: what the agent may run beside its own commands"""
    priority: int = 2
    kind: BeadType = BeadType.TASK
    """of the bead, for `bd show` where the ledger is out of reach"""
    sandbox: SandboxSettings = SandboxSettings()
    network: str = AgentSettings().network
    """`agent.network`: full, none, or hosts"""
    adopt: bool = False
    """the attempt was begun before: find it, living or dead, and begin nothing"""


class AttemptStarted(Frozen):
    session: str
    worktree: str
    base_sha: str
    adopted: bool
    """a living session of this very attempt was found and kept"""
    highest_attempt: int = 0
    """not 0: nothing was started, because attempts up to this number are known already; go on above it"""


WORK_TAKEN: Final = "its work was taken"
"""why an attempt is over whose work may be asked for again: an answer may have been lost"""


class TakeWork(Frozen):
    """Verify what `gt done` announced and put it on the remote; a refusal settles the intent."""

    rig: Rig
    bead: str
    polecat: str
    attempt: int
    intent: str = ""
    """as of `SettleIntent`; "": no `gt done` was run"""
    git: GitSettings = GitSettings()
    limits: LimitSettings = LimitSettings()


class WorkTaken(Frozen):
    accepted: bool
    head_sha: str | None = None
    branch: str = ""
    """of the remote, that has it now"""
    reason: str = ""
    """why not: uncommitted changes, no commits, wrong branch, beyond the limits"""
    unchanged: bool = False
    """not accepted, and nothing is missing either: the tree is clean and holds nothing new"""
    ended: bool = False
    """accepted, and the session is ended, since its agent had ended by itself"""
    told: bool = False
    """the Dispatcher and the Witness know that the session is ended"""


class PublishAgain(Frozen):
    """Put accepted work on the remote once more, from this host's own copy: its branch was deleted there."""

    rig: Rig
    bead: str
    polecat: str
    attempt: int
    head_sha: str
    """what was accepted; nothing else is published"""
    git: GitSettings = GitSettings()


class EndSession(Frozen):
    """Save evidence, then end the attempt's session; the session folder stays, marked as ended."""

    rig: str
    bead: str
    polecat: str
    attempt: int
    grace_s: float = 0.0
    cause: str = ""


class ReleaseWorktree(Frozen):
    """The job is over: park what is not landed, then free the worktree for the next bead."""

    rig: Rig
    bead: str
    polecat: str
    attempt: int
    landed_sha: str | None = None


class WorktreeReleased(Frozen):
    parked_ref: str | None = None
    """where unlanded work was saved on the remote"""
    kept_folder: str | None = None
    """on the host, with the files that must not leave it; None: there were none"""


class SettleIntent(Frozen):
    """A done or help intent was taken (or refused) by the job: its file goes."""

    rig: str
    bead: str
    polecat: str
    attempt: int
    intent: str
    """`done.json` or `help/<name>.json`"""
    refused: str = ""
    """non-empty: tell the agent why, in its inbox"""


class WatchRig(Frozen):
    """One round of the patrol on one host."""

    rig: str
    host: str
    interval_s: float
    """return at the latest after this long"""
    known: tuple[str, ...] = ()
    """keys of observations already passed on and not yet settled (`observation_key`)"""
    thresholds: Thresholds = Thresholds.of(HealthSettings())
    policy: str = ""
    """`recovery.policy` of the rig; "" is the built-in diagnosis"""
    carried: dict[str, HealthReport] = Field(default_factory=dict)
    """by bead: `health` of this host's last report, so that a restarted watcher goes on counting"""
    superseded: dict[str, int] = Field(default_factory=dict)
    """by bead: attempts up to this number are over"""
    checkpoint: CheckpointOrder | None = None
    """how unfinished work of the rig is saved from now on; None: as said before"""


class WatchReport(Frozen):
    """What a round saw. `observations` holds only what was not `known`.

    `present` holds the keys of every observation that can be made now, known or not: a key that
    leaves it may be forgotten.
    """

    observations: tuple[Observation, ...] = ()
    present: tuple[str, ...] = ()
    living: tuple[str, ...] = ()
    """beads whose session lives"""
    heartbeat_age_s: dict[str, float] = Field(default_factory=dict)
    """by bead"""
    progress_age_s: dict[str, float] = Field(default_factory=dict)
    """by bead"""
    health: dict[str, HealthReport] = Field(default_factory=dict)
    """by bead, of its newest open attempt"""
    thresholds: Thresholds = Thresholds.of(HealthSettings())
    """what `health` was judged by"""
    zombies: tuple[Zombie, ...] = ()
    """all that are there now; they end no round early"""
    in_time: bool = False
    """nothing new until the round's time was over"""
    forged: tuple[str, ...] = ()
    """intents that lay in a session's folder without its attempt's token, `bead/attempt/name`: nobody acts on them"""
    policy_error: str = ""
    """why the rig's own `recovery.policy` did not judge and the built-in did; worth one escalation"""


def observation_key(seen: Observation) -> str:
    """Identifies one fact: bead, attempt, kind and, where a kind may come again, which intent or episode."""
    return f"{seen.bead}/{seen.attempt}/{seen.kind}/{seen.intent or seen.episode}"
