"""Git LFS: contents that stand in commits as pointers, on their way between a remote and this host.

Files are filtered by git-lfs itself. What the town moves, it moves from and to a storage of its
own (`rigs/<rig>/lfs`): git-lfs's layout, `objects/<ab>/<cd>/<oid>`. Remotes on this machine (a path
or a file URL) are read and written by the town: git-lfs 3.3 takes no plain path, and with a
git directory that is named to it, as ours are, it uploads a local remote's objects to itself.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shlex
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from activities.git.command import REMOTE_TIMEOUT_S, GitRepo, failure
from activities.git.remote_kinds import local_path, same_reach
from models import names
from models.errors import DISK_FULL_HINT, ErrorCode, GtError

_POINTER: Final = re.compile(
    rb"version https://(?:git-lfs\.github|hawser\.github)\.com/spec/v1\n"
    rb"(?:ext-[^\n]*\n)*oid sha256:([0-9a-f]{64})\nsize ([0-9]{1,18})\n?"
)
_POINTER_MAX_BYTES: Final = 1024
"""git-lfs takes nothing longer for a pointer"""
_ATTRIBUTE: Final = r"^[^#]*[[:space:]]filter=lfs([[:space:]]|$)"
_ENDPOINT: Final = re.compile(r"lfs\.(?:push)?url|remote\..*\.lfs(?:push)?url")
_ANSWERS_KEPT: Final = 1_000
_answers: dict[str, bool] = {}
"""of `uses_lfs`, by full names of commits: many jobs start from one"""
_CHUNK: Final = 1 << 20
_OIDS_A_CALL: Final = 400
_INSTALL: Final = "install git-lfs on every host of the town (apt-get install git-lfs), or set worktree.lfs never"


class Pointer(NamedTuple):
    """A content that a commit names."""

    oid: str
    size: int
    """bytes"""
    path: str
    filtered: bool = True
    """the tree's attributes say that git-lfs puts the content here; else it is a text that looks like a pointer"""


@dataclass(frozen=True)
class LfsCheckout:
    """Whether and how LFS content is put into work trees.

    Attributes:
        storage: the town's own, `TownPaths.lfs`.
        mode: the setting worktree.lfs: auto, always or never.
    """

    storage: Path
    mode: str = "auto"

    def wanted(self, repo: GitRepo, commit: str) -> bool:
        return self.mode == "always" or (self.mode == "auto" and uses_lfs(repo, commit))

    def options(self, repo: GitRepo, commit: str, url: str) -> list[str]:
        """git's options for a checkout of `commit`, of a repository with the remote `url`; see `prepare_checkout`."""
        pairs = prepare_checkout(repo, commit, url, self.storage) if self.wanted(repo, commit) else no_filter_config()
        return as_options(pairs)


def uses_lfs(repo: GitRepo, commit: str) -> bool:
    """Whether some .gitattributes of the commit's tree hands files to git-lfs.

    Raises:
        GtError: GIT_FAILED.
    """
    if commit in _answers:
        return _answers[commit]
    attributes = ("grep", "--quiet", "-I", "-E", "-e", _ATTRIBUTE, commit, "--", ".gitattributes", "**/.gitattributes")
    answer = repo.attempt(*attributes, environment={"GIT_LITERAL_PATHSPECS": "0", "GIT_GLOB_PATHSPECS": "1"})
    if answer.exit_code not in {0, 1}:
        raise failure(answer, "reading .gitattributes")
    if names.OBJECT_NAME.fullmatch(commit):
        if len(_answers) >= _ANSWERS_KEPT:
            _answers.clear()
        _answers[commit] = answer.exit_code == 0
    return answer.exit_code == 0


def find_program() -> str | None:
    """Where git-lfs is on this host; None where it is not."""
    return shutil.which("git-lfs")


def lfs_program() -> str:
    """Where git-lfs is on this host.

    Raises:
        GtError: PROGRAM_MISSING.
    """
    program = find_program()
    if program is None:
        raise GtError(ErrorCode.PROGRAM_MISSING, "the repository uses Git LFS and git-lfs is not installed", _INSTALL)
    return program


