"""`tacit lab intransitive`: preferences that go in circles, and preferences that do not.

An item has eight standard normal features z. People prefer a to b with probability sigma(d),

    d = 1.5 (t_a - t_b) + c (x_a y_b - y_a x_b),    t, x, y three orthogonal projections of z:

a transitive part, and a circular one in which who is ahead depends on the opponent, as in rock, paper, scissors. c = 2
is the intransitive world and c = 0 its control. Fitted on comparisons of distinct items, measured on pairs of new ones.

- `accuracy`: the side that d prefers; `nll`: of votes, `truth_nll`: what d itself gets.
- `won`: by how much accuracy exceeds the scalar reward's, on the same pairs.
- `cycles`: cycles of three that the model sees among 60 new items with every link above .2 log-odds, and `real`, the
  share of them that d has as well; `cyclic` is the share of all triples that are cycles of d.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tacit import rewards
from tacit.evidence.records import Comparison
from tacit.features.arrays import PrecomputedEncoder
from tacit.lab.seeds import repeat
from tacit.rewards import cycles
from tacit.rewards.contract import Comparing, Reward

DIM = 8
LINK = 0.2
"""Log-odds that each link of a cycle must exceed."""


def run(*, seeds: int = 10, seed: int = 0, pairs: int = 1500, tests: int = 4000, items: int = 60) -> dict[str, Any]:
    """The table: scalar and pairwise in both worlds, means and intervals over `seeds`."""
    rows = repeat(lambda s: _once(s, pairs, tests, items), seeds, seed, "intransitive")
    return {"experiment": "intransitive", "seeds": seeds, "pairs": pairs, "tests": tests, "rows": rows}


def true_odds(a: np.ndarray, b: np.ndarray, basis: np.ndarray, circular: float) -> np.ndarray:
    """d (n,) of items with features a, b (n, 8); `basis` (8, 3) holds the projections."""
    (t, x, y), (s, z, w) = (a @ basis).T, (b @ basis).T
    return np.asarray(1.5 * (t - s) + circular * (x * w - y * z))


def _once(seed: int, pairs: int, tests: int, items: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for world, circular in (("circular", 2.0), ("transitive", 0.0)):
        rng = np.random.default_rng(seed)
        basis = np.linalg.qr(rng.normal(size=(DIM, 3)))[0]
        z = rng.normal(size=(2 * (pairs + tests) + items, DIM)).astype(np.float32)
        names = [str(i) for i in range(len(z))]
        encoder = PrecomputedEncoder(names, z)
        odds = true_odds(z[0 : 2 * pairs : 2], z[1 : 2 * pairs : 2], basis, circular)
        first = rng.random(pairs) < 1 / (1 + np.exp(-odds))
        evidence = [
            Comparison(chosen=names[2 * i + (not won)], rejected=names[2 * i + int(won)])
            for i, won in enumerate(first.tolist())
        ]
        a, b = np.arange(2 * pairs, 2 * (pairs + tests), 2), np.arange(2 * pairs + 1, 2 * (pairs + tests), 2)
        true = true_odds(z[a], z[b], basis, circular)
        vote = np.where(rng.random(tests) < 1 / (1 + np.exp(-true)), 1, -1)
        last = np.arange(len(z) - items, len(z))
        matrix = true_odds(np.repeat(z[last], items, 0), np.tile(z[last], (items, 1)), basis, circular)
        matrix = matrix.reshape(items, items)
        scalar_right = None
        for model in ("scalar", "pairwise"):
            reward = rewards.fit(evidence, model=model, encoder=encoder, seed=seed)
            forecast = _compare(reward, [names[i] for i in a], [names[i] for i in b])
            right = np.sign(forecast) == np.sign(true)
            scalar_right = right if scalar_right is None else scalar_right
            seen = _compare(
                reward, [names[i] for i in np.repeat(last, items)], [names[i] for i in np.tile(last, items)]
            ).reshape(items, items)
            rows.append(
                {
                    "world": world,
                    "model": model,
                    "accuracy": float(right.mean()),
                    "won": float(right.mean() - scalar_right.mean()),
                    "nll": float(np.logaddexp(0, -vote * forecast).mean()),
                    "truth_nll": float(np.logaddexp(0, -vote * true).mean()),
                    **_cycles(seen, matrix),
                }
            )
    return rows


def _compare(reward: Reward, first: list[str], second: list[str]) -> np.ndarray:
    prompts = [""] * len(first)
    if isinstance(reward, Comparing):
        return np.asarray(reward.compare(prompts, first, second), np.float64)
    return np.asarray(reward.score(prompts, first) - reward.score(prompts, second), np.float64)


def _cycles(seen: np.ndarray, true: np.ndarray) -> dict[str, Any]:
    seen = (seen - seen.T) / 2  # rounding aside it is antisymmetric
    found, there = (seen > LINK).astype(np.float64), (true > 0).astype(np.float64)
    count = cycles.count_cycles(seen, at_least=LINK)
    both = round(float(np.trace(np.linalg.matrix_power(found * there, 3))) / 3)
    m = len(seen)
    return {
        "cycles": count,
        "real": both / count if count else 1.0,
        "cyclic": cycles.intransitive_triples((true - true.T) / 2) / (m * (m - 1) * (m - 2) / 6),
    }
