"""`tacit lab attributes`: several ratings with holes, and the gate that mixes them.

Responses y to prompts x have twelve standard normal features, prompts four more. Four attributes are linear in y,
r_a = w_a . y; raters give r_a / |w_a| plus noise of standard deviation .5, and half of all ratings are missing. People
compare two responses to a prompt with log-odds 2 sum_a g_a(x) (z_a(y1) - z_a(y2)), z_a = r_a / |w_a|, where the mixture
g(x) = softmax(G x + (1, 0, 0, -1)) depends on the prompt.

- `attribute_r`: correlation of each attribute's score with its truth on unseen responses, averaged over attributes;
  `complete` is the same with no rating missing, `half_rows` with every other row left out instead of holes.
- `mixture_error`: mean |g - g_hat| on unseen prompts, beside that of equal weights and of the best constant mixture.
- `accuracy`: the side that the true log-odds prefer, on unseen pairs, of the gated reward; of equal weights; of one
  fixed mixture (the gate's mean); and of a scalar reward fitted on the same comparisons without any rating, with a
  linear head, which cannot mix by the prompt, and with hidden layers (`mlp`), which could.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tacit import rewards
from tacit.evidence.records import Comparison, Rating
from tacit.features.arrays import PrecomputedEncoder
from tacit.lab.seeds import repeat
from tacit.rewards.attributes import AttributeReward, fit

NAMES = ("brief", "correct", "helpful", "polite")
DIM, ASKED = 12, 4
MLP: dict[str, Any] = {"head": "mlp", "hidden": (128,), "learning_rate": 3e-3, "epochs": 40, "patience": 10}


def run(*, seeds: int = 10, seed: int = 0, ratings: int = 1000, comparisons: int = 2000) -> dict[str, Any]:
    """The table, one row: means and intervals over `seeds`."""
    rows = repeat(lambda s: _once(s, ratings, comparisons), seeds, seed, "attributes")
    return {"experiment": "attributes", "seeds": seeds, "ratings": ratings, "comparisons": comparisons, "rows": rows}


def _once(seed: int, ratings: int, comparisons: int, tests: int = 2000) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(DIM, 4))
    w /= np.linalg.norm(w, axis=0)
    to_mixture = rng.normal(size=(ASKED, 4))
    total = ratings + comparisons + tests  # prompts, two responses each
    x = rng.normal(size=(total, ASKED))
    y = rng.normal(size=(total, 2, DIM))
    z = y @ w  # (total, 2, 4), standard deviation 1
    logits = x @ to_mixture + np.array([1.0, 0.0, 0.0, -1.0])
    g = np.exp(logits - logits.max(1, keepdims=True))
    g /= g.sum(1, keepdims=True)
    prompts = [f"p{i}" for i in range(total)]
    sides = [[f"{i}{side}" for i in range(total)] for side in "ab"]
    encoder = _encoder(prompts, sides, x, y)
    noisy = z[:ratings, 0] + 0.5 * rng.normal(size=(ratings, 4))
    holes = rng.random((ratings, 4)) < 0.5
    part = slice(ratings, ratings + comparisons)
    odds = 2 * (g[:, None] * z).sum(-1) @ np.array([1.0, -1.0])
    first = rng.random(comparisons) < 1 / (1 + np.exp(-odds[part]))
    votes = [
        Comparison(prompt=prompts[i], chosen=sides[not won][i], rejected=sides[int(won)][i])
        for i, won in zip(range(total)[part], first.tolist(), strict=True)
    ]

    def learn(missing: np.ndarray, keep: slice = slice(None), **options: Any) -> AttributeReward:
        rated = [
            Rating(
                prompt=prompts[i],
                completion=sides[0][i],
                score={a: None if missing[i, k] else float(noisy[i, k]) for k, a in enumerate(NAMES)},
            )
            for i in range(ratings)[keep]
        ]
        return fit(rated, encoder=encoder, seed=seed, **options)

    unseen = range(ratings + comparisons, total)
    asked, given = [prompts[i] for i in unseen], [[side[i] for i in unseen] for side in sides]
    gap = odds[unseen]

    def r(reward: AttributeReward) -> float:
        guess = reward.score_attributes(asked, given[0])
        return float(np.mean([np.corrcoef(guess[:, k], z[unseen, 0, k])[0, 1] for k in range(4)]))

    def accuracy(reward: Any) -> float:
        return float((np.sign(reward.score(asked, given[0]) - reward.score(asked, given[1])) == np.sign(gap)).mean())

    none = np.zeros_like(holes)
    gated = learn(holes, gate=votes)
    equal = learn(holes)
    guess, true = gated.mixture(asked), g[unseen]
    mean = guess.mean(0)
    fixed = learn(holes, weights=dict(zip(NAMES, mean.tolist(), strict=True)))
    scalar = rewards.fit(votes, model="scalar", encoder=encoder, seed=seed)
    deep = rewards.fit(votes, model="scalar", encoder=encoder, seed=seed, **MLP)
    constant = true.mean(0)
    return [
        {
            "attribute_r": r(gated),
            "complete": r(learn(none)),
            "half_rows": r(learn(none, slice(None, None, 2))),
            "mixture_error": float(np.abs(guess - true).mean()),
            "equal_error": float(np.abs(0.25 - true).mean()),
            "constant_error": float(np.abs(constant - true).mean()),
            "mixture_r": float(np.corrcoef(guess.ravel(), true.ravel())[0, 1]),
            "accuracy": accuracy(gated),
            "equal_accuracy": accuracy(equal),
            "fixed_accuracy": accuracy(fixed),
            "scalar_accuracy": accuracy(scalar),
            "mlp_accuracy": accuracy(deep),
        }
    ]


def _encoder(prompts: list[str], sides: list[list[str]], x: np.ndarray, y: np.ndarray) -> PrecomputedEncoder:
    """Responses as [x, y], prompts alone as [x, 0]."""
    nothing = np.zeros_like(y[:, 0])
    vectors = np.concatenate([np.concatenate([x, part], axis=1) for part in (y[:, 0], y[:, 1], nothing)])
    texts = [*zip(prompts * 2, sides[0] + sides[1], strict=True), *((prompt, "") for prompt in prompts)]
    return PrecomputedEncoder(texts, vectors.astype(np.float32))
