"""Settings that shape behaviour: product.md's table, typed, with ranges and meanings.

Values live in the ledger's `settings` table under a scope (`town` or a rig's name) and reach
workflows as one `Settings`. Keys are `<group>.<name>`; times are seconds.
"""

from __future__ import annotations

import re
import shlex
from enum import StrEnum
from typing import Annotated, Any

from annotated_types import Ge, Le
from pydantic import ConfigDict, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo

from models import names, network_list
from models.base import Frozen
from models.errors import ErrorCode, GtError

UNIT_SECONDS = "seconds"
Seconds = Annotated[int, UNIT_SECONDS]
"""a duration: a person may type `5m`"""


class HealthSettings(Frozen):
    check_interval: Seconds = Field(60, ge=1, le=3600, description="seconds between full surveys of a patrol")
    polecat_timeout: Seconds = Field(300, ge=5, le=86400, description="heartbeat older than this: stale")
    grace: Seconds = Field(60, ge=0, le=3600, description="how long a stale polecat may recover by itself")
    stuck_timeout: Seconds = Field(1800, ge=10, le=86400, description="no progress for this long: HELP")
    session_timeout: Seconds = Field(0, ge=0, le=604800, description="longest session; 0 = off")
    witness_timeout: Seconds = Field(600, ge=10, le=86400, description="no ping for this long: Witness down")
    patrol_timeout: Seconds = Field(300, ge=10, le=86400, description="last patrol older: restart the patrol")
    deacon_timeout: Seconds = Field(300, ge=10, le=86400, description="no answer from the Deacon: tell the Mayor")


class RecoverySettings(Frozen):
    max_retries: int = Field(3, ge=0, le=100, description="restarts within the window")
    retry_delay: Seconds = Field(30, ge=0, le=3600, description="delay before the second restart")
    max_delay: Seconds = Field(600, ge=0, le=86400, description="where doubling of the delay stops")
    window: Seconds = Field(3600, ge=1, le=604800, description="sliding window of the restart budget")
    healthy_reset: Seconds = Field(1800, ge=1, le=604800, description="healthy this long: budget forgiven")
    policy: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:-]*$|^$",
        max_length=200,
        description="entry point of an own diagnosis; empty or built-in = the built-in one",
    )

    @field_validator("policy", mode="before")
    @classmethod
    def _built_in(cls, value: object) -> object:
        return "" if value == "built-in" else value


class PolecatSettings(Frozen):
    auto_done: bool = Field(True, description="exit 0, clean tree and commits ahead counts as gt done")
    max_reworks: int = Field(5, ge=0, le=100, description="reworks before a person is asked")


def listed_commands(setting: str) -> list[str]:
    """The commands in `agent.may`, in full: `bd list`, `gt mail send`. Of `bd show|list` each is one.

    Raises:
        GtError: INVALID_VALUE for a word that cannot be part of a command's name.
    """
    found: list[str] = []
    for part in re.split(r"[,\n]|\s(?=(?:gt|bd)\s)", setting):
        words = part.split()
        if not words:
            continue
        program, path = (words[0], words[1:]) if words[0] in {"gt", "bd"} else ("bd", words)
        if not path or not all(_COMMAND_WORD.fullmatch(word) for word in path[:-1] + path[-1].split("|")):
            raise GtError(
                ErrorCode.INVALID_VALUE, f"{part.strip()[:60]!r} is not the name of a command", "bd list, gt mail send"
            )
        found += [" ".join([program, *path[:-1], last]) for last in path[-1].split("|")]
    return list(dict.fromkeys(found))


_COMMAND_WORD = re.compile(r"[a-z][a-z-]*")


class AgentSettings(Frozen):
    may: str = Field(
        "bd comment, gt mail send",
        max_length=1000,
        description="commands that an agent may run in its session beside its own, by commas: bd list, bd ready",
    )
    network: str = Field(
        network_list.FULL,
        max_length=4000,
        description="network of agents: full, none, or the hosts that they may reach: api.anthropic.com *.npmjs.org",
    )

    @field_validator("may")
    @classmethod
    def _commands(cls, value: str) -> str:
        return ", ".join(listed_commands(value))

    @field_validator("network")
    @classmethod
    def _hosts(cls, value: str) -> str:
        return " ".join(network_list.listed_hosts(value)) or value.strip().lower()


