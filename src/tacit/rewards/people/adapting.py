"""What every personal reward can do: turn many people's comparisons into many people's heads, in one batch.

A context is `gaps` (P, n, d), the feature differences chosen - rejected of n comparisons of P people in standardised
features, with `weight` (P, n), 0 where padded. The answer is a head (`tacit.rewards.heads`) with P members.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from tacit.rewards import heads
from tacit.rewards.heads import Parameters
from tacit.rewards.people.crowd import Crowd, Episodes

_NUMBERS = 32_000_000
"""Floats of one batch of contexts."""


class Adapter(Protocol):
    """Adapts to people; a frozen dataclass that can be saved."""

    def adapt(self, gaps: Tensor, weight: Tensor) -> Parameters:
        """Heads with P members from contexts (P, n, d) and weights (P, n)."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """What must be saved beside the options."""
        ...

    def options(self) -> dict[str, Any]:
        """JSON-ready options."""
        ...

    @classmethod
    def restore(cls, options: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """From what `options` and `tensors` gave."""
        ...


def linear_head(weights: Tensor) -> Parameters:
    """Weights (P, d) as a head with P members."""
    return {"linear": weights, "bias": weights.new_zeros(len(weights))}


@dataclass(frozen=True)
class Fixed:
    """The same head for everybody: what no adaptation gives."""

    head: Tensor
    """(d,)"""

    def adapt(self, gaps: Tensor, weight: Tensor) -> Parameters:
        """The head, P times."""
        return linear_head(self.head.expand(len(gaps), -1))


@dataclass(frozen=True)
class Logistic:
    """Plain logistic regression on a person's own comparisons, the control that every personal reward must beat.

    Minimises sum_i weight_i softplus(-(o_i + w . gap_i)) + ridge / 2 |w|^2 for each person, with o the log-odds of
    `prior` (0 without one), so that the ridge pulls towards that prior mean. The ridge is chosen for each person by
    cross-fitting on the context. Solved exactly in the n dimensions of the context (w = gaps^T a / ridge, the
    representer theorem) by Newton's method, for all people, ridges and folds at once.
    """

    prior: Tensor | None = None
    """(d,) mean of the prior, such as the pooled reward."""
    ridges: tuple[float, ...] = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)
    """Multiples of the mean squared length of a context's gaps: 1 / the prior variance of a log-odds."""
    folds: int = 5

    def adapt(self, gaps: Tensor, weight: Tensor) -> Parameters:
        """Heads of P people."""
        people, n, _ = gaps.shape
        kernel = gaps @ gaps.transpose(1, 2)  # (P, n, n)
        kernel = kernel / (kernel.diagonal(dim1=1, dim2=2) * (weight > 0)).sum(1).div(
            (weight > 0).sum(1).clamp_min(1)
        ).clamp_min(1e-12).reshape(-1, 1, 1)
        offset = gaps.new_zeros(people, n) if self.prior is None else gaps @ self.prior
        covariance = kernel[:, None] / torch.tensor(self.ridges)[:, None, None]  # (P, R, n, n)
        best = self._choose(covariance, offset, weight)
        every = torch.arange(people)
        dual = newton(covariance[every, best], offset, weight)
        scale = torch.tensor(self.ridges)[best] * _mean_square(gaps, weight)
        own = torch.einsum("pn,pnd->pd", dual, gaps) / scale[:, None]
        return linear_head(own if self.prior is None else own + self.prior)

    def _choose(self, covariance: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
        """(P,) index of the ridge with the least cross-fitted loss; the strongest where nothing can be held out."""
        people, n = weight.shape
        position = (weight > 0).cumsum(1) - 1
        fold = torch.where(weight > 0, position % self.folds, -1)
        train = fold[:, None] != torch.arange(self.folds)[:, None]  # (P, F, n)
        shape = (people, len(self.ridges), self.folds, n)
        weights = (weight[:, None] * train)[:, None].expand(shape)
        offsets = offset[:, None, None].expand(shape)
        dual = newton(covariance[:, :, None].expand(*shape, n), offsets, weights)
        fitted = offsets + torch.einsum("prnm,prfm->prfn", covariance, dual)
        lost = softplus(-fitted) * weight[:, None, None] * ~train[:, None]
        return lost.sum((2, 3)).argmin(1)


def newton(covariance: Tensor, offset: Tensor, weight: Tensor, iterations: int = 12) -> Tensor:
    """Dual variables a (..., n) of logistic regression whose every outcome is a win, under a Gaussian prior.

    With f = covariance a it maximises sum_i weight_i log sigma(offset_i + f_i) - a^T covariance a / 2 by the stable
    Newton steps of Rasmussen and Williams 2006 (algorithm 3.1), batched over the leading axes.
    """
    n = weight.shape[-1]
    identity = torch.eye(n)
    dual = torch.zeros_like(weight)
    for _ in range(iterations):
        fitted = (covariance @ dual[..., None])[..., 0]
        lose = torch.sigmoid(-(offset + fitted))
        curvature = (weight * lose * (1 - lose)).clamp_min(0)
        root = curvature.sqrt()
        inner = identity + root[..., :, None] * covariance * root[..., None, :]
        right = curvature * fitted + weight * lose
        solved = torch.cholesky_solve(
            (root * (covariance @ right[..., None])[..., 0])[..., None], torch.linalg.cholesky(inner)
        )[..., 0]
        new = right - root * solved
        if bool(((new - dual).abs().amax() if new.numel() else torch.tensor(0.0)) < 1e-5):
            return new
        dual = new
    return dual


def _mean_square(gaps: Tensor, weight: Tensor) -> Tensor:
    """(P,) mean squared length of the gaps that count."""
    present = (weight > 0).to(gaps)
    return ((gaps.square().sum(2) * present).sum(1) / present.sum(1).clamp_min(1)).clamp_min(1e-12)


Adapting = Callable[[Tensor, Tensor], Parameters]
"""`Adapter.adapt`, or anything of its shape."""


def query_odds(crowd: Crowd, episodes: Episodes, adapt: Adapting) -> tuple[Tensor, Tensor]:
    """Log-odds (P, m) of each query row after adaptation on the context, and its weight (P, m), 0 where padded."""
    episodes.check(crowd)
    odds, weights = [], []
    for part in _chunks(crowd, episodes):
        context, query = episodes.context[part], episodes.query[part]
        adapted = adapt(crowd.gaps(context), crowd.weight[context.clamp_min(0)] * (context >= 0))
        odds.append(torch.einsum("pmd,pd->pm", crowd.gaps(query), adapted["linear"]))
        if heads.depth(adapted):
            sides = crowd.rows[query.clamp_min(0)]
            chosen, rejected = (heads.hidden_scores(adapted, crowd.features[sides[..., i]]) for i in (0, 1))
            odds[-1] = odds[-1] + chosen - rejected
        weights.append(crowd.weight[query.clamp_min(0)] * (query >= 0))
    return torch.cat(odds), torch.cat(weights)


def person_metrics(odds: Tensor, weight: Tensor) -> dict[str, np.ndarray]:
    """Of each person (P,): `accuracy`, in which equal scores count one half, and `nll` in nats."""
    total = weight.sum(1).clamp_min(1e-12)
    right = (torch.sign(odds) + 1) / 2
    return {
        "accuracy": ((right * weight).sum(1) / total).numpy().astype(np.float64),
        "nll": ((softplus(-odds) * weight).sum(1) / total).numpy().astype(np.float64),
    }


def _chunks(crowd: Crowd, episodes: Episodes) -> Iterator[slice]:
    people, n = episodes.context.shape
    widest = max(n * crowd.dim, 9 * 5 * n * n, episodes.query.shape[1] * crowd.dim, 1)
    step = max(1, _NUMBERS // widest)
    yield from (slice(start, start + step) for start in range(0, people, step))
