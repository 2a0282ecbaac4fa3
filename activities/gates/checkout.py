"""A gate's work tree: the candidate's files, clean, with a repository of its own around them.

It hangs on no clone of ours. Gates run code of the change, and a worktree of land.git would let a
plain `git config` in it reach the repository that lands; here git finds the history read-only, and
refs as a plain clone has them: the target, the remote's default branch and all tags.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from activities.git.clone_refs import BRANCHES_SEEN, TAGS
from activities.git.command import REMOTE_TIMEOUT_S, GitRepo, failure
from activities.git.lfs import LfsCheckout, as_options, repository_config
from activities.git.limits import refuse_growth
from activities.git.stale_locks import clear_stale_locks
from activities.git.submodules import SubmoduleCheckout, gitlinks
from activities.git.trees import discard, remove_tree
from agents.session_folder import read_json, write_json
from models import names
from models.errors import ErrorCode, GtError
from services.git_config import config_text

AS_THE_TREE_SAYS: Final = (
    ("core.autocrlf", "false"),
    ("core.eol", "lf"),
    ("core.symlinks", "true"),
    ("core.attributesFile", "/dev/null"),
)
"""What a person has set for their own work would change the files: a script with CRLF does not run."""
NO_PUSH: Final = "/dev/null/gates-do-not-push"


@dataclass(frozen=True)
class GateCheckout:
    """What a gate's work tree is to hold.

    Attributes:
        land_clone: has the commits and refs; nothing is written to it.
        trash: where what cannot be deleted is put.
        url: of the rig's remote.
        branch: the remote's default branch.
        target: the branch that the candidate is to land on.
        target_sha: where that branch stands; "" where it does not matter.
        kept: folders whose untracked content stays as earlier runs left it.
        submodules: None checks none out.
    """

    land_clone: Path
    runner: Path
    trash: Path
    sha: str
    lfs: LfsCheckout
    submodules: SubmoduleCheckout | None
    url: str = ""
    branch: str = ""
    target: str = ""
    target_sha: str = ""
    kept: tuple[str, ...] = ()

    @property
    def git_dir(self) -> Path:
        return self.runner / ".git"

    @property
    def index(self) -> Path:
        """Remembers which files are unchanged; the gate gets a copy that it may spoil."""
        return self.runner.with_name(f"{self.runner.name}.index")


def check_out(order: GateCheckout) -> None:
    """Make the runner's folder hold exactly the files of the commit, detached.

    Raises:
        GtError: NOT_FOUND where this host does not have the commit; DISK_FULL; GIT_FAILED, INVALID_VALUE, REFUSED,
            REMOTE_UNREACHABLE, PROGRAM_MISSING where the tree cannot be checked out.
    """
    land = GitRepo(order.land_clone)
    if not order.land_clone.exists() or land.resolve(order.sha) != order.sha:
        raise GtError(ErrorCode.NOT_FOUND, f"this host has no commit {order.sha}: the chain has to be built again")
    before = _checked_out_before(order, land)
    refuse_growth(land, order.sha, before)
    uses_lfs = order.lfs.wanted(land, order.sha)
    options = [*as_options(AS_THE_TREE_SAYS), *order.lfs.options(land, order.sha, order.url)]
    try:
        _forget_stale_index(order, land, options, before)
        try:
            _fill(order, options)
        except (GtError, OSError) as error:
            if isinstance(error, GtError) and error.code is ErrorCode.DISK_FULL:
                raise
            # Something that an earlier gate left is in the way.
            _start_over(order)
            _fill(order, options)
    except BaseException:
        # What is half there would be in the next candidate's way.
        order.index.unlink(missing_ok=True)
        discard(order.runner, order.trash)
        raise
    # Neither git's index nor the files that it tells of are synced.
    write_json(_note(order), {"sha": order.sha, "options": _digest(options)}, synced=False)
    _finish(order, land, uses_lfs=uses_lfs)


def _fill(order: GateCheckout, options: Sequence[str]) -> None:
    discard(order.git_dir, order.trash)
    order.runner.mkdir(parents=True, exist_ok=True)
    _make_git_dir(order)
    clear_stale_locks([order.index.with_name(f"{order.index.name}.lock")], [order.runner])
    files = GitRepo(order.git_dir, order.runner, {"GIT_INDEX_FILE": str(order.index)})
    answer = files.attempt(*options, "read-tree", "--reset", "-u", order.sha, timeout_s=REMOTE_TIMEOUT_S)
    if answer.exit_code != 0:
        raise failure(answer, "checking out")
    clean = ("clean", "--quiet", "-ffdx", *(word for folder in order.kept for word in ("-e", f"/{folder}")))
    # Read-only folders, as package caches make them, withstand git: then all is made anew.
    files.run(*clean, doing="cleaning")
    _remove_special_files(order)
    _fill_submodules(order)


def _fill_submodules(order: GateCheckout) -> None:
    repo = GitRepo(order.git_dir, order.runner)
    if order.submodules is not None:
        order.submodules.fill(repo, order.sha)
        return
    for link in gitlinks(repo, order.sha):
        # Of an earlier setting: git leaves what stands in a submodule's folder.
        discard(order.runner / link.path, order.trash)
        (order.runner / link.path).mkdir()


def _forget_stale_index(order: GateCheckout, land: GitRepo, options: Sequence[str], before: str) -> None:
    """git writes no file again whose blob is the same, though attributes or settings would make another file of it."""
    note = read_json(_note(order)) or {}
    if note.get("options") == _digest(options) and before:
        changed = land.attempt("diff-tree", "-r", "-z", "--name-only", before, order.sha)
        names_changed = (path.rpartition(b"/")[2] for path in changed.stdout.split(b"\0"))
        if changed.exit_code == 0 and b".gitattributes" not in names_changed:
            return
    order.index.unlink(missing_ok=True)


def _checked_out_before(order: GateCheckout, land: GitRepo) -> str:
    """The commit that this runner had last; "" where none is known, or none that is still here."""
    before = (read_json(_note(order)) or {}).get("sha")
    return before if isinstance(before, str) and land.resolve(before) == before else ""


def _start_over(order: GateCheckout) -> None:
    """Empty the runner's folder by force, kept folders apart."""
    order.index.unlink(missing_ok=True)
    aside = order.runner.with_name(f"{order.runner.name}.keeping")
    saved: list[tuple[Path, str]] = []
    for number, folder in enumerate(order.kept):
        place = order.runner / folder
        if _is_plain_folder(order.runner, folder):
            aside.mkdir(exist_ok=True)
            # A folder that may not be written cannot be given another parent.
            os.chmod(place, stat.S_IRWXU)
            os.rename(place, aside / str(number))
            saved.append((aside / str(number), folder))
    discard(order.runner, order.trash)
    for kept, folder in saved:
        (order.runner / folder).parent.mkdir(parents=True, exist_ok=True)
        os.rename(kept, order.runner / folder)
    remove_tree(aside)


