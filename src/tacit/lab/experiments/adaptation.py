"""`tacit lab adaptation`: the reward of a new person from 10, 30 or 100 comparisons, with every control.

Everything is learnt from 200 people with 50 comparisons each among 2,000 responses of 64 features whose standard
deviations fall from 1 to 1/4, and adapted to 60 new people. A personal reward is tested by the chance that it orders
two fresh responses as that person's true reward does, known in closed form. People's rewards are w_p = w_0 + v_p, both
parts worth about 2 logits on a pair, in three worlds:

- `axes`: v_p lies along the 5 features that vary most, what decomposed rewards assume;
- `factors`: v_p lies in the span of 5 random directions;
- `groups`: v_p is one of three orthogonal directions.

Controls: the pooled reward; random heads in place of components; logistic regression on the person's comparisons alone,
and around the pooled reward.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from tacit.lab.people import Array, Person, accuracy, orthogonal
from tacit.lab.seeds import repeat
from tacit.rewards.people.adapting import Adapting, Context
from tacit.rewards.people.crowd import Crowd, Episodes, pooled_head
from tacit.rewards.people.decomposed import DecomposedOptions, decompose
from tacit.rewards.people.groups import GroupOptions, fit_groups
from tacit.rewards.people.latent import LatentOptions, train
from tacit.rewards.people.table import controls

WORLDS = ("axes", "factors", "groups")
SHOTS = (10, 30, 100)
PEOPLE, EACH, NEW, DIM, FACTORS = 200, 50, 60, 64, 5


def run(*, seeds: int = 10, seed: int = 0) -> dict[str, Any]:
    """Accuracy of each way to adapt, mean over seeds with 95% intervals, and its paired gain over the pooled reward."""
    rows = [row for name in WORLDS for row in repeat(partial(world, name=name), seeds, seed, name)]
    return {"experiment": "adaptation", "seeds": seeds, "rows": rows}


def world(seed: int, name: str) -> list[dict[str, Any]]:
    """One world, a row for each number of comparisons and way to adapt."""
    rng = np.random.default_rng(seed)
    spread = np.geomspace(1.0, 0.25, DIM)
    rewards = _rewards(name, PEOPLE + NEW, spread, rng)
    crowd = Person.of(rewards[:PEOPLE]).choose(EACH, rng, spread=spread)
    fresh = Person.of(rewards[PEOPLE:]).choose(
        max(SHOTS) + 10, rng, spread=spread, standardise=crowd.standardise, responses=5000
    )
    ways = learn(crowd, seed)
    rows = []
    for shots in SHOTS:
        episodes = Episodes.draw(fresh, shots, seed, least=1)
        context = Context.of(fresh, episodes.context)
        right = {}
        for way, adapt in ways.items():
            with torch.no_grad():
                head = adapt(context)["linear"] / crowd.standardise.scale
            right[way] = float(accuracy(head.double().numpy(), rewards[PEOPLE:], spread).mean())
        rows += [
            {"world": name, "shots": str(shots), "reward": way, "accuracy": value, "gain": value - right["pooled"]}
            for way, value in right.items()
        ]
    return rows


def learn(crowd: Crowd, seed: int, *, restarts: int = 8, steps: int = 600) -> dict[str, Adapting]:
    """Every way to adapt, learnt from one crowd; `restarts` of EM for groups, `steps` for latent users."""
    pooled, report = pooled_head(crowd, seed=seed)
    centred = DecomposedOptions(seed=seed)
    uncentred = DecomposedOptions(directions="uncentred", seed=seed)
    bare = DecomposedOptions(population=False, seed=seed)
    return {
        **controls(crowd, pooled, centred),
        "decomposed, centred": decompose(crowd, pooled, centred)[0].adapt,
        "decomposed, as published": decompose(crowd, pooled, bare)[0].adapt,
        "decomposed, uncentred": decompose(crowd, pooled, uncentred)[0].adapt,
        "groups": fit_groups(crowd, pooled, float(report["l2"]), GroupOptions(restarts=restarts, seed=seed))[0].adapt,
        "latent": train(crowd, pooled, LatentOptions(steps=steps, seed=seed))[0].adapt,
    }


def _rewards(name: str, people: int, spread: Array, rng: np.random.Generator) -> Array:
    """True rewards (people, DIM): a shared part and an own part, each 2 logits of standard deviation on a pair."""
    size = 2.0 / np.sqrt(2)  # a pair's difference has twice the variance of a response
    shared = orthogonal(1, DIM, size, rng)[0]
    if name == "groups":
        own = orthogonal(3, DIM, size, rng)[rng.integers(3, size=people)]
    else:
        basis = np.eye(DIM)[:FACTORS] if name == "axes" else orthogonal(FACTORS, DIM, 1.0, rng)
        own = rng.standard_normal((people, FACTORS)) @ basis * size / np.sqrt(FACTORS)
    return np.asarray((shared + own) / spread)
