"""One polecat's own repository and work tree, as the town sees them.

The agent has an ordinary repository (`.git` is a folder) that borrows the objects of the rig's cache
clone. The town never runs git with what an agent may write there: it looks through a git directory of
its own, the view, whose configuration, attributes and hooks are the town's. Of the agent's `.git` it reads
HEAD, branches and the index as files, and objects as an alternate; commits that are to be kept or
published are fetched from the view into the cache clone, and checked on the way.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

from activities.git.command import REMOTE_TIMEOUT_S, Bounds, GitRepo, failure
from activities.git.limits import refuse_growth, refuse_what_git_cannot_walk
from activities.git.stale_locks import clear_stale_locks
from activities.git.trees import discard, remove_special_files
from agents.session_folder import read_json, write_json
from models import names
from models.errors import ErrorCode, GtError
from models.git_errors import is_over_time
from models.town import TownPaths
from services.atomic_files import read_plain, write_whole
from services.git_config import config_text
from services.sandbox import reader_words

NO_PUSH: Final = "/agents-do-not-push/run-gt-done"
"""Push address of a polecat's `origin`: no such repository, and git names it in its error."""

BOUNDS: Final = Bounds(cpu_s=120, wall_s=400.0, memory_bytes=2 << 30)
"""Of each command that reads an agent's index or work tree; a status with a million changes takes 15 s of a core."""
_DAMAGED: Final = ("repository corruption", "did not send all necessary objects", "not our ref", "bad object")
"""what git says of a repository that lacks an object, or has one that is none"""
_DEEPEST_BRANCH: Final = 50
"""folders in a branch's name; os.walk calls itself"""
_IN_PROGRESS: Final = (
    ("rebase-merge", "rebase"),
    ("rebase-apply", "rebase"),
    ("MERGE_HEAD", "merge"),
    ("CHERRY_PICK_HEAD", "cherry-pick"),
    ("REVERT_HEAD", "revert"),
    ("BISECT_LOG", "bisect"),
)
_MOST_REFS_BYTES: Final = 50_000_000
_MOST_INDEX_BYTES: Final = 500_000_000
_LEFT_LINES: Final = 200
"""of what an agent left in its `.git`, so much is listed"""
_VIEW_CONFIG: Final = (
    "[core]\n\trepositoryformatversion = 0\n\tbare = false\n[uploadpack]\n\tallowAnySHA1InWant = true\n"
)


@dataclass(frozen=True)
class OwnerNote:
    """Whose work a worktree holds. The town's own file: a worktree without one holds nobody's work."""

    bead: str
    target: str
    parked_head: str | None = None
    """where HEAD stood when everything unlanded had been parked"""
    parked_ref: str | None = None
    """where it was parked on the remote; None where there was nothing to park"""
    attempt: int = 0
    """that was last started here; 0: not known"""
    restored: str | None = None
    """the save of unfinished work that the files were restored from"""
    releasing: bool = False
    """parked; being cleaned for the next bead"""
    skipped: Sequence[str] = ()
    """files that a snapshot left out: they stay on this host when the worktree goes"""
    odd: str = ""
    """what a snapshot does not hold, so that the whole worktree goes to the salvage folder; "" for nothing"""
    lfs: bool = False
    """Git LFS content is checked out"""


class Head(NamedTuple):
    """What HEAD says; of a damaged one nothing."""

    sha: str
    """"" on a branch without commits"""
    ref: str
    """full name of the branch, "" when detached"""


