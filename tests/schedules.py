"""Schedules of a town on a server that other tests use too."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from temporalio.client import Client, ScheduleIntervalSpec
from temporalio.service import RPCError

from models import names
from services.temporal.schedules import SCHEDULES

DAY = timedelta(days=1)


@pytest.fixture
def silent_schedules() -> Iterator[None]:
    """None of the town's Schedules starts anything by itself: it is due in half a day.

    As they are, a test that meets the minute in which one is due finds that it has started something already.
    """
    later = timedelta(seconds=time.time()) + DAY / 2
    with pytest.MonkeyPatch.context() as patch:
        for schedule in SCHEDULES:
            patch.setattr(schedule.spec, "intervals", [ScheduleIntervalSpec(every=DAY, offset=later % DAY)])
        yield


async def remove_schedules(client: Client) -> None:
    """Delete every Schedule that a town may have; a list of them would lag behind."""
    for schedule in (*(each.id for each in SCHEDULES), names.DEADMAN_ID):
        with contextlib.suppress(RPCError):
            await client.get_schedule_handle(schedule).delete()
