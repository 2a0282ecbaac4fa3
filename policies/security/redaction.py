"""Secrets out of text that is kept or sent: what a pane showed, what a gate printed, what somebody writes to somebody.

Here a false alarm costs some legible characters, so more counts as a secret than when a file is looked at
(policies/security/secret_scan.py): besides all that is known there, values without quotes that are given to a
secret's name, passwords in any URL, tokens of HTTP headers, JSON Web Tokens, and values that the town itself keeps
secret.
Linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from policies.security.secret_scan import RULES, Rule, suspects

SHORTEST_SECRET: Final = 6
"""A shorter value of the town's own is a word like any other."""
LONGEST_KEY: Final = 20_000
"""bytes of a private key"""
LONGEST_HELD: Final = 64_000
"""bytes that a stream waits for the end of a line or of a key"""

_URL: Final = "a password in a URL"
_NAMED: Final = "a random value under a secret's name"
_KEY: Final = "a private key"
_TOKENS: Final = frozenset(rule for rule in RULES if rule.what not in {_URL, _NAMED, _KEY})

_REST: Final = re.compile(rb"[A-Za-z0-9_+/=-]*")
"""Rules know the least length of a key: the rest of it goes too."""
_JWT: Final = re.compile(
    rb"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,4000}\.eyJ[A-Za-z0-9_-]{8,8000}(?:\.[A-Za-z0-9_-]{0,4000})?"
)
_IN_URL: Final = re.compile(rb"[^\s/:@\"'<>]{0,80}:(?P<value>[^\s/@\"'<>]{3,200})(?=@)")
_OF_VALUES: Final = rb"[A-Za-z0-9!#%&*+./:=?@\\^_|~-]"
_GIVEN: Final = re.compile(
    rb"(?i:s|d|ord)?(?:[_-][A-Za-z0-9_-]{0,20})?[\"']?[ \t]{0,3}[=:][=>]?[ \t]{0,3}"
    rb"(?:(?:[Bb]earer|[Bb]asic|[Tt]oken)[ \t]+)?[\"']?(?P<value>" + _OF_VALUES + rb"{8,2000})"
)
_SAID: Final = re.compile(rb"[ \t]+(?P<value>" + _OF_VALUES + rb"{8,2000})")
_SAYS: Final = {
    b"earer": re.compile(rb"[Bb]\Z"),
    **dict.fromkeys((b"token", b"password", b"passwd", b"api-key", b"secret"), re.compile(rb"--[a-z-]{0,20}\Z")),
}
"""Words that a value follows after a blank, and what has to stand before each."""
_SAYS_LENGTH: Final = 22
_STRONG: Final = (b"secret", b"passw", b"passphrase", b"pwd", b"credential", b"authorization")
_WEAK: Final = (b"key", b"token")
"""Names of much else too: only long values behind them count."""
_OF_KEYS: Final = re.compile(
    rb"(?:api|access|secret|private|auth|account|encryption|signing|master|licen[sc]e|client|service|session|app|deploy"
    rb"|ssh)[_.-]?\Z"
)
_KIND_LENGTH: Final = 12
_RANDOM_LENGTH: Final = 16
_BEGIN: Final = re.compile(rb"-----BEGIN (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----")
_END: Final = re.compile(rb"-----END (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----")
_KEY_LINES: Final = re.compile(
    rb"(?:(?:[ \t|>]*(?:[A-Za-z0-9+/=]{16,200}|[A-Z][A-Za-z-]{2,30}: [^\r\n]{0,100})?[ \t|]*)(?:\r?\n|\\n|\Z))*"
)
_KEY_WORD: Final = re.compile(rb"[A-Za-z0-9+/=]{16,200}|[|>]")
_LAST_WORD: Final = re.compile(rb"[A-Za-z0-9+/=]{1,200}")
_WORD: Final = re.compile(rb"\S+")


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` with the name of its kind in the place of each secret; `text` itself where there is none.

    Args:
        secrets: values that are secret whatever they look like; those shorter than SHORTEST_SECRET stay.
    """
    told = text.encode("utf-8", "surrogatepass")
    shown = redact_bytes(told, [secret.encode("utf-8", "surrogatepass") for secret in secrets])
    return text if shown is told else shown.decode("utf-8", "surrogatepass")


def redact_bytes(text: bytes, secrets: Iterable[bytes] = ()) -> bytes:
    """As `redact`."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= SHORTEST_SECRET and secret in text:
            text = text.replace(secret, _shown("a secret of this town"))
    for rule in suspects(text):
        if rule in _TOKENS:
            text = _without_tokens(text, rule)
        elif rule.what == _KEY:
            text = _without_keys(text)
        elif rule.what == _URL:
            text = _without(text, _in_urls(text), _shown(_URL))
    if b"eyJ" in text:
        text = _JWT.sub(_shown("a JSON Web Token"), text)
    text = _without(text, _values(text), _shown("the value of a secret's name"))
    return _without(text, _said(text), _shown("a token"))


def whole_lines(text: bytes | bytearray) -> int:
    """How much of a beginning of a text may be cleaned by itself: whole lines, and no key of which the end is missing.

    Where no end comes for LONGEST_HELD bytes, all of it.
    """
    end = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
    begun = text.rfind(b"-----BEGIN ", 0, end)
    if begun >= 0 and text.find(b"-----END ", begun, end) < 0:
        end = begun
    return end if len(text) - end <= LONGEST_HELD else len(text)


def _shown(what: str) -> bytes:
    return b"[redacted: %s]" % what.encode()


def _without_tokens(text: bytes, rule: Rule) -> bytes:
    parts, at = [], 0
    for found in rule.pattern.finditer(text):
        rest = _REST.match(text, found.end())
        if found.start() < at or rest is None:
            continue
        parts += [text[at : found.start()], _shown(rule.what)]
        at = rest.end()
    return b"".join([*parts, text[at:]]) if parts else text


def _without(text: bytes, spans: Iterable[tuple[int, int]], shown: bytes) -> bytes:
    """`text` with `shown` in the place of each span; of two that overlap the first goes."""
    parts, done = [], 0
    for start, end in sorted(spans):
        if start >= done:
            parts += [text[done:start], shown]
        done = max(done, end)
    return b"".join([*parts, text[done:]]) if parts else text


def _in_urls(text: bytes) -> Iterator[tuple[int, int]]:
    """Where passwords in URLs are. A pattern that looked for `://` itself would take ten times as long."""
    at = text.find(b"://")
    while at >= 0:
        found = _IN_URL.match(text, at + 3)
        if found is not None:
            yield found.span("value")
        at = text.find(b"://", found.end() if found is not None else at + 3)


