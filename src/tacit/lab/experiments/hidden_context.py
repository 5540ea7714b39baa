"""`tacit lab hidden-context`: does a fit notice that people differ for a reason that is not in the data?

The toy of distributional preference learning (arXiv 2312.08358): a response is a number x, uniform on [0, 1], and is
worth x; but where x >= .8 half the people find it worth 2 x and half nothing. Each of two responses is valued by a
context of its own, and the side worth more is preferred. Worlds:

- `context`: that one;
- `none`: everybody finds x worth x;
- `noise`: everybody does, and votes with log-odds x / .15, so that votes are no surer than with hidden context.

Models: `mean_variance` and `categorical` on hat functions of x (linear heads), and on x itself (mlp); and Bradley-Terry
with ten bootstrap members, whose spread is all that it could flag anything by.

- `flag`: the report's `hidden_context` (what the distribution adds to forecasts of held-out votes);
- `gain`: that, in nats a vote; `r2`: explained variance; `ratio`: spread at x >= .8 divided by that at x < .8, over
  people for the distributions, over members for Bradley-Terry;
- `top`: mean score at x >= .8 minus that at x < .8, in standard deviations of the score, and `top_risk` for the score
  at quantile .1: a cautious reward avoids what half the people find worthless.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tacit.evidence.records import Comparison
from tacit.features.arrays import PrecomputedEncoder
from tacit.lab.seeds import repeat
from tacit.rewards import distributional, feature_reward

WORLDS = {"context": (True, 0.0), "none": (False, 0.0), "noise": (False, 0.15)}
BINS = 20
EDGE = 0.8
MLP: dict[str, Any] = {
    "head": "mlp",
    "hidden": (64, 64),
    "learning_rate": 3e-3,
    "epochs": 30,
    "patience": 8,
    "batch_size": 128,
}


def run(*, seeds: int = 10, seed: int = 0, pairs: int = 2000) -> dict[str, Any]:
    """The table: every model in every world, means and intervals over `seeds`."""
    rows = repeat(lambda s: _once(s, pairs), seeds, seed, "hidden context")
    return {"experiment": "hidden-context", "seeds": seeds, "pairs": pairs, "rows": rows}


def sample(world: str, pairs: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Responses x (pairs, 2) and whether the first is preferred (pairs,)."""
    context, noise = WORLDS[world]
    x = rng.random((pairs, 2))
    worth = x
    if context:
        worth = np.where(x >= EDGE, np.where(rng.random(x.shape) < 0.5, 2 * x, 0.0), x)
    gap = worth[:, 0] - worth[:, 1]
    tied = gap == 0  # two responses that nobody values: a coin decides
    first = np.where(tied, rng.random(pairs) < 0.5, gap > 0)
    return x, rng.random(pairs) < 1 / (1 + np.exp(-gap / noise)) if noise else first


def hats(x: np.ndarray) -> np.ndarray:
    """Hat functions (n, 21) of x (n,): a linear head on them is any function that bends at multiples of 1 / 20."""
    return np.asarray(np.clip(1 - np.abs(x[:, None] * BINS - np.arange(BINS + 1)), 0, None), np.float32)


def _once(seed: int, pairs: int) -> list[dict[str, Any]]:
    rows = []
    for world in WORLDS:
        x, first = sample(world, pairs, np.random.default_rng(seed))
        names = [[f"{i}{side}" for i in range(pairs)] for side in "ab"]
        votes = [
            Comparison(chosen=names[not won][i], rejected=names[int(won)][i]) for i, won in enumerate(first.tolist())
        ]
        flat, grid = np.concatenate([x[:, 0], x[:, 1], np.linspace(0, 1, 201)]), [f"g{i}" for i in range(201)]
        texts = [*names[0], *names[1], *grid]
        encoders = {
            "linear": PrecomputedEncoder(texts, hats(flat)),
            "mlp": PrecomputedEncoder(texts, flat[:, None].astype(np.float32)),
        }
        high, nothing = flat[2 * pairs :] >= EDGE, [""] * 201
        for model in ("mean_variance", "categorical"):
            for head in ("linear", "mlp"):
                options = MLP if head == "mlp" else {}
                reward = distributional.fit(votes, model, encoder=encoders[head], seed=seed, **options)
                _, sd = reward.moments(nothing, grid)
                report = reward.report
                cautious = replace(reward, risk=0.1)
                rows.append(
                    {
                        "world": world,
                        "model": f"{model} {head}",
                        "flag": bool(report["hidden_context"]),
                        "gain": report["context_gain"],
                        "r2": report["explained_variance"],
                        "ratio": float(sd[0][high].mean() / sd[0][~high].mean()),
                        "top": _top(reward.score(nothing, grid), high),
                        "top_risk": _top(cautious.score(nothing, grid), high),
                    }
                )
        plain = feature_reward.fit(votes, encoder=encoders["linear"], members=10, seed=seed)
        spread = plain.score_members(nothing, grid).std(0, ddof=1)
        rows.append(
            {
                "world": world,
                "model": "bradley_terry",
                "ratio": float(spread[high].mean() / spread[~high].mean()),
                "top": _top(plain.score(nothing, grid), high),
            }
        )
    return rows


def _top(score: np.ndarray, high: np.ndarray) -> float:
    return float((score[high].mean() - score[~high].mean()) / score.std())
