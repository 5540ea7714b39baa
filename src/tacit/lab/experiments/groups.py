"""`tacit lab groups`: three groups with orthogonal rewards, of which the pooled reward serves the largest best.

150 people in groups of shares .6, .25 and .15 make 10 or 40 comparisons each among 2,000 responses of 32 dimensions.
Rewards are compared by the chance that they order two fresh responses as a group's true reward does, known in closed
form; half is guessing. `groups found` never saw the column `group`: their number is chosen by held-out likelihood and
their members by EM; `ari` is the adjusted Rand index of the members with the truth. The bound is the sum of the three
true rewards: no single reward does better for the worst group, 1 - arccos(1 / sqrt 3) / pi = .696.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from tacit.lab.people import Array, Person, accuracy, orthogonal
from tacit.lab.seeds import repeat
from tacit.rewards.people.crowd import pooled_head
from tacit.rewards.people.groups import GroupOptions, fit_groups

SHARES = (0.6, 0.25, 0.15)
PEOPLE, DIM = 150, 32
EACH = (10, 40)
"""Comparisons of each person."""


def run(*, seeds: int = 10, seed: int = 0) -> dict[str, Any]:
    """Accuracy for each group of pooled, MaxMin and group rewards, mean over seeds with 95% intervals."""
    rows = [row for each in EACH for row in repeat(partial(world, each=each), seeds, seed, f"{each} comparisons each")]
    return {"experiment": "groups", "seeds": seeds, "rows": rows}


def world(seed: int, each: int) -> list[dict[str, Any]]:
    """One world, one row a reward."""
    from sklearn.metrics import adjusted_rand_score

    rng = np.random.default_rng(seed)
    truth = orthogonal(len(SHARES), DIM, 3.0, rng)
    group = rng.permutation(np.repeat(np.arange(len(SHARES)), np.round(np.array(SHARES) * PEOPLE).astype(int)))
    crowd = Person.of(truth[group]).choose(each, rng, groups=group)
    pooled, report = pooled_head(crowd, seed=seed)
    l2, scale = float(report["l2"]), crowd.standardise.scale.numpy()
    known, known_maxmin, _ = fit_groups(crowd, pooled, l2, GroupOptions(seed=seed))
    nameless = crowd.without_groups()
    found, found_maxmin, said = fit_groups(nameless, pooled, l2, GroupOptions(seed=seed))
    assigned = np.array(list(said["of_annotator"].values())) - 1

    def on(head: Any) -> Array:
        return accuracy(np.asarray(head, np.float64) / scale, truth)

    place = [crowd.groups.index(f"group {g}") for g in range(len(SHARES))]
    served = np.array([on(head) for head in found.heads])  # (found, true)
    accuracies = {
        "pooled": on(pooled),
        "MaxMin, groups known": on(known_maxmin.head),
        "MaxMin, groups found": on(found_maxmin.head),
        "bound for one reward": accuracy(truth.sum(0), truth),
        "own group's, groups known": np.array([on(known.heads[place[g]])[g] for g in range(len(SHARES))]),
        "own group's, groups found": np.array([served[assigned[group == g], g].mean() for g in range(len(SHARES))]),
    }
    extra = {"groups_found": len(found.heads), "ari": float(adjusted_rand_score(group, assigned))}
    return [
        {
            "comparisons": str(each),
            "reward": name,
            "worst": float(values.min()),
            "worst_over_pooled": float(values.min() - accuracies["pooled"].min()),
            **{f"group_{g + 1}": float(value) for g, value in enumerate(values)},
            **(extra if "found" in name else {}),
        }
        for name, values in accuracies.items()
    ]
