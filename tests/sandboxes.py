"""Sandboxes for tests whose agents and gates leave marks beside the town."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from models.settings import SandboxSettings


def open_at(*folders: Path, **more: Any) -> SandboxSettings:
    """The sandbox that the town has by default, with more folders that may be written."""
    return SandboxSettings(write=shlex.join(map(str, folders)), **more)


BARE = SandboxSettings(mode="none")
"""For tests of what is done about processes without a sandbox: within one their ids are others."""
