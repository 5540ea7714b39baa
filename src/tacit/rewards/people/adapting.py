"""What every personal reward can do: turn many people's comparisons into many people's heads, in one batch.

A `Context` is what P people compared; the answer is a head (`tacit.rewards.heads`) with P members.
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


@dataclass(frozen=True)
class Context:
    """Up to n comparisons of each of P people, in standardised features."""

    gaps: Tensor
    """(P, n, d): features chosen - rejected."""
    weight: Tensor
    """(P, n), 0 where padded."""
    items: Tensor
    """(P, n, 2) int64: which responses were compared; what is known of one must not be tested on another."""

    @classmethod
    def of(cls, crowd: Crowd, rows: Tensor) -> Context:
        """Rows (P, n) of a crowd, padded with -1."""
        kept = rows.clamp_min(0)
        return cls(crowd.gaps(rows), crowd.weight[kept] * (rows >= 0), crowd.rows[kept])


class Adapter(Protocol):
    """Adapts to people; a frozen dataclass that can be saved."""

    def adapt(self, context: Context) -> Parameters:
        """Heads with P members."""
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

    def adapt(self, context: Context) -> Parameters:
        """The head, P times."""
        return linear_head(self.head.expand(len(context.gaps), -1))


@dataclass(frozen=True)
class Logistic:
    """Plain logistic regression on a person's own comparisons, the control that every personal reward must beat.

    Minimises sum_i weight_i softplus(-(o_i + w . gap_i)) + ridge / 2 |w|^2 for each person, with o the log-odds of
    `prior` (0 without one), so that the ridge pulls towards that prior mean. The ridge is chosen for each person by
    cross-fitting on the context (`held_out`). Solved exactly in the n dimensions of the context (w = gaps^T a / ridge,
    the representer theorem), for all people, ridges and folds at once.
    """

    prior: Tensor | None = None
    """(d,) mean of the prior, such as the pooled reward."""
    ridges: tuple[float, ...] = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)
    """Multiples of the mean squared length of a context's gaps: 1 / the prior variance of a log-odds."""
    folds: int = 5

    def adapt(self, context: Context) -> Parameters:
        """Heads of P people."""
        gaps, weight = context.gaps, context.weight
        people, n, _ = gaps.shape
        kernel = gaps @ gaps.transpose(1, 2)  # (P, n, n)
        kernel = kernel / (kernel.diagonal(dim1=1, dim2=2) * (weight > 0)).sum(1).div(
            (weight > 0).sum(1).clamp_min(1)
        ).clamp_min(1e-12).reshape(-1, 1, 1)
        offset = gaps.new_zeros(people, n) if self.prior is None else gaps @ self.prior
        best = self._choose(kernel, offset, context)
        dual = newton(kernel / torch.tensor(self.ridges)[best][:, None, None], offset, weight)
        scale = torch.tensor(self.ridges)[best] * _mean_square(gaps, weight)
        own = torch.einsum("pn,pnd->pd", dual, gaps) / scale[:, None]
        return linear_head(own if self.prior is None else own + self.prior)

    def _choose(self, kernel: Tensor, offset: Tensor, context: Context) -> Tensor:
        """(P,) index of the ridge with the least cross-fitted loss; the strongest where nothing can be held out."""
        train, test = held_out(context, self.folds)
        fitted = crossed(kernel, offset, context.weight[:, None] * train, torch.tensor(self.ridges))
        lost = softplus(-offset[:, None, None] - fitted) * (context.weight[:, None] * test)[:, None]
        return lost.sum((2, 3)).argmin(1)


