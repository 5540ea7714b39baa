"""`tacit lab stability`: how often the adversarial loop fails at default options, and what keeps it from failing.

The world is `stories` of `tacit lab demonstrations` (`--data`: a folder above tiny-lm/stories260K): the learner is
stories260K, the demonstrator gives the best of its eight stories by a known scorer, 120 openings are demonstrated.
Every run makes `rounds` rounds of 64 answers, with all options of `tacit tune adversarial` at their defaults but the
two that belong to a model of this size: the policy's learning rate and, for a language model as discriminator, its own.
Stopping early is off, so that every run has the same chance to fail. A run has failed if one of these holds:

- `not finite`: it ended with an error, a loss, gradient, reward or discriminator that is no number;
- `stopped`: the loop named a failure itself, collapsed or diverged;
- `far`: the policy's answers lie more than 10 nats from the initial policy's;
- `worse`: on 48 openings that nothing has seen, two answers each, the known scorer gives the policy less than the
  initial one, the 95% interval of the difference over openings being below 0;
- `told apart`: on these openings a fresh discriminator tells its answers from demonstrations better than it told the
  initial policy's, the lower end of its accuracy's interval being above the initial accuracy.

`failed` is their number with a Wilson interval. `gain` is what the known scorer gained, `told apart` the accuracy of
the fresh discriminator, .5 where nothing tells them apart. Rows below the divergences leave out, one at a time, what is
meant to keep the loop from failing, or drive it harder. `no training` draws other answers of the initial policy: what
it fails is chance. `demonstrations` are the demonstrator's own answers to the held-out openings.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tacit.demonstrations.divergences import Kind
from tacit.errors import MissingExtra, TacitError, extra_installed
from tacit.lab.seeds import mean_interval, wilson
from tacit.progress import track

FARTHEST = 10.0
"""Nats of an answer from the initial policy."""
ANSWERS = 2


@dataclass(frozen=True)
class Setting:
    """What a run departs in from the defaults."""

    divergence: str = "reverse_kl"
    induced: Kind = "formal"
    gradient_penalty: float = 1.0
    replay: int = 512
    normalised: bool = True
    faster: float = 1.0
    """Multiplies the policy's learning rate."""
    language: bool = False
    per_token: bool = False
    trained: bool = True


SETTINGS = {
    "demonstrations": Setting(trained=False),
    "no training": Setting(trained=False),
    "reverse_kl (the default)": Setting(),
    "js": Setting("js"),
    "forward_kl": Setting("forward_kl"),
    "forward_kl, direct": Setting("forward_kl", "direct"),
    "chi2": Setting("chi2"),
    "hellinger": Setting("hellinger"),
    "tv": Setting("tv"),
    "per token": Setting(per_token=True),
    "language model": Setting(language=True),
    "language model, per token": Setting(language=True, per_token=True),
    "no gradient penalty": Setting(gradient_penalty=0.0),
    "no replay": Setting(replay=0),
    "reward not normalised": Setting(normalised=False),
    "three times the learning rate": Setting(faster=3.0),
}


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    rounds: int = 20
    tokens: int = 24
    prompts: int = 120
    held_out: int = 48
    rate: float = 1.5e-4
    """The policy's learning rate, that of `tacit lab demonstrations`."""
    discriminator_rate: float = 1e-3
    """Of a language model as discriminator."""
    rows: int = 64
    resamples: int = 200


def run(*, data: Path, seeds: int = 10, seed: int = 0, scale: Scale = Scale()) -> dict[str, Any]:
    """The table over `seeds`."""
    if not extra_installed("transformers"):
        raise MissingExtra("hf", "`tacit lab stability`")
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        for one in track(range(seed, seed + seeds), "stability", seeds):
            found += once(data, Path(place) / str(one), one, scale)
    return {"experiment": "stability", "seeds": seeds, "rounds": scale.rounds, "rows": table(found), "runs": found}


def once(
    data: Path, place: Path, seed: int, scale: Scale, names: Sequence[str] = tuple(SETTINGS)
) -> list[dict[str, Any]]:
    """One run of each setting."""
    from tacit.demonstrations.extrapolation import Demos
    from tacit.lab.experiments.demonstrations import Size, stories

    size = Size(tokens=scale.tokens, prompts=scale.prompts, held_out=scale.held_out)
    world = stories(data, place, seed, size)
    demos = Demos(world.asked, world.said, [1.0] * len(world.asked))  # type: ignore[arg-type]
    start = _measured(_load(world.base), _load(world.base), world, seed, scale)
    return [_tried(name, SETTINGS[name], world, demos, start, place / "run", seed, scale) for name in names]


