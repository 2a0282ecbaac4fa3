"""What the town reads from submitted commits: who wrote them, what they say, whether they have landed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from activities.git import GitRepo
from policies.merge_message import BEAD_TRAILER, CHANGE_TRAILER, landed_change, lands

MOST_RIVALS: Final = 20
"""commits of the other side of a conflict that are looked at"""
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


def read_commits(repo: GitRepo, head_sha: str, target_sha: str) -> tuple[CommitFacts, ...]:
    """The commits that `head_sha` adds to the target, oldest first.

    Raises:
        GtError: GIT_FAILED where one of them is not here.
    """
    records = _records(repo.run("log", "--topo-order", "--date=raw", _FORM, f"{target_sha}..{head_sha}", "--").text)
    return tuple(
        CommitFacts(each[0], tuple(each[1].split()), each[2], each[3], _date(each), each[6])
        for each in reversed(records)
    )


def read_change(repo: GitRepo, head_sha: str, target_sha: str) -> ChangeFacts:
    """Read the change that `head_sha` makes to `target_sha`. Bytes that are not UTF-8 are replaced.

    Raises:
        GtError: GIT_FAILED where one of the commits is not here.
    """
    listed = ("log", "--topo-order", "--date=raw", _FORM, f"{target_sha}..{head_sha}", "--")
    records = _records(repo.run(*listed).text)
    if not records:
        # Nothing that the target lacks: the head itself still names an author.
        records = _records(repo.run("log", "-1", "--date=raw", _FORM, head_sha, "--").text)
    head = next(record for record in records if record[0] == head_sha)
    wrote = [record for record in records if " " not in record[1]] or [head]
    others = {each[3]: f"{each[2]} <{each[3]}>" for each in reversed(wrote) if each[3] not in {head[3], ""}}
    messages = tuple(record[6] for record in reversed(wrote))
    return ChangeFacts(head[2], head[3], _date(head), messages, tuple(map(_line, others.values())))


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
    listed = repo.run(
        "log",
        "--fixed-strings",
        f"--grep={CHANGE_TRAILER}: {head_sha}",
        "--format=%H%x00%B%x00",
        f"{head_sha}..{target_sha}" if known else target_sha,
        "--",
    ).text
    fields = listed.split("\0")
    for sha, message in zip(fields[0::2], fields[1::2], strict=False):
        if lands(message, bead, head_sha):
            return sha.strip()
    return None


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


def beads_that_changed(repo: GitRepo, head_sha: str, target_sha: str, files: Sequence[str]) -> tuple[str, ...]:
    """The beads whose landings changed `files` on the target since `head_sha` left it, the latest first."""
    if not files:
        return ()
    form = f"--format=%(trailers:key={BEAD_TRAILER},valueonly,separator=%x00)%x00"
    # The history of paths; without a common commit there is none to look at.
    listed = repo.attempt("log", "-n", str(MOST_RIVALS), form, f"{head_sha}..{target_sha}", "--", *files)
    named = (word.strip() for word in listed.text.split("\0")) if listed.exit_code == 0 else ()
    return tuple(dict.fromkeys(word for word in named if word))


def _records(listed: str) -> list[list[str]]:
    """Split `log` output whose records are seven fields, each closed by NUL."""
    fields = listed.split("\0")
    return [[fields[start].lstrip("\n"), *fields[start + 1 : start + 7]] for start in range(0, len(fields) - 7 + 1, 7)]
