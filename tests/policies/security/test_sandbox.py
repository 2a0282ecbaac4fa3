"""The plan of a sandbox as bubblewrap's command line, and the reasons why there is none."""

from __future__ import annotations

import pytest

from models.errors import GtError
from models.settings import SandboxSettings, parse_setting
from policies.security.sandbox import (
    SandboxPlan,
    bwrap_argv,
    launched,
    limits,
    programs_named,
    runner_argv,
    runner_environment,
    toolchain_homes,
    why_not,
)

NO_LIMITS = SandboxSettings(memory_bytes=0, processes=0, file_bytes=0)
PLAN = SandboxPlan(
    folder="/t/rigs/r/p",
    read=("/usr", "/usr/local/bin", "/t/rigs/r/objects", "/h/bin"),
    write=("/t/rigs/r/p", "/t/rigs/r/p/cache", "/h/.claude"),
    private=("/h",),
    sealed=("/t",),
    masked=("/etc/shadow",),
)


def mounts(argv: list[str]) -> list[tuple[str, ...]]:
    """Every mount below the top ones that are always there."""
    found: list[tuple[str, ...]] = []
    for at, word in enumerate(argv):
        if word in {"--ro-bind-try", "--bind-try", "--ro-bind"}:
            found.append((word, argv[at + 2]))
        elif word in {"--tmpfs", "--remount-ro"}:
            found.append((word, argv[at + 1]))
    return found


def test_what_is_around_comes_before_what_is_within_and_what_is_seen_anyway_is_left_out() -> None:
    assert mounts(bwrap_argv(PLAN, NO_LIMITS)) == [
        ("--tmpfs", "/tmp"), ("--tmpfs", "/var/tmp"),
        ("--tmpfs", "/h"), ("--tmpfs", "/t"), ("--ro-bind-try", "/usr"),
        ("--ro-bind", "/etc/shadow"), ("--bind-try", "/h/.claude"), ("--ro-bind-try", "/h/bin"),
        ("--ro-bind-try", "/t/rigs/r/objects"), ("--bind-try", "/t/rigs/r/p"), ("--remount-ro", "/t"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (SandboxPlan("/f", read=("/a",), write=("/a",)), ("--bind-try", "/a")),
        (SandboxPlan("/f", write=("/a",), private=("/a",)), ("--bind-try", "/a")),
        (SandboxPlan("/f", write=("/a",), sealed=("/a",)), ("--tmpfs", "/a")),
        (SandboxPlan("/f", read=("/a",), masked=("/a",)), ("--ro-bind", "/a")),
    ],
)
def test_of_two_words_about_one_path(plan: SandboxPlan, expected: tuple[str, str]) -> None:
    assert next(mount for mount in mounts(bwrap_argv(plan, NO_LIMITS)) if mount[1] == "/a") == expected


@pytest.mark.parametrize(
    ("opened", "copied"), [((), True), (("/h/.claude",), True), (("/h/.claude.json",), False), (("/h",), False)]
)
def test_a_file_is_copied_into_what_is_the_sandboxs_own_alone(opened: tuple[str, ...], copied: bool) -> None:
    plan = SandboxPlan("/f", write=opened, private=("/h",), copied=("/h/.claude.json",))
    argv, start = bwrap_argv(plan, NO_LIMITS), launched(["bwrap"], plan)[2]
    assert ("--file 9 /h/.claude.json" in " ".join(argv)) is copied
    assert start.endswith(" 9</h/.claude.json") is copied


def test_it_ends_with_its_starter_keeps_its_terminal_and_has_a_network_only_where_that_is_said() -> None:
    argv = bwrap_argv(PLAN, NO_LIMITS, status_fd=7)
    assert {"--die-with-parent", "--unshare-pid", "--unshare-user", "--unshare-ipc", "--unshare-net"} <= set(argv)
    assert argv[argv.index("--json-status-fd") + 1] == "7"
    assert "--new-session" not in argv
    assert "--cap-add" not in argv
    assert argv[-5:] == ["--chdir", "/t/rigs/r/p", "--", "env", "--default-signal=HUP,INT,QUIT,TERM"]
    root = bwrap_argv(SandboxPlan("/f", network=True, as_root=True), NO_LIMITS)
    assert "--unshare-net" not in root
    assert [root[at + 1] for at, word in enumerate(root) if word == "--cap-add"] == [
        "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER",
    ]  # fmt: skip


