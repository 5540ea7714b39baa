"""The flip model: votes that are noisy where a forecast is near 1/2, and wrong at a constant rate everywhere else.

    P(a preferred to b) = (1 - 2 e) sigma(k d) + e,     slope k, flip rate e

By maximum likelihood over a grid, so that every bootstrap resample is fitted by one product of sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tacit.audit.bootstrap import Array, Clusters, interval
from tacit.audit.calibration import sigmoid

SLOPES = np.geomspace(0.25, 4.0, 25)
FLIPS = np.r_[0:0.1:0.01, 0.1:0.41:0.025]
_ROWS = 20_000


@dataclass(frozen=True)
class Flips:
    """Estimates with their 95% intervals; None where there is nothing to resample."""

    slope: float
    slope_ci: list[float] | None
    flips: float
    flips_ci: list[float] | None


def fit_flips(
    delta: npt.ArrayLike,
    weight: npt.ArrayLike,
    clusters: Clusters,
    rng: np.random.Generator,
    *,
    resamples: int = 400,
) -> Flips:
    """Slope and flip rate of log-odds (n,) in favour of the side that was preferred; rows of weight 0 do not count.

    A random sample of 20,000 rows stands for more.
    """
    d, w = np.asarray(delta, dtype=np.float64), np.asarray(weight, dtype=np.float64)
    keep = np.sort(rng.permutation(len(d))[:_ROWS])
    d, w = d[keep], w[keep]
    p: Array = sigmoid(d[:, None] * SLOPES[None, :])
    likelihood = (1 - 2 * FLIPS) * p[:, :, None] + FLIPS
    table = w[:, None] * np.log(likelihood.reshape(len(d), -1).clip(1e-12))
    best = int(table.sum(0).argmax())
    slope, flips = float(SLOPES[best // len(FLIPS)]), float(FLIPS[best % len(FLIPS)])
    near = clusters.take(keep)
    if near.smallest < 2:
        return Flips(slope, None, flips, None)
    drawn = near.sums(table, resamples, rng).argmax(1)
    return Flips(slope, interval(SLOPES[drawn // len(FLIPS)]), flips, interval(FLIPS[drawn % len(FLIPS)]))
