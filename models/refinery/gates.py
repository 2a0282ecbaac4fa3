"""Gates: what is run where, what came of it, and what a merge queue remembers of it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from models.base import Frozen
from models.ledger.records import GateSpec
from models.settings import GateSettings, SandboxSettings, WorktreeSettings


class RunGates(Frozen):
    """Run gates in order at one commit, stopping at the first that does not pass."""

    rig: str
    sha: str
    gates: tuple[GateSpec, ...]
    settings: GateSettings = GateSettings()
    """the world that they run in"""
    worktree: WorktreeSettings = WorktreeSettings()
    sandbox: SandboxSettings = SandboxSettings()
    url: str = ""
    """of the rig's remote"""
    branch: str = ""
    """the rig's own target, which is the remote's default branch to the gates' git"""
    target: str = ""
    """where the commit is to land"""
    base_sha: str = ""
    """where the target stands; gates with path filters look at what changed since; "" runs every gate"""
    label: str
    """names the log folder: `<merge workflow id>/<what>`"""


class GateOutcome(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    COULD_NOT_RUN = "could_not_run"
    """exit 126/127, no such command, timed out, killed, disk full, no checkout: never merges, blames nobody"""


class GateReport(Frozen):
    """What came of running the gates at one commit."""

    outcome: GateOutcome
    gate: str | None = None
    """the gate that decided"""
    passed: tuple[str, ...] = ()
    """the gates that ran and passed"""
    skipped: tuple[str, ...] = ()
    """the gates that do not concern what changed"""
    flaked: tuple[str, ...] = ()
    """the gates that passed only when tried again"""
    exit_code: int | None = None
    reason: str = ""
    """could_not_run: timed_out, killed, not_executable, no_such_command, disk_full, checkout_failed, no_sandbox"""
    duration_s: float = 0.0
    log_path: str | None = None
    tail: str = ""
    """last lines of the log, at most 4 KB; of a checkout that failed, git's words"""
    hint: str = ""
    """what the gate's surroundings may have to do with it"""


class GatedCommit(Frozen):
    """The last word of the gates about a commit: it is not gated again, confirming runs apart."""

    sha: str
    report: GateReport
    reds: int = 0
    """runs in which it failed, before it passed if it did"""


class GateTally(Frozen):
    """What one merge has seen of a gate."""

    gate: str
    passed: int = 0
    failed: int = 0
    could_not_run: int = 0
    flaked: int = 0
    """red, then green at the same commit"""
    flakes_meant: int = 0
    """flakes that `flaked` stands for: more than those seen where only some culprits are confirmed"""
    flaked_at: str = ""
    """the commit of the last flake"""
    log_path: str | None = None
    """of the red run of the last flake"""


class GateRecord(Frozen):
    """A gate's row in the ledger of flaky gates."""

    gate: str
    passes: float = 0.0
    flakes: float = 0.0
    """these two decay: see policies.refinery.merge_rates"""
    runs: int = 0
    failures: int = 0
    flaky_runs: int = 0
    """red, then green at the same commit, ever"""
    flaked_at: str = ""
    flaked_on: datetime | None = None
    log_path: str | None = None


class ChangeCounts(Frozen):
    """Changes that gates have decided; the first two decay: see policies.refinery.merge_rates."""

    landed: float = 0.0
    failed: float = 0.0
    culprits: int = 0
    """ever blamed"""


class Seen(Frozen):
    """What a merge queue has learned, carried from merge to merge."""

    changes: ChangeCounts = ChangeCounts()
    gates: tuple[GateRecord, ...] = ()
    commits: tuple[GatedCommit, ...] = ()
    """the latest, oldest first"""
    commits_under: tuple[GateSpec, ...] = ()
    """the gates that `commits` were gated by; other gates know nothing of them"""
    commits_in: GateSettings = GateSettings()
    """the world that they were gated in; another one knows nothing of them either"""