def prepare_checkout(repo: GitRepo, commit: str, url: str, storage: Path) -> list[tuple[str, str]]:
    """git's settings under which the town's `checkout` and `read-tree -u` put the commit's LFS content into files.

    For `-c`, or the configuration of a git directory that no agent writes. What a remote on this
    machine has is brought to the storage first; git-lfs itself asks any other remote.

    Args:
        url: of the repository's remote.
        storage: the town's own, `TownPaths.lfs`.

    Raises:
        GtError: PROGRAM_MISSING; REFUSED where .lfsconfig names a place that is not allowed; DISK_FULL, GIT_FAILED.
    """
    pairs = [*repository_config(url), ("lfs.storage", str(storage)), *_endpoints(repo, commit)]
    check_endpoints(repo, commit, url)
    remote = _local_storage(repo, commit, url)
    if remote is not None:
        adopt(tree_pointers(repo, commit), remote, storage, trusted=True)
    return pairs


def repository_config(url: str) -> list[tuple[str, str]]:
    """git's settings for a repository that LFS works in with a storage of its own, as an agent's does.

    Raises:
        GtError: PROGRAM_MISSING, INVALID_VALUE.
    """
    program = shlex.quote(lfs_program())
    local = local_path(names.valid_remote(url))
    return [
        ("filter.lfs.process", f"{program} filter-process"),
        ("filter.lfs.clean", f"{program} clean -- %f"),
        ("filter.lfs.smudge", f"{program} smudge -- %f"),
        ("filter.lfs.required", "true"),
        # What a commit's .lfsconfig says of these would hide that something is missing.
        ("lfs.skipdownloaderrors", "false"),
        ("lfs.locksverify", "false"),
        ("remote.origin.lfsurl" if local else "remote.origin.url", f"file://{local}" if local else url),
    ]


def no_filter_config() -> list[tuple[str, str]]:
    """git's settings under which pointers stay pointers, whatever the person has set up."""
    unset = [(f"filter.lfs.{name}", "") for name in ("process", "clean", "smudge")]
    return [*unset, ("filter.lfs.required", "false")]


