"""Words, a policy that says them, and a demonstrator who prefers some: the truth is how many of those an answer has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tacit.evidence import Demonstration

WORDS = ("red", "blue", "green", "stone", "river", "cloud", "lamp", "bread", "horse", "paper", "glass", "wheel")
PREFERRED = WORDS[:3]
LENGTH = 6


def say(rng: np.random.Generator, tilt: float) -> str:
    """Six words; a preferred one is e^tilt times as likely as another."""
    p = np.exp(tilt * np.isin(WORDS, PREFERRED))
    return "".join(f" {word}" for word in rng.choice(WORDS, LENGTH, p=p / p.sum()))


def demonstrations(n: int, *, seed: int = 0, tilt: float = 1.5, first: int = 0) -> list[Demonstration]:
    """n good examples of prompts `first`..."""
    rng = np.random.default_rng([seed, 77])
    return [Demonstration(prompt=f"say {first + i}:", completion=say(rng, tilt)) for i in range(n)]


def truth(completions: list[str]) -> np.ndarray:
    """How many preferred words each has."""
    return np.array([sum(word in PREFERRED for word in text.split()) for text in completions], float)


def base_policy(folder: Path, steps: int = 60) -> None:
    """A one-layer Llama, trained in place on words that are all alike."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from tacit.policies.transformer import TransformerPolicy
    from tacit.tuning.supervised import SupervisedTuning, encode

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(["".join(f" {word}" for word in WORDS) + " say 1:"] * 20, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    wrapper = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(wrapper),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=64,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
    )
    policy = TransformerPolicy(model, wrapper, name="base")
    rows = demonstrations(400, seed=5, tilt=0.0)
    method = SupervisedTuning(
        policy, encode(policy, [r.prompt for r in rows], [r.completion for r in rows]), batch=64, steps=steps
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(steps):
        optimiser.zero_grad()
        for dealt in method.round(step):
            for part in dealt.parts:
                part().value.backward()
        optimiser.step()
    policy.save(folder)


def loaded(folder: Path) -> Any:
    from tacit.policies.transformer import TransformerPolicy

    return TransformerPolicy.load(folder, dtype="float32", device="cpu")
