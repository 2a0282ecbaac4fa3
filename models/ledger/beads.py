"""What surrounds beads: comments, filters, dependency trees, molecules."""

from __future__ import annotations

import re
from datetime import datetime

from pydantic import Field

from models.base import Frozen
from models.errors import ErrorCode, GtError
from models.ledger.records import BeadStatus, BeadType

_LABEL = re.compile(r"[^\W_](?:[\w.:/+@-]{0,98}[\w+])?")


def valid_label(value: str) -> str:
    """Return `value` if it may label a bead: one word of at most 100 characters; GtError(INVALID_VALUE) otherwise."""
    if not _LABEL.fullmatch(value):
        raise GtError(
            ErrorCode.INVALID_VALUE, f"{value[:60]!r} is not a label: use one word, like needs-review or area:ui"
        )
    return value


class Comment(Frozen):
    """What somebody said about a bead."""

    id: str
    bead: str
    author: str
    at: datetime
    text: str


class BeadFilter(Frozen):
    """Which beads are meant; what is not given does not matter."""

    rig: str | None = None
    status: tuple[BeadStatus, ...] = ()
    type: BeadType | None = None
    priority: int | None = Field(None, ge=0, le=4)
    assignee: str | None = None
    """"" for beads of nobody"""
    labels: tuple[str, ...] = ()
    """all of them"""
    text: str | None = None
    """found in the id, the title, the description or a comment, whatever the case of its letters"""


class TreeNode(Frozen):
    """A bead in a tree of what needs what."""

    id: str
    title: str
    status: BeadStatus
    priority: int
    needs: tuple[TreeNode, ...] = ()
    repeated: bool = False
    """it stands elsewhere in the tree with what it needs"""


class StepPlan(Frozen):
    """A step as a template has it."""

    name: str
    title: str
    description: str = ""
    needs: tuple[str, ...] = ()
    """names of steps that come first"""


class Step(StepPlan):
    """A step of a molecule."""

    number: int
    done_at: datetime | None = None
    done_by: str | None = None


class MoleculePlan(Frozen):
    """What a template makes: a bead and its steps."""

    template: str
    title: str
    description: str = ""
    priority: int = Field(2, ge=0, le=4)
    type: BeadType = BeadType.TASK
    labels: tuple[str, ...] = ()
    steps: tuple[StepPlan, ...]


class Molecule(Frozen):
    """A bead with steps."""

    bead: str
    title: str
    status: BeadStatus
    template: str
    created_at: datetime
    steps: tuple[Step, ...]

    @property
    def done(self) -> int:
        return sum(step.done_at is not None for step in self.steps)

    @property
    def next_steps(self) -> tuple[Step, ...]:
        """Steps that can be done now."""
        done = {step.name for step in self.steps if step.done_at is not None}
        return tuple(step for step in self.steps if step.done_at is None and done.issuperset(step.needs))
