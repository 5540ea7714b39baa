"""`tacit lab demonstrations`: what can be learnt from good examples alone, method beside method, at equal samples.

Two worlds, both on real text or a real model (`--data`: a folder above tiny-lm/stories260K and corpora):

- `stories`: the learner is stories260K as it is; the demonstrator writes eight stories for an opening and gives the
  best by the known scorer of `tacit lab tuning`. `gold` is that scorer.
- `authors`: the learner is a small Llama, trained in place on passages of Darwin and Bronte alike; the demonstrations
  are passages of Darwin alone. `gold` is the log-odds of Darwin by a linear classifier that was fitted on real passages
  which nobody else saw.

Every policy is measured on openings that nothing has seen: `gold`, and its `gain` on the initial policy's; `kl`, nats
of an answer from the initial policy; `told_apart`, the accuracy of a discriminator on held-out openings between answers
and demonstrations (.5 where nothing tells them apart). `samples` counts answers that were drawn in learning. `proxy` is
what the method's own reward gained on the initial policy, in its own units: where it rises and `gold` falls, the reward
was hacked. The discriminators of the adversarial loop look at hashed features, or (`trunk`) are a copy of the learner.

Behaviour cloning and `iq` draw nothing; AfD's pairings fit a reward, and RLOO tunes the initial policy on it with as
many rounds of 64 answers as each divergence has in the adversarial loop; SPIN draws as many in three iterations as its
prompts allow. Controls: the initial policy, the demonstrations themselves, and RLOO on a random reward.
"""

from __future__ import annotations

import gzip
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tacit.conversation import Completion, Prompt
from tacit.demonstrations.extrapolation import Pairing
from tacit.errors import MissingExtra, TacitError, extra_installed
from tacit.evidence import Demonstration, Evidence, Outcome
from tacit.lab.seeds import repeat

PAIRINGS: tuple[Pairing, ...] = ("init-sft", "init-demo", "sft-demo")
DIVERGENCES = (
    ("reverse_kl", "formal"),
    ("js", "formal"),
    ("forward_kl", "formal"),
    ("forward_kl", "direct"),
    ("chi2", "formal"),
    ("hellinger", "formal"),
    ("tv", "formal"),
)
WIDTH = 8


@dataclass(frozen=True)
class Size:
    """How much of everything; the defaults suit an hour over five seeds on two cores."""

    rounds: int = 16
    rows: int = 64
    tokens: int = 40
    prompts: int = 120
    held_out: int = 48
    best_of: int = 8
    passages: int = 1500
    """Passages of each author that the small model reads."""
    epochs: float = 3.0
    """Of behaviour cloning."""
    hidden: int = 96
    vocabulary: int = 1500
    supervised_rate: float = 5e-4
    rate: float = 1.5e-4
    """Of RLOO and SPIN. At twice that RLOO on a random reward drifts by 4 nats in twelve rounds."""
    worlds: tuple[str, ...] = ("stories", "authors")


@dataclass
class World:
    """A learner, demonstrations, and a scorer that no learner sees."""

    name: str
    base: Path
    asked: list[str]
    said: list[str]
    held: list[str]
    held_said: list[str]
    gold: Any

    @property
    def evidence(self) -> Evidence:
        """The demonstrations to learn from."""
        rows = zip(self.asked, self.said, strict=True)
        return Evidence.from_records([Demonstration(prompt=p, completion=c) for p, c in rows], source=self.name)


def run(*, data: Path, seeds: int = 5, seed: int = 0, size: Size = Size()) -> dict[str, Any]:
    """The table over `seeds`."""
    if not extra_installed("transformers"):
        raise MissingExtra("hf", "`tacit lab demonstrations`")
    with tempfile.TemporaryDirectory() as place:
        rows = repeat(lambda s: once(data, Path(place), s, size), seeds, seed, "demonstrations")
    return {"experiment": "demonstrations", "seeds": seeds, "rows": rows}


