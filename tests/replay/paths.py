"""What the recorded histories have to show, so that a recording that missed something is noticed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from models.names import WorkflowType
from tests.replay.histories import Recorded
from workflows.registry import WORKFLOWS

LONG_LIVED: Final = (
    WorkflowType.MAYOR,
    WorkflowType.DEACON,
    WorkflowType.DISPATCH,
    WorkflowType.REFINERY,
    WorkflowType.WITNESS,
)
RESET: Final = "WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW"

Shows = Callable[[Recorded], bool]


def _kind(event: str) -> Shows:
    return lambda run: event in run.kinds()


def _named(name: str) -> Shows:
    return lambda run: name in run.names()


def _says(text: str) -> Shows:
    """In what is decided and written down: the ledger's events, by the summaries of activities and timers."""
    return lambda run: text in run.summaries()


def _was_reset(run: Recorded) -> bool:
    failed = [event.get("workflowTaskFailedEventAttributes", {}) for event in run.events]
    return any(each.get("cause") == RESET for each in failed)


def _landed_nothing(run: Recorded) -> bool:
    return "run_gates" in run.names() and "land_chain" not in run.names()


ANY: Final[dict[str, Shows]] = {
    "hand-over": _kind("WORKFLOW_EXECUTION_CONTINUED_AS_NEW"),
    "reset": _was_reset,
    "timed-out task": _kind("WORKFLOW_TASK_TIMED_OUT"),
}
"""what befalls every long-lived workflow, and a job"""
OF_ONE: Final[dict[WorkflowType, dict[str, Shows]]] = {
    WorkflowType.POLECAT: {
        "restart": _says("agent_died"),
        "rework": _says("merge_failed"),
        "conflict": _says("rework_request"),
        "cancel": _says("abandoned"),
        "lost host": _says("host_lost"),
        "help": _says("help"),
    },
    WorkflowType.REFINERY: {"skip": _named("skip"), "clear": _named("clear"), "withdraw": _named("withdraw")},
    WorkflowType.DISPATCH: {
        "brake": _named("restrain"),
        "lost host": _named("host_lost"),
        "rebuild": _named("rebuild"),
    },
    WorkflowType.MERGE: {"landing": _named("land_chain"), "a gate that fails": _landed_nothing},
    WorkflowType.DEACON: {"ping": _named("ping")},
    WorkflowType.BOOT: {"restart of the Deacon": _named("restart")},
}


def missing(runs: Iterable[Recorded]) -> list[str]:
    """What none of these runs shows, as `polecat: restart`."""
    by_type: dict[str, list[Recorded]] = {}
    for run in runs:
        by_type.setdefault(run.type, []).append(run)
    wanted: list[tuple[str, str, Shows]] = [
        (kind, path, shows) for kind in (*LONG_LIVED, WorkflowType.POLECAT) for path, shows in ANY.items()
    ]
    wanted += [(kind, path, shows) for kind, paths in OF_ONE.items() for path, shows in paths.items()]
    wanted += [(_name_of(each), "any", lambda _: True) for each in WORKFLOWS]
    return [f"{kind}: {path}" for kind, path, shows in wanted if not any(map(shows, by_type.get(str(kind), [])))]


def _name_of(workflow_class: type) -> str:
    return str(getattr(workflow_class, "__temporal_workflow_definition").name)
