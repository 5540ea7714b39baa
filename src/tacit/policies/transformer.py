"""A causal language model of transformers as policy: sampled, scored with gradients, saved.

Weights are float32 and arithmetic is float32, or bfloat16 in the matrix products where the device has it. Families that
`tacit.policies.lean` knows run through a forward pass of our own that computes no padding and no prompt twice; any
other model runs through its own.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tacit.artefacts import atomic_directory
from tacit.conversation import Completion, Prompt
from tacit.errors import MissingExtra, extra_installed
from tacit.models.checkpoint import device_named, load_tokenizer, load_weights, model_folder, quietly, read_settings
from tacit.models.precision import multiplies_bfloat16
from tacit.models.templates import read_template
from tacit.policies import fused, lean, llama2c, stock
from tacit.policies.contract import Responses, Rollout, Sampling, TokenScores
from tacit.policies.decoding import LeanDecoder
from tacit.policies.packing import pack
from tacit.policies.rollout import sample
from tacit.policies.scores import token_scores
from tacit.policies.tokens import Codec, PolicyError

_NARROW = 128
"""States of fewer numbers are computed in float32 unless told otherwise."""
DTYPES = ("auto", "float32", "bfloat16")
_DEFAULT = Sampling()


class TransformerPolicy:
    """A `TrainablePolicy`.

    Parameters
    ----------
    model: a transformers causal LM, or its peft wrapper; weights in float32 where it is to be trained.
    tokenizer: its fast tokenizer.
    name: what to call it.
    dtype: of matrix products, "float32", "bfloat16", or "auto": bfloat16 where the device computes it faster, but for
        states of less than 128 numbers, where it gains little and its rounding weighs most.
    folder: where it was loaded from, so that `reference` can load it again; without one a copy is made when the
        reference is first asked for.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, name: str = "policy", dtype: str = "float32", folder: Path | None = None
    ) -> None:
        if dtype not in DTYPES:
            raise PolicyError(f"dtype is `{dtype}`. Use one of: {', '.join(DTYPES)}")
        self.model, self.tokenizer, self.name, self.folder = model, tokenizer, name, folder
        self.dtype = auto_dtype(self.device, width_of(model)) if dtype == "auto" else getattr(torch, dtype)
        self.codec = Codec(tokenizer, _ends(model, tokenizer), _context(model))
        found = lean.family(model)
        self.own_pass = found is not None and lean.agrees(found, model)
        """Whether our own forward pass runs; set it to False where the model's must, as under FSDP."""
        self._reference: TransformerPolicy | None = None

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        lora: int | dict[str, Any] | None = None,
        dtype: str = "auto",
        device: str | None = None,
        name: str | None = None,
        chat_template: str | Path | None = None,
    ) -> TransformerPolicy:
        """The policy in a transformers folder.

        Args:
            path: a folder with config.json, safetensors and tokenizer, or a hub id in the local cache; or a model in
                llama2.c's format (`tacit.policies.llama2c`).
            lora: rank of low-rank adapters (Hu et al. 2021) on every linear layer but the head, or the keyword
                arguments of peft's `LoraConfig`; the weights themselves are then frozen.
            dtype: of matrix products, see the class.
            device: where to run; CUDA if there is one unless given.
            name: the folder's name unless given.
            chat_template: file of a chat template (Jinja) in place of the tokenizer's; it is saved with the policy.

        Raises `FeatureError` or `PolicyError` where the folder is no causal language model with a tokenizer, and
        `MissingExtra` without transformers (or peft).
        """
        if not extra_installed("transformers"):
            raise MissingExtra("hf", "a transformers policy")
        from transformers import AutoModelForCausalLM

        template = None if chat_template is None else read_template(chat_template)
        device = device_named(device)
        folder = llama2c.model_file(path)
        if folder is not None:
            model, tokenizer = llama2c.read(folder)
            model = model.to(device)
            tokenizer.chat_template = template or tokenizer.chat_template
        else:
            folder = model_folder(path)
            read_settings(folder)
            tokenizer = load_tokenizer(folder, chat_template=template)
            model = load_weights(AutoModelForCausalLM, folder, dtype="float32", device=device)
        if lora is not None:
            model = _with_lora(model, lora)
        return cls(model, tokenizer, name=name or folder.stem, dtype=dtype, folder=folder)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        found: torch.device = next(self.model.parameters()).device
        return found

    def encode(self, prompts: Sequence[Prompt], *, any_length: bool = False) -> list[list[int]]:
        """Prompts as the model reads them: the chat template and the begin token where there are such.

        Raises `PromptError` for one that leaves no room for an answer, unless prompts of any length are asked for.
        """
        return self.codec.encode(prompts, any_length=any_length)

    def encode_completions(self, completions: Sequence[Completion], *, end: bool = True) -> list[list[int]]:
        """Completions as token ids, with the end token unless told otherwise: what sampling would have made."""
        return self.codec.encode_completions(completions, end=end)

    def responses(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> Responses:
        """Given pairs of prompt and completion as one row each (prompts that repeat are kept once)."""
        found = self.codec.responses(prompts, completions)
        device = self.device
        return Responses(found.prompts, found.prompt_of.to(device), found.tokens.to(device), found.mask.to(device))

    def generate(
        self, prompts: Sequence[Prompt], n: int = 1, sampling: Sampling = _DEFAULT, *, first: int = 0
    ) -> list[list[str]]:
        """n completions of each prompt; `first` is the number of the first row, where prompts are a part of a whole."""
        texts = self.rollout(prompts, n, sampling, first=first).texts
        return [texts[start : start + n] for start in range(0, len(texts), n)]

    def rollout(
        self, prompts: Sequence[Prompt], n: int = 1, sampling: Sampling = _DEFAULT, *, first: int = 0
    ) -> Rollout:
        """n sampled responses of each prompt with their log-probabilities; no gradients."""
        encoded = self.encode(prompts)
        with torch.inference_mode(), self._evaluating():
            return sample(self._decoder, self.codec, encoded, n, sampling, device=self.device, first=first)

    def logprobs(
        self, responses: Responses, *, temperature: float = 1.0, entropy: bool = False, hidden: bool = False
    ) -> TokenScores:
        """Log-probabilities of the responses' tokens with gradients, in one forward pass that computes no padding.

        Raises `PolicyError` for a prompt and response that together pass what the model reads.
        """
        temperature = temperature or 1.0
        device = self.device
        mask_BT, tokens_BT = responses.mask.to(device), responses.tokens.to(device)
        order_N, places_N, states_ND = self._states(responses)
        linear = self.model.get_output_embeddings()
        logp_N, entropy_N = token_scores(
            states_ND, linear.weight, tokens_BT[order_N, places_N], bias_V=getattr(linear, "bias", None),
            temperature=temperature, entropy=entropy, dtype=self.dtype,
        )  # fmt: skip

        return spread(mask_BT, order_N, places_N, logp_N, entropy_N, states_ND if hidden else None)

    def _states(self, responses: Responses) -> tuple[Tensor, Tensor, Tensor]:
        """Rows (N,) and places (N,) of the response tokens in some order, and the states (N, d) before them."""
        found = self._family()
        with self._precision():
            if found is not None:
                packed = pack(responses, self.device)
                return packed.rows, packed.times, fused.predicting_states(found, packed, self.dtype)
            if not self._linear_head:
                raise PolicyError(f"the logits of {self.name} are no linear map of its states. Use another model")
            batches = list(stock.row_batches(responses, self.device.type))
            states = [stock.predicting_states(self.model, responses, rows) for rows in batches]
        width = self.model.get_output_embeddings().weight.shape[1]
        found_ND = torch.cat(states) if states else torch.zeros(0, width, device=self.device)
        return *token_order(batches, responses.mask.to(self.device)), found_ND

    def reference(self) -> TransformerPolicy:
        """The policy as it was loaded: weights without the adapter, or a frozen copy; never trained."""
        if self._reference is None:
            dtype = str(self.dtype).removeprefix("torch.")
            if hasattr(self.model, "disable_adapter"):
                self._reference = _WithoutAdapter(self.model, self.tokenizer, name=self.name, dtype=dtype)
            elif self.folder is not None:
                self._reference = type(self).load(self.folder, dtype=dtype, device=str(self.device), name=self.name)
            else:
                self._reference = type(self)(copy.deepcopy(self.model), self.tokenizer, name=self.name, dtype=dtype)
            if not hasattr(self.model, "disable_adapter"):
                self._reference.model.eval().requires_grad_(False)
        return self._reference

    def save(self, folder: str | Path) -> None:
        """A transformers folder, written atomically; adapters are merged, so that anybody can load it."""
        model = self.model
        if hasattr(model, "merge_and_unload"):
            model = copy.deepcopy(model).merge_and_unload()
        with atomic_directory(folder, "config.json") as temporary, quietly():
            model.save_pretrained(temporary, safe_serialization=True)
            self.tokenizer.save_pretrained(temporary)

    def _decoder(self) -> Any:
        found = self._family()
        return stock.StockDecoder(self.model, self._precision) if found is None else LeanDecoder(found, self.dtype)

    def _family(self) -> lean.Family | None:
        return lean.family(self.model) if self.own_pass else None

    @cached_property
    def _linear_head(self) -> bool:
        return stock.linear_head(self.model)

    def _precision(self) -> Any:
        if self.dtype is torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        training = self.model.training
        self.model.eval()
        try:
            yield
        finally:
            self.model.train(training)


def token_order(batches: Sequence[np.ndarray], mask_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (N,) and places (N,) of the response tokens, row after row of these batches."""
    rows = torch.tensor([row for batch in batches for row in batch.tolist()], dtype=torch.int64, device=mask_BT.device)
    lengths = mask_BT.sum(1)[rows]
    starts = torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
    return torch.repeat_interleave(rows, lengths), torch.arange(len(starts), device=mask_BT.device) - starts


def spread(
    mask_BT: Tensor, order_N: Tensor, places_N: Tensor, logp_N: Tensor, entropy_N: Tensor | None,
    states_ND: Tensor | None,
) -> TokenScores:  # fmt: skip
    """Scores of tokens in some order as (B, T), zeros elsewhere; entropies without gradients, states (B, T, d)."""

    def whole(values_N: Tensor) -> Tensor:
        empty = values_N.new_zeros(*mask_BT.shape, *values_N.shape[1:])
        return empty.index_put((order_N, places_N), values_N)

    return TokenScores(
        whole(logp_N),
        None if entropy_N is None else whole(entropy_N.detach()),
        None if states_ND is None else whole(states_ND.float()),
    )


class _WithoutAdapter(TransformerPolicy):
    """The weights below an adapter; the model is the one that is trained, with its dropout off while this is asked."""

    def rollout(
        self, prompts: Sequence[Prompt], n: int = 1, sampling: Sampling = _DEFAULT, *, first: int = 0
    ) -> Rollout:
        """As the model without its adapter samples."""
        with self.model.disable_adapter():
            return super().rollout(prompts, n, sampling, first=first)

    def logprobs(
        self, responses: Responses, *, temperature: float = 1.0, entropy: bool = False, hidden: bool = False
    ) -> TokenScores:
        """As the model without its adapter scores; no gradients."""
        with torch.no_grad(), self._evaluating(), self.model.disable_adapter():
            return super().logprobs(responses, temperature=temperature, entropy=entropy, hidden=hidden)

    def reference(self) -> TransformerPolicy:
        """Itself."""
        return self


def _with_lora(model: Any, lora: int | dict[str, Any]) -> Any:
    """The model with low-rank adapters."""
    if not extra_installed("peft"):
        raise MissingExtra("lora", "low-rank adapters")
    from peft import LoraConfig, get_peft_model

    options: dict[str, Any] = {"target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    options |= {"r": lora, "lora_alpha": 2 * lora} if isinstance(lora, int) else lora
    return get_peft_model(model, LoraConfig(**options))


def width_of(model: Any) -> int:
    """Numbers in a state."""
    text = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    return int(getattr(text, "hidden_size", _NARROW))


def auto_dtype(device: torch.device, width: int) -> torch.dtype:
    """bfloat16 where the device has instructions for it and states are wide."""
    if width < _NARROW:
        return torch.float32
    native = {"cuda": torch.cuda.is_bf16_supported, "cpu": multiplies_bfloat16}.get(device.type, bool)
    return torch.bfloat16 if native() else torch.float32


def _ends(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """Ids that end a response, the tokenizer's own first."""
    stated = [tokenizer.eos_token_id]
    for config in (getattr(model, "generation_config", None), model.config):
        eos = getattr(config, "eos_token_id", None)
        stated += [eos] if isinstance(eos, int) else list(eos or ())
    return tuple(dict.fromkeys(token for token in stated if token is not None))


def _context(model: Any) -> int:
    """Most tokens that the model reads."""
    for key in ("max_position_embeddings", "n_positions", "max_seq_len"):
        value = getattr(model.config, key, None)
        if isinstance(value, int) and value > 0:
            return value
    return 1 << 20
