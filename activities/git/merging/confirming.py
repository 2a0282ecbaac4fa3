"""Whether a target's history bears out a verdict that a change is merged."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator

from activities.git.command import ABSENT, REMOTE_TIMEOUT_S, GitRepo, init_bare, remote_failure
from activities.git.merging.chain import ChainBuilder
from activities.git.merging.styles import Hand
from activities.git.merging.target_history import TargetHistory
from activities.git.merging.trees import TreeMerger
from models import names
from models.refinery.messages import ConfirmLanded, DropKind
from models.settings import MergeStyle
from policies.refinery.merge_message import BEAD_TRAILER, CHANGE_TRAILER, lands
from services.git_config import COMMITS_ALONE
from services.locks import exclusive


def doubt(repo: GitRepo, request: ConfirmLanded, tip: str, history: TargetHistory) -> str:
    """What the target, which stands at `tip`, has instead of what the verdict says; "" where it bears it out.

    Args:
        repo: has `tip`, and its history as far as the clone goes.
        history: of the target.

    Raises:
        GtError: REMOTE_UNREACHABLE, DISK_FULL, GIT_FAILED.
    """
    change, verdict, url = request.change, request.verdict, request.rig.url
    where = f"{change.target} on the remote stands at {tip}"
    message = _message_in(repo, url, verdict.merged_sha, tip)
    if message is None:
        return f"{where} and does not hold that commit"
    if verdict.already_there:
        base = verdict.base_sha
        if base is None or _message_in(repo, url, base, tip) is None:
            return f"{where} and does not hold {base or 'a commit'}, to which the change would add nothing"
        return "" if _adds_nothing(repo, request, base, history) else f"{where}, and the change adds to {base}"
    if not lands(message, change.bead, change.head_sha):
        ours = f"{BEAD_TRAILER}: {change.bead} and {CHANGE_TRAILER}: {change.head_sha}"
        return f"{where} and holds that commit, which does not carry {ours}"
    return ""


def _message_in(repo: GitRepo, url: str, sha: str | None, tip: str) -> str | None:
    """The message of a commit in the history of `tip`; None where it is not there."""
    if sha is None or not names.OBJECT_NAME.fullmatch(sha):
        return None
    if sha == tip or repo.is_ancestor(sha, tip):
        return _message(repo, sha)
    if not (repo.git_dir / "shallow").exists():
        return None
    with _whole_history(repo, url, tip) as whole:
        return _message(whole, sha) if whole.is_ancestor(sha, tip) else None


def _message(repo: GitRepo, sha: str) -> str:
    return repo.run("log", "-1", "--format=%B", sha, "--").text


@contextlib.contextmanager
def _whole_history(repo: GitRepo, url: str, tip: str) -> Iterator[GitRepo]:
    """All commits up to `tip`, where the clone has only the latest: fetched aside, and without contents."""
    folder = repo.git_dir.with_name(f".{repo.git_dir.name}.history")
    with exclusive(folder.with_name(f"{folder.name}.lock")):
        shutil.rmtree(folder, ignore_errors=True)
        try:
            init_bare(folder)
            whole = GitRepo(folder)
            # Only a remote with a name can be one that keeps the contents.
            whole.run("config", "remote.origin.url", names.valid_remote(url))
            answer = whole.attempt("fetch", *COMMITS_ALONE, "origin", tip, timeout_s=REMOTE_TIMEOUT_S)
            if answer.exit_code != 0:
                raise remote_failure(answer, "fetching")
            yield whole
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _adds_nothing(repo: GitRepo, request: ConfirmLanded, base: str, history: TargetHistory) -> bool:
    """Whether a chain on `base` leaves the change out because its content is there."""
    change = request.change
    if repo.resolve(change.head_sha) is None:
        answer = repo.try_fetch(request.rig.url, [change.head_sha])
        if answer.exit_code != 0:
            if ABSENT not in answer.stderr:
                raise remote_failure(answer, "fetching")
            return False
    forks = history.forks([change], base, history.removed(base, [change]))
    with TreeMerger(repo) as merger:
        hand = Hand(repo, merger, MergeStyle.SQUASH, "")
        builder = ChainBuilder(repo, base, {}, hand, [change.head_sha], forks)
        builder.add(change, here=True)
    return any(drop.kind in {DropKind.EMPTY, DropKind.LANDED} for drop in builder.dropped)
