"""The only maker of names: validated parts in, ids, queues, branches, refs and session names out.

Every name that reaches git, tmux, SQL or a path passes one of the `valid_*` functions first.
Standard library only: the commands that an agent runs in its session import it.
"""

from __future__ import annotations

import re
from enum import StrEnum

from models.errors import ErrorCode, GtError

MAX_NAME = 40
TOWN_QUEUE = "town"
CONTROL_QUEUE = "control"
MAYOR_ID = "mayor"
DEACON_ID = "deacon"
BOOT_ID = "boot"
DEADMAN_ID = "deadman"
UPKEEP_ID = "upkeep"
VERIFY_ID = "verify"
"""of the Schedule; each of its runs is `boot-<time>`"""
SEARCH_ATTRIBUTES = {
    "role": "GtRole", "state": "GtState", "rig": "GtRig", "bead": "GtBead", "polecat": "GtPolecat",
}  # fmt: skip
"""Keywords that a namespace must know before any of our workflows starts, by what they show of one."""
EPOCH_REF = "refs/gastown/epoch"

OBJECT_NAME = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
"""a full one of git's, of either hash"""

_WORD = re.compile(r"[A-Za-z0-9]+(?:[_-][A-Za-z0-9]+)*")
_PREFIX = re.compile(r"[a-z][a-z0-9]{0,9}")
_BEAD = re.compile(r"([a-z][a-z0-9]{0,9})-([0-9a-z]{1,16})")
_SAVED = re.compile(r"refs/gastown/(?:parked|wip)/([a-z][a-z0-9]{0,9}-[0-9a-z]{1,16})/([0-9]{1,9})")
_HOST = re.compile(r"[A-Za-z0-9]+(?:[.-][A-Za-z0-9]+)*")
_ADDRESS = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*(?:/[A-Za-z0-9]+(?:[_-][A-Za-z0-9]+)*)?")
_REMOTE_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f]")
_REMOTE_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.-]*::")
_REMOTE_SCHEMES = frozenset({"file", "ssh", "git+ssh", "ssh+git", "git", "http", "https"})
_JOB_BRANCHES = "polecat/"
_BRANCH_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//")


class WorkflowType(StrEnum):
    """Registered workflow names; clients start workflows by these."""

    DISPATCH = "DispatchWorkflow"
    POLECAT = "PolecatWorkflow"
    WITNESS = "WitnessWorkflow"
    REFINERY = "RefineryWorkflow"
    MERGE = "MergeWorkflow"
    MAYOR = "MayorWorkflow"
    CLEANUP = "CleanupWorkflow"
    ERRAND = "ErrandWorkflow"
    DEACON = "DeaconWorkflow"
    BOOT = "BootWorkflow"
    DEADMAN = "DeadmanWorkflow"
    UPKEEP = "UpkeepWorkflow"
    VERIFY = "VerifyWorkflow"


def _refuse(kind: str, value: str, rule: str) -> GtError:
    shown = value if len(value) <= 60 else value[:57] + "..."
    return GtError(ErrorCode.INVALID_NAME, f"{shown!r} is not a {kind}: {rule}")


def _word(kind: str, value: str) -> str:
    if len(value) > MAX_NAME or not _WORD.fullmatch(value):
        raise _refuse(
            kind,
            value,
            f"use letters, digits and single '-' or '_' between them, at most {MAX_NAME} characters",
        )
    return value


def valid_rig(value: str) -> str:
    """Return `value` if it may name a rig; raise GtError(INVALID_NAME) otherwise."""
    return _word("rig name", value)


def valid_polecat(value: str) -> str:
    """Return `value` if it may name a polecat; raise GtError(INVALID_NAME) otherwise."""
    return _word("polecat name", value)


def valid_town(value: str) -> str:
    """Return `value` if it may name a town; raise GtError(INVALID_NAME) otherwise."""
    return _word("town name", value)


def valid_gate(value: str) -> str:
    """Return `value` if it may name a gate; raise GtError(INVALID_NAME) otherwise."""
    return _word("gate name", value)


