"""What kind of place a remote's address names, and which places a change may send the town's git to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from models import names

_SCP_LIKE: Final = re.compile(r"[^/:]+:(?!//)")
"""`host:path`, as ssh takes it: a colon before the first slash"""


def local_path(url: str) -> Path | None:
    """The folder of a remote on this machine, given as a path or a file URL; None for any other remote."""
    scheme, separator, rest = url.partition("://")
    if separator:
        if scheme.lower() != "file":
            return None
        return Path("/" + unquote(rest.partition("/")[2]))
    return None if _SCP_LIKE.match(url) else Path(url)


def same_reach(url: str, rig_url: str) -> bool:
    """Whether an address that a change brings may be followed where the rig's own remote is `rig_url`.

    Places on this machine are for rigs whose own remote is on it.

    Raises:
        GtError: INVALID_VALUE where it is no address of a remote at all.
    """
    return local_path(names.valid_remote(url)) is None or local_path(rig_url) is not None


def resolved(url: str, against: str) -> str:
    """A submodule's relative address (`../x.git`) made whole, by git's rules (git-submodule(1), `add`)."""
    if not url.startswith(("./", "../")):
        return url
    base = against.rstrip("/")
    while True:
        if url.startswith("../"):
            url = url[3:]
            at = max(base.rfind("/"), base.rfind(":"))
            # No further up than the host or the first folder.
            if at > 0 and not base[:at].endswith(":/"):
                kept = at + 1 if base[at] == ":" else at
                base = base[:kept]
        elif url.startswith("./"):
            url = url[2:]
        else:
            return f"{base}{url}" if base.endswith(":") else f"{base}/{url}"
