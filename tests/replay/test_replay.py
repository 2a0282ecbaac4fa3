"""Workflow code of today replays what ran before: a change that cannot would stop every running job."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from tests.replay.record import HISTORIES
from workflows.registry import WORKFLOWS
from workflows.sandbox import workflow_runner

RECORDED = sorted(HISTORIES.glob("*.json"))


def type_of(history: Path) -> str:
    """The workflow type that a recorded history is of."""
    started = json.loads(history.read_text())["events"][0]["workflowExecutionStartedEventAttributes"]
    return str(started["workflowType"]["name"])


def load(recorded: Path) -> WorkflowHistory:
    return WorkflowHistory.from_json(recorded.stem, recorded.read_text())


def test_every_workflow_has_a_recorded_history() -> None:
    registered = {getattr(each, "__temporal_workflow_definition").name for each in WORKFLOWS}
    assert {type_of(history) for history in RECORDED} == registered


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda path: path.stem)
async def test_a_recorded_history_replays(recorded: Path) -> None:
    history = load(recorded)
    replayer = Replayer(workflows=WORKFLOWS, data_converter=pydantic_data_converter, workflow_runner=workflow_runner())
    await replayer.replay_workflow(history)
