"""`tacit lab identifiability`: many rewards explain one behaviour, and few of them carry over (take-away T3).

A demonstrator lives on a 5 by 5 grid where one move in five goes astray; rewards of states are standard normal, the
discount is .9, the temperature .5. Rewards are read off it, or off 1,000 sampled trajectories of 66 moves:

- `truth`, and `truth, shaped` by a random potential with the dynamics of this world;
- `log policy`: tau log pi(a|s), a reward for every move that makes the demonstrator soft-optimal (exact);
- `IRL, a reward for each move`: maximum-entropy IRL, which has to agree with behaviour cloning;
- `IRL, a reward for each state`: the same with state-only rewards (AIRL's assumption);
- `AIRL, state-only`: least squares of r(s) - v(s) + gamma E v(s') on the cloned log policy, a closed form of AIRL;
- `discriminator at the end`: log(rho_demo / rho_pi) once the learner has matched, which is 0 everywhere (GAIL);
- `random reward`, and `cloned policy`, which uses no reward.

`distance` (0 same, 1 opposite) is up to shaping and scale, `raw` without shaping taken out. Behaviour is compared as
total variation of occupancy between the soft-optimal policies of the reward and of the truth: here, on ice (two moves
in three go astray), with controls turned round (left acts as right), and with a wall through the middle. `regained` is
the true return, 0 for acting at random and 1 for the soft-optimal policy of the truth in that world.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tacit.lab import identifiability as idf
from tacit.lab.irl import linear, maximum_entropy, move_features, state_features
from tacit.lab.mdp import MDP, Array, grid, moves_until
from tacit.lab.seeds import mean_interval
from tacit.lab.simulate import Trajectories, simulate
from tacit.lab.solve import occupancy, returns, soft_optimal, total_variation

OPEN = ("S" * 5,) * 5
WALLED = ("SSSSS", "SSSSS", "S###S", "SSSSS", "SSSSS")
DISCOUNT, TEMPERATURE, DEMONSTRATIONS = 0.9, 0.5, 1000


def worlds() -> dict[str, MDP]:
    """The world of the demonstrator, first, and the changed ones."""
    here = grid(OPEN, slip=0.2, discount=DISCOUNT)
    turned = np.array([2, 3, 0, 1])
    walled = grid(WALLED, slip=0.2, discount=DISCOUNT)
    return {
        "here": here,
        "ice": grid(OPEN, slip=2 / 3, discount=DISCOUNT),
        "turned": replace(here, successors=here.successors[:, turned]),
        "walled": walled,
    }


def run(*, seeds: int = 10, seed: int = 0, demonstrations: int = DEMONSTRATIONS) -> dict[str, Any]:
    """Distances and transfer of each reward, means over seeds with 95% intervals."""
    rng = np.random.default_rng(seed)
    known = worlds()
    here = known["here"]
    truth = np.repeat(rng.normal(size=(seeds, here.states, 1)), here.actions, -1)
    demonstrator = soft_optimal(here, truth, temperature=TEMPERATURE).policy
    seen = simulate(here, demonstrator, demonstrations, rng, steps=moves_until(DISCOUNT))
    found, cloned = rewards(here, truth, demonstrator, seen, rng)
    rows: list[dict[str, Any]] = [{"reward": name} for name in (*found, "cloned policy")]
    for row in rows:
        reward = found.get(row["reward"])
        columns: dict[str, Array] = {}
        if reward is not None:
            columns["distance"] = idf.distance(here, reward, truth)
            columns["raw"] = _raw(reward, truth)
        for name, world in known.items():
            target = soft_optimal(world, truth, temperature=TEMPERATURE).policy
            policy = cloned if reward is None else soft_optimal(world, reward, temperature=TEMPERATURE).policy
            columns[f"tv_{name}"] = total_variation(occupancy(world, policy), occupancy(world, target))
            chance, best, own = (returns(world, p, truth) for p in (world.uniform(), target, policy))
            columns[f"regained_{name}"] = (own - chance) / (best - chance)
        for key, values in columns.items():
            row[key], row[f"{key}_ci"] = mean_interval(values.tolist())
    return {"experiment": "identifiability", "seeds": seeds, "demonstrations": demonstrations, "rows": rows}


def rewards(
    here: MDP, truth: Array, demonstrator: Array, seen: Trajectories, rng: np.random.Generator
) -> tuple[dict[str, Array], Array]:
    """Each reward (seeds, S, A) by name, and the cloned policy (add-half counts)."""
    counts = seen.counts()
    cloned = (counts + 0.5) / (counts + 0.5).sum(-1, keepdims=True)
    tables = {name: make(here) for name, make in (("moves", move_features), ("states", state_features))}
    by_move, by_state = (
        linear(features, maximum_entropy(here, counts, features, temperature=TEMPERATURE))
        for features in tables.values()
    )
    least, _ = idf.state_only(here, cloned, TEMPERATURE)
    found = {
        "truth": truth,
        "truth, shaped": truth + idf.shaping(here, 3 * rng.normal(size=truth.shape[:2])),
        "log policy": idf.from_policy(here, demonstrator, TEMPERATURE),
        "IRL, a reward for each move": by_move,
        "IRL, a reward for each state": by_state,
        "AIRL, state-only": np.repeat(least[..., None], here.actions, -1),
        "discriminator at the end": np.zeros_like(truth),
        "random reward": rng.normal(size=truth.shape),
    }
    return found, cloned


def figure(result: dict[str, Any]) -> str:
    """Return regained in each world."""
    from tacit.lab.figures import Curve, Panel, draw

    rows = result["rows"]
    names = [row["reward"] for row in rows]
    curves = []
    for world in ("here", "ice", "turned", "walled"):
        key = f"regained_{world}"
        low, high = zip(*(row[f"{key}_ci"] for row in rows), strict=True)
        curves.append(Curve(world, range(len(rows)), [row[key] for row in rows], low, high))
    panel = Panel("What a reward is worth in changed worlds", "", "return regained", curves, names=names)
    return draw([panel], width=6.2, height=3.6)


def _raw(first: Array, second: Array) -> Array:
    """(seeds,) sqrt((1 - correlation) / 2); 1/2 past the square root where one does not vary."""
    a, b = (table - table.mean((-2, -1), keepdims=True) for table in (first, second))
    size = np.sqrt((a**2).sum((-2, -1)) * (b**2).sum((-2, -1)))
    return np.asarray(np.sqrt((1 - (a * b).sum((-2, -1)) / np.where(size > 0, size, 1)) / 2))