def valid_channel(value: str) -> str:
    """Return `value` if it may name an alert channel; raise GtError(INVALID_NAME) otherwise."""
    return _word("channel name", value)


def valid_prefix(value: str) -> str:
    """Return `value` if it may be a bead prefix; raise GtError(INVALID_NAME) otherwise."""
    if not _PREFIX.fullmatch(value):
        raise _refuse("bead prefix", value, "use 1 to 10 lower-case letters and digits, a letter first")
    return value


def valid_bead(value: str) -> str:
    """Return `value` if it is a bead id `<prefix>-<base36>`; raise GtError(INVALID_NAME) otherwise."""
    if not _BEAD.fullmatch(value):
        raise _refuse("bead id", value, "it looks like sh-1a2")
    return value


def bead_prefix(bead: str) -> str:
    """The rig prefix of a bead id."""
    match = _BEAD.fullmatch(valid_bead(bead))
    assert match is not None
    return match.group(1)


def valid_host(value: str) -> str:
    """Return `value` if it may name a host; raise GtError(INVALID_NAME) otherwise."""
    if len(value) > 253 or not _HOST.fullmatch(value):
        raise _refuse("host name", value, "use letters, digits, '-' and '.'")
    return value


def valid_branch(value: str) -> str:
    """Return `value` if git would take it as a branch (git-check-ref-format(1)) and it can be shown as it is."""
    parts = value.split("/")
    bad = (
        not value
        or not value.isprintable()
        or len(value.encode()) > 200
        or value.startswith("-")
        or value in {"@", "HEAD"}
        or value.endswith(".")
        or _BRANCH_FORBIDDEN.search(value) is not None
        or any(not part or part.startswith(".") or part.endswith(".lock") for part in parts)
    )
    if bad:
        raise _refuse("branch name", value, "see git help check-ref-format")
    return value


def valid_target(value: str) -> str:
    """Return `value` if work may land on a branch of that name; raise GtError(INVALID_NAME) otherwise."""
    if f"{valid_branch(value)}/".startswith(_JOB_BRANCHES):
        raise _refuse("target", value, f"{_JOB_BRANCHES}… are the branches of jobs, and go when their work has landed")
    return value


def valid_remote(value: str) -> str:
    """Return `value` if it may be a rig's remote: a path or a file, ssh, git or http(s) URL.

    Remote helpers such as `ext::` run commands, a leading '-' would be read as an option, and a
    password in the URL would end up in the record and in process lists: all are refused.

    Raises:
        GtError: INVALID_VALUE.
    """
    if not value or value.startswith("-") or _REMOTE_FORBIDDEN.search(value) or len(value) > 1000:
        raise GtError(ErrorCode.INVALID_VALUE, f"{value[:60]!r} is not a path or URL of a git repository")
    scheme, separator, rest = value.partition("://")
    if _REMOTE_HELPER.match(value) or (separator and scheme.lower() not in _REMOTE_SCHEMES):
        shown = (scheme if separator else value.partition("::")[0])[:20]
        raise GtError(
            ErrorCode.INVALID_VALUE, f"remotes of kind {shown!r} are not allowed", "use a path, file, ssh or https URL"
        )
    if separator and ":" in rest.partition("/")[0].rpartition("@")[0]:
        raise GtError(
            ErrorCode.INVALID_VALUE,
            "the URL holds a password",
            "leave it out of the URL and use a git credential helper",
        )
    return value


def dispatch_id(rig: str) -> str:
    return f"dispatch/{valid_rig(rig)}"


def polecat_id(rig: str, bead: str) -> str:
    return f"polecat/{valid_rig(rig)}/{valid_bead(bead)}"


def witness_id(rig: str) -> str:
    return f"witness/{valid_rig(rig)}"


def refinery_id(rig: str) -> str:
    return f"refinery/{valid_rig(rig)}"


def merge_id(rig: str, number: int) -> str:
    return f"merge/{valid_rig(rig)}/{number}"


