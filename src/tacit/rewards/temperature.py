"""Temperature: score differences made log-odds of preference on rows that the fit has not seen.

`fit_temperature` is the one solver, on arrays of log-odds; fits and audits both call it. `calibrate` looks at scores as
an objective does, and refits the objective's own parameters beside the temperature where its likelihood has any.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

    from tacit.rewards.objectives import Objective, Targets

_SHARPEST, _FLATTEST = 1e3, 1e-3
_FITTED = (0.1, 10.0)
"""The range of a fit's temperature: few held-out rows that agree by chance would otherwise make a reward certain."""


def sigmoid(logit: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """1 / (1 + exp(-logit)) without overflow."""
    x = np.asarray(logit, dtype=np.float64)
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def fit_temperature(delta: npt.ArrayLike, value: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> float:
    """The T > 0 that minimises the negative log-likelihood of sigma(delta / T) (Guo et al. 2017, arXiv 1706.04599).

    `delta` (n,) are log-odds, `value` (n,) in [0, 1] what happened (1/2 for a tie), `weight` (n,) at least 0. The loss
    is convex in a = 1 / T with gradient sum w delta (sigma(a delta) - y): Newton steps on log a inside a bracket,
    bisection where a step leaves it. T stays within 1e-3..1e3; without any rows, or with all deltas 0, it is 1.
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


def temperature_of(scores: Tensor, targets: Targets, weight: Tensor, objective: Objective) -> float:
    """The temperature, within .1..10, of held-out `scores` (1, n, k); see `calibrate`."""
    return calibrate(scores, targets, weight, objective)[0]


def calibrate(
    scores: Tensor, targets: Targets, weight: Tensor, objective: Objective, own: Tensor | None = None
) -> tuple[float, list[float]]:
    """The temperature T, within .1..10, with the least held-out loss of scores / T, and the objective's own parameters.

    Comparisons are read as Bradley-Terry reads them whatever was fitted, since that is what a score difference
    promises, and ties count as half a win each; outcomes by their labels; rankings by their own likelihood. Margins and
    label smoothing are left out, and rows of weight 0 do not count.

    Where the objective has a `likelihood` with parameters `own` (1, p), they are refitted together with T, because the
    ridge shrinks the scores of the fit, and its own parameters (the rate of flipped labels, say) make up for that; else
    the second result is empty.
    """
    if not objective.logits:
        return 1.0, []
    if objective.likelihood is None and objective.kind != "ranking":
        pair = objective.kind == "comparison"
        delta = scores[0, :, 0] - scores[0, :, 1] if pair else scores[0, :, 0]
        value = 1.0 - 0.5 * targets.tie.numpy() if pair else targets.target.numpy()
        found = fit_temperature(delta.detach().numpy(), value, weight.numpy())
        return float(np.clip(found, *_FITTED)), []
    return _by_likelihood(scores, targets, weight, objective, own)


def _by_likelihood(
    scores: Tensor, targets: Targets, weight: Tensor, objective: Objective, own: Tensor | None
) -> tuple[float, list[float]]:
    import torch
    from scipy.optimize import minimize

    loss = objective.likelihood or objective.loss
    plain = replace(targets, label_smoothing=0.0, margin=torch.zeros_like(targets.margin))
    start = [] if own is None or objective.likelihood is None else [float(value) for value in own[0]]

    def held_out_loss(point: npt.NDArray[np.float64]) -> float:
        parameters = torch.tensor(point[1:], dtype=torch.float32)[None]
        return float((loss(scores / math.exp(point[0]), plain, parameters)[0] * weight).mean())

    starts = [[0.0, *start]]
    if start:
        # A rate near zero hardly moves the loss, and a search that begins there ends there: begin elsewhere as well.
        starts += [[t, *given] for t in (0.0, -1.0) for given in (objective.initial, [0.0] * len(start))]
    searches = [
        minimize(
            held_out_loss,
            beginning,
            method="Nelder-Mead",
            bounds=[tuple(np.log(_FITTED)), *[(None, None)] * len(start)],
            options={"xatol": 1e-3, "fatol": 1e-7},
        )
        for beginning in starts
    ]
    found = min(searches, key=lambda search: float(search.fun))
    return math.exp(float(found.x[0])), [float(value) for value in found.x[1:]]
