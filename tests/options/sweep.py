"""What the sweeps of options share: a tiny language model and data, runs, and what differs between two of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tacit.errors import TacitError

MOVED = 1e-5
"""Weights that differ by more have moved by more than rounding."""
VOCABULARY = (
    "say",
    "who",
    "count",
    "red",
    "blue",
    "green",
    "lamp",
    "dog",
    "fox",
    "one",
    "two",
    "three",
    "thank",
    "you",
)


@dataclass
class Run:
    """What a run left, or why there was none."""

    weights: dict[str, np.ndarray] = field(default_factory=dict)
    """Tensors by file and name."""
    texts: dict[str, str] = field(default_factory=dict)
    """Other results by name: metrics, scores, completions, without what a clock said."""
    files: frozenset[str] = frozenset()
    refused: str | None = None
    """The message of a `TacitError`."""

    def rows(self, name: str) -> list[dict[str, Any]]:
        """A text that is JSON lines."""
        return [json.loads(line) for line in self.texts.get(name, "").splitlines()]


def moved(before: Run, after: Run) -> bool:
    """Whether weights differ by more than rounding."""
    if before.weights.keys() != after.weights.keys():
        return True
    pairs = [(before.weights[name], after.weights[name]) for name in before.weights]
    return any(a.shape != b.shape or (a.size and np.abs(a - b).max() > MOVED) for a, b in pairs)


def told(before: Run, after: Run) -> bool:
    """Whether metrics or other texts differ."""
    return before.texts != after.texts


def attempted(work: Callable[[], Run]) -> Run:
    """A run, or the sentence that refuses it."""
    try:
        return work()
    except TacitError as error:
        return Run(refused=str(error))


def flag(option: str) -> str:
    """An option as it is typed."""
    return "--" + option.rstrip("_").replace("_", "-")


def tensors(folder: Path) -> dict[str, np.ndarray]:
    """Every tensor in a folder's safetensors files."""
    from safetensors.numpy import load_file

    found: dict[str, np.ndarray] = {}
    for path in sorted(folder.rglob("*.safetensors")):
        name = str(path.relative_to(folder))
        found |= {f"{name}:{key}": value.astype(np.float64) for key, value in load_file(path).items()}
    return found


def timeless(value: Any) -> Any:
    """JSON without what a clock or a place said."""
    if isinstance(value, Mapping):
        return {
            k: timeless(v) for k, v in value.items() if "seconds" not in k and k not in ("out", "reward", "options")
        }
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def write(folder: Path, files: Mapping[str, list[dict[str, Any]]]) -> dict[str, str]:
    """Files of rows by their names, each with its place."""
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text(lines(rows), "utf-8")
    return {name: str(folder / f"{name}.jsonl") for name in files}


def tiny(folder: Path, *, seed: int = 0) -> Path:
    """A causal language model of one layer with random weights, whose tokens are words; one in twenty ends a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(("[PAD]", "[UNK]", "[SEP]", "a", *VOCABULARY))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    wrapper = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", eos_token="[SEP]"
    )
    wrapper.save_pretrained(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=16, max_position_embeddings=64, initializer_range=0.3, bos_token_id=None, eos_token_id=2,
        pad_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
