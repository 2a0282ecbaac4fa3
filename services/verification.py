"""What git and Temporal say, held against the ledger: for `bd verify` and for the town's own look."""

from __future__ import annotations

import asyncio
import functools
import os
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError

from ledger.store import Ledger
from ledger.verify_rules import disagreements, troubles
from models import names
from models.errors import ErrorCode, GtError
from models.git_errors import classify, plain_words
from models.ledger.records import MergeRequest, Rig
from models.refinery.messages import QueueStatus
from models.secret_variables import UNASKING_SSH, bends_git, needless_for_git
from models.town import TownPaths
from models.upkeep.verification import (
    BranchFacts,
    LandingFact,
    Problem,
    ProblemKind,
    RemoteFacts,
    TemporalFacts,
)
from services.git_config import COMMITS_ALONE, fixed_environment

FETCH_S = 120.0
ANSWER_S = 5.0
_PLACE = "refs/verify/"
_FORMAT = "%H%x09%ct" + "".join(
    f"%x09%(trailers:key={key},valueonly,unfold,separator=%x20)" for key in ("Bead", "Change")
)

T = TypeVar("T")


class Compared(NamedTuple):
    """One comparison."""

    problems: list[Problem]
    unread: dict[str, str]
    """what could not be asked (a rig's name; TEMPORAL), and why"""
    moving: bool
    """work was under way: a difference may be over by itself"""
    ledger_unread: bool = False
    """the ledger is damaged, or not as this program expects: only that was looked at"""


TEMPORAL: Final = "Temporal"


def compare(paths: TownPaths, ledger: Ledger, ask_temporal: Callable[[list[Rig]], TemporalFacts]) -> Compared:
    """Hold Dolt, git and Temporal side by side.

    Raises:
        GtError: LEDGER_UNREACHABLE, LEDGER_DAMAGED.
    """
    store = troubles(ledger.store_facts())
    if any(problem.kind in {ProblemKind.DAMAGED_FILE, ProblemKind.SCHEMA_DRIFT} for problem in store):
        return Compared(store, {}, moving=False, ledger_unread=True)
    unread: dict[str, str] = {}

    def asked(what: str, ask: Callable[[], T]) -> T | None:
        try:
            return ask()
        except GtError as error:
            unread[what] = error.message
            return None

    rigs = ledger.rigs()
    temporal = asked(TEMPORAL, lambda: ask_temporal(rigs))
    # Before git: what the record has closed by now is on the target that is read afterwards.
    record = ledger.record_facts()
    remotes: dict[str, RemoteFacts] = {}
    for rig in rigs:
        own = [bead for bead in record.beads.values() if bead.rig == rig.name]
        targets = {bead.target for bead in own if bead.target}
        merged = {bead.merged_sha for bead in own if bead.merged_sha}
        facts = asked(rig.name, functools.partial(remote_facts, paths, rig, targets, merged))
        if facts is not None:
            remotes[rig.name] = facts
    unfinished = any(not job.state.final for job in record.jobs.values())
    moving = unfinished or (temporal is not None and bool(temporal.jobs))
    return Compared(store + disagreements(record, remotes, temporal), unread, moving)


class Scratch(NamedTuple):
    """A repository to read a rig's remote into."""

    folder: Path
    rig: Rig
    config: Path
    """the user's git configuration of the town's own commands"""


def remote_facts(paths: TownPaths, rig: Rig, targets: Iterable[str] = (), commits: Iterable[str] = ()) -> RemoteFacts:
    """What a rig's remote has on its branch. Reads into a scratch repository; the rig's own clones are left alone.

    Args:
        targets: other branches that beads of the rig name.
        commits: of which it is asked whether they are there.

    Raises:
        GtError: REMOTE_UNREACHABLE and what else git may say; PROGRAM_MISSING without git.
    """
    with tempfile.TemporaryDirectory(prefix="gt-verify-") as folder:
        scratch = Scratch(Path(folder), rig, paths.git_config)
        _git(scratch, "init", "-q", "--bare", "--template=", ".")
        clone = paths.clone(rig.name)
        if (clone / "objects").is_dir() and not (clone / "shallow").exists():
            # What the Refinery has fetched already need not come over the network again.
            (scratch.folder / "objects" / "info").mkdir(exist_ok=True)
            (scratch.folder / "objects" / "info" / "alternates").write_text(f"{clone / 'objects'}\n", encoding="utf-8")
        there = _there(scratch, sorted(set(targets) - {rig.branch}))
        wanted = [f"+refs/heads/{branch}:{_PLACE}{branch}" for branch in (names.valid_branch(rig.branch), *there)]
        _fetch_commits(scratch, wanted)
        asked = {sha for sha in commits if names.OBJECT_NAME.fullmatch(sha)}
        facts = {branch: _facts(scratch, branch, asked) for branch in (rig.branch, *there)}
    own = facts.pop(rig.branch)
    return RemoteFacts(**dict(own), others=facts)


def _fetch_commits(scratch: Scratch, wanted: Sequence[str]) -> None:
    """Fetch history without contents; a remote that knows no filters gives all of it."""
    config = scratch.folder / "config"
    plain = config.read_text(encoding="utf-8")
    _git(scratch, "config", "remote.origin.url", names.valid_remote(scratch.rig.url))
    _git(scratch, "fetch", *COMMITS_ALONE, "origin", *wanted)
    # What is missing from here on is missing, and is not asked for object by object.
    config.write_text(plain, encoding="utf-8")


