"""What a sandboxed process may see, as a plan, and the command line of bubblewrap that makes it so.

Nothing of the host is there unless the plan names it, each at its own path. The most specific path wins: a folder
within an empty one is seen, and an empty one within a folder hides what stands there.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from models.settings import SandboxSettings

SYSTEM: Final = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt"),
    *("/nix", "/gnu", "/snap", "/run/current-system", "/home/linuxbrew/.linuxbrew", "/var/lib/ca-certificates"),
)
"""Where programs, their libraries and their configuration are; read-only."""

CREDENTIALS: Final = (
    *("/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/sudoers", "/etc/krb5.keytab"),
    *("/etc/ssh/ssh_host_rsa_key", "/etc/ssh/ssh_host_ecdsa_key", "/etc/ssh/ssh_host_ed25519_key"),
)
"""Files within that a town that runs as root could read."""

TOOLCHAINS: Final = (
    *(".local/bin", ".local/lib", ".local/pipx", ".local/share/pipx", ".local/share/uv", ".local/share/mise"),
    *(".local/share/pnpm", ".local/share/fnm", ".local/share/claude", ".local/share/cursor-agent", ".config/mise"),
    *(".nvm", ".volta", ".fnm", ".npm-global", ".npm-packages", ".asdf", ".tool-versions", ".pyenv", ".rbenv", ".rvm"),
    *(".cargo/bin", ".cargo/env", ".cargo/registry", ".cargo/git", ".rustup", ".sdkman", ".jenv", ".goenv", "go/bin"),
    *(".bun/bin", ".deno/bin", ".dotnet", ".nix-profile", ".local/state/nix", ".opencode/bin", ".codeium", "bin"),
)
"""Where version managers and package managers keep programs in a HOME; read-only."""

CACHES: Final = (
    *(".cache", ".npm", ".cargo/registry", ".cargo/git", ".gradle", ".m2/repository", ".ivy2", ".sbt", ".pub-cache"),
    *("go/pkg", ".nuget", ".local/share/pnpm", ".bundle/cache", ".hex", ".cabal/packages", ".stack"),
)
"""What tools write in a person's HOME, where gates get that (gate.home person)."""

AGENT_STATE: Final[Mapping[str, tuple[str, ...]]] = {
    "claude": (".claude",),
    "codex": (".codex",),
    "gemini": (".gemini",),
    "opencode": (".local/share/opencode", ".local/state/opencode", ".cache/opencode"),
    "amp": (".local/share/amp", ".cache/amp"),
    "cursor-agent": (".cursor", ".config/cursor"),
    "cursor": (".cursor", ".config/cursor"),
    "aider": (".aider",),
    "copilot": (".copilot",),
    "goose": (".local/share/goose", ".local/state/goose"),
}
"""By program: the folders that it writes in the person's HOME, its login among it. Shared and never copied: a program
that refreshes its login would make that of a copy invalid. Folders alone: a file that is mounted by itself cannot be
replaced by a rename, as programs do."""

AGENT_COPIES: Final[Mapping[str, tuple[str, ...]]] = {"claude": (".claude.json",)}
"""By program: its files in the person's HOME that it writes and that hold no login which is refreshed. It gets a copy,
which is gone with the job: they name commands that the program runs for the person too, as those of MCP servers, and
programs side by side have spoiled them."""

AGENT_SETTINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "claude": tuple(
        f".claude/{name}"
        for name in (
            *("settings.json", "settings.local.json", "CLAUDE.md", "commands", "agents", "skills", "plugins", "hooks"),
            *("output-styles", "rules", "local"),
        )
    ),
    "codex": (".codex/config.toml", ".codex/AGENTS.md", ".codex/prompts", ".codex/rules", ".codex/skills"),
    "gemini": (".gemini/settings.json", ".gemini/GEMINI.md", ".gemini/commands", ".gemini/extensions", ".gemini/.env"),
    "opencode": (".config/opencode",),
    "amp": (".config/amp",),
    "cursor-agent": (".cursor/mcp.json", ".cursor/rules", ".cursor/cli-config.json"),
    "cursor": (".cursor/mcp.json", ".cursor/rules", ".cursor/cli-config.json"),
    "aider": (".aider.conf.yml", ".aider.model.settings.yml", ".aider.model.metadata.json"),
    "copilot": (".copilot/config.json", ".copilot/mcp-config.json"),
    "goose": (".config/goose",),
}
"""By program: its settings in the person's HOME, which it may read and nobody in a sandbox may change: they name
commands that the program runs for the person too."""

GIT_LISTS: Final = (".config/git/ignore", ".config/git/attributes", ".gitignore_global", ".gitignore", ".gitattributes")
"""A person's lists for git; its configuration is in the session's own."""

