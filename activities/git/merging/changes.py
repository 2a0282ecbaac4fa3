"""What the town reads from submitted commits: who wrote them, what they say, whether they have landed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from activities.git.command import GitRepo
from policies.refinery.merge_message import BEAD_TRAILER, CHANGE_TRAILER, landed_change, lands

MOST_RIVALS: Final = 20
"""commits of the other side of a conflict that are looked at"""
MOST_READ: Final = 10_000
"""commits that a whole batch is read with; where it adds more, each change is read when it is needed"""
MOST_FILES: Final = 1_000
"""of a change, that are looked for in the target's history"""
_FORM: Final = "--format=%H%x00%P%x00%an%x00%ae%x00%ad%x00%cd%x00%B%x00"
_RAW_DATE: Final = re.compile(r"\d{1,11} [+-]\d{4}")


class ChangeFacts(NamedTuple):
    """A submitted head and the commits that it adds to the target."""

    author_name: str
    author_email: str
    author_date: str
    """seconds since 1970 and zone, as git writes it"""
    messages: tuple[str, ...]
    """of the commits that the target lacks, oldest first, merges left out"""
    co_authors: tuple[str, ...] = ()
    """`Name <email>` of the others who wrote those commits"""


class CommitFacts(NamedTuple):
    """One commit of a change."""

    sha: str
    parents: tuple[str, ...]
    author_name: str
    author_email: str
    author_date: str
    message: str


class Submitted:
    """What the heads of a batch add to the target, and whether it is there: read with one command for all of them.

    Args:
        heads: submitted commits that the repository has.
    """

    def __init__(self, repo: GitRepo, target_sha: str, heads: Sequence[str]) -> None:
        self._repo = repo
        self._target_sha = target_sha
        self._heads = heads
        added = _log(repo, f"--max-count={MOST_READ + 1}", *heads, f"^{target_sha}") if heads else []
        self._added = {record[0]: record for record in added} if len(added) <= MOST_READ else None
        self._claims = _claims(repo, heads, target_sha, *self._not_searched()) if heads else []

    def landed_as(self, bead: str, head_sha: str) -> str | None:
        """The commit in the target's history that landed `head_sha` for `bead`, or None."""
        if head_sha not in self._heads:
            return landed_as(self._repo, bead, head_sha, self._target_sha, here=False)
        return next((sha for sha, message in self._claims if lands(message, bead, head_sha)), None)

    def commits(self, head_sha: str) -> tuple[CommitFacts, ...]:
        """The commits that one of the heads adds to the target, oldest first."""
        return _commits(self._records(head_sha))

    def change(self, head_sha: str) -> ChangeFacts:
        """The change that one of the heads makes to the target. Bytes that are not UTF-8 are replaced."""
        # Where there is nothing that the target lacks, the head itself still names an author.
        return _facts(head_sha, self._records(head_sha) or _log(self._repo, "-1", head_sha))

    def change_from(self, head_sha: str, fork: str) -> tuple[ChangeFacts, tuple[CommitFacts, ...]]:
        """What one of the heads adds to `fork`, a commit that the target has lost; the commits oldest first."""
        records = _log(self._repo, head_sha, f"^{fork}", f"^{self._target_sha}")
        return _facts(head_sha, records), _commits(records)

    def _records(self, head_sha: str) -> list[list[str]]:
        """The commits that a head adds, newest first, whatever else was submitted."""
        found: list[list[str]] = []
        at = head_sha
        while self._added is not None:
            record = self._added.get(at)
            if record is None:
                return found
            parents = record[1].split()
            if len(parents) != 1:
                # Where history branches, git is to say what comes before what.
                break
            found.append(record)
            at = parents[0]
        return _log(self._repo, f"{self._target_sha}..{head_sha}")

    def _not_searched(self) -> tuple[str, ...]:
        """What every head holds cannot have landed one of them; see `landed_as`."""
        common = self._repo.attempt("merge-base", "--octopus", self._target_sha, *self._heads)
        return (f"^{common.word}",) if common.exit_code == 0 else ()


def _commits(records: Sequence[list[str]]) -> tuple[CommitFacts, ...]:
    """Oldest first, out of records that are newest first."""
    return tuple(
        CommitFacts(each[0], tuple(each[1].split()), each[2], each[3], _date(each), each[6])
        for each in reversed(records)
    )


