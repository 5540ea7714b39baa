"""Policies on a CUDA device: sampled log-probabilities, the training pass and the processor's agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

from numerics import BFLOAT16, ROUNDING, assert_float32_close
from tacit.policies.contract import Sampling
from tacit.policies.transformer import TransformerPolicy

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
PROMPTS = ["3 5 8", "13 21 34 55", "4", "8 15 16 23 42 3 5"]


@pytest.fixture(scope="module", params=["LlamaForCausalLM", "Qwen3ForCausalLM", "GPT2LMHeadModel"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path_factory.mktemp(request.param)
    words = {"<pad>": 0, "<s>": 1, "</s>": 2} | {str(number): number for number in range(3, 500)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>"
    ).save_pretrained(folder)
    factory: Any = getattr(transformers, request.param)
    sizes: dict[str, Any] = {"vocab_size": 500, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    if request.param.startswith("GPT2"):
        sizes |= {"n_embd": 128, "n_layer": 3, "n_head": 4, "n_positions": 128}
    else:
        sizes |= {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4,
                  "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 128}  # fmt: skip
    torch.manual_seed(0)
    factory(factory.config_class(**sizes, initializer_range=0.05)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("dtype", "rounding"), [("float32", ROUNDING), ("bfloat16", BFLOAT16)])
def test_sampled_logprobs_are_those_of_the_training_pass(folder: Path, dtype: str, rounding: float) -> None:
    policy = TransformerPolicy.load(folder, dtype=dtype, device="cuda")
    rollout = policy.rollout(PROMPTS, 8, Sampling(max_new_tokens=64, seed=3))
    assert rollout.tokens.device.type == "cuda"
    found = policy.logprobs(rollout).logprobs
    assert_float32_close(found, rollout.logprobs, rtol=rounding)
    found.sum().backward()
    assert all(
        bool(torch.isfinite(weight.grad).all()) for weight in policy.model.parameters() if weight.grad is not None
    )


def test_the_processor_says_the_same(folder: Path) -> None:
    there = TransformerPolicy.load(folder, dtype="float32", device="cuda")
    here = TransformerPolicy.load(folder, dtype="float32", device="cpu")
    rollout = there.rollout(PROMPTS, 4, Sampling(max_new_tokens=32, seed=1))
    assert_float32_close(here.logprobs(rollout).logprobs, rollout.logprobs, rtol=8 * ROUNDING)
    greedy = Sampling(max_new_tokens=16, temperature=0)
    assert there.generate(PROMPTS, 1, greedy) == here.generate(PROMPTS, 1, greedy)
