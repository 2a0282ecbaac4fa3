"""Recorded histories, one of each run: compressed JSON as Temporal writes it."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from temporalio.client import WorkflowHistory

HISTORIES: Final = Path(__file__).with_name("recorded")


@dataclass(frozen=True)
class Recorded:
    """A run's history."""

    document: dict[str, Any]

    @property
    def events(self) -> list[dict[str, Any]]:
        return list(self.document["events"])

    @property
    def started(self) -> dict[str, Any]:
        return dict(self.events[0]["workflowExecutionStartedEventAttributes"])

    @property
    def type(self) -> str:
        return str(self.started["workflowType"]["name"])

    @property
    def history(self) -> WorkflowHistory:
        return WorkflowHistory.from_json(self.started["workflowId"], self.document)

    def kinds(self) -> set[str]:
        """The types of its events: `TIMER_FIRED`."""
        return {str(event["eventType"]).removeprefix("EVENT_TYPE_") for event in self.events}

    def summaries(self) -> set[str]:
        """Of its activities and timers, taken apart at commas: those of the job's writes name the ledger's events."""
        found = set[str]()
        for event in self.events:
            if packed := event.get("userMetadata", {}).get("summary"):
                found.update(str(json.loads(base64.b64decode(packed["data"]))).split(", "))
        return found

    def names(self) -> set[str]:
        """What it was told and what it asked for: signals of either way, updates, types of activities."""
        found = set()
        for event in self.events:
            if signal := event.get("workflowExecutionSignaledEventAttributes"):
                found.add(str(signal["signalName"]))
            if sent := event.get("signalExternalWorkflowExecutionInitiatedEventAttributes"):
                found.add(str(sent["signalName"]))
            if activity := event.get("activityTaskScheduledEventAttributes"):
                found.add(str(activity["activityType"]["name"]))
            if update := event.get("workflowExecutionUpdateAcceptedEventAttributes"):
                found.add(str(update["acceptedRequest"]["input"]["name"]))
        return found


def recorded(history: WorkflowHistory) -> Recorded:
    return Recorded(json.loads(history.to_json()))


def load(file: Path) -> Recorded:
    return Recorded(json.loads(gzip.decompress(file.read_bytes())))
