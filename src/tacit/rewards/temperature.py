"""Temperature: score differences made log-odds of preference on rows that the fit has not seen."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from tacit.rewards.objectives import Objective, Targets, bradley_terry


def temperature_of(scores: Tensor, targets: Targets, weight: Tensor, objective: Objective) -> float:
    """The T > 0 that minimises the held-out loss of scores / T (Guo et al. 2017, arXiv 1706.04599), by golden section.

    The likelihood is Bradley-Terry's for comparisons whatever was fitted, since that is what a score difference
    promises; ties count as half a win each. An objective with a `likelihood` is calibrated by that. Rows of weight 0 do
    not count.
    """
    return calibrate(scores, targets, weight, objective)[0]


def calibrate(
    scores: Tensor, targets: Targets, weight: Tensor, objective: Objective, own: Tensor | None = None
) -> tuple[float, list[float]]:
    """The temperature, and the objective's own parameters `own` (1, p) where its `likelihood` has any.

    Both are refitted together on held-out rows then, because the ridge shrinks the scores of the fit, and its own
    parameters (the rate of flipped labels, say) make up for that. Without such a likelihood the second is empty.
    """
    if not objective.logits:
        return 1.0, []
    from scipy.optimize import minimize, minimize_scalar

    loss = objective.likelihood or (bradley_terry if objective.kind == "comparison" else objective.loss)
    plain = replace(targets, label_smoothing=0.0, margin=torch.zeros_like(targets.margin))

    def held_out_loss(log_temperature: float, parameters: Tensor) -> float:
        return float((loss(scores / math.exp(log_temperature), plain, parameters)[0] * weight).mean())

    if objective.likelihood is None or own is None or own.shape[1] == 0:
        nothing = torch.zeros(1, 0)
        alone = minimize_scalar(
            lambda t: held_out_loss(t, nothing), bounds=(-2.3, 2.3), method="bounded", options={"xatol": 1e-3}
        )
        return math.exp(float(alone.x)), []
    together = minimize(
        lambda point: held_out_loss(point[0], torch.tensor([point[1:].tolist()])),
        [0.0, *own[0].tolist()],
        method="Nelder-Mead",
        bounds=[(-2.3, 2.3)] + [(None, None)] * own.shape[1],
        options={"xatol": 1e-3, "fatol": 1e-7},
    )
    return math.exp(float(together.x[0])), [float(value) for value in together.x[1:]]
