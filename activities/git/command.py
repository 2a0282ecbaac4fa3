"""git, and the only user of GitPython: argv form, full ref names, an environment we chose.

Every command runs with hooks off, without prompts, maintenance or system configuration, with the town's own
file as the user's configuration, and with the settings that would change what it computes or prints fixed;
HOME stays, so that the user's ssh keys and credential helpers work. What goes wrong leaves as a GtError.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Final, NamedTuple, Self

import git
from git.exc import GitCommandNotFound

from models import names
from models.errors import DISK_FULL_HINT, ErrorCode, GtError
from models.git_errors import classify, is_over_time, plain_words, remote_words
from models.secret_variables import bends_git, needless_for_git
from services.git_config import FETCH, fixed_environment

REMOTE_TIMEOUT_S: Final = 540.0
"""A command that talks to a remote is ended before its activity's 10 minutes are over."""

ABSENT: Final = "not our ref"
"""what a remote says of an object that it does not have"""

_ASKED_AT_ONCE: Final = 100
"""objects; what git is asked must fit a pipe while it answers"""

_OF_COMMITS: Final = ("refs/heads/", "refs/remotes/", "refs/gastown/work/", "refs/gastown/target/")
"""Refs that name commits and nothing else: what they say needs no peeling."""
_OUT_OF_MEMORY: Final = ("ut of memory", "annot allocate memory")


_ENVIRONMENT: Final = fixed_environment(Path(os.devnull))


def use_config(path: Path) -> None:
    """From now on `path` is the user's configuration of every git command of this process; see services.git_config.

    Without this call there is none.
    """
    _ENVIRONMENT["GIT_CONFIG_GLOBAL"] = str(path)


class Answer(NamedTuple):
    """What a git command gave back."""

    exit_code: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout.decode("utf-8", "replace")

    @property
    def word(self) -> str:
        """The output as one value: an object name, a count, a ref."""
        return self.text.strip()


def failure(answer: Answer, doing: str) -> GtError:
    """The GtError for a command that failed while `doing` something ("fetching shop")."""
    code = classify(answer.stderr, answer.exit_code)
    said = remote_words(answer.stderr) if code is ErrorCode.REMOTE_REFUSED else plain_words(answer.stderr)
    words = said or f"git ended with {answer.exit_code}"
    hint = {
        ErrorCode.DISK_FULL: DISK_FULL_HINT,
        ErrorCode.REMOTE_REFUSED: "check the remote's rules and this host's credentials",
    }.get(code, "")
    return GtError(code, f"{doing}: {words}", hint)


class Bounds(NamedTuple):
    """How much each command may take that reads what an agent wrote: an index can stand for any number of files."""

    cpu_s: int
    wall_s: float
    """for what waits, as for a pipe in an object's place; a busy machine needs many times the work's own seconds"""
    memory_bytes: int
    """of its own data; mapped packs do not count"""

    def prefix(self) -> list[str]:
        # A lower limit that holds already stays.
        limited = f"ulimit -S -t {self.cpu_s} 2>/dev/null; ulimit -S -d {self.memory_bytes // 1024} 2>/dev/null"
        return ["sh", "-c", f'{limited}; exec "$@"', "sh"]