def _there(scratch: Scratch, branches: Sequence[str]) -> list[str]:
    """Those of `branches` that the remote has."""
    if not branches:
        return []
    refs = {f"refs/heads/{names.valid_branch(branch)}": branch for branch in branches}
    listed = _git(scratch, "ls-remote", "--quiet", "--", names.valid_remote(scratch.rig.url), *refs)
    found = {line.partition("\t")[2] for line in listed.splitlines()}
    return [branch for ref, branch in refs.items() if ref in found]


async def temporal_facts(client: Client, rigs: Iterable[str]) -> TemporalFacts:
    """Which jobs run, and what waits in the rigs' Refineries.

    Raises:
        GtError: TEMPORAL_UNREACHABLE.
    """
    jobs: set[tuple[str, str]] = set()
    query = f"WorkflowType = '{names.WorkflowType.POLECAT}' AND ExecutionStatus = 'Running'"
    try:
        async for found in client.list_workflows(query):
            _, _, address = found.id.partition("/")
            rig, _, bead = address.rpartition("/")
            jobs.add((rig, bead))
    except RPCError as error:
        raise GtError(ErrorCode.TEMPORAL_UNREACHABLE, f"Temporal: {error.message}", "gt up") from error
    queues = {rig: await _queue(client, rig) for rig in rigs}
    return TemporalFacts(
        jobs=frozenset(jobs), queues={rig: queue for rig, queue in queues.items() if queue is not None}
    )


async def is_running(client: Client, rig: str, bead: str) -> bool:
    """Whether a job runs, asked of the workflow itself: visibility lags behind."""
    try:
        described = await client.get_workflow_handle(names.polecat_id(rig, bead)).describe()
    except RPCError:
        return False
    return described.status is WorkflowExecutionStatus.RUNNING


async def submit_again(client: Client, request: MergeRequest) -> None:
    """Tell the Refinery of a merge request that it lacks; one that it has is the same request.

    Raises:
        GtError: TEMPORAL_UNREACHABLE, or NOT_FOUND where no Refinery runs.
    """
    try:
        await client.get_workflow_handle(names.refinery_id(request.rig)).signal("submit", request)
    except RPCError as error:
        raise GtError(
            ErrorCode.NOT_FOUND, f"the Refinery of {request.rig} does not run", f"gt refinery start --rig {request.rig}"
        ) from error


async def _queue(client: Client, rig: str) -> tuple[str, ...] | None:
    """Ids of what a Refinery has; None where it does not answer, or may well lack what waits in the ledger."""
    handle = client.get_workflow_handle(names.refinery_id(rig))
    try:
        status = await asyncio.wait_for(handle.query("queue", result_type=QueueStatus), ANSWER_S)
    except (RPCError, TimeoutError):
        return None
    return None if status.more_in_ledger else tuple(item.id for item in status.items)


def _facts(scratch: Scratch, target: str, asked: set[str]) -> BranchFacts:
    landings: dict[str, LandingFact] = {}
    landed: dict[str, list[str]] = defaultdict(list)
    log = _git(scratch, "log", "--grep=^Bead: ", f"--format={_FORMAT}", f"{_PLACE}{target}", "--")
    for line in log.splitlines():
        sha, at, beads, changes = line.split("\t", 3)
        for bead in beads.split() if changes.split() else ():
            landed[bead].append(sha)
            landings[sha] = LandingFact(change=changes.split()[-1], at=datetime.fromtimestamp(int(at), UTC))
    return BranchFacts(
        target=target,
        shas=frozenset(landings) | _held(scratch, f"{_PLACE}{target}", sorted(asked - landings.keys())),
        landed={bead: tuple(found) for bead, found in landed.items()},
        landings=landings,
    )


def _held(scratch: Scratch, ref: str, asked: Sequence[str]) -> frozenset[str]:
    """Those of `asked` that are in the history of `ref`."""
    if not asked:
        return frozenset()
    known = _git(scratch, "cat-file", "--batch-check=%(objecttype) %(objectname)", given="\n".join(asked))
    commits = [line.partition(" ")[2] for line in known.splitlines() if line.startswith("commit ")]
    outside = _git(scratch, "rev-list", "--stdin", given="\n".join([*commits, f"^{ref}"])) if commits else ""
    return frozenset(commits) - frozenset(outside.split())


def _git(scratch: Scratch, *argv: str, given: str = "") -> str:
    environment = {
        **UNASKING_SSH,
        **{key: value for key, value in os.environ.items() if not (bends_git(key) or needless_for_git(key))},
        **fixed_environment(scratch.config),
        "GIT_DIR": str(scratch.folder),
        "LC_ALL": "C",
    }
    try:
        done = subprocess.run(
            ["git", *argv],
            cwd=scratch.folder,
            env=environment,
            input=given.encode(),
            capture_output=True,
            timeout=FETCH_S,
            check=False,
        )
    except FileNotFoundError:
        raise GtError(ErrorCode.PROGRAM_MISSING, "git is not installed", "install git") from None
    except subprocess.TimeoutExpired:
        raise GtError(
            ErrorCode.REMOTE_UNREACHABLE, f"{scratch.rig.url} did not answer within {FETCH_S:.0f} s"
        ) from None
    words = done.stderr.decode("utf-8", "replace")
    if done.returncode != 0:
        raise GtError(
            classify(words, done.returncode), f"{scratch.rig.url}: {plain_words(words) or f'git {argv[0]} failed'}"
        )
    return done.stdout.decode("utf-8", "replace")