def test_limits() -> None:
    assert limits(NO_LIMITS) == []
    settings = SandboxSettings(memory_bytes=5, processes=6, file_bytes=0)
    assert limits(settings) == ["prlimit", "--data=5", "--nproc=6", "--"]
    assert limits(NO_LIMITS.model_copy(update={"cpu_seconds": 60})) == ["prlimit", "--cpu=60:65", "--"]
    sized = bwrap_argv(PLAN, SandboxSettings(tmp_bytes=9))
    holds = [sized[at + 3] for at, word in enumerate(sized) if word == "--size"]
    assert holds == ["/tmp", "/var/tmp", *PLAN.private, "/dev/shm"]
    assert [sized[at + 1] for at, word in enumerate(sized) if word == "--remount-ro"][-2:] == ["/dev", "/"]
    assert "/dev/shm" not in bwrap_argv(PLAN, NO_LIMITS)


def test_a_runner_of_the_persons_own() -> None:
    plan = SandboxPlan("/w", read=("/a", "/b"), write=("/w",), network=True)
    limited = SandboxSettings(memory_bytes=9, processes=8, file_bytes=7, cpu_percent=150, cpu_seconds=6)
    command = [
        "run",
        "{folder}",
        "--net={network}",
        "{memory_bytes}:{processes}:{file_bytes}:{cpu_percent}:{cpu_seconds}",
        "{other}",
    ]
    assert runner_argv(command, plan, limited) == ["run", "/w", "--net=full", "9:8:7:150:6", "{other}"]
    assert runner_argv(["{memory_bytes}"], plan, SandboxSettings(total_memory_bytes=5)) == ["5"]
    assert runner_environment(plan) == {"GT_SANDBOX_READ": "/a:/b", "GT_SANDBOX_WRITE": "/w"}


@pytest.mark.parametrize(
    ("command", "programs"),
    [
        ("claude -p < $GT_TASK_FILE", ["claude"]),
        ("IS_SANDBOX=1 /opt/bin/claude -p", ["claude"]),
        ("sh -c 'codex exec - < task'", ["codex"]),
        ("./claude-like.sh", []),
        ("", []),
    ],
)
def test_programs_that_a_command_line_names(command: str, programs: list[str]) -> None:
    assert programs_named(command) == programs


@pytest.mark.parametrize(
    ("search", "homes"),
    [
        ("/usr/bin:/bin:/srv/bin", []),
        ("/home/a/.pyenv/shims:/home/a/.pyenv/bin:/usr/bin", ["/home/a"]),
        ("/home/a/.local/share/mise/shims:/home/b/.cargo/bin", ["/home/a", "/home/b"]),
        ("/.nvm/bin:relative/.x/bin::/home/a/.pyenvs/bin", []),
    ],
)
def test_the_homes_that_a_path_leads_to(search: str, homes: list[str]) -> None:
    assert toolchain_homes(search) == homes


@pytest.mark.parametrize(
    ("stderr", "kernel", "reason", "hint"),
    [
        ("bwrap: No permissions", {"user/max_user_namespaces": "0"}, "max_user_namespaces is 0", "sysctl -w user."),
        ("bwrap: No permissions", {"kernel/unprivileged_userns_clone": "0"}, "to root alone", "userns_clone=1"),
        (
            "bwrap: setting up uid map: Permission denied",
            {"kernel/apparmor_restrict_unprivileged_userns": "1", "user/max_user_namespaces": "9"},
            "AppArmor restricts",
            "AppArmor profile",
        ),
        ("bwrap: Can't mount proc on /newroot/proc: Operation not permitted", {}, "container", "systempaths"),
        ("bwrap: Creating new namespace failed: Operation not permitted", {}, "Creating new namespace", "seccomp"),
        ("", {}, "without a word", "sandbox.mode none"),
    ],
)
def test_why_there_is_none(stderr: str, kernel: dict[str, str], reason: str, hint: str) -> None:
    found = why_not(stderr, kernel)
    assert reason in found.reason
    assert hint in found.hint


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sandbox.mode", "docker"),
        ("agent.network", "api.anthropic.com/v1"),
        ("gate.network", "on"),
        ("sandbox.read", "relative/path"),
        ("sandbox.write", "/"),
        ("sandbox.write", "/a/../b"),
        ("sandbox.write", "'/open"),
        ("sandbox.command", "run '"),
        ("sandbox.processes", "-1"),
    ],
)
def test_what_is_not_understood_is_refused(key: str, value: str) -> None:
    with pytest.raises(GtError):
        parse_setting(key, value)
