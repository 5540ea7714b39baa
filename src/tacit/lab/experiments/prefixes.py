"""`tacit lab prefixes`: what unfinished replies are worth, to a reward fitted on whole replies and to one on prefixes.

People compare whole replies in the built-in world (`tacit.lab.worlds`), whose true reward is known. Both rewards see
the same comparisons and features: `scalar` the whole replies, `prefix` all pairs of prefixes of equal length (eight
words apart). Then both judge the first words of pairs of replies to new prompts.

- `accuracy`: how often the reply whose beginning scores higher is the one with the higher true reward in the end;
- `won`: by how much it exceeds that of the scalar reward. Controls: a random reward, and length (no use where both
  beginnings are equally long).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tacit import rewards
from tacit.evidence.records import Comparison
from tacit.features import load_encoder
from tacit.lab.seeds import repeat
from tacit.lab.worlds import World
from tacit.rewards.contract import Reward
from tacit.rewards.controls import LengthReward, RandomReward

LENGTHS = (8, 16, 32, 1000)


def run(*, seeds: int = 10, seed: int = 0, pairs: int = 2000, tests: int = 1000) -> dict[str, Any]:
    """The table: accuracy after 8, 16, 32 and all words, means and intervals over seeds."""
    rows = repeat(lambda s: _once(s, pairs, tests), seeds, seed, "prefixes")
    return {"experiment": "prefixes", "seeds": seeds, "pairs": pairs, "tests": tests, "rows": rows}


def _once(seed: int, pairs: int, tests: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    listed = World().compare(pairs + tests, rng)
    train = [Comparison(**{key: row[key] for key in ("prompt", "chosen", "rejected")}) for row in listed[:pairs]]
    known = {record.prompt for record in train if isinstance(record.prompt, str)}
    test = [row for row in listed[pairs:] if row["prompt"] not in known and row["gold_chosen"] != row["gold_rejected"]]
    better = np.array([row["gold_chosen"] > row["gold_rejected"] for row in test])
    prompts = [row["prompt"] for row in test]
    encoder = load_encoder("hashed")
    judges: dict[str, Reward] = {
        "scalar": rewards.fit(train, model="scalar", encoder=encoder, seed=seed),
        "prefix": rewards.fit(train, model="prefix", encoder=encoder, seed=seed),
        "length": LengthReward(),
        "random": RandomReward(seed),
    }
    rows: list[dict[str, Any]] = []
    for words in LENGTHS:
        sides = [[" ".join(row[side].split()[:words]) for row in test] for side in ("chosen", "rejected")]
        scalar = 0.0
        for name, reward in judges.items():
            margin = reward.score(prompts, sides[0]) - reward.score(prompts, sides[1])
            accuracy = float(((np.sign(margin) * np.where(better, 1, -1) + 1) / 2).mean())
            scalar = accuracy if name == "scalar" else scalar
            said = "all" if words == LENGTHS[-1] else f"first {words}"
            rows.append({"words": said, "reward": name, "accuracy": accuracy, "won": accuracy - scalar})
    return rows