def table(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each setting: failures with their interval, of which kinds, and means over seeds with 95% intervals."""
    rows = []
    for name in dict.fromkeys(one["setting"] for one in runs):
        own = [one for one in runs if one["setting"] == name]
        failed = sum(bool(one["why"]) for one in own)
        kinds = [kind for one in own for kind in one["why"]]
        row: dict[str, Any] = {
            "setting": name,
            "failed": f"{failed} of {len(own)}",
            "failure_rate": failed / len(own),
            "failure_rate_ci": wilson(failed, len(own)),
            "why": ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)),
        }
        for key in ("gain", "kl", "told_apart"):
            values = [one[key] for one in own if one[key] is not None]
            row[key], row[f"{key}_ci"] = mean_interval(values) if len(values) > 1 else (None, [None, None])
        rows.append(row)
    return rows


def failures(told: dict[str, Any], start: dict[str, Any], stopped: str) -> list[str]:
    """Which of the ways to fail, of the module's docstring, hold for what was measured."""
    gain = np.asarray(told["gold"]) - np.asarray(start["gold"])
    _, interval = mean_interval(gain.tolist())
    found = {
        "stopped": bool(stopped),
        "far": told["kl"] > FARTHEST,
        "worse": interval[1] < 0,
        "told apart": told["told_apart_ci"][0] > start["told_apart"],
    }
    return [name for name, holds in found.items() if holds]


def _tried(
    name: str, setting: Setting, world: Any, demos: Any, start: dict[str, Any], out: Path, seed: int, scale: Scale
) -> dict[str, Any]:
    from tacit.tuning.loop import LoopOptions, train

    policy = _load(world.base)
    if name == "demonstrations":
        gold = world.gold.score(world.held, world.held_said)
        gain = float(gold.mean() - np.mean(start["gold"]))
        return {"setting": name, "seed": seed, "gain": gain, "kl": None, "told_apart": None, "why": [], "said": ""}
    rate = scale.rate * setting.faster
    loop = LoopOptions(learning_rate=rate, lr_scheduler_type="constant", num_samples=0, seed=seed)
    row: dict[str, Any] = {"setting": name, "seed": seed, "gain": None, "kl": None, "told_apart": None}
    try:
        method = _method(setting, world, demos, policy, seed, scale)
        if setting.trained:
            train(method, out, loop)
    except TacitError as error:
        return {**row, "why": ["not finite"], "said": str(error)}
    told = _measured(policy, _load(world.base), world, seed + 1_000 * (not setting.trained), scale)
    gain = float(np.mean(told["gold"]) - np.mean(start["gold"]))
    why = failures(told, start, method.failure)
    return {**row, "gain": gain, "kl": told["kl"], "told_apart": told["told_apart"], "why": why, "said": method.failure}


def _method(setting: Setting, world: Any, demos: Any, policy: Any, seed: int, scale: Scale) -> Any:
    from tacit.demonstrations.adversarial import Adversarial, AdversarialOptions, Adversary
    from tacit.demonstrations.discriminator import DiscriminatorOptions
    from tacit.demonstrations.language import TrunkOptions
    from tacit.features import load_encoder
    from tacit.tuning.policy_gradient import GradientOptions
    from tacit.tuning.sampling import SamplingOptions

    class Raw(Adversary):
        """One whose reward is what the divergence says, in its own units."""

        def learn(self, prompts: Any, answers: Any) -> None:
            super().learn(prompts, answers)
            self.reward.offset, self.reward.scale = 0.0, 1.0

    options = AdversarialOptions(
        divergence=setting.divergence, induced=setting.induced, per_token=setting.per_token, stop_when_same=False,
        discriminator=DiscriminatorOptions(gradient_penalty=setting.gradient_penalty, replay=setting.replay, seed=seed),
        seed=seed,
    )  # fmt: skip
    reads: Any = load_encoder("hashed")
    if setting.language:
        reads = TrunkOptions(world.base, learning_rate=scale.discriminator_rate, device="cpu", seed=seed)
    adversary = (Adversary if setting.normalised else Raw)(demos, reads, options)
    gradient = GradientOptions(estimator="rloo", beta=0.02, measure_kl=True)  # the defaults of `tune adversarial`
    return Adversarial(policy, adversary, SamplingOptions(scale.rows // 8, 8, scale.tokens), gradient, scale.rounds)


def _measured(policy: Any, start: Any, world: Any, seed: int, scale: Scale) -> dict[str, Any]:
    """`gold` of each held-out opening, `kl` of an answer, and how well answers are told from demonstrations."""
    from tacit.demonstrations.distance import discriminate
    from tacit.features import load_encoder
    from tacit.policies.contract import Sampling
    from tacit.tuning.sampling import scores_of

    rollout = policy.rollout(world.held, ANSWERS, Sampling(scale.tokens, seed=70_000 + seed))
    theirs = scores_of(start, rollout, 64).logprobs
    asked = [prompt for prompt in world.held for _ in range(ANSWERS)]
    encoder = load_encoder("hashed")
    ours = encoder.encode(list(zip(asked, rollout.texts, strict=True)))
    shown = encoder.encode(list(zip(world.held, world.held_said, strict=True)))
    number = list(range(len(world.held)))
    twice = [i for i in number for _ in range(ANSWERS)]
    told = discriminate(ours, shown, twice, number, seed=seed, resamples=scale.resamples)
    return {
        "gold": world.gold.score(asked, rollout.texts).reshape(-1, ANSWERS).mean(1).tolist(),
        "kl": float(((rollout.logprobs - theirs) * rollout.mask).sum(1).mean()),
        "told_apart": told.accuracy,
        "told_apart_ci": list(told.accuracy_ci),
    }


def _load(folder: Path) -> Any:
    from tacit.policies.transformer import TransformerPolicy

    return TransformerPolicy.load(folder, dtype="float32", device="cpu")