def as_options(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Settings as git's own options: before the command's name."""
    return [word for key, value in pairs for word in ("-c", f"{key}={value}")]


def pointers(repo: GitRepo, head: str, known: Sequence[str]) -> list[Pointer]:
    """What commits that `head` has and none of `known` has bring along: all of them, not the tip alone.

    Raises:
        GtError: GIT_FAILED.
    """
    listed = repo.run("rev-list", "--objects", head, *(f"^{commit}" for commit in known), "--").stdout
    paths = dict(line.split(b" ", 1) for line in listed.splitlines() if b" " in line)
    return _filtered(repo, head, _read_pointers(repo, paths))


def tree_pointers(repo: GitRepo, commit: str) -> list[Pointer]:
    """What a checkout of `commit` needs.

    Raises:
        GtError: GIT_FAILED.
    """
    paths: dict[bytes, bytes] = {}
    for entry in repo.run("ls-tree", "-r", "-z", "-l", "--full-tree", commit).stdout.split(b"\0"):
        fields, _, path = entry.partition(b"\t")
        words = fields.split()
        if len(words) == 4 and words[1] == b"blob" and int(words[3]) <= _POINTER_MAX_BYTES:
            paths.setdefault(words[2], path)
    return [pointer for pointer in _filtered(repo, commit, _read_pointers(repo, paths)) if pointer.filtered]


def publish_objects(
    repo: GitRepo, url: str, head: str, known: Sequence[str], agent_storage: Path | None, storage: Path
) -> int:
    """See to it that the remote has every object that `head` brings along; to be called before `head` is pushed.

    Args:
        known: commits that the remote has, with their objects.
        agent_storage: `.git/lfs` of the repository that the work was done in: not trusted.
        storage: the town's own.

    Returns:
        How many objects were uploaded.

    Raises:
        GtError: REFUSED where an object is neither here nor on the remote, or .lfsconfig names a place that
            is not allowed; PROGRAM_MISSING, REMOTE_REFUSED, REMOTE_UNREACHABLE, DISK_FULL, GIT_FAILED.
    """
    wanted = pointers(repo, head, known)
    if not any(pointer.filtered for pointer in wanted):
        return 0
    lfs_program()
    check_endpoints(repo, head, url)
    absent = set(adopt(wanted, agent_storage, storage))
    upload(repo, url, [pointer for pointer in wanted if pointer not in absent], storage, head)
    lost = missing(repo, url, [pointer for pointer in absent if pointer.filtered], storage, head)
    if lost:
        raise GtError(
            ErrorCode.REFUSED,
            f"the content of {_listing(lost)} is in Git LFS, and neither the worktree nor the remote has it",
            "add the files again with git-lfs set up (git lfs install --local; git add --renormalize), then commit",
        )
    return len(wanted) - len(absent)


def adopt(
    wanted: Iterable[Pointer], from_storage: Path | None, to_storage: Path, *, trusted: bool = False
) -> list[Pointer]:
    """Copy objects out of a repository's `.git/lfs`; each is verified.

    Args:
        trusted: a person's own repository. In any other no link is followed, `.git` and `lfs` included.

    Returns:
        Those that are not there, or are not what their name says.

    Raises:
        GtError: DISK_FULL.
    """
    absent = []
    for pointer in wanted:
        if _has(to_storage, pointer):
            continue
        source = _open_object(from_storage, pointer.oid, trusted=trusted) if from_storage is not None else None
        if source is None:
            absent.append(pointer)
            continue
        with source:
            if not _store(source, pointer, to_storage):
                absent.append(pointer)
    return absent


def upload(repo: GitRepo, url: str, wanted: Sequence[Pointer], storage: Path, commit: str) -> None:
    """Put objects of `storage` on the remote; what is there already is left.

    Args:
        commit: whose .lfsconfig may name another place than the remote itself.

    Raises:
        GtError: REMOTE_REFUSED, REMOTE_UNREACHABLE with git-lfs's words.
    """
    remote = _local_storage(repo, commit, url)
    if remote is not None:
        _give(wanted, storage, remote)
        return
    oids = sorted({pointer.oid for pointer in wanted})
    options = _options(repo, commit, url, storage)
    for start in range(0, len(oids), _OIDS_A_CALL):
        push = ("lfs", "push", "--object-id", "origin", *oids[start : start + _OIDS_A_CALL])
        answer = repo.attempt(*options, *push, timeout_s=REMOTE_TIMEOUT_S)
        if answer.exit_code != 0:
            raise _unsent(failure(answer, f"uploading Git LFS content of {_listing(wanted)}"))


def missing(repo: GitRepo, url: str, wanted: Sequence[Pointer], storage: Path, commit: str) -> list[Pointer]:
    """Those of `wanted` that the remote cannot give; what it gives stands in `storage` then.

    Raises:
        GtError: REMOTE_UNREACHABLE, DISK_FULL.
    """
    remote = _local_storage(repo, commit, url)
    if remote is not None:
        return adopt(wanted, remote, storage, trusted=True)
    options = _options(repo, commit, url, storage)
    lost = []
    for pointer in wanted:
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{pointer.oid}\nsize {pointer.size}\n"
        answer = repo.attempt(*options, "lfs", "smudge", stdin=text.encode(), timeout_s=REMOTE_TIMEOUT_S)
        if answer.exit_code != 0 or not _has(storage, pointer):
            error = failure(answer, "asking for Git LFS content")
            if error.code is ErrorCode.REMOTE_UNREACHABLE:
                raise error
            lost.append(pointer)
    return lost


def check_endpoints(repo: GitRepo, commit: str, url: str) -> None:
    """Refuse an .lfsconfig that sends the town's git-lfs to a kind of place that the remote is not.

    Raises:
        GtError: REFUSED.
    """
    for key, value in _endpoints(repo, commit):
        try:
            allowed = same_reach(value, url)
        except GtError:
            allowed = False
        if not allowed:
            raise GtError(
                ErrorCode.REFUSED,
                f".lfsconfig sets {key} to {value[:100]!r}, which is not allowed for this remote",
                "use an https or ssh URL of a Git LFS server",
            )


def _options(repo: GitRepo, commit: str, url: str, storage: Path) -> list[str]:
    return as_options([*repository_config(url), ("lfs.storage", str(storage)), *_endpoints(repo, commit)])


def _endpoints(repo: GitRepo, commit: str) -> list[tuple[str, str]]:
    """Where the commit's own .lfsconfig says that content is kept."""
    answer = repo.attempt("config", f"--blob={commit}:.lfsconfig", "--no-includes", "-z", "--list")
    if answer.exit_code != 0:
        return []
    pairs = (entry.partition("\n") for entry in answer.text.split("\0") if entry)
    return [(key, value) for key, _, value in pairs if _ENDPOINT.fullmatch(key.lower())]


def _local_storage(repo: GitRepo, commit: str, url: str) -> Path | None:
    """The storage of a remote on this machine; None where it is elsewhere.

    Raises:
        GtError: REMOTE_UNREACHABLE.
    """
    given = dict(_endpoints(repo, commit))
    path = local_path(given.get("lfs.url") or given.get("remote.origin.lfsurl") or url)
    if path is None:
        return None
    git_dir = path / ".git" if (path / ".git").is_dir() else path
    if not (git_dir / "objects").is_dir():
        raise GtError(ErrorCode.REMOTE_UNREACHABLE, f"{path} is not a git repository")
    return git_dir / "lfs"


def _give(wanted: Sequence[Pointer], storage: Path, remote: Path) -> None:
    for pointer in wanted:
        if _has(remote, pointer):
            continue
        try:
            with _object(storage, pointer.oid).open("rb") as source:
                whole = _store(source, pointer, remote)
        except OSError as error:
            raise _refused_here(error, remote) from error
        if not whole:
            raise GtError(ErrorCode.GIT_FAILED, f"{_object(storage, pointer.oid)} is damaged")


def _refused_here(error: OSError, remote: Path) -> GtError:
    code = ErrorCode.REMOTE_REFUSED if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS} else ErrorCode.GIT_FAILED
    return GtError(code, f"Git LFS content cannot be written to {remote}: {error.strerror or error}")


