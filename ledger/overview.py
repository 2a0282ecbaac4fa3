"""What `gt status` and `gt inbox` ask, in SQL for the reason that ledger/queries.py gives."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ledger.queries import Ask
from models.errors import GtError
from models.ledger.records import JobRow, JobState, PolecatRow, Rig
from models.mayor.escalations import EscalationStatus
from models.settings import SandboxSettings, parse_setting, settings_from


class Overview(NamedTuple):
    """Rigs and polecats by name, unfinished jobs and open escalations oldest first; without arguments: of a ledger
    that cannot be read.
    """

    rigs: Sequence[Rig] | None = None
    jobs: Sequence[JobRow] = ()
    polecats: Sequence[PolecatRow] = ()
    escalations: Sequence[EscalationStatus] = ()
    sandbox: SandboxSettings | None = None


def overview(ask: Ask) -> Overview:
    """All of it, as one state of the ledger has it."""
    final = {f"state{n}": state.value for n, state in enumerate(state for state in JobState if state.final)}
    unfinished = f"SELECT * FROM jobs WHERE state NOT IN ({', '.join(f':{name}' for name in final)})"  # noqa: S608
    return Overview(
        [Rig.model_validate({**row, "gates": json.loads(row["gates"])}) for row in _rows(ask, "rigs ORDER BY name")],
        [JobRow.model_validate(row) for row in ask(f"{unfinished} ORDER BY started_at, bead", final)],
        [PolecatRow.model_validate(row) for row in _rows(ask, "polecats ORDER BY rig, name")],
        [
            EscalationStatus.model_validate(row)
            for row in _rows(ask, "escalations WHERE resolved = 0 ORDER BY opened_at, id")
        ],
        _sandbox(ask),
    )


def _rows(ask: Ask, what: str) -> Sequence[Mapping[str, Any]]:
    return ask(f"SELECT * FROM {what}", {})  # noqa: S608


def _sandbox(ask: Ask) -> SandboxSettings:
    """The town's; of what this version does not understand the default holds."""
    values = {}
    for row in ask("SELECT * FROM settings WHERE scope = :scope", {"scope": "town"}):
        try:
            values[row["key"]] = parse_setting(row["key"], str(json.loads(row["value"])))
        except (GtError, ValueError):
            continue
    return settings_from(values).sandbox
