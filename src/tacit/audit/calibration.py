"""Do the probabilities of a reward come true? Negative log-likelihood, calibration error and temperature.

A comparison of a and b is read as the forecast p = sigma(delta), delta = score(a) - score(b), of the value y: 1 where
a was preferred, 0 where b was, 1/2 for a tie (so p forecasts P(a wins) + P(tie) / 2). An outcome is the same with delta
its score and y its label.

The expected calibration error of binned forecasts, ECE = sum_b |R_b| with R_b the weighted sum of the residuals y - p
in bin b over all weight, is a sum of absolute values: noise in R_b can only add to it. A calibrated forecaster shows
an ECE above 0 (`calibrated_eces`), and a bootstrap of ECE adds noise to noise, so that its percentile interval lies
above the estimate. `corrected_ece` asks instead which true error would show what was seen.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tacit.audit.bootstrap import BUDGET, Array, Index, ratio, tail
from tacit.rewards.temperature import fit_temperature as fit_temperature
from tacit.rewards.temperature import sigmoid as sigmoid

BINS = 15

_GRID = 65
"""True errors that are tried, closer together near 0."""

_DRAWN = 20_000_000
"""Values drawn for a noise floor."""


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


def corrected_ece(
    means: npt.ArrayLike, draws: npt.ArrayLike, *, level: float = 0.95, clusters: int | None = None
) -> tuple[float, list[float] | None]:
    """The true calibration error and its interval, from mean residuals (bins,) and their resamples (draws, bins).

    With e the noise of a resample, draws - means, and a direction d with sum |d_b| = 1, a true error t d shows the ECE
    S(t) = sum_b |t d_b + e_b|. The estimate is the t whose median S(t) is the ECE that was seen, 0 where even S(0) has
    a higher one; the interval holds every t >= 0 for which what was seen lies within the central 95% of S(t). Its
    lower end is 0 exactly where perfect calibration is not refuted.

    Two directions are tried: that of the residuals seen, and that of the bins which stand clear of their noise,
    d_b ~ R_b max(0, 1 - 2 s_b^2 / R_b^2) with s_b the spread of e_b. The first suits an error in all bins, the second
    one in few; the estimate is the mean of the two, and the interval covers both. In simulations it covers 91% to 98%
    for errors of any size, in one bin or in all. Near calibration the percentile and the basic bootstrap of ECE cover
    0% to 80%, and the debiased estimate of Kumar, Liang and Ma 2019 (arXiv 1909.10155) keeps half of the bias.
    """
    residual = np.asarray(means, dtype=np.float64)
    noise = np.asarray(draws, dtype=np.float64) - residual
    noise = noise[np.isfinite(noise).all(axis=1)]
    shown = float(np.abs(residual).sum())
    if len(noise) < 2:
        return shown, None
    spread = noise.std(axis=0)
    clear = residual * (1.0 - np.minimum(1.0, 2.0 * spread**2 / np.maximum(residual**2, 1e-300)))
    found = [
        _errors_that_show(shown, d, noise, tail(level, clusters)) for d in (residual, clear) if np.abs(d).sum() > 0
    ]
    if not found:
        found = [_errors_that_show(shown, spread, noise, tail(level, clusters))]
    estimate = float(np.mean([each for each, _, _ in found]))
    return estimate, [min(low for _, low, _ in found), max(high for _, _, high in found)]


def _errors_that_show(shown: float, direction: Array, noise: Array, outside: float) -> tuple[float, float, float]:
    """(estimate, lower, upper) of the error t along a direction at which S(t) has its median, its upper and its lower
    quantile at what was shown."""
    size = np.abs(direction).sum()
    if size == 0:
        return 0.0, 0.0, 0.0
    most = shown + float(np.abs(noise).sum(axis=1).max())
    grid = most * np.linspace(0.0, 1.0, _GRID) ** 2
    d = direction / size
    shows = np.abs(grid[:, None, None] * d + noise).sum(axis=2)  # (grid, draws)
    quantiles = np.quantile(shows, [0.5, 1 - outside, outside], axis=1)
    estimate, low, high = (_crossing(shown, grid, np.maximum.accumulate(curve)) for curve in quantiles)
    return estimate, min(low, estimate), max(high, estimate)


def _crossing(level: float, grid: Array, curve: Array) -> float:
    """Where a curve that does not fall reaches a level, by linear interpolation; the first point if above it there."""
    return float(np.interp(level, curve, grid)) if level > curve[0] else 0.0


def calibrated_eces(
    delta: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    weight: npt.ArrayLike | None = None,
    tie_share: float = 0.0,
    both_orders: bool = True,
    bins: int = BINS,
    simulations: int = 1000,
) -> Array:
    """ECEs that these very forecasts show where they are perfectly calibrated: what chance alone gives, (simulations,).

    Values are drawn with E[y] = p: a tie with probability t = min(tie_share, 2p, 2 - 2p), else 1 with p - t/2. From
    20,000 rows on there are fewer simulations, down to 50.
    """
    p = sigmoid(delta)
    if len(p) == 0:
        return np.full(1, np.nan)
    w = np.ones(len(p)) if weight is None else np.asarray(weight, dtype=np.float64)
    unit = residuals(delta, p + 1.0, both_orders=both_orders, bins=bins)  # (n, bins): what a residual of 1 adds where
    tie = np.minimum(tie_share, 2 * np.minimum(p, 1 - p))
    runs = min(simulations, max(50, _DRAWN // len(p)))
    sums = np.empty((runs, bins))
    step = max(1, BUDGET // len(p))
    for start in range(0, runs, step):
        u = rng.random((min(step, runs - start), len(p)))
        y = np.where(u < p - tie / 2, 1.0, np.where(u < p + tie / 2, 0.5, 0.0))
        sums[start : start + step] = (w * (y - p)) @ unit
    return ece_of_sums(sums, w.sum())


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
    """The mean of `calibrated_eces`: the ECE to expect on these forecasts if they were perfectly calibrated."""
    found = calibrated_eces(
        delta, rng, weight=weight, tie_share=tie_share, both_orders=both_orders, bins=bins, simulations=simulations
    )
    return float(found.mean())


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
