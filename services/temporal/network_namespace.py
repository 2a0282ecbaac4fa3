"""A network of its own for a program: nobody else on the machine reaches what it listens on. Linux, without root.

    python -m services.temporal.network_namespace [--try] [-- program argument…]

becomes the program in a new network namespace that has a loopback interface and nothing else; with `--try` it says by
its exit code whether that works here.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Final

from models.errors import ErrorCode, GtError
from services.own_python import OWN_PYTHON

_NEW_USER: Final = 0x10000000
_NEW_NET: Final = 0x40000000
_GET_FLAGS: Final = 0x8913
_SET_FLAGS: Final = 0x8914
_UP: Final = 0x1
_TRY_S: Final = 20


def is_possible() -> bool:
    """Whether this machine lets this user have such a network; asked of a process of its own."""
    if sys.platform != "linux":
        return False
    trying = [*OWN_PYTHON, "-m", "services.temporal.network_namespace", "--try"]
    done = subprocess.run(trying, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TRY_S, check=False)
    return done.returncode == 0


def leave() -> None:
    """Move this process, which has one thread, into a new network with a loopback interface.

    Raises:
        OSError: the system does not allow it.
    """
    user, group = os.getuid(), os.getgid()
    # Root needs no user namespace, in which it would have no power over other users' files.
    if user != 0 or not _called("unshare", _NEW_NET):
        _call("unshare", _NEW_USER | _NEW_NET)
        Path("/proc/self/setgroups").write_bytes(b"deny")
        Path("/proc/self/uid_map").write_bytes(f"{user} {user} 1".encode())
        Path("/proc/self/gid_map").write_bytes(f"{group} {group} 1".encode())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        flags = struct.unpack("16sH", fcntl.ioctl(handle, _GET_FLAGS, struct.pack("16sH14x", b"lo", 0))[:18])[1]
        fcntl.ioctl(handle, _SET_FLAGS, struct.pack("16sH14x", b"lo", flags | _UP))


def join(pid: int) -> None:
    """Move this process, which has one thread, into the network of the process `pid` of the same user.

    Raises:
        OSError: it is gone, or another's.
    """
    for kind, flag in (("user", _NEW_USER), ("net", _NEW_NET)):
        if differs(pid, kind):
            with open(f"/proc/{pid}/ns/{kind}", "rb") as there:
                _call("setns", there.fileno(), flag)


def differs(pid: int, kind: str = "net") -> bool:
    """Whether the process has another namespace than this one.

    Raises:
        OSError: it is gone, or another's.
    """
    return os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")


def _called(function: str, *arguments: int) -> bool:
    return bool(getattr(ctypes.CDLL(None, use_errno=True), function)(*arguments) == 0)


def _call(function: str, *arguments: int) -> None:
    if not _called(function, *arguments):
        raise OSError(ctypes.get_errno(), f"{function}: {os.strerror(ctypes.get_errno())}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Become a program in a network of its own.")
    parser.add_argument("--try", action="store_true", dest="trying")
    parser.add_argument("argv", nargs="*")
    options = parser.parse_args()
    try:
        leave()
        if options.trying:
            return
        program = shutil.which(options.argv[0])
        if program is None:
            raise GtError(ErrorCode.PROGRAM_MISSING, f"{options.argv[0]} is not installed")
        os.execv(program, options.argv)  # noqa: S606
    except OSError as error:
        sys.exit(f"error: no network of its own: {error.strerror}")
    except GtError as error:
        sys.exit(f"error: {error.message}")


if __name__ == "__main__":
    main()
