"""Any causal language model of transformers, through its own forward pass: the states that predict tokens, sampling.

The fallback for models that `tacit.policies.lean` does not know. Rows are sorted by length, so that little padding is
computed; the logits at the end are computed only where they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tacit.models.checkpoint import batches, right_padded
from tacit.policies.contract import Responses

_TOKENS = {"cpu": 4_096, "cuda": 65_536}
"""Tokens of one forward pass, padding included."""


def linear_head(model: Any) -> bool:
    """Whether the logits are the linear map of the last states that the model names, found by trying."""
    linear = model.get_output_embeddings()
    weight = getattr(linear, "weight", None)
    if weight is None or weight.dim() != 2:
        return False
    training = model.training
    model.eval()
    with torch.no_grad():
        ids = torch.arange(4, device=weight.device)[None] % weight.shape[0]
        states = last_states(model, ids, torch.ones_like(ids))
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits.float()
        same = bool(states.shape[-1] == weight.shape[1])
        if same:
            ours = torch.nn.functional.linear(states, weight, getattr(linear, "bias", None)).float()
            same = logits.shape == ours.shape and bool((logits - ours).abs().max() <= 1e-3 * logits.abs().max())
    model.train(training)
    return same


def last_states(model: Any, ids_BT: Tensor, real_BT: Tensor) -> Tensor:
    """States of the last layer (B, T, d), right padded; the head is left out."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    states: Tensor = inner.base_model(input_ids=ids_BT, attention_mask=real_BT, use_cache=False).last_hidden_state
    return states


def predicting_states(model: Any, responses: Responses, rows: np.ndarray) -> Tensor:
    """The states (N, d) before each real token of these rows, row after row, in one padded forward pass."""
    ids_BT, real_BT, wanted_BT = padded(responses, rows, next(model.parameters()).device)
    return last_states(model, ids_BT, real_BT)[wanted_BT]


def padded(responses: Responses, rows: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """What a model reads of these rows: ids, which of them are real (int64), which stand before a token; (B, T)."""
    texts, lengths = _sequences(responses, rows)
    ids_BT, real_BT = right_padded(texts, 0)
    first = np.array([len(text) for text in texts]) - lengths
    wanted_BT = (np.arange(ids_BT.shape[1]) >= first[:, None]) & real_BT
    ids, real, wanted = (torch.from_numpy(part).to(device) for part in (ids_BT, real_BT, wanted_BT))
    return ids, real.long(), wanted


def row_batches(responses: Responses, device: str) -> Iterator[np.ndarray]:
    """Rows with tokens, in batches of like length."""
    lengths = responses.mask.sum(1).cpu().numpy()
    prompts = np.array([len(prompt) for prompt in responses.prompts])[responses.prompt_of.cpu().numpy()]
    rows = np.flatnonzero(lengths > 0)
    for chosen in batches((prompts + lengths)[rows], _TOKENS.get(device, 16_384)) if len(rows) else ():
        yield rows[chosen]


def _sequences(responses: Responses, rows: np.ndarray) -> tuple[list[list[int]], np.ndarray]:
    """What the model reads for each row, prompt and all tokens but the last, and the rows' lengths."""
    lengths = responses.mask.sum(1).cpu().numpy()[rows]
    tokens = responses.tokens.cpu().numpy()[rows]
    prompts = responses.prompt_of.cpu().numpy()[rows]
    ids = [
        [*responses.prompts[prompt], *row[: length - 1].tolist()]
        for prompt, row, length in zip(prompts, tokens, lengths, strict=True)
    ]
    return ids, lengths


class StockDecoder:
    """A `Decoder` on the model's own forward pass and cache, prompts padded on the left."""

    def __init__(self, model: Any, precision: Callable[[], AbstractContextManager[Any]] = nullcontext) -> None:
        self.model, self.precision = model, precision
        self.device = next(model.parameters()).device

    def prefill(self, prompts: Sequence[Sequence[int]], n: int, length: int) -> Tensor:
        """Logits (P, V) after the prompts; the cache is repeated n times."""
        width = max(len(prompt) for prompt in prompts)
        ids_PT = torch.zeros(len(prompts), width, dtype=torch.int64)
        for row, prompt in enumerate(prompts):
            ids_PT[row, width - len(prompt) :] = torch.tensor(prompt)
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        mask_PT = (torch.arange(width) >= width - lengths[:, None]).long().to(self.device)
        output = self._run(ids_PT.to(self.device), mask_PT, (mask_PT.cumsum(1) - 1).clamp_min(0), None)
        self.cache = output.past_key_values
        self.cache.batch_repeat_interleave(n)
        self.mask_BT = mask_PT.repeat_interleave(n, 0)
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def step(self, tokens_B: Tensor) -> Tensor:
        """Logits (B, V) after one more token of each row."""
        self.mask_BT = torch.cat([self.mask_BT, self.mask_BT.new_ones(len(tokens_B), 1)], 1)
        output = self._run(tokens_B[:, None], self.mask_BT, self.mask_BT.sum(1, keepdim=True) - 1, self.cache)
        self.cache = output.past_key_values
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows of the cache."""
        self.cache.batch_select_indices(rows)
        self.mask_BT = self.mask_BT[rows]

    def _run(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Any:
        with self.precision():
            return self.model(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
                logits_to_keep=1,
            )  # fmt: skip