class SessionSettings(Frozen):
    done_grace: Seconds = Field(5, ge=0, le=600, description="seconds a session lives on after its work was taken")


class CheckpointSettings(Frozen):
    interval: Seconds = Field(600, ge=10, le=86400, description="seconds between saves of work in progress")
    max_bytes: int = Field(50_000_000, ge=0, le=10_000_000_000, description="larger files stay local")
    remote: bool = Field(True, description="save work in progress to the remote")


class MergeStyle(StrEnum):
    """How a change becomes part of the target."""

    SQUASH = "squash"
    REBASE = "rebase"
    MERGE = "merge"


class MergeQueueSettings(Frozen):
    retry_count: int = Field(3, ge=0, le=100, description="retries of a push or of a gate that could not run")
    retry_delay: Seconds = Field(60, ge=0, le=3600, description="seconds between those retries")
    min_batch: int = Field(1, ge=1, le=256, description="smallest batch")
    max_batch: int = Field(32, ge=1, le=256, description="largest batch")
    max_concurrent: int = Field(1, ge=1, le=64, description="gate runners")
    confirm_runs: str = Field(
        "auto",
        pattern=r"^(auto|[0-9])$",
        description="confirming runs before a culprit is blamed: auto, or 0 to 9",
    )
    style: str = Field(
        MergeStyle.SQUASH.value,
        pattern=r"^(squash|rebase|merge)$",
        description="how changes land: squash, rebase (commits kept) or merge",
    )
    signing_key: str = Field("", max_length=1000, description="SSH key file that signs landing commits; empty = none")


def _words(setting: str, what: str) -> list[str]:
    """Words as a shell takes them apart.

    Raises:
        GtError: INVALID_VALUE for a quote without an end.
    """
    try:
        return shlex.split(setting)
    except ValueError as error:
        raise GtError(ErrorCode.INVALID_VALUE, f"{setting[:60]!r} is not {what}: {error}") from error


def listed_files(setting: str) -> list[str]:
    """The names in `worktree.copy` or `gate.copy`: separated by spaces, with quotes as in a shell.

    Raises:
        GtError: INVALID_VALUE for one that is not a path below the top of a worktree, or that git itself uses.
    """
    found = [name.rstrip("/") for name in _words(setting, "a list of files")]
    for name in found:
        parts = name.split("/")
        if any(part in {"", ".", ".."} for part in parts) or parts[0].lower() == ".git":
            raise GtError(ErrorCode.INVALID_VALUE, f"{name[:60]!r} is not a path below the top of a worktree", ".env")
    return found


def listed_variables(setting: str) -> list[tuple[str, str | None]]:
    """The names in `gate.environment`, each with its value, or None where the worker's own is meant.

    Raises:
        GtError: INVALID_VALUE.
    """
    words = _words(setting, "a list of variables")
    found: list[tuple[str, str | None]] = []
    for word in words:
        name, given, value = word.partition("=")
        if not _VARIABLE.fullmatch(name):
            raise GtError(ErrorCode.INVALID_VALUE, f"{name[:60]!r} is not the name of a variable", "NAME or NAME=VALUE")
        found.append((name, value if given else None))
    return found


_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WHERE_USED = r"^(auto|always|never)$"
_IDENTITY = r"^$|^[^<>\x00-\x1f\x7f]+ <[^<>\s\x00-\x1f\x7f]+@[^<>\s\x00-\x1f\x7f]+>$"


def _parted(identity: str) -> tuple[str, str] | None:
    name, _, email = identity.removesuffix(">").rpartition(" <")
    return (name, email) if identity else None


