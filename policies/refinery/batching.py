"""Which commits of a chain to gate: find the shortest red prefix with the fewest runs.

A chain of n changes stands on a base that counts as green. Its prefixes 1..n are the candidates;
a prefix is red when gates fail at its last commit. The search gates the whole chain first. Where
that is red, the stretch between the longest green and the shortest red prefix is halved, with k
runners cut into k+1 even parts, until nothing is left between them. At the batch size that
`batch_size` gives, halving costs within 1 % of the best of all search trees
(tests/policies/refinery/test_merge_search.py tries every one).

A red prefix whose predecessor is green ends with the suspect, also where two changes fail only
together: then the later one is it. A suspect may need confirming runs; one that passes turns out
green after all, and the search goes on with the reds that are left.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise

from models.base import Frozen

_LEAST_RATE, _HIGHEST_RATE = 0.001, 0.999


class Red(Frozen):
    """A prefix at which gates have failed, and how often."""

    prefix: int
    times: int = 1


class Knowledge(Frozen):
    """What the runs so far say; prefixes count changes from the chain's start."""

    size: int
    green: int = 0
    """the longest prefix known to be green; 0 is the base"""
    reds: tuple[Red, ...] = ()
    """those above `green`, shortest first"""

    @property
    def red(self) -> int | None:
        """The shortest prefix known to be red."""
        return self.reds[0].prefix if self.reds else None

    @property
    def suspect(self) -> int | None:
        """The place (from 1) of the change to blame, if its red is believed."""
        return self.red if self.red == self.green + 1 else None

    @property
    def settled(self) -> bool:
        """Nothing is left to search: the chain is green, or there is a suspect."""
        return self.green == self.size or self.suspect is not None

    def culprit(self, confirms: int = 0) -> int | None:
        """The suspect, once so many confirming runs have failed as well."""
        return self.suspect if self.reds and self.reds[0].times > confirms else None


def learn(known: Knowledge, prefix: int, *, green: bool) -> Knowledge:
    """What is known after gating `prefix`, in whatever order results come in.

    A green prefix clears every shorter one: it may land as it is.

    Raises:
        ValueError: the chain has no such prefix.
    """
    if not 0 < prefix <= known.size:
        raise ValueError(f"a chain of {known.size} has no prefix {prefix}")
    if prefix <= known.green:
        return known
    if green:
        return known.model_copy(
            update={"green": prefix, "reds": tuple(red for red in known.reds if red.prefix > prefix)}
        )
    times = {red.prefix: red.times for red in known.reds}
    times[prefix] = times.get(prefix, 0) + 1
    return known.model_copy(update={"reds": tuple(Red(prefix=at, times=times[at]) for at in sorted(times))})


def next_probes(
    known: Knowledge,
    failure_rate: float,
    *,
    confirms: int = 0,
    runners: int = 1,
    flying: tuple[int, ...] = (),
    largest: int = 256,
) -> tuple[int, ...]:
    """The prefixes to gate now, at most as many as runners are free.

    Args:
        confirms: confirming runs that the present suspect needs.
        flying: prefixes that are being gated, one entry for each run.
        largest: changes that one run may clear at most.
    """
    free = runners - len(flying)
    if free <= 0 or known.green == known.size:
        return ()
    if known.red is None:
        # While nothing is red, what flies may well answer everything: no run is started on a guess.
        return () if flying else _first_probes(known, failure_rate, free, largest)
    if known.suspect is not None:
        missing = confirms + 1 - known.reds[0].times - flying.count(known.suspect)
        return (known.suspect,) * min(free, max(missing, 0))
    return _split(known.green, known.red, free, flying)


def useless(known: Knowledge, flying: Iterable[int]) -> frozenset[int]:
    """Those of the prefixes being gated whose result can decide nothing any more."""
    most = known.size if known.red is None else known.red
    return frozenset(prefix for prefix in flying if not known.green < prefix <= most)


def batch_size(failure_rate: float, minimum: int, maximum: int, runners: int = 1) -> int:
    """How many changes to build into one chain; the bounds are for each runner.

    n* = round(ln(k+1) / -ln(1-p)) for k runners: the k+1 answers that gating it can give are then
    equally likely, which is where runs tell most. One runner: the batch is green every second time.
    """
    best = _best_size(_bounded(failure_rate), runners)
    return min(max(best, minimum, 1), max(maximum, 1) * runners)


def whole_queue(best: int, maximum: int, runners: int = 1) -> int:
    """Up to how many waiting changes are merged as one batch, instead of one of `best` and a rest.

    A rest of a few changes costs a run that tells little. Where nothing more comes, a third more in
    one batch is within 2 % of the fewest runs, a batch and a rest up to 8 % above them (p from 2 to
    30 %); where so many come that each batch is a third larger, runs per landing grow by 2 %.
    """
    return min(best + best // 3, max(maximum, 1) * runners)


def _best_size(rate: float, runners: int) -> int:
    return round(math.log(runners + 1) / -math.log1p(-rate))


def _first_probes(known: Knowledge, failure_rate: float, runners: int, largest: int) -> tuple[int, ...]:
    """The whole chain; where it is longer than one run should clear, also prefixes that part it.

    A chain for k runners is parted into k equally likely places for the first red. A shorter one
    is parted less: a run inside a batch that is probably green would be spent on nothing.
    """
    places = known.size - known.green
    rate = _bounded(failure_rate)
    likely = sum(places > _best_size(rate, count) for count in range(1, runners))
    parts = min(max(1 + likely, math.ceil(places / largest)), runners, places)
    red_chance = 1 - (1 - rate) ** places
    cuts = {known.size}
    for part in range(1, parts):
        even = round(math.log1p(-red_chance * part / parts) / math.log1p(-rate))
        cuts.add(known.green + min(max(even, 1, places - largest * (parts - part)), largest * part))
    return tuple(sorted(cuts))


def _split(green: int, red: int, free: int, flying: tuple[int, ...]) -> tuple[int, ...]:
    """Prefixes that part evenly the widest stretch between `green` and `red` in which nothing flies."""
    bounds = [green, *sorted({prefix for prefix in flying if green < prefix < red}), red]
    low, high = max(pairwise(bounds), key=lambda gap: gap[1] - gap[0])
    cuts = {low + (high - low) * part // (free + 1) for part in range(1, free + 1)}
    return tuple(sorted(cuts - {low}))


def _bounded(failure_rate: float) -> float:
    """A rate whose logarithms are finite."""
    return min(max(failure_rate, _LEAST_RATE), _HIGHEST_RATE)
