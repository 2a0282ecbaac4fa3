"""A town is its owner's alone: folders 0700, files 0600.

The town's folder itself keeps everybody else out of all that is in it. The files of the town's own are closed one by
one as well, for where somebody opens that folder again; work trees and clones are not, for their modes are the
repositories' business (a package that is built from 0600 files is another one).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from models.town import TownPaths

OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def close_to_others(paths: TownPaths) -> None:
    """Take every right of other users away; what is gone meanwhile, or another's, is passed over."""
    for path in open_to_others(paths):
        with contextlib.suppress(OSError):
            path.chmod(stat.S_IMODE(path.lstat().st_mode) & ~OTHERS)


def open_to_others(paths: TownPaths) -> Iterator[Path]:
    """What of the town's other users have a right to, from the outside inwards; links are not followed."""
    yield from _open(paths.root.resolve())
    for folder in (paths.rigs, paths.salvage):
        yield from _open(folder)
    for file in (paths.config, paths.secrets, paths.channels, paths.git_config):
        yield from _open(file)
    for folder in (paths.data, paths.logs, paths.run, paths.evidence):
        for above, folders, files in os.walk(folder):
            here = Path(above)
            yield from _open(here)
            if here in {paths.dolt_data, paths.sessions, paths.bin}:
                # Dolt opens its files itself, agents write into sessions, and programs are there to be run.
                folders.clear()
                continue
            for name in files:
                yield from _open(here / name)


def _open(path: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        mode = path.lstat().st_mode
        if mode & OTHERS and (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            yield path
