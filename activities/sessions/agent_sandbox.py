"""What an agent sees in its sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from activities.git.remote_kinds import local_path
from activities.sessions.agent_network import proxy_folder
from agents import presets
from models.job.attempts import StartAttempt
from models.network_list import FULL
from models.town import TownPaths
from policies.security.sandbox import AGENT_COPIES, AGENT_SETTINGS, AGENT_STATE, GIT_LISTS, SandboxPlan, programs_named
from services.sandbox import base_plan, may_be_named, named_paths, named_to_read, scratch_folders, with_paths


def agent_plan(paths: TownPaths, request: StartAttempt, environment: Mapping[str, str]) -> SandboxPlan:
    """Its worktree and session folder to write, with what its program keeps in the person's HOME; to read: the objects
    that its repository borrows, what it fetches, the evidence of its bead, a remote on this machine, and what its
    command line names.

    Args:
        environment: that the agent is started with.

    Raises:
        GtError: REFUSED where a setting opens what is the town's own.
    """
    rig = request.rig.name
    command = presets.command_line(request.agent)
    home = Path(environment.get("HOME") or Path.home())
    worktree = paths.worktree(rig, request.polecat)
    network = request.network == FULL
    search = environment.get("PATH", "")
    plan = base_plan(paths, request.sandbox, search, command, worktree, home, network=network)
    session = paths.session(rig, request.polecat, request.bead, request.attempt)
    programs = programs_named(command)
    remote = local_path(request.rig.url)
    scratch = scratch_folders(command, request.sandbox, home, paths.root)
    read: list[Path | str] = [
        paths.bin,
        paths.door,
        proxy_folder(paths.record(session)),
        paths.clone(rig) / "objects",
        paths.served(rig),
        paths.modules(rig),
        paths.lfs(rig),
        paths.evidence / request.bead,
        *(home / name for name in GIT_LISTS),
        *(home / name for program in programs for name in AGENT_SETTINGS[program]),
        *named_to_read(named_paths(command, home), home, paths.root, (*plan.write, *scratch)),
    ]
    if remote is not None and may_be_named(remote, home, paths.root):
        read.append(remote)
    write = [session]
    write += [home / name for program in programs for name in AGENT_STATE[program]]
    write += scratch
    copied = [home / name for program in programs for name in AGENT_COPIES.get(program, ())]
    return with_paths(plan, read=read, write=write, copied=copied)
