"""The cache clone of a rig on a host: bare, and written by the town alone.

Polecats' repositories and gates' checkouts borrow its objects by alternates, so nothing in it is ever
pruned: `gc.auto` is off in every command of the town, and no command of the town drops objects. Its packs
are joined, since every command of git looks into each of them.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Final

from activities.git.command import GitRepo, init_bare
from activities.git.rig_folder import own_rig_folder
from models.git_errors import plain_words
from models.ledger.records import Rig
from models.settings import GitSettings
from models.town import TownPaths
from services.locks import exclusive

MOST_PACKS: Final = 20
"""of a clone, before they are joined"""

_log = logging.getLogger(__name__)


def cache_clone(paths: TownPaths, rig: Rig) -> GitRepo:
    """The rig's cache clone. Empty at first: whoever needs something fetches it."""
    own_rig_folder(paths, rig)
    return GitRepo(_made_once(paths.clone(rig.name)))


BLOBLESS: Final = "blobless"
"""of the setting git.clone: contents are fetched when they are needed"""


def promisor_config(git: GitSettings) -> list[tuple[str, str]]:
    """Settings of a repository on a partial clone whose `origin` gives what is missing; none for a full one."""
    if git.clone != BLOBLESS:
        return []
    return [
        ("core.repositoryformatversion", "1"),
        ("extensions.partialClone", "origin"),
        ("remote.origin.promisor", "true"),
        ("remote.origin.partialclonefilter", "blob:none"),
    ]


def fetch_options(git: GitSettings) -> tuple[str, ...]:
    """Options of a fetch from the rig's remote that limit how much of a large repository is cloned."""
    options = (f"--depth={git.depth}",) if git.depth else ()
    return (*options, "--filter=blob:none") if git.clone == BLOBLESS else options


def join_packs(cache: GitRepo) -> None:
    """Join the small packs where there are many; no object goes. Callers hold the clone's lock.

    A fetch that checks objects keeps them as a pack, so each job leaves one. In a partial clone the packs stay: git
    would forget which of them the remote completes.
    """
    files = os.listdir(cache.git_dir / "objects" / "pack")
    if sum(name.endswith(".pack") for name in files) <= MOST_PACKS or any(name.endswith(".promisor") for name in files):
        return
    answer = cache.attempt("repack", "--quiet", "-n", "-d", "--geometric=2")
    if answer.exit_code != 0:
        _log.warning("the packs of %s stay as they are: %s", cache.git_dir, plain_words(answer.stderr))


def _made_once(path: Path) -> Path:
    """Make the bare repository aside and rename it into place: killed halfway leaves nothing half made."""
    if path.exists():
        return path
    with exclusive(path.with_name(f"{path.name}.make.lock")):
        if path.exists():
            return path
        half_made = path.with_name(f".{path.name}.new")
        shutil.rmtree(half_made, ignore_errors=True)
        init_bare(half_made)
        os.rename(half_made, path)
    return path
