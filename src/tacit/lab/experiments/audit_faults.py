"""Does an audit name the faults that are there, and no others? One planted fault at a time, over seeds.

The reward under audit is the built-in world's true reward, bounded noise added, with one fault; a world without a fault
counts false alarms. Votes come from Bradley-Terry people, so that the truth itself errs as they do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from tacit.audit.biases import biases
from tacit.audit.calibration import fit_temperature
from tacit.audit.counterfactuals import counterfactuals
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
from tacit.lab.worlds import World
from tacit.progress import track

Change = Callable[[np.ndarray, list[str], list[str]], np.ndarray]

RATIONALITY = 2.0
FLIPS = 0.1
_SECTIONS = (right_and_sure, biases, counterfactuals, slices, rows_to_look_at)


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


def _length(score: np.ndarray, asked: list[str], given: list[str]) -> np.ndarray:
    return score + 2.0 * np.log2([max(1, len(text)) for text in given])


def _over_confident(score: np.ndarray, asked: list[str], given: list[str]) -> np.ndarray:
    return 2 * score


def _broken_slice(world: World) -> Change:
    def change(score: np.ndarray, asked: list[str], given: list[str]) -> np.ndarray:
        return np.where(_expert(world, asked), [_normal(text) for text in given], score)

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


FAULTS: dict[str, tuple[str, ...]] = {
    "none": (),
    "length bias": ("length_bias", "rewards_padding"),
    "over-confident": ("over_confident",),
    "broken slice": ("blind_slice",),
    "mislabelled rows": ("mislabelled",),
    "prompt-blind": ("prompt_blind",),
}
"""Planted fault, and the findings that name it. What follows from a fault is no false alarm: padding pays where length
does."""


def run(*, seeds: int = 10, seed: int = 0, rows: int = 3000) -> dict[str, Any]:
    """Share of seeds in which each finding is made, for each planted fault."""
    world = World()
    found: dict[str, list[set[str]]] = {fault: [] for fault in FAULTS}
    picked: list[dict[str, float]] = []
    for fault, s in track([(f, s) for f in FAULTS for s in range(seed, seed + seeds)], "auditing", len(FAULTS) * seeds):
        study, wrong = _study(world, fault, s, rows)
        report = run_sections(study, _SECTIONS)
        found[fault].append(report.faults)
        if fault == "mislabelled rows":
            picked.append(_precision(report.to_dict()["sections"]["rows"], study, wrong))
    keys = sorted(
        {key for sets in found.values() for each in sets for key in each} | {k for v in FAULTS.values() for k in v}
    )
    table = [
        {"planted": fault} | {key: float(np.mean([key in each for each in sets])) for key in keys}
        for fault, sets in found.items()
    ]
    named = {f: float(np.mean([bool(each & set(FAULTS[f])) for each in found[f]])) for f in FAULTS if FAULTS[f]}
    alarms = {f: float(np.mean([bool(each - set(FAULTS[f])) for each in found[f]])) for f in FAULTS}
    precision = {k: float(np.mean([p[k] for p in picked])) for k in picked[0]}
    return {"rows": table, "named": named, "false_alarms": alarms, "mislabelled_precision": precision, "seeds": seeds}


def _study(world: World, fault: str, seed: int, rows: int) -> tuple[Study, np.ndarray]:
    rng = np.random.default_rng(seed)
    votes = world.compare(rows, rng, [Annotator(rationality=RATIONALITY)])
    wrong = rng.random(rows) < (FLIPS if fault == "mislabelled rows" else 0.0)
    expert = _expert(world, [row["prompt"] for row in votes])
    for row, flip, level in zip(votes, wrong, expert, strict=True):
        row["level"] = "expert" if level else "other"
        if flip:
            for a, b in (("chosen", "rejected"), ("gold_chosen", "gold_rejected")):
                row[a], row[b] = row[b], row[a]
    changes = {
        "length bias": _length,
        "over-confident": _over_confident,
        "broken slice": _broken_slice(world),
        "prompt-blind": _prompt_blind(world),
    }
    reward = Planted(world, changes.get(fault, _same), seed)
    if fault in ("length bias", "prompt-blind", "broken slice"):
        reward.temperature = _temperature(reward, votes)
    evidence = Evidence.from_records(votes, kind="comparison", source="world")
    return Study.of(reward, evidence, "comparison", "world", resamples=400, seed=seed), wrong


def _temperature(reward: Planted, votes: list[dict[str, Any]]) -> float:
    asked = [row["prompt"] for row in votes]
    better, worse = ([row[side] for row in votes] for side in ("chosen", "rejected"))
    return fit_temperature(reward.score(asked, better) - reward.score(asked, worse), np.ones(len(votes)))


def _precision(numbers: dict[str, Any], study: Study, wrong: np.ndarray) -> dict[str, float]:
    """Share of truly flipped rows among as many as were flipped, by our order, by the reward's own loss, by lot."""
    ours = np.array(numbers["mislabelled_rows"]) - 1
    count = min(len(ours), int(wrong.sum()))
    by_loss = np.argsort(study.delta, kind="stable")[:count]
    return {
        "cross-fitted members": float(wrong[ours[:count]].mean()),
        "loss of the reward": float(wrong[by_loss].mean()),
        "random": float(wrong.mean()),
    }
