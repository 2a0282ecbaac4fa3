"""The message of the commit that lands a change: squash style, closed by the town's own trailers.

The trailers say which bead, which polecat and which submitted commit a landing came from; finding
a change again in the target's history depends on them, so lines of these names that an author
wrote are taken out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

CHANGE_TRAILER: Final = "Change"
BEAD_TRAILER: Final = "Bead"
_OURS: Final = re.compile(r"(bead|polecat|change)[ \t]*:", re.IGNORECASE)
_TRAILER: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]*[ \t]*:[ \t]*\S")
_CHANGE: Final = re.compile(rf"{CHANGE_TRAILER}: ([0-9a-f]{{40,64}})")
SUBJECT_LIMIT: Final = 200
"""Longest subject taken from a bead's title, in characters."""


def landing_message(
    title: str, messages: Sequence[str], bead: str, polecat: str, head_sha: str, co_authors: Sequence[str] = ()
) -> str:
    """Write the message of a landing commit.

    Args:
        title: the bead's title: the subject of a change of several commits.
        messages: the change's commit messages, oldest first.
        polecat: `<rig>/<name>`.
        head_sha: the submitted commit.
        co_authors: `Name <email>` of those who wrote a part and are not the commit's author.

    Returns:
        Subject, body, the authors' trailers (each once), then Bead, Polecat and Change.
    """
    parted = [_part(message) for message in messages]
    title = " ".join(title.split())[:SUBJECT_LIMIT]
    if len(parted) == 1:
        subject = parted[0][0] or title or bead
        body = parted[0][1]
    else:
        subject = title or next((first for first, _, _ in reversed(parted) if first), bead)
        body = "\n\n".join(f"* {first}\n\n{rest}".rstrip() for first, rest, _ in parted if first or rest)
    kept = dict.fromkeys(trailer for _, _, trailers in parted for trailer in trailers)
    kept |= dict.fromkeys(f"Co-authored-by: {author}" for author in co_authors)
    ours = (f"{BEAD_TRAILER}: {bead}", f"Polecat: {polecat}", f"{CHANGE_TRAILER}: {head_sha}")
    # A subject that looks like one of our trailers stands in a paragraph of its own, which is never read as trailers.
    paragraphs = (subject, body, "\n".join((*kept, *ours)))
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph) + "\n"


def signed_off(message: str, identity: str) -> str:
    """`message` with a Signed-off-by of `identity` (`Name <email>`) among its trailers, once."""
    line = f"Signed-off-by: {identity}"
    text = message.rstrip("\n")
    if line in text.split("\n"):
        return message
    last = text.rpartition("\n\n")[2].split("\n")
    trailers = "\n\n" in text and all(_TRAILER.match(each) for each in last)
    # In front of the town's own, which close the message.
    ours = [place for place, each in enumerate(last) if _OURS.match(each)] if trailers else []
    if not trailers:
        return f"{text}\n\n{line}\n"
    last.insert(ours[0] if ours else len(last), line)
    return text.rpartition("\n\n")[0] + "\n\n" + "\n".join(last) + "\n"


def kept_message(message: str, bead: str) -> str:
    """The message of a commit that is kept as it is, in front of the one that closes its change."""
    subject, body, trailers = _part(message)
    paragraphs = (subject or bead, body, "\n".join(trailers))
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph) + "\n"


def claims(message: str) -> bool:
    """Whether `message` holds a line that only the town may write; its commit must not land as it is."""
    return any(_OURS.match(line) for line in message.splitlines())


def lands(message: str, bead: str, head_sha: str) -> bool:
    """Whether `message` is that of the commit which landed `head_sha` for `bead`."""
    last = message.rstrip().rpartition("\n\n")[2].split("\n")
    return f"{CHANGE_TRAILER}: {head_sha}" in last and f"{BEAD_TRAILER}: {bead}" in last


def landed_change(message: str, bead: str) -> str | None:
    """The submitted commit that a landing commit's `message` names for `bead`; None for any other commit."""
    last = message.rstrip().rpartition("\n\n")[2].split("\n")
    changes = [found[1] for line in last if (found := _CHANGE.fullmatch(line))]
    return changes[-1] if changes and f"{BEAD_TRAILER}: {bead}" in last else None


def _part(message: str) -> tuple[str, str, tuple[str, ...]]:
    """Subject, body and the author's other trailers of one commit message."""
    lines = [line.rstrip() for line in message.replace("\r\n", "\n").replace("\x00", "").split("\n")]
    text = "\n".join(_without_ours(lines)).strip("\n")
    subject, _, rest = text.partition("\n\n")
    subject = " ".join(subject.split())
    head, _, last = rest.strip("\n").rpartition("\n\n")
    trailers = last.split("\n") if last else []
    if trailers and all(_TRAILER.match(line) for line in trailers):
        return subject, head.strip("\n"), tuple(trailers)
    return subject, rest.strip("\n"), ()


def _without_ours(lines: Sequence[str]) -> list[str]:
    kept = []
    dropping = False
    for line in lines:
        if _OURS.match(line):
            dropping = True
        elif not (dropping and line[:1] in {" ", "\t"}):
            # A folded trailer goes with its continuation lines.
            dropping = False
            kept.append(line)
    return kept
