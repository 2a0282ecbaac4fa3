"""What the Mayor sends through alert channels, and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from temporalio.testing import WorkflowEnvironment

from models.mayor.alerts import Alerting, AlertRule, AlertType, Priority
from models.settings import AlertSettings
from tests.workflows.mayor.mayor_world import (
    MayorWorld,
    Open,
    told,
)


class TestChannels:
    async def test_a_channel_that_refuses_three_times_is_sent_the_message_once_and_the_rest_in_one_behind_it(
        self, hall: Open
    ) -> None:
        world = MayorWorld(alerting=Alerting(channels=("email", "slack")), refusals={"slack": 3})
        async with hall(world) as town:
            await town.escalate(*(told(f"e{number}", bead=f"sh-{number}") for number in range(5)))
            await town.until(lambda: sum(len(one.notices) for one in world.taken) == 10, "every notice on each channel")
            slack = [one for one in world.taken if one.channel == "slack"]
            assert len(slack) <= 5
            assert [notice.condition for one in slack for notice in one.notices] == [
                f"help:sh-{number}" for number in range(5)
            ]

    async def test_quiet_hours_hold_all_but_critical_ones_back_until_they_end(
        self, env: WorkflowEnvironment, hall: Open
    ) -> None:
        now = await env.get_current_time()
        begin, end = now - timedelta(hours=1), now + timedelta(hours=3)
        pace = AlertSettings(quiet_hours=f"{begin:%H:%M}-{end:%H:%M}")
        world = MayorWorld(alerting=Alerting(alerts=pace, channels=("email",)))
        async with hall(world) as town:
            await town.escalate(told("e1", bead="sh-1"), told("e2", bead="sh-2", severity="critical"))
            await town.until(lambda: world.taken)
            await env.sleep(timedelta(hours=2))
            assert [one.condition for message in world.taken for one in message.notices] == ["help:sh-2"]
            await env.sleep(timedelta(hours=2))
            heard = [one.condition for message in world.taken for one in message.notices]
            assert heard[:2] == ["help:sh-2", "help:sh-1"]

    async def test_a_flood_is_few_messages_and_every_notice_is_logged(self, hall: Open) -> None:
        pace = AlertSettings(rate=2)
        world = MayorWorld(alerting=Alerting(alerts=pace, channels=("email",)))
        async with hall(world) as town:
            await town.escalate(*(told(f"e{number}", bead=f"sh-{number}") for number in range(200)))
            await town.until(lambda: len(world.log) == 200)
            assert len(world.taken) <= 2

    async def test_a_rule_that_changes_holds_for_the_next_alert(self, hall: Open) -> None:
        world = MayorWorld(alerting=Alerting(channels=("email",)))
        async with hall(world) as town:
            rule = AlertRule(
                type=AlertType.ESCALATION, channel="pager", priority=Priority.CRITICAL, created_at=datetime.now(UTC)
            )
            world.alerting = Alerting(channels=("email", "pager"), rules=(rule,))
            await town.escalate(told("e1"))
            await town.until(lambda: world.taken)
            [message] = world.taken
            assert (message.channel, message.notices[0].priority) == ("pager", Priority.CRITICAL)