def held_out(context: Context, folds: int) -> tuple[Tensor, Tensor]:
    """Which rows are fitted and which are tested in each of `folds` splits of every person's context: (P, F, n) bool.

    Where a person's comparisons share no response, each fold is tested on once. Where they do (all pairs of what
    someone liked and disliked, say), a test row would be half known from the rows that share a response with it; then
    each split deals the responses into two halves, fits on pairs within one and tests on pairs within the other.
    """
    present = context.weight > 0
    fold = torch.where(present, (present.cumsum(1) - 1) % folds, -1)
    apart = fold[:, None] == torch.arange(folds)[:, None]  # (P, F, n)
    codes = torch.where(present[..., None], context.items, -1).flatten(1)
    ordered = codes.sort(1).values
    fresh = (ordered[:, 1:] != ordered[:, :-1]).sum(1) + 1 - (ordered[:, 0] < 0).long()  # distinct responses
    shared = fresh < 1.5 * present.sum(1)
    generator = torch.Generator().manual_seed(0)
    salt = torch.randint(1, 1 << 30, (folds,), generator=generator)[:, None, None]
    mixed = (context.items[:, None] + 1) * 2654435761 % 4294967291 * salt
    half = (mixed >> 20) % 2 == 1  # (P, F, n, 2)
    both, neither = half.all(-1), ~half.any(-1)
    keep = present[:, None]
    train = torch.where(shared[:, None, None], both, ~apart) & keep
    return train, torch.where(shared[:, None, None], neither, apart) & keep


def crossed(kernel: Tensor, offset: Tensor, weight: Tensor, ridges: Tensor, iterations: int = 50) -> Tensor:
    """Fitted log-odds (P, R, F, n), without the offset, for R ridges and F weightings (P, F, n) of each person's rows.

    The curvature of the loss is at most max weight / 4, with which one eigendecomposition of a person's kernel serves
    all ridges and weightings (Böhning and Lindsay 1988); steps are accelerated (Nesterov 1983). Close enough to the
    minimum to choose a ridge by; `newton` is exact.
    """
    people, folds, n = weight.shape
    count = len(ridges)
    values, vectors = torch.linalg.eigh(kernel)
    values = values.clamp_min(0)
    bound = (weight.amax((1, 2)) / 4).clamp_min(1e-6)[:, None, None]
    shrink = 1 / (bound * values[:, :, None] + ridges)  # (P, n, R)
    wide = shrink[..., None].expand(people, n, count, folds).reshape(people, n, -1)
    each = ridges[:, None].expand(count, folds).reshape(-1)
    weights = weight.transpose(1, 2)[:, :, None].expand(people, n, count, folds).reshape(people, n, -1)
    dual = ahead = kernel.new_zeros(people, n, count * folds)
    momentum = 1.0
    for _ in range(iterations):
        lose = torch.sigmoid(-(offset[..., None] + kernel @ ahead))
        step = vectors @ (wide * (vectors.transpose(1, 2) @ (weights * lose - each * ahead)))
        new, following = ahead + step, (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead, dual = new + (momentum - 1) / following * (new - dual), new
        momentum = following
    return (kernel @ dual).view(people, n, count, folds).permute(0, 2, 3, 1)


def newton(covariance: Tensor, offset: Tensor, weight: Tensor, iterations: int = 12) -> Tensor:
    """Dual variables a (P, n) of logistic regression whose every outcome is a win, under a Gaussian prior.

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


Adapting = Callable[[Context], Parameters]
"""`Adapter.adapt`, or anything of its shape."""


def query_odds(crowd: Crowd, episodes: Episodes, adapt: Adapting) -> tuple[Tensor, Tensor]:
    """Log-odds (P, m) of each query row after adaptation on the context, and its weight (P, m), 0 where padded."""
    episodes.check(crowd)
    odds, weights = [], []
    for part in _chunks(crowd, episodes):
        query = episodes.query[part]
        adapted = adapt(Context.of(crowd, episodes.context[part]))
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
    widest = max(n * crowd.dim, 9 * 5 * n * 8, episodes.query.shape[1] * crowd.dim, 1)
    step = max(1, _NUMBERS // widest)
    yield from (slice(start, start + step) for start in range(0, people, step))
