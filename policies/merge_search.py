"""Which commits of a chain to gate: find the shortest red prefix with the fewest runs.

A chain of n changes stands on a base that counts as green. Its prefixes 1..n are the candidates;
a prefix is red when gates fail at its last commit. The search gates the whole chain first. Where
that is red, the culprit stands at place k with weight (1-p)^(k-1), p being the chance that a
change is bad, and the search walks down an optimal alphabetic tree over those weights: the mean
number of runs is the least that any order of prefixes can have (dynamic programming over lengths,
since what is left of a geometric distribution is geometric again). With k runners each node has up
to k+1 branches and the mean number of rounds is the least.

A red prefix whose predecessor is green ends with the suspect, also where two changes fail only
together: then the later one is it. A suspect may need confirming runs; one that passes turns out
green after all, and the search goes on with the reds that are left.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise

from models.base import Frozen

MOST_BRANCHES = 16
"""runners beyond this many cannot make a search of at most 256 changes any shorter than two rounds"""
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
    return _split(known.green, known.red, failure_rate, free, flying)


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
    one batch is within 1.5 % of the fewest runs, a batch and a rest up to 8 % above them (p from 2 to
    30 %); where so many come that each batch is a third larger, runs per landing grow by 2 %.
    """
    return min(best + best // 3, max(maximum, 1) * runners)


def mean_runs(size: int, failure_rate: float) -> float:
    """Mean number of runs that find the culprit of a red chain with one runner, the chain's own run left out."""
    rate = _bounded(failure_rate)
    weight = sum((1 - rate) ** place for place in range(size))
    return _trees(rate, 1, size)[0][size] / weight


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


def _split(green: int, red: int, failure_rate: float, free: int, flying: tuple[int, ...]) -> tuple[int, ...]:
    """The best prefixes strictly between `green` and `red`, beside those that fly."""
    rate = _bounded(failure_rate)
    bounds = [green, *sorted({prefix for prefix in flying if green < prefix < red}), red]
    if len(bounds) == 2:
        return tuple(green + cut for cut in _cuts(red - green, rate, free))
    found: list[int] = []
    for _ in range(free):
        wide = [(low, high) for low, high in pairwise(bounds) if high - low > 1]
        if not wide:
            break
        low, high = max(wide, key=lambda gap: (1 - rate) ** gap[0] - (1 - rate) ** gap[1])
        found.append(low + _cuts(high - low, rate, 1)[0])
        bounds = sorted([*bounds, found[-1]])
    return tuple(sorted(found))


def _cuts(places: int, rate: float, runners: int) -> tuple[int, ...]:
    """Where to cut a red stretch of `places` > 1: the ends of all its parts but the last."""
    branches = min(runners, MOST_BRANCHES)
    # Tables of a few sizes serve every stretch.
    _, firsts = _trees(rate, branches, 1 << (places - 1).bit_length())
    cuts: list[int] = []
    done = 0
    for parts in range(branches + 1, 1, -1):
        done += firsts[parts][places - done]
        if done == places:
            break
        cuts.append(done)
    return tuple(cuts)


@lru_cache(maxsize=64)
def _trees(rate: float, runners: int, size: int) -> tuple[list[float], list[list[int]]]:
    """Optimal search trees for red stretches of up to `size` places.

    Place i (from 0) of a stretch has weight q^i, q = 1 - rate. A stretch of m > 1 pays one round
    with its whole weight W(m) and goes on in one of at most k+1 parts:
    cost[m] = W(m) + parts[k+1][m], parts[j][m] = min over s of cost[s] + q^s * parts[j-1][m-s].

    Returns:
        (cost by length; by number of parts and length, the length of the first part).
    """
    powers = [1.0]
    for _ in range(size):
        powers.append(powers[-1] * (1 - rate))
    most = runners + 1
    cost = [0.0] * (size + 1)
    parts = [[0.0] * (size + 1) for _ in range(most + 1)]
    firsts = [[0, 1, *[0] * (size - 1)] for _ in range(most + 1)]
    for m in range(2, size + 1):
        for j in range(2, most + 1):
            rest = parts[j - 1]
            # Earlier places weigh more, so a first part is never longer than those behind it.
            longest = min(-(-m // j), m - 1)
            parts[j][m], firsts[j][m] = min((cost[s] + powers[s] * rest[m - s], s) for s in range(1, longest + 1))
        cost[m] = sum(powers[:m]) + parts[most][m]
        parts[1][m], firsts[1][m] = cost[m], m
        for j in range(2, most):
            if cost[m] <= parts[j][m]:
                parts[j][m], firsts[j][m] = cost[m], m
    return cost, firsts


def _bounded(failure_rate: float) -> float:
    """The rate that trees are built for: three digits, so that a slowly moving rate keeps its trees."""
    return round(min(max(failure_rate, _LEAST_RATE), _HIGHEST_RATE), 3)
