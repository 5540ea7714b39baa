"""`tacit lab drift`: behaviour cloning drifts off like T^2, with the demonstrator at hand only like T (take-away T2).

A road with 400 views, of which a new one comes up each step, and twelve lanes off the road. On the road the right one
of five actions depends on the view, any other leads off it; off the road one action leads a lane back, and any other a
lane further away, which costs 1 a step. The demonstrator never errs, and so is never seen off the road. A learner does
what it saw, and anything where it saw nothing. All have 2,400 labels, whatever the length T of the episodes:

- `behaviour cloning` has labels where the demonstrator goes (survey theorem 2.1: cost <= T^2 e);
- `DAgger` asks, in ten rounds, what to do where the *learner* goes (theorem 2.3: cost <= u T e, with u what one error
  costs a learner that can return, at most the number of lanes);
- `noise injected` has labels where the demonstrator goes if one of twenty of its actions is made at random (DART);
- `random` acts at random.

Costs are exact (views come up independently, so that lanes alone matter); each seed averages 64 learners. `slope` is of
log cost on log T by least squares; e the learner's error on the road. At large T e a drifted learner cannot get worse,
and the growth levels off: the lengths are chosen below that.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tacit.lab.mdp import MDP, Array
from tacit.lab.seeds import mean_interval
from tacit.lab.solve import returns, visits
from tacit.progress import track

LENGTHS = (8, 16, 32, 64, 128)
VIEWS, LANES, ACTIONS, LABELS, LEARNERS = 400, 12, 5, 2400, 64
ROUNDS, NOISE = 10, 0.05
METHODS = ("behaviour cloning", "noise injected", "DAgger", "random")


def run(*, seeds: int = 10, seed: int = 0) -> dict[str, Any]:
    """Slopes of cost over length with 95% intervals over seeds, and the costs behind them."""
    runs = [world(s) for s in track(range(seed, seed + seeds), "drift", seeds)]
    rows, curves = [], {}
    for number, method in enumerate(METHODS):
        costs = np.array([costs[number] for costs, _ in runs])  # (seeds, lengths)
        errors = np.array([errors[number] for _, errors in runs])
        slopes = np.polyfit(np.log(LENGTHS), np.log(costs).T, 1)[0]
        slope, ends = mean_interval(slopes.tolist())
        row: dict[str, Any] = {"learner": method, "slope": slope, "slope_ci": ends}
        row["error_on_road"], row["error_on_road_ci"] = mean_interval(errors[:, -1].tolist())
        means, intervals = zip(*(mean_interval(costs[:, at].tolist()) for at in range(len(LENGTHS))), strict=True)
        for at in (0, -1):
            row[f"cost_{LENGTHS[at]}"], row[f"cost_{LENGTHS[at]}_ci"] = means[at], intervals[at]
        curves[method] = {"cost": list(means), "cost_ci": list(intervals)}
        # the theorem's ratio, which must not pass 1: cost / (T^2 e), or cost / (lanes T e)
        bound = errors * np.square(LENGTHS) if method == "behaviour cloning" else errors * LANES * np.array(LENGTHS)
        row["largest_share_of_bound"] = float((costs / bound).max())
        rows.append(row)
    return {"experiment": "drift", "seeds": seeds, "lengths": list(LENGTHS), "rows": rows, "curves": curves}


def world(seed: int) -> tuple[Array, Array]:
    """Costs (methods, lengths) of one seed and errors on the road (methods, lengths), means over learners."""
    costs, errors = np.zeros((2, len(METHODS), len(LENGTHS)))
    for at, length in enumerate(LENGTHS):
        road = lanes(length)
        for number, method in enumerate(METHODS):
            wrong = learn(road, method, np.random.default_rng([seed, at, number]))
            costs[number, at] = -returns(road, _policy(wrong)).mean()
            errors[number, at] = wrong[:, 0].mean()
    return costs, errors


def lanes(length: int) -> MDP:
    """The world seen by lane alone: action 0 is right and leads a lane back, 1 is wrong and leads one further off."""
    lane = np.arange(LANES + 1)
    back, off = np.maximum(lane - 1, 0), np.minimum(lane + 1, LANES)
    successors = np.stack([back, off], -1)[..., None]
    reward = np.repeat(-(lane > 0).astype(float)[:, None], 2, 1)
    return MDP(successors, np.ones(successors.shape), reward, np.eye(LANES + 1)[0], 1.0, length)


def learn(road: MDP, method: str, rng: np.random.Generator) -> Array:
    """(learners, lanes + 1) chance of a wrong action in each lane, after all labels."""
    seen_views = np.zeros((LEARNERS, VIEWS), bool)
    seen_lanes = np.zeros((LEARNERS, LANES), bool)
    rounds = ROUNDS if method == "DAgger" else 1
    for turn in range(rounds if method != "random" else 0):
        if method == "noise injected":
            driver = np.full((LEARNERS, LANES + 1), NOISE * (1 - 1 / ACTIONS))
        elif turn == 0:
            driver = np.zeros((LEARNERS, LANES + 1))  # the demonstrator
        else:
            driver = _wrong(seen_views, seen_lanes)
        where = visits(road, _policy(driver)).sum((-3, -1))
        where /= where.sum(-1, keepdims=True)
        counts = rng.multinomial(LABELS // rounds, where)  # (learners, lanes + 1)
        seen_lanes |= counts[:, 1:] > 0
        views = rng.integers(VIEWS, size=(LEARNERS, LABELS // rounds))
        on_road = np.arange(LABELS // rounds) < counts[:, :1]
        learner = np.broadcast_to(np.arange(LEARNERS)[:, None], views.shape)
        seen_views[learner[on_road], views[on_road]] = True
    return _wrong(seen_views, seen_lanes)


def figure(result: dict[str, Any]) -> str:
    """Cost over length on logarithmic axes, beside T and T^2."""
    from tacit.lab.figures import Curve, Panel, draw

    lengths = np.array(result["lengths"], float)
    curves = []
    for row in result["rows"]:
        own = result["curves"][row["learner"]]
        low, high = zip(*own["cost_ci"], strict=True)
        label = f"{row['learner']}: T^{row['slope']:.2f}"
        curves.append(Curve(label, lengths.tolist(), own["cost"], [max(value, 1e-4) for value in low], high))
    first = {row["learner"]: row[f"cost_{result['lengths'][0]}"] for row in result["rows"]}
    for power, learner in ((2, "behaviour cloning"), (1, "DAgger")):
        guide = 0.6 * first[learner] * (lengths / lengths[0]) ** power
        curves.append(Curve(f"growth like T^{power}", lengths.tolist(), guide.tolist(), dashed=True, colour="#9ca3af"))
    panel = Panel("Cost of imitation", "T, steps of an episode", "expected steps off the road", curves, True, True)
    return draw([panel], width=5, height=3.5)


def _wrong(seen_views: Any, seen_lanes: Any) -> Array:
    unsure = np.concatenate([(~seen_views).mean(1)[:, None], ~seen_lanes], 1)
    return np.asarray(unsure * (1 - 1 / ACTIONS))


def _policy(wrong: Array) -> Array:
    """(learners, 1, lanes + 1, 2)."""
    return np.asarray(np.stack([1 - wrong, wrong], -1)[:, None])
