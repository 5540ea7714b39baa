"""The ridge of a linear head, chosen by cross-fitting over prompts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tacit.errors import EvidenceError
from tacit.rewards.examples import held_out
from tacit.rewards.linear import Design, Solution, minimise
from tacit.rewards.objectives import Objective, Targets

RIDGES = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)
"""The path of l2 that cross-fitting walks, in multiples of d / n: a prior worth as much whatever n is, so that a
multiple found on a part of the rows holds for all of them."""

_ENOUGH = 10_000
"""Rows that choose the ridge where there are more."""


def choose_ridge(
    design: Design,
    targets: Targets,
    weight: Tensor,
    objective: Objective,
    gram: Tensor | None,
    blocks: np.ndarray,
    rng: np.random.Generator,
) -> tuple[float, list[dict[str, float]]]:
    """The ridge with the least held-out loss, and the path that led there.

    Starts in the middle of the path and walks towards less and, where that does not help, towards more shrinkage, each
    time until the loss rises; all folds are members of one solution, warm-started from the ridge before.
    """
    n, dim = len(weight), design.matrix.shape[1]
    if n > 2 * _ENOUGH:
        part = torch.from_numpy(np.sort(rng.choice(n, size=_ENOUGH, replace=False)))
        design, targets, weight, blocks = design.take(part), targets[part], weight[part], blocks[part.numpy()]
    folds = Folds.of(blocks, rng)
    path: dict[float, float] = {}
    start: Tensor | None = None

    def loss(multiple: float) -> float:
        nonlocal start
        ridge = multiple * dim / len(weight)
        solution = folds.solve(design, targets, weight, objective, ridge, gram, start)
        start = solution.theta
        path[multiple] = folds.loss(design, targets, weight, objective, solution)
        return path[multiple]

    middle = RIDGES.index(1.0)
    for walk in (RIDGES[middle:], RIDGES[middle - 1 :: -1]):
        for multiple in walk:
            if loss(multiple) > min(path.values()):
                break
        if min(path, key=path.__getitem__) != RIDGES[middle]:
            break
    best = min(path, key=path.__getitem__)
    return best * dim / n, [{"l2": m * dim / n, "held_out_loss": path[m]} for m in sorted(path)]


@dataclass(frozen=True)
class Folds:
    """Cross-fitting: fold k is held out of member k."""

    fold: Tensor
    """(n,) the member that has not seen an example."""
    train: Tensor
    """(folds, n) float: 1 where a member may fit an example."""

    @classmethod
    def of(cls, blocks: np.ndarray, rng: np.random.Generator, most: int = 5) -> Folds:
        """Up to `most` folds of examples with these blocks (n, 2); raises `EvidenceError` where none can be fitted."""
        _, codes = np.unique(blocks, return_inverse=True)
        codes = codes.reshape(blocks.shape)
        count = int(codes.max()) + 1
        fold, train = held_out(codes, min(most, count), rng)
        if not train.any():  # one prompt alone, or, under one prompt, two answers alone
            raise EvidenceError(
                "nothing can be held out, as all rows share one prompt or their answers",
                mend="Give rows of two prompts or more, or set --l2",
            )
        return cls(torch.from_numpy(fold), torch.from_numpy(train.astype(np.float32)))

    def solve(
        self,
        design: Design,
        targets: Targets,
        weight: Tensor,
        objective: Objective,
        l2: float,
        gram: Tensor | None,
        start: Tensor | None = None,
    ) -> Solution:
        """One fit a fold, as members; a fold that leaves nothing to fit on fits everything, and is masked below."""
        weights = weight * self.train
        weights = torch.where(weights.sum(1, keepdim=True) > 0, weights, weight)
        return minimise(design, targets, weights, objective, l2, start=start, gram=gram, tolerance=1e-3)

    def scores(self, design: Design, solution: Solution) -> tuple[Tensor, Tensor]:
        """Out-of-fold scores (1, m, k), or (1, m, k, outputs), and the examples (m,) that have one."""
        every = torch.arange(len(self.fold))
        scored = self.train.any(1)[self.fold].nonzero()[:, 0]
        return solution.scores(design)[self.fold, every][scored][None], scored

    def loss(self, design: Design, targets: Targets, weight: Tensor, objective: Objective, solution: Solution) -> float:
        """Mean held-out loss, in nats for likelihoods."""
        scores, scored = self.scores(design, solution)
        losses = objective.loss(scores, targets[scored], solution.own.mean(0, keepdim=True))[0]
        return float((losses * weight[scored]).sum() / weight[scored].sum())
