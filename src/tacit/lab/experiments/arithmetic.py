"""`tacit lab arithmetic`: what a verifier adds to a small model that was taught by people who slip, tool beside tool.

The world is `tacit.lab.sums`: sums in columns, and teachers who forget to carry (or, more often, to borrow), so that a
Llama of 265,000 weights which imitates them (`tacit tune sft`, in place) is right about one time in five, and hardly
ever where much is to be borrowed. Every row then is a run of `tacit tune` from that same start, on the same problems,
with the same number of sampled answers (rounds x 64, eight to a problem), learning rate and seed. The reward is a
verifier of the final number, 0 or 1. On problems that nothing has seen, by that verifier:

- `greedy`: accuracy of the likeliest answer; `sampled`: of an answer sampled at temperature 1; `any_of_8`: whether one
  of eight samples is right;
- `against_grpo`: `sampled` less that of plain grpo from the same start;
- `+1` ... `-3`: `sampled` by kind, the operation and how often one is carried or borrowed.

Controls: no tuning; grpo on a random reward; as many rows of supervised learning, from the same teachers, and on right
solutions of the same problems, which the rows below `solutions known` are given too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tacit.errors import MissingExtra, extra_installed
from tacit.lab import sums
from tacit.lab.seeds import repeat

WIDTH = 8
ROWS = 64
TOKENS = 24
LEARNING_RATE = 1e-4


@dataclass(frozen=True)
class Sizes:
    """How much of everything; the defaults are those of the published table."""

    taught: int = 8_400
    epochs: float = 4.0
    tuned: int = 30
    """Problems of each kind to tune on."""
    held: int = 40
    """Problems of each kind to judge on."""
    rounds: int = 60
    kinds: tuple[sums.Kind, ...] = sums.KINDS
    hidden: int = 96


@dataclass(frozen=True)
class Variant:
    """One row of the table: a run of `tacit tune`, by its own options."""

    options: Mapping[str, Any] = field(default_factory=dict)
    method: str = "grpo"
    reward: str = "verifier"
    """verifier; random; worked: the verifier, with checked lines as potential; lines: the share of right lines."""
    data: str = "problems"
    attention: bool = False
    """Credit by what a learnt reward attends to; the reward itself stays."""


VARIANTS: dict[str, Variant] = {
    "sft, the same teachers": Variant(method="sft", data="taught"),
    "grpo, random reward": Variant(reward="random"),
    "grpo": Variant(),
    "grpo, average by answer": Variant({"average": "sequence"}),
    "Dr. GRPO": Variant({"scale_rewards": "none", "average": "constant"}),
    "rloo": Variant({"beta": 0.0}, "rloo"),
    "raft": Variant({"rule": "raft", "threshold": 0.5}, "rejection"),
    "dynamic sampling": Variant({"dynamic_sampling": 3}),
    "credit uniform": Variant({"credit": "uniform"}),
    "credit attention": Variant(attention=True),
    "credit return": Variant({"credit": "return"}),
    "credit potential": Variant({"credit": "potential"}),
    "curriculum": Variant({"curriculum": True}),
    "hindsight": Variant({"rule": "hindsight", "instructions": ("wrong", "right"), "success": 0.5}, "rejection"),
    "bonus count": Variant({"bonus": "count"}),
    "bonus rnd": Variant({"bonus": "rnd"}),
    "solutions known: credit prefix": Variant({"credit": "prefix"}, reward="worked"),
    "solutions known: reward of lines": Variant(reward="lines"),
    "solutions known: reverse curriculum": Variant({"reverse_curriculum": True, "demonstrations": "solutions"}),
    "solutions known: demonstrations": Variant({"demonstrations": "solutions"}),
    "solutions known: sft": Variant(method="sft", data="solutions"),
}


def run(
    *, seeds: int = 5, seed: int = 0, sizes: Sizes = Sizes(), variants: Mapping[str, Variant] = VARIANTS
) -> dict[str, Any]:
    """The table over `seeds`, each with a model, problems and samples of its own."""
    if not extra_installed("transformers"):
        raise MissingExtra("hf", "`tacit lab arithmetic`")

    def once(s: int) -> list[dict[str, Any]]:
        with tempfile.TemporaryDirectory() as place:
            return one_seed(Path(place), s, sizes, variants)

    shares = ("greedy", "sampled", "any_of_8", *(kind.name for kind in sizes.kinds))
    table = repeat(once, seeds, seed, "arithmetic", shares)
    return {"experiment": "arithmetic", "seeds": seeds, "rounds": sizes.rounds, "rows": table}


def one_seed(place: Path, seed: int, sizes: Sizes, variants: Mapping[str, Variant]) -> list[dict[str, Any]]:
    """Teach a model, and tune it in every way; the rows of the table."""
    from tacit.policies.transformer import TransformerPolicy

    data = sums.write(
        place,
        taught=sizes.taught,
        tuned=sizes.tuned,
        held=sizes.held,
        seed=seed,
        kinds=sizes.kinds,
        hidden=sizes.hidden,
    )
    start = taught(place, sizes, seed)
    rewards = _rewards(place, data, seed)
    untuned = TransformerPolicy.load(start)
    learnt = (
        _learnt(place, untuned, rewards["verifier"], data, seed)
        if any(v.attention for v in variants.values())
        else None
    )
    measured = {"no tuning": judged(untuned, data, seed)}
    for name, variant in variants.items():
        method = _tuned(place, start, variant, rewards, learnt, sizes, seed)
        ask = getattr(getattr(method, "sampler", None), "ask", None)
        measured[name] = judged(method.policy, data, seed, ask)
    plain = measured.get("grpo", measured["no tuning"])["sampled"]
    return [
        {
            "method": name,
            **{key: row[key] for key in ("greedy", "sampled", "any_of_8")},
            "against_grpo": row["sampled"] - plain,
            **{kind: row[kind] for kind in data.held},
        }
        for name, row in measured.items()
    ]


def taught(place: Path, sizes: Sizes, seed: int) -> Path:
    """The folder of the model after supervised learning from the teachers."""
    from tacit.tuning.run import tune

    options = {
        **{"num_train_epochs": sizes.epochs, "per_device_train_batch_size": 32, "learning_rate": 3e-3},
        **{"lr_scheduler_type": "cosine", "warmup_ratio": 0.05, "adam_beta2": 0.98, "logging_steps": 1000},
    }
    tune(_job("sft", place / "base", place / "taught.jsonl", place / "sft", {**options, "seed": seed}))
    return place / "sft" / "policy"


def judged(policy: Any, data: sums.Split, seed: int, ask: Callable[[Any], Any] | None = None) -> dict[str, float]:
    """Accuracy on the held-out problems: `greedy`, `sampled`, `any_of_8`, and `sampled` by the name of each kind.

    `ask` gives what the policy is asked in place of a prompt.
    """
    from tacit.policies.contract import Sampling
    from tacit.rewards.verifiers import NumberCheck, Verifier

    every = [p for own in data.held.values() for p in own]
    prompts = [p.prompt for p in every]
    verifier = Verifier(NumberCheck(), {p.prompt: p.answer for p in every})
    asked = prompts if ask is None else [ask(prompt) for prompt in prompts]
    best = verifier.score(prompts, policy.rollout(asked, 1, Sampling(TOKENS, 0.0)).texts)
    drawn = policy.rollout(asked, WIDTH, Sampling(TOKENS, seed=90_000 + seed)).texts
    right = verifier.score([p for p in prompts for _ in range(WIDTH)], drawn).reshape(-1, WIDTH)
    ends = np.cumsum([len(own) for own in data.held.values()])[:-1]
    kinds = {name: float(own.mean()) for name, own in zip(data.held, np.split(right, ends), strict=True)}
    whole = {"greedy": best, "sampled": right, "any_of_8": right.max(1)}
    return {**{name: float(values.mean()) for name, values in whole.items()}, **kinds}


def _job(method: str, policy: Path, data: Path, out: Path, options: dict[str, Any], reward: Any = None) -> Any:
    from tacit.evidence import read
    from tacit.tuning.run import Job

    return Job(method, str(policy), str(data), out, options, read, None if reward is None else lambda: reward)


def _rewards(place: Path, data: sums.Split, seed: int) -> dict[str, Any]:
    """The rewards that a variant may name."""
    from tacit.evidence import read
    from tacit.rewards import verifiers
    from tacit.rewards.controls import RandomReward

    verifier = verifiers.fit(read(place / "problems.jsonl"))
    solutions = {p.prompt: p.solution for p in data.tuned}
    return {
        "verifier": verifier,
        "random": RandomReward(seed),
        "worked": sums.Worked(solutions, verifier),
        "lines": sums.Worked(solutions),
    }


def _learnt(place: Path, policy: Any, verifier: Any, data: sums.Split, seed: int) -> Any:
    """A language model as reward, tuned on samples that the verifier labelled: attention is read from it."""
    from tacit import rewards
    from tacit.policies.contract import Sampling
    from tacit.tuning.run import tune

    prompts = [p.prompt for p in data.tuned]
    asked = [prompt for prompt in prompts for _ in range(WIDTH)]
    drawn = policy.rollout(prompts, WIDTH, Sampling(TOKENS, seed=80_000 + seed)).texts
    labels = verifier.score(asked, drawn) > 0
    rows = [
        {"prompt": p, "completion": text, "label": bool(label)}
        for p, text, label in zip(asked, drawn, labels, strict=True)
    ]
    sums.write_rows(place / "labels.jsonl", rows)
    options = {"num_train_epochs": 2, "learning_rate": 1e-3, "logging_steps": 1000, "seed": seed}
    tune(_job("reward", place / "sft" / "policy", place / "labels.jsonl", place / "learnt", options))
    return rewards.load(place / "learnt" / "reward")


def _tuned(
    place: Path, start: Path, variant: Variant, rewards: Mapping[str, Any], learnt: Any, sizes: Sizes, seed: int
) -> Any:
    """The method after its run; its `policy` is what came of it."""
    from tacit.tuning.crediting import AttentionCredit
    from tacit.tuning.loop import LoopOptions, train
    from tacit.tuning.run import build

    sampling = {"num_generations": WIDTH, "max_completion_length": TOKENS, "num_samples": 0}
    options: dict[str, Any] = {
        **{"learning_rate": LEARNING_RATE, "lr_scheduler_type": "constant", "max_steps": sizes.rounds, "seed": seed},
        **{"per_device_train_batch_size": ROWS, "logging_steps": 1000},
        **({} if variant.method == "sft" else sampling),
        **variant.options,
    }
    if "demonstrations" in options:
        options["demonstrations"] = str(place / f"{options['demonstrations']}.jsonl")
    reward = None if variant.method == "sft" else rewards[variant.reward]
    job = _job(variant.method, start, place / f"{variant.data}.jsonl", place / "run", options, reward)
    method: Any = build(job)
    if variant.attention:
        method.crediting = AttentionCredit(learnt, 0.8)
    if variant.method != "sft":
        _within(method, sizes.rounds)
    train(method, place / "run", job.pick(LoopOptions))
    return method


def _within(method: Any, draws: int) -> None:
    """End the run after so many draws of a round's samples: dynamic sampling makes several in a step."""
    inner = method.round

    def dealt(step: int) -> Iterable[Any]:
        yield from inner(step)
        if method.sampler.rounds >= draws:
            method.steps = step + 1

    method.round = dealt
