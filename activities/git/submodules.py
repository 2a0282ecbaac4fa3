"""Submodules: what a commit links to, whether others can get it, and their files in a work tree.

A submodule's commits come from its own remote into a bare clone of the town (`rigs/<rig>/modules/`).
git's own `submodule update` is not used: the commands, hooks and protocols that a change could
bring into it never run here.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from activities.git.command import Answer, GitRepo, failure, init_bare, ls_remote_under
from activities.git.lfs import LfsCheckout
from activities.git.limits import refuse_growth
from activities.git.remote_kinds import resolved, same_reach
from activities.git.trees import remove_tree
from models import names
from models.errors import ErrorCode, GtError
from services.git_config import quoted
from services.locks import exclusive

_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_ABSENT: Final = ("not our ref", "couldn't find remote ref", "no such remote ref", "unadvertised object")
"""what a remote says of a commit that it does not have, or gives only with a ref"""
_LINK: Final = b"160000 "
"""the mode of a submodule"""
_DEEPEST: Final = 10
"""submodules of submodules: one that holds itself never ends"""


class Gitlink(NamedTuple):
    """A submodule as a commit has it."""

    path: str
    sha: str
    url: str
    """as .gitmodules says; "" where it says nothing: then nobody can check it out"""
    name: str
    """of its section in .gitmodules; the path where it has none"""


def gitlinks(repo: GitRepo, commit: str) -> list[Gitlink]:
    """The submodules of a commit's tree, in the order of their paths.

    Raises:
        GtError: GIT_FAILED.
    """
    found = []
    sections: Mapping[str, tuple[str, str]] | None = None
    listed = os.fsdecode(repo.run("ls-tree", "-r", "-z", "--full-tree", commit).stdout)
    for entry in listed.split("\0"):
        fields, _, path = entry.partition("\t")
        if fields.startswith("160000 "):
            sections = _sections(repo, commit) if sections is None else sections
            name, url = sections.get(path, (path, ""))
            found.append(Gitlink(path, fields.split()[2], url, name))
    return found


def uses_submodules(repo: GitRepo, commit: str) -> bool:
    """Whether the commit's tree has submodules that can be checked out."""
    if repo.attempt("rev-parse", "--verify", "--quiet", f"{commit}:.gitmodules").exit_code != 0:
        # Listing a large tree takes longer.
        return False
    return any(link.url for link in gitlinks(repo, commit))


def check_reachable(repo: GitRepo, head: str, base: str, url: str, cache: Path) -> None:
    """Refuse a change whose submodule commits nobody else could get.

    Args:
        base: what `head` builds on: links that it has too are not looked at.
        url: of the repository's own remote.
        cache: `TownPaths.modules`.

    Raises:
        GtError: REFUSED with the submodule's name and commit; REMOTE_UNREACHABLE, DISK_FULL, GIT_FAILED.
    """
    if not _touches_links(repo, base, head):
        return
    before = {(link.path, link.sha, link.url) for link in gitlinks(repo, base)}
    for link in gitlinks(repo, head):
        if (link.path, link.sha, link.url) not in before:
            ModuleCache(cache, url).fetch(link)


def _touches_links(repo: GitRepo, base: str, head: str) -> bool:
    """Whether a link or what tells of links differs between two commits: listing both large trees takes longer."""
    options = ("-r", "-z", "--raw", "--no-renames", "--ignore-submodules=none")
    listed = repo.run("diff-tree", *options, base, head, "--").stdout.split(b"\0")
    return any(
        _LINK in facts or path == b".gitmodules" for facts, path in zip(listed[0::2], listed[1::2], strict=False)
    )


