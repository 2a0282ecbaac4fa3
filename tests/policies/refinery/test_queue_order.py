"""The order of the merge queue."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from policies.refinery.queue_order import OVERTAKEN_AT_MOST_H, Candidate, joinable, order

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def waiting(
    name: str,
    *,
    priority: int = 2,
    hours: float = 0.0,
    setbacks: int = 0,
    now: bool = False,
    needs: tuple[str, ...] = (),
) -> Candidate:
    submitted_at = NOW - timedelta(hours=hours)
    return Candidate(
        id=name, bead=name, priority=priority, submitted_at=submitted_at, setbacks=setbacks, now=now, needs=needs
    )


@st.composite
def queues(draw: st.DrawFn) -> tuple[Candidate, ...]:
    """Up to ten candidates, some of which need others, circles and strangers included."""
    names = [f"m{number}" for number in range(draw(st.integers(1, 10)))]
    needs = st.lists(st.sampled_from([*names, "stranger"]), max_size=3, unique=True)
    return tuple(
        waiting(
            name,
            priority=draw(st.integers(0, 4)),
            hours=draw(st.integers(0, 900)),
            setbacks=draw(st.integers(0, 20)),
            now=draw(st.booleans()),
            needs=tuple(need for need in draw(needs) if need != name),
        )
        for name in names
    )


class TestScore:
    def test_urgent_work_goes_first(self) -> None:
        assert order((waiting("low", priority=4, hours=5), waiting("high", priority=0)), NOW) == ("high", "low")

    def test_equal_priority_goes_by_age(self) -> None:
        assert order((waiting("young"), waiting("old", hours=1)), NOW) == ("old", "young")

    def test_equal_age_goes_by_id_so_that_the_order_never_depends_on_arrival(self) -> None:
        assert order((waiting("b"), waiting("a")), NOW) == order((waiting("a"), waiting("b")), NOW) == ("a", "b")

    def test_a_change_that_troubled_the_queue_lets_others_pass(self) -> None:
        queue = (waiting("troubled", hours=2, setbacks=1), waiting("fresh"))
        assert order(queue, NOW) == ("fresh", "troubled")

    def test_setbacks_never_bury_a_change_for_good(self) -> None:
        buried = waiting("buried", hours=301, setbacks=1000)
        assert order((waiting("fresh"), buried), NOW) == ("buried", "fresh")

    def test_the_least_urgent_change_is_merged_in_the_end(self) -> None:
        queue = (waiting("urgent", priority=0), waiting("patient", priority=4, hours=401))
        assert order(queue, NOW)[0] == "patient"

    def test_a_change_that_stalled_alone_goes_behind_those_that_did_so_less_often(self) -> None:
        once = Candidate(id="once", priority=0, submitted_at=NOW - timedelta(hours=500), stalled_alone=1)
        twice = once.model_copy(update={"id": "twice", "stalled_alone": 2})
        fresh = waiting("fresh", priority=4)
        assert order((twice, once, fresh), NOW)[0] == "fresh"

    def test_what_a_person_asked_for_goes_before_everything(self) -> None:
        queue = (waiting("urgent", priority=0, hours=9), waiting("asked", priority=4, now=True))
        assert order(queue, NOW)[0] == "asked"

    @given(st.integers(0, 4), st.integers(0, 1000), st.integers(0, 4), st.integers(0, 1000), st.floats(0, 2000))
    def test_nothing_submitted_long_after_a_change_ever_passes_it(
        self, priority: int, setbacks: int, later_priority: int, later_setbacks: int, waited: float
    ) -> None:
        elder = waiting("elder", priority=priority, setbacks=setbacks, hours=waited + OVERTAKEN_AT_MOST_H + 0.001)
        later = waiting("later", priority=later_priority, setbacks=later_setbacks, hours=waited)
        assert order((later, elder), NOW) == ("elder", "later")

    @given(queues(), st.randoms())
    def test_the_order_does_not_depend_on_the_order_of_the_input(
        self, queue: tuple[Candidate, ...], random: object
    ) -> None:
        shuffled = list(queue)
        random.shuffle(shuffled)  # type: ignore[attr-defined]
        assert order(tuple(shuffled), NOW) == order(queue, NOW)


class TestDependencies:
    def test_what_an_urgent_change_needs_goes_before_it(self) -> None:
        queue = (
            waiting("urgent", priority=0, needs=("slow",)),
            waiting("slow", priority=4),
            waiting("usual", priority=1),
        )
        assert order(queue, NOW) == ("slow", "urgent", "usual")

    def test_a_circle_traps_nobody(self) -> None:
        queue = (waiting("a", needs=("b",)), waiting("b", needs=("a",)), waiting("c"))
        assert sorted(order(queue, NOW)) == ["a", "b", "c"]
        assert joinable(queue, 9) == ("c",)

    def test_a_batch_holds_nothing_without_what_it_needs(self) -> None:
        queue = (
            waiting("a"),
            waiting("b", needs=("stranger",)),
            waiting("c", needs=("a",)),
            waiting("d", needs=("b",)),
        )
        assert joinable(queue, 9) == ("a", "c")
        assert joinable(queue, 1) == ("a",)

    @given(queues(), st.integers(1, 10))
    def test_each_is_placed_once_and_in_a_batch_behind_all_that_it_needs(
        self, queue: tuple[Candidate, ...], at_most: int
    ) -> None:
        placed = order(queue, NOW)
        assert sorted(placed) == sorted(item.id for item in queue)
        by_id = {item.id: item for item in queue}
        batch = joinable((by_id[name] for name in placed), at_most)
        assert len(batch) <= at_most
        for place, name in enumerate(batch):
            assert set(by_id[name].needs) <= set(batch[:place])

    @given(queues())
    def test_what_needs_nothing_is_never_kept_waiting_by_what_others_need(self, queue: tuple[Candidate, ...]) -> None:
        free = [item.id for item in queue if not item.needs]
        by_id = {item.id: item for item in queue}
        batch = joinable((by_id[name] for name in order(queue, NOW)), len(queue))
        assert set(free) <= set(batch)
