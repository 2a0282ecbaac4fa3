"""The sandbox of agents and gates on this host: which there is, and what each job sees in it.

docs/security.md draws the lines.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Final

from models import network_list
from models.base import Frozen
from models.errors import ErrorCode, GtError
from models.settings import SandboxSettings, Settings, listed_paths
from models.town import TownPaths
from policies.security import sandbox as policy
from policies.security import scopes
from policies.security.sandbox import SandboxPlan
from services.town import Town

NONE: Final = "none"
_CGROUPS: Final = "/sys/fs/cgroup"
_PROBE_TIMEOUT_S: Final = 20.0
_LONGEST_INTERPRETER: Final = 256
"""bytes of a script's first line that Linux reads: BINPRM_BUF_SIZE"""
_KERNEL: Final = (
    "kernel/unprivileged_userns_clone",
    "user/max_user_namespaces",
    "kernel/apparmor_restrict_unprivileged_userns",
)
_OF_THE_KERNEL: Final = (("proc",), ("sys",), ("dev",), ("run",))
_ROOT: Final = Path(__file__).resolve().parents[1]
"""where this program's own modules are"""
_INSTALL: Final = "install bubblewrap (apt-get install bubblewrap) on every host, or gt config sandbox.mode none"


class Standing(Frozen):
    """Which sandbox agents and gates of this host have."""

    mode: str
    """as it is set"""
    kind: str
    """bwrap, command or none"""
    reason: str = ""
    """why there is none"""
    hint: str = ""
    refuses: bool = False
    """a sandbox is demanded and there is none: nothing starts"""

    def in_words(self) -> str:
        if self.kind != NONE:
            runner = "bubblewrap" if self.kind == "bwrap" else "sandbox.command"
            return f"sandbox: {runner} (agents and gates see their own work alone)"
        if self.refuses:
            return f"NO SANDBOX, so no agent and no gate starts: {self.reason}; {self.hint}"
        why = f"{self.reason}; {self.hint}" if self.reason else "sandbox.mode is none; gt config sandbox.mode auto"
        return f"NO SANDBOX: agents and gates can do what this user can: {why}"


def settings_in(town: Town) -> Settings | None:
    """The town's settings; None: the ledger cannot be read."""
    # Not at the top: most who ask for the sandbox need no ledger.
    from ledger.store import Ledger  # noqa: PLC0415

    try:
        with contextlib.closing(Ledger.open(town.ledger_url(), create=False)) as ledger:
            return ledger.effective_settings(None)
    except GtError:
        return None


def standing_in(town: Town) -> Standing:
    """Which sandbox agents and gates of this town have on this host."""
    settings = settings_in(town)
    return standing(settings.sandbox if settings is not None else None)


def standing(settings: SandboxSettings | None) -> Standing:
    """Which sandbox there is under these settings; None, by the defaults: the ledger cannot be read."""
    settings = settings or SandboxSettings()
    if settings.command.strip():
        return Standing(mode=settings.mode, kind="command")
    if settings.mode == NONE:
        return Standing(mode=settings.mode, kind=NONE)
    problem = bwrap_problem()
    if problem is None:
        return Standing(mode=settings.mode, kind="bwrap")
    refuses = settings.mode == "bwrap"
    return Standing(mode=settings.mode, kind=NONE, reason=problem.reason, hint=problem.hint, refuses=refuses)


def required(settings: SandboxSettings, network: str = network_list.FULL) -> str:
    """The kind of sandbox that a job is to have: bwrap, command or none.

    Args:
        network: `agent.network`, which takes a sandbox unless it is full.

    Raises:
        GtError: REFUSED where one is demanded and there is none.
    """
    now = standing(settings)
    if now.kind == NONE and network != network_list.FULL and not now.refuses:
        why = now.reason or "sandbox.mode is none"
        hint = f"{now.hint or 'gt config sandbox.mode auto'}; or gt config agent.network full"
        raise GtError(ErrorCode.REFUSED, f"agent.network is {network[:200]}, and {why}", hint)
    if now.refuses:
        raise GtError(ErrorCode.REFUSED, f"sandbox.mode is bwrap, and {now.reason}", now.hint)
    problem = scope_problem(settings) if now.kind == "bwrap" else None
    if problem is not None:
        message = f"sandbox.total_memory_bytes or sandbox.cpu_percent is set, and {problem.reason}"
        raise GtError(ErrorCode.REFUSED, message, problem.hint)
    return now.kind


