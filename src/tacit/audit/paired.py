"""Two rewards on the same evidence: differences of their metrics, on the same comparisons and the same resamples.

A difference of means is the mean of the differences of each comparison, so that what makes a comparison hard for both
cancels. Its interval is the clustered bootstrap's, and its p-value that of a t-test with the bootstrap's standard
error s,

    p = 2 T_{C-1}(-|difference| / s),    C clusters in the smallest table,

corrected over several tests by Holm (1979): with p_(1) <= ... <= p_(m) the k-th becomes the maximum over j <= k of
min(1, (m - j + 1) p_(j)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tacit.audit import calibration, ranking
from tacit.audit.bootstrap import Array, Clusters, interval, ratio
from tacit.audit.metrics import order
from tacit.audit.study import Study
from tacit.errors import TacitError

BETTER = {
    "accuracy": 1,
    "accuracy_decided": 1,
    "order_consistency": 1,
    "spearman": 1,
    "nll": -1,
    "ece_binned": -1,
}
"""Metrics that are compared, and whether more is better."""

_STREAM = 110


@dataclass(frozen=True)
class Difference:
    """One metric of two rewards; `difference` is first - second."""

    metric: str
    first: float
    second: float
    difference: float
    ci: list[float] | None
    p: float | None
    """Two-sided; None where there is one cluster alone."""

    @property
    def gain(self) -> float:
        """How much better the first is, whatever way the metric counts."""
        return BETTER[self.metric] * self.difference

    @property
    def gain_ci(self) -> list[float] | None:
        """The interval of `gain`."""
        if self.ci is None:
            return None
        return self.ci if BETTER[self.metric] > 0 else [-self.ci[1], -self.ci[0]]


def differences(first: Study, second: Study, metrics: Sequence[str] = tuple(BETTER)) -> list[Difference]:
    """Differences of those metrics that the evidence allows; both studies are of the same evidence."""
    if first.pairs is not second.pairs:
        raise TacitError("two rewards are compared on the same comparisons. Make the second study with `under`")
    shares = {name: _shares(study) for name, study in (("first", first), ("second", second))}
    known = [name for name in shares["first"] if name in metrics and shares["first"][name][1].sum()]
    clusters, weight = first.clusters, first.pairs.weight
    made: dict[str, Difference] = {}
    if known:
        ours, theirs = (np.stack([shares[side][name][0] for name in known], axis=1) for side in ("first", "second"))
        counts = np.stack([weight * shares["first"][name][1] for name in known], axis=1)
        of = range(len(known))
        gaps, draws = clusters.means(ours - theirs, counts, first.resamples, first.rng(_STREAM), weight_of=of)
        values = [ratio((side * counts).sum(0), counts.sum(0)) for side in (ours, theirs)]
        for k, name in enumerate(known):
            made[name] = _difference(name, values[0][k], values[1][k], float(gaps[k]), draws[:, k], clusters)
    if "ece_binned" in metrics and first.kind in ("comparison", "ranking"):
        made["ece_binned"] = _calibration(first, second)
    if "spearman" in metrics and (found := _spearman(first, second)) is not None:
        made["spearman"] = found
    return [made[name] for name in BETTER if name in made]


def holm(p: Sequence[float]) -> list[float]:
    """Holm's corrected p-values, in the order given."""
    values = np.asarray(p, dtype=np.float64)
    places = np.argsort(values, kind="stable")
    corrected = np.maximum.accumulate(np.minimum(1.0, values[places] * np.arange(len(values), 0, -1)))
    result = np.empty(len(values))
    result[places] = corrected
    return [float(v) for v in result]


def _shares(study: Study) -> dict[str, tuple[Array, Array]]:
    """Metrics that are means over comparisons: values (n,) and which rows count (n,)."""
    every = np.ones(study.n)
    found: dict[str, tuple[Array, Array]] = {
        "accuracy": (study.credit, every),
        "accuracy_decided": (study.credit, (study.pairs.tie == 0).astype(np.float64)),
    }
    if study.kind in ("comparison", "ranking"):
        rightly, counts, against = order(study.pairs, study.delta)
        if against is not None:
            found["order_consistency"] = (rightly, np.asarray(counts, dtype=np.float64))
        y = np.where(study.pairs.tie > 0, 0.5, 1.0)
        found["nll"] = (calibration.nll(study.delta, y), every)
    return found


def _calibration(first: Study, second: Study) -> Difference:
    """Binned calibration errors; draws are centred on the estimate, since noise adds to both alike."""
    y, weight = np.where(first.pairs.tie > 0, 0.5, 1.0), first.pairs.weight
    tables = [calibration.residuals(study.delta, y, both_orders=True) for study in (first, second)]
    statistics = weight[:, None] * np.concatenate([*tables, np.ones((len(y), 1))], axis=1)
    bins = tables[0].shape[1]

    def errors(sums: Array) -> tuple[Array, Array]:
        total = sums[..., -1]
        return calibration.ece_of_sums(sums[..., :bins], total), calibration.ece_of_sums(sums[..., bins:-1], total)

    ours, theirs = (float(v) for v in errors(statistics.sum(0)))
    drawn = errors(first.clusters.sums(statistics, first.resamples, first.rng(_STREAM + 1)))
    draws = drawn[0] - drawn[1]
    draws = draws - np.nanmean(draws) + (ours - theirs)
    return _difference("ece_binned", ours, theirs, ours - theirs, draws, first.clusters)


def _spearman(first: Study, second: Study) -> Difference | None:
    """Rank correlations with what people said of items: means over prompts, or, with one or none, over all items."""
    pairs, items = first.pairs, first.items
    item, group = pairs.target_item, pairs.target_group
    if items.one_prompt and len(np.unique(group)) == 1:
        clusters = Clusters.of(item)
        rhos = [ranking.spearman(study.scores[item], pairs.target) for study in (first, second)]
        drawn = [
            np.concatenate(
                [
                    ranking.weighted_spearman(study.scores[item], pairs.target, w)
                    for w in clusters.weights(first.resamples, first.rng(_STREAM + 2))
                ]
            )
            for study in (first, second)
        ]
        return _difference("spearman", rhos[0], rhos[1], rhos[0] - rhos[1], drawn[0] - drawn[1], clusters)
    groups, ours = ranking.spearman_by_group(first.scores[item], pairs.target, group)
    theirs = ranking.spearman_by_group(second.scores[item], pairs.target, group)[1]
    if not len(groups):
        return None
    order_of = np.argsort(group, kind="stable")
    first_of = order_of[np.searchsorted(group[order_of], groups)]
    clusters = Clusters.of(groups if items.one_prompt else first.prompt_of[item[first_of]])
    gap, draws = clusters.means((ours - theirs)[:, None], np.ones(len(ours)), first.resamples, first.rng(_STREAM + 2))
    return _difference("spearman", float(ours.mean()), float(theirs.mean()), float(gap[0]), draws[:, 0], clusters)


def _difference(metric: str, first: Any, second: Any, gap: float, draws: Array, clusters: Clusters) -> Difference:
    smallest = clusters.smallest
    if smallest < 2:
        return Difference(metric, float(first), float(second), gap, None, None)
    from scipy.special import stdtr

    known = draws[np.isfinite(draws)]
    error = float(np.sqrt(np.mean((known - gap) ** 2) * smallest / (smallest - 1))) if len(known) else 0.0
    p = float(2 * stdtr(smallest - 1, -abs(gap) / error)) if error > 0 else float(gap == 0)
    return Difference(metric, float(first), float(second), gap, interval(known, clusters=smallest), p)
