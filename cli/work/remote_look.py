"""What `gt rig add` finds out about a remote, so that what cannot work is said before an agent has worked for it."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cli.frame import output
from cli.work.remote import environment, listed
from models.errors import ErrorCode, GtError
from models.git_errors import classify, plain_words

if TYPE_CHECKING:
    from models.remotes import RemoteFound

PUSH_S = 20.0
"""for the dry run of a push: one more conversation with the remote"""
TREE_S = 3.0
"""for the names of the tip's files; a repository that takes longer is not looked into"""
SHA256_LENGTH = 64
MEGABYTE = 1_000_000
_UPDATES = frozenset({"updateinstead", "warn", "ignore", "false"})
"""receive.denyCurrentBranch: what takes a push to a checked-out branch"""
_LFS = re.compile(rb"filter=lfs\b")
_ANY_FOLDER = ("-c", "safe.directory=*", "-c", "safe.bareRepository=all")
"""A person's rules for what git finds by itself, not for folders that are named."""
_IDENTITY = {f"GIT_{who}_{what}": "gastown" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def look(url: str, target: str) -> RemoteFound:
    """Look at the remote of a rig whose work shall land on `target`.

    Raises:
        GtError: REFUSED where nothing could ever land: a checked-out branch, a shallow clone, SHA-256 objects, no
            right to push; REMOTE_UNREACHABLE, PROGRAM_MISSING.
    """
    from models.remotes import RemoteFound

    head, branches = listed(url)
    if len(branches[target]) == SHA256_LENGTH:
        raise GtError(
            ErrorCode.REFUSED,
            f"the objects of {url} are SHA-256: only SHA-1 repositories are supported",
            "see docs/repositories.md",
        )
    local = _folder(url)
    found = RemoteFound(default_branch=head, branches=len(branches), lfs_installed=shutil.which("git-lfs") is not None)
    if local is not None:
        found = found.model_copy(update=_of_this_machine(local, url, target))
    with tempfile.TemporaryDirectory(prefix="gt-look-") as scratch:
        _git("init", "--quiet", "--bare", "--object-format=sha1", "--template=", scratch)
        _try_push(scratch, url)
        tree = _tree(scratch, url, branches[target], local)
    return found.model_copy(update={"push": True, **tree})


def say(name: str, target: str, found: RemoteFound) -> None:
    """Tell a person what was found, and warn of what needs something."""
    seen = [
        f"push allowed (dry run), {'bare' if found.bare else 'remote'}, {found.object_format}",
        f"default branch {found.default_branch}" if found.default_branch else "HEAD names no branch",
        f"{found.files} {'file' if found.files == 1 else 'files'}" if found.files is not None else "",
        f"{found.disk_bytes / MEGABYTE:.1f} MB of history" if found.disk_bytes is not None else "",
        f"submodules: {', '.join(found.submodules[:5])}" if found.submodules else "",
        "uses Git LFS" if found.lfs else "",
        f"commits as {found.commits_as} (git.author, git.committer)" if found.commits_as else "",
    ]
    output.say(f"{name}: found {'; '.join(part for part in seen if part)}")
    if found.default_branch not in {None, target}:
        output.say(f"{name}: lands on {target}, not on the default branch {found.default_branch}")
    if target in found.checked_out:
        output.warn(
            f"{name}: {target} is checked out there; each landing changes those files under whoever works there"
        )
    if found.force_push is False:
        output.say(f"{name}: the remote takes no push that rewrites a branch; none is needed")
    if found.lfs and not found.lfs_installed:
        output.warn(f"{name} uses Git LFS and git-lfs is not installed here: its work will be refused; install git-lfs")


def _folder(url: str) -> Path | None:
    """The repository's folder, where the remote is one of this machine."""
    path = Path(url.removeprefix("file://"))
    return path if path.is_absolute() and path.is_dir() else None


def _of_this_machine(folder: Path, url: str, target: str) -> dict[str, object]:
    """Bare or a checkout, what it forbids, how large it is."""
    kind = _asked(folder, "rev-parse", "--is-bare-repository", "--is-shallow-repository").split()
    if kind[1:] == ["true"]:
        raise GtError(
            ErrorCode.REFUSED,
            f"{url} is a shallow clone: git fetches no branch from one that lacks its history",
            f"git -C {folder} fetch --unshallow, or give the repository that it was cloned from",
        )
    bare = kind[:1] == ["true"]
    shown = "" if bare else _asked(folder, "worktree", "list", "--porcelain")
    branches = tuple(re.findall(r"^branch refs/heads/(.+)$", shown, re.MULTILINE))
    takes = _asked(folder, "config", "receive.denyCurrentBranch").lower() in _UPDATES
    if target in branches and not takes:
        raise GtError(
            ErrorCode.REFUSED,
            f"{url} is somebody's working copy with {target} checked out: git refuses every push to that branch, "
            "so nothing could land",
            f"git clone --bare {url} {str(folder).rstrip('/').removesuffix('/.git')}.git, and give that; "
            "or --branch with one that is not checked out",
        )
    rewrites = _asked(folder, "config", "--type=bool", "receive.denyNonFastForwards") != "true"
    counted = dict(line.split(": ", 1) for line in _asked(folder, "count-objects", "-v").splitlines() if ": " in line)
    kilobytes = sum(int(counted.get(part, "0")) for part in ("size", "size-pack"))
    return {"bare": bare, "checked_out": branches, "force_push": rewrites, "disk_bytes": kilobytes * 1024}


def _asked(folder: Path, *arguments: str) -> str:
    """The answer of the repository itself; "" for none."""
    return _git("-C", str(folder), *arguments, must=False).decode("utf-8", "replace").strip()


def _try_push(scratch: str, url: str) -> None:
    """Push a new branch as a dry run: the remote lets this person in, or says why not."""
    tree = _git("-C", scratch, "mktree").decode().strip()
    commit = _git("-C", scratch, "commit-tree", tree, "-m", "a look").decode().strip()
    place = f"{commit}:refs/heads/gastown-look-{commit[:8]}"
    argv = ["git", *_ANY_FOLDER, "-C", scratch, "push", "--dry-run", "--no-verify", "--quiet", "--", url, place]
    try:
        done = subprocess.run(
            argv, env=environment(), cwd="/", stdin=subprocess.DEVNULL, capture_output=True, timeout=PUSH_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise GtError(ErrorCode.REMOTE_UNREACHABLE, f"{url} did not answer a push within {PUSH_S:.0f} s") from None
    if done.returncode != 0:
        words = done.stderr.decode("utf-8", "replace")
        code = classify(words, done.returncode)
        if code is not ErrorCode.REMOTE_UNREACHABLE:
            code = ErrorCode.REFUSED
        raise GtError(
            code,
            f"{url} takes no push of yours, so nothing could land: {plain_words(words)}",
            f"see it work first: git push --dry-run {url} HEAD:refs/heads/try",
        )


def _tree(scratch: str, url: str, tip: str, local: Path | None) -> dict[str, object]:
    """What the tip's files tell; nothing where that takes too long."""
    repository = scratch
    try:
        if local is not None:
            repository = str(local)
        else:
            options = ("--quiet", "--depth=1", "--filter=blob:none", "--no-tags")
            _git("-C", scratch, "remote", "add", "origin", url)
            _git("-C", scratch, "fetch", *options, "origin", tip, timeout_s=TREE_S)
        rows = list(_rows(_git("-C", repository, "ls-tree", "-r", "-z", tip, timeout_s=TREE_S)))
        attributes = [sha for _, sha, path in rows if path.rpartition("/")[2] == ".gitattributes"]
        read = attributes if local is not None else attributes[:1]
        lfs = any(_LFS.search(_git("-C", repository, "cat-file", "blob", sha, timeout_s=TREE_S)) for sha in read)
    except (subprocess.TimeoutExpired, GtError):
        return {}
    return {"files": len(rows), "submodules": tuple(path for mode, _, path in rows if mode == "160000"), "lfs": lfs}


def _rows(listing: bytes) -> Iterator[tuple[str, str, str]]:
    """(mode, object, path) of each entry."""
    for row in listing.decode("utf-8", "replace").split("\0"):
        facts, tab, path = row.partition("\t")
        if tab:
            mode, _, sha = facts.split(" ")
            yield mode, sha, path


def _git(*arguments: str, must: bool = True, timeout_s: float = PUSH_S) -> bytes:
    argv = ["git", "-c", "protocol.ext.allow=never", *_ANY_FOLDER, *arguments]
    given = {**environment(), **_IDENTITY}
    done = subprocess.run(argv, env=given, cwd="/", input=b"", capture_output=True, timeout=timeout_s, check=False)
    if must and done.returncode != 0:
        words = done.stderr.decode("utf-8", "replace")
        raise GtError(classify(words, done.returncode), plain_words(words) or f"git {arguments[0]} failed")
    return done.stdout
