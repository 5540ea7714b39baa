"""The layers of the Llama family with backward passes written by hand, for training on a processor.

The numbers are those of `lean.predicting_states`; what differs is what is read and written on the way. The weights of a
norm are multiplied into the matrices behind it, so that z = x / rms(x) alone is computed and kept; queries, keys and
values are one product; pairs that a rotation turns lie side by side, so that turning is one complex product, and its
gradient the product with the conjugate. With y = W diag(g) z and s = dL/dy,

    dL/dW = (s^T z) diag(g),    dL/dg = sums over rows of (s^T z) * W,
    dL/dx = (t - z mean(t * z)) / rms(x),    t = diag(g) W^T s,

and for the gate a = silu(u) v: dL/du = silu'(u) v dL/da, dL/dv = silu(u) dL/da. Scores of attention are float32
products; behind the softmax everything is in the precision of the products.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tacit.policies import lean
from tacit.policies.decoding import interleaved, product
from tacit.policies.lean import Family
from tacit.policies.packing import Block, Packed

LONGEST = 512
"""Most keys of a row: the softmaxes are kept for the backward pass."""


def predicting_states(found: Family, packed: Packed, dtype: torch.dtype) -> Tensor:
    """The states (M, d) float32 before each response token of a packed sequence, with gradients.

    `lean.predicting_states` where the layers here do not serve.
    """
    base = found.base
    if not len(packed.ids) or not _serve(found, packed):
        return lean.predicting_states(found, packed, dtype)
    with torch.autocast("cpu", enabled=False):
        cos, sin = (part[:, : found.head_dim // 2] for part in found.rotations(packed.positions))
        turns = torch.complex(cos.contiguous(), sin.contiguous())[:, None]
        attend = _Attention(found, packed, dtype)
        x: Tensor = base.embed_tokens(packed.ids)
        last = len(base.layers) - 1
        attention: Any = _AttentionLayer.apply
        gate: Any = _GateLayer.apply
        for number, layer in enumerate(base.layers):
            own, mlp = layer.self_attn, layer.mlp
            projections = (own.q_proj, own.k_proj, own.v_proj)
            x = attention(
                x, layer.input_layernorm.weight, *(one.weight for one in projections),
                *(one.bias for one in projections), own.o_proj.weight, attend, turns,
                packed.wanted if number == last else None,
            )  # fmt: skip
            weights = (one.weight for one in (mlp.gate_proj, mlp.up_proj, mlp.down_proj))
            x = gate(x, layer.post_attention_layernorm.weight, *weights, found.eps, dtype)
        return lean.rms(x, base.norm.weight, found.eps).float()


def _serve(found: Family, packed: Packed) -> bool:
    """Float32 weights of plain linear maps without adapters or hooks, on a processor, and short texts."""
    if packed.ids.device.type != "cpu" or found.query_norm or any(lean.keys(b) > LONGEST for b in packed.blocks):
        return False
    for layer in found.base.layers:
        own, mlp = layer.self_attn, layer.mlp
        maps = (own.q_proj, own.k_proj, own.v_proj, own.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj)
        for one in maps:
            if type(one) is not torch.nn.Linear or one._forward_hooks or one._forward_pre_hooks:
                return False
            if one.weight.dtype is not torch.float32:
                return False
        if any(one.bias is not None for one in maps[3:]):
            return False
    return True


class _Places:
    """Where the heads of a block lie: flat, a row for token and head, and grouped, a row for text, head and place."""

    def __init__(self, block: Block, heads: int, kv_heads: int) -> None:
        count, width = len(block.lengths), block.width
        self.block, self.before = block, 0 if block.trunk is None else block.trunk.shape[1]
        self.room = self.before + width
        lying = torch.arange(count * width) if block.places is None else block.places
        tokens = torch.full((count * width,), block.start).index_copy_(0, lying, torch.arange(block.start, block.stop))
        tokens = tokens.view(count, 1, width)  # padding reads the first token, which no real one looks at from there
        seen = tokens if block.trunk is None else torch.cat([block.trunk[:, None], tokens], 2)
        own, keys = torch.arange(heads)[None, :, None], torch.arange(kv_heads)[None, :, None]
        self.queries = (tokens * (heads + kv_heads) + own).flatten()
        self.keys = (seen * (heads + kv_heads) + heads + keys).flatten()
        self.values = (seen * kv_heads + keys).flatten()
        self.mixed = (tokens * heads + own).flatten()
        text, place = (lying // width)[:, None], (lying % width)[:, None]
        self.to_mixed = ((text * heads + own[:, :, 0]) * width + place).flatten()
        self.to_keys = ((text * kv_heads + keys[:, :, 0]) * self.room + self.before + place).flatten()
        unused = torch.ones(count * width, dtype=torch.bool).index_fill_(0, lying, False).view(count, 1, width)
        self.padding = unused.expand(-1, heads, -1).flatten().nonzero()[:, 0]


class _Attention:
    """Attention over a packed sequence, block by block, and its gradients."""

    def __init__(self, found: Family, packed: Packed, dtype: torch.dtype) -> None:
        self.found, self.dtype = found, dtype
        self.places = [_Places(block, found.heads, found.kv_heads) for block in packed.blocks]
        self.masks = [lean.mask(block, torch.float32) for block in packed.blocks]
        self.turned = interleaved(found.head_dim)

    def forward(self, qk: Tensor, v: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Turned queries and keys (N, H + K, D) float32 and values (N, K, D) to (N, H, D), and the softmaxes."""
        mixed = torch.empty(len(qk), self.found.heads, self.found.head_dim, dtype=self.dtype)
        kept = []
        for at, mask in zip(self.places, self.masks, strict=True):
            q, k, values = self._parts(at, qk, v)
            scores = torch.bmm(q, k.transpose(1, 2)).view(len(at.block.lengths), -1, at.block.width, at.room).add_(mask)
            p = torch.softmax(scores, -1).to(self.dtype).view(len(q), -1, at.room)
            kept.append(p)
            torch.index_select(_by_head(torch.bmm(p, values)), 0, at.to_mixed, out=_by_head(_tokens(mixed, at)))
        return mixed, kept

    def backward(
        self, d_mixed: Tensor, qk: Tensor, v: Tensor, kept: list[Tensor] | tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor]:
        """Gradients of qk and v, float32, from that of `mixed`.

        Rows of the scores' gradient add up to 0, so that what all keys (or values) have in common changes nothing; it
        is taken off before they are rounded.
        """
        heads = self.found.heads
        d_qk, d_v = torch.empty_like(qk), torch.empty(v.shape, dtype=torch.float32)
        shared: list[tuple[Block, Tensor, Tensor]] = []
        for at, p in zip(self.places, kept, strict=True):
            q, k, values = self._parts(at, qk, v)
            q, k, values = q.to(self.dtype), self._centred(k), self._centred(values)
            d_out = _by_head(d_mixed).index_select(0, at.mixed).index_fill_(0, at.padding, 0.0).view(q.shape)
            d_p = torch.bmm(d_out, values.transpose(1, 2))
            d_scores = torch._softmax_backward_data(d_p, p, -1, p.dtype)
            d_keys, d_values = torch.bmm(d_scores.transpose(1, 2), q), torch.bmm(p.transpose(1, 2), d_out)
            d_queries = torch.bmm(d_scores, k)
            for target, grouped, rows in (
                (d_qk[:, :heads], d_queries, at.to_mixed),
                (d_qk[:, heads:], d_keys, at.to_keys),
                (d_v, d_values, at.to_keys),
            ):
                own = _tokens(target, at)
                own.copy_(_by_head(grouped).index_select(0, rows).view(own.shape))
            if at.before:
                shared.append((at.block, d_keys[:, : at.before], d_values[:, : at.before]))
        for block, d_keys, d_values in shared:  # what rows add to the prompt that they share
            assert block.trunk is not None
            for target, own in ((d_qk[:, heads:], d_keys), (d_v, d_values)):
                by_token = own.reshape(len(block.lengths), -1, *own.shape[1:]).transpose(1, 2).flatten(0, 1)
                target.index_add_(0, block.trunk.flatten(), by_token.float())
        return d_qk, d_v

    def _parts(self, at: _Places, qk: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (b K, G T, D), keys and values (b K, S, D) of a block, those of its trunk first."""
        size, pairs = self.found.head_dim, len(at.block.lengths) * self.found.kv_heads
        q = _by_head(qk).index_select(0, at.queries).view(pairs, -1, size)
        k = _by_head(qk).index_select(0, at.keys).view(pairs, -1, size)
        return q, k, _by_head(v).index_select(0, at.values).view(pairs, -1, size)

    def _centred(self, rows: Tensor) -> Tensor:
        return (rows - rows.mean(1, keepdim=True, dtype=torch.float32)).to(self.dtype)


def _by_head(x: Tensor) -> Tensor:
    """(..., D) as rows of a head each."""
    return x.view(-1, x.shape[-1])


def _tokens(flat: Tensor, at: _Places) -> Tensor:
    """A block's part of (N, H, D)."""
    return flat[at.block.start : at.block.stop]


class _AttentionLayer(torch.autograd.Function):
    """x + W_o attention(R W_q z, R W_k z, W_v z), z = RMSNorm(x); the wanted rows alone where there are such."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, norm: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, b_q: Tensor | None,
        b_k: Tensor | None, b_v: Tensor | None, w_o: Tensor, attend: _Attention, turns: Tensor, wanted: Tensor | None,
    ) -> Tensor:  # fmt: skip
        found, dtype = attend.found, attend.dtype
        heads = found.heads + found.kv_heads
        z, r = lean.normed(x, found.eps, dtype)
        stacked, scales = _stacked(found, attend.turned, w_q, w_k, w_v)
        matrix = stacked.mul_(norm).mul_(scales)
        bias = None if b_q is None or b_k is None or b_v is None else _stacked_bias(found, attend.turned, b_q, b_k, b_v)
        qkv = product(matrix, bias, dtype, len(x))(z).view(len(x), -1, found.head_dim)
        qk = _turned(qkv[:, :heads].float(), turns)
        v = qkv[:, heads:].to(dtype, copy=True)
        mixed, kept = attend.forward(qk, v)
        mixed = mixed.flatten(1)
        if wanted is not None:
            mixed, x = mixed[wanted], x[wanted]
        ctx.attend, ctx.biased = attend, bias is not None
        ctx.save_for_backward(z, r, norm, w_q, w_k, w_v, w_o, qk, v, mixed, turns, wanted, *kept)
        return product(w_o, None, dtype, len(x))(mixed).float().add_(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (d_y,) = gradients
        z, r, norm, w_q, w_k, w_v, w_o, qk, v, mixed, turns, wanted, *kept = ctx.saved_tensors
        attend: _Attention = ctx.attend
        found, dtype = attend.found, attend.dtype
        cast = d_y.to(dtype)
        d_o = (cast.t() @ mixed).float()
        d_mixed = product(w_o.t(), None, dtype, len(cast))(cast)
        if wanted is not None:
            d_mixed = d_mixed.new_zeros(len(z), d_mixed.shape[1]).index_add_(0, wanted, d_mixed)
            d_y = d_y.new_zeros(len(z), d_y.shape[1]).index_add_(0, wanted, d_y)
        d_qk, d_v = attend.backward(d_mixed.view(len(z), -1, found.head_dim), qk, v, kept)
        d_qkv = torch.empty(len(z), found.heads + 2 * found.kv_heads, found.head_dim, dtype=dtype)
        heads = qk.shape[1]
        d_qkv[:, :heads], d_qkv[:, heads:] = _turned(d_qk, turns.conj()), d_v
        flat = d_qkv.flatten(1)
        stacked, scales = _stacked(found, attend.turned, w_q, w_k, w_v)
        matrix = stacked.mul(norm).mul_(scales)
        d_x = _norm_backward(product(matrix.t(), None, dtype, len(z))(flat), z, r, d_y)
        d_matrix = (flat.t() @ z).float().mul_(scales)
        d_norm = torch.linalg.vecdot(d_matrix, stacked, dim=0)
        d_weights = _unstacked(found, attend.turned, d_matrix.mul_(norm))
        d_biases: tuple[Tensor | None, ...] = (None, None, None)
        if ctx.biased:
            d_biases = tuple(
                one[:, 0] for one in _unstacked(found, attend.turned, flat.float().sum(0)[:, None].mul_(scales))
            )
        return d_x, d_norm, *d_weights, *d_biases, d_o, None, None, None


class _GateLayer(torch.autograd.Function):
    """x + W_down (silu(W_gate z) * W_up z), z = RMSNorm(x)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, norm: Tensor, gate: Tensor, up: Tensor, down: Tensor, eps: float, dtype: torch.dtype
    ) -> Tensor:
        z, r = lean.normed(x, eps, dtype)
        u, v = (product(weight * norm, None, dtype, len(x))(z) for weight in (gate, up))
        a = functional.silu(u).mul_(v)
        ctx.save_for_backward(z, r, norm, gate, up, down, u, v)
        return product(down, None, dtype, len(x))(a).float().add_(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (d_y,) = gradients
        z, r, norm, gate, up, down, u, v = ctx.saved_tensors
        cast = d_y.to(z.dtype)
        opened = functional.silu(u)
        d_down = (cast.t() @ (opened * v)).float()  # the product again, rather than a sixth of all that is kept
        d_a = product(down.t(), None, z.dtype, len(z))(cast)
        d_v = opened.mul_(d_a)
        d_u = torch.ops.aten.silu_backward(d_a.mul_(v), u)
        to_u, to_v = (product((weight * norm).t(), None, z.dtype, len(z)) for weight in (gate, up))
        d_z = to_u(d_u).add_(to_v(d_v))
        d_x = _norm_backward(d_z, z, r, d_y)
        d_first, d_second = (d_u.t() @ z).float(), (d_v.t() @ z).float()
        d_norm = torch.linalg.vecdot(d_first, gate, dim=0) + torch.linalg.vecdot(d_second, up, dim=0)
        return d_x, d_norm, d_first.mul_(norm), d_second.mul_(norm), d_down, None, None


def _norm_backward(d_z: Tensor, z: Tensor, r: Tensor, beside: Tensor) -> Tensor:
    """The gradient of x from that of z = x r, plus the one that came past the norm."""
    t, wide = d_z.float(), z.float()
    mean = torch.linalg.vecdot(t, wide)[:, None].div_(z.shape[1])
    return torch.addcmul(beside, t, r).addcmul_(wide, mean.mul_(r), value=-1.0)


def _turned(x: Tensor, turns: Tensor) -> Tensor:
    """Pairs (N, H, D) turned by complex numbers (N, 1, D / 2)."""
    pairs = torch.view_as_complex(x.view(*x.shape[:2], -1, 2))
    return torch.view_as_real(pairs * turns).flatten(2)


def _stacked(found: Family, turned: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor) -> tuple[Tensor, Tensor]:
    """Weights of queries, keys (turned pairs side by side) and values as one (H + 2 K, D) rows, and their scales.

    The scale of attention is in the queries.
    """
    reordered = (w.view(-1, found.head_dim, w.shape[1])[:, turned].flatten(0, 1) for w in (w_q, w_k))
    stacked = torch.cat([*reordered, w_v])
    scales = torch.ones(len(stacked), 1)
    scales[: len(w_q)] = found.scale
    return stacked, scales


def _stacked_bias(found: Family, turned: Tensor, b_q: Tensor, b_k: Tensor, b_v: Tensor) -> Tensor:
    columns, scales = _stacked(found, turned, b_q[:, None], b_k[:, None], b_v[:, None])
    return columns.mul_(scales)[:, 0]


def _unstacked(found: Family, turned: Tensor, d_stacked: Tensor) -> tuple[Tensor, ...]:
    """Gradients of the weights of queries, keys and values, in their own order."""
    size, back = found.head_dim, torch.argsort(turned)
    heads, keys = found.heads * size, found.kv_heads * size
    d_q, d_k, d_v = torch.split(d_stacked, [heads, keys, keys])
    d_q, d_k = (one.view(-1, size, one.shape[1])[:, back].flatten(0, 1) for one in (d_q, d_k))
    return d_q, d_k, d_v
