"""`tacit lab sparse`: which remedy for sparse rewards needs how much more play as the way to the reward gets longer.

Worlds and learners are those of `tacit.lab.exploration`: combination locks of growing length, and a race of taking
sticks for self-play. `moves` (in the race: games) are counted until acting greedily solves the world, geometric mean
over seeds. Growth is fitted to log moves, seed by seed, over the lengths that every seed solved: `power` b in
moves ~ N^b, and `doublings` a in moves ~ 2^(a N); `growth` is the one that leaves less over, and both where fewer than
five lengths were solved. A method is not tried at longer lengths once a seed has not solved one within 60,000 moves
(3,000 games).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tacit.lab.exploration import METHODS, open_lock, win_race
from tacit.lab.mdp import Array
from tacit.lab.seeds import mean_interval
from tacit.progress import track

LENGTHS = (4, 5, 6, 7, 8, 9, 10, 12, 16, 24, 32, 48)
STICKS = (6, 10, 14, 18, 22, 30, 38)
MOVES, GAMES = 60_000, 3000
OPPONENTS = {"self": "self-play", "random": "against random play", "perfect": "against perfect play"}


def run(*, seeds: int = 10, seed: int = 0) -> dict[str, Any]:
    """Growth of the play that is needed, with 95% intervals over seeds."""
    rows, curves = [], {}
    work: list[tuple[str, str, tuple[int, ...], Callable[[int], Array]]] = []
    for method in METHODS:

        def open_one(length: int, method: Any = method) -> Array:
            return open_lock(method, length, seeds, np.random.default_rng([seed, length]), limit=MOVES)

        work.append(("lock", method.name, LENGTHS, open_one))
    for key, name in OPPONENTS.items():

        def race(sticks: int, key: str = key) -> Array:
            return win_race(key, sticks, seeds, np.random.default_rng([seed, sticks]), limit=GAMES)

        work.append(("race", name, STICKS, race))
    for world, name, lengths, solve in track(work, "sparse", len(work)):
        row, curve = grow(lengths, solve)
        rows.append({"world": world, "method": name, **row})
        curves[f"{world}: {name}"] = curve
    return {"experiment": "sparse", "seeds": seeds, "rows": rows, "curves": curves}


def grow(lengths: tuple[int, ...], solve: Callable[[int], Array]) -> tuple[dict[str, Any], dict[str, Any]]:
    """One method over growing lengths: the row of the table, and the curve behind it."""
    done: list[int] = []
    taken: list[Array] = []
    failed = ""
    for length in lengths:
        needed = solve(length)
        if not np.isfinite(needed).all():
            failed = f"{int(np.isfinite(needed).sum())} of {len(needed)} seeds at {length}"
            break
        done.append(length)
        taken.append(needed)
    row: dict[str, Any] = {"solved_to": done[-1] if done else 0, "then": failed}
    curve: dict[str, Any] = {"length": done, "moves": [], "moves_ci": []}
    for needed in taken:
        mean, ends = mean_interval(np.log(needed).tolist())
        curve["moves"].append(float(np.exp(mean)))
        curve["moves_ci"].append([float(np.exp(end)) for end in ends])
    if done:
        row |= {"moves_first": curve["moves"][0], "moves_last": curve["moves"][-1]}
    if len(done) >= 3:
        size, logs = np.array(done, float), np.log(np.stack(taken))  # (lengths, seeds)
        left = {}
        for key, x, unit in (("power", np.log(size), 1.0), ("doublings", size, np.log(2))):
            slopes = np.polyfit(x, logs, 1)[0] / unit
            row[key], row[f"{key}_ci"] = mean_interval(slopes.tolist())
            mean = logs.mean(1)
            left[key] = float(((mean - np.polyval(np.polyfit(x, mean, 1), x)) ** 2).sum())
        power, doubling = f"N^{row['power']:.1f}", f"2^({row['doublings']:.2f} N)"
        better = power if left["power"] < left["doublings"] else doubling
        row["growth"] = better if len(done) >= 5 else f"{doubling} or {power}"
    return row, curve


def figure(result: dict[str, Any]) -> str:
    """Moves over length, logarithmic both ways: powers are straight lines, exponentials bend upwards."""
    from tacit.lab.figures import Curve, Panel, draw

    panels = []
    for world, size, unit in (("lock", "length of the lock", "moves"), ("race", "sticks", "games")):
        curves = []
        for name, curve in result["curves"].items():
            if name.startswith(world) and curve["length"]:
                low, high = zip(*curve["moves_ci"], strict=True)
                curves.append(Curve(name.removeprefix(f"{world}: "), curve["length"], curve["moves"], low, high))
        panels.append(Panel(world, size, f"{unit} until solved", curves, log_x=True, log_y=True))
    return draw(panels, columns=2, width=4.6, height=4.2)
