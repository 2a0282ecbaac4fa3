"""What `gt status` says of a queue in which something waits and nothing is merged."""

from __future__ import annotations

import pytest

from cli.town.status import queue_troubles
from models.refinery.messages import QueueItem, QueueItemState, QueueStatus


def item(bead: str, state: str, reason: str) -> QueueItem:
    return QueueItem(
        id=f"{bead}.1", bead=bead, polecat="toast", state=QueueItemState(state), position=1, attempts=1,
        waiting_s=60.0, reason=reason,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ({}, []),
        ({"items": (item("sh-1", "waiting", "earlier trouble"),)}, []),
        (
            {"items": (item("sh-1", "retrying", "no such tool"), item("sh-2", "retrying", "no such tool"))},
            ["retrying: no such tool"],
        ),
        ({"held_targets": {"next": "gates could not run"}}, ["next HELD: gates could not run"]),
        ({"red_targets": {"main": "gate test failed"}}, ["main fails its gates by itself: gate test failed"]),
    ],
)
def test_one_line_for_each_cause(status: dict[str, object], shown: list[str]) -> None:
    assert (
        queue_troubles(QueueStatus.model_validate({"rig": "shop", "target": "main", "paused": False, **status}))
        == shown
    )