def bwrap_problem() -> policy.NotPossible | None:
    """Why bubblewrap does not work here; None: it does, which is asked once."""
    works = _found_to_work()
    problem = None if works else _problem()
    if problem is None:
        works["bwrap"] = True
    return problem


def limits_in_words(settings: SandboxSettings, kind: str) -> str:
    """Which means of limiting applies to agents and gates."""
    if kind == NONE:
        return "none"
    if kind == "command":
        return "sandbox.command's own"
    return "a cgroup scope around each, and prlimit" if scopes.wanted(settings) else "prlimit for each process"


def scope_problem(settings: SandboxSettings) -> policy.NotPossible | None:
    """Why there is no cgroup scope for limits that take one; None: there is, or none is set."""
    if not scopes.wanted(settings) or _found_to_work().get("scope"):
        return None
    problem = scopes.why_none(_machine()) or _scope_fails()
    if problem is None:
        _found_to_work()["scope"] = True
    return problem


def _machine() -> scopes.Machine:
    controllers = None
    with contextlib.suppress(OSError):
        controllers = frozenset(Path(_CGROUPS, "cgroup.controllers").read_text(encoding="ascii").split())
    # As sd_booted(3) tells.
    systemd = os.path.isdir("/run/systemd/system") and shutil.which("systemd-run") is not None
    with contextlib.suppress(KeyError):
        name = pwd.getpwuid(os.getuid()).pw_name
        return scopes.Machine(controllers, systemd, os.getuid() == 0, os.path.exists(f"/var/lib/systemd/linger/{name}"))
    return scopes.Machine(controllers, systemd, os.getuid() == 0, lingers=False)


