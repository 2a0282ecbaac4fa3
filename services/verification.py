"""What git and Temporal say, for `bd verify`."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError

from models import names
from models.errors import ErrorCode, GtError
from models.git_errors import classify, plain_words
from models.merging import QueueStatus
from models.records import MergeRequest, Rig
from models.town import TownPaths
from models.verification import BranchFacts, RemoteFacts, TemporalFacts

FETCH_S = 120.0
ANSWER_S = 5.0
_PLACE = "refs/verify/"
_FORMAT = "%H%x09%(trailers:key=Bead,valueonly,separator=%x20)%x09%(trailers:key=Change,valueonly,separator=%x20)"


def remote_facts(paths: TownPaths, rig: Rig, targets: Iterable[str] = ()) -> RemoteFacts:
    """What a rig's remote has on its branch. Reads into a scratch repository; the rig's own clones are left alone.

    Args:
        targets: other branches that beads of the rig name.

    Raises:
        GtError: REMOTE_UNREACHABLE and what else git may say; PROGRAM_MISSING without git.
    """
    with tempfile.TemporaryDirectory(prefix="gt-verify-") as folder:
        scratch = Path(folder)
        _git(scratch, rig, "init", "-q", "--bare", "--template=", ".")
        land = paths.clone(rig.name) / "objects"
        if land.is_dir():
            # What the Refinery has fetched already need not come over the network again.
            (scratch / "objects" / "info").mkdir(exist_ok=True)
            (scratch / "objects" / "info" / "alternates").write_text(f"{land}\n", encoding="utf-8")
        there = _there(scratch, rig, sorted(set(targets) - {rig.branch}))
        wanted = [f"+refs/heads/{branch}:{_PLACE}{branch}" for branch in (names.valid_branch(rig.branch), *there)]
        _git(scratch, rig, "fetch", "-q", "--no-tags", "--", names.valid_remote(rig.url), *wanted)
        facts = {
            branch: _facts(branch, _git(scratch, rig, "log", f"--format={_FORMAT}", f"{_PLACE}{branch}", "--"))
            for branch in (rig.branch, *there)
        }
    own = facts.pop(rig.branch)
    return RemoteFacts(**dict(own), others=facts)


def _there(scratch: Path, rig: Rig, branches: Sequence[str]) -> list[str]:
    """Those of `branches` that the remote has."""
    if not branches:
        return []
    refs = {f"refs/heads/{names.valid_branch(branch)}": branch for branch in branches}
    listed = _git(scratch, rig, "ls-remote", "--quiet", "--", names.valid_remote(rig.url), *refs)
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


def _facts(target: str, log: str) -> BranchFacts:
    shas: set[str] = set()
    landed: dict[str, list[str]] = defaultdict(list)
    for line in log.splitlines():
        sha, beads, changes = line.split("\t")
        shas.add(sha)
        for bead in beads.split() if changes else ():
            landed[bead].append(sha)
    return BranchFacts(
        target=target, shas=frozenset(shas), landed={bead: tuple(found) for bead, found in landed.items()}
    )


def _git(folder: Path, rig: Rig, *argv: str) -> str:
    environment = {
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
        **{key: value for key, value in os.environ.items() if not key.startswith("GIT_")},
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_DIR": str(folder),
        "LC_ALL": "C",
    }
    try:
        done = subprocess.run(
            ["git", "-c", "protocol.ext.allow=never", *argv],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=FETCH_S,
            check=False,
        )
    except FileNotFoundError:
        raise GtError(ErrorCode.PROGRAM_MISSING, "git is not installed", "install git") from None
    except subprocess.TimeoutExpired:
        raise GtError(ErrorCode.REMOTE_UNREACHABLE, f"{rig.url} did not answer within {FETCH_S:.0f} s") from None
    words = done.stderr.decode("utf-8", "replace")
    if done.returncode != 0:
        raise GtError(classify(words, done.returncode), f"{rig.url}: {plain_words(words) or f'git {argv[0]} failed'}")
    return done.stdout.decode("utf-8", "replace")
