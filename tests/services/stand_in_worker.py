"""A worker with the real one's life but next to no work: for tests of what surrounds a worker."""

from __future__ import annotations

import argparse
import asyncio
import logging
from pathlib import Path

from temporalio import activity

from activities.interceptor import ActivityConduct
from ledger.store import Ledger
from models import names
from services import guard, readiness, worker_life
from services.polling import activities_of, new_worker, run_until_stopped
from services.programs import WORKER, lock_path
from services.town import Town, find_town


class SlowActivities:
    @activity.defn
    async def count_slowly(self) -> int:
        """The first attempt never ends; the next says which attempt it is."""
        attempt = activity.info().attempt
        if attempt == 1:
            await asyncio.Event().wait()
        return attempt


worker_life.RIGS_EVERY_S = 0.5
worker_life.CLEAR_UP_S = 60.0  # a busy machine's clearing up is to be seen, not given up


async def serve(town: Town) -> None:
    identity = worker_life.worker_identity(town)
    client = await worker_life.connect_patiently(town, identity, worker_life.metrics_runtime(town))
    await worker_life.clear_up_after_predecessor(client, town)
    queue = names.host_queue(town.file.host)
    worker = new_worker(
        client, queue, activities_of(SlowActivities()), 5, interceptor=ActivityConduct(), threads=False
    )  # fmt: skip
    await run_until_stopped(
        [worker],
        [
            worker_life.show_readiness(client, town, identity, [(queue, False)]),
            worker_life.keep_started(client, town, lambda: Ledger.open(town.ledger_url())),
        ],
    )
    readiness.retract(town)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--town", type=Path)
    logging.basicConfig(level=logging.INFO)
    here = find_town(parser.parse_args().town)
    guard.enter(lock_path(here, WORKER))
    asyncio.run(serve(here))
