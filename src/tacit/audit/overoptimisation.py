r"""Over-optimisation: where choosing harder by a learnt reward stops helping by the true one.

With d = sqrt(KL) from where one started, the true (gold) reward gained is, empirically (Gao, Schulman and Hilton 2023,
"Scaling laws for reward model overoptimization", equations 1 and 2),

    best of n:  R(d) = d (alpha - beta d),        highest at d = alpha / (2 beta)
    tuning:     R(d) = d (alpha - beta log d),    highest at d = exp(alpha / beta - 1)

for beta > 0; for beta <= 0 the curve has no peak in reach. Both are linear in (alpha, beta), so that a fit is weighted
least squares in closed form, and all bootstrap resamples are fitted at once.

The gold reward of the best of n is estimated exactly, not by sampling. For one prompt with N samples without
replacement see `tacit.improve.best_of_n`; for a pool of items with bootstrap weights w, sorted by proxy, drawing n with
replacement has its winner at place i with probability F_i^n - F_{i-1}^n, with F_i = sum_{j<=i} w_j / sum_j w_j.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tacit.audit.bootstrap import Array, interval
from tacit.errors import TacitError
from tacit.improve.best_of_n import curve_ns, expected_best_of_n, kl_best_of_n

Law = Literal["best_of_n", "tuning"]


@dataclass(frozen=True)
class Laws:
    """Fitted laws, one for each resample: `alpha` and `beta` (r,)."""

    law: Law
    alpha: Array
    beta: Array

    @property
    def peak(self) -> Array:
        """KL in nats at which the gold reward is highest, (r,); inf where it never falls, 0 where it never rises."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            d = self.alpha / (2 * self.beta) if self.law == "best_of_n" else np.exp(self.alpha / self.beta - 1)
            kl = np.where(self.beta > 0, d**2, np.inf)
        return np.where((self.alpha <= 0) & (self.law == "best_of_n"), 0.0, kl)

    def __call__(self, kl: npt.ArrayLike) -> Array:
        """Gold reward gained at these KL (k,), of every resample: (r, k)."""
        basis = _basis(np.asarray(kl, dtype=np.float64), self.law)
        gained: Array = np.stack([self.alpha, self.beta], axis=1) @ basis.T
        return gained


def fit_laws(kl: npt.ArrayLike, gained: npt.ArrayLike, law: Law = "best_of_n") -> Laws:
    """Least squares of the law on curves `gained` (r, k) of gold reward above the start, at KL (k,) in nats.

    Raises `TacitError` for fewer than three points beyond KL = 0: two parameters need more.
    """
    at, values = np.asarray(kl, dtype=np.float64), np.atleast_2d(np.asarray(gained, dtype=np.float64))
    if values.shape[1] != len(at) or (at < 0).any():
        raise TacitError(f"{values.shape[1]} points of gold reward at {len(at)} values of KL (>= 0): give one each")
    used = at > 0
    if used.sum() < 3:
        raise TacitError(
            f"{int(used.sum())} points beyond KL = 0: a law needs three or more. Give more n, or a longer run"
        )
    solution = np.linalg.lstsq(_basis(at[used], law), values[:, used].T, rcond=None)[0]
    return Laws(law, solution[0], solution[1])


def _basis(kl: Array, law: Law) -> Array:
    d = np.sqrt(kl)
    log = np.log(np.where(d > 0, d, 1.0))
    return np.stack([d, -(d**2) if law == "best_of_n" else -d * log], axis=1)


def pooled_best_of_n(proxy: npt.ArrayLike, gold: npt.ArrayLike, weights: npt.ArrayLike, ns: Sequence[int]) -> Array:
    """E[gold of the proxy's best of n] over one pool of items (m,), for each weighting (r, m): (r, len(ns)).

    Draws are with replacement; the winner among equal proxies is any of them.
    """
    p, g, w = (np.asarray(a, dtype=np.float64) for a in (proxy, gold, np.atleast_2d(np.asarray(weights))))
    order = np.argsort(p, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(p[order]) > 0])
    mass = np.add.reduceat(w[:, order], starts, axis=1)
    value = np.divide(np.add.reduceat(w[:, order] * g[order], starts, axis=1), mass, where=mass > 0, out=mass * 0.0)
    share = np.cumsum(mass, axis=1) / mass.sum(1, keepdims=True)
    before = np.concatenate([np.zeros((len(w), 1)), share[:, :-1]], axis=1)
    return np.stack([((share**n - before**n) * value).sum(1) for n in ns], axis=1)


