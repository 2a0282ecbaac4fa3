"""Which sandbox there is for whom: root, an ordinary user, and a container that gives nobody a namespace."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ASK = """
import json, os, sys
from models.settings import SandboxSettings
from services.sandbox import in_sandbox, standing
from policies.security.sandbox import SYSTEM, SandboxPlan
import subprocess
uid = int(sys.argv[1])
if uid != os.getuid():
    os.setgroups([]); os.setgid(uid); os.setuid(uid)
told = {}
for mode in ("auto", "bwrap"):
    settings = SandboxSettings(mode=mode)
    now = standing(settings)
    told[mode] = {**now.model_dump(), "words": now.in_words()}
if told["auto"]["kind"] == "bwrap":
    plan = SandboxPlan("/", read=SYSTEM, as_root=uid == 0)
    argv, _ = in_sandbox("bwrap", plan, settings, {})
    done = subprocess.run([*argv, "id", "-u"], capture_output=True, text=True)
    told["inside"] = done.stdout.strip()
print(json.dumps(told))
"""
ROOT = Path(__file__).parents[2]
SOMEBODY = 54321
"""a user without an account"""

# Of linux/filter.h and linux/seccomp.h: what Docker's profile answers to who asks for a namespace.
WITHOUT_NAMESPACES = """
import ctypes, os, struct, sys
unshare, clone = {"x86_64": (272, 56), "aarch64": (97, 220)}[os.uname().machine]
load, equal, any_of, give = 0x20, 0x15, 0x45, 0x06
denied, absent, allowed = 0x00050000 | 1, 0x00050000 | 38, 0x7FFF0000
rules = [
    (load, 0, 0, 0), (equal, 5, 0, unshare), (equal, 5, 0, 435), (equal, 0, 2, clone),
    (load, 0, 0, 16), (any_of, 1, 0, 0x10000000), (give, 0, 0, allowed), (give, 0, 0, denied), (give, 0, 0, absent),
]
program = b"".join(struct.pack("HBBI", *rule) for rule in rules)
held = ctypes.create_string_buffer(program)
filter_ = struct.pack("HxxxxxxP", len(rules), ctypes.addressof(held))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.create_string_buffer(filter_), 0, 0) == 0, os.strerror(ctypes.get_errno())
os.execv(sys.argv[1], sys.argv[1:])
"""


def asked(*before: str, uid: int | None = None) -> Any:
    """What a process says of its sandbox that is started behind these words."""
    argv = [*before, sys.executable, "-c", ASK, str(os.getuid() if uid is None else uid)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("uid", sorted({os.getuid(), SOMEBODY if os.getuid() == 0 else os.getuid()}))
def test_root_and_an_ordinary_user_have_bubblewrap_and_are_who_they_are_in_it(uid: int) -> None:
    told = asked(uid=uid)
    assert {mode: told[mode]["kind"] for mode in ("auto", "bwrap")} == {"auto": "bwrap", "bwrap": "bwrap"}
    assert told["inside"] == str(uid)


def no_namespaces_left() -> list[str]:
    """A container whose limit of user namespaces is none."""
    script = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'
    return ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh"]


def no_namespaces_allowed() -> list[str]:
    """A container under Docker's own seccomp profile."""
    return [sys.executable, "-c", WITHOUT_NAMESPACES]


@pytest.mark.parametrize(
    ("container", "reason", "mend"),
    [
        (no_namespaces_left, "user.max_user_namespaces is 0", "sysctl -w user.max_user_namespaces=15000"),
        (no_namespaces_allowed, "bubblewrap cannot start here", "--security-opt seccomp=unconfined"),
    ],
)
def test_a_container_without_namespaces_has_none_and_says_why_and_what_mends_it(
    container: Any, reason: str, mend: str
) -> None:
    assert platform.system() == "Linux"
    told = asked(*container(), uid=0 if container is no_namespaces_left else None)
    assert (told["auto"]["kind"], told["auto"]["refuses"]) == ("none", False)
    assert told["bwrap"]["refuses"], "what is demanded is not fallen short of"
    for mode in ("auto", "bwrap"):
        assert reason in told[mode]["reason"]
        assert mend in told[mode]["hint"]
        assert "NO SANDBOX" in told[mode]["words"]
