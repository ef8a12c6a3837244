"""Bootstrap intervals from half samples.

The usual bootstrap draws with replacement, so an image meets copies of itself. That ruins statistics of pairs: a
nearest neighbour at distance zero, a kernel at its largest value. Here every resample is a random half, drawn without
replacement (the m-out-of-n bootstrap of Bickel, Goetze and van Zwet 1997, with m = n / 2). Half is the size at which no
scaling is needed: the variance of a mean over m of n given values is s^2 / m (1 - m / n), which for m = n / 2 is
s^2 / n, that of the mean itself.

Halves are drawn per class, because generator and splits fix how many images a class has: their mix does not vary.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

# [resamples + 1, N]: one row per resample, true for the chosen images; row 0 chooses all of them.
Selections = NDArray[np.bool_]


@dataclass(frozen=True)
class Interval:
    """A value and its percentile interval."""

    value: float
    lower: float
    upper: float

    @classmethod
    def of(cls, values: NDArray[np.float64], level: float, *, least: float = -math.inf, most: float = math.inf) -> Self:
        """The interval around `values[0]`, a statistic of all images, from `values[1:]`, the same of halves.

        Statistics of fewer images may be biased (a Frechet distance grows, coverage shrinks), so the halves' quantiles
        are taken about their own mean. What that moves past `least` or `most`, the statistic's range, is cut off.
        """
        value, halves = float(values[0]), values[1:]
        tail = (1 - level) / 2
        lower, upper = value + np.quantile(halves, [tail, 1 - tail]) - halves.mean()
        return cls(value, max(float(lower), least), min(float(upper), most))


def select_halves(strata: NDArray[np.integer], resamples: int, rng: np.random.Generator) -> Selections:
    """Select all images once, then `resamples` random halves of each stratum; strata: [N], such as the labels.

    Of an odd number, the odd one is chosen every other time.
    """
    selections = np.zeros((resamples + 1, len(strata)), bool)
    selections[0] = True
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        sizes = len(rows) // 2 + rng.integers(0, 1 + len(rows) % 2, resamples)
        for selection, size in zip(selections[1:], sizes, strict=True):
            selection[rng.permutation(rows)[:size]] = True
    return selections


def means(values: NDArray[np.generic], selections: Selections) -> NDArray[np.float64]:
    """The mean of values [N] in each selection; NaN where nothing is selected."""
    counts = selections.sum(axis=1)
    result = np.full(len(selections), np.nan)
    np.divide(selections @ values.astype(np.float64), counts, out=result, where=counts > 0)
    return result
