"""Beads as JSON lines: ours, and those that the Go program `bd export` writes, whose keys these are.

What has no place of its own here is kept as it came and exported again.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, field_validator

from models import names
from models.errors import ErrorCode, GtError
from models.ledger.beads import Step, valid_label
from models.ledger.records import MAX_DESCRIPTION, MAX_TITLE, BeadStatus, BeadType
from models.texts import storable_text

_SECTIONS = {"design": "Design", "acceptance_criteria": "Acceptance criteria", "notes": "Notes"}
"""Keys of the Go program that an agent must read: they become parts of the description."""
BLOCKS = "blocks"
"""the one kind of dependency that makes a bead wait"""


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)


class LineDependency(_Line):
    issue_id: str
    depends_on_id: str
    type: str = BLOCKS


class LineComment(_Line):
    id: str
    author: str = ""
    text: str
    created_at: datetime

    @field_validator("id", mode="before")
    @classmethod
    def _id(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) else value

    @field_validator("text", "author", "id", mode="after")
    @classmethod
    def _kept(cls, value: str) -> str:
        storable_text("comment", value)
        return value


class LineMolecule(_Line):
    template: str
    created_at: datetime
    steps: tuple[Step, ...]


class BeadLine(_Line):
    """One bead with everything that belongs to it. Keys that are not named here are kept as they are."""

    id: str = Field(min_length=1, max_length=255)
    rig: str | None = None
    title: str = Field(min_length=1, max_length=MAX_TITLE)
    description: str = Field("", max_length=MAX_DESCRIPTION)
    status: BeadStatus = BeadStatus.OPEN
    priority: int = Field(2, ge=0, le=4)
    issue_type: BeadType = Field(BeadType.TASK, validation_alias=AliasChoices("issue_type", "type"))
    assignee: str | None = Field(None, max_length=200)
    labels: tuple[str, ...] = ()
    target: str | None = None
    integrates: str | None = None
    integrates_sha: str | None = Field(None, max_length=64)
    dependencies: tuple[LineDependency, ...] = ()
    comments: tuple[LineComment, ...] = ()
    molecule: LineMolecule | None = None
    close_reason: str | None = None
    merged_sha: str | None = Field(None, max_length=64)
    origin: str | None = Field(None, max_length=255)
    created_at: datetime
    updated_at: datetime | None = None
    closed_at: datetime | None = None

    @field_validator(
        "id", "title", "description", "assignee", "close_reason", "merged_sha", "integrates_sha", "origin", mode="after"
    )
    @classmethod
    def _kept(cls, value: str | None) -> str | None:
        storable_text("bead", value)
        return value

    @field_validator("labels", mode="after")
    @classmethod
    def _labels(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(valid_label(label) for label in value)

    @field_validator("target", "integrates", mode="after")
    @classmethod
    def _target(cls, value: str | None) -> str | None:
        return names.valid_target(value) if value else None

    @property
    def rest(self) -> dict[str, Any]:
        """What has no place of its own."""
        return dict(self.model_extra or {})


class ImportReport(BaseModel):
    """What became of an import."""

    model_config = ConfigDict(frozen=True)

    created: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    """were here already, and were left as they are"""
    renamed: dict[str, str] = Field(default_factory=dict)
    """id in the file: id here"""
    reopened: tuple[str, ...] = ()
    """were being worked on where they came from; here no job does, so they are open"""
    kept_aside: tuple[str, ...] = ()
    """`A needs B` where B is neither here nor in the file: kept, but A does not wait for it"""


def read_line(text: str) -> BeadLine | None:
    """One line of either program; None for what is no bead (a deleted one, a memory, an empty line).

    Raises:
        GtError: INVALID_VALUE.
    """
    if not text.strip():
        return None
    try:
        told = json.loads(text)
    except ValueError as error:
        raise GtError(ErrorCode.INVALID_VALUE, f"not JSON: {error}") from None
    if not isinstance(told, dict):
        raise GtError(ErrorCode.INVALID_VALUE, "not a JSON object")
    if told.get("_type", "issue") != "issue" or told.get("status") == "tombstone":
        return None
    try:
        return BeadLine.model_validate(_understood(told))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise GtError(ErrorCode.INVALID_VALUE, f"{where}: {problem['msg']}") from None


def write_line(line: BeadLine) -> str:
    """The line without its end; what is empty is left out, as the Go program does."""
    told = line.model_dump(mode="json")
    return json.dumps({key: value for key, value in told.items() if value not in (None, "", [], {})})


def _understood(told: dict[str, Any]) -> dict[str, Any]:
    """`told` in our words: what only the Go program has is translated, and kept under `original`."""
    told = {key: value for key, value in told.items() if key != "_type"}
    parts = [str(told.get("description") or "")]
    for key, heading in _SECTIONS.items():
        text = told.pop(key, None)
        if text:
            parts.append(f"## {heading}\n\n{text}")
    told["description"] = "\n\n".join(part for part in parts if part)
    original: dict[str, Any] = dict(told.get("original") or {})
    key = "issue_type" if "issue_type" in told else "type"
    for name, known, instead in ((key, set(BeadType), BeadType.TASK), ("status", set(BeadStatus), BeadStatus.OPEN)):
        if isinstance(told.get(name), str) and told[name] not in known:
            original[name] = told[name]
            told[name] = instead
    if original:
        told["original"] = original
    for name in ("labels", "dependencies", "comments"):
        if told.get(name) is None:
            told.pop(name, None)
    return told
