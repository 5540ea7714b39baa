"""`tacit bench recovery`: is the true reward found again from comparisons alone?

The demo world has a hidden reward, so that a learnt one can be held against the truth: Spearman's rho with it over the
replies to a prompt, averaged over prompts that no comparison showed. Length alone and random scores stand beside it.

With clean labels an ideal annotator always prefers the better reply. With flipped ones, the same comparisons are
recorded the wrong way round with some probability, and Bradley-Terry meets the classification of single responses (Sun,
Shen and Ton 2024, arXiv 2411.04991, who find classification the more robust). Both are fitted on the same rows, so the
interval of their difference is of pairs, one for each seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tacit.audit.ranking import spearman_by_group
from tacit.errors import TacitError
from tacit.evidence import Evidence
from tacit.evidence.annotators import Annotator
from tacit.features import load_encoder
from tacit.features.arrays import PrecomputedEncoder
from tacit.lab.seeds import mean_interval
from tacit.lab.worlds import World
from tacit.progress import track
from tacit.rewards.controls import LengthReward, RandomReward
from tacit.rewards.feature_reward import fit

Row = dict[str, Any]

OBJECTIVES = ("bradley_terry", "classification")
DIFFERENCE = "difference"
WIDE = {"head": "mlp", "hidden": (1024,), "batch_size": 256, "epochs": 20, "patience": 10}
CLEAN: dict[str, dict[str, Any]] = {"linear": {}, "mlp": {**WIDE, "weight_decay": 3.0}}
"""Fit options by head, for labels without errors."""
FLIPPED: dict[str, dict[str, Any]] = {"linear": {}, "mlp": {**WIDE, "weight_decay": 30.0}}
"""For flipped labels: at 30% a label tells 1 - H(.3) = .12 bits, an eighth of a clean one, so the hidden layer is held
back more."""
PAIRS_PER_PROMPT, PROMPTS, REPLIES = 4, 400, 16
MOST_PAIRS = 100_000
"""Beyond, the world runs out of prompts to hold out."""


@dataclass(frozen=True)
class Trial:
    """Comparisons of one seed with vectors for their texts, and a test on prompts that they do not show."""

    rows: list[Row]
    """Clean comparisons, with the truth in `gold_chosen` and `gold_rejected`."""
    encoder: PrecomputedEncoder
    prompts: list[str]
    """(t,) of the test, as the next four."""
    replies: list[str]
    features: npt.NDArray[np.float32]
    truth: npt.NDArray[np.float64]
    groups: npt.NDArray[np.intp]

    def spearman(self, scores: npt.ArrayLike) -> float:
        """Mean over unseen prompts of Spearman's rho with the truth, of scores (t,)."""
        return float(spearman_by_group(scores, self.truth, self.groups)[1].mean())

    def recovered(self, rows: Sequence[Row], seed: int, **options: Any) -> float:
        """The same, of a reward fitted on `rows`, which hold no other texts than the trial's own."""
        evidence = Evidence.from_records(rows, kind="comparison", source="the world")
        reward = fit(evidence, encoder=self.encoder, seed=seed, **options)
        return self.spearman(reward.score_features(self.features).mean(0))


def run(
    *,
    pairs: int = 20_000,
    sizes: Sequence[int] = (2_000, 5_000, 20_000),
    flip: float = 0.3,
    seeds: int = 10,
    seed: int = 0,
) -> dict[str, Any]:
    """Recovery from `pairs` clean comparisons, and from `sizes` of them with a share `flip` of labels turned round.

    Runs `seeds` seeds from `seed` on, each with comparisons, flips and unseen prompts of its own. `rows` holds means
    over seeds with 95% intervals (Student's t), among them that of the paired difference of the objectives; `by_seed`
    every single value. Raises `TacitError` where a number is out of its range.
    """
    for name, value, low, high in (
        ("seeds", seeds, 2, math.inf),
        ("pairs", pairs, 100, MOST_PAIRS),
        ("flip", flip, 0.01, 0.99),
        *(("sizes", size, 100, pairs) for size in sizes),
    ):
        if not low <= value <= high:
            raise TacitError(f"--{name} {value}: give a number from {low} to {high}")
    steps = seeds * (2 + len(CLEAN) + len(sizes) * len(FLIPPED) * len(OBJECTIVES))
    work = (row for s in range(seed, seed + seeds) for row in once(s, pairs, sizes, flip))
    found = list(track(work, "recovery", steps))
    return {"suite": "recovery", "seeds": seeds, "seed": seed, "rows": summarise(found), "by_seed": found}


