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


class Rule(NamedTuple):
    """One kind of secret."""

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


_ALONE: Final = rb"(?:(?<![A-Za-z0-9_-])|(?<=[0-9;]m))"
"""No longer word goes on here; a terminal's colour ends in `31m`."""


def _fixed(what: str, start: bytes, rest: bytes) -> Rule:
    """A token that begins with a fixed word. It stands alone: not in the middle of a longer word."""
    before = rb"" if start[:1] in b":." else _ALONE
    return Rule(what, (start,), re.compile(before + re.escape(start) + rest))


RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "a private key",
        (b"PRIVATE KEY",),
        re.compile(rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----\s*(?:\\n)?[A-Za-z0-9+/=\r\n\\:., -]{40}"),
    ),
    Rule(
        "an AWS access key",
        (b"AKIA", b"ASIA", b"ABIA", b"ACCA"),
        re.compile(_ALONE + rb"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}(?![A-Za-z0-9])"),
        _is_no_example,
    ),
    Rule(
        "a GitHub token",
        (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_"),
        re.compile(rb"gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60}"),
    ),
    Rule("an attempt's token", (b"gtat_",), re.compile(rb"gtat_[0-9a-f]{40}")),
    Rule(
        "a GitLab token",
        (b"glpat-", b"glptt-", b"gldt-", b"glrt-", b"glcbt-", b"gloas-"),
        re.compile(rb"gl(?:pat|ptt|dt|rt|cbt|oas)-[A-Za-z0-9_-]{20}"),
    ),
    Rule(
        "a Slack token",
        (b"xoxa-", b"xoxb-", b"xoxe", b"xoxp-", b"xoxr-", b"xoxs-", b"xapp-", b"hooks.slack.com/services/"),
        re.compile(
            rb"xox[abeprs][-.][0-9A-Za-z.-]{20}|xapp-\d-[A-Z0-9]+-\d+-[a-z0-9]{20}|hooks\.slack\.com/services/T[A-Z0-9]+/B[A-Z0-9]+/[A-Za-z0-9]{20}"
        ),
    ),
    Rule(
        "a Discord webhook",
        (b"/api/webhooks/",),
        re.compile(rb"discord(?:app)?\.com/api/webhooks/\d{15,25}/[A-Za-z0-9_-]{60}"),
    ),
    Rule("a Google API key", (b"AIza",), re.compile(_ALONE + rb"AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])")),
    Rule("an Anthropic key", (b"sk-ant-",), re.compile(rb"sk-ant-[A-Za-z0-9_-]{24}")),
    Rule(
        "an OpenAI key",
        (b"T3BlbkFJ", b"sk-proj-"),
        re.compile(rb"sk-[A-Za-z0-9_-]{20,}T3BlbkFJ[A-Za-z0-9_-]{20}|sk-proj-[A-Za-z0-9_-]{40}"),
    ),
    Rule("a Stripe key", (b"k_live_",), re.compile(rb"[rs]k_live_[A-Za-z0-9]{20}")),
    Rule("an npm token", (b"npm_", b"_authToken="), re.compile(rb"npm_[A-Za-z0-9]{36}|_authToken=[A-Za-z0-9_-]{20}")),
    Rule("a PyPI token", (b"pypi-",), re.compile(rb"pypi-AgE[A-Za-z0-9_-]{50}")),
    Rule("a SendGrid key", (b"SG.",), re.compile(rb"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}")),
    Rule("a Hugging Face token", (b"hf_",), re.compile(_ALONE + rb"hf_[A-Za-z]{34}(?![A-Za-z0-9])")),
    Rule("a DigitalOcean token", (b"do_v1_", b"dop_v1_"), re.compile(rb"do[opr]_v1_[0-9a-f]{64}")),
    _fixed("an Atlassian token", b"ATATT3", rb"[A-Za-z0-9_=-]{60}"),
    _fixed("a HashiCorp Vault token", b"hvs.", rb"[A-Za-z0-9_-]{24}"),
    _fixed("a HashiCorp Vault token", b"hvb.", rb"[A-Za-z0-9_-]{60}"),
    _fixed("a Docker token", b"dckr_pat_", rb"[A-Za-z0-9_-]{20}"),
    _fixed("a Databricks token", b"dapi", rb"[0-9a-f]{32}"),
    _fixed("a Linear key", b"lin_api_", rb"[A-Za-z0-9]{32}"),
    _fixed("a Notion token", b"ntn_", rb"[A-Za-z0-9]{40}"),
    _fixed("a Doppler token", b"dp.pt.", rb"[A-Za-z0-9]{40}"),
    _fixed("a Grafana token", b"glsa_", rb"[A-Za-z0-9]{32}_[0-9a-fA-F]{8}"),
    _fixed("a Grafana token", b"glc_", rb"[A-Za-z0-9+/=]{32}"),
    _fixed("a New Relic key", b"NRAK-", rb"[A-Z0-9]{27}"),
    _fixed("a PlanetScale token", b"pscale_tkn_", rb"[A-Za-z0-9_=.-]{32}"),
    _fixed("a PlanetScale password", b"pscale_pw_", rb"[A-Za-z0-9_=.-]{32}"),
    _fixed("a Postman key", b"PMAK-", rb"[0-9a-f]{24}-[0-9a-f]{34}"),
    _fixed("a Pulumi token", b"pul-", rb"[0-9a-f]{40}"),
    _fixed("a RubyGems key", b"rubygems_", rb"[0-9a-f]{48}"),
    _fixed("a Sentry token", b"sntrys_", rb"[A-Za-z0-9+/=_]{40}"),
    _fixed("a Shopify token", b"shpat_", rb"[0-9a-fA-F]{32}"),
    _fixed("a Shopify token", b"shpss_", rb"[0-9a-fA-F]{32}"),
    _fixed("a Square token", b"sq0atp-", rb"[A-Za-z0-9_-]{22}"),
    _fixed("a Square secret", b"sq0csp-", rb"[A-Za-z0-9_-]{43}"),
    _fixed("a Supabase token", b"sbp_", rb"[0-9a-f]{40}"),
    _fixed("a Tailscale key", b"tskey-", rb"[a-z]+-[A-Za-z0-9]+-[A-Za-z0-9]{20}"),
    _fixed("a Figma token", b"figd_", rb"[A-Za-z0-9_-]{36}"),
    _fixed("a Google OAuth secret", b"GOCSPX-", rb"[A-Za-z0-9_-]{28}"),
    _fixed("a Google OAuth token", b"ya29.", rb"[A-Za-z0-9_-]{40}"),
    _fixed("a Groq key", b"gsk_", rb"[A-Za-z0-9]{48}"),
    _fixed("a Replicate token", b"r8_", rb"[A-Za-z0-9]{37}"),
    _fixed("an xAI key", b"xai-", rb"[A-Za-z0-9]{60}"),
    _fixed("an OpenRouter key", b"sk-or-v1-", rb"[0-9a-f]{60}"),
    _fixed("a Terraform token", b".atlasv1.", rb"[A-Za-z0-9_-]{60}"),
    _fixed("a Telegram bot's token", b":AA", rb"[A-Za-z0-9_-]{33}(?![A-Za-z0-9_-])"),
    _fixed("a Mailgun key", b"key-", rb"[0-9a-f]{32}(?![0-9a-f])"),
    _fixed("a Twilio key", b"SK", rb"[0-9a-f]{32}(?![0-9a-zA-Z])"),
    Rule("an Azure storage key", (b"AccountKey=",), re.compile(rb"AccountKey=[A-Za-z0-9+/]{86}==")),
    Rule("an age key", (b"AGE-SECRET-KEY-1",), re.compile(rb"AGE-SECRET-KEY-1[0-9A-Z]{58}")),
    Rule(
        "a password in a URL",
        (b"://",),
        re.compile(
            rb"[a-z][a-z0-9+.-]{1,20}://[^\s/:@\"']{1,80}:(?P<value>[^\s/:@\"']{6,80})@(?P<host>[^\s/:\"']{1,80})"
        ),
        _is_elsewhere,
    ),
    Rule(
        "a random value under a secret's name",
        (b"key", b"KEY", b"Key", b"token", b"TOKEN", b"Token", b"secret", b"SECRET", b"Secret", b"passw", b"PASSW"),
        re.compile(
            rb"(?i:api_?-?key|access_?-?key|secret|token|passwd|password|credential)[a-z0-9_-]{0,20}[\"']?\s{0,3}(?:=|:|:=|=>)"
            rb"\s{0,3}[\"'](?P<value>[A-Za-z0-9+/=_.-]{20,150})[\"']"
        ),
        _is_random,
    ),
)


_IN_TEXT: Final = ("a random value under a secret's name",)
"""Rules whose words stand beside the secret, and not in it."""


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
    for rule in suspects(piece):
        if any(rule.means_it(found) for found in rule.pattern.finditer(piece)):
            return rule.what
    return ""


def suspects(text: bytes) -> list[Rule]:
    """The rules of which a fixed word occurs in `text`.

    Most words are parts of keys, and long words are few: only those are searched for them.
    """
    long = b" ".join({word for word in text.translate(_LETTERS).split() if len(word) >= _SHORTEST})
    return [rule for rule in RULES if any(word in (long if word in _IN_KEYS else text) for word in rule.words)]


_SHORTEST: Final = 18
"""No key is shorter."""
_OF_KEYS: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
_LETTERS: Final = bytes(code if code in _OF_KEYS else 32 for code in range(256))
_IN_KEYS: Final = frozenset(
    word for rule in RULES for word in rule.words if _OF_KEYS.issuperset(word) and rule.what not in _IN_TEXT
)
