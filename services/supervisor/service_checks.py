"""Whether a town's services do their work: what `gt doctor` looks at first."""

from __future__ import annotations

from models.doctor import Finding, FindingState
from services.supervisor.health import ailment
from services.supervisor.programs import log_path, program_names
from services.town import Town


def examine_services(town: Town) -> list[Finding]:
    """One finding a service."""
    return [_examine(town, name) for name in program_names(town)]


def _examine(town: Town, name: str) -> Finding:
    problem = ailment(town, name)
    if problem is None:
        return Finding(name=name, state=FindingState.OK, found="does its work")
    return Finding(name=name, state=FindingState.MEND, found=problem, mend=f"gt up; less {log_path(town, name)}")
