"""Laplace's approximation on the last layer: how well the fitting rows determine a score.

With last-layer features z (standardised) a head is s = w . z (+ b), and around the fit its posterior is Gaussian with
precision

    H = sum_i c_i J_i^T K_i J_i + n l2 I,        n = sum_i c_i,

where c_i is the weight of example i, J_i (k, f) the features of its responses and K_i (k, k) the second derivative of
its loss in their scores. For Bradley-Terry that is sum_i c_i p_i (1 - p_i) D_i D_i^T with D_i = z_chosen - z_rejected;
for classification and outcomes sum_i c_i p_i (1 - p_i) z_i z_i^T; for regression H / v with the residual variance v
(MacKay 1992, "The evidence framework applied to classification networks"; Daxberger et al. 2021, arXiv 2106.14806, for
the last layer alone; AdvPO, Zhang et al. 2024, arXiv 2403.05171, for rewards). n l2 I is the ridge that the fit used,
so that the mode is the fit. The objective's own parameters (ties, flips) stay where the fit put them.

The last layer of a linear head is the features, that of a perceptron the features beside the last hidden states of all
its trunks. The variance of a score is of z - mean(z) where only differences of scores mean anything, since their zero
is free; the variance of a difference needs no reference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tacit.errors import TacitError
from tacit.rewards import heads
from tacit.rewards.heads import Parameters, Standardiser
from tacit.rewards.objectives import Objective, Targets

_CHUNK = 4096
PREFIX = "laplace."


@dataclass(frozen=True)
class Posterior:
    """Covariance F^T F of the last layer's weights on raw features, with F = L^-1 diag(1 / scale) / T and H = L L^T."""

    reference: Tensor
    """(f,) features that the deviation of a score is relative to."""
    factor: Tensor
    """(r, f)."""
    offset: Tensor
    """(r,) part of the bias; zero where only differences matter."""

    def deviation(self, layer: Tensor) -> Tensor:
        """Posterior standard deviation (n,) of the scores of last-layer features (n, f)."""
        found: Tensor = torch.linalg.vector_norm((layer - self.reference) @ self.factor.T + self.offset, dim=1)
        return found

    def difference_deviation(self, first: Tensor, second: Tensor) -> Tensor:
        """Posterior standard deviation (n,) of score(first) - score(second), each (n, f)."""
        found: Tensor = torch.linalg.vector_norm((first - second) @ self.factor.T, dim=1)
        return found

    def deviations(self, parameters: Parameters, features: np.ndarray, other: np.ndarray | None = None) -> np.ndarray:
        """Deviations (n,) float32 of the scores of raw features (n, d), or of their differences from `other` (n, d)."""
        found = [np.zeros(0, np.float32)]
        for start in range(0, len(features), _CHUNK):
            first = last_layer(parameters, _rows(features[start : start + _CHUNK]))
            if other is None:
                found.append(self.deviation(first).numpy())
            else:
                second = last_layer(parameters, _rows(other[start : start + _CHUNK]))
                found.append(self.difference_deviation(first, second).numpy())
        return np.concatenate(found)

    def without(self, column: int) -> Posterior:
        """The posterior of the other weights: a Gaussian is made marginal by leaving out."""
        keep = [i for i in range(len(self.reference)) if i != column % len(self.reference)]
        return Posterior(self.reference[keep], self.factor[:, keep].contiguous(), self.offset)

    def tensors(self) -> Parameters:
        """As named tensors for a file."""
        return {f"{PREFIX}{name}": getattr(self, name) for name in ("reference", "factor", "offset")}

    @classmethod
    def split(cls, tensors: Parameters) -> tuple[Parameters, Posterior | None]:
        """Named tensors of a file as those of the head and the posterior, where there is one."""
        own = {name.removeprefix(PREFIX): t for name, t in tensors.items() if name.startswith(PREFIX)}
        head = {name: t for name, t in tensors.items() if not name.startswith(PREFIX)}
        return head, cls(**own) if own else None


@torch.no_grad()
def last_layer(parameters: Parameters, features: Tensor) -> Tensor:
    """What the last layer multiplies, (n, d) or (n, d + trunks * h): features and the last hidden states."""
    features = features.float()
    if not heads.depth(parameters):
        return features
    state = heads.last_hidden(parameters, features)
    hidden = state[None] if state.dim() == 2 else state  # (trunks, n, h)
    return torch.cat([features, hidden.transpose(0, 1).reshape(len(features), -1)], dim=1)


