"""Tiny causal language models with random weights, and a tokenizer trained in place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

TEXTS = [
    "Once upon a time there was a little girl who liked to play in the park.",
    "The quick brown fox jumps over the lazy dog, and the dog sleeps.",
    "Two and three make five; five and five make ten.",
]


def save_tokenizer(folder: Path, *, pad_is_eos: bool = False, template: str | None = None) -> int:
    """A byte-level tokenizer with begin, end and padding tokens; its size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    wrapper = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>" if pad_is_eos else "<pad>"
    )
    if template:
        wrapper.chat_template = template
    wrapper.save_pretrained(folder)
    return len(wrapper)


def config_of(kind: str, vocabulary: int) -> Any:
    import transformers as hf

    shared = {"vocab_size": vocabulary, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    if kind == "gpt2":
        return hf.GPT2Config(
            n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.3, **shared,
            attn_pdrop=0.1, resid_pdrop=0.1, embd_pdrop=0.1,
        )  # fmt: skip
    sizes = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.3,
    }  # fmt: skip
    match kind:
        case "llama":
            return hf.LlamaConfig(**shared, **sizes)
        case "llama3":
            rope = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0, "original_max_position_embeddings": 32}  # fmt: skip
            return hf.LlamaConfig(**shared, **sizes, rope_parameters=rope, attention_bias=True, mlp_bias=True)
        case "qwen2":
            return hf.Qwen2Config(**shared, **sizes, tie_word_embeddings=True)
        case "qwen3":
            return hf.Qwen3Config(**shared, **sizes, head_dim=16)
    raise ValueError(kind)


KINDS = ("llama", "llama3", "qwen2", "qwen3", "gpt2")


def _save_policy(folder: Path, kind: str = "llama", **options: Any) -> Path:
    """A policy folder of this kind."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    size = save_tokenizer(folder, **options)
    model = AutoModelForCausalLM.from_config(config_of(kind, size))
    with torch.no_grad():  # norms and biases that are not all ones and zeros
        for name, parameter in model.named_parameters():
            if "norm" in name or "ln_" in name or name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def policy_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: _save_policy(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}


@pytest.fixture(name="save_policy")
def _saving() -> Any:
    """`_save_policy`, for tests that need a policy of their own."""
    return _save_policy