def _is_plain_folder(root: Path, folder: str) -> bool:
    """Whether there is such a folder, and no link on the way to it."""
    place = root
    for part in folder.split("/"):
        place = place / part
        try:
            if not stat.S_ISDIR(os.lstat(place).st_mode):
                return False
        except OSError:
            return False
    return True


def _remove_special_files(order: GateCheckout) -> None:
    """Pipes and sockets: git does not see them, so `git clean` leaves them where folders of the tree hold them."""
    kept = {order.runner / folder for folder in order.kept} | {order.git_dir}
    waiting = [order.runner]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if Path(entry.path) not in kept:
                        waiting.append(Path(entry.path))
                elif not entry.is_file(follow_symlinks=False) and not entry.is_symlink():
                    os.unlink(entry.path)


def _make_git_dir(order: GateCheckout) -> None:
    """A repository that reads the land clone's objects and none of its settings."""
    (order.git_dir / "objects" / "info").mkdir(parents=True)
    (order.git_dir / "info").mkdir()
    (order.git_dir / "refs" / "remotes" / "origin").mkdir(parents=True)
    alternates = order.git_dir / "objects" / "info" / "alternates"
    alternates.write_text(f"{order.land_clone / 'objects'}\n", encoding="utf-8")
    (order.git_dir / "HEAD").write_text(f"{order.sha}\n", encoding="utf-8")
    pairs = [("core.repositoryformatversion", "0"), ("core.bare", "false"), ("gc.auto", "0"), *AS_THE_TREE_SAYS]
    (order.git_dir / "config").write_text(config_text(pairs), encoding="utf-8")


def _finish(order: GateCheckout, land: GitRepo, *, uses_lfs: bool) -> None:
    """Add what the gate's own git needs: index, remote, refs and filters."""
    shutil.copyfile(order.index, order.git_dir / "index")
    pairs: list[tuple[str, str]] = []
    if order.url:
        pairs += [
            ("remote.origin.url", order.url),
            ("remote.origin.pushurl", NO_PUSH),
            ("remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"),
        ]
    if uses_lfs:
        pairs += [pair for pair in repository_config(order.url) if pair[0] != "remote.origin.url"]
    with (order.git_dir / "config").open("a", encoding="utf-8") as config:
        config.write(config_text(pairs))
    refs = _refs(order, land)
    (order.git_dir / "packed-refs").write_text("".join(f"{sha} {ref}\n" for ref, sha in refs.items()), encoding="utf-8")
    if f"refs/remotes/origin/{order.branch}" in refs:
        head = order.git_dir / "refs" / "remotes" / "origin" / "HEAD"
        head.write_text(f"ref: refs/remotes/origin/{order.branch}\n", encoding="utf-8")


def _refs(order: GateCheckout, land: GitRepo) -> dict[str, str]:
    """Refs as a plain clone has them."""
    listed = land.run("for-each-ref", "--format=%(objectname) %(refname)", TAGS, BRANCHES_SEEN).text
    refs: dict[str, str] = {}
    for line in listed.splitlines():
        sha, _, ref = line.partition(" ")
        if ref.startswith(TAGS):
            refs[ref] = sha
        elif order.branch and ref == f"{BRANCHES_SEEN}{order.branch}":
            refs[f"refs/remotes/origin/{order.branch}"] = sha
    if order.target and order.target_sha:
        refs[f"refs/remotes/origin/{names.valid_branch(order.target)}"] = order.target_sha
    return refs


def _note(order: GateCheckout) -> Path:
    """Which commit the index is of, and how its files were made."""
    return order.runner.with_name(f"{order.runner.name}.index.json")


def _digest(options: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(options).encode("utf-8", "surrogateescape")).hexdigest()
