"""Does a file look as if it held a secret? Asked before the town itself puts somebody's files on a remote.

A small set of rules that are sure of themselves, because a false alarm keeps work on one host: key formats
that their issuers document with a fixed prefix, private keys, passwords in URLs, and long random values
that are assigned to a name such as `api_key`. The formats are those of the default rules of gitleaks
(MIT). It costs little: a rule's pattern runs only where one of its fixed words occurs.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

SEARCHED_BYTES: Final = 5_000_000
"""So much of a file, from its start, is searched."""
_PIECE: Final = 128_000
"""Searched at a time: the interpreter lets no other thread run while a pattern searches."""
_OVERLAP: Final = 1_000
"""Pieces share so many bytes, more than any key is long."""

_SECRET_NAMES: Final[tuple[str, ...]] = (
    ".env", ".env.*", "*.env", ".netrc", "_netrc", ".pgpass", ".git-credentials", ".htpasswd",
    "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.ppk",
)  # fmt: skip
_PUBLIC_NAMES: Final[tuple[str, ...]] = ("*.example", "*.sample", "*.template", "*.dist", "example.env", "sample.env")

_RANDOM_BITS: Final = 3.5
"""Entropy a character from which a value counts as random (gitleaks' generic rule uses the same)."""
_PLACEHOLDER: Final = re.compile(
    rb"example|sample|dummy|placeholder|changeme|password|passwd|secret|xxxx|\*\*\*|\.\.\.|your[_-]|[<>{}$%]|^pass$|^test",
    re.IGNORECASE,
)
_LOCAL: Final = re.compile(rb"(localhost|127\.0\.0\.1|\[?::1\]?|[a-z0-9-]*example\.(com|org|net)|db|postgres|redis)\b")


class _Rule(NamedTuple):
    what: str
    words: tuple[bytes, ...]
    """one of them occurs in whatever matches"""
    pattern: re.Pattern[bytes]
    means_it: Callable[[re.Match[bytes]], bool] = lambda _found: True


def _is_random(found: re.Match[bytes]) -> bool:
    return _is_no_word(found["value"]) and _entropy(found["value"]) >= _RANDOM_BITS


def _is_elsewhere(found: re.Match[bytes]) -> bool:
    return _is_no_word(found["value"]) and not _LOCAL.match(found["host"])


def _is_no_word(value: bytes) -> bool:
    """Letters and digits both, and nothing that stands for a value to be filled in."""
    mixed = re.search(rb"[0-9]", value) is not None and re.search(rb"[A-Za-z]", value) is not None
    return mixed and not _PLACEHOLDER.search(value)


def _is_no_example(found: re.Match[bytes]) -> bool:
    return b"EXAMPLE" not in found[0]


def _entropy(value: bytes) -> float:
    """Shannon entropy in bits a character."""
    shares = [count / len(value) for count in Counter(value).values()]
    return -sum(share * math.log2(share) for share in shares)


_RULES: Final[tuple[_Rule, ...]] = (
    _Rule(
        "a private key",
        (b"PRIVATE KEY",),
        re.compile(rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----\s*(?:\\n)?[A-Za-z0-9+/=\r\n\\:., -]{40}"),
    ),
    _Rule(
        "an AWS access key",
        (b"AKIA", b"ASIA", b"ABIA", b"ACCA"),
        re.compile(rb"(?<![A-Za-z0-9])(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}(?![A-Za-z0-9])"),
        _is_no_example,
    ),
    _Rule(
        "a GitHub token",
        (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_"),
        re.compile(rb"gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60}"),
    ),
    _Rule("an attempt's token", (b"gtat_",), re.compile(rb"gtat_[0-9a-f]{40}")),
    _Rule("a GitLab token", (b"glpat-",), re.compile(rb"glpat-[A-Za-z0-9_-]{20}")),
    _Rule(
        "a Slack token",
        (b"xox", b"hooks.slack.com/services/"),
        re.compile(rb"xox[abeprs]-[0-9A-Za-z-]{20}|hooks\.slack\.com/services/T[A-Z0-9]+/B[A-Z0-9]+/[A-Za-z0-9]{20}"),
    ),
    _Rule(
        "a Discord webhook",
        (b"/api/webhooks/",),
        re.compile(rb"discord(?:app)?\.com/api/webhooks/\d{15,25}/[A-Za-z0-9_-]{60}"),
    ),
    _Rule("a Google API key", (b"AIza",), re.compile(rb"(?<![A-Za-z0-9_-])AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])")),
    _Rule("an Anthropic key", (b"sk-ant-",), re.compile(rb"sk-ant-[A-Za-z0-9_-]{24}")),
    _Rule(
        "an OpenAI key",
        (b"T3BlbkFJ", b"sk-proj-"),
        re.compile(rb"sk-[A-Za-z0-9_-]{20,}T3BlbkFJ[A-Za-z0-9_-]{20}|sk-proj-[A-Za-z0-9_-]{40}"),
    ),
    _Rule("a Stripe key", (b"k_live_",), re.compile(rb"[rs]k_live_[A-Za-z0-9]{20}")),
    _Rule("an npm token", (b"npm_", b"_authToken"), re.compile(rb"npm_[A-Za-z0-9]{36}|_authToken=[A-Za-z0-9_-]{20}")),
    _Rule("a PyPI token", (b"pypi-",), re.compile(rb"pypi-AgE[A-Za-z0-9_-]{50}")),
    _Rule("a SendGrid key", (b"SG.",), re.compile(rb"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}")),
    _Rule("a Hugging Face token", (b"hf_",), re.compile(rb"(?<![A-Za-z0-9])hf_[A-Za-z]{34}(?![A-Za-z0-9])")),
    _Rule("a DigitalOcean token", (b"do_v1_", b"dop_v1_"), re.compile(rb"do[opr]_v1_[0-9a-f]{64}")),
    _Rule("an Azure storage key", (b"AccountKey=",), re.compile(rb"AccountKey=[A-Za-z0-9+/]{86}==")),
    _Rule("an age key", (b"AGE-SECRET-KEY-1",), re.compile(rb"AGE-SECRET-KEY-1[0-9A-Z]{58}")),
    _Rule(
        "a password in a URL",
        (b"://",),
        re.compile(
            rb"[a-z][a-z0-9+.-]{1,20}://[^\s/:@\"']{1,80}:(?P<value>[^\s/:@\"']{6,80})@(?P<host>[^\s/:\"']{1,80})"
        ),
        _is_elsewhere,
    ),
    _Rule(
        "a random value under a secret's name",
        (b"key", b"KEY", b"Key", b"token", b"TOKEN", b"Token", b"secret", b"SECRET", b"Secret", b"passw", b"PASSW"),
        re.compile(
            rb"(?i:api_?-?key|access_?-?key|secret|token|passwd|password|credential)[a-z0-9_-]{0,20}[\"']?\s{0,3}(?:=|:|:=|=>)"
            rb"\s{0,3}[\"'](?P<value>[A-Za-z0-9+/=_.-]{20,150})[\"']"
        ),
        _is_random,
    ),
)


def secret_in_name(path: str) -> str:
    """What the file's name alone tells, for people; "" for nothing."""
    name = path.rpartition("/")[2].lower()
    if any(fnmatchcase(name, pattern) for pattern in _PUBLIC_NAMES):
        return ""
    return "its name is that of a secret" if any(fnmatchcase(name, pattern) for pattern in _SECRET_NAMES) else ""


def secret_in(content: bytes) -> str:
    """What `content` seems to hold ("an AWS access key"); "" for nothing. Never the secret itself."""
    for start in range(0, min(len(content), SEARCHED_BYTES), _PIECE):
        what = _in_piece(content[max(start - _OVERLAP, 0) : min(start + _PIECE, SEARCHED_BYTES)])
        if what:
            return what
    return ""


def _in_piece(piece: bytes) -> str:
    for rule in _RULES:
        if not any(word in piece for word in rule.words):
            continue
        if any(rule.means_it(found) for found in rule.pattern.finditer(piece)):
            return rule.what
    return ""