def once(seed: int, pairs: int, sizes: Sequence[int], flip: float) -> Iterator[Row]:
    """Every fit of one seed: pairs, share of flips, reward, objective, seed, spearman."""
    trial = _trial(pairs, seed)

    def row(n: int | None, flips: float | None, reward: str, objective: str | None, value: float) -> Row:
        named = {"pairs": n, "flips": flips, "reward": reward, "objective": objective}
        return {**named, "seed": seed, "spearman": value}

    for name, control in (("length", LengthReward()), ("random", RandomReward(seed))):
        yield row(None, None, name, None, trial.spearman(control.score(trial.prompts, trial.replies)))
    for head, options in CLEAN.items():
        yield row(pairs, 0.0, head, OBJECTIVES[0], trial.recovered(trial.rows, seed, **options))
    noisy = flipped(trial.rows, flip, np.random.default_rng([seed, 2]))
    for n in sizes:
        for head, options in FLIPPED.items():
            for objective in OBJECTIVES:
                value = trial.recovered(noisy[:n], seed, objective=objective, **options)
                yield row(n, flip, head, objective, value)


def flipped(rows: Sequence[Row], share: float, rng: np.random.Generator) -> list[Row]:
    """The same comparisons by an annotator who knows the truth and records a share of the votes the wrong way round."""
    gold = [np.array([row[f"gold_{side}"] for row in rows], dtype=np.float64) for side in ("chosen", "rejected")]
    votes = Annotator(flip=share, rationality=math.inf).prefer(*gold, rng=rng)
    turned = {
        "chosen": "rejected",
        "rejected": "chosen",
        "gold_chosen": "gold_rejected",
        "gold_rejected": "gold_chosen",
    }
    return [
        row if vote == 1.0 else {key: row[turned.get(key, key)] for key in row}
        for row, vote in zip(rows, votes.tolist(), strict=True)
    ]


def summarise(found: Iterable[Row]) -> list[Row]:
    """Rows of single seeds as means with 95% intervals, in order of first appearance.

    Where both objectives were fitted, a third row has the `difference` Bradley-Terry minus classification, paired by
    seed whatever the order of the rows.
    """
    cells: dict[tuple[Any, ...], dict[str | None, dict[int, float]]] = {}
    for row in found:
        cell = cells.setdefault((row["pairs"], row["flips"], row["reward"]), {})
        cell.setdefault(row["objective"], {})[row["seed"]] = row["spearman"]
    rows = []
    for (pairs, flips, reward), cell in cells.items():
        if all(objective in cell for objective in OBJECTIVES):
            first, second = (cell[objective] for objective in OBJECTIVES)
            cell = {**cell, DIFFERENCE: {s: first[s] - second[s] for s in first}}
        for objective, by_seed in cell.items():
            mean, interval = mean_interval(list(by_seed.values()))
            row = {"pairs": pairs, "flips": flips, "reward": reward, "objective": objective}
            rows.append({**row, "spearman": mean, "spearman_ci": interval})
    return rows


def _trial(pairs: int, seed: int) -> Trial:
    """`pairs` clean comparisons, and the replies to those of `PROMPTS` prompts that none of them shows."""
    world, encoder = World(), load_encoder("hashed")
    ideal = Annotator(rationality=math.inf)
    rows = world.compare(pairs, np.random.default_rng([seed, 0]), [ideal], pairs_per_prompt=PAIRS_PER_PROMPT)
    seen = {row["prompt"] for row in rows}
    sampled, replies = world.sample(PROMPTS, REPLIES, np.random.default_rng([seed, 1]))
    fresh = [i for i, prompt in enumerate(sampled) if prompt not in seen]
    asked, given = [sampled[i] for i in fresh for _ in range(REPLIES)], [reply for i in fresh for reply in replies[i]]
    shown = list(dict.fromkeys((row["prompt"], row[side]) for row in rows for side in ("chosen", "rejected")))
    return Trial(
        rows,
        PrecomputedEncoder(shown, encoder.encode(shown)),
        asked,
        given,
        encoder.encode(list(zip(asked, given, strict=True))),
        world.true_reward(asked, given),
        np.repeat(np.arange(len(fresh)), REPLIES),
    )
