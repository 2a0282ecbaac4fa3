"""On what the figures were measured."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent


def load_average() -> float:
    """Of the last minute: how many processes wanted a core."""
    return round(os.getloadavg()[0], 1)


def machine() -> dict[str, Any]:
    """Cores, memory and the versions of what the figures depend on."""
    temporal = Path(sys.executable).with_name("temporal")
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "git": _version("git", "--version"),
        "tmux": _version("tmux", "-V"),
        "temporal_server": _version(str(temporal), "--version", after="Server"),
        "dolt": _version(os.environ.get("GT_DOLT", "dolt"), "version"),
    }


def this_run() -> dict[str, Any]:
    """When, of which commit, and how busy the machine was before."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _said("git", "-C", str(ROOT), "rev-parse", "--short=10", "HEAD").strip(),
        "changed_files": len(_said("git", "-C", str(ROOT), "status", "--porcelain").splitlines()),
        "load_before": load_average(),
    }


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    named = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return named[1].strip() if named else platform.machine()


def _version(*argv: str, after: str = "") -> str:
    """The first number in what the program says of its version, past the word `after`; "" where it does not run."""
    found = re.search(r"\d[\w.]*\d", _said(*argv).rpartition(after)[2] if after else _said(*argv))
    return found[0] if found else ""


def _said(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""
