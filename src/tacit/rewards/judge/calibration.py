"""A judge's raw scores made log-odds of what people say, or ratings on their scale. Pure functions.

For comparisons P(a over b) = sigma(slope (s_a - s_b)), a temperature with the order kept; for outcomes
P(good) = sigma(slope s + intercept) (Platt 1999), both by maximum likelihood with Platt's targets (n + 1) / (n + 2) for
1, so that judges who are always right on few labels do not become certain. For ratings the line of least squares.
How good raw and calibrated scores are is measured across folds of prompts: calibrated by the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

FOLDS = 5
_LOG_SLOPE = (-8.0, 8.0)


@dataclass(frozen=True)
class Calibration:
    """score = slope raw + intercept."""

    slope: float = 1.0
    intercept: float = 0.0

    def __call__(self, raw: np.ndarray) -> np.ndarray:
        """Scores of the shape of `raw`."""
        return self.slope * raw + self.intercept


def calibrate(kind: str, raw: np.ndarray, target: np.ndarray, weight: np.ndarray) -> Calibration:
    """The calibration of raw scores (n,), score differences for comparisons, to targets (n,): 1, 0 or 1/2, or ratings.

    `kind` is comparison, outcome or rating.
    """
    if kind == "rating":
        centre = np.average(raw, weights=weight)
        spread = np.average((raw - centre) ** 2, weights=weight)
        slope = np.average((raw - centre) * target, weights=weight) / spread if spread > 0 else 0.0
        return Calibration(float(slope), float(np.average(target, weights=weight) - slope * centre))
    from scipy.optimize import minimize, minimize_scalar

    if kind == "comparison":
        smoothed = (target * len(target) + 1) / (len(target) + 2)
        found = minimize_scalar(
            lambda log_slope: nll(np.exp(log_slope) * raw, smoothed, weight), bounds=_LOG_SLOPE, method="bounded"
        )
        return Calibration(float(np.exp(found.x)), 0.0)
    good, bad = float((target == 1).sum()), float((target == 0).sum())
    smoothed = np.where(target == 1, (good + 1) / (good + 2), 1 / (bad + 2))
    scale = float(np.std(raw)) or 1.0
    line = minimize(lambda at: nll(at[0] * raw / scale + at[1], smoothed, weight), np.array([1.0, 0.0]), method="BFGS")
    return Calibration(float(line.x[0] / scale), float(line.x[1]))


def nll(logit: np.ndarray, target: np.ndarray, weight: np.ndarray) -> float:
    """Mean of -t log sigma(z) - (1 - t) log sigma(-z), in nats."""
    loss = np.logaddexp(0.0, -logit) + (1 - target) * logit
    return float(np.average(loss, weights=weight))


def held_out(
    kind: str, raw: np.ndarray, target: np.ndarray, weight: np.ndarray, blocks: np.ndarray, seed: int
) -> dict[str, Any]:
    """Raw and calibrated scores against people: accuracy and NLL, or error and correlation for ratings.

    `blocks` (n, 2) are what must not lie on both sides of a fold. A fold whose rest could not be fitted is left out.
    """
    from tacit.rewards.examples import held_out as fold_of

    fold, train = fold_of(blocks, FOLDS, np.random.default_rng(seed))
    calibrated = np.full(len(raw), np.nan)
    for number in range(FOLDS):
        test = fold == number
        rest = train[number]
        if test.any() and rest.any() and (kind != "outcome" or len(np.unique(target[rest])) == 2):
            calibrated[test] = calibrate(kind, raw[rest], target[rest], weight[rest])(raw[test])
    keep = np.isfinite(calibrated)
    if not keep.any():
        return {"n": 0, "raw": None, "calibrated": None}
    sides = {"raw": raw[keep], "calibrated": calibrated[keep]}
    return {
        "n": int(keep.sum()),
        **{name: _measures(kind, scores, target[keep], weight[keep]) for name, scores in sides.items()},
    }


def _measures(kind: str, scores: np.ndarray, target: np.ndarray, weight: np.ndarray) -> dict[str, float | None]:
    if kind == "rating":
        varies = np.ptp(scores) > 0 and np.ptp(target) > 0
        error = float(np.sqrt(np.average((scores - target) ** 2, weights=weight)))
        return {"rmse": error, "correlation": float(np.corrcoef(scores, target)[0, 1]) if varies else None}
    credit = np.where(target == 0.5, 0.5, (np.sign(scores) * (2 * target - 1) + 1) / 2)
    return {"accuracy": float(np.average(credit, weights=weight)), "nll": nll(scores, target, weight)}
