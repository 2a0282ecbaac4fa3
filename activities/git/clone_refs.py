"""What gates see of a remote's refs beside the target, as a plain clone has it: all tags and the default branch.

They stand in the landing clone. A tag that cannot be had keeps nothing from landing: gates go without it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from activities.git.command import GitRepo
from models import names
from models.git_errors import plain_words

TAGS: Final = "refs/tags/"
BRANCHES_SEEN: Final = "refs/gastown/branches/"
"""where the clone keeps branches that are no target of its own"""
_NAMED: Final = 200
"""more new refs than this are fetched by pattern: a command line has an end"""

_log = logging.getLogger(__name__)


def watched_refs(branch: str) -> list[str]:
    """What to ask a remote for, whose default branch is `branch`: see `command.ls_remote_under`."""
    return [TAGS, f"refs/heads/{names.valid_branch(branch)}"]


def locks(clone: Path) -> Iterator[Path]:
    """Lock files that a fetch of ours leaves in the clone when it is killed."""
    yield from (clone / TAGS).rglob("*.lock")
    yield from (clone / BRANCHES_SEEN).rglob("*.lock")


def bring_refs(repo: GitRepo, url: str, branch: str, on_remote: Mapping[str, str]) -> None:
    """Make the clone's tags and default branch those of the remote; only what is new is fetched.

    Callers hold the clone's lock.

    Args:
        on_remote: what the remote has of `watched_refs`, by full name.
    """
    wanted = {ref: sha for ref, sha in on_remote.items() if ref.startswith(TAGS) and not ref.endswith("^{}")}
    if default := on_remote.get(f"refs/heads/{branch}"):
        wanted[f"{BRANCHES_SEEN}{branch}"] = default
    known = _known(repo)
    for ref in known.keys() - wanted.keys():
        repo.attempt("update-ref", "-d", ref)
    here = f"{BRANCHES_SEEN}{branch}"
    # As a rule it is the target, which was fetched just now.
    if default and known.get(here) != default and repo.attempt("update-ref", here, default).exit_code == 0:
        known[here] = default
    new = [ref for ref, sha in wanted.items() if known.get(ref) != sha]
    if not new:
        return
    refspecs = [f"+{_remote_name(ref)}:{ref}" for ref in new]
    if len(new) > _NAMED:
        refspecs = [f"+{TAGS}*:{TAGS}*", *(spec for spec in refspecs if spec.endswith(f":{BRANCHES_SEEN}{branch}"))]
    answer = repo.try_fetch(url, refspecs)
    if answer.exit_code != 0:
        _log.warning("gates go without some tags of %s: %s", url, plain_words(answer.stderr))
    if len(new) > _NAMED:
        # Thousands of files to be read for each gate otherwise.
        repo.attempt("pack-refs", "--all")


def _known(repo: GitRepo) -> dict[str, str]:
    listed = repo.run("for-each-ref", "--format=%(objectname) %(refname)", TAGS, BRANCHES_SEEN).text
    return {ref: sha for sha, _, ref in (line.partition(" ") for line in listed.splitlines())}


def _remote_name(ref: str) -> str:
    return f"refs/heads/{ref.removeprefix(BRANCHES_SEEN)}" if ref.startswith(BRANCHES_SEEN) else ref
