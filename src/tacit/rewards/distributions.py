"""Distributions of scores: what hidden context may make of one response (distributional preference learning).

Siththaranjan, Laidlaw and Hadfield-Menell 2023 (arXiv 2312.08358). People whose context is not in the data differ about
the same response, so its score is a random variable u(a), and a vote is P(a preferred to b) = P(u(a) > u(b)). Each
family reads a head's outputs (..., outputs) of a response:

- `mean_variance`: u(a) ~ N(mu_a, sd_a^2), outputs (mu, raw), sd = softplus(raw + log(e - 1)), which is 1 at raw = 0:

      P(a > b) = Phi((mu_a - mu_b) / sqrt(sd_a^2 + sd_b^2)),

  with the exact log Phi. (The authors' code takes log sigma(sqrt(2 pi) z), whose slope at 0 is pi / 2 times that of
  log Phi; sqrt(8 / pi) z would match.) Scaling mu and sd alike changes no vote; `Objective.unbiased` settles the unit.
- `categorical`: K values 0, 1/(K-1), .., 1 with p = softmax(outputs), a tie of values being half a win each:

      P(a > b) = sum_{i > j} p_a(i) p_b(j) + 1/2 sum_i p_a(i) p_b(i).

  Any increasing map of the values changes no vote; the entropy of the mean distribution over responses, rewarded with
  a coefficient (.1 as published), spreads them over all values.

A tie that people called is half a vote each way. Margins say nothing here and are not used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from tacit.errors import TacitError
from tacit.rewards.objectives import Objective, Targets

FAMILIES = ("mean_variance", "categorical")

_TINY = 1e-30
_UNIT = math.log(math.e - 1)
"""softplus(_UNIT) = 1."""


class _LogPhi(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        value: Tensor = torch.special.log_ndtr(z)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        slope: Tensor = gradient * math.sqrt(2 / math.pi) / torch.special.erfcx(-z / math.sqrt(2))
        return slope


def log_phi(z: Tensor) -> Tensor:
    """log Phi(z), with the derivative phi(z) / Phi(z) = sqrt(2 / pi) / erfcx(-z / sqrt 2).

    torch's own derivative of `log_ndtr` takes the exponential of a difference of two large numbers: in float32 it is 4%
    off at z = -1000, and anything from 0 to infinity beyond.
    """
    value: Tensor = _LogPhi.apply(z)  # type: ignore[no-untyped-call]
    return value


def split_normal(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Means and standard deviations (...) of outputs (..., 2)."""
    return outputs[..., 0], softplus(outputs[..., 1] + _UNIT).clamp_min(1e-6)


