"""Which commits of a chain to gate: find the shortest red prefix with the fewest runs.

A chain of n changes stands on a base that counts as green. Its prefixes 1..n are the candidates;
a prefix is red when gates fail at its last commit. The search gates the whole chain first, and
where that is red, halves what is left by probability: with a failure rate p the culprit is at
place k with weight (1-p)^(k-1) * p, so earlier places weigh more, and each run splits the weight
evenly (an alphabetic tree within a few percent of the optimal one; tests compare it with the
optimum). A red prefix whose predecessor is green ends with the culprit, also where two changes
fail only together.
"""

from __future__ import annotations

import math

from models.base import Frozen

PRIOR_FAILURE_RATE = 1 / 20
"""chance that a submitted change fails its gates, before a rig has a history of its own"""


class Knowledge(Frozen):
    """What the runs so far say. `green < red` always; both count changes from the chain's start."""

    size: int
    green: int = 0
    """the longest prefix known to be green; 0 is the base"""
    red: int | None = None
    """the shortest prefix known to be red"""

    @property
    def culprit(self) -> int | None:
        """The place (from 1) of the change to blame, once it is known."""
        return self.red if self.red is not None and self.green == self.red - 1 else None

    @property
    def settled(self) -> bool:
        """Nothing is left to gate: the chain is green, or its first culprit is known."""
        return self.green == self.size or self.culprit is not None


def next_probe(known: Knowledge, failure_rate: float = PRIOR_FAILURE_RATE) -> int | None:
    """The length of the prefix to gate next, or None when the search is over."""
    if known.settled:
        return None
    if known.red is None:
        return known.size
    return _even_split(known.green, known.red, failure_rate)


def learn(known: Knowledge, prefix: int, *, green: bool) -> Knowledge:
    """What is known after gating `prefix`.

    Raises:
        ValueError: the prefix lies outside what was still open.
    """
    upper = known.size if known.red is None else known.red - 1
    if not known.green < prefix <= upper:
        raise ValueError(f"prefix {prefix} of {known} was not open")
    if green:
        return known.model_copy(update={"green": prefix})
    return known.model_copy(update={"red": prefix})


def batch_size(failure_rate: float, minimum: int, maximum: int) -> int:
    """How many changes to gate together, within the configured bounds.

    n* = round(ln 2 / -ln(1-p)): a batch of that size is green about every second time, where a
    run tells most.
    """
    if failure_rate <= 0:
        best = maximum
    elif failure_rate >= 1:
        best = 1
    else:
        best = round(math.log(2) / -math.log1p(-failure_rate))
    return min(max(best, minimum, 1), max(maximum, 1))


def _even_split(green: int, red: int, failure_rate: float) -> int:
    """The prefix in (green, red) that parts the weight of places green+1..red most evenly."""
    rate = min(max(failure_rate, 1e-9), 0.999)
    places = red - green
    total = -math.expm1(places * math.log1p(-rate))
    left = [abs(-math.expm1(count * math.log1p(-rate)) - total / 2) for count in range(1, places)]
    return green + 1 + left.index(min(left))