class GitSettings(Frozen):
    author: str = Field(
        "", pattern=_IDENTITY, max_length=400,
        description="author of agents' commits, `Name <email>`; empty = the polecat itself",
    )  # fmt: skip
    committer: str = Field(
        "", pattern=_IDENTITY, max_length=400,
        description="committer of landing commits, `Name <email>`; empty = the Refinery",
    )  # fmt: skip
    sign_off: bool = Field(False, description="landing commits carry a Signed-off-by of the committer")
    branch_prefix: str = Field(
        "polecat/", max_length=60, description="what names of jobs' branches on the remote begin with"
    )
    clone: str = Field(
        "full", pattern=r"^(full|blobless)$", description="full, or blobless: contents are fetched when they are needed"
    )
    depth: int = Field(0, ge=0, le=1_000_000, description="commits of history that are cloned; 0 = all")

    @property
    def author_identity(self) -> tuple[str, str] | None:
        """(name, email); None: not set."""
        return _parted(self.author)

    @property
    def committer_identity(self) -> tuple[str, str] | None:
        """(name, email); None: not set."""
        return _parted(self.committer)

    @field_validator("branch_prefix")
    @classmethod
    def _prefix(cls, value: str) -> str:
        names.valid_branch(f"{value}x")
        return value


class WorktreeSettings(Frozen):
    model_config = ConfigDict(populate_by_name=True)

    submodules: str = Field(
        "auto", pattern=_WHERE_USED, description="check submodules out: auto (where the tree has some), always, never"
    )
    lfs: str = Field(
        "auto", pattern=_WHERE_USED, description="check LFS content out: auto (where the tree uses it), always, never"
    )
    setup: str = Field("", max_length=4000, description="command run in an agent's new worktree, like npm ci")
    setup_timeout: Seconds = Field(900, ge=1, le=86400, description="longest run of worktree.setup and gate.setup")
    copy_files: str = Field(
        "",
        max_length=4000,
        alias="copy",
        description="untracked files brought into an agent's worktree, separated by spaces: .env",
    )
    copy_from: str = Field(
        "", max_length=1000, description="folder that they come from; empty = rigs/<rig>/files in the town"
    )

    @field_validator("copy_files")
    @classmethod
    def _copied(cls, value: str) -> str:
        listed_files(value)
        return value


class GateSettings(Frozen):
    model_config = ConfigDict(populate_by_name=True)

    environment: str = Field(
        "", max_length=4000, description="variables that gates get: NAME (the worker's value) or NAME=VALUE, by spaces"
    )
    home: str = Field(
        "scratch", pattern=r"^(scratch|person|kept)$",
        description="HOME of gates: scratch (empty each time), person (the worker's own), kept (a folder of the rig)",
    )  # fmt: skip
    setup: str = Field("", max_length=4000, description="command run in a gate's checkout before the gates")
    copy_files: str = Field("", max_length=4000, alias="copy", description="like worktree.copy, for gates")
    network: str = Field(
        "none", pattern=r"^(none|setup|full)$", description="network of gates: none, setup (gate.setup alone) or full"
    )

    @field_validator("copy_files")
    @classmethod
    def _copied(cls, value: str) -> str:
        listed_files(value)
        return value

    @field_validator("environment")
    @classmethod
    def _variables(cls, value: str) -> str:
        listed_variables(value)
        return value


def listed_paths(setting: str) -> list[str]:
    """The paths in `sandbox.read` or `sandbox.write`: separated by spaces, with quotes as in a shell.

    Raises:
        GtError: INVALID_VALUE for one that is neither absolute nor below `~/`.
    """
    found = _words(setting, "a list of paths")
    for path in found:
        if not path.startswith(("/", "~/")) or ".." in path.split("/") or path.strip("/") == "":
            message = f"{path[:60]!r} is not a path from the root or from the home folder"
            raise GtError(ErrorCode.INVALID_VALUE, message, "/srv/tools or ~/.cache")
    return found


