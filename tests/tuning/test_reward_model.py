"""A language model tuned as reward: the pass without padding against the model's own, micro-batches, saved scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from numerics import ROUNDING, assert_float32_close, assert_gradients_close
from tacit.errors import TacitError
from tacit.evidence import Comparison, Outcome, Ranking
from tacit.rewards.generative import completion_logprobs
from tacit.rewards.language_model import LanguageModelReward
from tacit.tuning.loop import LoopOptions, train
from tacit.tuning.reward_model import RewardTuning, RewardTuningOptions

pytest.importorskip("transformers")

PAIRS = [
    Comparison(prompt=p, chosen=f"{p} one two", rejected="lazy dog and more of it" * (i % 3), weight=1.0 + i % 2)
    for i, p in enumerate(["Who are you?", "Say it", "The quick brown fox jumps", "Count", "A reward", "is learnt"])
]


def made(base: Path, evidence: Any = PAIRS, **options: Any) -> RewardTuning:
    method = RewardTuning(
        base, evidence, RewardTuningOptions(**{"batch": 6, "micro_batch": 6, **options}), device="cpu"
    )
    torch.nn.init.normal_(method.model.score.weight, generator=torch.Generator().manual_seed(0))
    return method


@pytest.mark.parametrize("kind", ["none", "sft", "dpo_noref"])
def test_the_pass_without_padding_has_the_numbers_of_the_models_own(kind: str, llama_folder: Path) -> None:
    both = []
    for packed in (True, False):
        method = made(llama_folder, regulariser=kind, regulariser_weight=0.5)
        assert method.family is not None
        method.family = method.family if packed else None
        (step,) = method.round(0)
        (part,) = step.parts
        loss = part()
        loss.value.backward()
        gradients = {n: p.grad.clone() for n, p in method.model.named_parameters() if p.grad is not None}
        both.append((loss.value.detach(), gradients))
    assert_float32_close(both[0][0], both[1][0])
    assert_gradients_close(both[0][1], both[1][1], rtol=4 * ROUNDING)


def test_scores_and_likelihoods_by_hand(llama_folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    method = made(llama_folder, regulariser="sft")
    every = np.arange(len(method.data.ids))
    scores, logprobs = method._scored(method.data, every)
    causal = AutoModelForCausalLM.from_pretrained(llama_folder).eval()
    assert logprobs is not None
    for place in (0, 3, 5):
        ids = torch.tensor([method.data.ids[place]])
        with torch.no_grad():
            states = method.model.model(ids).last_hidden_state[0, -1]
            logits = causal(ids).logits
        terms = method.model.score.weight[0].detach() * states
        assert_float32_close(scores[place], terms.sum(), scale=float(terms.norm()))
        completion = torch.zeros_like(ids, dtype=torch.bool)
        completion[0, ids.shape[1] - method.data.answers[place] :] = True
        assert_float32_close(logprobs[place], completion_logprobs(logits, ids, completion)[0])


def test_micro_batches_do_not_show(llama_folder: Path, tmp_path: Path) -> None:
    found = []
    for micro in (6, 1):
        method = made(llama_folder, micro_batch=micro, steps=4, center_rewards_coefficient=0.1)
        train(method, tmp_path / str(micro), LoopOptions(learning_rate=1e-3, adam_epsilon=1e-4))
        found.append(method.model.score.weight.detach().clone())
    assert_float32_close(found[0], found[1])


def test_the_saved_reward_scores_as_the_tuned_model_and_is_centred(llama_folder: Path, tmp_path: Path) -> None:
    method = made(llama_folder)
    method.save(tmp_path / "reward")
    reward = LanguageModelReward.load(tmp_path / "reward")
    prompts, completions = zip(*[(p.prompt, side) for p in PAIRS for side in (p.chosen, p.rejected)], strict=True)
    scores = reward.score(prompts, completions)
    with torch.no_grad():
        raw, _ = method._scored(method.data, np.arange(len(method.data.ids)))
    distinct = dict(zip(method.data.examples.texts, raw.tolist(), strict=True))
    expected = np.array([distinct[p, c] for p, c in zip(prompts, completions, strict=True)]) - raw.mean().item()
    assert_float32_close(scores, expected)
    assert [path.name for path in tmp_path.iterdir()] == ["reward"]


def test_what_cannot_be_learnt_is_said(llama_folder: Path) -> None:
    ranking = [Ranking(prompt=f"{i}", completions=["a b", "c d", "e"], ranks=[2, 1, 3]) for i in range(4)]
    method = made(llama_folder, ranking)
    (step,) = method.round(0)
    assert np.isfinite(float(step.parts[0]().value.detach()))
    labels = [Outcome(prompt=f"{i}", completion="a", label=bool(i % 2)) for i in range(4)]
    with pytest.raises(TacitError, match="compares chosen and rejected"):
        made(llama_folder, labels, regulariser="sft")
    with pytest.raises(TacitError, match="has parameters of its own"):
        made(llama_folder, objective="davidson")
