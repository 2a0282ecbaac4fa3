"""BootWorkflow: its four steps, on a Deacon that the test describes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from models import names
from models.errors import ErrorCode
from models.mayor.alerts import AlertType, Edge, Notice
from models.mayor.escalations import EscalationCleared
from models.settings import RecoverySettings, Settings
from models.supervision.messages import BootReport, DeaconLook, Probe, ProbeResult, RestartWorkflow, TownFacts
from tests.workflows.conftest import WorkerBuilder
from tests.workflows.probes import MayorsPost
from workflows.supervision.boot import BootWorkflow


@dataclass
class Deacon:
    """What is seen of it, look by look; the last look repeats. A restart goes on to `after`."""

    looks: list[ProbeResult]
    after: list[ProbeResult] = field(default_factory=lambda: [ProbeResult.ANSWERS])
    pollers: tuple[str, ...] = ("h1@town#1",)
    stopped: bool = False
    cannot_restart: bool = False
    cannot_look: bool = False
    restarts: list[RestartWorkflow] = field(default_factory=list)
    settings: Settings | None = field(default_factory=Settings)
    seen: int = 0

    @activity.defn
    async def look_at_deacon(self) -> DeaconLook:
        if self.cannot_look:
            raise ApplicationError("Temporal is away", non_retryable=True)
        self.seen += 1
        result = self.looks[0] if len(self.looks) == 1 else self.looks.pop(0)
        probe = Probe(workflow_id=names.DEACON_ID, result=result, run_id="run-1", stopped=self.stopped)
        return DeaconLook(pollers=self.pollers, probe=probe)

    @activity.defn
    async def restart(self, order: RestartWorkflow) -> None:
        self.restarts.append(order)
        if self.cannot_restart:
            raise ApplicationError("refused", non_retryable=True)
        self.looks = list(self.after)

    @activity.defn
    async def town_facts(self) -> TownFacts:
        if self.settings is None:
            raise ApplicationError("the ledger is down", type=ErrorCode.LEDGER_UNREACHABLE.value, non_retryable=True)
        return TownFacts(settings=self.settings)


@dataclass
class Post(MayorsPost):
    cleared: list[EscalationCleared] = field(default_factory=list)
    mayor: list[ProbeResult] = field(default_factory=lambda: [ProbeResult.ANSWERS])
    """how he is found, look by look; the last look repeats"""
    announced: list[Notice] = field(default_factory=list)
    channel_refuses: bool = False

    @activity.defn
    async def look_at_mayor(self) -> Probe:
        result = self.mayor[0] if len(self.mayor) == 1 else self.mayor.pop(0)
        return Probe(workflow_id=names.MAYOR_ID, result=result, detail="its workflow task is being tried")

    @activity.defn
    async def announce(self, notice: Notice) -> None:
        self.announced.append(notice)
        if self.channel_refuses:
            raise ApplicationError("channel slack: 503", type=ErrorCode.CHANNEL_FAILED.value, non_retryable=True)

    @activity.defn
    async def clear_escalation(self, cleared: EscalationCleared) -> None:
        self.cleared.append(cleared)


class Boot:
    """Runs Boot again and again, each time with what it found before, as the Schedule does."""

    def __init__(self, env: WorkflowEnvironment, post: Post) -> None:
        self._env, self.post = env, post
        self.last: BootReport | None = None
        self._runs = 0

    async def run(self) -> BootReport:
        self._runs += 1
        # Once it has ended the test server's clock runs on to the end of its time limit, ten years by default.
        self.last = await self._env.client.execute_workflow(
            BootWorkflow.run,
            self.last,
            id=f"boot-{self._runs}",
            task_queue=names.TOWN_QUEUE,
            execution_timeout=timedelta(minutes=15),
        )
        return self.last


Open = Callable[[Deacon], contextlib.AbstractAsyncContextManager[Boot]]


@pytest.fixture
def opened(env: WorkflowEnvironment, workers: WorkerBuilder) -> Open:
    @contextlib.asynccontextmanager
    async def start(deacon: Deacon) -> AsyncIterator[Boot]:
        post = Post()
        activities = [deacon.look_at_deacon, deacon.restart, deacon.town_facts]
        activities += [post.tell_mayor, post.clear_escalation, post.look_at_mayor, post.announce]
        async with workers(workflows=[BootWorkflow], activities=activities):
            yield Boot(env, post)

    return start


def oks(report: BootReport) -> list[bool]:
    return [step.ok for step in report.steps]


async def test_a_deacon_that_answers_is_left_alone(opened: Open) -> None:
    deacon = Deacon([ProbeResult.ANSWERS])
    async with opened(deacon) as boot:
        report = await boot.run()
        assert report.healthy
        assert oks(report) == [True] * 4
        assert [step.detail for step in report.steps[2:]] == ["not needed"] * 2
        assert (deacon.restarts, boot.post.letters) == ([], [])


async def test_a_deacon_that_a_person_stopped_stays_stopped(opened: Open) -> None:
    deacon = Deacon([ProbeResult.ANSWERS], stopped=True)
    async with opened(deacon) as boot:
        report = await boot.run()
        assert report.healthy
        assert "stopped by a person" in report.steps[1].detail
        assert (deacon.restarts, boot.post.letters) == ([], [])


@pytest.mark.document("6: 检查进程是否存活")
async def test_a_deacon_that_is_gone_is_restarted_at_once(opened: Open) -> None:
    deacon = Deacon([ProbeResult.ABSENT])
    async with opened(deacon) as boot:
        report = await boot.run()
        assert report.healthy
        assert oks(report) == [False, False, True, True]
        assert deacon.seen == 2
        assert len(report.restarts) == 1
        assert boot.post.letters == []


@pytest.mark.document("6: 检查是否响应 ping", "6: 如果无响应，重启 Deacon")
@pytest.mark.parametrize("silence", [ProbeResult.SILENT, ProbeResult.WEDGED])
async def test_one_that_does_not_answer_gets_three_looks_and_is_then_restarted_by_its_run(
    opened: Open, silence: ProbeResult
) -> None:
    deacon = Deacon([silence])
    async with opened(deacon) as boot:
        report = await boot.run()
        assert report.healthy
        assert deacon.seen == 4
        assert [order.run_id for order in deacon.restarts] == ["run-1"]


async def test_one_that_was_only_busy_is_not_restarted(opened: Open) -> None:
    deacon = Deacon([ProbeResult.SILENT, ProbeResult.SILENT, ProbeResult.ANSWERS])
    async with opened(deacon) as boot:
        report = await boot.run()
        assert report.healthy
        assert deacon.restarts == []


@pytest.mark.document("6: 如果重启失败，升级到 Mayor")
async def test_a_restart_that_does_not_help_goes_to_the_mayor_once_and_is_cleared_when_it_answers(opened: Open) -> None:
    deacon = Deacon([ProbeResult.SILENT], after=[ProbeResult.SILENT])
    async with opened(deacon) as boot:
        report = await boot.run()
        assert not report.healthy
        assert oks(report) == [True, False, False, True]
        (letter,) = boot.post.letters
        assert (letter.kind, letter.severity, letter.id) == ("deacon_down", "critical", report.escalation)
        assert "restart: it still fails" in letter.tried
        await boot.run()
        assert len(boot.post.letters) == 1
        deacon.looks = [ProbeResult.ANSWERS]
        report = await boot.run()
        assert (report.healthy, report.escalation) == (True, "")
        assert [cleared.id for cleared in boot.post.cleared] == [letter.id]
        await boot.run()
        assert len(boot.post.cleared) == 1


async def test_a_restart_that_cannot_be_carried_out_goes_to_the_mayor(opened: Open) -> None:
    deacon = Deacon([ProbeResult.ABSENT], cannot_restart=True)
    async with opened(deacon) as boot:
        report = await boot.run()
        assert not report.healthy
        assert "refused" in report.steps[2].detail
        assert [letter.kind for letter in boot.post.letters] == ["deacon_down"]


async def test_a_deacon_that_keeps_ending_is_restarted_under_the_budget_and_again_when_that_expires(
    env: WorkflowEnvironment, opened: Open
) -> None:
    recovery = RecoverySettings(max_retries=2, window=7200)
    deacon = Deacon([ProbeResult.ABSENT], settings=Settings(recovery=recovery))
    async with opened(deacon) as boot:
        for restarts in (1, 2, 2, 2):
            deacon.looks = [ProbeResult.ABSENT]
            report = await boot.run()
            assert len(deacon.restarts) == restarts
        assert "2 restarts within 7200 s did not help" in report.steps[2].detail
        assert len(boot.post.letters) == 1
        await env.sleep(timedelta(hours=2))
        assert (await boot.run()).healthy
        assert len(deacon.restarts) == 3
        assert len(boot.post.cleared) == 1


async def test_one_whose_code_fails_again_after_a_restart_is_not_restarted_for_ever(opened: Open) -> None:
    deacon = Deacon([ProbeResult.WEDGED], after=[ProbeResult.WEDGED])
    async with opened(deacon) as boot:
        for _ in range(3):
            report = await boot.run()
        assert len(deacon.restarts) == 1
        assert "fails again after a restart" in report.steps[2].detail
        assert len(boot.post.letters) == 1


async def test_with_the_record_unreadable_the_deacon_is_restarted_all_the_same(opened: Open) -> None:
    deacon = Deacon([ProbeResult.ABSENT], settings=None)
    async with opened(deacon) as boot:
        assert (await boot.run()).healthy
        assert len(deacon.restarts) == 1


async def test_what_cannot_be_seen_is_not_accused(opened: Open) -> None:
    deacon = Deacon([ProbeResult.ANSWERS], cannot_look=True)
    async with opened(deacon) as boot:
        report = await boot.run()
        assert not report.healthy
        assert (deacon.restarts, boot.post.letters) == ([], [])


# --- the Mayor does not work either ---------------------------------------------------------------


def both_broken() -> Deacon:
    return Deacon([ProbeResult.WEDGED], after=[ProbeResult.WEDGED])


@pytest.mark.parametrize("mayor", [ProbeResult.WEDGED, ProbeResult.SILENT])
async def test_when_the_mayor_does_not_work_either_people_are_told_directly_once_and_that_it_is_over(
    opened: Open, mayor: ProbeResult
) -> None:
    deacon = both_broken()
    async with opened(deacon) as boot:
        boot.post.mayor = [mayor]
        for _ in range(3):
            report = await boot.run()
        (letter,) = boot.post.letters
        (notice,) = boot.post.announced
        assert (notice.type, notice.priority, notice.edge) == (AlertType.DEACON_DOWN, "critical", Edge.START)
        assert letter.message in notice.title
        assert "the Mayor" in notice.body
        assert "people were told directly" in report.steps[3].detail
        deacon.looks = [ProbeResult.ANSWERS]
        for _ in range(2):
            assert (await boot.run()).healthy
        assert [notice.edge for notice in boot.post.announced] == [Edge.START, Edge.END]
        assert len({notice.condition for notice in boot.post.announced}) == 1
        deacon.looks = [ProbeResult.WEDGED]
        await boot.run()
        assert [notice.edge for notice in boot.post.announced] == [Edge.START, Edge.END, Edge.START], "a new episode"


async def test_a_mayor_who_works_tells_people_himself(opened: Open) -> None:
    async with opened(both_broken()) as boot:
        boot.post.mayor = [ProbeResult.SILENT, ProbeResult.ANSWERS]
        await boot.run()
        assert len(boot.post.letters) == 1
        assert boot.post.announced == []


async def test_a_mayor_who_breaks_later_while_the_deacon_is_down_is_noticed_too(opened: Open) -> None:
    async with opened(both_broken()) as boot:
        await boot.run()
        assert boot.post.announced == []
        boot.post.mayor = [ProbeResult.WEDGED]
        await boot.run()
        assert len(boot.post.announced) == 1


async def test_what_a_channel_refuses_is_announced_again_at_the_next_look_under_the_same_id(opened: Open) -> None:
    async with opened(both_broken()) as boot:
        boot.post.mayor, boot.post.channel_refuses = [ProbeResult.WEDGED], True
        await boot.run()
        boot.post.channel_refuses = False
        for _ in range(2):
            await boot.run()
        assert len(boot.post.announced) == 2
        assert len({notice.id for notice in boot.post.announced}) == 1
