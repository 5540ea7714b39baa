"""`tacit lab coverage`: do the 95% intervals of an audit hold the truth in 95 of 100 data sets?

Data sets are simulated with a known truth and audited as any other (`tacit.evaluate`; a paired difference as the
report's control rewards have it). A comparison is of two items of quality q; with prompts, the reward under audit reads
a_p q plus noise, a_p ~ N(.8, .8) of the prompt, so that it is right on some prompts and wrong on others; people choose
by 2 b_j q, log b_j ~ N(0, .8) of the person. Everything is over-confident, by half and more.

- **prompts**: 80 prompts with 8 comparisons each, one person a comparison.
- **few prompts**: 20 such prompts.
- **prompts and people**: 80 prompts with 8 comparisons each by 40 people.
- **items**: no prompts; 600 comparisons among 120 items.
- **calibrated**: 100 prompts, and a reward that states the very probabilities that people choose by.

`truth` is the metric on a million rows (exactly 0 for the calibration error of the calibrated reward), `estimate` the
mean estimate, `coverage` the share of data sets whose interval holds the truth, with Wilson's interval, and `naive` the
coverage of mean +- 1.96 standard errors that ignore prompts and people: the control.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tacit.audit import calibration
from tacit.audit.metrics import evaluate, pair_accuracy
from tacit.audit.ranking import spearman, spearman_by_group
from tacit.audit.study import Study
from tacit.conversation import Completion, Prompt
from tacit.evidence.records import Comparison, Kind
from tacit.lab.seeds import wilson
from tacit.progress import track

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]

METRICS = ("accuracy", "spearman", "nll", "ece", "gain")
"""Those of `tacit.evaluate`, and the paired gain in accuracy over another reward."""
_ROWS_OF_TRUTH = 1_000_000


@dataclass(frozen=True)
class Design:
    """How a data set is made: `groups` prompts of `each` comparisons, or without prompts `each` for each of as many
    items."""

    groups: int
    each: int
    people: int = 0
    """Annotators; 0 for another one each time, unnamed."""
    promptless: bool = False
    calibrated: bool = False


DESIGNS = {
    "prompts": Design(80, 8),
    "few prompts": Design(20, 8),
    "prompts and people": Design(80, 8, people=40),
    "items": Design(120, 5, promptless=True),
    "calibrated": Design(100, 5, calibrated=True),
}


@dataclass(frozen=True)
class Votes:
    """n comparisons of items, a preferred to b; quality and two rewards of every item."""

    a: Index
    b: Index
    prompt: Index
    person: Index
    quality: Array
    reward: Array
    other: Array
    chance: Array
    """(n,) the probability with which a was preferred."""

    @property
    def delta(self) -> Array:
        """Log-odds (n,) that the reward under audit gives to a."""
        return self.reward[self.a] - self.reward[self.b]

    @property
    def credit(self) -> Array:
        """Whether it orders the comparison as the person did, (n,)."""
        return pair_accuracy(self.delta, np.zeros(len(self.a)))

    @property
    def gain(self) -> Array:
        """Credit less that of the other reward, (n,)."""
        return self.credit - pair_accuracy(self.other[self.a] - self.other[self.b], np.zeros(len(self.a)))


@dataclass
class _Known:
    """A reward that looks up the score of item number `completion`."""

    scores: Array
    name: str = "known"

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Scores (n,) float32."""
        numbers = np.fromiter((int(str(text)) for text in completions), np.intp, len(completions))
        return self.scores[numbers].astype(np.float32)


@dataclass(frozen=True)
class _Evidence:
    """Comparisons in memory."""

    rows: Sequence[Comparison]
    kind: Kind = "comparison"
    source: str = "simulation"

    def __iter__(self) -> Iterator[Comparison]:
        return iter(self.rows)


def simulate(design: Design, rng: np.random.Generator, scale: int = 1) -> Votes:
    """One data set, or with `scale` one of so many times the prompts (or items) and people."""
    groups, people = design.groups * scale, design.people * scale
    n = groups * design.each
    if design.promptless:
        items, prompt = groups, np.zeros(n, np.intp)
        first = rng.integers(0, items, n)
        second = (first + 1 + rng.integers(0, items - 1, n)) % items
        slope = np.ones(items)
    else:
        items, prompt = 2 * n, np.arange(n) // design.each
        first, second = 2 * np.arange(n), 2 * np.arange(n) + 1
        slope = np.repeat(rng.normal(0.8, 0.8, groups), 2 * design.each)
    quality = rng.normal(size=items)
    reward = 3 * (slope * quality + rng.normal(0, 0.5, items))
    other = 3 * (quality + rng.normal(0, 1.0, items))
    person = rng.integers(0, people, n) if people else np.arange(n)
    rationality = np.exp(rng.normal(0, 0.8, max(people, 1)))[person % max(people, 1)] if people else np.ones(n)
    if design.calibrated:
        reward = 2 * quality
    chance = calibration.sigmoid(2 * rationality * (quality[first] - quality[second]))
    won = rng.random(n) < chance
    return Votes(
        *(np.where(won, first, second), np.where(won, second, first), prompt, person),
        *(quality, reward, other, np.where(won, chance, 1 - chance)),
    )


