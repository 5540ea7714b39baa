"""Linear Bradley-Terry fits inside an audit: scores that no comparison had a part in, learning curves, members.

All folds are members of one batched solution (`tacit.rewards.linear`), so a cross-fit costs little more than a fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tacit.audit.bootstrap import Array, Index
from tacit.errors import TacitError
from tacit.rewards.examples import bootstrap_weights
from tacit.rewards.heads import Standardiser
from tacit.rewards.linear import Design, gram_factor, minimise
from tacit.rewards.objectives import Objective, Targets, objective_for
from tacit.rewards.ridge import Folds, choose_ridge

FOLDS = 5


@dataclass(frozen=True)
class CrossFit:
    """Out-of-fold log-odds that a is preferred to b."""

    delta: Array
    """(members, n): by a fit that saw neither the comparison nor its block; NaN where no fold could be fitted."""
    l2: float


@dataclass(frozen=True)
class _Fitting:
    """Comparisons ready to be fitted on some blocks and predicted on others."""

    objective: Objective
    design: Design
    targets: Targets
    given: torch.Tensor
    """(n,) weights."""
    blocks: Index
    """(n, 2) what each side belongs to."""
    folds: Folds
    gram: torch.Tensor | None

    @classmethod
    def of(
        cls,
        features: np.ndarray,
        a: Index,
        b: Index,
        tie: Array,
        blocks: Index,
        weight: Array | None,
        rng: np.random.Generator,
    ) -> _Fitting:
        """Arguments as for `cross_fit`."""
        objective = objective_for("comparison")
        matrix = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32))
        rows = torch.from_numpy(np.stack([a, b], axis=1).astype(np.int64))
        n = len(rows)
        design = Design.of(matrix, Standardiser.of(matrix), rows, objective)
        targets = Targets(torch.zeros(n), torch.zeros(n, 0), torch.from_numpy(np.asarray(tie) > 0), torch.zeros(n))
        given = torch.ones(n) if weight is None else torch.from_numpy(np.asarray(weight, dtype=np.float32))
        both = blocks if blocks.ndim == 2 else np.stack([blocks, blocks], axis=1)
        folds = Folds.of(both, rng, most=FOLDS)
        return cls(objective, design, targets, given, both, folds, gram_factor(design.matrix))

    def heads(self, design: Design, targets: Targets, weights: torch.Tensor, l2: float) -> dict[str, torch.Tensor]:
        """Linear heads, one for each row of `weights` (fits, n)."""
        return minimise(design, targets, weights, self.objective, l2, gram=self.gram, tolerance=1e-3).parameters


def cross_fit(
    features: np.ndarray,
    a: Index,
    b: Index,
    tie: Array,
    blocks: Index,
    *,
    weight: Array | None = None,
    rng: np.random.Generator,
    shares: Sequence[float] = (1.0,),
    members: int = 1,
) -> list[CrossFit]:
    """Fit on other blocks and predict, once for each share of the fitting blocks (a learning curve has several).

    `features` is (items, d), `a` and `b` (n,) items with a preferred (or tied), `blocks` (n,) or (n, 2). With `members`
    > 1 each is a bootstrap over blocks. Raises `TacitError` for a single block.
    """
    own = _Fitting.of(features, a, b, tie, blocks, weight, rng)
    design, given, folds, n = own.design, own.given, own.folds, len(own.given)
    l2, _ = choose_ridge(design, own.targets, given, own.objective, own.gram, own.blocks, rng)
    _, codes = np.unique(own.blocks[:, 0], return_inverse=True)
    place = torch.from_numpy(rng.permutation(int(codes.max()) + 1)[codes] / (codes.max() + 1))
    made = []
    for share in shares:
        allowed = (place < share).float()
        copies = torch.from_numpy(bootstrap_weights(np.stack([codes, codes], axis=1), members, rng))
        weights = (copies[:, None] * (folds.train * allowed * given)[None]).reshape(-1, n)
        usable = weights.sum(1, keepdim=True) > 0
        head = own.heads(design, own.targets, torch.where(usable, weights, given), l2 / share)
        scores = design.scores(head["linear"], head["bias"]).view(members, len(folds.train), n, 2)
        of_fold = scores[:, folds.fold, torch.arange(n)]
        known = usable.view(members, -1)[:, folds.fold]
        delta = torch.where(known, of_fold[..., 0] - of_fold[..., 1], torch.nan)
        made.append(CrossFit(delta.double().numpy(), l2))
    return made


def fit_here_test_there(
    features: np.ndarray,
    a: Index,
    b: Index,
    tie: Array,
    blocks: Index,
    domain: Index,
    *,
    weight: Array | None = None,
    rng: np.random.Generator,
) -> Array:
    """Log-odds (domains, n) that a is preferred to b, by a fit on the comparisons of each domain alone.

    Arguments as for `cross_fit`; `domain` (n,) counts from 0. No fit saw the block of a comparison that it predicts, in
    whatever domain, so that prompts which domains share do not leak. NaN where no fit was possible. Raises `TacitError`
    for a single block.
    """
    own = _Fitting.of(features, a, b, tie, blocks, weight, rng)
    design, given, folds, n = own.design, own.given, own.folds, len(own.given)
    count = int(domain.max()) + 1
    delta = np.full((count, n), np.nan)
    for k in range(count):
        inside = torch.from_numpy(np.flatnonzero(domain == k))
        here, targets, counts = design.take(inside), own.targets[inside], given[inside]
        weights = folds.train[:, inside] * counts
        usable = weights.sum(1, keepdim=True) > 0
        try:
            l2, _ = choose_ridge(here, targets, counts, own.objective, own.gram, own.blocks[inside.numpy()], rng)
        except TacitError:  # one prompt in this domain
            continue
        head = own.heads(here, targets, torch.where(usable, weights, counts), l2)
        scores = design.scores(head["linear"], head["bias"])  # (folds, n, 2)
        of_fold = scores[folds.fold, torch.arange(n)]
        known = usable[folds.fold, 0]
        delta[k] = torch.where(known, of_fold[:, 0] - of_fold[:, 1], torch.nan).double().numpy()
    return delta
