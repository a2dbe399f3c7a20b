"""Whether a series of numbers rises, and how fast: by the slopes between all its points, of which no few can decide."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import NormalDist, median
from typing import Final, NamedTuple

CONFIDENCE: Final = 0.99

# In a quarter of the series; of fewer points no slope is sure enough.
_FEWEST: Final = 2


class Slope(NamedTuple):
    """A slope with the bounds between which it is with that confidence."""

    low: float
    middle: float
    high: float


def slope_between(xs: Sequence[float], ys: Sequence[float]) -> Slope:
    """The median of the slopes between all pairs of points (Theil and Sen), with bounds from Kendall's rank correlation.

    P. K. Sen, Estimates of the regression coefficient based on Kendall's tau, 1968. Needs three points with different `xs`.
    """
    number = len(xs)
    slopes = sorted(
        (ys[later] - ys[earlier]) / (xs[later] - xs[earlier]) for later in range(number) for earlier in range(later)
    )
    ties = sum(many * (many - 1) * (2 * many + 5) for many in Counter(ys).values())
    variance = (number * (number - 1) * (2 * number + 5) - ties) / 18
    width = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * math.sqrt(max(variance, 0))
    first = max(0, math.floor((len(slopes) - width) / 2))
    return Slope(slopes[first], median(slopes), slopes[len(slopes) - 1 - first])


def rising(xs: Sequence[float], ys: Sequence[float]) -> Slope | None:
    """The slope of what rises all the time; None of what does not, comes to rest, comes and goes, or has risen at once.

    It rises in both halves, and is above all of the first half in the end.
    """
    middle, quarter = len(xs) // 2, len(xs) // 4
    if quarter < _FEWEST or min(ys[-quarter:]) <= max(ys[:middle]):
        return None
    halves = (slope_between(xs[:middle], ys[:middle]), slope_between(xs[middle:], ys[middle:]))
    if any(each.low <= 0 for each in halves):
        return None
    whole = slope_between(xs, ys)
    return whole if whole.low > 0 else None
