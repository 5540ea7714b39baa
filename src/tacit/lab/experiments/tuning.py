"""`tacit lab tuning`: a small language model tuned on a learnt reward, method beside method, with controls.

stories260K (`--data`: the folder with stories260K.bin and tok512.bin, or a folder above it) goes on from openings of
stories. The true reward is read from the text,

    r = 1.5 tanh(j / 2) - 4 max(0, s - .3) - .5 |log((w + 1) / 26)|

with j distinct cheerful words, s the share of words that were used before, and w words: to write `happy` over and over
does not pay. Simulated people compare pairs of the model's own stories by it (log-odds r_a - r_b), a linear reward on
hashed features is fitted on their votes, and every method tunes on that reward: rounds x 64 stories each. On openings
that no reward and no method has seen, one story each:

- `gold`, `proxy`: mean true and learnt reward of fresh samples, `gain` the gold above the untuned model's; each
  method after half of its rounds and after all;
- `kl`: nats of a story from the untuned model (for best of n the bound log n - (n - 1) / n).

Controls: no tuning, the best of 8 by the learnt reward, and grpo on a random reward. `min` reads five bootstrap members
pessimistically; `beta 0.1` adds a KL term.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tacit import rewards
from tacit.conversation import Completion, Prompt, completion_text
from tacit.errors import MissingExtra, TacitError, extra_installed
from tacit.evidence import Comparison
from tacit.lab.seeds import repeat

WHO = (
    *("girl named Lily", "boy named Tom", "dog named Max", "cat named Mimi", "bird", "bear", "frog", "rabbit"),
    *("little car", "old man", "mouse", "fish"),
)
NEXT = ("She lived", "He liked", "One day,", "The sun was", "There was", "Mom said")
JOY = frozenset(
    (
        *("happy", "love", "loved", "smile", "smiled", "fun", "play", "played", "hug"),
        *("hugged", "laugh", "laughed", "friend", "friends", "nice", "good", "kind"),
    )
)
HELD_OUT = 24
TOKENS = 48
WIDTH = 8
ROWS = 64


class Story:
    """The true reward, as a `Reward`."""

    name = "gold"

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """True rewards (n,) float32."""
        return np.array([story_reward(completion_text(text)) for text in completions], np.float32)


def story_reward(text: str) -> float:
    """The true reward of one story, see the module."""
    words = [word.strip('.,!?"').lower() for word in text.split()]
    used = 1 - len(set(words)) / len(words) if words else 0.0
    length = 0.5 * abs(math.log((len(words) + 1) / 26))
    return 1.5 * math.tanh(len(JOY & set(words)) / 2) - 4 * max(0.0, used - 0.3) - length


METHODS: dict[str, dict[str, Any]] = {
    "raft": {"estimator": "raft"},
    "dpo, online": {},
    "reinforce": {"estimator": "reinforce"},
    "remax": {"estimator": "remax"},
    "rloo": {"estimator": "rloo"},
    "rloo, beta 0.1": {"estimator": "rloo", "beta": 0.1},
    "grpo": {"estimator": "grpo"},
    "grpo, min": {"estimator": "grpo"},
    "grpo, random reward": {"estimator": "grpo"},
    "ppo": {"estimator": "ppo", "num_iterations": 2, "num_mini_batches": 2, "whiten": True},
}


def run(*, data: Path, seeds: int = 5, seed: int = 0, rows: int = 10, pairs: int = 600) -> dict[str, Any]:
    """The table over `seeds`; `rows` (even) rounds of 64 stories for each method, `pairs` votes for the reward."""
    if not extra_installed("transformers"):
        raise MissingExtra("hf", "`tacit lab tuning`")
    found = [folder for folder in (data, *data.rglob("stories260K")) if (folder / "stories260K.bin").is_file()]
    if not found:
        raise TacitError(f"{data} holds no stories260K.bin. Give --data the folder of the small language model")
    from tacit.policies import llama2c

    with tempfile.TemporaryDirectory() as place:
        base = Path(place) / "base"
        llama2c.convert(found[0], base)
        table = repeat(lambda s: _once(base, Path(place), s, rows, pairs), seeds, seed, "tuning")
    return {"experiment": "tuning", "seeds": seeds, "rounds": rows, "pairs": pairs, "rows": table}


def _once(base: Path, place: Path, seed: int, rounds: int, pairs: int) -> list[dict[str, Any]]:
    from tacit.policies.contract import Sampling
    from tacit.policies.transformer import TransformerPolicy
    from tacit.rewards.controls import RandomReward
    from tacit.tuning.evaluation import Evaluation
    from tacit.tuning.sampling import SamplingOptions

    rng = np.random.default_rng(seed)
    openings = [f"Once upon a time, there was a {who}. {then}" for who in WHO for then in NEXT]
    order = rng.permutation(len(openings))
    asked, held = ([openings[i] for i in part] for part in (order[HELD_OUT:], order[:HELD_OUT]))
    truth = Story()

    def load() -> TransformerPolicy:
        return TransformerPolicy.load(base, dtype="float32")

    start = load()
    each = 2 * -(-pairs // len(asked))
    stories = start.generate(asked, each, Sampling(TOKENS, seed=1_000 + seed))
    votes = _votes(asked, stories, pairs, rng)
    proxy = rewards.fit(votes, encoder="hashed", seed=seed)
    cautious = rewards.fit(votes, encoder="hashed", members=5, pessimism="min", seed=seed)
    learnt: dict[str, Any] = {"grpo, min": cautious, "grpo, random reward": RandomReward(seed)}
    options = SamplingOptions(ROWS // WIDTH, WIDTH, TOKENS)

    def row(name: str, policy: TransformerPolicy) -> dict[str, Any]:
        made = Evaluation(policy, held, options, proxy, truth, n=4, seed=77_000 + seed)()
        return {"method": name, "gold": made["eval_gold"], "proxy": made["eval_reward"], "kl": made["eval_kl"]}

    table = [row("no tuning", start), _best_of(start, held, proxy, truth, seed)]
    for name, chosen in METHODS.items():
        policy = load()
        method = _method(name, chosen, policy, asked, learnt.get(name, proxy), options, rounds, seed)
        half: list[dict[str, Any]] = []
        method.evaluate = lambda name=name, policy=policy, half=half: half.append(row(name, policy)) or {"eval": 0.0}
        _train(method, place / "run", chosen, seed)
        table += [{**one, "rounds": str((i + 1) * rounds // 2)} for i, one in enumerate(half)]
    first = table[0]["gold"]
    keys = ("method", "rounds", "kl", "proxy", "gold", "gain")
    return [{key: {"rounds": "0", "gain": one["gold"] - first, **one}[key] for key in keys} for one in table]


def _votes(asked: list[str], stories: list[list[str]], pairs: int, rng: np.random.Generator) -> list[Comparison]:
    votes = []
    for prompt, own in zip(asked, stories, strict=True):
        for first, second in zip(own[::2], own[1::2], strict=True):
            odds = story_reward(first) - story_reward(second)
            won = rng.random() < 1 / (1 + math.exp(-odds))
            chosen, rejected = (first, second) if won else (second, first)
            votes.append(Comparison(prompt=prompt, chosen=chosen, rejected=rejected))
    return votes[:pairs]


def _best_of(policy: Any, held: list[str], proxy: Any, truth: Story, seed: int) -> dict[str, Any]:
    from tacit.policies.contract import Sampling

    groups = policy.generate(held, 4 * WIDTH, Sampling(TOKENS, seed=88_000 + seed))
    prompts = [prompt for prompt in held for _ in range(4 * WIDTH)]
    flat = [text for group in groups for text in group]
    scores = proxy.score(prompts, flat).reshape(-1, WIDTH)
    gold = truth.score(prompts, flat).reshape(-1, WIDTH)
    best = scores.argmax(1)
    chosen = np.arange(len(scores)), best
    kl = math.log(WIDTH) - (WIDTH - 1) / WIDTH
    return {
        "method": f"best of {WIDTH}",
        "gold": float(gold[chosen].mean()),
        "proxy": float(scores[chosen].mean()),
        "kl": kl,
    }


def _method(
    name: str, chosen: dict[str, Any], policy: Any, asked: list[str], reward: Any, options: Any, rounds: int, seed: int
) -> Any:
    from tacit.tuning.policy_gradient import GradientOptions, PolicyGradient
    from tacit.tuning.preference import OnlinePreference, PreferenceTuningOptions
    from tacit.tuning.rejection import Rejection
    from tacit.tuning.sampling import Sampler

    sampler = Sampler(policy, asked, reward, options, seed)
    if not chosen:
        dealt = PreferenceTuningOptions(batch=ROWS // WIDTH, micro_batch=ROWS, seed=seed)
        return OnlinePreference(policy, sampler, dealt, rounds=rounds)
    gradient = GradientOptions(**{"micro_batch": ROWS, **chosen})
    steps = rounds * gradient.num_iterations * gradient.num_mini_batches
    kind = Rejection if gradient.estimator == "raft" else PolicyGradient
    return kind(policy, sampler, gradient, steps)


def _train(method: Any, out: Path, chosen: dict[str, Any], seed: int) -> None:
    from tacit.tuning.loop import LoopOptions, train

    rate = 5e-4 / (chosen.get("num_iterations", 1) * chosen.get("num_mini_batches", 1)) ** 0.5
    options = LoopOptions(rate, "constant", logging_steps=1000, eval_steps=method.steps // 2, num_samples=0, seed=seed)
    train(method, out, options)
