"""`tacit lab settings`: every row of the survey's Table 3 as a learner, on a grid, FrozenLake and short texts.

The worlds and the demonstrator are those of `tacit.lab.settings.task`. `given` says what a learner may use: `d` the
dynamics (to play in, or as they are), `r` the reward, `D` demonstrations, `L` a log of half random play with rewards,
`E` a demonstrator who answers, `P` preferences.

- `return`: true return from the starts of the demonstrations, 0 for random play and 1 for the best policy;
- `tv`, `tv_held_out`: total variation between the occupancies of learner and demonstrator, from those starts and from
  starts that no learner began in (on the grids other cells; in texts prompts that nobody saw). Only for learners that
  aim at the demonstrator's policy; the others aim at the best one;
- `distance`: of the learnt reward to the true one up to shaping and scale, 0 the same, 1/2 unrelated, 1 opposite.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tacit.lab import identifiability as idf
from tacit.lab.mdp import Array
from tacit.lab.seeds import mean_interval
from tacit.lab.settings import imitation, inverse, offline, online, preferences
from tacit.lab.settings.task import Task, grid_task, lake_task, text_task
from tacit.lab.simulate import Trajectories
from tacit.lab.solve import occupancy, returns, total_variation
from tacit.progress import track

DEMONSTRATIONS = {"grid": 5000, "FrozenLake": 1000, "texts": 30_000}
"""About 35,000 moves each, of texts 72,000."""
PAIRS = {"grid": 20_000, "FrozenLake": 20_000, "texts": 40_000}
LOG, FEW, BRIEF = 300, 50, 100
CERTAIN = ("random policy", "demonstrator", "behaviour cloning", "RLHF, two rounds", "DPO", "contrastive (CPL)")
"""Learners that are tried in the grids without slip as well."""


@dataclass(frozen=True)
class Data:
    """What learners of one world are given, the same for all of them; B seeds in a batch."""

    task: Task
    batch: int
    demonstrations: Trajectories
    log: offline.Log
    pairs: preferences.Pairs
    noise: float
    """Returns that people tell apart in 73 of 100 comparisons."""
    rng: np.random.Generator

    @classmethod
    def of(cls, task: Task, batch: int, seed: int) -> Data:
        """Draw the data of a world."""
        rng = np.random.default_rng(seed)
        half = 0.5 * task.expert.policy + 0.5 * task.mdp.uniform()
        logged = task.play(np.repeat(half[None], batch, 0), LOG, rng)
        noise = 0.1 if task.realised else 0.5
        return cls(
            task,
            batch,
            task.demonstrations(batch, DEMONSTRATIONS[_size(task)], rng),
            offline.Log.of(task, logged),
            preferences.pairs(task, task.uniform(batch), PAIRS[_size(task)], noise, rng),
            noise,
            rng,
        )

    @property
    def counts(self) -> Array:
        """(B, S, A) of the demonstrations."""
        return self.demonstrations.counts()


Learner = Callable[[Data], "Array | tuple[Array, Array]"]


@dataclass(frozen=True)
class Row:
    """A learner of a setting."""

    setting: str
    learner: str
    given: str
    learn: Learner
    imitates: bool = False
    """Whether the demonstrator's policy is what it aims at."""


def _few(d: Data, demonstrations: bool) -> Array:
    shown = d.task.demonstrations(d.batch, FEW, d.rng) if demonstrations else None
    return online.q_learning(d.task, d.batch, d.rng, steps=BRIEF, demonstrations=shown, margin=0.1)


