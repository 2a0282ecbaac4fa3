"""The sandbox that workflows run in."""

from __future__ import annotations

from typing import Any, Final

from temporalio.converter import StorageDriverStoreContext
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.worker.workflow_sandbox._runner import _Instance

PASSED_THROUGH: Final = ("workflows", "models", "policies", "activities", "pydantic", "pydantic_core")
"""Imported once per process, so that a worker goes on with the code that it was started with when the package is
replaced on disk, and a run costs no import. A module of these keeps no state (docs/decisions/0021)."""


class PlainSandbox(SandboxedWorkflowRunner):
    """The SDK's sandbox for payloads that are the same wherever they go.

    The SDK asks each workflow, several times for each payload, what a codec, a converter or an external store might
    want to know of where it goes, and enters the sandbox for each answer. We have none of these, and it costs a
    quarter of all the time that a worker of Witnesses takes (docs/decisions/0021).
    """

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        return _PlainInstance(det, self.runner_class, self.restrictions)


class _PlainInstance(_Instance):
    def get_serialization_context(self, command_info: Any) -> None:
        return None

    def get_external_store_context(self, command_info: Any) -> StorageDriverStoreContext:
        return StorageDriverStoreContext()


def workflow_runner(*also: str) -> PlainSandbox:
    """The sandbox for workers, tests and replays alike.

    Args:
        also: packages that are imported once besides: whose workflows stand in for ours in tests.
    """
    return PlainSandbox(restrictions=SandboxRestrictions.default.with_passthrough_modules(*PASSED_THROUGH, *also))
