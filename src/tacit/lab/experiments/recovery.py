"""`tacit lab recovery`: what each learner recovers with all data there can be, and with how much it comes within .02.

The worlds and learners of `tacit lab settings`, with a truth of its own for each seed: rewards of cells with normal
noise (standard deviation .02 on the grid, .01 on FrozenLake), and all weights of the texts drawn anew. `FrozenLake,
soft` has a demonstrator of temperature .05 in place of .01, which now and then does what the sharp one never does.
Learners that only chance outcomes keep from their target are tried in the grids without slip as well.

Each learner has a row for its limit (`exact`: expectations in place of data), and one for samples: the fewest of a
ladder (powers of ten) with which the 95% interval of `tv_held_out` lies below .02, or the ladder's end. Samples are
drawn as multinomials, so that their number costs nothing. People's comparisons are of two moves from any state that can
be reached, or of whole texts, with noise 2 tau; DPO's end in one state, so that values cancel (four moves in worlds
without chance); CPL's people judge by regret.

- `target`: the policy it is measured against. Best policies are not unique: of those the nearest one is taken;
- `tv`, `tv_held_out`, `worst`: total variation of occupancy from the starts of the demonstrations and from held-out
  ones, and of the seed that is furthest off there;
- `return`: 0 random play, 1 the best policy;
- `equivalence`: up to what the reward is known in the limit. `distance` is from the truth past potential shaping, free
  in scale, over all moves that can be reached alike: 0 same, 1/2 unrelated, 1 opposite. `nats` is the root mean square
  error of its soft advantages in units of tau, over the demonstrator's moves: what the behaviour says of a reward;
- `recovered`: `yes` where the interval of `tv_held_out` is below .02, `seen prompts` where that of `tv` is, and the
  learner is a table, which can know nothing of a prompt that it has no data of; `why`: why not.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tacit.lab import identifiability as idf
from tacit.lab.mdp import Array
from tacit.lab.seeds import mean_interval
from tacit.lab.settings.recovery import Learner, Source, World, apart, tried, worlds
from tacit.lab.solve import occupancy, returns, soft_optimal
from tacit.progress import track

BOUND = 0.02
SIZES = {
    "none": (),
    "moves": (0,),
    "trajectories": (1_000, 10_000, 100_000, 1_000_000),
    "log": (1_000, 10_000, 100_000, 1_000_000),
    "labels": (10_000, 100_000, 1_000_000),
    "comparisons": (100_000, 1_000_000, 10_000_000, 100_000_000),
}


def run(*, seeds: int = 10, seed: int = 0) -> dict[str, Any]:
    """The table: a row for each learner and world with exact data, and one with samples."""
    places = [World(task, seeds) for task in worlds(seeds, seed)]
    work = [(world, learner) for world in places for learner in tried(world)]
    rows = []
    for world, learner in track(work, "recovery", len(work)):
        rows += recovered(world, learner, seed)
    return {"experiment": "recovery", "seeds": seeds, "bound": BOUND, "rows": rows}


def recovered(world: World, learner: Learner, seed: int) -> list[dict[str, Any]]:
    """The rows of a learner in a world."""
    rows = []
    if learner.limit:
        rows.append(measured(world, learner, None, seed))
    exact = rows[0] if rows else None
    for n in SIZES[learner.kind]:
        row = measured(world, learner, n, seed)
        if row["recovered"] != "no" or (exact is not None and exact["recovered"] == "no"):
            break
    if SIZES[learner.kind]:
        rows.append(row)
    return rows


def measured(world: World, learner: Learner, n: int | None, seed: int) -> dict[str, Any]:
    """One learner with n of its data."""
    task = world.task
    found = learner.learn(Source(world, n, np.random.default_rng([seed, 7, n or 0])))
    policy, reward = found if isinstance(found, tuple) else (found, None)
    values: dict[str, Array] = {}
    aim = learner.aim(world, np.broadcast_to(policy, (world.batch, *policy.shape[-2:])))
    values["tv"], values["tv_held_out"] = apart(world, policy, aim)
    chance, best = (returns(task.mdp, p, task.reward) for p in (task.mdp.uniform(), task.best.policy))
    values["return"] = (returns(task.mdp, policy, task.reward) - chance) / (best - chance)
    if reward is not None:
        known = np.asarray(reward) * world.reached
        values["distance"] = idf.distance(task.mdp, known, task.reward * world.reached)
        values["nats"] = nats(world, reward)
    row: dict[str, Any] = {
        "world": task.name,
        "setting": learner.setting,
        "learner": learner.name,
        "given": learner.given,
        "target": learner.target,
        "equivalence": learner.equivalence,
        "data": "exact" if n is None else f"{n:,} {learner.kind}" if n else "as in settings",
    }
    for key, sample in values.items():
        row[key], row[f"{key}_ci"] = mean_interval(np.broadcast_to(sample, world.batch).tolist())
    row["worst"] = float(values["tv_held_out"].max())
    held, own = (row[f"{key}_ci"][1] <= BOUND for key in ("tv_held_out", "tv"))
    seen = "seen prompts" if learner.table and not task.realised else "no"
    row["recovered"] = "yes" if held else seen if own else "no"
    row["why"] = learner.reason(task.name, n) if row["recovered"] == "no" else ""
    return row


def nats(world: World, reward: Array) -> Array:
    """(B,) root mean square error of a reward's soft advantages, in units of tau, over the demonstrator's moves.

    Soft advantages are tau log pi of the soft-optimal policy pi: they are the same for all rewards of one behaviour.
    """
    task = world.task
    expert = task.demonstrator(world.batch)
    policy = soft_optimal(task.mdp, reward, temperature=task.temperature).policy
    error = np.log(np.maximum(policy, 1e-300)) - np.log(np.maximum(expert, 1e-300))
    return np.asarray(np.sqrt((occupancy(task.mdp, expert) * error**2).sum((-2, -1))))