ROWS = (
    Row("control", "random policy", "", lambda d: d.task.uniform(d.batch), True),
    Row("control", "demonstrator", "", lambda d: np.repeat(d.task.expert.policy[None], d.batch, 0), True),
    Row("RL", "policy gradient", "d r", lambda d: online.policy_gradient(d.task, d.batch, d.rng)),
    Row("RL", "Q-learning", "d r", lambda d: online.q_learning(d.task, d.batch, d.rng, steps=6000)),
    Row("offline RL", "behaviour cloning", "L", lambda d: offline.clone(d.log.counts)),
    Row(
        "offline RL",
        "advantage-weighted",
        "L",
        lambda d: offline.advantage_weighted(d.log, temperature=2 * d.task.temperature),
    ),
    Row("offline RL", "fitted Q, no penalty", "L", lambda d: offline.conservative_q(d.log, penalty=0)[0]),
    Row("offline RL", "conservative Q (CQL)", "L", lambda d: offline.conservative_q(d.log, penalty=0.02)[0]),
    Row("imitation", "behaviour cloning", "D", lambda d: offline.clone(d.counts), True),
    Row("imitation", "behaviour cloning, features", "D", lambda d: offline.clone_linear(d.task, d.counts), True),
    Row(
        "imitation",
        "DAgger",
        "d E",
        lambda d: imitation.dagger(d.task, d.batch, int(d.counts.sum() / d.batch), d.rng),
        True,
    ),
    Row("imitation", "GAIL", "d D", lambda d: imitation.gail(d.task, d.demonstrations.visits())[0], True),
    Row("IRL", "maximum entropy", "d D", lambda d: inverse.maximum_entropy_irl(d.task, d.counts), True),
    Row("IRL", "AIRL", "d D", lambda d: inverse.airl(d.task, d.demonstrations.visits()), True),
    Row(
        "offline IRL",
        "maximum entropy, estimated dynamics",
        "D",
        lambda d: inverse.estimated_dynamics_irl(d.task, d.demonstrations),
        True,
    ),
    Row("offline IRL", "inverse soft Q (IQ)", "D", lambda d: inverse.inverse_soft_q(d.task, d.demonstrations), True),
    Row("demonstrations and reward", "Q-learning, 1,600 moves", "d r", lambda d: _few(d, False)),
    Row("demonstrations and reward", "the same after 50 demonstrations", "d r D", lambda d: _few(d, True)),
    Row(
        "preferences",
        "T-REX",
        "d P",
        lambda d: preferences.trex(d.task, d.batch, 3000, d.noise, d.rng),
    ),
    Row(
        "preferences",
        "RLHF, two rounds",
        "d P",
        lambda d: preferences.rlhf(d.task, d.batch, PAIRS[_size(d.task)], d.noise, d.rng),
        True,
    ),
    Row("preferences", "DPO", "P", lambda d: preferences.dpo(d.task, d.pairs, d.noise), True),
    Row(
        "preferences",
        "contrastive (CPL)",
        "P",
        lambda d: preferences.cpl(d.task, d.batch, 3 * PAIRS[_size(d.task)], d.rng),
        True,
    ),
)


def run(*, seeds: int = 10, seed: int = 0) -> dict[str, Any]:
    """What every learner reached in every world, means over seeds with 95% intervals."""
    rows = []
    tasks = (grid_task(), lake_task(), text_task())
    work = [(task, row) for task in tasks for row in ROWS]
    for task in (grid_task(certain=True), lake_task(certain=True)):
        work += [(task, row) for row in ROWS if row.learner in CERTAIN and row.setting != "offline RL"]
    data: Data | None = None
    for task, row in track(work, "settings", len(work)):
        if data is None or data.task is not task:
            data = Data.of(task, seeds, seed)
        rows.append(reached(data, row))
    return {"experiment": "settings", "seeds": seeds, "rows": rows}


def _size(task: Task) -> str:
    return task.name.split(",")[0]


def reached(data: Data, row: Row) -> dict[str, Any]:
    """One learner in one world."""
    task = data.task
    found = row.learn(data)
    policy, reward = found if isinstance(found, tuple) else (found, None)
    mdp, expert = task.mdp, task.expert.policy
    chance, best = (float(returns(mdp, p, task.reward)) for p in (mdp.uniform(), task.best.policy))
    values = {"return": (returns(mdp, policy, task.reward) - chance) / (best - chance)}
    if row.imitates:
        for name, start in (("tv", mdp.start), ("tv_held_out", task.held_out)):
            values[name] = total_variation(occupancy(mdp, policy, start), occupancy(mdp, expert, start))
    if reward is not None:
        values["distance"] = idf.distance(mdp, reward, task.reward)
    result: dict[str, Any] = {
        "world": task.name,
        "setting": row.setting,
        "learner": row.learner,
        "given": row.given,
        "learns_reward": "yes" if reward is not None else "no",
    }
    for key, sample in values.items():
        result[key], result[f"{key}_ci"] = mean_interval(np.broadcast_to(sample, data.batch).tolist())
    return result


def figure(result: dict[str, Any]) -> str:
    """Return and distance to the demonstrator of every learner; worlds in colours."""
    from tacit.lab.figures import Curve, Panel, draw

    worlds = ("grid", "FrozenLake", "texts")
    panels = []
    for key, label in (("return", "return"), ("tv_held_out", "total variation, held-out starts")):
        curves = []
        for world in worlds:
            rows = [row for row in result["rows"] if row["world"] == world]
            known = [(at, row) for at, row in enumerate(rows) if key in row]
            low, high = zip(*(row[f"{key}_ci"] for _, row in known), strict=True)
            curves.append(Curve(world, [at for at, _ in known], [row[key] for _, row in known], low, high))
        names = [f"{row['setting']}: {row['learner']}" for row in result["rows"] if row["world"] == worlds[0]]
        panels.append(Panel(label, "", "", curves, names=names, y_range=(-0.05, 1.05)))
    return draw(panels, columns=2, width=4.6, height=6.2)
