"""`tacit lab audit-faults`: does an audit name the faults that are there, and no others?

The reward under audit is the built-in world's true reward with noise that the text fixes, and one planted fault at a
time, over seeds; a world without a fault counts false alarms. Votes come from Bradley-Terry people, so that the truth
itself errs as they do.

- `length bias`: 2 logits for a doubling of length. `over-confident`: log-odds twice too large. `broken slice`: noise on
  prompts by experts, a third of all. `prompt-blind`: the best that the answer could be worth under any question.
- `mislabelled rows`: a tenth of the votes turned round. `position bias`: people give 1 logit to the first answer.
- `half` of a fault: 1 logit for a doubling, log-odds 1.4 times too large, noise on half of the experts' prompts, a
  twentieth of the votes, half a logit.

`named` is how often the finding that names the fault is made. `false_alarms` is how often any fault or warning is
reported that is not true of the planted world: findings that follow from a fault are none (padding pays where length
does; what is broken may lose to a bag of words that was fitted on these very votes), and `follows` counts them. All
with Wilson's 95% intervals over seeds. `findings` counts the seeds in which each finding is made.

`mislabelled`: share of turned votes among as many rows as were turned, by the report's order (fits that have not seen
the row), by the loss of a linear fit on these same rows, by that of the reward under audit, which knows the truth but
for its noise, and by lot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from tacit.audit.biases import biases
from tacit.audit.calibration import fit_temperature
from tacit.audit.controls import controls
from tacit.audit.counterfactuals import counterfactuals
from tacit.audit.invariance import invariance
from tacit.audit.position import position
from tacit.audit.quality import right_and_sure
from tacit.audit.report import run_sections
from tacit.audit.rows import rows_to_look_at
from tacit.audit.slices import slices
from tacit.audit.study import Study
from tacit.conversation import Completion, Prompt, completion_text, prompt_text
from tacit.evidence import Evidence
from tacit.evidence.annotators import Annotator
from tacit.features import load_encoder
from tacit.lab import phrases
from tacit.lab.seeds import mean_interval, wilson
from tacit.lab.worlds import World
from tacit.progress import track
from tacit.rewards.feature_reward import fit

Change = Callable[[np.ndarray, list[str], list[str]], np.ndarray]

RATIONALITY = 2.0
FLIPS = 0.1
POSITION = 1.0
_SECTIONS = (right_and_sure, controls, biases, position, counterfactuals, slices, rows_to_look_at, invariance)


@dataclass
class Planted:
    """The true reward in log-odds, with noise fixed by the text, and a change to it."""

    world: World
    change: Change
    seed: int
    noise: float = 0.3
    temperature: float = 1.0
    """What keeps it calibrated: one fault at a time."""
    name: str = "planted"

    def __post_init__(self) -> None:
        self.encoder = load_encoder("hashed")

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Scores (n,) float32."""
        asked, given = [prompt_text(p) for p in prompts], [completion_text(c) for c in completions]
        true = self.world.true_reward(asked, given) * RATIONALITY / self.world.scale
        noisy = true + self.noise * np.array(
            [_normal(f"{self.seed}\0{p}\0{c}") for p, c in zip(asked, given, strict=True)]
        )
        return (self.change(noisy, asked, given) / self.temperature).astype(np.float32)


def _normal(text: str) -> float:
    """A standard normal number that the text fixes."""
    from scipy.special import ndtri

    whole = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
    return float(ndtri((whole + 0.5) / 2**64))


def _same(score: np.ndarray, asked: list[str], given: list[str]) -> np.ndarray:
    return score


def _length(strength: float) -> Change:
    return lambda score, asked, given: score + 2.0 * strength * np.log2([max(1, len(text)) for text in given])


def _over_confident(strength: float) -> Change:
    return lambda score, asked, given: 2**strength * score


def _broken_slice(world: World, strength: float) -> Change:
    edge = float("inf") if strength == 1 else 0.0

    def change(score: np.ndarray, asked: list[str], given: list[str]) -> np.ndarray:
        broken = _expert(world, asked) & (np.array([_normal(prompt) for prompt in asked]) < edge)
        return np.where(broken, [_normal(text) for text in given], score)

    return change


def _prompt_blind(world: World) -> Change:
    """The best that the answer could be worth under a plain question about any topic."""

    def change(score: np.ndarray, asked: list[str], given: list[str]) -> np.ndarray:
        under = [world.true_reward([topic.questions[0]] * len(given), given) for topic in phrases.TOPICS]
        best: np.ndarray = np.max(under, axis=0) * RATIONALITY / world.scale
        return best

    return change


def _expert(world: World, asked: list[str]) -> np.ndarray:
    """Whether each prompt is an expert's."""
    return world.read(asked, [""] * len(asked))[:, -1] > 0


FAULTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "none": ("", ()),
    "length bias": ("length_bias", ("rewards_padding", "beaten_by_bag_of_words")),
    "over-confident": ("over_confident", ()),
    "broken slice": ("blind_slice", ("beaten_by_bag_of_words",)),
    "mislabelled rows": ("mislabelled", ()),
    "prompt-blind": ("prompt_blind", ("beaten_by_bag_of_words",)),
    "position bias": ("position_bias", ()),
    "half length bias": ("length_bias", ("rewards_padding", "beaten_by_bag_of_words")),
    "half over-confident": ("over_confident", ()),
    "half broken slice": ("blind_slice", ("beaten_by_bag_of_words",)),
    "half mislabelled rows": ("mislabelled", ()),
    "half position bias": ("position_bias", ()),
}
"""Planted fault: the finding that names it, and those that follow from it."""


def run(*, seeds: int = 10, seed: int = 0, votes: int = 3000, faults: Sequence[str] = tuple(FAULTS)) -> dict[str, Any]:
    """How often each fault is named, and how often something is that is not there."""
    world = World()
    found: dict[str, list[set[str]]] = {fault: [] for fault in faults}
    picked: list[dict[str, float]] = []
    for fault, s in track([(f, s) for f in faults for s in range(seed, seed + seeds)], "auditing", len(faults) * seeds):
        study, evidence, wrong = _study(world, fault, s, votes)
        report = run_sections(study, _SECTIONS)
        found[fault].append(report.faults)
        if fault == "mislabelled rows":
            picked.append(_precision(report.to_dict()["sections"]["rows"], study, evidence, wrong))
    keys = sorted({key for sets in found.values() for each in sets for key in each})
    rows = []
    for fault in faults:
        key, follows = FAULTS[fault]
        named = sum(key in each for each in found[fault])
        alarms = [each - {key, *follows} for each in found[fault]]
        alarmed = sum(map(bool, alarms))
        row: dict[str, Any] = {"planted": fault}
        if key:
            row |= {"named": f"{named} of {seeds}", "named_ci": wilson(named, seeds)}
        row |= {"false_alarms": f"{alarmed} of {seeds}", "false_alarms_ci": wilson(alarmed, seeds)}
        row |= {"follows": f"{sum(bool(each & set(follows)) for each in found[fault])} of {seeds}"} if follows else {}
        rows.append(row | {"which": ", ".join(sorted(set().union(*alarms)))})
    findings = [{"planted": f} | {k: sum(k in each for each in sets) for k in keys} for f, sets in found.items()]
    precision = []
    for order in picked[0] if picked else ():
        mean, ends = mean_interval([each[order] for each in picked])
        precision.append({"order": order, "turned": mean, "turned_ci": ends})
    return {
        "experiment": "audit-faults",
        "seeds": seeds,
        "votes": votes,
        "rows": rows,
        "findings": findings,
        "mislabelled": precision,
    }


def _study(world: World, fault: str, seed: int, rows: int) -> tuple[Study, Evidence, np.ndarray]:
    rng = np.random.default_rng(seed)
    strength = 0.5 if fault.startswith("half ") else 1.0
    fault = fault.removeprefix("half ")
    bias = POSITION * strength if fault == "position bias" else 0.0
    votes = world.compare(rows, rng, [Annotator(rationality=RATIONALITY, position_bias=bias)])
    wrong = rng.random(rows) < (FLIPS * strength if fault == "mislabelled rows" else 0.0)
    expert = _expert(world, [row["prompt"] for row in votes])
    for row, flip, level in zip(votes, wrong, expert, strict=True):
        row["level"] = "expert" if level else "other"
        if flip:
            for a, b in (("chosen", "rejected"), ("gold_chosen", "gold_rejected")):
                row[a], row[b] = row[b], row[a]
            row["chosen_first"] = not row["chosen_first"]
    changes = {
        "length bias": _length(strength),
        "over-confident": _over_confident(strength),
        "broken slice": _broken_slice(world, strength),
        "prompt-blind": _prompt_blind(world),
    }
    reward = Planted(world, changes.get(fault, _same), seed)
    if fault in ("length bias", "prompt-blind", "broken slice"):
        reward.temperature = _temperature(reward, votes)
    evidence = Evidence.from_records(votes, kind="comparison", source="world")
    return Study.of(reward, evidence, "comparison", "world", resamples=400, seed=seed), evidence, wrong


def _temperature(reward: Planted, votes: list[dict[str, Any]]) -> float:
    asked = [row["prompt"] for row in votes]
    better, worse = ([row[side] for row in votes] for side in ("chosen", "rejected"))
    return fit_temperature(reward.score(asked, better) - reward.score(asked, worse), np.ones(len(votes)))


def _precision(numbers: dict[str, Any], study: Study, evidence: Evidence, wrong: np.ndarray) -> dict[str, float]:
    """Share of truly flipped rows among as many as were flipped, by our order, by the reward's own loss, by lot."""
    ours = np.array(numbers["mislabelled_rows"]) - 1
    count = min(len(ours), int(wrong.sum()))
    by_loss = np.argsort(study.delta, kind="stable")[:count]
    own = study.items.score(fit(evidence, encoder="hashed", seed=study.seed))
    by_own = np.argsort(own[study.pairs.a] - own[study.pairs.b], kind="stable")[:count]
    return {
        "cross-fitted members": float(wrong[ours[:count]].mean()),
        "loss of a fit on the same rows": float(wrong[by_own].mean()),
        "loss of the reward": float(wrong[by_loss].mean()),
        "random": float(wrong.mean()),
    }
