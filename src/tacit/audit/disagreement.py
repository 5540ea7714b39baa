"""Where members disagree: is the reward wrong where its members' spread says that it might be?

The spread of a comparison is the standard deviation over members of the difference of its two scores.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tacit.audit import calibration
from tacit.audit.bootstrap import Array, Index, interval, ratio
from tacit.audit.figures import Interval, interval_chart
from tacit.audit.ranking import quarters
from tacit.audit.sections import Figure, Finding, Section, Table
from tacit.audit.study import Study

_TITLE = "Where members disagree"
_FEWEST = 80
PARTS = ("agree most", "second quarter", "third quarter", "disagree most")


def disagreement(study: Study) -> Section:
    """Accuracy and likelihood by quarter of the members' spread, with the comparisons they disagree on most."""
    if study.members is None:
        why = "this reward has one member. Fit it with --members 5 to know where it is unsure."
        return Section.missing("spread", _TITLE, why)
    if study.n < _FEWEST:
        return Section.missing("spread", _TITLE, f"fewer than {_FEWEST} comparisons.")
    gaps = study.members[:, study.pairs.a] - study.members[:, study.pairs.b]
    spread = gaps.std(axis=0, ddof=1)
    if np.ptp(spread) <= 1e-6 * spread.max():
        return Section.missing("spread", _TITLE, "members disagree equally everywhere.")
    part = quarters(spread)
    y = np.where(study.pairs.tie > 0, 0.5, 1.0)
    loss = calibration.nll(study.delta, y)
    counts = [(part == k).astype(np.float64) for k in range(len(PARTS))]
    found = study.shares([(each, own) for own in counts for each in (study.credit, loss)])
    rows: list[dict[str, Any]] = []
    for k, name in enumerate(PARTS):
        (accuracy, ends), (nll, nll_ends) = found[2 * k : 2 * k + 2]
        rows.append(
            {
                "members": name,
                "comparisons": int(counts[k].sum()),
                "mean spread": float(spread[part == k].mean()),
                "mean margin": float(np.abs(study.delta[part == k]).mean()),
                "accuracy": accuracy,
                "95%": ends,
                "nll": nll,
                "nll 95%": nll_ends,
            }
        )
    change, change_ci = _difference(study, part)
    chart = interval_chart(
        [Interval(row["members"], row["accuracy"], row["95%"]) for row in rows if row["accuracy"] is not None],
        title="Accuracy by how far members disagree",
        x_label="accuracy",
        reference=(0.5, "chance"),
    )
    findings = []
    if change is not None and change_ci is not None and change_ci[1] < 0:
        sentence = (
            f"Its members know where it errs: {rows[-1]['accuracy']:.1%} of comparisons are right where they disagree "
            f"most, {-change:.1%} less than where they agree (95% {-change_ci[1]:.1%} to {-change_ci[0]:.1%}). "
            "Ask people there."
        )
        findings.append(Finding("spread_tells", "advice", sentence, {"change": change, "change_ci": change_ci}))
    return Section(
        "spread",
        _TITLE,
        f"{len(gaps)} members. Comparisons are put in order of the standard deviation over members of the difference "
        "of scores. Spread grows with the difference itself, so look at the margin beside it.",
        {"by_spread": rows, "change": change, "change_ci": change_ci},
        (Figure(chart, f"Points with 95% intervals. n = {study.n:,}; clustered bootstrap, seed {study.seed}."),),
        (Table(rows), Table(_examples(study, spread), "The widest disagreement")),
        tuple(findings),
    )


def _difference(study: Study, part: Index) -> tuple[float | None, list[float] | None]:
    """Accuracy where members disagree most less that where they agree most, with its interval."""
    first, last = (part == 0) * study.pairs.weight, (part == 3) * study.pairs.weight
    if not (first.sum() and last.sum()):
        return None, None
    credit = study.credit
    value = float(np.average(credit, weights=last) - np.average(credit, weights=first))
    if study.clusters.smallest < 2:
        return value, None
    statistics = np.stack([last * credit, last, first * credit, first], axis=1)
    sums = study.clusters.sums(statistics, study.resamples, study.rng(80))
    draws = ratio(sums[:, 0], sums[:, 1]) - ratio(sums[:, 2], sums[:, 3])
    return value, interval(draws, clusters=study.clusters.smallest)


def _examples(study: Study, spread: Array, most: int = 5) -> list[dict[str, Any]]:
    texts = study.items.texts
    return [
        {
            "row": int(study.row[i]),
            "spread": float(spread[i]),
            "prompt": texts[study.pairs.a[i]][0][:120],
            "people preferred": texts[study.pairs.a[i]][1][:200],
            "other": texts[study.pairs.b[i]][1][:200],
        }
        for i in np.argsort(-spread, kind="stable")[:most]
    ]