def curvature(scores: Tensor, targets: Targets, objective: Objective, own: Tensor) -> Tensor:
    """Second derivative (n, k, k) of each example's loss in its scores (n, k), by differentiating twice."""
    point = scores.detach().clone()[None].requires_grad_(True)
    with torch.enable_grad():
        loss = objective.loss(point, targets, own.detach()).sum()
        slope = torch.autograd.grad(loss, point, create_graph=True)[0]
        width = range(slope.shape[-1])
        parts = [torch.autograd.grad(slope[..., j].sum(), point, retain_graph=True)[0][0] for j in width]
    return torch.stack(parts, dim=-1)


@torch.no_grad()
def fit_posterior(
    parameters: Parameters,
    matrix: Tensor,
    rows: Tensor,
    targets: Targets,
    weight: Tensor,
    objective: Objective,
    own: Tensor,
    *,
    l2: float,
    temperature: float = 1.0,
) -> Posterior:
    """The posterior at a fit.

    `parameters` act on the raw features `matrix` (u, d) before they are divided by `temperature`; `rows` (n, k), as in
    `Examples`, `targets` and `weight` (n,) are the fitting examples, and `own` (1, p) the objective's own parameters.
    A loss that is not convex (the robust ones) counts with the convex part of its curvature. Raises `TacitError` for
    objectives that give each response several numbers.
    """
    if objective.outputs > 1:
        raise TacitError(f"objective `{objective.name}` gives a response several numbers. Leave --laplace away")
    scores = torch.from_numpy(heads.score_in_chunks(parameters, matrix.numpy())).mean(0)
    sample = last_layer(parameters, matrix[:: max(1, len(matrix) // 5_000)])
    standardise = Standardiser.of(sample)
    width = sample.shape[1] + (not objective.relative)
    information = torch.zeros(width, width, dtype=torch.float64)
    residual = 0.0
    for start in range(0, len(rows), _CHUNK):
        part = rows[start : start + _CHUNK]
        said, share = targets[torch.arange(start, start + len(part))], weight[start : start + _CHUNK]
        gathered = scores[part.clamp_min(0)]
        second = curvature(gathered, said, objective, own)
        second = torch.where((part >= 0)[:, :, None] & (part >= 0)[:, None, :], second, 0.0) * share[:, None, None]
        layers = [standardise(last_layer(parameters, matrix[one.clamp_min(0)])) for one in part.T]
        for root in _roots(second, objective):
            if not root.any():
                continue
            design = torch.zeros(len(part), width)
            for amount, layer in zip(root.T, layers, strict=True):
                design[:, : layer.shape[1]].addcmul_(amount[:, None], layer)
            if not objective.relative:
                design[:, -1] = root.sum(1)
            information += (design.T @ design).double()
        if objective.name == "regression":
            residual += float((share * (gathered[:, 0] - said.target).square()).sum())
    total = float(weight.sum())
    ridge = torch.full((width,), total * l2, dtype=torch.float64)
    if not objective.relative:
        ridge[-1] = 0.0
    ridge += 1e-6 * information.diagonal().mean()
    lower = torch.linalg.cholesky(information + torch.diag(ridge))
    noise = 1.0
    if objective.name == "regression":
        used = float(torch.cholesky_solve(information, lower).diagonal().sum())
        noise = residual / max(total - used, 1.0)
    inverse = torch.linalg.solve_triangular(lower, torch.eye(width, dtype=torch.float64), upper=False)
    inverse = inverse * (np.sqrt(noise) / temperature)
    count = sample.shape[1]
    offset = torch.zeros(width, dtype=torch.float64) if objective.relative else inverse[:, -1]
    return Posterior(
        standardise.mean.contiguous(),
        (inverse[:, :count] / standardise.scale).float().contiguous(),
        offset.float().contiguous(),
    )


def _rows(features: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(features, dtype=np.float32))


def _roots(second: Tensor, objective: Objective) -> list[Tensor]:
    """Vectors r of shape (n, k) each, with sum of r r^T the convex part of the second derivatives (n, k, k)."""
    if objective.relative and second.shape[1] == 2:
        root = second[:, 0, 0].clamp_min(0).sqrt()
        return [torch.stack([root, -root], dim=1)]
    values, vectors = torch.linalg.eigh(second)
    return list((vectors * values.clamp_min(0).sqrt()[:, None]).permute(2, 0, 1))
