"""Position: what votes owe to which answer was shown first, and what the reward owes to the order of two answers.

With x = 1 where the preferred side a was shown first and -1 where the other one was (column `chosen_first`), and delta
the reward's log-odds in favour of a,

    P(a preferred to b) = sigma(k delta + p x)

is fitted by maximum likelihood; ties count one half. p is the position bias in log-odds at equal score: people who pay
no heed to position have p = 0 whatever the reward is worth, as long as the order was drawn at random. A reward that
explains votes badly draws p towards zero, as in every logistic regression that lacks a part of its explanation.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tacit.audit.bootstrap import Array, Clusters, interval
from tacit.audit.calibration import sigmoid
from tacit.audit.figures import Interval, interval_chart
from tacit.audit.sections import Figure, Finding, Section, Table
from tacit.audit.study import Study
from tacit.rewards.check import allowed
from tacit.rewards.contract import BothOrders, Comparing

_TITLE = "Position"
_FEWEST = 50
_SAMPLE = 400
"""Pairs that a reward is asked about in both orders."""
_LARGE = 0.1
"""Log-odds beyond which a bias is named: 52.5% against 47.5% between equal answers."""


def position(study: Study) -> Section:
    """The position bias of people, and of the reward where it looks at two answers at once."""
    people, of_reward = _people(study), _reward(study)
    rows = [found for found in (people, of_reward) if not isinstance(found, str)]
    reasons = [found for found in (people, of_reward) if isinstance(found, str)]
    if not rows:
        return Section.missing("position", _TITLE, " ".join(reasons))
    chart = interval_chart(
        [Interval(row["whose"], row["bias"], row["95%"]) for row in rows],
        title="Log-odds in favour of the answer shown first",
        x_label="log-odds at equal score",
        reference=(0.0, "none"),
    )
    numbers: dict[str, Any] = {"people": None, "reward": None}
    numbers |= {row["key"]: {k: v for k, v in row.items() if k not in ("key", "whose")} for row in rows}
    shown = [{k: v for k, v in row.items() if k in ("whose", "comparisons", "bias", "95%")} for row in rows]
    tables = [Table(shown)]
    if isinstance(people, dict):
        tables.append(Table(_accuracy(study), "Accuracy by where the preferred answer stood"))
    return Section(
        "position",
        _TITLE,
        "Log-odds in favour of the answer that is shown first, beyond what the difference of scores explains. "
        + " ".join(reasons),
        numbers,
        (Figure(chart, f"Points with 95% intervals; clustered bootstrap, seed {study.seed}."),),
        tuple(tables),
        tuple(finding for row in rows if (finding := _finding(row)) is not None),
    )


def _people(study: Study) -> dict[str, Any] | str:
    first = study.pairs.first
    known = np.zeros(study.n, dtype=bool) if first is None else np.isfinite(first)
    if first is None or not known.any():
        return "People: nobody noted which answer was shown first (column `chosen_first` of comparisons)."
    if known.sum() < _FEWEST:
        return f"People: fewer than {_FEWEST} comparisons say which answer was shown first."
    if len(np.unique(first[known])) < 2:
        where = "first" if first[known][0] else "second"
        return f"People: the preferred answer was always shown {where}; bias and preference cannot be told apart."
    keep = np.flatnonzero(known)
    x = 2 * first[keep] - 1
    y = np.where(study.pairs.tie[keep] > 0, 0.5, 1.0)
    weight = study.pairs.weight[keep]
    clusters = study.clusters.take(keep)
    bias, slope, ends = position_bias(study.delta[keep], x, y, weight, clusters, study.resamples, study.rng(31))
    won = np.where(x > 0, y, 1 - y)
    expected = sigmoid(slope * study.delta[keep] * x)
    means, _ = clusters.means(np.stack([won, expected], axis=1), weight, 2, study.rng(32))
    return {
        "key": "people",
        "whose": "people",
        "comparisons": len(keep),
        "bias": bias,
        "95%": ends,
        "first_wins": float(means[0]),
        "first_wins_by_score": float(means[1]),
    }


def position_bias(
    delta: Array, x: Array, y: Array, weight: Array, clusters: Clusters, resamples: int, rng: np.random.Generator
) -> tuple[float, float, list[float] | None]:
    """(p, k, interval of p) of P(y) = sigma(k delta + p x), all (n,).

    Newton's method, with a ridge of 1e-4 that keeps k finite where the score orders every comparison; the interval is
    that of one more Newton step on each resample.
    """
    unit = np.sqrt(np.average(delta**2, weights=weight)) or 1.0
    columns = np.stack([delta / unit, x], axis=1)
    total = weight.sum()
    theta = np.zeros(2)

    def derivatives() -> tuple[Array, Array]:
        """Per row: residuals times columns (n, 2), and curvature times their products (n, 4)."""
        p = sigmoid(columns @ theta)
        pull = (weight * (y - p))[:, None] * columns
        curve = (weight * p * (1 - p))[:, None, None] * columns[:, :, None] * columns[:, None, :]
        return pull, curve.reshape(-1, 4)

    ridge = 1e-4 * total
    for _ in range(50):
        pull, curve = derivatives()
        step = np.linalg.solve(curve.sum(0).reshape(2, 2) + ridge * np.eye(2), pull.sum(0) - ridge * theta)
        theta += step / max(1.0, np.abs(step).max())
        if np.abs(step).max() < 1e-9:
            break
    if clusters.smallest < 2:
        return float(theta[1]), float(theta[0] / unit), None
    pull, curve = derivatives()
    sums = clusters.sums(np.concatenate([pull, curve], axis=1), resamples, rng)
    matrix = sums[:, 2:].reshape(-1, 2, 2) + ridge * np.eye(2)
    moved = np.linalg.solve(matrix, (sums[:, :2] - ridge * theta)[:, :, None])[:, 1, 0]
    return float(theta[1]), float(theta[0] / unit), interval(theta[1] + moved, clusters=clusters.smallest)


def _reward(study: Study) -> dict[str, Any] | str:
    """Mean of (log-odds with a first + log-odds with b first) / 2, over a sample: 0 where order does not matter."""
    reward = study.reward
    if not isinstance(reward, Comparing | BothOrders):
        return "The reward scores one answer at a time: order cannot matter to it."
    same = np.flatnonzero(study.prompt_of[study.pairs.a] == study.prompt_of[study.pairs.b])
    keep = np.sort(study.rng(33).permutation(same)[:_SAMPLE])
    if not len(keep):
        return "The reward compares two answers to one prompt, and no comparison has one prompt."
    prompts = [study.items.prompts[i] for i in study.pairs.a[keep]]
    first = [study.items.completions[i] for i in study.pairs.a[keep]]
    second = [study.items.completions[i] for i in study.pairs.b[keep]]
    if isinstance(reward, BothOrders):
        forth, back = reward.both_orders(prompts, first, second)
    else:
        forth, back = reward.compare(prompts, first, second), reward.compare(prompts, second, first)
    half = (np.asarray(forth, np.float64) + np.asarray(back, np.float64)) / 2
    clusters = study.clusters.take(keep)
    mean, draws = clusters.means(half[:, None], np.ones(len(half)), study.resamples, study.rng(34))
    asked = isinstance(reward, BothOrders)
    smallest = clusters.smallest
    return {
        "key": "reward",
        "whose": "the judge, asked once" if asked else "the reward",
        "comparisons": len(keep),
        "bias": float(mean[0]),
        "95%": interval(draws[:, 0], clusters=smallest) if smallest >= 2 else None,
        "consistent": float(np.mean(np.sign(forth) == -np.sign(back))),
        "largest": float(np.abs(half).max()),
        "within tolerance": bool((np.abs(half) <= allowed(forth)).all()),
        "averaged": asked,
    }


def _accuracy(study: Study) -> list[dict[str, Any]]:
    first = study.pairs.first
    assert first is not None
    names = ("shown first", "shown second")
    masks = [(first == value).astype(np.float64) for value in (1.0, 0.0)]
    return [
        {"preferred answer": name, "comparisons": int(mask.sum()), "accuracy": mean, "95%": ends}
        for name, mask, (mean, ends) in zip(
            names, masks, study.shares([(study.credit, mask) for mask in masks]), strict=True
        )
    ]


def _finding(row: dict[str, Any]) -> Finding | None:
    detail = {key: value for key, value in row.items() if key not in ("key", "whose")}
    bias, ends = row["bias"], row["95%"]
    if row["key"] == "reward" and not row["averaged"]:
        if row["within tolerance"]:
            return None
        text = (
            f"Its opinion of two answers depends on their order: {row['consistent']:.0%} of pairs keep their winner "
            f"when they change places, and the first gains {bias:+z.2f} log-odds."
        )
        return Finding("reward_position_bias", "fault", text, detail)
    if ends is None or (ends[0] <= _LARGE and ends[1] >= -_LARGE):
        return None
    side = "first" if bias > 0 else "second"
    numbers = f"{abs(bias):.2f} log-odds at equal score (95% {ends[0]:+z.2f} to {ends[1]:+z.2f} for the first)"
    if row["key"] == "people":
        text = f"People favour the answer that is shown {side}: {numbers}. Show answers in random order, and keep it."
        return Finding("position_bias", "warning", text, detail)
    text = f"The judge favours answer {'A' if bias > 0 else 'B'}: {numbers}. Always ask it in both orders, as here."
    return Finding("judge_position_bias", "advice", text, detail)
