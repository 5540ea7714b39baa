"""Log-probabilities and entropies of tokens from the states before them, without the logits ever lying whole in memory.

For states h_1..h_N, output weights W (V, d), bias b and temperature T,

    l_i = (W h_i + b) / T,   log p(a_i) = l_i[a_i] - logsumexp(l_i),   H_i = logsumexp(l_i) - sum_v p_i[v] l_i[v].

Logits exist for some hundred tokens at a time. What the backward pass needs of them is kept where it is little (the
probabilities, in the precision of the products), and otherwise computed again:

    d log p(a) / d l = onehot(a) - p,   d H / d l = -p (log p + H)

(as in Liger Kernel, arXiv 2410.10989, section 3.2, but for any loss on the log-probabilities, not their mean alone).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_ELEMENTS = 1 << 21
"""Logits at a time: 8 MiB in float32."""

_KEPT = 1 << 25
"""Most probabilities that are kept for the backward pass."""


def token_scores(
    states_ND: Tensor,
    weight_VD: Tensor,
    targets_N: Tensor,
    *,
    bias_V: Tensor | None = None,
    temperature: float = 1.0,
    entropy: bool = False,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor | None]:
    """log p (N,) of the targets and, if asked for, entropies (N,) in nats: float32, with gradients.

    `dtype` is that of the matrix products; everything else is float32.
    """
    apply: Any = _Scores.apply
    logprobs_N, entropy_N = apply(states_ND, weight_VD, bias_V, targets_N, temperature, entropy, dtype)
    return logprobs_N, entropy_N if entropy else None


def chunk_rows(vocabulary: int) -> int:
    """Tokens whose logits exist at the same time."""
    return max(64, _ELEMENTS // vocabulary)


class _Scores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        targets_N: Tensor,
        temperature: float,
        entropy: bool,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        n = len(states_ND)
        states, weight = states_ND.detach().to(dtype), weight_VD.detach().to(dtype)
        logprobs_N = states.new_empty(n, dtype=torch.float32)
        total_N = torch.empty_like(logprobs_N)
        entropy_N = torch.empty_like(logprobs_N) if entropy else states.new_zeros(0, dtype=torch.float32)
        keep = n * len(weight) <= _KEPT and any(ctx.needs_input_grad[:3])
        kept_NV = states.new_empty(n, len(weight)) if keep else None
        for part in _chunks(n, weight.shape[0]):
            logits = _logits(states[part], weight, bias_V, temperature)
            most = logits.amax(1, keepdim=True)
            logits.sub_(most)
            said = logits.gather(1, targets_N[part, None]).squeeze(1)
            shares = torch.exp(logits)
            sums = shares.sum(1)
            logsum = sums.log()
            logprobs_N[part], total_N[part] = said - logsum, logsum + most[:, 0]
            if entropy:
                entropy_N[part] = logsum - torch.linalg.vecdot(shares, logits) / sums
            if kept_NV is not None:
                kept_NV[part] = shares.div_(sums[:, None])
        ctx.save_for_backward(states, weight, bias_V, targets_N, total_N, entropy_N, kept_NV)
        ctx.temperature, ctx.types = temperature, (states_ND.dtype, weight_VD.dtype)
        ctx.set_materialize_grads(False)
        return logprobs_N, entropy_N

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        grad_N, grad_entropy_N = gradients
        states, weight, bias_V, targets_N, total_N, entropy_N, kept_NV = ctx.saved_tensors
        needs_states, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        to_states = torch.empty_like(states) if needs_states else None
        to_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None
        to_bias = torch.zeros_like(bias_V, dtype=torch.float32) if needs_bias else None
        for part in _chunks(len(states), weight.shape[0]):
            g = None if grad_N is None else grad_N[part, None]
            if kept_NV is not None and g is not None and grad_entropy_N is None:
                slope = kept_NV[part].mul(-g.to(kept_NV.dtype))
            else:
                logp = _logits(states[part], weight, bias_V, ctx.temperature).sub_(total_N[part, None])
                p = torch.exp(logp)
                slope = torch.zeros_like(p)
                if grad_entropy_N is not None:
                    slope = logp.add_(entropy_N[part, None]).mul_(p).mul_(-grad_entropy_N[part, None])
                if g is not None:
                    slope.addcmul_(p, g, value=-1.0)
            if g is not None:
                slope.scatter_add_(1, targets_N[part, None], g.to(slope.dtype))
            if ctx.temperature != 1.0:
                slope /= ctx.temperature
            cast = slope.to(weight.dtype)
            if to_states is not None:
                torch.mm(cast, weight, out=to_states[part])
            if to_weight is not None:
                to_weight += cast.t() @ states[part]
            if to_bias is not None:
                to_bias += slope.sum(0)
        states_type, weight_type = ctx.types
        return (
            None if to_states is None else to_states.to(states_type),
            None if to_weight is None else to_weight.to(weight_type),
            to_bias, None, None, None, None,
        )  # fmt: skip


def _chunks(n: int, vocabulary: int) -> list[slice]:
    rows = chunk_rows(vocabulary)
    return [slice(start, min(n, start + rows)) for start in range(0, n, rows)]


def _logits(states: Tensor, weight: Tensor, bias_V: Tensor | None, temperature: float) -> Tensor:
    logits = (states @ weight.t()).float()
    if bias_V is not None:
        logits += bias_V
    return logits if temperature == 1.0 else logits.div_(temperature)
