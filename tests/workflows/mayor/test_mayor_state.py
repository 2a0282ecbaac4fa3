"""What the Mayor remembers: one fault once, bounded for ever, and nothing lost on the way to the next run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from models.errors import Level
from models.mayor.alerts import Alerting, AlertRule, AlertType, Edge, Notice, Priority
from models.mayor.escalations import MESSAGE_BYTES, OPEN_KEPT, Escalation
from models.settings import EscalationSettings, Settings
from policies.mayor.decisions import Move
from policies.mayor.notification_rules import edges
from workflows.mayor.cases import TELLINGS, Case
from workflows.mayor.state import CLEARED, LONG_TOTAL_BYTES, RESOLVED_KEPT, MayorState

START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def told(name: str = "e1", **changes: object) -> Escalation:
    values: dict[str, object] = {
        "id": name, "kind": "polecat_exhausted", "level": "L2", "source": "polecat/shop/sh-1", "rig": "shop",
        "bead": "sh-1", "message": "its agents die", "tried": "another polecat", "opened_at": START,
    }  # fmt: skip
    return Escalation.model_validate(values | changes)


def opened(state: MayorState, escalation: Escalation, now: datetime = START) -> Case:
    case = state.open(escalation, now)
    assert case is not None
    state.judge(case, now)
    return case


def next_run(state: MayorState) -> MayorState:
    state.shed(handing_over=True)
    return MayorState.model_validate_json(state.model_dump_json())


def record(state: MayorState) -> None:
    for key in list(state.unrecorded):
        state.recorded(state.cases[key].status)


def announced(state: MayorState, now: datetime, alerting: Alerting | None = None) -> list[Notice]:
    """What people are told now."""
    alerting = alerting or Alerting()
    holding = state.holding()
    notices = edges(state.told, holding, alerting.rules, now)
    state.announce(notices, holding, alerting)
    return notices


def test_of_what_is_announced_elsewhere_people_hear_only_when_nobody_answers() -> None:
    state = MayorState(settings=Settings(escalation=EscalationSettings(ack_timeout=3600)))
    down = told("d1", kind="dolt_down", level="L3", source="deacon", rig=None, bead=None, announced=True)
    case = opened(state, down)
    assert case.asked_at == START
    assert announced(state, START) == []
    state.remind(START + 2 * HOUR)
    state = next_run(state)
    assert [notice.edge for notice in announced(state, START + 2 * HOUR)] == [Edge.REPEAT]
    state.clear("d1", START + 3 * HOUR)
    assert announced(state, START + 3 * HOUR) == []


# --- one fault is one ---------------------------------------------------------------------------


def test_the_same_id_and_the_same_kind_and_subject_are_one_case() -> None:
    state = MayorState()
    opened(state, told("e1"))
    assert state.open(told("e1"), START) is None
    assert state.open(told("e2", opened_at=START + HOUR), START + HOUR) is None
    assert [case.status.id for case in state.open_cases()] == ["e1"]
    assert state.find("e2") is state.find("e1")


def test_a_fault_is_over_when_every_telling_of_it_is() -> None:
    state = MayorState()
    opened(state, told("e1"))
    state.open(told("e2"), START)
    assert state.clear("e1", START) is None
    case = state.clear("e2", START + HOUR)
    assert case is not None
    assert (case.status.resolved, case.status.action, case.status.resolved_at) == (True, CLEARED, START + HOUR)
    assert not case.status.acked
    assert state.clear("e2", START) is None
    assert state.clear("unknown", START) is None


def test_a_late_telling_of_what_is_over_changes_nothing_and_a_new_opening_is_a_new_fault() -> None:
    state = MayorState()
    opened(state, told("e1"))
    state.open(told("e2"), START)
    case = state.find("e1")
    assert case is not None
    state.resolve(case, "retry", START + HOUR)
    assert state.open(told("e1"), START + 2 * HOUR) is None
    assert state.open(told("e2"), START + 2 * HOUR) is None
    again = state.open(told("e1", opened_at=START + 2 * HOUR), START + 2 * HOUR)
    assert again is not None
    assert [(one.status.id, one.status.opened_at) for one in state.open_cases()] == [("e1", START + 2 * HOUR)]


def test_an_agent_s_further_question_joins_its_first_and_is_told_but_not_for_ever() -> None:
    state = MayorState()
    opened(state, told("q1", kind="help", message="which database?"))
    assert [notice.edge for notice in announced(state, START)] == [Edge.START]
    for number in range(2, 50):
        state.open(told(f"q{number}", kind="help", message=f"question {number}?"), START)
        announced(state, START)
    [case] = state.open_cases()
    assert case.status.message == "question 49?"
    assert "question 48?" in case.status.evidence
    assert state.told[case.key].tellings == TELLINGS


def test_a_question_is_not_hidden_behind_one_that_was_seen() -> None:
    state = MayorState()
    state.acknowledge(opened(state, told("q1", kind="help")))
    opened(state, told("q2", kind="help", message="another?"))
    assert len(state.open_cases()) == 2
    assert len(announced(state, START)) == 2, "and people hear of both"


def test_words_of_two_people_are_never_merged() -> None:
    state = MayorState()
    opened(state, told("help-1", kind="help", source="ada"))
    opened(state, told("help-2", kind="help", source="ada"))
    assert len(state.open_cases()) == 2


def test_a_fault_that_becomes_more_urgent_is_told_again_once() -> None:
    state = MayorState()
    full = {"kind": "disk_full", "source": "deacon", "rig": None, "bead": None, "level": "L3"}
    opened(state, told("disk", severity="high", **full))
    announced(state, START)
    for _ in range(2):
        state.open(told("disk", severity="critical", message="97 %", **full), START)
    [notice] = announced(state, START)
    assert (notice.edge, notice.priority, notice.title) == (Edge.REPEAT, Priority.CRITICAL, "97 %")


# --- decisions and reminders --------------------------------------------------------------------


def test_what_the_mayor_did_counts_for_an_hour_against_doing_it_again() -> None:
    state, now = MayorState(), START
    for attempt in (1, 2, 3, 4):
        case = opened(state, told(f"e{attempt}", level="L1", opened_at=now), now)
        if attempt == 4:
            assert case.asked_at == now
            break
        assert case.plan is not None
        assert (case.plan.move, case.asked_at) == (Move.RETRY, None)
        state.made(case, Move.RETRY, now)
        state.resolve(case, "retry", now)
        now += timedelta(minutes=5)
    later = next_run(state)
    later.resolve(later.open_cases()[0], "retry", now)
    now += 2 * HOUR
    case = opened(later, told("e9", level="L1", opened_at=now), now)
    assert case.plan is not None


@pytest.mark.parametrize("repeats", [0, 2, 5])
def test_unanswered_its_severity_is_raised_as_often_as_the_setting_says(repeats: int) -> None:
    state, now = MayorState(settings=Settings(escalation=EscalationSettings(max_repeats=repeats))), START
    opened(state, told(severity="medium"))
    story = [notice.priority for notice in announced(state, now)]
    for _ in range(10):
        now += timedelta(hours=4)
        state = next_run(state)
        state.remind(now)
        state.remind(now)
        story += [notice.priority for notice in announced(state, now)]
    raised = [Priority.HIGH, Priority.CRITICAL, Priority.CRITICAL, Priority.CRITICAL, Priority.CRITICAL]
    assert story == [Priority.MEDIUM, *raised[:repeats]]
    [case] = state.open_cases()
    assert case.status.repeats == repeats
    assert state.reminder_of(case) is None


def test_what_somebody_has_seen_is_not_raised() -> None:
    state = MayorState()
    state.acknowledge(opened(state, told()))
    assert state.remind(START + timedelta(days=9)) == []


def test_a_shorter_timeout_holds_for_what_is_open_already() -> None:
    state = MayorState()
    case = opened(state, told())
    state.settings = Settings(escalation=EscalationSettings(ack_timeout=60))
    assert state.reminder_of(case) == START + timedelta(minutes=1)


def test_when_a_system_fault_is_cured_the_jobs_that_it_stopped_go_on_unless_somebody_took_them_up() -> None:
    state = MayorState()
    before = opened(state, told("old", bead="sh-0", level="L3"))
    dolt = opened(state, told("dolt", kind="dolt_down", level="L3", bead=None, rig=None, opened_at=START + HOUR))
    later = START + 2 * HOUR
    stopped = opened(state, told("e1", bead="sh-1", level="L3", opened_at=later))
    taken = opened(state, told("e2", bead="sh-2", level="L3", opened_at=later))
    own = opened(state, told("e3", bead="sh-3", level="L2", opened_at=later))
    state.acknowledge(taken)
    state.clear("dolt", later)
    assert dolt.status.resolved
    assert stopped.plan is not None
    assert stopped.plan.move is Move.RETRY
    assert [case.plan for case in (before, taken, own)] == [None] * 3


# --- what people are told -----------------------------------------------------------------------


def test_people_hear_of_what_they_must_decide_alone() -> None:
    state = MayorState()
    silent = opened(state, told("e1", level="L1"))
    assert announced(state, START) == []
    state.ask(silent, START)
    [notice] = announced(state, START)
    assert (notice.edge, notice.type) == (Edge.START, AlertType.POLECAT_EXHAUSTED)
    assert notice.command == "gt escalate resolve e1 --action retry"
    assert announced(next_run(state), START) == []
    state.clear("e1", START)
    assert [notice.edge for notice in announced(state, START)] == [Edge.END]


def test_each_channel_gets_what_rules_send_there() -> None:
    state = MayorState()
    opened(state, told("disk", kind="disk_full", level="L3", bead=None, rig=None))
    opened(state, told("e1"))
    rules = (AlertRule(type=AlertType.DISK_FULL, channel="email", created_at=START),)
    announced(state, START, Alerting(rules=rules, channels=("email", "slack")))
    waiting = {channel: [one.type.value for one in queue.waiting] for channel, queue in state.queues.items()}
    assert waiting == {"email": ["disk_full", "polecat_exhausted"], "slack": ["polecat_exhausted"]}


# --- what is kept -------------------------------------------------------------------------------


def test_of_a_flood_the_dearest_are_kept_and_the_forgotten_ones_do_not_end() -> None:
    state = MayorState()
    opened(state, told("first", bead="sh-first", severity="critical"))
    for number in range(2 * OPEN_KEPT):
        opened(state, told(f"e{number}", bead=f"sh-{number}"))
    while announced(state, START):
        pass
    record(state)
    state = next_run(state)
    assert len(state.open_cases()) == OPEN_KEPT
    assert state.forgotten == OPEN_KEPT + 1
    assert state.open_cases()[0].status.id == "first"
    assert announced(state, START) == [], "what is forgotten is not over"


def test_nothing_is_forgotten_before_the_record_has_it() -> None:
    state = MayorState()
    for number in range(2 * OPEN_KEPT):
        opened(state, told(f"e{number}", bead=f"sh-{number}"))
        state.shed()
    assert len(state.open_cases()) == 2 * OPEN_KEPT


def test_what_is_not_recorded_is_handed_over_whole_as_long_as_it_fits() -> None:
    state = MayorState()
    for number in range(3 * OPEN_KEPT):
        opened(state, told(f"e{number}", bead=f"sh-{number}"))
    assert len(next_run(state).open_cases()) == 3 * OPEN_KEPT


def test_what_does_not_fit_is_given_up_the_least_urgent_and_oldest_first() -> None:
    state = MayorState()
    words = "\u754c" * 400
    opened(state, told("first", bead="sh-first", severity="critical", message=words, evidence=words))
    for number in range(3000):
        opened(state, told(f"e{number}", bead=f"sh-{number}", message=words, evidence=words))
    state = next_run(state)
    assert len(state.model_dump_json().encode()) < 1_600_000
    kept = [case.status.id for case in state.open_cases()]
    assert kept[0] == "first"
    assert kept[-1] == "e2999"
    assert len(kept) > OPEN_KEPT


def test_a_case_is_taken_back_from_the_record_without_a_new_alert() -> None:
    state = MayorState(forgotten=1)
    status = opened(MayorState(), told("e1")).status
    case = state.take_back(status)
    assert (state.find("e1"), state.forgotten) == (case, 0)
    assert announced(state, START) == []


def test_twenty_thousand_escalations_over_its_life_do_not_break_it() -> None:
    """A flood of every kind, half of it never answered, with a hand-over after each thousand messages."""
    state, now, biggest = MayorState(), START, 0
    alerting = Alerting(channels=("email", "slack"))
    for number in range(20_000):
        now += timedelta(seconds=5)
        kind = ("help", "polecat_exhausted", "disk_full")[number % 3]
        case = state.open(
            told(f"e{number}", kind=kind, bead=f"sh-{number % 7_000}", message='"\\界' * 300, opened_at=now), now
        )
        if case is not None:
            state.judge(case, now)
        if number % 2:
            state.clear(f"e{number - 1}", now)
        if number % 1000 == 999:
            announced(state, now, alerting)
            record(state)
            biggest = max(biggest, len(state.model_dump_json()))
            state = next_run(state)
    assert len(state.open_cases()) <= OPEN_KEPT
    assert len(state.cases) <= OPEN_KEPT + RESOLVED_KEPT
    assert biggest < 2_000_000
    assert state.find("e19998") is not None


def test_the_fullest_state_stays_below_two_megabytes() -> None:
    state = MayorState()
    words = '"\\界' * 400
    names = [f"c{number}-{'n' * 36}" for number in range(10)]
    alerting = Alerting(channels=tuple(names))
    for number in range(OPEN_KEPT + RESOLVED_KEPT):
        escalation = told(
            f"sh-{number}.12.polecat_exhausted.{'x' * 40}", bead=f"sh-{number}", rig="r" * 40, level="L3",
            source=f"polecat/{'r' * 40}/sh-{number}", message=words, evidence=words, tried=words,
        )  # fmt: skip
        case = opened(state, escalation)
        if number < RESOLVED_KEPT:
            announced(state, START, alerting)
            state.resolve(case, "reassign", START)
    announced(state, START, alerting)
    state.shed(handing_over=True)
    assert len(state.cases) > (OPEN_KEPT + RESOLVED_KEPT) / 2
    assert len(state.model_dump_json().encode()) < 2_000_000


def test_everything_survives_the_way_to_the_next_run() -> None:
    state = MayorState(settings=Settings(escalation=EscalationSettings(max_repeats=7)), rigs=["shop"])
    opened(state, told("e1", level="L1"))
    opened(state, told("e2", bead="sh-2"))
    state.acknowledge(opened(state, told("e3", bead="sh-3")))
    state.clear("e3", START)
    announced(state, START, Alerting(channels=("email",)))
    assert next_run(state) == state


def test_levels_and_severities_that_this_version_does_not_know_count_as_a_system_s_fault() -> None:
    case = opened(MayorState(), told(level="L9", severity="apocalyptic"))
    assert (case.status.level, case.status.severity) == (Level.L3.value, Priority.HIGH.value)


def test_a_decision_goes_to_everybody_who_told_the_fault_and_still_has_it() -> None:
    state = MayorState()
    rig = {"kind": "refinery_stalled", "bead": None}
    case = opened(state, told("d1", source="deacon", **rig))
    state.open(told("r1", source="refinery/shop", **rig), START)
    state.open(told("j1", source="polecat/shop/sh-2", kind="refinery_stalled", bead="sh-2"), START)
    assert case.waiting() == {"deacon": "d1", "refinery/shop": "r1"}, "of jobs only one that is named would hear it"
    state.clear("r1", START)
    assert case.waiting() == {"deacon": "d1"}
    state.open(told("r2", source="refinery/shop", **rig), START)
    assert case.waiting() == {"deacon": "d1", "refinery/shop": "r2"}, "each under the id that it knows"


def test_what_a_workflow_had_told_before_it_was_reset_is_over_unless_another_has_told_it_too() -> None:
    state = MayorState()
    of_rig: dict[str, object] = {"bead": None, "source": "witness/shop"}
    brake = opened(state, told("b1", kind="polecat_unresponsive", subject="brake", **of_rig))
    lost = opened(state, told("l1", kind="host_lost", subject="h1", level="L4", **of_rig))
    state.open(told("l2", kind="host_lost", subject="h1", level="L4", bead=None, source="deacon"), START)
    another = opened(state, told("e1", kind="polecat_unresponsive"))
    state.forget_source("witness/shop", START + HOUR)
    assert (brake.status.resolved, brake.status.action) == (True, CLEARED)
    assert not lost.status.resolved
    assert not another.status.resolved
    state.forget_source("deacon", START + HOUR)
    assert lost.status.resolved
    again = state.open(
        told("b2", kind="polecat_unresponsive", subject="brake", opened_at=START + HOUR, **of_rig), START
    )
    assert again is not None, "it holds still, and is told anew"


@pytest.mark.parametrize("first", ["witness/shop", "deacon"])
def test_a_host_that_witnesses_and_the_deacon_miss_is_one_case_and_one_alert(first: str) -> None:
    state = MayorState()
    sources = [first, *({"witness/shop", "deacon", "witness/barn"} - {first})]
    for source in sources:
        rig = source.partition("/")[2] or None
        message = f"{source} says so"
        lost = told(f"{source}.1", kind="host_lost", level="L4", severity="critical", bead=None, rig=rig, source=source)
        case = state.open(lost.model_copy(update={"subject": "h1", "message": message}), START)
        if case is not None:
            state.judge(case, START)
        announced(state, START)
    assert len(state.open_cases()) == 1
    assert [condition.title for condition in state.told.values()] == [f"{first} says so"]
    for source in sources:
        notices = announced(state, START)
        assert notices == []
        state.clear(f"{source}.1", START + HOUR)
    assert [notice.edge for notice in announced(state, START + HOUR)] == [Edge.END]


def test_a_decision_about_a_job_goes_to_the_job_whoever_told_it() -> None:
    case = opened(MayorState(), told("e1", source="ada", kind="help"))
    assert case.waiting() == {"polecat/shop/sh-1": "e1"}
    assert opened(MayorState(), told("e1", source="ada", bead=None, rig=None)).waiting() == {}


def test_the_newest_long_messages_are_kept_whole_and_the_oldest_begin_only() -> None:
    state = MayorState()
    rules = "remote: every commit is signed\n" * 100
    cases = [
        opened(state, told(f"sh-{number}.1.help", kind="help", bead=f"sh-{number}", message=rules))
        for number in range(30)
    ]
    assert cases[-1].status.message == rules
    assert len(cases[0].status.message.encode()) <= MESSAGE_BYTES
    assert sum(len(case.status.message) for case in cases) < LONG_TOTAL_BYTES + 30 * MESSAGE_BYTES
