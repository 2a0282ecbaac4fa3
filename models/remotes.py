"""What a look at a remote finds before a rig is made of it."""

from __future__ import annotations

from models.base import Frozen
from models.refinery.gates import GateReport


class RemoteFound(Frozen):
    """None stands for what could not be seen from here."""

    default_branch: str | None
    """that its HEAD names"""
    branches: int
    object_format: str = "sha1"
    bare: bool | None = None
    """False: a person's own checkout"""
    checked_out: tuple[str, ...] = ()
    """branches that somebody works on there"""
    push: bool | None = None
    """whether this person may push, by a dry run"""
    force_push: bool | None = None
    """whether it takes pushes that rewrite a branch"""
    files: int | None = None
    """at the branch's tip"""
    submodules: tuple[str, ...] = ()
    """their paths"""
    lfs: bool | None = None
    """whether its attributes hand files to git-lfs"""
    lfs_installed: bool = True
    """on this host"""
    disk_bytes: int | None = None
    """of its packed history, where the remote is on this machine"""
    commits_as: str = ""
    """author and committer of the rig's commits, `Name <email>`; "" for polecat and Refinery themselves"""
    gates: GateReport | None = None
    """at the branch's tip, where that was asked for"""
