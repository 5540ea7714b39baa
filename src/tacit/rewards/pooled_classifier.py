"""A reward on pooled states of a transformer, as one transformers model. Made by `tacit export`.

Where Tacit is installed, `register` makes the class known to transformers, and no code from a folder runs:

    register()
    AutoModelForSequenceClassification.from_pretrained(folder)

This file needs torch and transformers alone; `tacit export` lays a copy beside the weights for programs without Tacit,
which have to allow it.

For the states h_1..h_T of a text, x = h_T or their mean, divided by its length where `normalize` is set, of the last
layer or of several `layers` one after another,

    score = mean over members m of  w_m . x + b_m + v_m . relu(W_mL ... relu(W_m1 x + c_m1) ... + c_mL).
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


class PooledConfig(PretrainedConfig):  # type: ignore[misc]
    """Settings of the model inside (`base`), of the pooling and of the head: `heads` maps a tensor to its shape."""

    model_type = "tacit_pooled"

    def __init__(
        self,
        base: dict[str, Any] | None = None,
        pool: str = "mean",
        normalize: bool = False,
        heads: dict[str, list[int]] | None = None,
        layers: list[int] | None = None,
        **options: Any,
    ) -> None:
        self.base, self.pool, self.normalize, self.heads = dict(base or {}), pool, normalize, dict(heads or {})
        self.layers = list(layers or [])
        options.setdefault("num_labels", 1)
        super().__init__(**options)


class PooledForSequenceClassification(PreTrainedModel):  # type: ignore[misc]
    """`logits` of shape (batch, 1); padding is what `attention_mask` masks, else the padding id on the right."""

    config_class = PooledConfig
    base_model_prefix = "encoder"

    def __init__(self, config: PooledConfig) -> None:
        super().__init__(config)
        base = dict(config.base)
        self.encoder = AutoModel.from_config(AutoConfig.for_model(base.pop("model_type"), **base))
        self.head = torch.nn.ParameterDict(
            {name: torch.nn.Parameter(torch.zeros(shape)) for name, shape in config.heads.items()}
        )
        self.post_init()

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **_: Any
    ) -> SequenceClassifierOutput:
        """Scores of token ids (batch, time)."""
        if attention_mask is None:
            position = torch.arange(1, input_ids.shape[1] + 1, device=input_ids.device)
            length = ((input_ids != self.config.pad_token_id) * position).amax(1, keepdim=True).clamp_min(1)
            attention_mask = (position <= length).long()
        layers = self.config.layers
        found = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=bool(layers), return_dict=True
        )
        chosen = [found.hidden_states[k] for k in layers] or [found.last_hidden_state]
        vector = torch.cat([self._pooled(states, attention_mask) for states in chosen], dim=1)
        score = vector @ self.head["linear"].T + self.head["bias"]  # (batch, members)
        if "out" in self.head:
            state, layer = vector, 0
            while f"hidden_{layer}_weight" in self.head:
                state = torch.matmul(state, self.head[f"hidden_{layer}_weight"])  # (members or 1, batch, width)
                state = torch.relu(state + self.head[f"hidden_{layer}_bias"])
                layer += 1
            score = score + (state * self.head["out"][:, None]).sum(2).T
        return SequenceClassifierOutput(logits=score.mean(1, keepdim=True))

    def _pooled(self, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        if self.config.pool == "last":
            place = attention_mask * torch.arange(states.shape[1], device=states.device)
            vector = states[torch.arange(len(states), device=states.device), place.argmax(1)].float()
        else:
            weight = attention_mask / attention_mask.sum(1, keepdim=True)
            vector = torch.bmm(weight[:, None], states.float())[:, 0]
        return torch.nn.functional.normalize(vector, dim=1) if self.config.normalize else vector


def register() -> None:
    """Let transformers read such folders with this class, and not with the code that lies in them."""
    AutoConfig.register(PooledConfig.model_type, PooledConfig, exist_ok=True)
    AutoModelForSequenceClassification.register(PooledConfig, PooledForSequenceClassification, exist_ok=True)
