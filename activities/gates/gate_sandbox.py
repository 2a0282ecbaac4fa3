"""What a gate sees in its sandbox."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from models.settings import SandboxSettings, listed_variables
from models.town import TownPaths
from policies.security.sandbox import CACHES, SandboxPlan
from services.sandbox import base_plan, named_paths, named_to_read, scratch_folders, with_paths


def gate_plan(
    paths: TownPaths,
    rig: str,
    command: str,
    settings: SandboxSettings,
    environment: Mapping[str, str],
    wanted: str,
    writes: Iterable[Path],
    *,
    online: bool,
) -> SandboxPlan:
    """Its checkout, HOME and caches to write; to read: the history that its repository borrows, and what its
    command line or a variable of gate.environment names, as RUSTUP_HOME does.

    A person's own HOME (gate.home person) shows programs and caches, and keeps everything else to itself.

    Args:
        environment: that the gate is started with.
        wanted: the setting gate.environment.
        writes: the checkout first.

    Raises:
        GtError: REFUSED where a setting opens what is the town's own.
    """
    runner, *more = writes
    person = Path.home()
    plan = base_plan(paths, settings, environment.get("PATH", ""), command, runner, person, network=online)
    read = [paths.clone(rig) / "objects", paths.modules(rig), paths.lfs(rig)]
    named = named_paths(command, person)
    named += (Path(environment.get(name, "")) for name, _ in listed_variables(wanted))
    scratch = scratch_folders(command, settings, person, paths.root)
    read += named_to_read(named, person, paths.root, (*plan.write, *scratch))
    write = [path for path in more if path != person] + scratch
    if person in more:
        write += [person / name for name in CACHES]
    return with_paths(plan, read=read, write=write)
