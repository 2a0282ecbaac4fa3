"""A host that only watches, as a process that a test can kill: `python -m tests.services.watching_host PORT HOST`."""

from __future__ import annotations

import asyncio
import sys

from temporalio import activity

from activities.interceptor import ActivityConduct
from models import names
from models.job.attempts import WatchReport, WatchRig
from services.worker.polling import activities_of, new_worker
from tests.temporal_server import client_of


class QuietWatch:
    @activity.defn
    async def watch_rig(self, request: WatchRig) -> WatchReport:
        await asyncio.sleep(request.interval_s)
        return WatchReport(living=("sh-1",))


async def main(port: int, host: str) -> None:
    worker = new_worker(
        await client_of(port), names.watch_queue(host), activities_of(QuietWatch()), 5,
        interceptor=ActivityConduct(), threads=False,
    )  # fmt: skip
    await worker.run()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
