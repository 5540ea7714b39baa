"""Worst slices, found automatically: values of columns, and clusters of prompts by their features.

A slice is named where its accuracy lies below that of the rest by more than `_GAP` with an interval at a level that
allows for the number of slices looked at (Bonferroni), so that looking everywhere does not find what is not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from tacit.audit.bootstrap import Array, ratio
from tacit.audit.figures import Interval, interval_chart
from tacit.audit.sections import Figure, Finding, Section, Table
from tacit.audit.study import Study

_GAP = 0.05
_SMALLEST = 30
_MOST_VALUES = 20
_CLUSTERS = 8


def slices(study: Study) -> Section:
    """Accuracy inside each slice against the rest, worst first."""
    found = [(name, mask) for name, mask in _slices(study) if _SMALLEST <= mask.sum() <= study.n - _SMALLEST]
    if not found:
        return Section.missing("slices", "Where it is worst", f"no column or cluster of prompts has {_SMALLEST} rows.")
    inside = np.stack([mask for _, mask in found], axis=1).astype(np.float64)
    weight = study.pairs.weight[:, None]
    statistics = np.concatenate(
        [weight * inside * study.credit[:, None], weight * inside, weight * study.credit[:, None], weight], axis=1
    )
    k = len(found)
    many = study.clusters.smallest >= 2
    draws = study.clusters.sums(statistics, max(study.resamples, 40 * k), study.rng(50)) if many else statistics[:0]
    sums = np.concatenate([statistics.sum(0, keepdims=True), draws])
    within = ratio(sums[:, :k], sums[:, k : 2 * k])
    gap = within - ratio(sums[:, 2 * k, None] - sums[:, :k], sums[:, -1:] - sums[:, k : 2 * k])
    level = 0.05 / k
    rows: list[dict[str, Any]] = []
    findings = []
    for j in np.argsort(gap[0]):
        name, mask = found[j]
        ends = _quantiles(gap[1:, j], level)
        row = {
            "slice": name,
            "comparisons": int(mask.sum()),
            "accuracy": float(within[0, j]),
            "95%": _quantiles(within[1:, j], 0.05),
            "against the rest": float(gap[0, j]),
            "corrected 95%": ends,
        }
        rows.append(row)
        if ends is not None and ends[1] < -_GAP:
            sentence = (
                f"It is blind on {name}: {row['accuracy']:.1%} of {row['comparisons']:,} comparisons, "
                f"{-row['against the rest']:.1%} less than elsewhere."
            )
            findings.append(Finding("blind_slice", "fault", sentence, row))
    worst = rows[:10]
    chart = interval_chart(
        [Interval(row["slice"], row["accuracy"], row["95%"]) for row in worst],
        title="Accuracy of the worst slices",
        x_label="accuracy",
        reference=(float(np.average(study.credit, weights=study.pairs.weight)), "all"),
    )
    return Section(
        "slices",
        "Where it is worst",
        f"{k} slices were looked at: values of columns, and clusters of prompts by the reward's features. Intervals of "
        "the gap are corrected for that number.",
        {"slices": rows},
        (Figure(chart, f"Points with 95% intervals. n = {study.n:,}; clustered bootstrap, seed {study.seed}."),),
        (Table(worst, "The worst slices"), Table(_examples(study, found, rows), "Examples of the worst slice")),
        tuple(findings),
    )


def _slices(study: Study) -> Iterator[tuple[str, Array]]:
    names = sorted({key for column in study.columns for key in column} - {"annotator", "gold_chosen", "gold_rejected"})
    for key in names:
        values = [column.get(key) for column in study.columns]
        known = [value for value in values if value not in (None, "") and not isinstance(value, list | dict)]
        numeric = known and all(isinstance(v, int | float) and not isinstance(v, bool) for v in known)
        distinct = sorted({str(value) for value in known})
        if numeric and len(distinct) > _MOST_VALUES:
            number = np.array([float("nan") if v is None or v == "" else float(v) for v in values])
            edges = np.nanquantile(number, [0, 0.25, 0.5, 0.75, 1])
            for low, high in pairwise(edges):
                yield f"{key} {low:.3g} to {high:.3g}", (number >= low) & (number <= high)
        elif 2 <= len(distinct) <= _MOST_VALUES:
            as_text = np.array([str(value) for value in values])
            for value in distinct:
                yield f"{key} = {value}", as_text == value
    yield from _prompt_clusters(study)


def _prompt_clusters(study: Study) -> Iterator[tuple[str, Array]]:
    """K-means on the mean features of each prompt's completions, named by a prompt at the centre."""
    from sklearn.cluster import MiniBatchKMeans

    count = len(np.unique(study.prompt_of))
    if study.features is None or study.items.one_prompt or count < 10 * _CLUSTERS:
        return
    order = np.argsort(study.prompt_of, kind="stable")
    size = np.bincount(study.prompt_of)
    mean = np.add.reduceat(study.features[order], np.cumsum(size) - size, axis=0) / size[:, None]
    fitted = MiniBatchKMeans(_CLUSTERS, random_state=study.seed, n_init=3, batch_size=4096).fit(mean)
    first = {int(p): i for i, p in reversed(list(enumerate(study.prompt_of)))}
    of_pair = study.prompt_of[study.pairs.a]
    for k in range(_CLUSTERS):
        members = np.flatnonzero(fitted.labels_ == k)
        if len(members):
            gaps = ((mean[members] - fitted.cluster_centers_[k]) ** 2).sum(1)
            prompt = " ".join(study.items.texts[first[int(members[gaps.argmin()])]][0].split())
            yield f"prompts like “{prompt[:60]}”", fitted.labels_[of_pair] == k


def _examples(study: Study, found: list[tuple[str, Array]], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    mask = dict(found)[rows[0]["slice"]]
    wrong = np.flatnonzero(mask & (study.credit == 0))
    worst = wrong[np.argsort(study.delta[wrong], kind="stable")][:3]
    texts = study.items.texts
    return [
        {
            "row": int(study.row[i]),
            "prompt": texts[study.pairs.a[i]][0][:120],
            "people preferred": texts[study.pairs.a[i]][1][:200],
            "the reward preferred": texts[study.pairs.b[i]][1][:200],
        }
        for i in worst
    ]


def _quantiles(values: Array, level: float) -> list[float] | None:
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return None
    return [float(v) for v in np.quantile(known, [level / 2, 1 - level / 2])]
