"""Linear heads: batched L-BFGS on the whole data, all members in the same passes.

For member m with example weights c_mi the fit minimises

    F_m(w, b, own) = sum_i c_mi loss_i(A w + b) / sum_i c_mi + l2 / 2 |w|^2,

which for a fixed l2 is scikit-learn's logistic regression with C = 1 / (l2 * n). With several outputs w is a matrix,
and each of its rows may have a ridge of its own. A pass over the features serves every
member at once, so ten members cost little more than one: the pass is bound by memory. The initial inverse Hessian of
L-BFGS is that of a Gram matrix on a sample of rows, where the dimension makes that cheap; so a handful of passes is
enough even for strongly correlated features (Nocedal and Wright 2006, algorithms 7.4 and 7.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tacit.rewards.heads import Parameters, Standardiser, by_output, empty, many_dots, weighted_rows
from tacit.rewards.objectives import Objective, Targets

_PRECONDITION_UP_TO = 768
_HISTORY = 10
_CACHED = 1 << 18
"""Numbers of a piece that stays in a core's cache."""


@dataclass(frozen=True)
class Design:
    """The matrix that a linear head multiplies, and where each example's scores stand in its rows."""

    matrix: Tensor
    """(r, d): standardised features of distinct responses, or of pairs their differences."""
    rows: Tensor | None
    """(n, k) rows of `matrix`, -1 where padded; None where row i is the difference of pair i."""

    @classmethod
    def of(cls, features: Tensor, standardise: Standardiser, rows: Tensor, objective: Objective) -> Design:
        """Differences where they are the smaller matrix and the objective needs no more; else distinct responses."""
        if objective.relative and rows.shape[1] == 2 and len(rows) < len(features):
            differences = empty((len(rows), features.shape[1]))
            step = max(16, _CACHED // features.shape[1])
            for start in range(0, len(rows), step):
                part, gap = rows[start : start + step], differences[start : start + step]
                torch.sub(features.index_select(0, part[:, 0]), features.index_select(0, part[:, 1]), out=gap)
                gap.div_(standardise.scale)
            return cls(differences, None)
        return cls(standardise(features), rows)

    def take(self, keep: Tensor) -> Design:
        """The design of some examples."""
        return Design(self.matrix[keep], None) if self.rows is None else Design(self.matrix, self.rows[keep])

    def scores(self, weights: Tensor, bias: Tensor) -> Tensor:
        """(members, n, k) from weights (members, d) and bias (members,)."""
        values = many_dots(self.matrix, weights)  # (members, r)
        if self.rows is None:
            return torch.stack([values, torch.zeros_like(values)], dim=-1)
        gathered = values[:, self.rows.clamp_min(0).view(-1)].view(len(values), *self.rows.shape)
        return gathered + bias[:, None, None]

    def pull(self, gradient: Tensor) -> Tensor:
        """Gradient (members, d) of weights from that of scores (members, n, k)."""
        if self.rows is None:
            return weighted_rows(gradient[..., 0], self.matrix)
        valid = self.rows >= 0
        flat = torch.where(valid, gradient, 0.0).reshape(len(gradient), -1)
        summed = torch.zeros(len(gradient), len(self.matrix)).index_add_(1, self.rows.clamp_min(0).view(-1), flat)
        return weighted_rows(summed, self.matrix)


@dataclass(frozen=True)
class Solution:
    """A minimum: `theta` (members, outputs * (d + 1) + p) holds weights, biases and the objective's own parameters."""

    theta: Tensor
    dim: int
    outputs: int
    iterations: int
    gradient_norm: float

    @property
    def parameters(self) -> Parameters:
        """As a head: `linear` (members * outputs, d) and `bias` (members * outputs,)."""
        weights, biases = self.theta[:, : self.outputs * self.dim], self.theta[:, self.outputs * self.dim :]
        return {"linear": weights.reshape(-1, self.dim), "bias": biases[:, : self.outputs].reshape(-1)}

    @property
    def own(self) -> Tensor:
        """The objective's own parameters (members, p)."""
        return self.theta[:, self.outputs * (self.dim + 1) :]

    def scores(self, design: Design) -> Tensor:
        """(members, n, k), with a last axis for the outputs where there are several."""
        head = self.parameters
        return by_output(design.scores(head["linear"], head["bias"]), self.outputs)


def gram_factor(matrix: Tensor, seed: int = 0) -> Tensor | None:
    """Gram matrix / rows of a sample of rows, (d, d), for the preconditioner; None where d is too large for it."""
    count, dim = matrix.shape
    if dim > _PRECONDITION_UP_TO:
        return None
    sample = min(count, 4 * dim + 1000)
    keep = np.sort(np.random.default_rng(seed).choice(count, size=sample, replace=False))
    chosen = matrix[torch.from_numpy(keep)]
    return chosen.T @ chosen / sample


def minimise(
    design: Design,
    targets: Targets,
    weights: Tensor,
    objective: Objective,
    l2: float | Tensor,
    *,
    start: Tensor | None = None,
    gram: Tensor | None = None,
    tolerance: float = 3e-5,
    iterations: int = 200,
) -> Solution:
    """Minimise F for all members at once.

    `weights` is (members, n); `l2` a number, or a tensor that broadcasts to (members, outputs). Ends when every
    member's largest gradient entry is below `tolerance`, or after `iterations` passes. `start` warm-starts from a
    former `theta`.
    """
    members, dim, outputs = len(weights), design.matrix.shape[1], objective.outputs
    wide = outputs * dim  # theta holds the weights of every output, then their biases, then the objective's own
    normal = weights / weights.sum(1, keepdim=True).clamp_min(1e-12)
    shrink = torch.as_tensor(l2, dtype=torch.float32) * torch.tensor(objective.penalties or (1.0,))
    shrink = shrink.expand(members, outputs)
    biased = torch.full((outputs,), float(not objective.relative))
    biased[list(objective.unbiased)] = 0.0
    theta = (starting_point(objective, dim, members) if start is None else start).expand(members, -1).clone()
    factor = None
    if gram is not None:
        curvature = gram if objective.name == "regression" else gram / 4
        ridge = max(float(shrink.min()), 1e-4 * float(gram.diagonal().mean()))
        factor = torch.linalg.cholesky(curvature + ridge * torch.eye(dim))

    def evaluate(point: Tensor) -> tuple[Tensor, Tensor]:
        w, b = point[:, :wide].reshape(-1, dim), point[:, wide : wide + outputs].reshape(-1)
        own = point[:, wide + outputs :].clone().requires_grad_(True)
        scores = design.scores(w, b).requires_grad_(True)  # (members * outputs, n, k)
        with torch.enable_grad():
            value = objective.total(by_output(scores, outputs), targets, own, normal)
            wanted = [scores, own] if own.shape[1] else [scores]
            pulled = torch.autograd.grad(value.sum(), wanted)
        shrunk = shrink.reshape(-1, 1) * w
        gradient = torch.empty_like(point)
        gradient[:, :wide] = (design.pull(pulled[0]) + shrunk).view(members, -1)
        gradient[:, wide : wide + outputs] = pulled[0].sum((1, 2)).view(members, -1) * biased
        if own.shape[1]:
            gradient[:, wide + outputs :] = pulled[1]
        return value.detach() + 0.5 * (shrunk * w).view(members, -1).sum(1), gradient

    def precondition(q: Tensor) -> Tensor:
        if factor is None:
            return q.clone()
        solved = torch.cholesky_solve(q[:, :wide].reshape(-1, dim).T, factor).T
        return torch.cat([solved.reshape(members, -1), q[:, wide:]], dim=1)

    value, gradient = evaluate(theta)
    steps: list[Tensor] = []
    changes: list[Tensor] = []
    passes = 0
    while passes < iterations:
        active = gradient.abs().amax(1) > tolerance
        if not active.any():
            break
        passes += 1
        direction = -_two_loop(gradient, steps, changes, precondition)
        slope = (direction * gradient).sum(1)
        uphill = slope >= 0
        direction = torch.where(uphill[:, None], -gradient, direction)
        slope = torch.where(uphill, -gradient.square().sum(1), slope)
        length = torch.ones(members)
        if not steps and factor is None:
            length = (1.0 / gradient.norm(dim=1).clamp_min(1e-12)).clamp_max(10.0)
        length = torch.where(active, length, torch.zeros(members))
        for _ in range(30):
            candidate = theta + length[:, None] * direction
            new_value, new_gradient = evaluate(candidate)
            # The slack keeps rounding of the value from refusing the last steps.
            short = ~(new_value <= value + 1e-4 * length * slope + 1e-7 * value.abs())  # NaN is no descent either
            if not short.any():
                break
            length = torch.where(short, length * 0.3, length)
        steps.append(candidate - theta)
        changes.append(new_gradient - gradient)
        del steps[:-_HISTORY], changes[:-_HISTORY]
        stuck = bool((steps[-1].abs().amax(1) <= 1e-9).all())
        theta, value, gradient = candidate, new_value, new_gradient
        if stuck:
            break
    return Solution(theta, dim, outputs, passes, float(gradient.abs().max()))


def starting_point(objective: Objective, dim: int, members: int) -> Tensor:
    """Where a fit starts, (members, outputs * (dim + 1) + p): at zero, or near it where zero is a saddle."""
    wide = objective.outputs * dim
    start = torch.zeros(members, wide + objective.outputs + len(objective.initial))
    if objective.spread:
        drawn = torch.randn(members, wide, generator=torch.Generator().manual_seed(0))
        start[:, :wide] = objective.spread / dim**0.5 * drawn
    start[:, wide + objective.outputs :] = torch.tensor(objective.initial)
    return start


def _two_loop(gradient: Tensor, steps: list[Tensor], changes: list[Tensor], precondition: object) -> Tensor:
    """Inverse-Hessian times gradient, (members, D): Nocedal and Wright 2006, algorithm 7.4, batched over members."""
    assert callable(precondition)
    q = gradient.clone()
    stack: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for s, y in zip(reversed(steps), reversed(changes), strict=True):
        curvature = (s * y).sum(1)
        rho = torch.where(curvature > 1e-10 * y.square().sum(1).clamp_min(1e-30), 1 / curvature, 0.0)
        alpha = rho * (s * q).sum(1)
        q = q - alpha[:, None] * y
        stack.append((s, y, rho, alpha))
    r: Tensor = precondition(q)
    if steps:
        s, y = steps[-1], changes[-1]
        scale = (s * y).sum(1) / (y * precondition(y)).sum(1).clamp_min(1e-30)
        r = r * torch.where(scale > 0, scale, 1.0)[:, None]
    for s, y, rho, alpha in reversed(stack):
        r = r + s * (alpha - rho * (y * r).sum(1))[:, None]
    return r
