"""Whether a pane waits for somebody to answer, told by its last lines.

The texts are those of claude, codex, gemini, aider, opencode, cursor and amp, and of the programs
that agents run: y/n questions, passwords, host keys, pagers. A prompt counts only where it is the
end of what the pane shows; the same words further up were answered, or were only printed.
"""

from __future__ import annotations

import re
from typing import Final

TAIL_LINES: Final = 15
"""How many lines of the pane are enough."""

_BOX: Final = "│┃║|╭╮╰╯─━═┌┐└┘▌▐█▀▄"
_HINT_LINES: Final = 3
"""Lines that a menu may have below its last option."""

_BUSY: Final = re.compile(
    r"esc(ape)? to interrupt|esc interrupt|ctrl\+c to (interrupt|stop)|\(esc to cancel, \d+[hms]", re.IGNORECASE
)
"""Works, whatever else the screen shows: these programs keep their input line while they do."""

_AT_THE_END: Final[tuple[tuple[str, re.Pattern[str]], ...]] = (
    ("host_key", re.compile(r"\(yes/no(/\[fingerprint\])?\)\?\s*$", re.IGNORECASE)),
    (
        "password",
        re.compile(
            r"\b(password|passphrase|passcode|pin|token|(verification|authentication|one-time) code|otp)\b"
            r"( for .{1,160}| \([^)]*\)| again| \(again\))?:\s*$",
            re.IGNORECASE,
        ),
    ),
    ("username", re.compile(r"^(username|login|e-?mail)( for '[^']*')?:\s*$", re.IGNORECASE)),
    ("aider_question", re.compile(r"\(Y\)es/\(N\)o(/\([A-Z]\)[\w' ]+)*( \[\w+\])?:\s*$")),
    ("yes_no", re.compile(r"[\[(<]\s*(y|yes)\s*/\s*(n|no)(\s*/\s*[\w?!]+)*\s*[\])>]\s*[?:>]?\s*$", re.IGNORECASE)),
    ("yes_no", re.compile(r"\b(ok to proceed|continue|proceed|overwrite|replace)\b[^?]*\? \(y\)\s*$", re.IGNORECASE)),
    (
        "press_key",
        re.compile(r"\b(press|hit|type) (any key|\[?<?(enter|return)>?\]?)( key)?\b[\w ]*\W*$", re.IGNORECASE),
    ),
    ("pager", re.compile(r"^(--more--.*|\(END\)|:|lines \d+-\d+.*|.*\(press RETURN\))$", re.IGNORECASE)),
    ("choice", re.compile(r"^\s*(#\?|(select|choose|pick|enter) (a|an|one|your|the)\b[^.]*:)\s*$", re.IGNORECASE)),
    ("shell", re.compile(r"^\S+@\S+[:~ ].*[$#]\s*$")),
    ("idle", re.compile(r"^((ask|code|architect|help|context|multi|diff|udiff|whole)( multi)?)?\s*[>❯›]\s*$")),
)
_NEAR_THE_END: Final[tuple[tuple[str, re.Pattern[str]], ...]] = (
    ("confirmation", re.compile(r"press enter to confirm|enter to (select|submit|confirm) ", re.IGNORECASE)),
    ("confirmation", re.compile(r"esc to cancel · tab to amend|waiting for user confirmation", re.IGNORECASE)),
    ("confirmation", re.compile(r"\(y\) \(enter\)|skip \(esc or n\)|\[a\]llow.*\[d\]eny", re.IGNORECASE)),
    ("login", re.compile(r"paste (the )?(authorization )?code here|select login method", re.IGNORECASE)),
    ("idle", re.compile(r"^\s*\? for shortcuts|^type your message or @path|^ask codex to do anything", re.IGNORECASE)),
    ("idle", re.compile(r"^[>❯›→]\s+(type your message|ask codex|add a follow-up|try \")", re.IGNORECASE)),
)
_CURSOR: Final = re.compile(r"^[❯›●▶>]\s*\d{1,2}\.\s?\S")
_ARROWS: Final = re.compile(r"use (the )?arrow[ -]keys|↑/↓ to (navigate|select|move)", re.IGNORECASE)
_OPTION: Final = re.compile(r"^[❯›●▶>]?\s*\d{1,2}\.\s?\S")


def known_prompt(tail: str) -> str:
    """Name of the prompt that `tail` ends in; "" for none that is known."""
    lines = [line for line in map(_bare, tail.splitlines()) if line][-TAIL_LINES:]
    if not lines or any(_BUSY.search(line) for line in lines):
        return ""
    if _is_menu(lines):
        return "menu"
    bottom = lines[-_HINT_LINES:]
    for name, pattern in _NEAR_THE_END:
        if any(map(pattern.search, bottom)):
            return name
    return next((name for name, pattern in _AT_THE_END if pattern.search(lines[-1])), "")


def _is_menu(lines: list[str]) -> bool:
    """Numbered options with one cursor and next to nothing below; or options that say how to move among them."""
    if any(_ARROWS.search(line) for line in lines):
        return True
    options = [number for number, line in enumerate(lines) if _OPTION.search(line)]
    if len(options) < 2 or len(lines) - 1 - options[-1] > _HINT_LINES:
        return False
    return sum(bool(_CURSOR.search(lines[number])) for number in options) == 1


def _bare(line: str) -> str:
    """The line without a box around it."""
    return line.strip().strip(_BOX).strip()
