"""Which models have a forward pass of our own, and its numbers: the Llama family.

With RMSNorm(x) = x / sqrt(mean(x^2) + eps) * g, rotary positions R and SiLU gates, layer by layer

    x <- x + W_o attention(R W_q z, R W_k z, W_v z),        z = RMSNorm(x)
    x <- x + W_down (silu(W_gate z) * W_up z),              z = RMSNorm(x)

(Touvron et al. 2023, arXiv 2302.13971), with biases (Qwen 2), norms of queries and keys (Qwen 3), grouped keys and
values (Ainslie et al. 2023, arXiv 2305.13245). Whether a model is of this kind is not believed but tried: its class
must be known, and its numbers on a short text must be those of its own forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tacit.policies.contract import Responses
from tacit.policies.packing import Block, Packed, pack

_KINDS = ("Llama", "Mistral", "Qwen2", "Qwen3")
_CLASSES = tuple(f"{kind}For{head}" for kind in _KINDS for head in ("CausalLM", "SequenceClassification"))
SHORT = 256
"""Most keys of a row for which attention is two plain products on a processor."""
_ROPES = ("default", "linear", "llama3", "yarn")


@dataclass(frozen=True)
class Family:
    """A model of the Llama family, by its parts."""

    base: Any
    """The stack of layers: embed_tokens, layers, norm, rotary_emb."""
    head: Any
    """Last states to logits."""
    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    """Of the scores before the softmax."""
    eps: float
    query_norm: bool
    """Queries and keys are normalised."""

    @property
    def groups(self) -> int:
        """Queries for each key."""
        return self.heads // self.kv_heads

    def rotations(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin (..., head_dim) float32 at positions (...)."""
        device = self.base.embed_tokens.weight.device
        like = torch.zeros(1, device=device)
        with torch.autocast(device.type, enabled=False):
            cos, sin = self.base.rotary_emb(like, positions.reshape(1, -1).to(device))
        shape = (*positions.shape, cos.shape[-1])
        return cos.float().reshape(shape), sin.float().reshape(shape)


def family(model: Any) -> Family | None:
    """The parts of a model whose forward pass is of this kind; None for any other."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = inner.config
    if type(inner).__name__ not in _CLASSES or getattr(config, "hidden_act", "") not in ("silu", "swish"):
        return None
    rope = getattr(config, "rope_parameters", None) or {}
    windows = "sliding_attention" in (getattr(config, "layer_types", None) or ())
    if type(inner).__name__.startswith("Mistral"):
        windows = getattr(config, "sliding_window", None) is not None
    dropout = float(getattr(config, "attention_dropout", 0.0) or 0.0)
    if rope.get("rope_type", "default") not in _ROPES or windows or dropout > 0:
        return None
    attention = inner.model.layers[0].self_attn
    if inner.model.rotary_emb.inv_freq.numel() * 2 != attention.head_dim:
        return None
    return Family(
        inner.model, inner.get_output_embeddings(), config.num_attention_heads, config.num_key_value_heads,
        attention.head_dim, attention.scaling, config.rms_norm_eps, hasattr(attention, "q_norm"),
    )  # fmt: skip


def agrees(found: Family, model: Any) -> bool:
    """Whether our pass gives the states of the model's own on a short text."""
    device = found.base.embed_tokens.weight.device
    ids = torch.arange(8) % found.base.embed_tokens.weight.shape[0]
    text = Responses([ids[:2].tolist()], torch.zeros(1, dtype=torch.int64), ids[None, 2:], torch.ones(1, 6).bool())
    training = model.training
    model.eval()
    with torch.no_grad():
        ours = predicting_states(found, pack(text, device), torch.float32)
        theirs = found.base(input_ids=ids[None, :-1].to(device), use_cache=False).last_hidden_state[0, 1:].float()
    model.train(training)
    return bool((ours - theirs).abs().max() <= 1e-3 * theirs.abs().max())


def effective(linear: Any) -> tuple[Tensor, Tensor | None]:
    """Weight (out, in) and bias of a linear layer, a low-rank adapter that is switched on added."""
    base = getattr(linear, "base_layer", linear)
    weight, bias = base.weight.detach(), base.bias
    if base is not linear and not linear.disable_adapters and not linear.merged:
        for name in linear.active_adapters:
            if name in linear.lora_A:
                weight = weight + linear.get_delta_weight(name).to(weight.dtype)
    return weight, None if bias is None else bias.detach()


def predicting_states(found: Family, packed: Packed, dtype: torch.dtype) -> Tensor:
    """The states (M, d) float32 before each response token of a packed sequence, with gradients.

    Layers are called as modules, so that adapters and hooks work; under autocast their products are in `dtype`.
    """
    base = found.base
    x: Tensor = base.embed_tokens(packed.ids)
    if not len(x):
        return x.float()
    cos, sin = (part[:, None] for part in found.rotations(packed.positions))
    attend = _Attention(found, packed, dtype)
    last = len(base.layers) - 1
    for number, layer in enumerate(base.layers):
        attention = layer.self_attn
        z = rms(x, layer.input_layernorm.weight, found.eps)
        q, k, v = (
            getattr(attention, name)(z).view(len(x), -1, found.head_dim) for name in ("q_proj", "k_proj", "v_proj")
        )
        if found.query_norm:
            q, k = rms(q, attention.q_norm.weight, found.eps), rms(k, attention.k_norm.weight, found.eps)
        q, k = _turned(q, cos, sin), _turned(k, cos, sin)
        mixed = attend(q, k, v)
        if number == last:  # nothing attends to what follows: only the states that are wanted go on
            mixed, x = mixed[packed.wanted], x[packed.wanted]
        x = x + attention.o_proj(mixed)
        x = x + layer.mlp(rms(x, layer.post_attention_layernorm.weight, found.eps))
    return rms(x, base.norm.weight, found.eps).float()


