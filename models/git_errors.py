"""What git's words mean: one classification for the worker and for the command line."""

from __future__ import annotations

import re
from typing import Final

from models.errors import ErrorCode

_MEANINGS: Final[tuple[tuple[ErrorCode, re.Pattern[str]], ...]] = tuple(
    (code, re.compile("|".join(words), re.IGNORECASE))
    for code, words in (
        (ErrorCode.DISK_FULL, (r"no space left on device", r"disk quota exceeded")),
        (
            ErrorCode.REMOTE_REFUSED,
            (
                r"\[remote rejected\]",
                r"hook declined",
                r"protected branch",
                r"authentication failed",
                r"could not read (username|password)",
                r"permission denied \(",
                r"permission to \S+ denied",
                r"host key verification failed",
                r"not allowed to push",
                r"the requested url returned error: 40[13]",
            ),
        ),
        (
            ErrorCode.NOT_A_REPOSITORY,
            (
                r"not a git repository",
                r"does not appear to be a git repository",
                r"repository '?\S* ?not found",
                r"dubious ownership",
                r"invalid gitfile format",
            ),
        ),
        (
            ErrorCode.NO_SUCH_BRANCH,
            (r"couldn't find remote ref", r"remote branch \S+ not found", r"src refspec \S+ does not match any"),
        ),
        (
            ErrorCode.REMOTE_UNREACHABLE,
            (
                r"could not read from remote repository",
                r"unable to access",
                r"could not resolve host",
                r"connection (refused|reset|timed out|closed)",
                r"operation timed out",
                r"network is unreachable",
                r"no route to host",
                r"hung up unexpectedly",
                r"early eof",
                r"rpc failed",
                r"unexpected disconnect",
            ),
        ),
    )
)
"""Tried in order: git follows a precise sentence with a general one («Could not read from remote
repository»), so the precise meanings come first. git must run with LC_ALL=C."""

_OVER_TIME = re.compile(r"did not complete in \S+ secs")
"""GitPython's words for a command that it killed"""
_USERINFO = re.compile(r"(?<=://)[^/\s@]+@")


def classify(stderr: str, exit_code: int) -> ErrorCode:
    """Name the failure behind a git command that ended with `exit_code` and said `stderr`.

    A git that was killed (negative, or above 128 by a shell's convention) failed for no reason
    of its own: GIT_FAILED, which is tried again.
    """
    if is_over_time(stderr):
        # Only commands that talk to a remote, and those within bounds of their own, have a limit.
        return ErrorCode.REMOTE_UNREACHABLE
    if exit_code < 0:
        return ErrorCode.GIT_FAILED
    for code, words in _MEANINGS:
        if words.search(stderr):
            return code
    return ErrorCode.GIT_FAILED


def is_over_time(stderr: str) -> bool:
    """Whether the command was ended because its time was over."""
    return _OVER_TIME.search(stderr) is not None


REMOTE_WORDS = 3_500
"""characters of what a remote says that refuses a push: its rules, its hooks' whole reports"""


def plain_words(stderr: str, limit: int = 600) -> str:
    """git's own words on one line for people: no URL credentials, no control characters.

    Args:
        limit: longest result, in characters; the end is kept, which is where the reason stands.
    """
    return _clipped("; ".join(_lines(stderr)), limit)


def remote_words(stderr: str, limit: int = REMOTE_WORDS) -> str:
    """What a remote says that refuses, line by line as it says it; else as `plain_words`."""
    return _clipped("\n".join(_lines(stderr)), limit)


def _lines(stderr: str) -> list[str]:
    lines = (re.sub(r"[\x00-\x1f\x7f]+", " ", line).strip() for line in re.split(r"[\r\n]+", stderr))
    return [_USERINFO.sub("", line) for line in lines if line not in {"", "remote:"} and not line.startswith("hint:")]


def _clipped(text: str, limit: int) -> str:
    return text if len(text) <= limit else "…" + text[1 - limit :]