def once(data: Path, place: Path, seed: int, size: Size) -> list[dict[str, Any]]:
    """The rows of one seed."""
    making = {"stories": stories, "authors": authors}
    rows: list[dict[str, Any]] = []
    for name in size.worlds:
        folder = place / f"{name}-{seed}"
        found = _methods(making[name](data, folder, seed, size), folder, seed, size)
        rows += [{**row, "gain": row["gold"] - found[0]["gold"]} for row in found]
    return rows


# --- worlds -----------------------------------------------------------------------------------------------------------


def stories(data: Path, place: Path, seed: int, size: Size) -> World:
    """stories260K, and its own best of `best_of` by a known scorer as demonstrator."""
    from tacit.lab.experiments.tuning import NEXT, WHO, Story
    from tacit.policies import llama2c
    from tacit.policies.contract import Sampling

    found = [folder for folder in (data, *data.rglob("stories260K")) if (folder / "stories260K.bin").is_file()]
    if not found:
        raise TacitError(f"{data} holds no stories260K.bin. Give --data the folder of the small language model")
    base = place / "base"
    llama2c.convert(found[0], base)
    policy, gold = _load(base), Story()
    names = ("Sue", "Ben", "Anna", "Leo")
    openings = [f"Once upon a time, there was a {who}. {then}" for who in WHO for then in NEXT]
    openings += [opening.replace("a time", f"a day, said {name}", 1) for name in names for opening in openings]
    order = np.random.default_rng([seed, 41]).permutation(len(openings))
    chosen = [openings[i] for i in order[: size.prompts + size.held_out]]
    drawn = policy.generate(chosen, size.best_of, Sampling(size.tokens, seed=3_000 + seed))
    scores = gold.score([p for p in chosen for _ in range(size.best_of)], [c for one in drawn for c in one])
    best = scores.reshape(len(chosen), -1).argmax(1)
    said = [one[i] for one, i in zip(drawn, best, strict=True)]
    n = size.prompts
    return World("stories", base, chosen[:n], said[:n], chosen[n:], said[n:], gold)


def authors(data: Path, place: Path, seed: int, size: Size) -> World:
    """A small model of two authors, and one of them as demonstrator."""
    from tacit.lab.speaker import Size as ModelSize
    from tacit.lab.speaker import untaught
    from tacit.rewards.feature_reward import fit
    from tacit.tuning.loop import LoopOptions, train
    from tacit.tuning.supervised import SupervisedTuning, encode

    need = size.passages + 200 + size.prompts + size.held_out
    rng = np.random.default_rng([seed, 42])
    split = {name: passages(data, name, need, rng) for name in ("darwin", "bronte")}
    read = [row for rows in split.values() for row in rows[: size.passages]]
    judged = [
        Outcome(prompt=p, completion=c, label=name == "darwin")
        for name, rows in split.items()
        for p, c in rows[size.passages : size.passages + 200]
    ]
    gold = fit(judged, encoder="hashed", seed=seed, name="gold")
    left = split["darwin"][size.passages + 200 :]
    policy = untaught(
        [f"{p}{c}" for p, c in read], seed=seed, size=ModelSize(hidden=size.hidden, vocabulary=size.vocabulary)
    )
    rows = encode(policy, [p for p, _ in read], [c for _, c in read], None, 500)
    method = SupervisedTuning(policy, rows, batch=32, micro_batch=32, epochs=3, seed=seed)
    train(method, place / "reading", LoopOptions(learning_rate=3e-3, lr_scheduler_type="cosine", seed=seed))
    policy.save(place / "base")
    n = size.prompts
    return World(
        "authors", place / "base", [p for p, _ in left[:n]], [c for _, c in left[:n]], [p for p, _ in left[n:]],
        [c for _, c in left[n:]], gold,
    )  # fmt: skip


