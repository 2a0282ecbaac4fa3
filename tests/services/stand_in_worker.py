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
from services.supervisor import guard
from services.supervisor.programs import WORKER, lock_path
from services.town import Town, find_town
from services.worker import life, readiness
from services.worker.polling import activities_of, new_worker, run_until_stopped


class SlowActivities:
    @activity.defn
    async def count_slowly(self) -> int:
        """The first attempt never ends; the next says which attempt it is."""
        attempt = activity.info().attempt
        if attempt == 1:
            await asyncio.Event().wait()
        return attempt


life.RIGS_EVERY_S = 0.5
life.CLEAR_UP_S = 60.0  # a busy machine's clearing up is to be seen, not given up


async def serve(town: Town) -> None:
    identity = life.worker_identity(town)
    client = await life.connect_patiently(town, identity, life.metrics_runtime(town))
    await life.clear_up_after_predecessor(client, town)
    queue = names.host_queue(town.file.host)
    worker = new_worker(
        client, queue, activities_of(SlowActivities()), 5, interceptor=ActivityConduct(), threads=False
    )  # fmt: skip
    await run_until_stopped(
        [worker],
        [
            life.show_readiness(client, town, identity, [(queue, False)]),
            life.keep_started(client, town, lambda: Ledger.open(town.ledger_url())),
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