def true_values(design: Design, rng: np.random.Generator) -> dict[str, float]:
    """Every metric on about a million rows, votes replaced by their probabilities where that takes noise away."""
    votes = simulate(design, rng, scale=_ROWS_OF_TRUTH // (design.groups * design.each))
    won = votes.chance
    even = np.zeros(len(won))
    right = pair_accuracy(votes.delta, even)
    other = pair_accuracy(votes.other[votes.a] - votes.other[votes.b], even)
    if design.promptless:
        rho = spearman(votes.reward, votes.quality)
    else:
        rho = float(spearman_by_group(votes.reward, votes.quality, np.repeat(votes.prompt, 2))[1].mean())
    return {
        "accuracy": float((won * right + (1 - won) * (1 - right)).mean()),
        "spearman": rho,
        "nll": float(calibration.nll(votes.delta, won).mean()),
        "ece": 0.0 if design.calibrated else calibration.ece(votes.delta, won),
        "gain": float(((2 * won - 1) * (right - other)).mean()),
    }


def records(design: Design, votes: Votes) -> list[Comparison]:
    """The data set as evidence with gold columns."""
    return [
        Comparison.model_construct(
            prompt="" if design.promptless else str(prompt),
            chosen=str(a),
            rejected=str(b),
            annotator=str(person) if design.people else None,
            gold_chosen=float(votes.quality[a]),
            gold_rejected=float(votes.quality[b]),
        )
        for a, b, prompt, person in zip(
            votes.a.tolist(), votes.b.tolist(), votes.prompt.tolist(), votes.person.tolist(), strict=True
        )
    ]


def audited(design: Design, votes: Votes, resamples: int, seed: int) -> dict[str, tuple[float, list[float]]]:
    """Every metric and its interval, as an audit gives them."""
    evidence, reward = _Evidence(records(design, votes)), _Known(votes.reward)
    found = evaluate(reward, evidence, resamples=resamples, seed=seed)
    study = Study.of(reward, evidence, "comparison", evidence.source, resamples=resamples, seed=seed)
    gain, gain_ci = study.share(votes.gain)
    made = {name: (found[name], found[f"{name}_ci"]) for name in METRICS[:-1]}
    return made | {"gain": (float(gain or 0.0), gain_ci or [0.0, 0.0])}


def run(*, seeds: int = 600, seed: int = 0, resamples: int = 400) -> dict[str, Any]:
    """Coverage of every metric under every design, over `seeds` data sets each."""
    rows = []
    for name, design in DESIGNS.items():
        truth = true_values(design, np.random.default_rng([seed, 1]))
        rng = np.random.default_rng(seed)
        held, plain = np.zeros(len(METRICS)), np.full(len(METRICS), np.nan)
        estimates, widths = np.zeros(len(METRICS)), np.zeros(len(METRICS))
        for s in track(range(seeds), name, seeds):
            votes = simulate(design, rng)
            found = audited(design, votes, resamples, s)
            rowwise = {"accuracy": votes.credit, "nll": calibration.nll(votes.delta, np.ones(len(votes.a)))}
            rowwise |= {"gain": votes.gain}
            for k, metric in enumerate(METRICS):
                value, (low, high) = found[metric]
                held[k] += low <= truth[metric] <= high
                estimates[k] += value / seeds
                widths[k] += (high - low) / seeds
                if metric in rowwise:
                    of = rowwise[metric]
                    error = 1.96 * of.std(ddof=1) / np.sqrt(len(of))
                    plain[k] = np.nan_to_num(plain[k]) + (abs(of.mean() - truth[metric]) <= error) / seeds
        rows += [
            {
                "data": name,
                "metric": metric,
                "truth": truth[metric],
                "estimate": float(estimates[k]),
                "width": float(widths[k]),
                "coverage": float(held[k] / seeds),
                "coverage_ci": wilson(int(held[k]), seeds),
                "naive": None if np.isnan(plain[k]) else float(plain[k]),
            }
            for k, metric in enumerate(METRICS)
            if not (design.calibrated and metric == "spearman")  # 1 in every data set
        ]
    return {"experiment": "coverage", "data_sets": seeds, "resamples": resamples, "rows": rows}