class PolecatRepo:
    """The repository of one polecat of a rig on this host."""

    def __init__(self, paths: TownPaths, rig: str, polecat: str) -> None:
        self._paths = paths
        self.rig = names.valid_rig(rig)
        self.path = paths.worktree(rig, polecat)
        """the work tree"""
        self.side = paths.worktree_side(rig, polecat)
        """the town's folder about it: note and view"""

    # --- whose ----------------------------------------------------------------------------------

    @property
    def note(self) -> OwnerNote | None:
        content = read_json(self.side / "owner.json")
        try:
            return OwnerNote(**content) if content is not None else None
        except TypeError:
            return None

    def write_note(self, note: OwnerNote) -> None:
        write_json(self.side / "owner.json", asdict(note))

    def amend_note(self, **changes: object) -> None:
        note = self.note
        assert note is not None
        self.write_note(replace(note, **changes))  # type: ignore[arg-type]

    def remove_note(self) -> None:
        (self.side / "owner.json").unlink(missing_ok=True)

    @property
    def is_known(self) -> bool:
        """The town has checked this work tree out before."""
        return (self._view_dir / "index").exists()

    def target(self) -> str:
        """The tip of the branch that the work is for, as the cache clone knows it; "" where it knows none."""
        note = self.note
        cache = GitRepo(self._paths.clone(self.rig))
        return (cache.resolve(f"refs/remotes/origin/{note.target}") if note is not None else None) or ""

    # --- what the agent's .git says, read as files ----------------------------------------------

    @property
    def git_dir(self) -> Path | None:
        """The agent's `.git`; None where it is no repository of its own (missing, a link, another one's worktree)."""
        git_dir = self.path / ".git"
        try:
            if not stat.S_ISDIR(os.lstat(git_dir).st_mode) or not stat.S_ISDIR(os.lstat(git_dir / "objects").st_mode):
                return None
            if os.path.lexists(git_dir / "commondir") or not stat.S_ISREG(os.lstat(git_dir / "HEAD").st_mode):
                return None
        except OSError:
            return None
        return git_dir

    def head(self) -> Head:
        git_dir = self.git_dir
        text = _text(git_dir / "HEAD") if git_dir is not None else ""
        if text.startswith("ref: "):
            ref = text.removeprefix("ref: ").strip()
            return Head(self.branches().get(ref, ""), ref)
        return Head(text if names.OBJECT_NAME.fullmatch(text) else "", "")

    def branches(self) -> dict[str, str]:
        """Every local branch: full ref → commit. What cannot be read counts as none."""
        git_dir = self.git_dir
        if git_dir is None:
            return {}
        found = {ref: sha for ref, sha in _packed(git_dir) if ref.startswith("refs/heads/")}
        top = git_dir / "refs" / "heads"
        for folder, folders, files in os.walk(top):
            if folder.count("/") - str(top).count("/") > _DEEPEST_BRANCH:
                folders.clear()
            for name in files:
                place = Path(folder, name)
                sha = _text(place)
                if not name.endswith(".lock") and names.OBJECT_NAME.fullmatch(sha):
                    found[f"refs/heads/{place.relative_to(top).as_posix()}"] = sha
        return found

    @property
    def in_progress(self) -> str:
        """The git operation that waits to be finished here, or ""."""
        git_dir = self.git_dir
        if git_dir is None:
            return ""
        return next((kind for name, kind in _IN_PROGRESS if os.path.lexists(git_dir / name)), "")

    def rebased_branch(self) -> str:
        """Full name of the branch that is being rebased here, "" for none: HEAD is detached meanwhile."""
        git_dir = self.git_dir
        if git_dir is None:
            return ""
        return _text(git_dir / "rebase-merge" / "head-name") or _text(git_dir / "rebase-apply" / "head-name")

    def has_stash(self) -> bool:
        git_dir = self.git_dir
        if git_dir is None:
            return False
        return os.path.lexists(git_dir / "refs" / "stash") or any(ref == "refs/stash" for ref, _ in _packed(git_dir))

    # --- the town's own git on it ---------------------------------------------------------------

    def view(self) -> GitRepo:
        """git on the work tree, with HEAD and objects of the agent's repository and nothing else of it.

        No command on it runs without bounds: HEAD's tree was measured, and each has its time and its memory.

        Raises:
            GtError: NOT_FOUND where there is no repository here; INVALID_VALUE where git cannot work with what is
                checked out, which any command on the view may raise too.
        """
        git_dir = self.git_dir
        if git_dir is None:
            raise GtError(ErrorCode.NOT_FOUND, f"{self.path} has no repository of its own")
        self._make_view([self._paths.clone(self.rig) / "objects", git_dir / "objects"])
        # git follows the alternates of alternates: the agent's may name the cache clone's objects alone.
        own = git_dir / "objects" / "info" / "alternates"
        wanted = self._alternates()
        if _text(own) != wanted.strip():
            with contextlib.suppress(OSError):
                own.unlink(missing_ok=True)
            write_whole(own, wanted)
        head = self.head()
        view = GitRepo(self._view_dir, self.path, bounds=BOUNDS)
        # Without a commit git wants a branch; its name has to be one.
        wanted = head.sha or "ref: refs/heads/unborn"
        if _text(self._view_dir / "HEAD") != wanted:
            if head.sha:
                self._refuse_unfit_head(view, head.sha)
            write_whole(self._view_dir / "HEAD", f"{wanted}\n")
        return view

    def _refuse_unfit_head(self, view: GitRepo, head: str) -> None:
        try:
            refuse_growth(view, head, self.target())
        except GtError as error:
            if error.code is not ErrorCode.GIT_FAILED:
                raise
            raise GtError(ErrorCode.INVALID_VALUE, f"git cannot read what is checked out: {error.message}") from error

    def overlook(self, patterns: Sequence[str]) -> None:
        """Have the town's own look at the work tree leave out files that it has put there itself, and no others."""
        write_whole_if_new(self._view_dir / "info" / "exclude", "".join(f"{one}\n" for one in patterns))

    def copy_index(self, name: str) -> dict[str, str]:
        """Copy the agent's index, which knows which files are unchanged: the environment that makes git use the copy.

        A copy that is absent (there is no index, or a link or a pipe in its place) is as git finds it.
        """
        git_dir = self.git_dir
        copy = self._view_dir / name
        copy.with_name(f"{name}.lock").unlink(missing_ok=True)
        copy.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            source = git_dir / "index" if git_dir is not None else Path(os.devnull)
            facts = os.lstat(source)
            if stat.S_ISREG(facts.st_mode) and facts.st_size <= _MOST_INDEX_BYTES:
                # With its time: by that git knows which files may have changed since it was written.
                shutil.copy2(source, copy, follow_symlinks=False)
        return {"GIT_INDEX_FILE": str(copy)}

    def fetch_into_cache(self, cache: GitRepo, commits: Sequence[str]) -> None:
        """Bring commits from here into the cache clone; every object is checked on the way, and none is ever pruned.

        Raises:
            GtError: INVALID_VALUE where git refuses an object (names like `.git`, duplicate entries) or cannot walk
                all trees, or where one is missing; GIT_FAILED, DISK_FULL.
        """
        wanted = list(dict.fromkeys(commits))
        if not wanted:
            return
        self.view()
        options: tuple[str, ...] = (
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
            "--no-show-forced-updates",
        )
        # What an agent has linked from among its objects to another repository is not there for who reads them.
        borrowed = self._paths.clone(self.rig) / "objects"
        reader = reader_words(self._paths, self._view_dir, [self.path / ".git", borrowed])
        options += (f"--upload-pack={shlex.join([*reader, 'git', 'upload-pack'])}",)
        fetch = ("-c", "fetch.fsckObjects=true", "fetch", *options, "--", str(self._view_dir), *wanted)
        answer = cache.attempt(*fetch, timeout_s=REMOTE_TIMEOUT_S)
        if is_over_time(answer.stderr):
            raise GtError(ErrorCode.INVALID_VALUE, f"git took more time to read {self.path} than is allowed")
        if answer.exit_code != 0:
            error = failure(answer, f"reading {self.path}")
            if any(sign in answer.stderr for sign in _DAMAGED):
                # As often as it is tried, the objects are not there.
                error = GtError(ErrorCode.INVALID_VALUE, error.message, "objects of the work are missing or damaged")
            raise unfit_objects(answer.stderr) or error
        # They are here without a name now, and get none before this.
        refuse_what_git_cannot_walk(cache, wanted, filter(None, [self.target()]))

    def fresh(self) -> GitRepo:
        """git on the repository itself: only between its making and the start of its agent."""
        return GitRepo(self.path / ".git", self.path)

    # --- making and clearing it -----------------------------------------------------------------

    def check_out(self, start: str, *, config: Sequence[tuple[str, str]]) -> None:
        """Make the work tree hold exactly the files of `start`, whatever was here; the agent's `.git` goes.

        The town's index remembers which files are unchanged since its last checkout.

        Args:
            config: git settings of the view from now on: filters, where contents come from.

        Raises:
            GtError: DISK_FULL, GIT_FAILED.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self._drop_git_dir()
        self._make_view([self._paths.clone(self.rig) / "objects"])
        if self._configure(_VIEW_CONFIG + config_text(config)):
            # Files may come out otherwise than the last checkout left them.
            (self._view_dir / "index").unlink(missing_ok=True)
        write_whole_if_new(self._view_dir / "HEAD", f"{start}\n")
        repo = self._on_cache()
        clear_stale_locks([self._view_dir / "index.lock"], [self.path, self._view_dir])
        if not self._fill(repo, start):
            # Trees that git cannot name, or may not write in: everything anew.
            discard(self.path, self._paths.trash)
            self.path.mkdir()
            (self._view_dir / "index").unlink(missing_ok=True)
            repo.run("read-tree", "--reset", "-u", start, doing="checking out")
        remove_special_files(self.path)

    def _fill(self, repo: GitRepo, start: str) -> bool:
        """Whether git has made the work tree hold the files of `start` and no others."""
        checkout = ("read-tree", "--reset", "-u", start)
        if repo.attempt(*checkout).exit_code != 0:
            # The index was damaged, or somebody else's.
            (self._view_dir / "index").unlink(missing_ok=True)
            if repo.attempt(*checkout).exit_code != 0:
                return False
        self._empty_submodules(repo)
        return repo.attempt("clean", "--quiet", "-ffdx").exit_code == 0

    def restore(self, tree: str, staged: str) -> None:
        """Put saved files into a work tree that was just checked out; `staged` is what the agent's index shall hold.

        Raises:
            GtError: DISK_FULL, GIT_FAILED.
        """
        repo = self._on_cache()
        repo.run("read-tree", "--reset", "-u", tree)
        shutil.copy2(self._view_dir / "index", self._agent_index)
        environment = {"GIT_INDEX_FILE": str(self._agent_index)}
        repo.run("read-tree", "--reset", staged, environment=environment)
        # Its exit code tells that files differ, which they shall.
        repo.attempt("update-index", "-q", "--refresh", environment=environment)

    def make_repository(self, branch: str, head: str, *, config: str, refs: str, default_branch: str) -> None:
        """Give the checked out work tree an ordinary repository of its own, as `git clone` would have made it.

        Args:
            branch: short name of the branch to be on, at the commit `head`.
            config: text of its configuration.
            refs: text of its `packed-refs`: the remote's branches and tags.
            default_branch: of the remote, for `origin/HEAD`.
        """
        made = self.side / "new.git"
        shutil.rmtree(made, ignore_errors=True)
        for folder in (
            "objects/info",
            "objects/pack",
            "refs/heads",
            "refs/tags",
            "refs/remotes/origin",
            "info",
            "hooks",
        ):
            (made / folder).mkdir(parents=True)
        branch_file = made / "refs" / "heads" / names.valid_branch(branch)
        branch_file.parent.mkdir(parents=True, exist_ok=True)
        branch_file.write_text(f"{head}\n", encoding="utf-8")
        origin = f"ref: refs/remotes/origin/{names.valid_branch(default_branch)}\n"
        (made / "refs" / "remotes" / "origin" / "HEAD").write_text(origin, encoding="utf-8")
        (made / "HEAD").write_text(f"ref: refs/heads/{branch}\n", encoding="utf-8")
        (made / "packed-refs").write_text(refs, encoding="utf-8")
        (made / "config").write_text(config, encoding="utf-8")
        write_whole_if_new(self._config_written, config)
        (made / "objects" / "info" / "alternates").write_text(self._alternates(), encoding="utf-8")
        (made / "info" / "exclude").touch()
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(self._paths.clone(self.rig) / "shallow", made / "shallow")
        index = self._agent_index if self._agent_index.exists() else self._view_dir / "index"
        shutil.copy2(index, made / "index")
        self._agent_index.unlink(missing_ok=True)
        self._drop_git_dir()
        os.rename(made, self.path / ".git")

    def rewrite_config(self, config: str) -> None:
        """Configure the repository anew; what the agent had changed goes, and is listed with its evidence."""
        git_dir = self.git_dir
        write_whole_if_new(self._config_written, config)
        if git_dir is not None and _text(git_dir / "config") != config.strip():
            with contextlib.suppress(OSError):
                (git_dir / "config").unlink(missing_ok=True)
            write_whole(git_dir / "config", config, 0o644)

    def left_behind(self) -> str:
        """What the agent changed in its `.git` beside commits: configuration, hooks, attributes. "" for nothing."""
        git_dir = self.git_dir
        if git_dir is None:
            return ""
        expected = set(_text(self._config_written).splitlines())
        lines = [line for line in _text(git_dir / "config").splitlines() if line.strip() and line not in expected]
        told = [f"config: {line.strip()}" for line in lines]
        for folder in ("hooks", "info"):
            for path in sorted((git_dir / folder).glob("*")):
                if path.name != "exclude" or _text(path):
                    told.append(f"{folder}/{path.name}")
        return "\n".join(told[:_LEFT_LINES])

    def drop_repository(self) -> None:
        """Delete the agent's `.git`, and what the town's own looks at it have made."""
        self._drop_git_dir()
        shutil.rmtree(self._view_dir / "objects", ignore_errors=True)

    def remove_files(self) -> None:
        """Delete the whole work tree; what cannot be deleted is moved aside."""
        discard(self.path, self._paths.trash)
        shutil.rmtree(self._view_dir, ignore_errors=True)

    def salvage(self, place: Path) -> Path | None:
        """Move the whole work tree aside, with its repository; where it is now, None where there was nothing."""
        moved = None
        if os.path.lexists(self.path) and not _is_empty(self.path):
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            moved = unused(place)
            os.rename(self.path, moved)
        # What the town remembers of its files does not hold for those that come next.
        shutil.rmtree(self._view_dir, ignore_errors=True)
        return moved

    def clear_stale_locks(self, branch: str) -> None:
        """Remove locks of git commands that were killed: they would fail every later command of the agent."""
        git_dir = self.git_dir
        if git_dir is not None:
            held = ("index", "HEAD", "config", "packed-refs", f"refs/heads/{branch}")
            clear_stale_locks([git_dir / f"{name}.lock" for name in held], [self.path, git_dir])

    # --- inside ---------------------------------------------------------------------------------

    @property
    def _view_dir(self) -> Path:
        return self.side / "view.git"

    @property
    def _config_written(self) -> Path:
        """The configuration as the town wrote it last."""
        return self.side / "config"

    @property
    def _agent_index(self) -> Path:
        """The index that the next repository begins with, where it is not that of the checkout."""
        return self._view_dir / "agent.index"

    def _alternates(self) -> str:
        return f"{self._paths.clone(self.rig) / 'objects'}\n"

    def _configure(self, text: str) -> bool:
        """Whether the view's settings are others than before."""
        place = self._view_dir / "config"
        if _text(place) == text.strip():
            return False
        write_whole(place, text)
        return True

    def _on_cache(self) -> GitRepo:
        """git on the work tree; contents that a partial clone fetches now go to the cache clone."""
        cache = self._paths.clone(self.rig)
        return GitRepo(self._view_dir, self.path, {"GIT_OBJECT_DIRECTORY": str(cache / "objects")})

    def _make_view(self, alternates: Sequence[Path]) -> None:
        view = self._view_dir
        for folder in ("objects/info", "refs", "info"):
            (view / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (view / "config").exists():
            write_whole(view / "config", _VIEW_CONFIG)
        write_whole_if_new(view / "objects" / "info" / "alternates", "".join(f"{one}\n" for one in alternates))
        with contextlib.suppress(FileNotFoundError):
            write_whole_if_new(view / "shallow", _text(self._paths.clone(self.rig) / "shallow", missing=False) + "\n")

    def _drop_git_dir(self) -> None:
        git_dir = self.path / ".git"
        if git_dir.is_symlink() or git_dir.is_file():
            git_dir.unlink()
        elif git_dir.exists():
            # Renamed first: killed while it is deleted, it is no repository that anybody takes for whole.
            doomed = unused(self.side / "old.git")
            doomed.parent.mkdir(parents=True, exist_ok=True)
            os.rename(git_dir, doomed)
        for doomed in self.side.glob("old.git*"):
            discard(doomed, self._paths.trash)

    def _empty_submodules(self, repo: GitRepo) -> None:
        """Neither checkout nor clean goes into a folder that the tree takes for a repository."""
        for line in repo.run("ls-files", "--stage", "-z").stdout.split(b"\0"):
            if line.startswith(b"160000 "):
                place = self.path / os.fsdecode(line.partition(b"\t")[2])
                if place.is_dir() and not place.is_symlink() and not _is_empty(place):
                    discard(place, self._paths.trash)
                    place.mkdir(exist_ok=True)


def packed_refs(cache: GitRepo, *, without: str) -> str:
    """Text of a `packed-refs` with the remote's branches and tags, as the cache clone has them.

    Args:
        without: what refs that are left out begin with: other polecats' branches.
    """
    form = "%(objectname) %(refname)%(if)%(*objectname)%(then)%0a^%(*objectname)%(end)"
    listed = cache.run("for-each-ref", f"--format={form}", "refs/remotes/origin", "refs/tags").text
    kept = [line for line in listed.splitlines() if not line.partition(" ")[2].startswith(without)]
    return "\n".join(["# pack-refs with: peeled fully-peeled sorted ", *kept, ""])


def unfit_objects(stderr: str) -> GtError | None:
    """The refusal where git's check found objects that no repository should take."""
    match = re.search(r"(?:error|fatal): object ([0-9a-f]+): (\w+): ([^\n]*)", stderr)
    if match is None:
        return None
    return GtError(
        ErrorCode.INVALID_VALUE,
        f"git refuses an object of the work ({match[2]}): {match[3]}, in {match[1]}",
        "commit it anew without that, then run gt done again",
    )


def unused(path: Path) -> Path:
    """`path`, or the first of `path.1`, `path.2`, … that is free."""
    number, free = 0, path
    while os.path.lexists(free):
        number += 1
        free = path.with_name(f"{path.name}.{number}")
    return free


def write_whole_if_new(path: Path, content: str) -> None:
    """`write_whole` where the content is another. Not synced: what a host without power lost is found to differ."""
    try:
        if read_plain(path, _MOST_REFS_BYTES) == content.encode():
            return
    except OSError:
        pass  # there is none, or no plain file: one is written in its place
    write_whole(path, content, synced=False)


def _packed(git_dir: Path) -> Iterator[tuple[str, str]]:
    for line in _text(git_dir / "packed-refs").splitlines():
        sha, _, ref = line.partition(" ")
        if names.OBJECT_NAME.fullmatch(sha):
            yield ref, sha


def _is_empty(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except OSError:
        return False


def _text(path: Path, *, missing: bool = True) -> str:
    """A small file that an agent may write to, without the last newline; "" where there is none or it is none."""
    try:
        return os.fsdecode(read_plain(path, _MOST_REFS_BYTES)).strip()
    except OSError:
        if not missing:
            raise FileNotFoundError(path) from None
        return ""
