"""Do the probabilities of a reward come true? Negative log-likelihood, calibration error and temperature.

A comparison of a and b is read as the forecast p = sigma(delta), delta = score(a) - score(b), of the value y: 1 where
a was preferred, 0 where b was, 1/2 for a tie (so p forecasts P(a wins) + P(tie) / 2). An outcome is the same with delta
its score and y its label.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tacit.audit.bootstrap import Array, Index, ratio

BINS = 15
_SHARPEST, _FLATTEST = 1e3, 1e-3


def sigmoid(logit: npt.ArrayLike) -> Array:
    """1 / (1 + exp(-logit)) without overflow."""
    x = np.asarray(logit, dtype=np.float64)
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def nll(delta: npt.ArrayLike, value: npt.ArrayLike) -> Array:
    """Negative log-likelihood per row in nats, (n,): log(1 + exp(-delta)) for y = 1, the mean of both if tied."""
    d, y = np.asarray(delta, dtype=np.float64), np.asarray(value, dtype=np.float64)
    return np.logaddexp(0.0, -d) + (1.0 - y) * d


def equal_mass_bins(probability: npt.ArrayLike, bins: int = BINS) -> Index:
    """Bin of every forecast, (n,) in 0..bins-1: as many rows in each as ties allow; equal forecasts share a bin."""
    p = np.asarray(probability, dtype=np.float64)
    edges = np.unique(np.quantile(p, np.arange(1, bins) / bins)) if len(p) else np.empty(0)
    return np.searchsorted(edges, p, side="left").astype(np.intp)


def residuals(delta: npt.ArrayLike, value: npt.ArrayLike, *, both_orders: bool, bins: int = BINS) -> Array:
    """Signed calibration residuals y - p of every row, laid out by bin: (n, bins), so that ECE is a function of sums.

    With `both_orders` each comparison counts in either order, as (p, y) and as (1 - p, 1 - y): the two residuals differ
    in sign only and lie in mirrored bins, so which side was called a cannot matter.
    """
    p, y = sigmoid(delta), np.asarray(value, dtype=np.float64)
    n = len(p)
    out = np.zeros((n, bins))
    rows = np.arange(n)
    if both_orders:
        bin_of = equal_mass_bins(np.concatenate([p, sigmoid(-np.asarray(delta, dtype=np.float64))]), bins)
        np.add.at(out, (rows, bin_of[:n]), (y - p) / 2)
        np.add.at(out, (rows, bin_of[n:]), (p - y) / 2)
    else:
        out[rows, equal_mass_bins(p, bins)] = y - p
    return out


def ece_of_sums(residual_sums: npt.ArrayLike, weight: npt.ArrayLike) -> Array:
    """ECE = sum_b |sum_{i in b} w_i (y_i - p_i)| / sum_i w_i (Naeini et al. 2015) from sums (..., bins) and (...)."""
    return ratio(np.abs(np.asarray(residual_sums, dtype=np.float64)).sum(axis=-1), weight)


def ece(
    delta: npt.ArrayLike,
    value: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    both_orders: bool = True,
    bins: int = BINS,
) -> float:
    """Expected calibration error with equal-mass bins; of comparisons on both orders of the pair."""
    table = residuals(delta, value, both_orders=both_orders, bins=bins)
    w = np.ones(len(table)) if weight is None else np.asarray(weight, dtype=np.float64)
    return float(ece_of_sums(w @ table, w.sum()))


def ece_noise_floor(
    delta: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    weight: npt.ArrayLike | None = None,
    tie_share: float = 0.0,
    both_orders: bool = True,
    bins: int = BINS,
    simulations: int = 200,
) -> float:
    """The ECE to expect on these very forecasts if they were perfectly calibrated: what is left is chance.

    Values are drawn with E[y] = p: a tie with probability t = min(tie_share, 2p, 2 - 2p), else 1 with p - t/2. ECE is
    biased upwards by chance (a mean of absolute values), so it means something only beside this number.
    """
    p = sigmoid(delta)
    if len(p) == 0:
        return float("nan")
    w = np.ones(len(p)) if weight is None else np.asarray(weight, dtype=np.float64)
    unit = residuals(delta, p + 1.0, both_orders=both_orders, bins=bins)  # (n, bins): what a residual of 1 adds where
    tie = np.minimum(tie_share, 2 * np.minimum(p, 1 - p))
    total = 0.0
    runs = int(np.clip(20_000_000 // len(p), 20, simulations))
    for _ in range(runs):
        u = rng.random(len(p))
        y = np.where(u < p - tie / 2, 1.0, np.where(u < p + tie / 2, 0.5, 0.0))
        total += float(ece_of_sums((w * (y - p)) @ unit, w.sum()))
    return total / runs


def fit_temperature(delta: npt.ArrayLike, value: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> float:
    """The temperature T > 0 that minimises the NLL of sigma(delta / T) (Guo et al. 2017), kept within 1e-3..1e3.

    The NLL is convex in a = 1/T with gradient sum w delta (sigma(a delta) - y): Newton steps on log a inside a bracket,
    bisection where a step leaves it. Without any rows, or with all deltas 0, T = 1.
    """
    d, y = np.asarray(delta, dtype=np.float64), np.asarray(value, dtype=np.float64)
    w = np.ones(len(d)) if weight is None else np.asarray(weight, dtype=np.float64)
    if not np.any(w * d):
        return 1.0
    low, high, t = np.log(_FLATTEST), np.log(_SHARPEST), 0.0
    for _ in range(60):
        a = np.exp(t)
        p = sigmoid(a * d)
        gradient = float(np.sum(w * d * (p - y))) * a
        curvature = float(np.sum(w * d * d * p * (1 - p))) * a * a + gradient
        low, high = (t, high) if gradient < 0 else (low, t)
        step = t - gradient / curvature if curvature > 0 else np.inf
        following = step if low < step < high else (low + high) / 2
        if abs(following - t) < 1e-9:
            break
        t = following
    return float(np.exp(-t))


def cross_fitted(
    delta: npt.ArrayLike,
    value: npt.ArrayLike,
    clusters: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    weight: npt.ArrayLike | None = None,
    folds: int = 5,
) -> Array:
    """Deltas divided by a temperature that was fitted on other clusters: (n,); no row sees its own temperature's data.

    `clusters` (n,) int is split into `folds` parts at random. With a single cluster nothing can be fitted and the
    deltas come back as they are.
    """
    d, y = np.asarray(delta, dtype=np.float64), np.asarray(value, dtype=np.float64)
    w = np.ones(len(d)) if weight is None else np.asarray(weight, dtype=np.float64)
    names, cluster = np.unique(np.asarray(clusters), return_inverse=True)
    if len(names) < 2:
        return d.copy()
    fold_of = rng.permutation(len(names)) % min(folds, len(names))
    fold = fold_of[cluster.reshape(-1)]
    out = np.empty_like(d)
    for k in np.unique(fold):
        held = fold == k
        out[held] = d[held] / fit_temperature(d[~held], y[~held], w[~held])
    return out
