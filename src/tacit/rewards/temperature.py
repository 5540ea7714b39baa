"""Temperature: score differences made log-odds of preference on rows that the fit has not seen."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from tacit.rewards.objectives import Objective, Targets, bradley_terry


def temperature_of(
    scores: Tensor, targets: Targets, weight: Tensor, objective: Objective, own: Tensor | None = None
) -> float:
    """The T > 0 that minimises the held-out loss of scores / T (Guo et al. 2017, arXiv 1706.04599), by golden section.

    The likelihood is Bradley-Terry's for comparisons whatever was fitted, since that is what a score difference
    promises; ties count as half a win each. Where the objective has a `likelihood` of its own it is that one, with
    the objective's `own` parameters (1, p) as they were fitted. Rows of weight 0 do not count.
    """
    if not objective.logits:
        return 1.0
    from scipy.optimize import minimize_scalar

    loss = objective.likelihood or (bradley_terry if objective.kind == "comparison" else objective.loss)
    plain = replace(targets, label_smoothing=0.0, margin=torch.zeros_like(targets.margin))
    parameters = torch.zeros(1, 0) if own is None else own.detach()

    def held_out_loss(log_temperature: float) -> float:
        return float((loss(scores / math.exp(log_temperature), plain, parameters)[0] * weight).mean())

    found = minimize_scalar(held_out_loss, bounds=(-2.3, 2.3), method="bounded", options={"xatol": 1e-3})
    return math.exp(float(found.x))