def _facts(head_sha: str, records: Sequence[list[str]]) -> ChangeFacts:
    head = next(record for record in records if record[0] == head_sha)
    wrote = [record for record in records if " " not in record[1]] or [head]
    others = {each[3]: f"{each[2]} <{each[3]}>" for each in reversed(wrote) if each[3] not in {head[3], ""}}
    messages = tuple(record[6] for record in reversed(wrote))
    return ChangeFacts(head[2], head[3], _date(head), messages, tuple(map(_line, others.values())))


def _log(repo: GitRepo, *revisions: str) -> list[list[str]]:
    """Records of `_FORM`, newest first.

    Raises:
        GtError: GIT_FAILED where one of the commits is not here.
    """
    listed = repo.run("log", "--topo-order", "--date=raw", _FORM, *revisions, "--").text
    fields = listed.split("\0")
    return [[fields[start].lstrip("\n"), *fields[start + 1 : start + 7]] for start in range(0, len(fields) - 7 + 1, 7)]


def _date(record: Sequence[str]) -> str:
    """The author's date, else the committer's, else the beginning of time."""
    return next((date for date in record[4:6] if _RAW_DATE.fullmatch(date)), "0 +0000")


def _line(text: str) -> str:
    return " ".join(text.split())


def landed_as(repo: GitRepo, bead: str, head_sha: str, target_sha: str, *, here: bool) -> str | None:
    """The commit in the target's history that landed `head_sha` for `bead`, or None.

    Only what the target has and the head has not is searched. That is complete: a commit that
    names the head in its message is younger than the head, so the head cannot hold it.

    Args:
        here: the repository is known to have `head_sha`. Without it (the branch was deleted, the
            clone is new) everything may have to be searched.
    """
    known = here or repo.resolve(head_sha) is not None
    found = _claims(repo, [head_sha], f"{head_sha}..{target_sha}" if known else target_sha)
    return next((sha for sha, message in found if lands(message, bead, head_sha)), None)


def _claims(repo: GitRepo, heads: Sequence[str], *revisions: str) -> list[tuple[str, str]]:
    """Commits that may say that they land one of the heads, newest first, with their messages."""
    names_one = (f"--grep={CHANGE_TRAILER}: {head}" for head in heads)
    listed = repo.run("log", "--fixed-strings", *names_one, "--format=%H%x00%B%x00", *revisions, "--").text
    fields = listed.split("\0")
    return [(sha.strip(), message) for sha, message in zip(fields[0::2], fields[1::2], strict=False)]


def last_landing(repo: GitRepo, bead: str, target_sha: str, known: Iterable[str] = ()) -> str | None:
    """The newest commit in the target's history that landed a change of `bead`, or None.

    Args:
        known: commits whose history holds no landing that is asked for; those not here are passed over.
    """
    without = [f"^{sha}" for sha in known if repo.resolve(sha) is not None]
    grep = ("--fixed-strings", f"--grep={BEAD_TRAILER}: {bead}")
    listed = repo.run("log", "--topo-order", *grep, "--format=%H%x00%B%x00", target_sha, *without, "--").text
    fields = listed.split("\0")
    found = zip(fields[0::2], fields[1::2], strict=False)
    return next((sha.strip() for sha, message in found if landed_change(message, bead)), None)


def holder_of(repo: GitRepo, head_sha: str, tip_sha: str) -> str:
    """The commit of the tip's history that holds what `head_sha` changes, given that the tip does.

    The newest one that touched those files; the tip itself where the change touches none, or where no commit says so.
    """
    base = repo.attempt("merge-base", tip_sha, head_sha)
    if base.exit_code != 0:
        return tip_sha
    changed = repo.run("diff", "--name-only", "--no-renames", "-z", base.word, head_sha, "--").text
    files = [name for name in changed.split("\0") if name][:MOST_FILES]
    if not files:
        return tip_sha
    return repo.run("log", "-1", "--format=%H", tip_sha, "--", *files).word or tip_sha


def beads_that_changed(repo: GitRepo, head_sha: str, target_sha: str, files: Sequence[str]) -> tuple[str, ...]:
    """The beads whose landings changed `files` on the target since `head_sha` left it, the latest first."""
    if not files:
        return ()
    form = f"--format=%(trailers:key={BEAD_TRAILER},valueonly,separator=%x00)%x00"
    # The history of paths; without a common commit there is none to look at.
    listed = repo.attempt("log", "-n", str(MOST_RIVALS), form, f"{head_sha}..{target_sha}", "--", *files)
    named = (word.strip() for word in listed.text.split("\0")) if listed.exit_code == 0 else ()
    return tuple(dict.fromkeys(word for word in named if word))
