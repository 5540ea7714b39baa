r"""Influence of a comparison: what a linear Bradley-Terry fit would lose or gain on other prompts without it.

A fit minimises F(w) = sum_i c_i l_i(w) / C + l2 / 2 |w|^2 with C = sum_i c_i. Without comparison i the gradient at the
minimum is c_i (m - g_i) / (C - c_i), with g_i the gradient of its loss and m the weighted mean gradient, so that to
first order the minimum moves by H^{-1} (g_i - m) c_i / (C - c_i), and the loss L on held-out comparisons by

    I_i = c_i / (C - c_i) v^T (g_i - m),    v = H^{-1} grad L

(Cook and Weisberg 1982; Koh and Liang 2017, "Understanding black-box predictions via influence functions", equation 2).
v is found by conjugate gradients, so that the Hessian is never formed: one solution for each fold serves all rows.
I > 0: held-out prompts are predicted better because of this comparison; I < 0: they would be better off without it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tacit.audit.bootstrap import Array, Index
from tacit.rewards.heads import Standardiser, many_dots, weighted_rows
from tacit.rewards.linear import Design, gram_factor, minimise
from tacit.rewards.objectives import Targets, objective_for
from tacit.rewards.ridge import Folds, choose_ridge

FOLDS = 5
_ROUNDS = 200
_TOLERANCE = 1e-4


def influence(
    features: np.ndarray,
    a: Index,
    b: Index,
    tie: Array,
    blocks: Index,
    *,
    weight: Array | None = None,
    rng: np.random.Generator,
    l2: float | None = None,
    folds: Folds | None = None,
) -> Array:
    """I (n,) in nats of mean held-out loss: the mean over the fits that saw a comparison, tested on what they did not.

    `features` is (items, d), `a` and `b` (n,) items with a preferred (or tied), `blocks` (n,) what must not lie on both
    sides. The ridge is chosen by cross-fitting unless given. All 0 where no fold leaves something on either side.
    Raises `TacitError` for a single block.
    """
    objective = objective_for("comparison")
    matrix = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32))
    standardise = Standardiser.of(matrix)
    gaps = (matrix[torch.from_numpy(a)] - matrix[torch.from_numpy(b)]) / standardise.scale  # (n, d)
    n = len(gaps)
    tied = torch.from_numpy(np.asarray(tie) > 0)
    targets = Targets(torch.zeros(n), torch.zeros(n, 0), tied, torch.zeros(n))
    given = torch.ones(n) if weight is None else torch.from_numpy(np.asarray(weight, dtype=np.float32))
    pairs = np.stack([blocks, blocks], axis=1)
    parts = Folds.of(pairs, rng, most=FOLDS) if folds is None else folds
    design, gram = Design(gaps, None), gram_factor(gaps)
    if l2 is None:
        l2, _ = choose_ridge(design, targets, given, objective, gram, pairs, rng)
    counts = given * parts.train  # (folds, n)
    held = given * (parts.fold == torch.arange(len(parts.train))[:, None])
    usable = (counts.sum(1) > 0) & (held.sum(1) > 0)
    counts, held = counts[usable], held[usable]
    if not len(counts):
        return np.zeros(n)
    solution = minimise(design, targets, counts, objective, l2, gram=gram, tolerance=1e-5)
    w = solution.parameters["linear"]  # (folds, d)
    margin = many_dots(gaps, w)  # (folds, n)
    p = torch.sigmoid(margin)
    pull = p - torch.where(tied, 0.5, 1.0)  # of a loss in its margin: g_i = pull_i * gap_i
    share = counts / counts.sum(1, keepdim=True)
    wanted = weighted_rows(pull * held / held.sum(1, keepdim=True), gaps)
    v = _solve(gaps, share * p * (1 - p), l2, wanted, gram)
    mean = weighted_rows(share * pull, gaps)
    along = pull * many_dots(gaps, v) - (v * mean).sum(1, keepdim=True)
    change = counts / (counts.sum(1, keepdim=True) - counts).clamp_min(1e-12) * along
    seen = (counts > 0).sum(0).clamp_min(1)
    total: Array = (change.sum(0) / seen).double().numpy()
    return total


def _solve(gaps: Tensor, curvature: Tensor, l2: float, right: Tensor, gram: Tensor | None) -> Tensor:
    """(sum_i curvature_ki x_i x_i^T + l2 I)^{-1} right_k for every k: (folds, d), by conjugate gradients.

    Preconditioned by the Gram matrix where there is one, with the mean curvature (Nocedal and Wright 2006, algorithm
    5.3).
    """
    factor = None
    if gram is not None:
        mean = float(curvature.sum(1).mean())
        factor = torch.linalg.cholesky(mean * gram + (l2 + 1e-6 * float(gram.diagonal().mean())) * torch.eye(len(gram)))

    def precondition(r: Tensor) -> Tensor:
        return r if factor is None else torch.cholesky_solve(r.T, factor).T

    x = torch.zeros_like(right)
    residual = right.clone()
    z = precondition(residual)
    direction = z.clone()
    size = (residual * z).sum(1, keepdim=True)
    goal = _TOLERANCE * right.norm(dim=1).clamp_min(1e-30)
    for _ in range(_ROUNDS):
        if (residual.norm(dim=1) <= goal).all():
            break
        product = weighted_rows(curvature * many_dots(gaps, direction), gaps) + l2 * direction
        step = size / (direction * product).sum(1, keepdim=True).clamp_min(1e-30)
        x = x + step * direction
        residual = residual - step * product
        z = precondition(residual)
        new = (residual * z).sum(1, keepdim=True)
        direction = z + new / size.clamp_min(1e-30) * direction
        size = new
    return x