class GitRepo:
    """One repository, or one work tree of it.

    Args:
        git_dir: the repository, or a work tree's own directory in it.
        work_tree: where files are, for the commands that touch files.
        environment: variables added to the safe ones (an index file, an author).
        bounds: of each command; None: only what a command itself is given.
    """

    def __init__(
        self,
        git_dir: Path,
        work_tree: Path | None = None,
        environment: Mapping[str, str] | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        self.git_dir = git_dir
        self.work_tree = work_tree
        self.environment = dict(environment or {})
        self.bounds = bounds

    def command(self, *arguments: str) -> list[str]:
        """What runs for `git <arguments>` here."""
        work_tree = [f"--work-tree={self.work_tree}"] if self.work_tree is not None else []
        prefix = self.bounds.prefix() if self.bounds is not None else []
        return [*prefix, "git", f"--git-dir={self.git_dir}", *work_tree, *arguments]

    def attempt(
        self,
        *arguments: str,
        stdin: bytes | None = None,
        environment: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Answer:
        """Run `git <arguments>` and give back whatever came of it.

        Raises:
            GtError: PROGRAM_MISSING; INVALID_VALUE where it went beyond the bounds.
        """
        bounds = self.bounds
        if bounds is not None:
            timeout_s = bounds.wall_s if timeout_s is None else min(timeout_s, bounds.wall_s)
        given = {**self.environment, **(environment or {})}
        answer = _execute(self.command(*arguments), self.work_tree, given, stdin, timeout_s)
        if bounds is not None and answer.exit_code != 0:
            self._refuse_beyond(arguments[0], answer)
        return answer

    def _refuse_beyond(self, command: str, answer: Answer) -> None:
        """Trying again takes as much; so no caller is to take it for a failure of the moment."""
        beyond = ""
        if answer.exit_code == -signal.SIGXCPU or is_over_time(answer.stderr):
            beyond = "took more time than is allowed"
        elif any(sign in answer.stderr for sign in _OUT_OF_MEMORY):
            beyond = "needed more memory than is allowed"
        if beyond:
            where = self.work_tree or self.git_dir
            raise GtError(
                ErrorCode.INVALID_VALUE, f"git {command} of {where} {beyond}: too much is committed or staged"
            )

    def run(
        self,
        *arguments: str,
        stdin: bytes | None = None,
        environment: Mapping[str, str] | None = None,
        doing: str = "",
    ) -> Answer:
        """`attempt` of a command whose failure is a failure.

        Raises:
            GtError: what models.git_errors.classify finds.
        """
        answer = self.attempt(*arguments, stdin=stdin, environment=environment)
        if answer.exit_code != 0:
            raise failure(answer, doing or f"git {arguments[0]}")
        return answer

    def resolve(self, revision: str) -> str | None:
        """Full name of the commit that `revision` stands for, or None."""
        if revision.startswith(_OF_COMMITS) and (commit := self._stored(revision)):
            return commit
        answer = self.attempt("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        return answer.word if answer.exit_code == 0 else None

    def _stored(self, ref: str) -> str:
        """What the files of a repository say of a ref; "" where they say nothing, and git has to be asked."""
        said = ""
        with contextlib.suppress(OSError, ValueError):
            said = (self.git_dir / ref).read_text(encoding="ascii").strip()
        with contextlib.suppress(OSError):
            if not said:
                # Second, for that is the way from the one file to the other.
                before, found, _ = (self.git_dir / "packed-refs").read_bytes().partition(f" {ref}\n".encode())
                said = before.rpartition(b"\n")[2].decode("ascii", "replace") if found else ""
        return said if names.OBJECT_NAME.fullmatch(said) else ""

    def make_way(self, ref: str) -> None:
        """Delete refs that keep `ref` from being made: git has none below another.

        For refs of the form `refs/<a>/<b>/…` that follow a remote: it has not both either, so the others are stale.
        """
        parts = ref.split("/")
        above = ["/".join(parts[:length]) for length in range(4, len(parts))]
        listed = self.run("for-each-ref", "--format=%(refname)", ref, *above).text.splitlines()
        for name in listed:
            if name in above or name.startswith(f"{ref}/"):
                self.run("update-ref", "-d", name)

    def is_ancestor(self, ancestor: str, descendant: str) -> bool:
        """Whether `descendant` holds `ancestor`. A commit that is not here holds nothing and is held by none."""
        return self.attempt("merge-base", "--is-ancestor", ancestor, descendant).exit_code == 0

    def try_fetch(self, url: str, refspecs: Sequence[str], options: Sequence[str] = ()) -> Answer:
        """Fetch exactly `refspecs` (full refs or object names) from `url`; the caller judges the answer."""
        where = ("--", names.valid_remote(url))
        return self.attempt("fetch", *FETCH, *options, *where, *refspecs, timeout_s=REMOTE_TIMEOUT_S)

    def fetch(self, url: str, refspecs: Sequence[str], options: Sequence[str] = ()) -> None:
        """`try_fetch` that must succeed.

        Raises:
            GtError: REMOTE_UNREACHABLE and others of models.git_errors.
        """
        answer = self.try_fetch(url, refspecs, options)
        if answer.exit_code != 0:
            raise remote_failure(answer, "fetching")

    def push(self, url: str, refspecs: Sequence[str], leases: Mapping[str, str], *, atomic: bool = False) -> Answer:
        """Push with an expected old value for each ref; the caller judges the answer.

        Args:
            refspecs: `<sha>:<full ref>`, or `:<full ref>` to delete it.
            leases: full ref → the object that the remote must still hold there, "" for none.
            atomic: all refs move or none does.
        """
        options = [f"--force-with-lease={ref}:{expected}" for ref, expected in leases.items()]
        if atomic:
            options.append("--atomic")
        return self.attempt(
            "push",
            "--porcelain",
            "--no-verify",
            *options,
            "--",
            names.valid_remote(url),
            *refspecs,
            timeout_s=REMOTE_TIMEOUT_S,
        )


class GitProcess:
    """A git command that is asked many things; it starts with the first, and ends with the `with` block."""

    def __init__(self, repo: GitRepo, *arguments: str) -> None:
        self._repo = repo
        self._arguments = arguments
        self._watchdog: threading.Timer | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it; the next question starts it anew."""
        if self._watchdog is not None:
            self._watchdog.cancel()
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        if self._stderr is not None:
            self._stderr.close()
        self._process = self._stderr = self._watchdog = None

    def ask(self, words: bytes) -> IO[bytes]:
        """Where the answer comes; its end before that means that git has ended: `ended` tells why.

        Raises:
            GtError: PROGRAM_MISSING.
        """
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(words)
            process.stdin.flush()
        return process.stdout

    def ended(self) -> Answer:
        """What git ended with, in the middle of an answer."""
        assert self._process is not None
        assert self._stderr is not None
        exit_code = self._process.wait()
        self._stderr.seek(0)
        stderr = self._stderr.read().decode("utf-8", "replace")
        self.close()
        return Answer(exit_code or 128, b"", stderr)

    def _start(self) -> subprocess.Popen[bytes]:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - read once git has ended
        folder = self._repo.work_tree
        try:
            process = subprocess.Popen(
                self._repo.command(*self._arguments),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                cwd=folder if folder is not None and folder.is_dir() else None,
                env=_inherited() | _ENVIRONMENT | self._repo.environment,
            )
        except FileNotFoundError as error:
            raise GtError(ErrorCode.PROGRAM_MISSING, "git is not on PATH", "install git 2.39 or newer") from error
        if self._repo.bounds is not None:
            self._watchdog = threading.Timer(self._repo.bounds.wall_s, process.kill)
            self._watchdog.daemon = True
            self._watchdog.start()
        return process


class ObjectReader:
    """Reads many objects of a repository through one git process, which ends with the `with` block."""

    def __init__(self, repo: GitRepo) -> None:
        self._git = GitProcess(repo, "cat-file", "--batch")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._git.close()

    def read(self, objects: Sequence[str], most_bytes: int, kind: str = "") -> list[bytes]:
        """The objects' contents, in their order; nothing for one of more than `most_bytes`.

        Args:
            kind: that all of them are to be: tree, blob, commit; any without it.

        Raises:
            GtError: GIT_FAILED where one is missing, or of another kind; PROGRAM_MISSING.
        """
        contents = []
        for start in range(0, len(objects), _ASKED_AT_ONCE):
            part = objects[start : start + _ASKED_AT_ONCE]
            stream = self._git.ask("".join(f"{name}\n" for name in part).encode())
            contents += [_content(stream, name, most_bytes, kind) for name in part]
        return contents


def _content(stream: IO[bytes], name: str, most_bytes: int, kind: str) -> bytes:
    """One answer of `git cat-file --batch`: `<name> <type> <size>`, a line end, the content, a line end."""
    header = stream.readline().split()
    if len(header) != 3:
        raise GtError(ErrorCode.GIT_FAILED, f"reading {name}: {b' '.join(header[1:]).decode() or 'git ended'}")
    if kind and header[1] != kind.encode():
        raise GtError(ErrorCode.GIT_FAILED, f"{name} is a {header[1].decode()}, not a {kind}")
    size = int(header[2])
    if size <= most_bytes:
        return stream.read(size + 1)[:-1]
    left = size + 1
    while left and (passed := len(stream.read(min(left, 1 << 20)))):
        left -= passed
    return b""


def init_bare(path: Path) -> None:
    """Make an empty bare repository at `path`, without the hooks and files of any template.

    Raises:
        GtError: DISK_FULL, GIT_FAILED.
    """
    command = ["git", "init", "--quiet", "--bare", "--template=", "--initial-branch=main", "--", str(path)]
    answer = _execute(command, None, {}, None, None)
    if answer.exit_code != 0:
        raise failure(answer, "making a repository")


def ls_remote(url: str, patterns: Sequence[str]) -> dict[str, str]:
    """Which of the refs `patterns` (full names; a final `/*` stands for a folder) the remote has.

    Returns:
        full ref → object name.

    Raises:
        GtError: REMOTE_UNREACHABLE and others of models.git_errors.
    """
    wanted = set(patterns)
    # git matches patterns at the end of names too: refs/heads/x finds refs/heads/refs/heads/x.
    listed = _listed(url, patterns)
    return {ref: sha for ref, sha in listed.items() if ref in wanted or f"{ref.rpartition('/')[0]}/*" in wanted}


def ls_remote_under(url: str, places: Sequence[str]) -> dict[str, str]:
    """All that the remote has under these folders, which end in `/`, however deep; and refs of these full names.

    Raises:
        GtError: REMOTE_UNREACHABLE and others of models.git_errors.
    """
    listed = _listed(url, [f"{place}*" if place.endswith("/") else place for place in places])
    folders = tuple(place for place in places if place.endswith("/"))
    return {ref: sha for ref, sha in listed.items() if ref in places or ref.startswith(folders)}


def remote_head(url: str) -> tuple[str | None, dict[str, str]]:
    """The branch that the remote's HEAD names, if it exists, and all branches with their commits.

    Raises:
        GtError: REMOTE_UNREACHABLE and others of models.git_errors.
    """
    command = ["git", "ls-remote", "--quiet", "--symref", "--", names.valid_remote(url), "HEAD", "refs/heads/*"]
    answer = _execute(command, None, {}, None, REMOTE_TIMEOUT_S)
    if answer.exit_code != 0:
        raise remote_failure(answer, "asking the remote")
    head, branches = None, {}
    for what, _, ref in (line.partition("\t") for line in answer.text.splitlines()):
        if ref == "HEAD" and what.startswith("ref: refs/heads/"):
            head = what.removeprefix("ref: refs/heads/")
        elif ref.startswith("refs/heads/"):
            branches[ref.removeprefix("refs/heads/")] = what
    return head if head in branches else None, branches


def ls_remote_branches(url: str, first: str) -> dict[str, str]:
    """Branches of the remote with this short name, or with it and a dot and more: short name → object name.

    Raises:
        GtError: REMOTE_UNREACHABLE and others of models.git_errors.
    """
    ref = f"refs/heads/{names.valid_branch(first)}"
    listed = _listed(url, [ref, f"{ref}.*"])
    return {
        name.removeprefix("refs/heads/"): sha
        for name, sha in listed.items()
        if name == ref or name.startswith(f"{ref}.")
    }


def _listed(url: str, patterns: Sequence[str]) -> dict[str, str]:
    answer = _execute(
        ["git", "ls-remote", "--quiet", "--", names.valid_remote(url), *patterns], None, {}, None, REMOTE_TIMEOUT_S
    )
    if answer.exit_code != 0:
        raise remote_failure(answer, "asking the remote")
    rows = [line.partition("\t") for line in answer.text.splitlines()]
    return {ref: sha for sha, _, ref in rows}


def remote_failure(answer: Answer, doing: str) -> GtError:
    """A remote that was good when the rig was added and now is no repository has gone away: it may come back."""
    error = failure(answer, doing)
    if error.code is ErrorCode.NOT_A_REPOSITORY:
        return GtError(ErrorCode.REMOTE_UNREACHABLE, error.message, error.hint)
    return error


def push_failure(answer: Answer, doing: str) -> GtError:
    """The GtError for a push that failed as a whole; the words of a refused ref stand in its porcelain lines."""
    refused = [line for line in answer.text.splitlines() if line.startswith("!")]
    said = Answer(answer.exit_code, answer.stdout, "\n".join([answer.stderr, *refused]))
    return remote_failure(said, doing)


def _execute(
    command: Sequence[str],
    folder: Path | None,
    environment: Mapping[str, str],
    stdin: bytes | None,
    timeout_s: float | None,
) -> Answer:
    runner = git.Git(folder if folder is not None else Path("/"))
    with tempfile.TemporaryFile() as given:
        if stdin is not None:
            given.write(stdin)
            given.seek(0)
        try:
            exit_code, stdout, stderr = runner.execute(
                [*_without_redirections(), *command],
                istream=given if stdin is not None else None,
                with_extended_output=True,
                with_exceptions=False,
                stdout_as_string=False,
                strip_newline_in_stdout=False,
                kill_after_timeout=timeout_s,
                env={**_withheld(), **_ENVIRONMENT, **environment},
            )
        except GitCommandNotFound as error:
            raise GtError(ErrorCode.PROGRAM_MISSING, "git is not on PATH", "install git 2.39 or newer") from error
    return Answer(exit_code, stdout, stderr)


def _without_redirections() -> list[str]:
    """GitPython hands the whole environment on; a GIT_DIR of the worker's would redirect every command."""
    unwanted = [name for name in os.environ if _redirects(name)]
    return ["env", *(part for name in unwanted for part in ("-u", name))] if unwanted else []


def _withheld() -> dict[str, str]:
    """Credentials that are not for git, emptied: GitPython can set a variable for a command, but not leave one out.

    env(1) could, at the price of one more program before each of a job's some 80 git commands.
    """
    return {name: "" for name in os.environ if needless_for_git(name)}


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not (_redirects(name) or needless_for_git(name))}


def _redirects(name: str) -> bool:
    return name not in _ENVIRONMENT and bends_git(name)
