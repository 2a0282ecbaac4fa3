"""A snapshot of a work tree as one commit: staged, unstaged and untracked files, taken through the town's view.

The agent's own index is copied, so it stays as it is. What may not leave the host (secrets, large files) is
skipped and named; what no commit can hold (half a rebase, a stash, a repository within) is named as odd, and
whoever gives the work tree up moves it to the salvage folder as a whole.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from activities.git.command import Answer
from activities.git.limits import refuse_growth, refuse_what_git_cannot_walk
from activities.git.status import STATUS, Entry, entries_of
from activities.git.worktree.assume_unchanged import look_at, overlooked
from activities.git.worktree.polecat_repo import PolecatRepo
from models.errors import GtError
from policies.security.secret_scan import SEARCHED_BYTES, secret_in, secret_in_name

UNDATED: Final = {"GIT_AUTHOR_DATE": "@0 +0000", "GIT_COMMITTER_DATE": "@0 +0000"}
"""The same content gives the same commit, whenever it is saved."""

_GITLINK: Final = "160000"
_TOO_LONG: Final = "too long a path"
_FOLDER: Final = b"040000 "
_READ_AT_ONCE: Final = 16_000_000
"""bytes of file contents in memory"""


class SkippedFile(NamedTuple):
    """Something that stays on this host."""

    path: str
    why: str


@dataclass(frozen=True)
class Snapshot:
    """The files of a work tree, ignored ones left out."""

    head: str
    """the commit that is checked out; "" before the first one"""
    tree: str
    """all files that may leave the host"""
    changed: bool
    """`tree` is another than that of what was compared with"""
    staged: str | None
    """a commit with what the agent has staged, where that is another tree"""
    skipped: tuple[SkippedFile, ...]
    odd: tuple[str, ...]
    """what the snapshot does not hold, in words"""


class _Changed(NamedTuple):
    """One difference between two trees."""

    old_mode: str
    mode: str
    old_blob: str
    blob: str
    path: bytes


class Saver:
    """Takes snapshots of one polecat's work tree. Commits and trees are made in the view.

    Args:
        index_name: of the copy of the index that is used; nobody else uses it meanwhile.
        max_bytes: larger files are skipped; None: none is too large.
        judged: blobs that were searched for secrets, and what they hold; goes on from call to call.

    Raises:
        GtError: NOT_FOUND where the polecat has no repository.
    """

    def __init__(
        self,
        polecat_repo: PolecatRepo,
        index_name: str,
        max_bytes: int | None,
        judged: MutableMapping[str, str] | None = None,
    ) -> None:
        self._polecat_repo = polecat_repo
        self._repo = polecat_repo.view()
        self._root = os.fsencode(polecat_repo.path)
        self._index_name = index_name
        self._index = self._repo.git_dir / index_name
        self._given = {"GIT_INDEX_FILE": str(self._index)}
        self._max_bytes = max_bytes
        self._judged = {} if judged is None else judged

    def take(self, parent: str | None = None) -> Snapshot:
        """The files as they stand.

        Args:
            parent: the commit whose content may leave the host as it is; HEAD by default, "" for none.

        Raises:
            GtError: DISK_FULL, GIT_FAILED.
        """
        repo = self._repo
        head = repo.resolve("HEAD") or ""
        base = self._tree_of(head if parent is None else parent)
        odd = self._odd()
        try:
            entries = self._begin(head)
            oddities = [self._oddity(one) for one in entries]
            odd += [_told(one.path, why) for one, why in zip(entries, oddities, strict=True) if why]
            odd += self._repositories_within()
            unmerged = [one.path for one in entries if one.unmerged]
            skipped = [SkippedFile(os.fsdecode(one), "see the worktree") for one in unmerged if self._is_folder(one)]
            entries = [one for one, why in zip(entries, oddities, strict=True) if not why]
            staged, apart = self._staged(base) if any(one.staged for one in entries) else (None, False)
            if apart:
                odd.append("staged content that may not leave the host")
            skipped += self._add(entries)
            self._settle(unmerged, skipped, head)
            whole = self._write_tree()
            refused = self._refused(base, whole)
            tree = self._without(refused) if refused else whole
        finally:
            self._forget_index()
        return Snapshot(
            head=head,
            tree=tree,
            changed=tree != base,
            staged=staged,
            skipped=(*skipped, *(SkippedFile(os.fsdecode(one.path), why) for one, why in refused)),
            odd=tuple(dict.fromkeys(odd)),
        )

    def fingerprint(self) -> str | None:
        """Differs whenever the files, the index or HEAD may; None where only a snapshot can tell. Cheap.

        Raises:
            GtError: GIT_FAILED.
        """
        head = self._repo.resolve("HEAD") or ""
        self._polecat_repo.copy_index(self._index_name)
        try:
            answer = self._repo.attempt(*STATUS, environment=self._given)
            if answer.exit_code != 0:
                return None
            seen = hashlib.sha256(f"{head}{self._odd()}".encode() + answer.stdout)
            paths = self._overlooked(self._given)
        finally:
            self._forget_index()
        for entry in entries_of(answer.stdout):
            if self._oddity(entry):
                return None
            paths.append(entry.path)
        for path in paths:
            with contextlib.suppress(OSError):
                facts = os.lstat(self._place(path))
                seen.update(f"{facts.st_ino} {facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}\n".encode())
        return seen.hexdigest()

    def hold(self, tree: str) -> str:
        """A commit of `tree` in the view, without parents, by which `PolecatRepo.fetch_into_cache` can take it."""
        return self._repo.run("commit-tree", "-m", "Files", tree, environment=UNDATED).word

    def commits_here(self, commits: Sequence[str]) -> list[str]:
        """Those of `commits` that are here, each once: a damaged branch names what is not."""
        return [sha for sha in dict.fromkeys(commits) if sha and self._repo.resolve(sha) == sha]

    def kept_back(self, commit: str, known: Sequence[str]) -> list[SkippedFile]:
        """Files that `commit` and its history bring along, as far as `known` commits have not, that must stay here."""
        refuse_what_git_cannot_walk(self._repo, [commit], known)
        without = [f"^{one}" for one in known]
        options = ("log", "--format=", "--raw", "-z", "--no-abbrev", "--no-renames", "-m", "--root")
        listed = self._repo.run(*options, commit, *without, "--").stdout
        refused = self._unfit_for_remotes(list(_changes(listed)))
        return [SkippedFile(os.fsdecode(one.path), why) for one, why in refused]

    # --- what no commit can hold ----------------------------------------------------------------

    def _odd(self) -> list[str]:
        kind = self._polecat_repo.in_progress
        found = [f"a {kind} that is not finished"] if kind else []
        return [*found, "a stash"] if self._polecat_repo.has_stash() else found

    def _repositories_within(self) -> list[str]:
        """Checked out repositories that the index knows, and that may hold commits which nobody else has.

        A submodule that stands where the target has it came from its own remote.
        """
        listed = self._repo.attempt("ls-files", "--stage", "-z", environment=self._given).stdout.split(b"\0")
        found = []
        for line in listed:
            facts, _, path = line.partition(b"\t")
            mark = os.path.join(self._place(path), b".git")
            if not facts.startswith(b"160000 ") or not os.path.lexists(mark):
                continue
            if os.path.isdir(mark) or facts.split(b" ")[1].decode() != self._target_has(os.fsdecode(path)):
                found.append(f"{_shown(path)} is a repository of its own")
        return found

    def _target_has(self, path: str) -> str:
        """The object that the target has under `path`, "" for none."""
        target = self._polecat_repo.target()
        if not target:
            return ""
        answer = self._repo.attempt("rev-parse", "--verify", "--quiet", f"{target}:{path}")
        return answer.word if answer.exit_code == 0 else ""

    def _is_folder(self, path: bytes) -> bool:
        place = self._place(path)
        return os.path.isdir(place) and not os.path.islink(place)

    def _oddity(self, entry: Entry) -> str:
        """Why a snapshot cannot hold what stands there; "" where it can."""
        if entry.is_repository:
            return "a repository of its own"
        if entry.is_submodule:
            return "a submodule with changes"
        try:
            mode = os.lstat(self._place(entry.path)).st_mode
        except OSError as error:
            # Neither git nor we can name it there: as it is, it can only be moved with all that is around it.
            return _TOO_LONG if error.errno == errno.ENAMETOOLONG else ""
        if stat.S_ISDIR(mode):
            covers = entry.unmerged or os.path.lexists(os.path.join(self._place(entry.path), b".git"))
            return "a folder where git has a file" if covers else ""
        return "" if stat.S_ISREG(mode) or stat.S_ISLNK(mode) else "a special file"

    # --- the index ------------------------------------------------------------------------------

    def _begin(self, head: str) -> list[Entry]:
        """Copy the agent's index, which knows which files are unchanged, and list what differs from HEAD."""
        self._forget_index()
        self._polecat_repo.copy_index(self._index_name)
        if self._index.exists():
            # Where it is damaged the status below fails too.
            with contextlib.suppress(GtError):
                look_at(self._repo, self._overlooked(self._given), self._given)
        answer = self._repo.attempt(*STATUS, environment=self._given)
        if answer.exit_code != 0:
            # The agent's index is damaged.
            self._index.unlink(missing_ok=True)
            if head:
                self._git("read-tree", head)
            answer = self._git(*STATUS)
        return list(entries_of(answer.stdout))

    def _overlooked(self, environment: Mapping[str, str] | None = None) -> list[bytes]:
        """Those that are there: what a sparse checkout leaves out is not deleted."""
        return [path for path in overlooked(self._repo, environment) if os.path.lexists(self._place(path))]

    def _forget_index(self) -> None:
        self._index.unlink(missing_ok=True)
        self._index.with_name(f"{self._index.name}.lock").unlink(missing_ok=True)

    def _git(self, *arguments: str, stdin: bytes | None = None) -> Answer:
        return self._repo.run(*arguments, stdin=stdin, environment=self._given)

    def _write_tree(self) -> str:
        return self._git("write-tree").word

    def _tree_of(self, commit: str) -> str:
        if commit:
            return self._git("rev-parse", "--verify", f"{commit}^{{tree}}").word
        return self._git("hash-object", "-w", "-t", "tree", "--stdin", stdin=b"").word

    def _staged(self, base: str) -> tuple[str | None, bool]:
        """What the index holds now, as a commit, and whether more is staged than that may hold.

        None while it holds unmerged files: those came out of commits.
        """
        answer = self._repo.attempt("write-tree", environment=self._given)
        if answer.exit_code != 0:
            return None, False
        refused = self._refused(base, answer.word)
        tree = answer.word
        if refused:
            tree = self._without(refused)
            self._git("read-tree", "--reset", answer.word)
        apart = any(self._is_elsewhere(change) for change, _ in refused)
        if tree == base:
            return None, apart
        return self._repo.run("commit-tree", "-m", "Staged", tree, environment=UNDATED).word, apart

    def _is_elsewhere(self, change: _Changed) -> bool:
        """The file itself holds something else than what is staged of it."""
        answer = self._repo.attempt("hash-object", "--no-filters", "--", os.fsdecode(self._place(change.path)))
        return answer.exit_code != 0 or answer.word != change.blob

    # --- files ----------------------------------------------------------------------------------

    def _add(self, entries: Sequence[Entry]) -> list[SkippedFile]:
        """Bring the index up to the files; those that are too large are not even read."""
        skipped, paths = [], []
        for entry in entries:
            why = self._unfit(entry.path)
            if why:
                skipped.append(SkippedFile(os.fsdecode(entry.path), why))
            else:
                paths.append(entry.path)
        if paths and self._update(paths).exit_code != 0:
            # One of them changes or goes while it is read: each for itself.
            failed = [path for path in paths if self._update([path]).exit_code != 0]
            skipped += [SkippedFile(os.fsdecode(path), "it could not be read") for path in failed]
        return skipped

    def _settle(self, unmerged: Sequence[bytes], skipped: Sequence[SkippedFile], head: str) -> None:
        """Unmerged files that are left out stand as in HEAD, or not at all: the index makes no tree otherwise."""
        names = {os.fsencode(one.path) for one in skipped}
        paths = [path for path in unmerged if path in names]
        if not paths:
            return
        rows = [b"0 %s\t%s\0" % (b"0" * (len(head) or 40), path) for path in paths]
        command = ("ls-tree", "-z", head, "--", *map(os.fsdecode, paths))
        before = self._git(*command).stdout if head else b""
        files = [line for line in before.split(b"\0") if line and not line.startswith(_FOLDER)]
        rows += [b"%s\0" % line for line in files]
        self._git("update-index", "-z", "--index-info", stdin=b"".join(rows))

    def _update(self, paths: Sequence[bytes]) -> Answer:
        command = ("update-index", "--add", "--remove", "--replace", "-z", "--stdin")
        return self._repo.attempt(*command, stdin=b"\0".join(paths) + b"\0", environment=self._given)

    def _unfit(self, path: bytes) -> str:
        place = self._place(path)
        try:
            facts = os.lstat(place)
        except OSError:
            return ""
        if not stat.S_ISREG(facts.st_mode):
            return ""
        return self._too_large(facts.st_size) or ("" if os.access(place, os.R_OK) else "it may not be read")

    def _place(self, path: bytes) -> bytes:
        # As text, or as a Path, it is ten times slower: there may be 100,000 of them.
        return os.path.join(self._root, path)

    def _too_large(self, size: int) -> str:
        if self._max_bytes is None or size <= self._max_bytes:
            return ""
        return f"{size} bytes, above the limit of {self._max_bytes}"

    # --- what may leave the host ----------------------------------------------------------------

    def _refused(self, base: str, tree: str) -> list[tuple[_Changed, str]]:
        """Files of `tree`, other than in `base`, that must stay here, and why."""
        if tree == base:
            return []
        # git takes an index's word for the trees of its folders, and the agent wrote the index.
        refuse_growth(self._repo, tree, base)
        return self._unfit_for_remotes(
            list(_changes(self._git("diff-tree", "-r", "-z", "--no-renames", base, tree).stdout))
        )

    def _unfit_for_remotes(self, changes: Sequence[_Changed]) -> list[tuple[_Changed, str]]:
        changed = [one for one in changes if one.mode not in {"000000", _GITLINK}]
        sizes = self._sizes({one.blob for one in changed})
        self._search({one.blob: one.path for one in changed if not self._too_large(sizes[one.blob])}, sizes)
        refused = []
        for one in changed:
            why = self._too_large(sizes[one.blob]) or secret_in_name(os.fsdecode(one.path))
            what = self._judged.get(one.blob, "")
            if why or what:
                refused.append((one, why or f"it seems to hold {what}"))
        return refused

    def _sizes(self, blobs: set[str]) -> dict[str, int]:
        if not blobs:
            return {}
        asked = "".join(f"{blob}\n" for blob in sorted(blobs)).encode()
        answer = self._git("cat-file", "--batch-check=%(objectname) %(objectsize)", stdin=asked).text
        rows = [line.split(" ") for line in answer.splitlines()]
        return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdecimal()}

    def _search(self, paths: dict[str, bytes], sizes: dict[str, int]) -> None:
        """Search these blobs for secrets, some at a time. Of one that memory should not hold, its file's beginning."""
        some: list[str] = []
        for blob, path in paths.items():
            if blob in self._judged:
                continue
            if sizes[blob] > 2 * SEARCHED_BYTES:
                self._judged[blob] = secret_in(_beginning(self._place(path)))
                continue
            if some and sum(sizes[one] for one in some) + sizes[blob] > _READ_AT_ONCE:
                self._search_these(some)
                some = []
            some.append(blob)
        if some:
            self._search_these(some)

    def _search_these(self, blobs: Sequence[str]) -> None:
        contents = self._git("cat-file", "--batch", stdin="".join(f"{blob}\n" for blob in blobs).encode()).stdout
        position = 0
        for blob in blobs:
            end = contents.index(b"\n", position)
            size = int(contents[position:end].rsplit(b" ", 1)[1])
            self._judged[blob] = secret_in(contents[end + 1 : end + 1 + size])
            position = end + size + 2

    def _without(self, refused: Sequence[tuple[_Changed, str]]) -> str:
        """The index's tree, with the refused files as they were before, or absent."""
        rows = [
            b"%s %s\t%s\0" % (one.old_mode.lstrip("0").encode() or b"0", one.old_blob.encode(), one.path)
            for one, _ in refused
        ]
        self._git("update-index", "-z", "--index-info", stdin=b"".join(rows))
        return self._write_tree()


def _told(path: bytes, why: str) -> str:
    """There may be thousands of those, of thousands of characters each."""
    return f"files with {why}" if why == _TOO_LONG else f"{_shown(path)} is {why}"


def _shown(path: bytes) -> str:
    name = os.fsdecode(path).rstrip("/")
    return name if name.isprintable() else ascii(name)


def _changes(listed: bytes) -> Iterator[_Changed]:
    """Out of raw diffs with NULs, of one commit or of many."""
    parts = iter(listed.split(b"\0"))
    for facts in parts:
        if facts.startswith(b":"):
            old_mode, mode, old_blob, blob, _ = facts.decode("ascii")[1:].split(" ")
            yield _Changed(old_mode, mode, old_blob, blob, next(parts))


def _beginning(path: bytes) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read(SEARCHED_BYTES)
    except OSError:
        return b""