def normal_votes(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """log P(first > second) and log P(second > first), (members, n), of outputs (members, n, 2, 2)."""
    mean, sd = split_normal(outputs)
    z = (mean[..., 0] - mean[..., 1]) / (sd[..., 0].square() + sd[..., 1].square()).sqrt()
    return log_phi(z), log_phi(-z)


def categorical_votes(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """log P(first > second) and log P(second > first), (members, n), of outputs (members, n, 2, K)."""
    p = outputs.softmax(-1)
    below = p.cumsum(-1) - p / 2  # what lies below each value, and half of what lies on it
    win = (p[..., 0, :] * below[..., 1, :]).sum(-1)
    lose = (p[..., 1, :] * below[..., 0, :]).sum(-1)
    return win.clamp_min(_TINY).log(), lose.clamp_min(_TINY).log()


def normal_moments(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (...) of u."""
    return split_normal(outputs)


def categorical_moments(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (...) of u, in [0, 1]."""
    p, values = outputs.softmax(-1), torch.linspace(0, 1, outputs.shape[-1])
    mean = p @ values
    return mean, (p @ values.square() - mean.square()).clamp_min(0).sqrt()


def normal_quantile(outputs: Tensor, q: float) -> Tensor:
    """mu + sd Phi^-1(q), (...)."""
    mean, sd = split_normal(outputs)
    return mean + sd * float(torch.special.ndtri(torch.tensor(q, dtype=torch.float64)))


def categorical_quantile(outputs: Tensor, q: float) -> Tensor:
    """The q-quantile (...) of the distribution whose mass is spread evenly over a bin around each value.

    The bins have width 1 / (K - 1), so that the median of a point mass is its value and the quantile moves smoothly
    with the probabilities.
    """
    p = outputs.double().softmax(-1)
    count = p.shape[-1]
    upper = p.cumsum(-1)
    place = (upper < q).sum(-1, keepdim=True).clamp_max(count - 1)
    mass = p.gather(-1, place).clamp_min(1e-30)
    inside = ((q - (upper.gather(-1, place) - mass)) / mass).clamp(0, 1)
    found: Tensor = (place + inside - 0.5)[..., 0] / (count - 1)
    return found.float()


def explained_variance(mean: Tensor, sd: Tensor) -> Tensor:
    """r^2 = Var(E u) / (Var(E u) + E Var(u)) over the last axis, the responses.

    The share of the variance of scores that the means explain, as the paper's released code computes it. It falls with
    hidden context, and also with plain noise of votes.
    """
    between = mean.var(-1, unbiased=False)
    return between / (between + sd.square().mean(-1)).clamp_min(1e-30)


@dataclass(frozen=True)
class Family:
    """One way to describe the scores that a response may have."""

    name: str
    outputs: int
    votes: Callable[[Tensor], tuple[Tensor, Tensor]]
    moments: Callable[[Tensor], tuple[Tensor, Tensor]]
    quantile: Callable[[Tensor, float], Tensor]


def family(name: str, atoms: int = 10) -> Family:
    """The family by name; raises `TacitError` for an unknown one, or too few `atoms` of `categorical`."""
    if name == "mean_variance":
        return Family(name, 2, normal_votes, normal_moments, normal_quantile)
    if name != "categorical":
        raise TacitError(f"no family `{name}` of score distributions. Choose one of: {', '.join(FAMILIES)}")
    if atoms < 2:
        raise TacitError(f"option `atoms` is {atoms}. Give 2 or more")
    return Family(name, atoms, categorical_votes, categorical_moments, categorical_quantile)


def objective_of(chosen: Family, entropy: float = 0.0) -> Objective:
    """Its likelihood of votes; `entropy` is the coefficient of the marginal entropy of `categorical`."""
    if entropy < 0:
        raise TacitError(f"option `entropy` is {entropy}. Give 0 or more")
    return Objective(
        chosen.name,
        "comparison",
        partial(_vote_loss, chosen.votes),
        relative=False,
        logits=False,
        outputs=chosen.outputs,
        unbiased=(1,) if chosen.name == "mean_variance" else (),
        regulariser=partial(_marginal_entropy, entropy) if entropy and chosen.name == "categorical" else None,
    )


def thurstone(scores: Tensor, targets: Targets, own: Tensor) -> Tensor:
    """-log Phi((s_chosen - s_rejected) / sqrt 2): Thurstone's case V, that is `mean_variance` with every sd = 1."""
    z = (scores[..., 0] - scores[..., 1]) / math.sqrt(2)
    return _weigh(log_phi(z), log_phi(-z), targets)


THURSTONE = Objective("thurstone", "comparison", thurstone, logits=False)


def _vote_loss(
    votes: Callable[[Tensor], tuple[Tensor, Tensor]], scores: Tensor, targets: Targets, own: Tensor
) -> Tensor:
    return _weigh(*votes(scores), targets)


def _weigh(win: Tensor, lose: Tensor, targets: Targets) -> Tensor:
    flipped = torch.where(targets.tie, 0.5, targets.label_smoothing).to(win)
    return -(1 - flipped) * win - flipped * lose


def _marginal_entropy(coefficient: float, scores: Tensor, normal: Tensor) -> Tensor:
    """-coefficient * H(mean distribution), (members,), of scores (members, n, 2, K) under weights (members, n)."""
    marginal = (scores.softmax(-1).mean(2) * normal[..., None]).sum(1)
    entropy: Tensor = torch.special.entr(marginal).sum(-1)
    return -coefficient * entropy
