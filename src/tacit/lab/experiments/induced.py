"""`tacit lab induced`: adversarial imitation with every divergence, by its formal reward and by -f(u).

The worlds and demonstrators of `tacit lab settings`, a fifth of its demonstrations. Each round the discriminator is the
best there is, h = log(rho_demo / rho_pi) on the table of moves, and the policy takes a step of mirror ascent on the
induced reward, exactly (`settings.imitation.gail`, 200 rounds). `formal` is f*(f'(u)), the gradient of the divergence;
`direct` is -f(u), for forward KL the published FAIRL reward -h e^h. For reverse KL the two are one, up to a constant.

Numbers are total variation between the occupancies of learner and demonstrator; `behaviour cloning` and `random policy`
are the controls. Why `direct` cannot be right in general: f and f + c (u - 1) are one divergence, and -f(u) changes
with c, even in its order; f*(f'(u)) moves by a constant.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tacit.demonstrations.divergences import NAMES, Kind
from tacit.lab.experiments.settings import DEMONSTRATIONS
from tacit.lab.mdp import Array
from tacit.lab.seeds import mean_interval
from tacit.lab.settings.imitation import gail
from tacit.lab.settings.offline import clone
from tacit.lab.settings.task import Task, grid_task, lake_task, text_task
from tacit.lab.solve import occupancy, total_variation
from tacit.progress import track

ROUNDS, RATE = 200, 0.5


def run(*, seeds: int = 10, seed: int = 0) -> dict[str, Any]:
    """Distance to the demonstrator by divergence and reward, means over seeds with 95% intervals."""
    kinds: tuple[Kind, ...] = ("formal", "direct")
    names = [(name, kind) for name in NAMES for kind in kinds]
    rows: list[dict[str, Any]] = [{"divergence": name, "reward": kind} for name, kind in names]
    rows += [{"divergence": "", "reward": "behaviour cloning"}, {"divergence": "", "reward": "random policy"}]
    tasks = (grid_task(), lake_task(), text_task())
    for task in track(tasks, "induced", len(tasks)):
        seen = task.demonstrations(seeds, DEMONSTRATIONS[task.name] // 5, np.random.default_rng(seed))
        demonstrated = seen.visits()
        found = [gail(task, demonstrated, name=name, kind=kind, rate=RATE, updates=ROUNDS)[0] for name, kind in names]
        for row, policy in zip(rows, [*found, clone(seen.counts()), task.uniform(seeds)], strict=True):
            row[task.name], row[f"{task.name}_ci"] = mean_interval(away(task, policy).tolist())
    return {"experiment": "induced", "seeds": seeds, "rows": rows}


def away(task: Task, policy: Array) -> Array:
    """(B,) total variation to the demonstrator's occupancy."""
    return total_variation(occupancy(task.mdp, policy), occupancy(task.mdp, task.expert.policy))


def figure(result: dict[str, Any]) -> str:
    """Distance to the demonstrator, one panel a world."""
    from tacit.lab.figures import Curve, Panel, draw

    rows = result["rows"]
    names = list(dict.fromkeys(row["divergence"] for row in rows if row["divergence"]))
    panels = []
    for world in ("grid", "FrozenLake", "texts"):
        curves = []
        for kind in ("formal", "direct"):
            own = [row for row in rows if row["reward"] == kind]
            low, high = zip(*(row[f"{world}_ci"] for row in own), strict=True)
            curves.append(Curve(kind, range(len(names)), [row[world] for row in own], low, high))
        panels.append(Panel(world, "", "total variation", curves, names=names, y_range=(-0.03, 1.0)))
    return draw(panels, width=3.2, height=2.7)
