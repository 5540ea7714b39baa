"""`tacit lab reliability`: a simulated crowd whose reliabilities are known, and are estimated with the reward.

60 annotators make 20 or 60 comparisons each among 1,000 responses of 32 features. Their rationality is log-normal about
1 (standard deviation .6 of its logarithm) with a reward of 2.8 logits on a pair; 70% turn 3% of their votes round, the
rest, who do not look, 40%, and three vote against what they think nine times out of ten. Rewards:

- `pooled`: everybody counts alike;
- `reliability`: flip rate and, where held-out pairs ask for it, rationality of each annotator, estimated jointly;
- `true reliabilities`: the same model with the truth plugged in, which no estimate can beat by more than chance.

`accuracy` is the chance that a reward orders two fresh responses as the truth does; `correlation` is that of estimated
and true agreement of annotators with the reward, and `coverage` the share of 95% intervals that hold the truth.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.special import expit

from tacit.lab.people import Array, Person, accuracy, orthogonal
from tacit.lab.seeds import repeat
from tacit.rewards.people.crowd import Crowd, pooled_head
from tacit.rewards.people.reliability import ReliabilityOptions, annotator_rows, fit_known, fit_reliability

EACH = (20, 60)
"""Comparisons of each annotator."""
PEOPLE, DIM = 60, 32


def run(*, seeds: int = 10, seed: int = 0) -> dict[str, Any]:
    """Accuracy of the reward and recovery of the annotators, mean over seeds with 95% intervals."""
    rows = [row for each in EACH for row in repeat(partial(world, each=each), seeds, seed, f"{each} comparisons each")]
    return {"experiment": "reliability", "seeds": seeds, "rows": rows}


def world(seed: int, each: int) -> list[dict[str, Any]]:
    """One crowd, a row a reward."""
    rng = np.random.default_rng(seed)
    reward = orthogonal(1, DIM, 2.0, rng)
    rationality = np.exp(rng.normal(0, 0.6, PEOPLE))
    flip = np.where(rng.random(PEOPLE) < 0.3, 0.4, 0.03)
    flip[:3] = 0.9
    people = Person.of(np.repeat(reward, PEOPLE, axis=0), rationality, flip)
    crowd = people.choose(each, rng, responses=1000)
    pooled, report = pooled_head(crowd, seed=seed)
    agreement = _agreement(crowd, people)
    found = {
        name: fit_reliability(crowd, options)[0]
        for name, options in (
            ("reliability", ReliabilityOptions(seed=seed)),
            ("reliability, flips (Crowd-BT)", ReliabilityOptions(rationality=False, seed=seed)),
            ("reliability, rationality and flips", ReliabilityOptions(rationality=True, seed=seed)),
        )
    }
    scale = crowd.standardise.scale
    true_head = fit_known(
        crowd,
        torch.from_numpy(np.array(rationality)).float(),
        torch.from_numpy(flip).float(),
        0.1 * float(report["l2"]) * float(crowd.weight.sum()),
    )
    heads = {"pooled": pooled, **{name: fit.head for name, fit in found.items()}, "true reliabilities": true_head}
    right = {name: float(accuracy((head / scale).double().numpy(), reward[0])) for name, head in heads.items()}
    rows = []
    for name, value in right.items():
        row = {"comparisons": str(each), "reward": name, "accuracy": value, "gain": value - right["pooled"]}
        if name in found:
            annotators = annotator_rows(crowd, found[name], seed=seed)
            estimated = np.array([a["agreement"] for a in annotators])
            low, high = np.array([a["agreement_ci"] for a in annotators]).T
            row["correlation"] = float(np.corrcoef(estimated, agreement)[0, 1])
            row["coverage"] = float(((low <= agreement) & (agreement <= high)).mean())
        rows.append(row)
    return rows


def _agreement(crowd: Crowd, people: Person) -> Array:
    """(P,) true chance that an annotator votes with the true reward on a pair of the crowd."""
    gaps = (crowd.gaps() * crowd.standardise.scale).double().numpy()
    odds = np.abs(gaps @ people.rewards[0])
    with_reward = expit(people.rationality[:, None] * odds).mean(1)
    return np.asarray(people.flip + (1 - 2 * people.flip) * with_reward)
