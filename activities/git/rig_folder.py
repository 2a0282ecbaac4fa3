"""A rig's folder on a host belongs to the rig that made it: one of the same name that was added later gets its own.

A rig that was removed and added anew may be another project. Its clones would hold the old one's branches, what is
remembered of its target would count as removed from the new one, and worktrees of the old one could be reused.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from models.ledger.records import Rig
from models.town import TownPaths
from services.atomic_files import write_whole
from services.locks import exclusive

MARK = "rig.json"


def own_rig_folder(paths: TownPaths, rig: Rig) -> Path:
    """The rig's folder; what an earlier rig of its name left there is renamed aside, work in it and all."""
    folder = paths.rig(rig.name)
    mark, age = folder / MARK, rig.created_at.isoformat()
    if _age(mark) == age:
        return folder
    with exclusive(folder.with_name(f".{rig.name}.lock")):
        made = _age(mark)
        if made == age:
            return folder
        # A folder without a mark is older than marks are.
        if made is not None:
            paths.salvage.mkdir(mode=0o700, parents=True, exist_ok=True)
            number = len(list(paths.salvage.glob(f"removed-{rig.name}.*")))
            os.rename(folder, paths.salvage / f"removed-{rig.name}.{number}")
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(mark, json.dumps({"created_at": age, "url": rig.url}) + "\n")
    return folder


def _age(mark: Path) -> str | None:
    """When the rig was added that the folder belongs to; None: nothing says so."""
    try:
        return str(json.loads(mark.read_bytes())["created_at"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