AS_ROOT: Final = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER")
"""What root keeps: over files of its own alone, as root's programs expect it."""


_SIGNALS: Final = ("HUP", "INT", "QUIT", "TERM")
_HEARS_SIGNALS: Final = ("env", f"--default-signal={','.join(_SIGNALS)}")
_CPU_GRACE_S: Final = 5
_COPY_FDS: Final = range(9, 4, -1)
"""3 and 4 are the pipe's to an agent's proxy (activities/sessions/agent_network.py)"""
_PLACEHOLDER: Final = re.compile(r"\{[a-z_]+\}")
_BINDS: Final = frozenset({"read", "write"})


@dataclass(frozen=True)
class SandboxPlan:
    """What one job's processes see. Paths are absolute; those that are missing on the host are left out."""

    folder: str
    """where the command starts"""
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    private: tuple[str, ...] = ()
    """folders that are empty at first, may be written, and are gone with the job: HOME"""
    sealed: tuple[str, ...] = ()
    """folders that are empty but for what else the plan names, and cannot be written: the town"""
    masked: tuple[str, ...] = ()
    """existing files that cannot be read"""
    copied: tuple[str, ...] = ()
    """files that it has a copy of, to write"""
    network: bool = False
    as_root: bool = False
    """the town runs as root"""