class SandboxSettings(Frozen):
    mode: str = Field(
        "auto",
        pattern=r"^(auto|bwrap|none)$",
        description="sandbox of agents and gates: auto (bubblewrap where it works), bwrap (or nothing starts), none",
    )
    command: str = Field(
        "", max_length=4000, description="command that runs agents and gates in a sandbox of its own, instead"
    )
    read: str = Field("", max_length=4000, description="more files and folders that they may read, by spaces: ~/.aws")
    write: str = Field("", max_length=4000, description="more files and folders that they may write, by spaces")
    memory_bytes: int = Field(
        32_000_000_000, ge=0, le=100_000_000_000_000, description="memory of one of their processes; 0 = no limit"
    )
    processes: int = Field(
        16_384, ge=0, le=4_000_000, description="processes and threads in one sandbox; 0 = no limit; root has none"
    )
    file_bytes: int = Field(
        200_000_000_000, ge=0, le=1_000_000_000_000_000, description="largest file that they may write; 0 = no limit"
    )
    cpu_seconds: int = Field(
        0, ge=0, le=100_000_000, description="CPU of one of their processes; 0 = no limit: a long build is no fault"
    )
    total_memory_bytes: int = Field(
        0, ge=0, le=100_000_000_000_000,
        description="memory of one sandbox together; 0 = no limit; takes a cgroup scope (systemd)",
    )  # fmt: skip
    cpu_percent: int = Field(
        0, ge=0, le=100_000,
        description="CPU of one sandbox together, 200 = two CPUs; 0 = no limit; takes a cgroup scope (systemd)",
    )  # fmt: skip
    tmp_bytes: int = Field(
        0,
        ge=0,
        le=1_000_000_000_000_000,
        description="size of their own /tmp, HOME and /dev/shm each; 0 = half of the memory",
    )

    @field_validator("read", "write")
    @classmethod
    def _paths(cls, value: str) -> str:
        listed_paths(value)
        return value

    @field_validator("command")
    @classmethod
    def _command(cls, value: str) -> str:
        _words(value, "a command")
        return value


class LimitSettings(Frozen):
    path_bytes: int = Field(1000, ge=50, le=4000, description="longest path of a file in a change; a name has 255")
    depth: int = Field(64, ge=5, le=1000, description="deepest folder in a change")
    entries: int = Field(200_000, ge=100, le=500_000, description="files that a change may add")
    blob_bytes: int = Field(100_000_000, ge=1000, le=100_000_000_000, description="largest file that a change may add")
    total_bytes: int = Field(1_000_000_000, ge=1000, le=1_000_000_000_000, description="bytes that a change may add")


class EscalationSettings(Frozen):
    ack_timeout: Seconds = Field(14400, ge=10, le=604800, description="unanswered this long: severity raised")
    max_repeats: int = Field(2, ge=0, le=20, description="how often severity is raised")


class AlertSettings(Frozen):
    rate: int = Field(20, ge=1, le=1000, description="messages an hour to one channel; what is more is bundled")
    quiet_hours: str = Field(
        "",
        pattern=r"^(|([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9])$",
        description="like 22:00-07:00, this machine's time: only critical alerts are sent; empty = none",
    )


class DeadmanSettings(Frozen):
    url: str = Field(
        "",
        pattern=r"^(|https?://\S+)$",
        max_length=1000,
        description="pinged while the town lives, so that its absence is noticed elsewhere; empty = none",
    )
    interval: Seconds = Field(300, ge=10, le=86400, description="seconds between those pings")


class DiskSettings(Frozen):
    warn_percent: int = Field(85, ge=1, le=100, description="disk use that alerts")
    stop_percent: int = Field(95, ge=1, le=100, description="disk use that pauses work")


class HostSettings(Frozen):
    timeout: Seconds = Field(60, ge=10, le=3600, description="a host whose worker is silent this long is lost")


class LedgerSettings(Frozen):
    gc_interval: Seconds = Field(
        86400, ge=3600, le=2_592_000, description="seconds between collections of the ledger's garbage"
    )
    gc_growth_bytes: int = Field(
        500_000_000, ge=0, le=1_000_000_000_000, description="the ledger grown by this: collected sooner; 0 = never"
    )


class KeepSettings(Frozen):
    keep: Seconds = Field(2_592_000, ge=3600, le=315_360_000, description="seconds to keep")


