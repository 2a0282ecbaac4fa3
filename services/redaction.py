"""Secrets out of what a town keeps and sends: known shapes, and the values of its own private files."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from models.town import TownPaths
from policies.security.redaction import redact, redact_bytes
from services.town import LEDGER_PASSWORD_VARIABLE

_RANDOM_PART: Final = 12
"""A part of a channel's URL that is so long and has digits is a secret; others are words."""


class Redactor:
    """Hides secrets in text. The town's own are read anew when their files have changed."""

    def __init__(self, paths: TownPaths) -> None:
        self._files = (paths.secrets, paths.channels, paths.config)
        self._read_at: tuple[object, ...] = ()
        self._secrets: frozenset[str] = frozenset()

    def text(self, text: str) -> str:
        """`text` itself where it holds no secret."""
        return redact(text, self._known())

    def data(self, text: bytes) -> bytes:
        return redact_bytes(text, [secret.encode("utf-8", "replace") for secret in self._known()])

    def _known(self) -> frozenset[str]:
        changed = tuple(map(_changed, self._files))
        if changed != self._read_at:
            secrets, channels, config = map(_values, self._files)
            urls = [*channels, *(value for value in config if "://" in value)]
            found = {*secrets, *channels, *(part for url in urls for part in _secret_parts(url))}
            self._secrets, self._read_at = frozenset(found | {quote(one, safe="") for one in found}), changed
        given = os.environ.get(LEDGER_PASSWORD_VARIABLE)
        return self._secrets | {given} if given else self._secrets


def _changed(file: Path) -> object:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _values(file: Path) -> list[str]:
    """Every string of a TOML file; none where it cannot be read."""
    try:
        return list(_strings(tomllib.loads(file.read_text(encoding="utf-8"))))
    except (OSError, ValueError):
        return []


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for part in value.values():
            yield from _strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part)
    elif isinstance(value, str):
        yield value


def _secret_parts(url: str) -> Iterator[str]:
    """The password of a URL, and what in its path or query is random; a webhook's secret stands there."""
    try:
        parts = urlsplit(url)
        password = parts.password
    except ValueError:
        return
    if password:
        yield from {password, unquote(password)}
    for part in re.split(r"[/?&=]", f"{parts.path}?{parts.query}"):
        if len(part) >= _RANDOM_PART and re.search(r"[0-9]", part) and re.search(r"[A-Za-z]", part):
            yield from {part, unquote(part)}
