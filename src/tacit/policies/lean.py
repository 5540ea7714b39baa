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

_CLASSES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
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
    windows = "sliding_attention" in (getattr(config, "layer_types", None) or ()) or (
        type(inner).__name__ == "MistralForCausalLM" and getattr(config, "sliding_window", None) is not None
    )
    if rope.get("rope_type", "default") not in _ROPES or windows or getattr(config, "attention_dropout", 0):
        return None
    attention = inner.model.layers[0].self_attn
    if inner.model.rotary_emb.inv_freq.numel() * 2 != attention.head_dim:
        return None
    return Family(
        inner.model, inner.get_output_embeddings(), config.num_attention_heads, config.num_key_value_heads,
        attention.head_dim, attention.scaling, config.rms_norm_eps, hasattr(attention, "q_norm"),
    )  # fmt: skip


def effective(linear: Any) -> tuple[Tensor, Tensor | None]:
    """Weight (out, in) and bias of a linear layer, a low-rank adapter that is switched on added."""
    base = getattr(linear, "base_layer", linear)
    weight, bias = base.weight.detach(), base.bias
    if base is not linear and not linear.disable_adapters and not linear.merged:
        for name in linear.active_adapters:
            if name in linear.lora_A:
                weight = weight + linear.get_delta_weight(name).to(weight.dtype)
    return weight, None if bias is None else bias.detach()
