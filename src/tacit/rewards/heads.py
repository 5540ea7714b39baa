"""Heads: from features to scores, K members in one tensor.

A head is a dict of float32 tensors with the member axis first, and `scores` evaluates all members in the same matrix
products. Every head has `linear` (M, d) and `bias` (M,). A multilayer perceptron adds hidden layers beside that linear
part,

    s(x) = w . x + b + v . relu(W_L ... relu(W_1 x + b_1) ... + b_L),

with `hidden.i.weight` (m, d_in, d_out), `hidden.i.bias` (m, 1, d_out) and `out` (M, h). m is M, or 1 where the members
share one trunk and differ in their last layer alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

Parameters = dict[str, Tensor]


@dataclass(frozen=True)
class Standardiser:
    """Affine map x -> (x - mean) / scale, per dimension, that a fit works in and `fold` takes out again."""

    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, features: Tensor, limit: int = 20_000) -> Standardiser:
        """From (a regular sample of) the rows; a dimension that hardly varies is not blown up."""
        sample = features[:: max(1, len(features) // limit)].float()
        scale = sample.std(0, correction=0)
        floor = 1e-3 * scale.square().mean().sqrt().clamp_min(1e-12)
        return cls(sample.mean(0), torch.where(scale < floor, torch.ones_like(scale), scale))

    def __call__(self, features: Tensor) -> Tensor:
        return (features.float() - self.mean).div_(self.scale)

    def fold(self, parameters: Parameters) -> Parameters:
        """The same head on raw features: W' = W / scale, b' = b - W' mean."""
        folded = dict(parameters)
        folded["linear"] = parameters["linear"] / self.scale
        folded["bias"] = parameters["bias"] - folded["linear"] @ self.mean
        if "hidden.0.weight" in parameters:
            weight = parameters["hidden.0.weight"] / self.scale[:, None]
            folded["hidden.0.weight"] = weight
            folded["hidden.0.bias"] = parameters["hidden.0.bias"] - torch.einsum("d,mdh->mh", self.mean, weight)[:, None]
        return folded


def linear(members: int, dim: int) -> Parameters:
    """A linear head at zero."""
    return {"linear": torch.zeros(members, dim), "bias": torch.zeros(members)}


def mlp(
    members: int, dim: int, hidden: tuple[int, ...], generator: torch.Generator, *, shared_trunk: bool = False
) -> Parameters:
    """A perceptron with He-initialised hidden layers; the linear part and the output layer start at zero."""
    parameters = linear(members, dim)
    trunks = 1 if shared_trunk else members
    width = dim
    for i, size in enumerate(hidden):
        parameters[f"hidden.{i}.weight"] = torch.randn(trunks, width, size, generator=generator) * math.sqrt(2 / width)
        parameters[f"hidden.{i}.bias"] = torch.zeros(trunks, 1, size)
        width = size
    parameters["out"] = torch.zeros(members, width)
    return parameters


def depth(parameters: Parameters) -> int:
    """Number of hidden layers."""
    return sum(name.endswith(".weight") for name in parameters)


def scores(parameters: Parameters, features: Tensor) -> Tensor:
    """Scores (members, n) float32 of features (n, d); the matrix products run in the dtype of `features`."""
    dtype = features.dtype
    total = (features @ parameters["linear"].to(dtype).T).T.float() + parameters["bias"][:, None]
    layers = depth(parameters)
    if layers == 0:
        return total
    state = features
    for i in range(layers):
        weight, bias = parameters[f"hidden.{i}.weight"].to(dtype), parameters[f"hidden.{i}.bias"].to(dtype)
        if len(weight) == 1:
            state = torch.addmm(bias[0], state, weight[0]).relu_()  # (n, h): one trunk
        else:
            inputs = state.expand(len(weight), -1, -1) if state.dim() == 2 else state
            state = torch.baddbmm(bias, inputs, weight).relu_()  # (m, n, h)
    out = parameters["out"].to(dtype)
    if state.dim() == 2:
        return total + (state @ out.T).T.float()
    return total + torch.bmm(state, out[:, :, None])[..., 0].float()