class Settings(Frozen):
    """Every setting of a town or a rig, defaults filled in."""

    health: HealthSettings = HealthSettings()
    recovery: RecoverySettings = RecoverySettings()
    polecat: PolecatSettings = PolecatSettings()
    agent: AgentSettings = AgentSettings()
    session: SessionSettings = SessionSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    merge_queue: MergeQueueSettings = MergeQueueSettings()
    git: GitSettings = GitSettings()
    worktree: WorktreeSettings = WorktreeSettings()
    gate: GateSettings = GateSettings()
    sandbox: SandboxSettings = SandboxSettings()
    limits: LimitSettings = LimitSettings()
    escalation: EscalationSettings = EscalationSettings()
    alerts: AlertSettings = AlertSettings()
    deadman: DeadmanSettings = DeadmanSettings()
    disk: DiskSettings = DiskSettings()
    hosts: HostSettings = HostSettings()
    ledger: LedgerSettings = LedgerSettings()
    logs: KeepSettings = KeepSettings()
    evidence: KeepSettings = KeepSettings()


class SettingSpec(Frozen):
    """One row of the settings table."""

    key: str
    type: str
    default: Any
    minimum: int | None
    maximum: int | None
    meaning: str
    seconds: bool = False
    """it is a duration"""


def setting_specs() -> dict[str, SettingSpec]:
    """Every key, in the table's order."""
    specs: dict[str, SettingSpec] = {}
    for group, group_field in Settings.model_fields.items():
        model = type(group_field.default)
        for name, field in model.model_fields.items():
            key = f"{group}.{field.alias or name}"
            specs[key] = _spec(key, field)
    return specs


def _spec(key: str, field: FieldInfo) -> SettingSpec:
    minimum = next((int(str(m.ge)) for m in field.metadata if isinstance(m, Ge)), None)
    maximum = next((int(str(m.le)) for m in field.metadata if isinstance(m, Le)), None)
    kind = field.annotation.__name__ if isinstance(field.annotation, type) else str(field.annotation)
    return SettingSpec(
        key=key,
        type=kind,
        default=field.default,
        minimum=minimum,
        maximum=maximum,
        meaning=field.description or "",
        seconds=UNIT_SECONDS in field.metadata,
    )


def parse_setting(key: str, text: str) -> Any:
    """Turn what a person typed into the typed value of `key`.

    Durations take a unit (`30s`, `5m`, `4h`, `30d`) where the value is seconds.

    Raises:
        GtError: NOT_FOUND for an unknown key, INVALID_VALUE for a wrong type or range.
    """
    specs = setting_specs()
    spec = specs.get(key)
    if spec is None:
        raise GtError(ErrorCode.NOT_FOUND, f"there is no setting {key!r}", "gt config list")
    value: Any = text.strip()
    if spec.seconds:
        value = _seconds(value)
    group, name = key.split(".", 1)
    model = type(getattr(Settings(), group))
    try:
        return model.model_validate({name: value}).model_dump(by_alias=True)[name]
    except ValidationError as error:
        raise GtError(ErrorCode.INVALID_VALUE, f"{key}: {_why(error)} ({_range(spec)})", "gt config list") from None


def settings_from(values: dict[str, Any]) -> Settings:
    """Build `Settings` from stored `{key: value}`; later layers have already won.

    A stored value that this version does not understand is ignored: its default holds.
    """
    groups: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        group, _, name = key.partition(".")
        if key in setting_specs():
            groups.setdefault(group, {})[name] = value
    return Settings.model_validate(groups)


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]{1,12})([smhd])")


def _seconds(text: str) -> str:
    given = _DURATION.fullmatch(text)
    return str(int(given[1]) * _UNITS[given[2]]) if given else text


def _why(error: ValidationError) -> str:
    return str(error.errors()[0]["msg"]).lower()


def _range(spec: SettingSpec) -> str:
    if spec.minimum is None:
        return spec.type
    return f"{spec.type}, {spec.minimum} to {spec.maximum}"