def _values(text: bytes) -> list[tuple[int, int]]:
    """Where values are that are given to a secret's name by `=` or `:`."""
    low, spans = text.lower(), []
    for name in (*_STRONG, *_WEAK):
        at = low.find(name)
        while at >= 0:
            end = at + len(name)
            found = _GIVEN.match(text, end)
            if found is not None and _is_mixed(found["value"]):
                long = len(found["value"]) >= _RANDOM_LENGTH
                kind = name != b"key" or _OF_KEYS.search(low, max(0, at - _KIND_LENGTH), at)
                if name in _STRONG or (long and kind):
                    spans.append(found.span("value"))
                    end = found.end()
            at = low.find(name, end)
    return spans


def _said(text: bytes) -> Iterator[tuple[int, int]]:
    """Where values are that follow a header's scheme, or an option for a secret."""
    for name, before in _SAYS.items():
        at = text.find(name)
        while at >= 0:
            end = at + len(name)
            found = _SAID.match(text, end)
            if found is not None and _is_mixed(found["value"]) and before.search(text, max(0, at - _SAYS_LENGTH), at):
                yield found.span("value")
            at = text.find(name, end)


def _is_mixed(value: bytes) -> bool:
    """Letters and digits both: most words have none of the latter."""
    return (
        not value.isalpha() and re.search(rb"[0-9]", value) is not None and re.search(rb"[A-Za-z]", value) is not None
    )


def _without_keys(text: bytes) -> bytes:
    """Whole blocks; of one that begins or ends outside of `text`, the lines that are here."""
    parts, at, end = [], 0, -1
    while found := _BEGIN.search(text, at):
        if end < found.end():
            # Looked for once, however many keys begin: the next one, or none any more.
            end = text.find(b"-----END ", found.end()) % (len(text) + LONGEST_KEY + 1)
        last = _END.match(text, end) if end <= found.end() + LONGEST_KEY else None
        lines = _KEY_LINES.match(text, found.end())
        stop = last.end() if last else lines.end() if lines else found.end()
        parts += [_headed(text[at : found.start()]), _shown(_KEY), b"" if last else b"\n"]
        at = stop
    return b"".join([*parts, _headed(text[at:])])


def _headed(text: bytes) -> bytes:
    """`text` without what it has of keys that began before it."""
    parts, at = [], 0
    for end in _END.finditer(text):
        parts += [text[at : _first_of_key(text, at, end.start())], _shown(_KEY)]
        at = end.end()
    return b"".join([*parts, text[at:]]) if parts else text


def _first_of_key(text: bytes, least: int, end: int) -> int:
    """Where the key begins of which the last lines, or words of one line, stand directly before `end`."""
    start = end
    for word in reversed(list(_WORD.finditer(text, max(least, end - LONGEST_KEY), end))):
        shape = _KEY_WORD if start < end else _LAST_WORD
        if not shape.fullmatch(word[0]):
            break
        start = word.start()
    return start
