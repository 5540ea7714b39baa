"""The built-in world's small language model: made in place from nothing, and tuned with a reward.

A tokenizer (byte-level BPE) is trained on texts of the world, a small Llama learns to write its replies by likelihood
(`tacit.tuning.supervised`), and `tuned` moves it towards a reward by RLOO with a KL term in the reward
(`tacit.tuning.policy_gradient`). What comes of that is measured in true reward, which the tuning never sees.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tacit.lab.seeds import mean_interval
from tacit.lab.worlds import World
from tacit.policies.contract import Sampling
from tacit.policies.transformer import TransformerPolicy
from tacit.rewards.contract import Reward
from tacit.tuning.loop import LoopOptions, train
from tacit.tuning.policy_gradient import GradientOptions, PolicyGradient
from tacit.tuning.sampling import Sampler, SamplingOptions
from tacit.tuning.supervised import SupervisedTuning, encode

Array = npt.NDArray[np.float64]

LONGEST = 128
"""Tokens that a reply may have; nearly all of the world's are shorter."""


@dataclass(frozen=True)
class Size:
    """A small Llama and how it is taught."""

    hidden: int = 128
    layers: int = 2
    vocabulary: int = 2500
    replies: int = 6000
    epochs: float = 1.0
    batch: int = 32
    spread: float = 0.02
    """Standard deviation of the first weights; a narrow model learns sooner from more than the usual 0.02."""


def speaker(world: World, folder: str | Path, *, seed: int = 0, size: Size = Size()) -> TransformerPolicy:
    """A language model that has read the world's replies; metrics.jsonl of its training lies in `folder`."""
    rng = np.random.default_rng([seed, 7])
    prompts, replies = world.sample(size.replies // 2, 2, rng)
    asked, said = [p for p in prompts for _ in range(2)], [reply for own in replies for reply in own]
    policy = untaught([*prompts, *said], seed=seed, size=size)
    rows = encode(policy, asked, said, [1.0] * len(said), None)
    method = SupervisedTuning(policy, rows, batch=size.batch, micro_batch=size.batch, epochs=size.epochs, seed=seed)
    options = LoopOptions(learning_rate=3e-3, lr_scheduler_type="cosine", warmup_ratio=0.05, seed=seed)
    train(method, folder, options)
    return policy


def untaught(texts: Sequence[str], *, seed: int = 0, size: Size = Size()) -> TransformerPolicy:
    """A Llama with random weights and a tokenizer of these texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<end>", "<pad>"]
    trainer = trainers.BpeTrainer(
        vocab_size=size.vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    template = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<end>", pad_token="<pad>", chat_template=template
    )
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        intermediate_size=3 * size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.hidden // 32,
        max_position_embeddings=512,
        initializer_range=size.spread,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        tie_word_embeddings=True,
    )
    return TransformerPolicy(LlamaForCausalLM(config), tokenizer, name="speaker", dtype="auto")


def tuned(
    policy: TransformerPolicy,
    reward: Reward,
    prompts: Sequence[str],
    folder: str | Path,
    *,
    rounds: int = 20,
    beta: float = 0.05,
    max_kl: float | None = None,
    learning_rate: float = 3e-4,
    seed: int = 0,
) -> TransformerPolicy:
    """A copy of the policy after `rounds` of RLOO with the reward: 16 prompts answered 8 times each, a step a round.

    It stops before where KL(tuned || untuned) of a reply passes `max_kl` nats.
    """
    learner = TransformerPolicy(copy.deepcopy(policy.model), policy.tokenizer, name="tuned", dtype="auto")
    sampling = SamplingOptions(prompts_per_round=16, num_generations=8, max_completion_length=LONGEST, batch=128)
    options = GradientOptions(estimator="rloo", beta=beta, measure_kl=True)
    method = PolicyGradient(learner, Sampler(learner, list(prompts), reward, sampling, seed), options, rounds)
    train(
        method, folder, LoopOptions(learning_rate=learning_rate, lr_scheduler_type="constant", max_kl=max_kl, seed=seed)
    )
    return learner


def speeches(
    policy: TransformerPolicy,
    rewards: Mapping[str, Reward],
    truth: Callable[[Sequence[str], Sequence[str]], Array],
    learn_on: Sequence[str],
    prompts: Sequence[str],
    folder: Path,
    *,
    n: int = 4,
    rounds: int = 20,
    max_kl: float | None = 4.0,
    seed: int = 0,
) -> tuple[dict[str, Any], dict[str, TransformerPolicy]]:
    """The policy as it is and tuned with each of the `rewards`, on prompts that no tuning saw.

    `truth` gives the true rewards of prompts and replies. The result has `rows`, one for each policy, with the mean
    over n replies to each of the prompts of `truth`, of every reward by its name, of `words`, and `kl`, KL(tuned ||
    untuned) of a reply in nats; `X_ci` are 95% intervals over prompts, and `gain` is the paired difference in truth to
    the policy as it was. `replies` holds the first reply to each prompt by name of the policy. Beside the result come
    the policies by their names.
    """
    flat = [prompt for prompt in prompts for _ in range(n)]
    sampling = Sampling(max_new_tokens=LONGEST, seed=seed)
    rows: list[dict[str, Any]] = []
    replies: dict[str, list[str]] = {}
    policies: dict[str, TransformerPolicy] = {}
    before: Array | None = None
    for name in ("untuned", *rewards):
        learner = policy
        if name in rewards:
            learner = tuned(policy, rewards[name], learn_on, folder / name, rounds=rounds, max_kl=max_kl, seed=seed)
        said = learner.rollout(prompts, n, sampling)
        with torch.no_grad():
            kl = (said.logprobs - policy.logprobs(said).logprobs).sum(1).double().numpy()
        true = truth(flat, said.texts).reshape(len(prompts), n).mean(1)
        before = true if before is None else before
        measured: dict[str, Array] = {
            "truth": true,
            "gain": true - before,
            **{key: np.asarray(reward.score(flat, said.texts), np.float64) for key, reward in rewards.items()},
            "words": np.array([len(text.split()) for text in said.texts], np.float64),
            "kl": kl,
        }
        row: dict[str, Any] = {"policy": name}
        for key, values in measured.items():
            row[key], row[f"{key}_ci"] = mean_interval(values.reshape(len(prompts), -1).mean(1).tolist())
        rows.append(row)
        replies[name], policies[name] = said.texts[::n], learner
    return {"rows": rows, "replies": replies}, policies