def _scope_fails() -> policy.NotPossible | None:
    """Try one, with a pipe handed through as gates have it."""
    limits = SandboxSettings(total_memory_bytes=1_000_000_000, cpu_percent=100)
    reading, writing = os.pipe()
    try:
        tried = subprocess.run(
            [*scopes.scope_words(limits, os.getuid()), "sh", "-c", f"echo in > /proc/self/fd/{writing}"],
            pass_fds=(writing,),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
        os.set_blocking(reading, False)
        with contextlib.suppress(BlockingIOError):
            if tried.returncode == 0 and os.read(reading, 10) == b"in\n":
                return None
        said = (tried.stderr.strip().splitlines() or ["it hands no pipe through"])[-1][:200]
    except (OSError, subprocess.TimeoutExpired) as error:
        said = str(error)
    finally:
        os.close(reading)
        os.close(writing)
    return policy.NotPossible(f"systemd-run fails: {said}", f"see systemctl status; or {scopes.UNSET}")


@functools.cache
def _found_to_work() -> dict[str, bool]:
    return {}


def _problem() -> policy.NotPossible | None:
    if shutil.which("bwrap") is None:
        return policy.NotPossible("bubblewrap is not installed", _INSTALL)
    plan = SandboxPlan("/", read=policy.SYSTEM, as_root=os.getuid() == 0)
    try:
        tried = subprocess.run(
            [*policy.launched(policy.bwrap_argv(plan, SandboxSettings()), plan), "true"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=_PROBE_TIMEOUT_S,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return policy.NotPossible(f"bubblewrap cannot be started: {error}", _INSTALL)
    return None if tried.returncode == 0 else policy.why_not(tried.stderr, _kernel())


def _kernel() -> dict[str, str]:
    found = {}
    for name in _KERNEL:
        try:
            found[name] = Path("/proc/sys", name).read_text(encoding="ascii").strip()
        except OSError:
            continue
    return found


def base_plan(
    paths: TownPaths, settings: SandboxSettings, search: str, command: str, folder: Path, home: Path, *, network: bool
) -> SandboxPlan:
    """What agents and gates both see: the system, the programs on PATH, this installation; an empty HOME and no town.

    Args:
        search: the job's PATH.
        command: the job's command line; programs that it names may be links to elsewhere.
        folder: where the command starts, which it may write.
        home: the person's.

    Raises:
        GtError: REFUSED where a setting opens what is the town's own.
    """
    town = paths.root
    homes = [home, *map(Path, policy.toolchain_homes(search))]
    read = [*policy.SYSTEM, *(str(one / name) for one in homes for name in policy.TOOLCHAINS)]
    read += _resolver()
    read += [str(path) for path in (_ROOT, Path(sys.prefix), Path(sys.base_prefix))]
    read += _program_folders(search.split(":"), home, town)
    read += _program_folders(_behind(command, search), home, town)
    read += _opened(settings.read, home, town, "sandbox.read")
    write = [str(folder), *_opened(settings.write, home, town, "sandbox.write")]
    return SandboxPlan(
        folder=str(folder),
        read=_clean(read),
        write=_clean(write),
        private=() if _is_system(home) else (str(home),),
        sealed=(str(town),),
        masked=tuple(path for path in policy.CREDENTIALS if os.access(path, os.R_OK)),
        network=network,
        as_root=os.getuid() == 0,
    )


def reader_words(paths: TownPaths, folder: Path, read: Iterable[Path]) -> list[str]:
    """Words in front of a program of the town's that reads what an agent may have linked to any place: it sees these
    paths alone. None where there is no bubblewrap: there an agent reads what the town's user may anyway."""
    if bwrap_problem() is not None:
        return []
    unlimited = SandboxSettings(memory_bytes=0, processes=0, file_bytes=0)
    plan = base_plan(paths, unlimited, os.environ.get("PATH", ""), "git", folder, Path.home(), network=False)
    plan = with_paths(plan, read=read)
    return policy.launched(policy.bwrap_argv(plan, unlimited), plan)


def with_paths(
    plan: SandboxPlan,
    *,
    read: Iterable[Path | str] = (),
    write: Iterable[Path | str] = (),
    copied: Iterable[Path] = (),
) -> SandboxPlan:
    """The plan with more paths; those that are missing on the host are left out."""
    return replace(
        plan,
        read=_clean([*plan.read, *map(str, read)]),
        write=_clean([*plan.write, *map(str, write)]),
        copied=_clean(str(path) for path in copied if path.is_file()),
    )


def in_sandbox(
    kind: str,
    plan: SandboxPlan,
    settings: SandboxSettings,
    environment: Mapping[str, str],
    status_fd: int | None = None,
) -> tuple[list[str], dict[str, str]]:
    """Words to put in front of a job's own, and the environment that it is started with."""
    if kind == "bwrap":
        own = dict(environment)
        if "TMPDIR" in own:
            own["TMPDIR"] = "/tmp"  # noqa: S108 - the sandbox's own
        scope = scopes.scope_words(settings, os.getuid())
        return [*scope, *policy.launched(policy.bwrap_argv(plan, settings, status_fd=status_fd), plan)], own
    if kind == "command":
        own = {**environment, **policy.runner_environment(plan)}
        return policy.runner_argv(shlex.split(settings.command), plan, settings), own
    return [], dict(environment)


def may_be_named(path: Path, home: Path, town: Path) -> bool:
    """Whether a path that a command line or an address names may be seen for that: a file, or a folder below the top
    ones; none around the home or the town, and nothing of the town's or the kernel's."""
    if (
        not path.is_absolute()
        or path.parts[1:2] in _OF_THE_KERNEL
        or _holds(path, (home, town))
        or town in path.parents
    ):
        return False
    return path.is_file() or (path.is_dir() and len(path.parts) > 2)


def named_paths(command: str, home: Path) -> list[Path]:
    """What a command line names by a path from the root or from the home folder, other than what its output goes to."""
    try:
        words = _words(command)
    except ValueError:
        return []
    words = [word for before, word in pairwise(["", *words]) if ">" not in before]
    named = [word.rpartition("=")[2] if word.startswith("-") else word for word in words]
    return [home / word[2:] if word.startswith("~/") else Path(word) for word in named if word.startswith(("/", "~/"))]


def _words(command: str) -> list[str]:
    """As a shell takes a command line apart: `sh /srv/agent.sh; gt done` names a script. ValueError: it does not."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    return list(lexer)


def named_to_read(named: Iterable[Path], home: Path, town: Path, writable: Iterable[Path | str]) -> list[Path]:
    """What is seen because it is named. A file in a folder that the job may write keeps the rights of that folder:
    a job that adds to a file names it as one that reads it does."""
    folders = {*map(Path, writable)}
    return [path for path in named if may_be_named(path, home, town) and folders.isdisjoint(path.parents)]


def scratch_folders(command: str, settings: SandboxSettings, home: Path, town: Path) -> list[Path]:
    """Folders of the scripts that a command line names, which `auto` shares with them: a trial keeps its script, its
    notes and its marks in one scratch folder.

    Never the person's home, the system, programs, this installation or the town; and none under `bwrap`.
    """
    if settings.mode != "auto":
        return []
    kept = [home, town, _ROOT, Path(sys.prefix), Path(sys.base_prefix), *map(Path, policy.SYSTEM)]
    scripts = (path for path in named_paths(command, home) if path.is_file() and not path.is_symlink())
    return [
        folder
        for folder in dict.fromkeys(script.parent.resolve() for script in scripts)
        if len(folder.parts) > 2
        and folder.name not in {"bin", "sbin"}
        and folder.parts[1:2] not in _OF_THE_KERNEL
        and not _holds(folder, kept)
        and not any(place in folder.parents for place in kept)
        and folder.stat().st_uid == os.getuid()
    ]


def _resolver() -> list[str]:
    """Where /etc/resolv.conf really is: under systemd in /run."""
    real = os.path.realpath("/etc/resolv.conf")
    return [] if real.startswith("/etc/") else [real]


def _behind(command: str, search: str) -> list[str]:
    """The folders of what stands behind the programs that a command line names: of the files that links on PATH
    lead to, and of the interpreters that scripts name."""
    with contextlib.suppress(ValueError):
        named = [word for word in _words(command) if "/" not in word]
        programs = [found for found in (shutil.which(word, path=search) for word in named) if found]
        programs += [found for found in map(_interpreter, programs) if found]
        return [os.path.dirname(place) for program in programs for place in (program, os.path.realpath(program))]
    return []


def _interpreter(program: str) -> str | None:
    with contextlib.suppress(OSError), open(program, "rb") as file:
        first = file.readline(_LONGEST_INTERPRETER)
        words = os.fsdecode(first[2:]).split() if first.startswith(b"#!") else []
        return words[0] if words and words[0].startswith("/") else None
    return None


def _program_folders(folders: Iterable[str], home: Path, town: Path) -> list[str]:
    """Folders of programs, and for each `…/bin` what stands beside it, where that is no more than programs."""
    found = []
    for entry in folders:
        folder = Path(entry)
        if not folder.is_absolute() or _holds(folder, (home, town)) or town in folder.parents:
            continue
        found.append(entry)
        # A package of npm's needs those beside it.
        modules = next((str(above) for above in reversed(folder.parents) if above.name == "node_modules"), None)
        if modules is not None:
            found.append(modules)
        beside = folder.parent
        whole = folder.name in {"bin", "sbin"} and not _holds(beside, (home, town, home / ".local", home / ".cargo"))
        if whole and (beside / "lib").is_dir():
            found.append(str(beside))
    return found


def _opened(setting: str, home: Path, town: Path, name: str) -> list[str]:
    opened = []
    for path in listed_paths(setting):
        place = home / path[2:] if path.startswith("~/") else Path(path)
        if place == town or town in place.parents:
            raise GtError(ErrorCode.REFUSED, f"{name} opens {place}, which is the town's own", f"gt config {name}")
        opened.append(str(place))
    return opened


def _is_system(home: Path) -> bool:
    """Whether this HOME is none that could be hidden: a service's own user has / or a folder of programs for one."""
    return home == Path("/") or any(_holds(Path(system), (home,)) for system in policy.SYSTEM)


def _holds(folder: Path, places: Iterable[Path]) -> bool:
    """Whether one of the places is this folder or stands in it."""
    return any(folder == place or folder in place.parents for place in places)


def _clean(paths: Iterable[str]) -> tuple[str, ...]:
    """Once each, normal, and those that are there."""
    return tuple(path for path in dict.fromkeys(map(os.path.normpath, paths)) if os.path.exists(path))