def _unsent(error: GtError) -> GtError:
    """git-lfs has words of its own: what is not a network's failure is the server's no."""
    known = {ErrorCode.REMOTE_UNREACHABLE, ErrorCode.DISK_FULL, ErrorCode.PROGRAM_MISSING}
    code = error.code if error.code in known else ErrorCode.REMOTE_REFUSED
    return GtError(code, error.message, "check the Git LFS server's quota and rules, and this host's credentials")


def _listing(wanted: Sequence[Pointer]) -> str:
    named = ", ".join(f"{pointer.path} ({pointer.oid[:12]})" for pointer in wanted[:3])
    return named if len(wanted) <= 3 else f"{named} and {len(wanted) - 3} more"


def _read_pointers(repo: GitRepo, paths: dict[bytes, bytes]) -> list[Pointer]:
    """The pointers among the objects that are the keys of `paths`."""
    asked = b"".join(name + b"\n" for name in paths)
    sizes = repo.run("cat-file", "--batch-check=%(objectname) %(objecttype) %(objectsize)", stdin=asked).stdout
    small = []
    for line in sizes.splitlines():
        name, kind, *size = line.split()
        if kind == b"blob" and int(size[0]) <= _POINTER_MAX_BYTES:
            small.append(name)
    if not small:
        return []
    out = repo.run("cat-file", "--batch", stdin=b"".join(name + b"\n" for name in small)).stdout
    found, at = [], 0
    for name in small:
        start = out.index(b"\n", at) + 1
        length = int(out[at : start - 1].split()[2])
        match = _POINTER.fullmatch(out[start : start + length])
        at = start + length + 1
        if match is not None:
            path = paths[name].decode("utf-8", "surrogateescape")
            found.append(Pointer(match[1].decode(), int(match[2]), path))
    return found


