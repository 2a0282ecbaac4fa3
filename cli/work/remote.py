"""A look at a git remote before a rig is made of it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from models import names
from models.errors import ErrorCode, GtError
from models.secret_variables import UNASKING_SSH, bends_git

LOOK_S = 30.0
_SCP_LIKE = re.compile(r"[^/\s]+:")
"""`host:path`, as ssh remotes are written: a colon before the first slash"""


def absolute(url: str) -> str:
    """A remote that means the same from every directory: a relative path becomes absolute.

    Raises:
        GtError: INVALID_VALUE for what no rig may have as its remote.
    """
    names.valid_remote(url)
    if "://" in url or (_SCP_LIKE.match(url) and not Path(url).exists()):
        return url
    return names.valid_remote(str(Path(url).expanduser().resolve()))


def expanded(url: str) -> str:
    """The address that a person's `url.<base>.insteadOf` makes of `url`: the town's own git reads no such setting.

    Raises:
        GtError: INVALID_VALUE for what no rig may have as its remote.
    """
    import subprocess

    argv = ["git", "ls-remote", "--get-url", "--", url]
    try:
        done = subprocess.run(
            argv, env=environment(), cwd="/", stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except FileNotFoundError:
        raise GtError(ErrorCode.PROGRAM_MISSING, "git is not installed", "install git") from None
    found = done.stdout.decode("utf-8", "replace").strip()
    return names.valid_remote(found) if done.returncode == 0 and found else url


def target_branch(url: str, branch: str | None) -> str:
    """The branch where work lands: `branch` when the remote has it, else what its HEAD names.

    Raises:
        GtError: REMOTE_UNREACHABLE, REMOTE_REFUSED, NOT_A_REPOSITORY, NO_SUCH_BRANCH, REFUSED for
            an empty repository, PROGRAM_MISSING without git.
    """
    head, branches = listed(url)
    if not branches:
        raise GtError(ErrorCode.REFUSED, f"{url} has no commits", "push a first commit to it: git push origin main")
    shown = " ".join(sorted(branches)[:8])
    if branch is not None:
        if branch not in branches:
            raise GtError(ErrorCode.NO_SUCH_BRANCH, f"{url} has no branch {branch!r}", f"its branches: {shown}")
        return branch
    if head is None or head not in branches:
        raise GtError(
            ErrorCode.NO_SUCH_BRANCH, f"the HEAD of {url} names no branch that exists", f"--branch B, out of: {shown}"
        )
    return names.valid_branch(head)


def listed(url: str) -> tuple[str | None, dict[str, str]]:
    """(branch that HEAD names, commits of all branches) of a remote."""
    listing = _ls_remote(url)
    head = None
    branches = {}
    for line in listing.splitlines():
        what, _, ref = line.partition("\t")
        if what.startswith("ref: refs/heads/") and ref == "HEAD":
            head = what.removeprefix("ref: refs/heads/")
        elif ref.startswith("refs/heads/"):
            branches[ref.removeprefix("refs/heads/")] = what
    return head, branches


def _ls_remote(url: str) -> str:
    import subprocess

    from models.git_errors import classify, plain_words

    argv = ["git", "-c", "protocol.ext.allow=never", "ls-remote", "--symref", "--", url, "HEAD", "refs/heads/*"]
    try:
        done = subprocess.run(
            argv, env=environment(), cwd="/", stdin=subprocess.DEVNULL, capture_output=True, timeout=LOOK_S, check=False
        )
    except FileNotFoundError:
        raise GtError(ErrorCode.PROGRAM_MISSING, "git is not installed", "install git") from None
    except subprocess.TimeoutExpired:
        raise GtError(ErrorCode.REMOTE_UNREACHABLE, f"{url} did not answer within {LOOK_S:.0f} s") from None
    words = done.stderr.decode("utf-8", "replace")
    if done.returncode != 0:
        reason = plain_words(words) or "git ls-remote failed"
        raise GtError(classify(words, done.returncode), f"{url}: {reason}", f"see it answer first: git ls-remote {url}")
    return done.stdout.decode("utf-8", "replace")


def environment() -> dict[str, str]:
    """The caller's, but git must not ask on the terminal, speak another language or work on the caller's repository."""
    kept = {key: value for key, value in os.environ.items() if key.startswith("GIT_CONFIG") or not bends_git(key)}
    return {**UNASKING_SSH, **kept, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