def study_curve(
    proxy: npt.ArrayLike,
    gold: npt.ArrayLike,
    ns: Sequence[int] | None = None,
    *,
    forecast_to: float = 1.0,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Best-of-n curves of proxy and gold with their law, peak and gap; JSON-ready.

    `proxy` and `gold` are (prompts, N), resampled by prompt, or (items,) of one pool, resampled by item. Gold is shown
    in its own standard deviations over samples, proxy as well, so that their gap means something. `forecast_to` < 1
    fits the law to that share of the KL range alone, to see whether it would have foretold the rest. `ns` are those of
    `curve_ns` unless given (of one pool powers of two). Raises `TacitError` for fewer than four samples of a prompt.

    Keys, lists over n: `n`, `kl`, `gold`, `gold_ci`, `proxy`, `law`; and `alpha`, `beta`, `peak_kl` (predicted),
    `peak_n`, `measured_peak_n` with its interval, `gap` (promised minus delivered at the largest n), `final_gold`
    (gained there) and `lost` (by which it lies there below the highest point), each with `_ci`.
    """
    p, g = np.asarray(proxy, dtype=np.float64), np.asarray(gold, dtype=np.float64)
    if p.shape != g.shape or p.ndim not in (1, 2) or not (np.isfinite(p).all() and np.isfinite(g).all()):
        raise TacitError(f"proxy of shape {p.shape} and gold of shape {g.shape}: give two finite arrays of one shape")
    most = p.shape[-1]
    # From one pool draws are with replacement, and as many as there are items say little: powers of two alone.
    usual = curve_ns(most) if p.ndim == 2 else [2**k for k in range(most.bit_length())]
    counts = usual if ns is None else [int(n) for n in ns]
    p, g = (p - p.mean()) / (p.std() or 1.0), (g - g.mean()) / (g.std() or 1.0)
    rng = np.random.default_rng(seed)
    if p.ndim == 1:
        weights = rng.multinomial(most, np.full(most, 1 / most), size=resamples).astype(np.float64)
        weights = np.concatenate([np.ones((1, most)), weights])
        curves = {name: pooled_best_of_n(p, values, weights, counts) for name, values in (("gold", g), ("proxy", p))}
    else:
        weights = rng.multinomial(len(p), np.full(len(p), 1 / len(p)), size=resamples) / len(p)
        weights = np.concatenate([np.full((1, len(p)), 1 / len(p)), weights])
        curves = {name: weights @ expected_best_of_n(p, v, counts) for name, v in (("gold", g), ("proxy", p))}
    kl = kl_best_of_n(counts)
    gained = curves["gold"] - curves["gold"][:, :1]
    early = kl <= forecast_to * kl[-1]
    laws = fit_laws(kl[early], gained[:, early])
    peak = laws.peak
    measured = np.array(counts)[curves["gold"].argmax(1)]
    lost = gained[:, gained[0].argmax()] - gained[:, -1]
    gap = (curves["proxy"][:, -1] - curves["proxy"][:, 0]) - gained[:, -1]
    return {
        "n": counts,
        "kl": kl.tolist(),
        "gold": curves["gold"][0].tolist(),
        "gold_ci": [interval(column) for column in curves["gold"][1:].T],
        "proxy": curves["proxy"][0].tolist(),
        "law": (laws(kl)[0] + curves["gold"][0, 0]).tolist(),
        **_with_interval("alpha", laws.alpha),
        **_with_interval("beta", laws.beta),
        **_with_interval("peak_kl", peak),
        **_with_interval("peak_n", np.array([n_at_kl(value) for value in peak])),
        **_with_interval("measured_peak_n", measured.astype(np.float64)),
        **_with_interval("gap", gap),
        **_with_interval("final_gold", gained[:, -1]),
        **_with_interval("lost", lost),
    }


def n_at_kl(kl: float) -> float:
    """The n whose best-of-n lies at this KL bound, by inverting log n - (n - 1) / n; inf beyond any n in use."""
    if not kl < 20:
        return float("inf")
    low, high = 0.0, 25.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if kl_best_of_n(np.exp(middle)) < kl else (low, middle)
    return float(np.exp(low))


def _with_interval(name: str, values: Array) -> dict[str, Any]:
    """The first value as the estimate and the rest as its bootstrap; None stands for infinity, which JSON lacks."""
    if len(values) < 3:
        return {name: _finite(values[0]), f"{name}_ci": None}
    low, high = np.quantile(values[1:], [0.025, 0.975], method="nearest")
    return {name: _finite(values[0]), f"{name}_ci": [_finite(low), _finite(high)]}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