def bwrap_argv(plan: SandboxPlan, settings: SandboxSettings, *, status_fd: int | None = None) -> list[str]:
    """The command line that runs what is appended to it in a sandbox, within its limits.

    Its own mount, process, IPC and host-name namespaces, no capabilities (root: none beyond its own files), an
    end with whoever started it. No new kernel session: an agent keeps the terminal of its pane.

    Args:
        status_fd: bubblewrap writes there what the command ended with, once it was started.
    """
    argv = ["bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    argv += ["--die-with-parent", "--cap-drop", "ALL"]
    if plan.as_root:
        argv += [word for name in AS_ROOT for word in ("--cap-add", name)]
    if not plan.network:
        argv.append("--unshare-net")
    if status_fd is not None:
        argv += ["--json-status-fd", str(status_fd)]
    size = ["--size", str(settings.tmp_bytes)] if settings.tmp_bytes else []
    argv += ["--proc", "/proc", "--dev", "/dev", *size, "--tmpfs", "/tmp", *size, "--tmpfs", "/var/tmp"]  # noqa: S108
    for path, kind in sorted(_mounts(plan).items(), key=lambda mount: (mount[0].count("/"), mount[0])):
        match kind:
            case "read":
                argv += ["--ro-bind-try", path, path]
            case "write":
                argv += ["--bind-try", path, path]
            case "private":
                argv += [*size, "--tmpfs", path]
            case "sealed":
                argv += ["--tmpfs", path]
            case _:
                argv += ["--ro-bind", "/dev/null", path]
    for number, path in _copies(plan):
        argv += ["--perms", "0600", "--file", str(number), path]
    # Only now: what is mounted in them needs a folder to be mounted on.
    full: tuple[str, ...] = ()
    if size:
        # What else is memory of this machine: /dev/shm, and the folders that hold everything else.
        argv += [*size, "--tmpfs", "/dev/shm"]  # noqa: S108
        full = ("/dev", "/")
    argv += [word for path in (*plan.sealed, *full) for word in ("--remount-ro", path)]
    return [*argv, "--chdir", plan.folder, "--", *_HEARS_SIGNALS, *limits(settings)]


def launched(argv: Sequence[str], plan: SandboxPlan) -> list[str]:
    """bubblewrap's command line with the files open that it copies, and so that what a terminal or a supervisor sends
    to all processes of a job does not end bubblewrap, and with it the whole job at once: the job itself hears it, and
    may end as it likes."""
    opened = "".join(f" {number}<{shlex.quote(path)}" for number, path in _copies(plan))
    return ["sh", "-c", f'trap "" {" ".join(_SIGNALS)}; exec "$@"{opened}', "sh", *argv]


def _copies(plan: SandboxPlan) -> list[tuple[int, str]]:
    """Each file that is copied, and the number that it is open by: one digit, as plain shells want it.

    Only into what is the sandbox's own: where a setting opens the file or a folder around it, the copy would be
    written over the person's own file.
    """
    found = _kinds(plan)
    copied = (path for path in plan.copied if path not in found and _around(path, found) in {"", "private"})
    return list(zip(_COPY_FDS, copied, strict=False))


def _mounts(plan: SandboxPlan) -> dict[str, str]:
    """What stands at each path, without what is seen so anyway."""
    found = _kinds(plan)
    return {path: kind for path, kind in found.items() if kind not in _BINDS or _around(path, found) != kind}


def _kinds(plan: SandboxPlan) -> dict[str, str]:
    """What is said of each path; of two words about one the later holds."""
    kinds = {"read": plan.read, "private": plan.private, "write": plan.write}
    kinds |= {"sealed": plan.sealed, "masked": plan.masked}
    return {path: kind for kind, paths in kinds.items() for path in paths}


def _around(path: str, found: Mapping[str, str]) -> str:
    """What the nearest folder around a path is; "" where none is named."""
    parent = path.rpartition("/")[0]
    while parent:
        if parent in found:
            return found[parent]
        parent = parent.rpartition("/")[0]
    return found.get("/", "")


def limits(settings: SandboxSettings) -> list[str]:
    """prlimit(1) in front of a command; nothing where nothing is limited. Memory is what may be written (RLIMIT_DATA):
    runtimes reserve far more addresses than they ever use."""
    wanted = {
        "data": settings.memory_bytes,
        "nproc": settings.processes,
        "fsize": settings.file_bytes,
    }
    words = [f"--{name}={value}" for name, value in wanted.items() if value]
    if settings.cpu_seconds:
        # First SIGXCPU, which says why it ends; only who goes on is killed.
        words.append(f"--cpu={settings.cpu_seconds}:{settings.cpu_seconds + _CPU_GRACE_S}")
    return ["prlimit", *words, "--"] if words else []


def runner_argv(command: Sequence[str], plan: SandboxPlan, settings: SandboxSettings) -> list[str]:
    """The words of `sandbox.command` with `{folder}`, `{network}` and the limits filled in; the job's own follow."""
    filled = {
        "{folder}": plan.folder,
        "{network}": "full" if plan.network else "none",
        "{memory_bytes}": str(settings.total_memory_bytes or settings.memory_bytes),
        "{processes}": str(settings.processes),
        "{file_bytes}": str(settings.file_bytes),
        "{cpu_percent}": str(settings.cpu_percent),
        "{cpu_seconds}": str(settings.cpu_seconds),
    }
    return [_PLACEHOLDER.sub(lambda found: filled.get(found[0], found[0]), word) for word in command]


def runner_environment(plan: SandboxPlan) -> dict[str, str]:
    """What a runner of the person's own learns of the plan: paths by colons, as they are on the host."""
    return {"GT_SANDBOX_READ": ":".join(plan.read), "GT_SANDBOX_WRITE": ":".join((*plan.write, *plan.copied))}


def toolchain_homes(search: str) -> list[str]:
    """The homes whose toolchains a PATH leads to, the person's or another's: HOME may be another than at login."""
    homes = {}
    for entry in search.split(":"):
        for name in TOOLCHAINS:
            home, found, _ = f"{entry}/".partition(f"/{name}/")
            if found and home and name.startswith("."):
                homes[home] = True
    return list(homes)


def programs_named(command: str) -> list[str]:
    """The agent programs of AGENT_STATE that a command line names."""
    words = {word.rpartition("/")[2] for word in command.replace("'", " ").replace('"', " ").split()}
    return [program for program in AGENT_STATE if program in words]


class NotPossible(NamedTuple):
    """Why bubblewrap does not work on this host, and what mends it."""

    reason: str
    hint: str


def why_not(stderr: str, kernel: Mapping[str, str]) -> NotPossible:
    """Name the cause of a start of bubblewrap that failed.

    Args:
        kernel: settings of the kernel by the end of their path under /proc/sys; those that it has.
    """
    said = (
        stderr.strip().splitlines()[-1].removeprefix("bwrap: ")[:200] if stderr.strip() else "it ended without a word"
    )
    if kernel.get("user/max_user_namespaces") == "0":
        return NotPossible(
            "the kernel allows no user namespaces (user.max_user_namespaces is 0)",
            "as root: sysctl -w user.max_user_namespaces=15000",
        )
    if kernel.get("kernel/unprivileged_userns_clone") == "0":
        return NotPossible(
            "the kernel allows user namespaces to root alone (kernel.unprivileged_userns_clone is 0)",
            "as root: sysctl -w kernel.unprivileged_userns_clone=1",
        )
    if kernel.get("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return NotPossible(
            f"AppArmor restricts user namespaces (kernel.apparmor_restrict_unprivileged_userns is 1): {said}",
            "give /usr/bin/bwrap an AppArmor profile with `userns,` (docs/security.md), "
            "or as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        )
    if "proc" in said and "mount" in said.lower():
        return NotPossible(
            f"this container lets nobody mount /proc: {said}",
            "start it with --security-opt systempaths=unconfined --security-opt seccomp=unconfined, "
            "or let the container be the sandbox: gt config sandbox.mode none",
        )
    return NotPossible(
        f"bubblewrap cannot start here: {said}",
        "in a container: --security-opt seccomp=unconfined; or gt config sandbox.mode none",
    )