def passages(data: Path, name: str, count: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Passages of an author as (three words, the 22 that follow), spread over the book."""
    found = sorted(data.rglob(f"{name}.txt.gz"))
    if not found:
        raise TacitError(f"{data} holds no {name}.txt.gz. Give --data a folder above the corpora")
    words = re.sub(r"\s+", " ", gzip.decompress(found[0].read_bytes()).decode("utf-8", "replace")).split(" ")
    starts = np.arange(200, len(words) - 25, 25)
    if len(starts) < count:
        raise TacitError(f"{found[0]} has {len(starts)} passages, and {count} are needed. Make the experiment smaller")
    chosen = rng.permutation(starts)[:count].tolist()
    return [(" ".join(words[at : at + 3]), " " + " ".join(words[at + 3 : at + 25])) for at in chosen]


# --- methods ----------------------------------------------------------------------------------------------------------


def _methods(world: World, place: Path, seed: int, size: Size) -> list[dict[str, Any]]:
    from tacit.demonstrations.extrapolation import AnswerOptions, Demos
    from tacit.demonstrations.fit import prepare
    from tacit.demonstrations.self_play import SelfPlayOptions, self_play
    from tacit.rewards import fit
    from tacit.rewards.controls import RandomReward
    from tacit.tuning.loop import LoopOptions
    from tacit.tuning.sampling import SamplingOptions

    demos = Demos(list(world.asked), list(world.said), [1.0] * len(world.asked))
    budget = size.rounds * size.rows
    answers = AnswerOptions(
        answers=2, max_completion_length=size.tokens, sft_epochs=size.epochs, sft_learning_rate=size.supervised_rate,
        seed=seed,
    )  # fmt: skip
    start = _load(world.base)
    rows = [_row(world, "initial policy", start, start, seed, size, 0)]
    rows.append(_row(world, "demonstrations", None, start, seed, size, 0))
    rows.append(_tuned(world, "random reward", RandomReward(seed), start, place, seed, size, budget))
    sft: Path | None = None
    for pairing in PAIRINGS:
        made = prepare(
            world.evidence, pairing=pairing, policy=world.base, sft=sft, options=answers, work=place / "work",
            encoder="hashed", cache=place / "features",
        )  # fmt: skip
        if sft is None:
            sft = Path(made.report["sft_trained"])
            rows.append(_row(world, "behaviour cloning", _load(sft), start, seed, size, 0))
        reward: Any = fit(made.train, encoder="hashed", seed=seed)
        drawn = answers.answers * len(world.asked) * (2 if pairing == "init-sft" else 1)
        rows.append(_tuned(world, f"AfD {pairing}", reward, start, place, seed, size, budget + drawn))
    rows.append(_inverse(world, demos, start, place, seed, size))
    options = SelfPlayOptions(
        iterations=3, epochs=max(1, round(size.epochs)), sampling=SamplingOptions(max_completion_length=size.tokens),
        seed=seed,
    )  # fmt: skip
    loop = LoopOptions(learning_rate=size.rate, num_samples=0, seed=seed)
    self_play(world.base, demos, place / "spin", options, loop, load=_load)
    rows.append(_row(world, "SPIN", _load(place / "spin" / "policy"), start, seed, size, 3 * len(world.asked)))
    for name, kind in DIVERGENCES:
        rows.append(_adversarial(world, demos, name, kind, start, place, seed, size))
    rows.append(_adversarial(world, demos, "js", "formal", start, place, seed, size, language=True))
    return rows


def _tuned(
    world: World, name: str, reward: Any, start: Any, place: Path, seed: int, size: Size, drawn: int
) -> dict[str, Any]:
    from tacit.tuning.loop import train
    from tacit.tuning.policy_gradient import PolicyGradient
    from tacit.tuning.sampling import Sampler

    policy = _load(world.base)
    sampling, gradient, loop = _settings(seed, size)
    method = PolicyGradient(policy, Sampler(policy, world.asked, reward, sampling, seed), gradient, size.rounds)
    train(method, place / re.sub(r"\W+", "-", name), loop)
    return _row(world, name, policy, start, seed, size, drawn, reward=reward)


def _adversarial(
    world: World, demos: Any, name: str, kind: Any, start: Any, place: Path, seed: int, size: Size,
    *, language: bool = False,
) -> dict[str, Any]:  # fmt: skip
    from tacit.demonstrations.adversarial import Adversarial, AdversarialOptions, Adversary
    from tacit.demonstrations.language import TrunkOptions
    from tacit.features import load_encoder
    from tacit.tuning.loop import train

    sampling, gradient, loop = _settings(seed, size)
    options = AdversarialOptions(divergence=name, induced=kind, seed=seed, stop_when_same=False)
    trunk = TrunkOptions(world.base, learning_rate=size.supervised_rate, seed=seed)
    adversary = Adversary(demos, trunk if language else load_encoder("hashed"), options, cache=place / "features")
    method = Adversarial(_load(world.base), adversary, sampling, gradient, size.rounds)
    called = f"adversarial {name}" + (", direct" if kind == "direct" else "") + (", trunk" if language else "")
    train(method, place / re.sub(r"\W+", "-", called), loop)
    drawn = method.rounds * size.rows
    row = _row(world, called, method.policy, start, seed, size, drawn, reward=adversary.learnt(called))
    return {**row, "failed": bool(method.failure)}


def _inverse(world: World, demos: Any, start: Any, place: Path, seed: int, size: Size) -> dict[str, Any]:
    from tacit.demonstrations.inverse_q import InverseQ
    from tacit.tuning.loop import LoopOptions, train
    from tacit.tuning.supervised import encode

    policy = _load(world.base)
    method = InverseQ(policy, encode(policy, demos.prompts, demos.completions), batch=32, epochs=size.epochs, seed=seed)
    train(method, place / "iq", LoopOptions(learning_rate=size.supervised_rate, num_samples=0, seed=seed))
    return _row(world, "iq", policy, start, seed, size, 0, reward=method.reward(reference=start))


def _settings(seed: int, size: Size) -> tuple[Any, Any, Any]:
    from tacit.tuning.loop import LoopOptions
    from tacit.tuning.policy_gradient import GradientOptions
    from tacit.tuning.sampling import SamplingOptions

    return (
        SamplingOptions(size.rows // WIDTH, WIDTH, size.tokens),
        GradientOptions(estimator="rloo", beta=0.02, whiten=True),
        LoopOptions(learning_rate=size.rate, lr_scheduler_type="constant", num_samples=0, seed=seed),
    )


def _row(
    world: World, name: str, policy: Any, start: Any, seed: int, size: Size, drawn: int, *, reward: Any = None
) -> dict[str, Any]:
    """What a policy (or, for None, the demonstrator) is worth on held-out openings."""
    from tacit.demonstrations.distance import discriminate
    from tacit.features import load_encoder
    from tacit.policies.contract import Sampling
    from tacit.tuning.sampling import scores_of

    drawing = Sampling(size.tokens, seed=60_000 + seed)
    before = [one for (one,) in start.generate(world.held, 1, drawing)]
    kl, said = 0.0, world.held_said
    if policy is not None:
        rollout = policy.rollout(world.held, 1, drawing)
        said = rollout.texts
        theirs = scores_of(start, rollout, 64).logprobs
        kl = float(((rollout.logprobs - theirs) * rollout.mask).sum(1).mean())
    encoder = load_encoder("hashed")
    number = list(range(len(world.held)))
    ours, demonstrated = (
        encoder.encode(list(zip(world.held, texts, strict=True))) for texts in (said, world.held_said)
    )
    told = discriminate(ours, demonstrated, number, number, seed=seed, resamples=50)
    return {
        "world": world.name,
        "method": name,
        "gold": _mean(world.gold.score, world.held, said),
        "kl": kl,
        "told_apart": told.accuracy,
        "proxy": 0.0
        if reward is None
        else _mean(reward.score, world.held, said) - _mean(reward.score, world.held, before),
        "samples": drawn,
        "failed": False,
    }


def _mean(
    score: Callable[[Sequence[Prompt], Sequence[Completion]], np.ndarray], prompts: list[str], texts: list[str]
) -> float:
    return float(score(prompts, texts).mean())


def _load(folder: str | Path) -> Any:
    from tacit.policies.transformer import TransformerPolicy

    return TransformerPolicy.load(folder, dtype="float32", device="cpu")