class _Attention:
    """Attention over a packed sequence, block by block."""

    def __init__(self, found: Family, packed: Packed, dtype: torch.dtype) -> None:
        self.found, self.blocks, self.dtype = found, packed.blocks, dtype
        self.masks = [mask(block, dtype) for block in packed.blocks]

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(N, H, D), (N, K, D), (N, K, D) to (N, H D)."""
        results = []
        for block, hidden in zip(self.blocks, self.masks, strict=True):
            queries, keys, values = (padded(part[block.start : block.stop], block) for part in (q, k, v))
            if block.trunk is not None:
                keys, values = (torch.cat([whole[block.trunk], own], 1) for whole, own in ((k, keys), (v, values)))
            if keys.device.type == "cpu" and keys.shape[1] <= SHORT:
                mixed = self._products(queries, keys, values, hidden)
            else:
                mixed = functional.scaled_dot_product_attention(
                    queries.transpose(1, 2).to(self.dtype), keys.transpose(1, 2).to(self.dtype),
                    values.transpose(1, 2).to(self.dtype), attn_mask=None if block.trunk is None else hidden,
                    is_causal=block.trunk is None, scale=self.found.scale, enable_gqa=self.found.groups > 1,
                ).transpose(1, 2)  # fmt: skip
            flat = mixed.reshape(-1, mixed.shape[2] * mixed.shape[3])
            results.append(flat if block.places is None else _gather(flat, block.places))
        return torch.cat(results)

    def _products(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """(b, T, H, D), (b, S, K, D), (b, S, K, D) to (b, T, H, D) by plain products in float32.

        On a processor the backward pass of fused attention takes twice as long where texts are short.
        """
        count, width, heads, size = queries.shape
        groups = self.found.groups
        with torch.autocast("cpu", enabled=False):
            grouped = (queries.float() * self.found.scale).view(count, width, heads // groups, groups, size)
            q = grouped.permute(0, 2, 3, 1, 4).reshape(-1, groups * width, size)
            k, v = (part.float().transpose(1, 2).reshape(-1, keys.shape[1], size) for part in (keys, values))
            scores = torch.bmm(q, k.transpose(1, 2)).view(count, heads, width, -1).add_(mask)
            mixed = torch.bmm(torch.softmax(scores, -1).view(len(q), groups * width, -1), v)
        return mixed.view(count, heads, width, size).transpose(1, 2)


def mask(block: Block, dtype: torch.dtype) -> Tensor:
    """0 where a query may look and -inf elsewhere, (b or 1, 1, width, P + width).

    Padding stands after the tokens, where no token looks.
    """
    device = block.lengths.device
    allowed = torch.ones(1, block.width, block.width, dtype=torch.bool, device=device).tril()
    if block.trunk_real is not None:
        before = block.trunk_real[:, None].expand(-1, block.width, -1)
        allowed = torch.cat([before, allowed.expand(len(before), -1, -1)], 2)
    return torch.zeros(allowed.shape, dtype=dtype, device=device).masked_fill_(~allowed, -torch.inf)[:, None]


def keys(block: Block) -> int:
    """Most keys that a query of a block looks at."""
    return block.width + (0 if block.trunk is None else block.trunk.shape[1])


def padded(flat: Tensor, block: Block) -> Tensor:
    """Tokens (n, H, D) of a block as (b, width, H, D), right padded with zeros."""
    count = len(block.lengths)
    if block.places is not None:
        flat = _scatter(flat, block.places, count * block.width)
    return flat.view(count, block.width, *flat.shape[1:])


class _Scatter(torch.autograd.Function):
    """Rows to places of a larger zero tensor, each to one of its own."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor, places: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(places)
        return flat.new_zeros(size, *flat.shape[1:]).index_copy_(0, places, flat)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (places,) = ctx.saved_tensors
        return gradients[0].index_select(0, places), None, None


class _Gather(torch.autograd.Function):
    """Rows at places, no place twice."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.size = len(padded)
        return padded.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (places,) = ctx.saved_tensors
        whole = gradients[0].new_zeros(ctx.size, *gradients[0].shape[1:])
        return whole.index_copy_(0, places, gradients[0]), None


_scatter: Any = _Scatter.apply
_gather: Any = _Gather.apply


def normed(x: Tensor, eps: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """z = x r (N, d) in `dtype` and r = 1 / sqrt(mean(x^2) + eps), (N, 1): on a processor quicker than torch's own."""
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    r = norm.square_().div_(x.shape[1]).add_(eps).rsqrt_()
    return (x * r).to(dtype), r


def rms(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight, float32."""
    return functional.rms_norm(x.float(), (x.shape[-1],), weight.float(), eps)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions: (N, H, D) with cos and sin (N, 1, D)."""
    first, second = x.float().chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin
