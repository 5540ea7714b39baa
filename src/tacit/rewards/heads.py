"""Heads: from features to scores, K members in one tensor.

A head is a dict of float32 tensors with the member axis first, and `scores` evaluates all members in the same matrix
products. Every head has `linear` (M, d) and `bias` (M,). A multilayer perceptron adds hidden layers beside that linear
part,

    s(x) = w . x + b + v . relu(W_L ... relu(W_1 x + b_1) ... + b_L),

with `hidden.i.weight` (m, d_in, d_out), `hidden.i.bias` (m, 1, d_out) and `out` (M, h). m is M, or 1 where the members
share one trunk and differ in their last layer alone. A head that gives each response several numbers has M * outputs
rows in `linear`, `bias` and `out`, those of one member together, and one trunk for them; `by_output` parts the rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Parameters = dict[str, Tensor]

_PIECE = 1024
"""Rows of one piece of a thin product."""


@dataclass(frozen=True)
class Standardiser:
    """Affine map x -> (x - mean) / scale, per dimension, that a fit works in and `fold` takes out again."""

    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, features: Tensor, limit: int = 5_000) -> Standardiser:
        """From (a regular sample of) the rows; a dimension that hardly varies is not blown up."""
        sample = features[:: max(1, len(features) // limit)].float()
        mean = sample.mean(0)
        scale = (sample - mean).square_().mean(0).sqrt_()
        floor = 1e-3 * scale.square().mean().sqrt().clamp_min(1e-12)
        return cls(mean, torch.where(scale < floor, torch.ones_like(scale), scale))

    def __call__(self, features: Tensor, dtype: torch.dtype = torch.float32, chunk: int = 2048) -> Tensor:
        """Standardised copy (n, d) in `dtype`, made a chunk at a time so that no second float32 copy exists."""
        result = empty(tuple(features.shape), dtype)
        for start in range(0, len(features), chunk):
            part = features[start : start + chunk].float() - self.mean
            result[start : start + chunk] = part.div_(self.scale)
        return result

    def fold(self, parameters: Parameters) -> Parameters:
        """The same head on raw features: W' = W / scale, b' = b - W' mean."""
        folded = dict(parameters)
        folded["linear"] = parameters["linear"] / self.scale
        folded["bias"] = parameters["bias"] - folded["linear"] @ self.mean
        if "hidden.0.weight" in parameters:
            weight = parameters["hidden.0.weight"] / self.scale[:, None]
            folded["hidden.0.weight"] = weight
            folded["hidden.0.bias"] = (
                parameters["hidden.0.bias"] - torch.einsum("d,mdh->mh", self.mean, weight)[:, None]
            )
        return folded


def empty(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """A large tensor to be filled. NumPy's memory comes in huge pages where the system has them; torch's does not, and
    then takes as long to map as to fill."""
    return torch.from_numpy(np.empty((*shape, dtype.itemsize), np.uint8)).view(dtype)[..., 0]


def many_dots(matrix: Tensor, weights: Tensor) -> Tensor:
    """weights @ matrix.T, (k, n), of many rows (n, d) with few weights (k, d).

    torch runs a product this thin on one core, and hardly that; cut into pieces it runs on all, at memory's speed.
    """
    count, dim = matrix.shape
    pieces = count // _PIECE
    if pieces < 2:
        return weights @ matrix.T
    body = matrix[: pieces * _PIECE].view(pieces, _PIECE, dim)
    if dim > 1024 and len(weights) > 2:
        dots = torch.bmm(weights.expand(pieces, -1, -1), body.transpose(1, 2)).transpose(0, 1)
    else:
        dots = torch.bmm(body, weights.T.expand(pieces, -1, -1)).permute(2, 0, 1)
    return torch.cat([dots.reshape(len(weights), -1), weights @ matrix[len(body) * _PIECE :].T], dim=1)


def weighted_rows(gradient: Tensor, matrix: Tensor) -> Tensor:
    """gradient @ matrix, (k, d), of few weightings (k, n) of many rows (n, d), on all cores."""
    count, dim = matrix.shape
    pieces = count // _PIECE
    if pieces < 2:
        return gradient @ matrix
    end = pieces * _PIECE
    gradient = gradient.contiguous()
    body = gradient[:, :end].reshape(len(gradient), pieces, _PIECE).transpose(0, 1)
    total = torch.bmm(body, matrix[:end].view(pieces, _PIECE, dim)).sum(0)
    return total + gradient[:, end:] @ matrix[end:]


def linear(members: int, dim: int) -> Parameters:
    """A linear head at zero."""
    return {"linear": torch.zeros(members, dim), "bias": torch.zeros(members)}


def by_output(values: Tensor, outputs: int) -> Tensor:
    """(members * outputs, ...) as (members, ..., outputs); unchanged where there is one output."""
    if outputs == 1:
        return values
    return values.view(len(values) // outputs, outputs, *values.shape[1:]).movedim(1, -1).contiguous()


def mlp(
    members: int,
    dim: int,
    hidden: tuple[int, ...],
    generator: torch.Generator,
    *,
    shared_trunk: bool = False,
    outputs: int = 1,
) -> Parameters:
    """A perceptron with He-initialised hidden layers; the linear part and the output layer start at zero."""
    parameters = linear(members * outputs, dim)
    trunks = 1 if shared_trunk else members
    width = dim
    for i, size in enumerate(hidden):
        parameters[f"hidden.{i}.weight"] = torch.randn(trunks, width, size, generator=generator) * math.sqrt(2 / width)
        parameters[f"hidden.{i}.bias"] = torch.zeros(trunks, 1, size)
        width = size
    parameters["out"] = torch.zeros(members * outputs, width)
    return parameters


def depth(parameters: Parameters) -> int:
    """Number of hidden layers."""
    return sum(name.endswith(".weight") for name in parameters)


def scores(parameters: Parameters, features: Tensor) -> Tensor:
    """Scores (members, n) float32 of features (n, d)."""
    total = many_dots(features.float(), parameters["linear"]) + parameters["bias"][:, None]
    return total + hidden_scores(parameters, features) if depth(parameters) else total


def hidden_scores(parameters: Parameters, features: Tensor) -> Tensor:
    """The part (members * outputs, n) float32 of the hidden layers; matrix products run in the dtype of `features`.

    `features` is (n, d), or (members, n, d) where every member looks at rows of its own.
    """
    dtype, state = features.dtype, last_hidden(parameters, features)
    out = parameters["out"].to(dtype)
    if state.dim() == 2:
        return (state @ out.T).T.float()
    columns = out.view(len(state), -1, out.shape[1]).transpose(1, 2)  # (m, h, outputs)
    return torch.bmm(state, columns).transpose(1, 2).reshape(len(out), -1).float()


def last_hidden(parameters: Parameters, features: Tensor) -> Tensor:
    """States of the last hidden layer: (n, h) of one trunk, else (members, n, h); `features` as in `hidden_scores`."""
    dtype = features.dtype
    state = features
    for i in range(depth(parameters)):
        weight, bias = parameters[f"hidden.{i}.weight"].to(dtype), parameters[f"hidden.{i}.bias"].to(dtype)
        if len(weight) == 1:
            state = torch.addmm(bias[0], state, weight[0]).relu_()  # (n, h): one trunk
        elif state.dim() == 2:  # one wide product for all trunks
            wide = torch.addmm(bias.reshape(-1), state, weight.transpose(0, 1).reshape(state.shape[1], -1)).relu_()
            state = wide.view(len(state), len(weight), -1).transpose(0, 1)
        else:
            state = torch.baddbmm(bias, state, weight).relu_()  # (m, n, h)
    return state


def score_in_chunks(parameters: Parameters, features: np.ndarray, chunk: int = 4096) -> np.ndarray:
    """Scores (members, n) float32 of features (n, d) of any float dtype, mapped or in memory, a chunk at a time.

    Chunks keep the copy to float32 and the hidden layers in the processor's cache, and memory bounded.
    """
    result = torch.empty(len(parameters["bias"]), len(features))
    with torch.inference_mode():
        for start in range(0, len(features), chunk):
            part = np.asarray(features[start : start + chunk], dtype=np.float32)
            rows = torch.from_numpy(part if part.flags.writeable else part.copy())
            result[:, start : start + chunk] = scores(parameters, rows)
    return result.numpy()
