"""Losses that wrong labels cannot drag far, for comparisons and outcomes.

A label is one bit: that the logit d is positive (d = s_chosen - s_rejected - margin of a comparison, the score itself
of an outcome). Each loss here is a function l of the logit of what was said; a tie counts as half a label each way.

- `flips`: each label was turned round with probability e < 1/2, P(said) = (1 - e) sigma(d) + e sigma(-d), so
  l(d) = -log[(1 - e) sigma(d) + e sigma(-d)] (Mnih and Hinton 2012; robust DPO and cDPO are its relatives). e is given,
  or learnt beside the weights as e = sigma(10 own) / 2. The fitted d are log-odds of the *true* preference.
- `gce`: l(d) = (1 - sigma(d)^q) / q, q = 0.7 (generalised cross entropy, Zhang and Sabuncu 2018, arXiv 1805.07836);
  q -> 0 is the cross entropy, q = 1 the symmetric loss.
- `symmetric`: l(d) = sigma(-d), for which l(d) + l(-d) = 1, so that the minimiser of its mean is the same with and
  without flips at one rate (Ghosh, Manwani and Sastry 2015; van Rooyen et al. 2015).

`gce` and `symmetric` are no likelihoods: their scores become log-odds of what people *say* by the temperature alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from tacit.errors import TacitError
from tacit.rewards.objectives import Objective, Targets

Robust = Literal["none", "flips", "gce", "symmetric"]
_STEEP = 10.0
"""Makes the gradient in `own` as large as those in the weights, so that a fit that ends by its size ends for both."""
START = math.log(0.1 / 0.4) / _STEEP
"""Where a learnt flip rate starts: sigma(10 START) / 2 = .1."""
_Q = 0.7


def flip_aware(logit: Tensor, rate: Tensor | float) -> Tensor:
    """-log[(1 - e) sigma(d) + e sigma(-d)] for a flip rate e in (0, 1/2), of any shape that broadcasts."""
    e = torch.as_tensor(rate, dtype=logit.dtype)
    return -torch.logaddexp(torch.log1p(-e) + logsigmoid(logit), torch.log(e) + logsigmoid(-logit))


def generalised_cross_entropy(logit: Tensor, q: float = _Q) -> Tensor:
    """(1 - sigma(d)^q) / q."""
    return -torch.expm1(q * logsigmoid(logit)) / q


def symmetric(logit: Tensor) -> Tensor:
    """sigma(-d)."""
    return torch.sigmoid(-logit)


def flip_rate(own: Tensor) -> Tensor:
    """The learnt flip rate sigma(10 own) / 2 from the objective's own parameter (members, p), (members, 1)."""
    return torch.sigmoid(_STEEP * own[:, :1]) / 2


def robust_objective(base: Objective, how: Robust, rate: float | None = None) -> Objective:
    """`base` (Bradley-Terry or outcome) with one of the losses above in place of its own.

    Raises `TacitError` for another objective, an unknown loss, or a rate outside (0, 1/2).
    """
    if how == "none":
        if rate is not None:
            raise TacitError("a flip rate says nothing without the loss that uses it. Add --robust flips")
        return base
    if how not in get_args(Robust):
        raise TacitError(f"no robust loss `{how}`. Choose one of: {', '.join(get_args(Robust))}")
    if base.name not in ("bradley_terry", "outcome"):
        raise TacitError(f"robust losses replace those of bradley_terry and outcome, not of {base.name}")
    if rate is not None and how != "flips":
        raise TacitError(f"the loss `{how}` takes no flip rate. Use --robust flips, or drop --flip-rate")
    name = f"{base.name}, {how}"
    if how != "flips":
        plain: Callable[[Tensor], Tensor] = generalised_cross_entropy if how == "gce" else symmetric
        return replace(base, name=name, loss=partial(_of_labels, lambda logit, own: plain(logit)))
    if rate is None:
        loss = partial(_of_labels, lambda logit, own: flip_aware(logit, flip_rate(own)))
        return replace(base, name=name, loss=loss, initial=(START,), likelihood=loss)
    if not 0 < rate < 0.5:
        raise TacitError(f"option `flip_rate` is {rate!r}: a share of labels between 0 and one half is needed")
    known = rate
    loss = partial(_of_labels, lambda logit, own: flip_aware(logit, known))
    return replace(base, name=name, loss=loss, likelihood=loss)


def _of_labels(loss: Callable[[Tensor, Tensor], Tensor], scores: Tensor, targets: Targets, own: Tensor) -> Tensor:
    """Losses (members, n) of scores (members, n, k) with a loss of logits, half of it each way for a tie."""
    if scores.shape[-1] == 2:
        against = torch.where(targets.tie, 0.5, 0.0).to(scores)
        logit = scores[..., 0] - scores[..., 1] - torch.where(targets.tie, 0.0, targets.margin).to(scores)
    else:
        against, logit = 1 - targets.target, scores[..., 0]
    return (1 - against) * loss(logit, own) + against * loss(-logit, own)
