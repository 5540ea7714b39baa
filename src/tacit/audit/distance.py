r"""How far the audited data lies from the data that the reward was fitted on, and what that costs.

What the reward remembers of its fitting data (`tacit.rewards.origin`) gives every response its Mahalanobis distance
and whitened coordinates. One response z_i of each prompt here is compared with the sketch x_j of the fitting data by
the energy distance (Szekely and Rizzo 2013),

    E = 2 mean |x_i - z_j| - mean |x_i - x_j| - mean |z_i - z_j|    >= 0,    0 only for equal distributions,

shown as sqrt(E / (2 mean |x - z|)), which lies in 0..1. Under the hypothesis that both are drawn alike, any exchange of
prompts between the two is as likely, so that the share of permutations with an E at least as large is a p-value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tacit.audit import calibration
from tacit.audit.bootstrap import Array, Index
from tacit.audit.figures import Interval, interval_chart
from tacit.audit.ranking import quarters
from tacit.audit.sections import Figure, Finding, Section, Table
from tacit.audit.study import Study
from tacit.rewards.origin import SKETCH, Origin

_TITLE = "Distance from the fitting data"
_PERMUTATIONS = 999
_SURE = 0.01
_FAR = 0.1
"""Share of responses beyond the distance of 95% of the fitting data that is worth naming."""
_FEWEST = 20
PARTS = ("nearest quarter", "second quarter", "third quarter", "farthest quarter")


def distance(study: Study) -> Section:
    """Energy distance with its p-value, and accuracy by quarter of distance."""
    if study.features is None:
        return Section.missing("distance", _TITLE, "this reward has no text features.")
    origin: Origin | None = getattr(study.core, "origin", None)
    if origin is None or len(origin.sketch) < _FEWEST:
        why = (
            "this reward remembers nothing of what it was fitted on: it is older, of a kind that keeps nothing, or was "
            "fitted on fewer than 40 prompts. Fit it again to know."
        )
        return Section.missing("distance", _TITLE, why)
    coordinates, far = origin.place(study.features)
    of_prompt = _one_of_each(study)
    edge = float(np.quantile(origin.distances, 0.95))
    beyond = far > edge
    numbers: dict[str, Any] = {"edge": edge, "prompts": len(of_prompt), "share_beyond": float(beyond.mean())}
    if len(of_prompt) >= _FEWEST:
        size, p = energy_test(origin.sketch, coordinates[of_prompt], study.rng(70))
        numbers |= {"energy": size, "p": p}
    else:
        numbers |= {"energy": None, "p": None}
    mean = (far[study.pairs.a] + far[study.pairs.b]) / 2
    outside = np.minimum(1.0, beyond[study.pairs.a].astype(np.float64) + beyond[study.pairs.b])
    part = quarters(mean)
    parts = {name: (part == k).astype(np.float64) for k, name in enumerate(PARTS)}
    parts |= {"both sides within 95% of the fitting data": 1 - outside, "a side beyond": outside}
    rows = _rows(study, parts, mean.astype(np.float64))
    chart = interval_chart(
        [Interval(row["where"], row["accuracy"], row["95%"]) for row in rows if row["accuracy"] is not None],
        title="Accuracy by distance from the fitting data",
        x_label="accuracy",
        reference=(0.5, "chance"),
    )
    tested = "" if numbers["p"] is None else f" Energy distance {numbers['energy']:.3f}, p = {numbers['p']:.3f}."
    finding = _finding(numbers, rows)
    return Section(
        "distance",
        _TITLE,
        f"{numbers['share_beyond']:.1%} of the responses lie farther out than 95% of those it was fitted on.{tested} "
        "Distances are Mahalanobis distances in its features; 1 is typical of the fitting data.",
        {**numbers, "by_distance": rows},
        (Figure(chart, f"Points with 95% intervals. n = {study.n:,}; clustered bootstrap, seed {study.seed}."),),
        (Table(rows),),
        () if finding is None else (finding,),
    )


def energy_test(
    first: np.ndarray, second: np.ndarray, rng: np.random.Generator, *, permutations: int = _PERMUTATIONS
) -> tuple[float, float]:
    """(sqrt(E / (2 mean |x - z|)), p) of samples (m, k) and (n, k); means of one with itself leave i = j out."""
    pooled = np.concatenate([first, second]).astype(np.float64)
    square = (pooled**2).sum(1)
    gaps = np.sqrt(np.maximum(square[:, None] + square - 2 * pooled @ pooled.T, 0.0))
    np.fill_diagonal(gaps, 0.0)
    m, n = len(first), len(second)
    member = np.zeros((permutations + 1, m + n))
    member[0, :m] = 1.0
    for row in member[1:]:
        row[rng.permutation(m + n)[:m]] = 1.0
    toward = member @ gaps  # (permutations + 1, m + n): sum of distances to the first sample
    within = (toward * member).sum(1)
    between = toward.sum(1) - within
    rest = gaps.sum() - 2 * between - within
    energy = 2 * between / (m * n) - within / (m * (m - 1)) - rest / (n * (n - 1))
    across = 2 * between[0] / (m * n)
    p = float((1 + (energy[1:] >= energy[0] - 1e-12).sum()) / (permutations + 1))
    return float(np.sqrt(max(0.0, energy[0] / across))) if across else 0.0, p


def _one_of_each(study: Study) -> Index:
    """One item of each prompt, or any items where there is one prompt or none: as many as a sketch holds."""
    order = study.rng(71).permutation(len(study.prompt_of))
    if not study.items.one_prompt:
        order = order[np.unique(study.prompt_of[order], return_index=True)[1]]
        order = study.rng(72).permutation(order)
    return order[:SKETCH].astype(np.intp)


def _rows(study: Study, parts: Mapping[str, Array], value: Array) -> list[dict[str, Any]]:
    """A row for each named part of the comparisons; `value` (n,) is their distance."""
    loss = calibration.nll(study.delta, np.where(study.pairs.tie > 0, 0.5, 1.0))
    found = study.shares([(each, counts) for counts in parts.values() for each in (study.credit, loss)])
    return [
        {
            "where": name,
            "comparisons": int(counts.sum()),
            "mean distance": float(np.average(value, weights=counts)) if counts.sum() else None,
            "accuracy": accuracy[0],
            "95%": accuracy[1],
            "nll": nll[0],
            "nll 95%": nll[1],
        }
        for (name, counts), accuracy, nll in zip(parts.items(), found[::2], found[1::2], strict=True)
    ]


def _finding(numbers: dict[str, Any], rows: list[dict[str, Any]]) -> Finding | None:
    if numbers["p"] is None or numbers["p"] >= _SURE or numbers["share_beyond"] < _FAR:
        return None
    near, far = rows[-2], rows[-1]
    worth = (
        f": it orders {far['accuracy']:.1%} of comparisons there and {near['accuracy']:.1%} nearer by"
        if near["accuracy"] is not None and far["accuracy"] is not None
        else ""
    )
    sentence = (
        f"These texts are not like those it was fitted on: {numbers['share_beyond']:.0%} of them lie farther out than "
        f"95% of the fitting data (energy distance {numbers['energy']:.2f}, p = {numbers['p']:.3f}){worth}."
    )
    return Finding("far_from_fit", "warning", sentence, {k: numbers[k] for k in ("energy", "p", "share_beyond")})
