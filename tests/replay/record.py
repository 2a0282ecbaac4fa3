"""Record what workflows go through in a real town: `make histories`, or `python -m tests.replay.record`.

For when workflows ask for something else than before on purpose: until the first tagged release the histories are
replaced by this (README.md). It takes some minutes.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from temporalio.client import Client

from tests.replay import story
from tests.replay.histories import HISTORIES, Recorded, recorded
from tests.replay.paths import missing


def main() -> None:
    with story.town() as town:
        story.tell(town)
        found = story.ask(town, histories)
    keep(found)


def keep(found: list[Recorded]) -> None:
    """Replace the recorded histories by these, if they show every path; named by type, in the order of their start."""
    if lacking := missing(found):
        sys.exit(f"nothing of {', '.join(lacking)} was recorded; the histories are left as they were")
    HISTORIES.mkdir(exist_ok=True)
    for old in HISTORIES.glob("*.json.gz"):
        old.unlink()
    numbers = Counter[str]()
    for each in found:
        kind = each.type.removesuffix("Workflow").lower()
        numbers[kind] += 1
        write(HISTORIES / f"{kind}.{numbers[kind]:02}.json.gz", each)
    print(f"{numbers.total()} histories: {', '.join(f'{count} of {kind}' for kind, count in sorted(numbers.items()))}")


async def histories(client: Client) -> list[Recorded]:
    """Every run, in the order in which they were begun."""
    runs = [each async for each in client.list_workflows()]
    runs.sort(key=lambda run: (run.start_time, run.id))
    return [
        recorded(await client.get_workflow_handle(run.id, run_id=run.run_id).fetch_history())
        for run in runs
        if run.workflow_type.endswith("Workflow")
    ]


def write(file: Path, history: Recorded) -> None:
    packed = json.dumps(without_identities(history.document), separators=(",", ":")).encode()
    file.write_bytes(gzip.compress(packed, compresslevel=9, mtime=0))


def without_identities(value: Any) -> Any:
    """Who asked, by process and machine, is of no use to a replay."""
    if isinstance(value, dict):
        return {key: without_identities(each) for key, each in value.items() if key != "identity"}
    return [without_identities(each) for each in value] if isinstance(value, list) else value


if __name__ == "__main__":
    main()
