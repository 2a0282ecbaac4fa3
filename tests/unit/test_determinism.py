"""What a replay would see otherwise is refused in workflows and in what they decide by: planted, it is found."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OPENING = frozenset({"open", "input"})
OF_PATHS = frozenset({"read_text", "read_bytes", "write_text", "write_bytes", "unlink", "mkdir", "exists", "iterdir"})
"""Calls that ruff's list of banned names cannot tell: built-in, or methods of a path."""


def files_opened(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in OPENING:
                found.append(name)
            case ast.Call(func=ast.Attribute(attr=name)) if name in OF_PATHS:
                found.append(name)
    return found


@pytest.mark.parametrize(
    ("imported", "used"),
    [
        ("import time", "time.time()"),
        ("from time import sleep", "sleep(1)"),
        ("from datetime import datetime", "datetime.now()"),
        ("from datetime import date", "date.today()"),
        ("import random", "random.random()"),
        ("from uuid import uuid4", "uuid4()"),
        ("import secrets", "secrets.token_hex()"),
        ("import os", "os.getcwd()"),
        ("import subprocess", "subprocess.run([])"),
        ("import socket", "socket.socket()"),
        ("import threading", "threading.Lock()"),
        ("import asyncio", "asyncio.as_completed([])"),
    ],
)
@pytest.mark.parametrize("layer", ["workflows/job", "policies/job", "models"])
def test_a_planted_call_is_refused(layer: str, imported: str, used: str) -> None:
    check = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--output-format=json",
        "--stdin-filename",
        f"{layer}/planted.py",
        "-",
    ]
    found = subprocess.run(check, input=f"{imported}\n\n{used}\n", cwd=ROOT, capture_output=True, text=True)
    assert "TID251" in {problem["code"] for problem in json.loads(found.stdout)}


def test_no_file_is_opened() -> None:
    assert files_opened("from pathlib import Path\nopen('x')\nPath('x').read_text()") == ["open", "read_text"]
    modules = [*(ROOT / "workflows").rglob("*.py"), *(ROOT / "policies").rglob("*.py")]
    assert len(modules) > 60
    assert {
        str(module): found for module in modules if (found := files_opened(module.read_text(encoding="utf-8")))
    } == {}
