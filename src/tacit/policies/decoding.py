"""Fast decoding for the Llama family: weights prepared once, caches allocated once, no padding after the prompts.

- The weights of queries, keys and values are one matrix; those of the norms are multiplied into the matrices behind
  them. All are cast to the precision of the products once, and on a processor packed as oneDNN likes them.
- Pairs that rotary positions turn lie side by side, so that turning is one complex product: q' k' of reordered
  dimensions is q k.
- Prompts are aligned at their end, so that every row writes its next key into the same column of the cache; rows of
  one prompt share its prefill. The residual stream is float32; on a processor so is attention, which is faster there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tacit.policies.lean import Family, effective, normed
from tacit.policies.memory import keep_blocks

_BLOCK = 32
"""Columns by which a cache grows."""

_WIDE = 64
"""Size of heads from which values are kept in the precision of the products on a processor: fewer bytes to read."""

Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Layer:
    """One layer, ready to decode."""

    qkv: Product
    out: Product
    gated: Product
    down: Product
    q_norm: Tensor | None
    k_norm: Tensor | None


class LeanDecoder:
    """A `Decoder` (`tacit.policies.rollout`) for one set of weights."""

    def __init__(self, family: Family, dtype: torch.dtype) -> None:
        self.family, self.dtype = family, dtype
        self.device = family.base.embed_tokens.weight.device
        on_cpu = self.device.type == "cpu"
        if on_cpu:
            keep_blocks()  # the caches of one rollout are those of the next
        self.cache_dtype = torch.float32 if on_cpu else dtype
        # Values come out of a product in `dtype` anyway; keys do not, and their scores would lose more.
        self.value_dtype = dtype if family.head_dim >= _WIDE else self.cache_dtype
        self.on_cpu = on_cpu
        self.turned = interleaved(family.head_dim).to(self.device)
        self.embedding = family.base.embed_tokens.weight.detach()
        self.layers = [self._prepared(layer) for layer in family.base.layers]
        head, bias = effective(family.head)
        self.head = product(_scaled(head, family.base.norm.weight.detach().float(), dtype), bias, dtype)

    def prefill(self, prompts: Sequence[Sequence[int]], n: int, length: int) -> Tensor:
        """Read the prompts, make n rows of each with room for `length` tokens; logits (P, V) float32 after them."""
        family, device = self.family, self.device
        count, width = len(prompts), max(len(prompt) for prompt in prompts)
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        ids = torch.zeros(count, width, dtype=torch.int64)
        real = torch.arange(width) >= width - lengths[:, None]
        ids[real] = torch.tensor([token for prompt in prompts for token in prompt])
        self.ragged = not bool(real.all())
        self.column = width
        self.offset_B = (lengths - width).to(device).repeat_interleave(n)
        real = real.to(device)
        self.hidden_BL = torch.full((count * n, width + length + _BLOCK), -torch.inf, device=device)
        self.hidden_BL[:, :width].masked_fill_(real.repeat_interleave(n, 0), 0.0)
        types = (self.cache_dtype, self.value_dtype)
        self.caches = [[self._room(count * n, width, dtype) for dtype in types] for _ in self.layers]
        positions = (torch.arange(width) + (lengths - width)[:, None]).clamp_min(0).to(device)
        self.turning = self._turning(width + length)
        turns = self.turning[positions.flatten()]
        allowed = real[:, None, None, :] & torch.ones(width, width, dtype=torch.bool, device=device).tril()
        allowed = allowed | torch.eye(width, dtype=torch.bool, device=device)  # a row of padding sees itself: no NaN
        x = self.embedding[ids.to(device).flatten()].float()
        for number, layer in enumerate(self.layers):
            q, k, v = (part.view(count, width, -1, family.head_dim) for part in self._qkv(layer, x, turns))
            for cache, part in zip(self.caches[number], (k, v), strict=True):
                cache.view(count, n, *cache.shape[1:])[..., :width, :] = part.transpose(1, 2)[:, None]
            q, k, v = (part.transpose(1, 2).to(self.dtype) for part in (q, k, v))
            mixed = functional.scaled_dot_product_attention(
                q, k, v, attn_mask=allowed if self.ragged else None, is_causal=not self.ragged, scale=family.scale,
                enable_gqa=family.groups > 1,
            )  # fmt: skip
            x = self._finished(layer, x, mixed.transpose(1, 2).reshape(count * width, -1))
        return self._logits(x.view(count, width, -1)[:, -1])

    def step(self, tokens_B: Tensor) -> Tensor:
        """Read one more token of each row; logits (B, V) float32 after it."""
        family, rows = self.family, len(tokens_B)
        place = self.column
        if place == self.caches[0][0].shape[2]:
            self.caches = [[self._moved(part, slice(None)) for part in cache] for cache in self.caches]
        self.column += 1
        room = self.caches[0][0].shape[2]
        self.hidden_BL[:, place] = 0.0
        turns = self.turning[self.offset_B + place] if self.ragged else self.turning[place : place + 1]
        mask = (self.hidden_BL if self.ragged else self.hidden_BL[:1])[:, None, None, :room].to(self.cache_dtype)
        if self.on_cpu and self.ragged:
            mask = mask.expand(rows, family.kv_heads, 1, room)
        x = self.embedding[tokens_B].float()
        for layer, cache in zip(self.layers, self.caches, strict=True):
            q, k, v = self._qkv(layer, x, turns)
            keys, values = cache
            keys[:, :, place], values[:, :, place] = k, v
            if self.on_cpu:
                scores = torch.baddbmm(
                    mask.reshape(-1, 1, room), q.reshape(-1, family.groups, family.head_dim),
                    keys.flatten(0, 1).transpose(1, 2), alpha=family.scale,
                )  # fmt: skip
                mixed = torch.bmm(torch.softmax(scores, -1).to(values.dtype), values.flatten(0, 1))
            else:
                mixed = functional.scaled_dot_product_attention(
                    q[:, :, None].to(self.dtype), keys, values, attn_mask=mask, scale=family.scale,
                    enable_gqa=family.groups > 1,
                )  # fmt: skip
            x = self._finished(layer, x, mixed.reshape(rows, -1))
        return self._logits(x)

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows of the cache."""
        self.caches = [[self._moved(part, rows) for part in cache] for cache in self.caches]
        self.offset_B, self.hidden_BL = self.offset_B[rows], self.hidden_BL[rows]

    def _room(self, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
        """A layer's keys or values (rows, K, columns and some to come, D).

        Zeros where nothing was written: the mask hides these places, but a NaN would come through. A product over a
        whole contiguous block is faster than one over the part that is filled.
        """
        places = (columns // _BLOCK + 1) * _BLOCK
        shape = (rows, self.family.kv_heads, places, self.family.head_dim)
        return torch.zeros(shape, dtype=dtype, device=self.device)

    def _moved(self, part: Tensor, rows: Tensor | slice) -> Tensor:
        """These rows of keys or values, with room for more columns."""
        used = part[rows, :, : self.column]
        moved = self._room(len(used), self.column, part.dtype)
        moved[:, :, : self.column] = used
        return moved

    def _qkv(self, layer: _Layer, x: Tensor, turns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (N, H, D), keys and values (N, K, D) in the cache's precision, turned by their positions."""
        family = self.family
        heads = family.heads + family.kv_heads
        parts = layer.qkv(self._normed(x)).float().view(len(x), heads + family.kv_heads, family.head_dim)
        qk, v = parts[:, :heads], parts[:, heads:]
        if layer.q_norm is not None and layer.k_norm is not None:
            qk = functional.rms_norm(qk, (family.head_dim,), None, family.eps)
            qk = torch.cat([qk[:, : family.heads] * layer.q_norm, qk[:, family.heads :] * layer.k_norm], 1)
        turned = torch.view_as_real(torch.view_as_complex(qk.reshape(len(x), heads, -1, 2)) * turns).flatten(-2)
        q, k = turned[:, : family.heads], turned[:, family.heads :]
        return q, k, v

    def _finished(self, layer: _Layer, x: Tensor, mixed: Tensor) -> Tensor:
        """The rest of a layer after attention."""
        x = x + layer.out(mixed.to(self.dtype))
        return x + layer.down(layer.gated(self._normed(x)))

    def _normed(self, x: Tensor) -> Tensor:
        if self.on_cpu:
            return normed(x, self.family.eps, self.dtype)[0]
        return functional.rms_norm(x, (x.shape[-1],), None, self.family.eps).to(self.dtype)

    def _logits(self, x: Tensor) -> Tensor:
        return self.head(self._normed(x)).float()

    def _turning(self, places: int) -> Tensor:
        """cos + i sin of each pair at the first positions, (places, 1, D / 2) complex64."""
        cos, sin = self.family.rotations(torch.arange(places))
        half = self.family.head_dim // 2
        return torch.complex(cos[:, None, :half].contiguous(), sin[:, None, :half].contiguous())

    def _prepared(self, layer: Any) -> _Layer:
        family, attention, mlp = self.family, layer.self_attn, layer.mlp
        before = layer.input_layernorm.weight.detach().float()
        between = layer.post_attention_layernorm.weight.detach().float()
        weights, biases = [], []
        for name in ("q_proj", "k_proj", "v_proj"):
            weight, bias = effective(getattr(attention, name))
            bias = weight.new_zeros(len(weight)) if bias is None else bias
            if name != "v_proj":
                weight = weight.view(-1, family.head_dim, weight.shape[1])[:, self.turned].flatten(0, 1)
                bias = bias.view(-1, family.head_dim)[:, self.turned].flatten()
            weights.append(weight)
            biases.append(bias)
        bias = torch.cat(biases)
        qkv = product(_scaled(torch.cat(weights), before, self.dtype), bias if bool(bias.any()) else None, self.dtype)
        norms = [
            getattr(attention, name).weight.detach().float()[self.turned] if family.query_norm else None
            for name in ("q_norm", "k_norm")
        ]
        gate, up = (
            (_scaled(weight, between, self.dtype), bias)
            for weight, bias in (effective(mlp.gate_proj), effective(mlp.up_proj))
        )
        return _Layer(
            qkv, product(*effective(attention.o_proj), self.dtype),
            gated(gate, up, self.dtype),
            product(*effective(mlp.down_proj), self.dtype), norms[0], norms[1],
        )  # fmt: skip


def _scaled(weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """weight * scale in float32, rounded to `dtype` in the same pass."""
    return torch.mul(weight.float(), scale, out=torch.empty(weight.shape, dtype=dtype, device=weight.device))


def product(weight: Tensor, bias: Tensor | None, dtype: torch.dtype, rows: int = 64) -> Product:
    """x (N, in) to x W^T + b (N, out) in `dtype`; packed for oneDNN, for about `rows` rows, on a processor."""
    weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
    packed = _packed(weight, rows)
    if packed is None:
        return lambda x: functional.linear(x, weight, bias)
    run = torch.ops.mkldnn._linear_pointwise.default
    return lambda x: run(x, packed, bias, "none", [], "")


def gated(gate: tuple[Tensor, Tensor | None], up: tuple[Tensor, Tensor | None], dtype: torch.dtype) -> Product:
    """x to silu(x G^T + b) * (x U^T + c)."""
    (g, b), (u, c) = ((weight.to(dtype), None if bias is None else bias.to(dtype)) for weight, bias in (gate, up))
    packed_g, packed_u = _packed(g), _packed(u)
    if packed_g is None or packed_u is None:
        both = torch.cat([g, u])
        if b is None or c is None:
            return lambda x: _silu_product(functional.linear(x, both))
        biases = torch.cat([b, c])
        return lambda x: _silu_product(functional.linear(x, both, biases))
    run = torch.ops.mkldnn._linear_pointwise
    return lambda x: run.binary(x, run.default(x, packed_g, b, "swish", [], ""), packed_u, c, "mul")


def _silu_product(both: Tensor) -> Tensor:
    gate, up = both.chunk(2, -1)
    return functional.silu(gate).mul_(up)


def _packed(weight: Tensor, rows: int = 64) -> Tensor | None:
    """The weight in oneDNN's own layout; None where that cannot be had."""
    if weight.device.type != "cpu" or not torch._C._has_mkldnn:
        return None
    try:
        packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)
    except (AttributeError, RuntimeError):  # not a public interface: another torch may lack it
        return None
    return packed


def interleaved(size: int) -> Tensor:
    """Places 0, h, 1, h + 1, ... with h = size / 2: halves that turn together side by side."""
    return torch.arange(size).view(2, size // 2).t().flatten()