def cleanup_id(rig: str, what: str) -> str:
    """One order of a kind, or for one polecat, at a time: given twice it is the same order."""
    return f"cleanup/{valid_rig(rig)}/{what}"


def errand_id(token: str) -> str:
    return f"errand/{token}"


def host_queue(host: str) -> str:
    """Task queue of git and sessions on one host."""
    return f"host.{valid_host(host)}"


def gates_queue(host: str) -> str:
    """Task queue of a host's gates: its worker takes one a core, so what waits for a core waits on the server."""
    return f"gates.{valid_host(host)}"


def watch_queue(host: str) -> str:
    """Task queue of the patrol's watching on one host, apart so that waiting takes no work slot."""
    return f"watch.{valid_host(host)}"


def job_branch(bead: str) -> str:
    """The branch, local and on the remote, that carries a bead's work from attempt to attempt."""
    return f"{_JOB_BRANCHES}{valid_bead(bead)}"


def published_branch(bead: str, prefix: str) -> str:
    """The branch on the remote that a bead's work begins to be published under.

    Args:
        prefix: the setting git.branch_prefix.
    """
    return valid_branch(f"{prefix}{valid_bead(bead)}")


def parked_ref(bead: str, attempt: int) -> str:
    """The ref on the remote under which cleanup parks unlanded work."""
    return f"refs/gastown/parked/{valid_bead(bead)}/{attempt}"


def parked_refs(bead: str) -> str:
    """Pattern of every ref under which a bead's work is parked."""
    return f"refs/gastown/parked/{valid_bead(bead)}/*"


def wip_ref(bead: str, attempt: int) -> str:
    """The ref under which an attempt's unfinished work is saved, here and on the remote."""
    return f"refs/gastown/wip/{valid_bead(bead)}/{attempt}"


def wip_refs(bead: str) -> str:
    """Pattern of every ref under which a bead's unfinished work is saved."""
    return f"refs/gastown/wip/{valid_bead(bead)}/*"


def saved_attempt(ref: str) -> int | None:
    """The attempt whose work is saved or parked under `ref`; None for any other ref."""
    match = _SAVED.fullmatch(ref)
    return int(match.group(2)) if match else None


def work_ref(bead: str) -> str:
    """The ref of a host's own copy of a bead's branch: what was taken last, or saved of it."""
    return f"refs/gastown/work/{valid_bead(bead)}"


def published_ref(bead: str, attempt: int) -> str:
    """The ref of what this host has put on the bead's branch on the remote for an attempt."""
    return f"refs/gastown/published/{valid_bead(bead)}/{attempt}"


def kept_ref(bead: str, commit: str) -> str:
    """The ref, on this host alone, that keeps a commit of a bead which no other ref may keep."""
    return f"refs/gastown/kept/{valid_bead(bead)}/{commit}"


def session_name(rig: str, polecat: str) -> str:
    """tmux session of a polecat. Neither part can hold '--', so it splits back unambiguously."""
    return f"{valid_rig(rig)}--{valid_polecat(polecat)}"


def merge_request_id(bead: str, attempt: int) -> str:
    """One merge request per attempt that was taken: a second telling is the same request."""
    return f"{valid_bead(bead)}.{attempt}"


def valid_address(value: str) -> str:
    """Return `value` if mail may be sent to it: a name, or `<rig>/<name>`; raise GtError(INVALID_NAME) otherwise."""
    if len(value) > 2 * MAX_NAME or not _ADDRESS.fullmatch(value):
        raise _refuse("mail address", value, "it looks like shop/toast, shop/refinery, mayor or a person's name")
    return value


def polecat_address(rig: str, polecat: str) -> str:
    """How a polecat is written in trailers and mail: `<rig>/<name>`."""
    return f"{valid_rig(rig)}/{valid_polecat(polecat)}"


def polecat_email(rig: str, polecat: str) -> str:
    """Address that a polecat's commits carry, where no other author is set; none that mail reaches."""
    return f"{valid_polecat(polecat)}@{valid_rig(rig)}.gastown.invalid"