def _filtered(repo: GitRepo, commit: str, found: list[Pointer]) -> list[Pointer]:
    """The pointers, with what the attributes of the commit's tree say of their paths."""
    if not found:
        return []
    asked = b"".join(os.fsencode(pointer.path) + b"\0" for pointer in found)
    with _view(repo) as view:
        view.run("read-tree", repo.resolve(commit) or commit)
        shown = view.run("check-attr", "--cached", "-z", "--stdin", "filter", stdin=asked).stdout.split(b"\0")
    ours = {path for path, value in zip(shown[0::3], shown[2::3], strict=False) if value == b"lfs"}
    return [pointer._replace(filtered=os.fsencode(pointer.path) in ours) for pointer in found]


@contextlib.contextmanager
def _view(repo: GitRepo) -> Iterator[GitRepo]:
    """The repository's objects under a git directory whose info/attributes say nothing."""
    objects = repo.run("rev-parse", "--path-format=absolute", "--git-path", "objects").word
    with tempfile.TemporaryDirectory(prefix="gt-lfs-") as folder:
        git_dir = Path(folder)
        (git_dir / "objects" / "info").mkdir(parents=True)
        (git_dir / "refs").mkdir()
        (git_dir / "objects" / "info" / "alternates").write_text(f"{objects}\n", encoding="utf-8")
        (git_dir / "HEAD").write_text("ref: refs/heads/none\n", encoding="utf-8")
        (git_dir / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tbare = true\n", encoding="utf-8")
        yield GitRepo(git_dir)


def _object(storage: Path, oid: str) -> Path:
    return storage / "objects" / oid[:2] / oid[2:4] / oid


def _has(storage: Path, pointer: Pointer) -> bool:
    if pointer.size == 0:
        return True
    try:
        found = os.lstat(_object(storage, pointer.oid))
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == pointer.size


def _open_object(storage: Path, oid: str, *, trusted: bool) -> BinaryIO | None:
    """Open an object of a storage; None where there is no plain file. By plain folders alone unless it is trusted."""
    if trusted:
        place = _object(storage, oid)
        return place.open("rb") if place.is_file() else None
    # The two folders that lead to it, `.git` and `lfs`, are theirs too.
    parts = (*storage.parts[-2:], "objects", oid[:2], oid[2:4])
    handles: list[int] = []
    try:
        handles.append(os.open(storage.parent.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        for part in parts:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            handles.append(os.open(part, flags, dir_fd=handles[-1]))
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.open(oid, flags, dir_fd=handles[-1])
    except OSError:
        return None
    finally:
        for handle in handles:
            os.close(handle)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        return None
    return os.fdopen(file, "rb")


def _store(source: BinaryIO, pointer: Pointer, storage: Path) -> bool:
    """Put a content under its name, whole or not at all; False where it is not what the name says.

    Raises:
        GtError: DISK_FULL.
    """
    place = _object(storage, pointer.oid)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(prefix=".new-", dir=place.parent)
        with os.fdopen(handle, "wb") as target:
            whole = _copy(source, target.write, pointer)
        if whole:
            os.chmod(aside, 0o644)
            os.rename(aside, place)
        else:
            os.unlink(aside)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise GtError(ErrorCode.DISK_FULL, f"Git LFS content cannot be kept: {error}", DISK_FULL_HINT) from error
    return whole


def _copy(source: BinaryIO, write: Callable[[bytes], int], pointer: Pointer) -> bool:
    digest, left = hashlib.sha256(), pointer.size
    while chunk := source.read(_CHUNK):
        left -= len(chunk)
        if left < 0:
            return False
        digest.update(chunk)
        write(chunk)
    return left == 0 and digest.hexdigest() == pointer.oid
