"""The two bare clones of a rig on a host: one that polecats' worktrees hang on, one for landing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from activities.git.command import GitRepo, init_bare
from activities.git.rig_folder import own_rig_folder
from activities.locks import exclusive
from models import names
from models.records import Rig
from models.town import TownPaths

_WORK_CONFIG = """\
[core]
	repositoryformatversion = 1
	filemode = true
[extensions]
	worktreeConfig = true
[remote "origin"]
	url = {url}
	fetch = +refs/heads/*:refs/remotes/origin/*
"""
_WORK_CONFIG_OF_THE_CLONE = "[core]\n\tbare = true\n"


def land_clone(paths: TownPaths, rig: Rig) -> GitRepo:
    """The clone that chains are built in; agents never see it. Empty at first: a build fetches what it needs."""
    own_rig_folder(paths, rig)
    return GitRepo(_made_once(paths.land_clone(rig.name), lambda path: None))


def work_clone(paths: TownPaths, rig: Rig) -> GitRepo:
    """The clone that worktrees hang on, with `origin` set up as an agent expects it."""

    def furnish(path: Path) -> None:
        url = names.valid_remote(rig.url).replace("\\", "\\\\").replace('"', '\\"')
        # Per-worktree settings need core.bare out of the shared file: worktrees would inherit it.
        (path / "config").write_text(_WORK_CONFIG.format(url=f'"{url}"'), encoding="utf-8")
        (path / "config.worktree").write_text(_WORK_CONFIG_OF_THE_CLONE, encoding="utf-8")

    own_rig_folder(paths, rig)
    return GitRepo(_made_once(paths.clone(rig.name), furnish))


def _made_once(path: Path, furnish: Callable[[Path], None]) -> Path:
    """Make the bare repository aside and rename it into place: killed halfway leaves nothing half made."""
    if path.exists():
        return path
    with exclusive(path.with_name(f"{path.name}.make.lock")):
        if path.exists():
            return path
        half_made = path.with_name(f".{path.name}.new")
        shutil.rmtree(half_made, ignore_errors=True)
        init_bare(half_made)
        furnish(half_made)
        os.rename(half_made, path)
    return path