class ModuleCache:
    """The town's bare clones of the submodules of one repository.

    Args:
        folder: where they are, one per address.
        parent_url: the remote of the repository that the links are in.
        rig_url: the rig's own remote, which decides what may be fetched; the parent's by default.
    """

    def __init__(self, folder: Path, parent_url: str, rig_url: str | None = None) -> None:
        self._folder = folder
        self._parent_url = parent_url
        self._rig_url = rig_url or parent_url

    def url_of(self, link: Gitlink) -> str:
        """Where the submodule comes from.

        Raises:
            GtError: REFUSED where .gitmodules names no place, or one that is not allowed.
        """
        if not link.url:
            raise _refused(link, "has no url in .gitmodules", "git submodule add URL PATH, then commit .gitmodules")
        url = resolved(link.url, self._parent_url)
        try:
            allowed = same_reach(url, self._rig_url)
        except GtError as error:
            raise _refused(link, f"has a url that is not allowed: {error.message}", error.hint) from error
        if not allowed:
            raise _refused(
                link, "comes from a path on a machine, and the rig's remote does not", "use an https or ssh URL"
            )
        return url

    def fetch(self, link: Gitlink) -> GitRepo:
        """The bare clone that has the submodule's commit; asks its remote where it is not here yet.

        Raises:
            GtError: REFUSED where the remote does not have it; REMOTE_UNREACHABLE, DISK_FULL, GIT_FAILED.
        """
        url = self.url_of(link)
        path = self._folder / f"{hashlib.sha256(url.encode()).hexdigest()[:24]}.git"
        with exclusive(path.with_suffix(".lock")):
            if not path.exists():
                half_made = path.with_suffix(".new")
                remove_tree(half_made)
                init_bare(half_made)
                os.rename(half_made, path)
            repo = GitRepo(path)
            keep = f"refs/gastown/modules/{link.sha}"
            if repo.resolve(keep) != link.sha:
                self._bring(repo, url, link, keep)
        self._refuse_unfit(repo, link)
        return repo

    def _refuse_unfit(self, repo: GitRepo, link: Gitlink) -> None:
        try:
            refuse_growth(repo, link.sha, "")
        except GtError as error:
            if error.code is not ErrorCode.INVALID_VALUE:
                raise
            raise _refused(link, f"cannot be checked out: {error.message}", "") from error

    def _bring(self, repo: GitRepo, url: str, link: Gitlink, keep: str) -> None:
        answer = repo.try_fetch(url, [f"{link.sha}:{keep}"])
        if answer.exit_code == 0:
            return
        if not _absent(answer):
            raise _unreachable(answer, link)
        # A remote that gives only what has a name may still hold the commit below one.
        if ls_remote_under(url, ["refs/heads/", "refs/tags/"]) and self._bring_by_names(repo, url, link, keep):
            return
        raise _refused(
            link,
            f"is at {link.sha}, and its remote {names.valid_remote(url)} does not have that commit",
            "push the submodule's commit to its own remote first",
        )

    def _bring_by_names(self, repo: GitRepo, url: str, link: Gitlink, keep: str) -> bool:
        """Whether the commit lies below a branch or tag. All of them are fetched apart: agents see `repo`, and nothing
        is to come there but what a commit that they name leads to."""
        apart = self._folder.with_name(f"{self._folder.name}.{repo.git_dir.name}")
        remove_tree(apart)
        init_bare(apart)
        try:
            every = GitRepo(apart)
            answer = every.try_fetch(url, ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"])
            if answer.exit_code != 0:
                raise _unreachable(answer, link)
            if every.resolve(link.sha) != link.sha:
                return False
            every.run("update-ref", keep, link.sha)
            repo.fetch(str(apart), [f"{keep}:{keep}"])
            return True
        finally:
            remove_tree(apart)


@dataclass(frozen=True)
class SubmoduleCheckout:
    """How submodules are put into work trees.

    Attributes:
        cache: `TownPaths.modules`.
        rig_url: the rig's own remote.
        options: git's options for each checkout (`-c …`), as the work tree itself is checked out with.
        lfs: what to do about LFS content; None leaves it to git's own configuration.
    """

    cache: Path
    rig_url: str
    options: tuple[str, ...] = ()
    lfs: LfsCheckout | None = None

    def fill(self, repo: GitRepo, commit: str, url: str = "", depth: int = 0) -> list[str]:
        """Put the submodules of `commit` into the work tree of `repo`, and theirs, as a plain recursive clone has them.

        What stands in their folders is replaced.

        Args:
            repo: a git directory and a work tree that nobody else has written yet.
            url: of its remote; the rig's own by default.

        Returns:
            The paths that were filled, submodules of submodules too.

        Raises:
            GtError: REFUSED, REMOTE_UNREACHABLE, DISK_FULL, GIT_FAILED.
        """
        assert repo.work_tree is not None
        url = url or self.rig_url
        filled = []
        modules = ModuleCache(self.cache, url, self.rig_url)
        for link in gitlinks(repo, commit):
            if not link.url:
                # A link without a section is an empty folder to a plain clone too.
                continue
            if depth >= _DEEPEST:
                raise _refused(link, f"lies {_DEEPEST} submodules deep", "")
            clone = modules.fetch(link)
            place = _empty_folder(repo.work_tree, link)
            own_url = modules.url_of(link)
            inner = GitRepo(_furnished(repo.git_dir, link, clone, place, own_url), place)
            if inner.resolve(link.sha) != link.sha:
                raise _refused(link, f"is at {link.sha}, which is not a commit", "")
            extra = self.lfs.options(inner, link.sha, own_url) if self.lfs is not None else []
            inner.run(*self.options, *extra, "read-tree", "--reset", "-u", link.sha, doing=f"checking out {link.path}")
            (place / ".git").write_text(f"gitdir: {os.path.relpath(inner.git_dir, place)}\n", encoding="utf-8")
            _register(repo, link, own_url)
            filled.append(link.path)
            filled += [f"{link.path}/{path}" for path in self.fill(inner, link.sha, own_url, depth + 1)]
        return filled


def _sections(repo: GitRepo, commit: str) -> Mapping[str, tuple[str, str]]:
    """By path: name and url of a submodule, out of the commit's .gitmodules."""
    answer = repo.attempt("config", f"--blob={commit}:.gitmodules", "--no-includes", "-z", "--list")
    if answer.exit_code != 0:
        return {}
    values: dict[str, dict[str, str]] = {}
    for entry in os.fsdecode(answer.stdout).split("\0"):
        key, _, value = entry.partition("\n")
        section, _, rest = key.partition(".")
        name, _, variable = rest.rpartition(".")
        if section == "submodule" and name and variable in {"path", "url"}:
            values.setdefault(name, {})[variable] = value
    return {given["path"]: (name, given.get("url", "")) for name, given in values.items() if "path" in given}


def _empty_folder(work_tree: Path, link: Gitlink) -> Path:
    """The submodule's folder, made empty; no way to it leads through a link."""
    place = work_tree
    for part in link.path.split("/"):
        if part in {"", ".", ".."} or part.lower() == ".git":
            raise _refused(link, "has a path that is not allowed", "")
        place = place / part
        try:
            kind = os.lstat(place).st_mode
        except FileNotFoundError:
            place.mkdir()
            continue
        if not stat.S_ISDIR(kind):
            raise _refused(link, "lies behind a file or a link", "")
    for entry in list(place.iterdir()):
        remove_tree(entry)
    return place


def _furnished(git_dir: Path, link: Gitlink, clone: GitRepo, place: Path, url: str) -> Path:
    """A git directory for the submodule, where a plain clone has it; its objects are the town's."""
    plain = _PLAIN_NAME.fullmatch(link.name) and not link.name.endswith(".lock")
    name = link.name if plain else hashlib.sha256(link.name.encode()).hexdigest()[:24]
    own = git_dir / "modules" / name
    remove_tree(own)
    (own / "objects" / "info").mkdir(parents=True)
    (own / "refs").mkdir()
    (own / "objects" / "info" / "alternates").write_text(f"{clone.git_dir / 'objects'}\n", encoding="utf-8")
    (own / "HEAD").write_text(f"{link.sha}\n", encoding="utf-8")
    (own / "config").write_text(
        "[core]\n\trepositoryformatversion = 0\n\tbare = false\n"
        f"\tworktree = {quoted(os.path.relpath(place, own))}\n"
        f'[remote "origin"]\n\turl = {quoted(url)}\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n',
        encoding="utf-8",
    )
    return own


def _register(repo: GitRepo, link: Gitlink, url: str) -> None:
    """What `git submodule init` writes; the name may hold anything, so git writes it."""
    config = str(repo.git_dir / "config")
    for variable, value in (("active", "true"), ("url", url)):
        repo.run("config", "--file", config, f"submodule.{link.name}.{variable}", value)


def _absent(answer: Answer) -> bool:
    words = answer.stderr.lower()
    return any(sign in words for sign in _ABSENT)


def _unreachable(answer: Answer, link: Gitlink) -> GtError:
    """A remote that is no repository, or not for this host, never becomes one by waiting."""
    error = failure(answer, "fetching it")
    if error.code in {ErrorCode.REMOTE_REFUSED, ErrorCode.NOT_A_REPOSITORY}:
        return _refused(link, f"cannot be fetched: {error.message}", error.hint)
    return GtError(error.code, f"submodule {_shown(link.name)}: {error.message}", error.hint)


def _refused(link: Gitlink, why: str, hint: str) -> GtError:
    return GtError(ErrorCode.REFUSED, f"submodule {_shown(link.name)} {why}", hint)


def _shown(name: str) -> str:
    return (name if name.isprintable() else ascii(name))[:200]
