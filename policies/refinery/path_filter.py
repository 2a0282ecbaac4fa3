"""Whether a gate concerns a change: `only = ["docs/**", "*.md"]` against the files that the change touches."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache


def concerns(patterns: Iterable[str], files: Iterable[str]) -> bool:
    """True when one of `files` matches one of `patterns`; a gate without patterns concerns every change.

    A pattern is matched against the whole path from the top: `*` and `?` stay within a folder, `**`
    spans folders (`docs/**` is everything in docs, `**/*.py` every Python file). One without a
    slash matches the file's name in whatever folder.
    """
    matchers = [_matcher(pattern) for pattern in patterns]
    return not matchers or any(matcher.fullmatch(file) for file in files for matcher in matchers)


@lru_cache(maxsize=256)
def _matcher(pattern: str) -> re.Pattern[str]:
    anchored = pattern if "/" in pattern else f"**/{pattern}"
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", anchored)
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(words.get(part, re.escape(part)) for part in parts), re.DOTALL)
