"""Other domains: how good the reward is in each, and what a reward fitted on one is worth in another.

The matrix is of linear rewards on the same features, one fitted on each domain; entry (i, j) is the accuracy on domain
j of the fit on domain i, and no fit saw a prompt that it is tested on. A row of it says how far learning in one place
carries; a column how hard a place is, and its diagonal what could be had there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tacit.audit import calibration
from tacit.audit.bootstrap import Array, Clusters, Index, interval
from tacit.audit.crossfit import fit_here_test_there
from tacit.audit.figures import Interval, interval_chart
from tacit.audit.sections import Figure, Finding, Section, Table
from tacit.audit.study import Study
from tacit.errors import TacitError

_TITLE = "Other domains"
NAMES = ("domain", "source", "group", "template", "annotator")
"""Columns that are taken for domains, the first that is there, unless one is named."""
MOST = 8
_SMALLEST = 30
_PAIRS = 12_000
"""Comparisons that the matrix is made of where there are more."""
_GAP = 0.05


def domains(study: Study) -> Section:
    """Metrics in each domain, and the matrix of fits on one and tests on another."""
    found = _domains(study)
    if isinstance(found, str):
        return Section.missing("domains", _TITLE, found)
    column, names, domain = found
    rows = _rows(study, names, domain)
    left = int((domain < 0).sum())
    lead = f"Domains are the values of column `{column}`."
    if left:
        lead += f" {left:,} comparisons of other or too small domains are left out."
    chart = interval_chart(
        [Interval(row["domain"], row["accuracy"], row["95%"]) for row in rows],
        title="Accuracy in each domain",
        x_label="accuracy",
        reference=(0.5, "chance"),
    )
    numbers: dict[str, Any] = {"column": column, "domains": rows, "matrix": None}
    tables, findings = [Table(rows, "In each domain")], []
    matrix = _matrix(study, names, domain)
    if isinstance(matrix, str):
        lead += f" No matrix: {matrix}"
    else:
        cells, shown = matrix
        numbers["matrix"] = cells
        tables.append(Table(shown, "Linear rewards on the same features: fitted here (rows), tested there (columns)"))
        findings = _findings(cells)
        lead += " In the matrix no fit saw a prompt that it is tested on."
    return Section(
        "domains",
        _TITLE,
        lead,
        numbers,
        (Figure(chart, f"Points with 95% intervals. n = {study.n:,}; clustered bootstrap, seed {study.seed}."),),
        tuple(tables),
        tuple(findings),
    )


def _domains(study: Study) -> tuple[str, list[str], Index] | str:
    """The column, its values by size, and (n,) the number of each comparison's domain, -1 for none; or why not."""
    listed = NAMES if study.domains is None else (study.domains,)
    tried = ""
    for column in listed:
        values = [row.get(column) for row in study.columns]
        known = [value not in (None, "") and not isinstance(value, list | dict) and value == value for value in values]
        if not any(known):
            continue
        text = np.array([str(value) if k else "" for value, k in zip(values, known, strict=True)])
        names, counts = np.unique(text[np.array(known)], return_counts=True)
        if study.domains is None and len(names) > MOST:
            tried = tried or f"column `{column}` has {len(names)} values; name it with --domains to look at {MOST}."
            continue
        order = np.argsort(-counts, kind="stable")[:MOST]
        kept = [str(names[i]) for i in order if counts[i] >= _SMALLEST]
        if len(kept) < 2:
            tried = tried or f"column `{column}` has no two values with {_SMALLEST} comparisons each."
            continue
        number = {name: k for k, name in enumerate(kept)}
        domain = [number.get(t, -1) if k else -1 for t, k in zip(text.tolist(), known, strict=True)]
        return column, kept, np.array(domain, dtype=np.intp)
    if study.domains is not None:
        return tried or f"no row has the column `{study.domains}`."
    return tried or f"no row has a column {', '.join(f'`{name}`' for name in NAMES)}. Name another with --domains."


def _rows(study: Study, names: list[str], domain: Index) -> list[dict[str, Any]]:
    longer = study.lengths[study.pairs.a] - study.lengths[study.pairs.b]
    by_length = np.where(study.pairs.tie > 0, 0.5, (np.sign(longer) + 1) / 2)
    loss = calibration.nll(study.delta, np.where(study.pairs.tie > 0, 0.5, 1.0))
    counts = [(domain == k).astype(np.float64) for k in range(len(names))]
    found = study.shares([(value, own) for own in counts for value in (study.credit, by_length, loss)])
    return [
        {
            "domain": name,
            "comparisons": int(counts[k].sum()),
            "accuracy": found[3 * k][0],
            "95%": found[3 * k][1],
            "length alone": found[3 * k + 1][0],
            "nll": found[3 * k + 2][0],
            "nll 95%": found[3 * k + 2][1],
        }
        for k, name in enumerate(names)
    ]


def _matrix(study: Study, names: list[str], domain: Index) -> tuple[list[dict[str, Any]], list[dict[str, Any]]] | str:
    """Every cell with its interval and its loss against the diagonal, and the table as it is shown; or why not."""
    if study.features is None:
        return "this reward has no text features, so nothing can be fitted beside it."
    rng = study.rng(60)
    keep = np.flatnonzero(domain >= 0)
    keep = np.sort(rng.permutation(keep)[:_PAIRS])
    used, place = np.unique(np.r_[study.pairs.a[keep], study.pairs.b[keep]], return_inverse=True)
    a, b = place.reshape(2, -1)
    tie, weight = study.pairs.tie[keep], study.pairs.weight[keep]
    try:
        delta = fit_here_test_there(
            study.features[used], a, b, tie, study.blocks[keep], domain[keep], weight=weight, rng=rng
        )
    except TacitError as error:
        return f"{error}."
    credit = np.where(tie > 0, 0.5, (np.sign(np.nan_to_num(delta)) + 1) / 2)  # (domains, n)
    longer = study.lengths[study.pairs.a[keep]] - study.lengths[study.pairs.b[keep]]
    rows = np.concatenate([credit, study.credit[keep][None], np.where(tie > 0, 0.5, (np.sign(longer) + 1) / 2)[None]])
    labels = [*names, f"the audited reward, {study.reward.name}", "length alone"]
    fitted = [bool(row.all()) for row in np.isfinite(delta)]
    cells: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = [{"fitted on": label} for label in labels]
    for j, there in enumerate(names):
        own = np.flatnonzero(domain[keep] == j)
        clusters = study.clusters.take(keep[own]).varied()  # a domain may be one person
        both = np.concatenate([rows[:, own], rows[:, own] - rows[j, own]])  # accuracy, and gain over the diagonal
        mean, draws = clusters.means(both.T, weight[own], study.resamples, study.rng(61))
        for i, label in enumerate(labels):
            known = i >= len(names) or fitted[i]
            cell: dict[str, Any] = {
                "fitted_on": label,
                "tested_on": there,
                "comparisons": len(own),
                "accuracy": float(mean[i]) if known else None,
                "accuracy_ci": _interval(draws[:, i], clusters) if known else None,
            }
            if i < len(names) and i != j and known and fitted[j]:
                column = draws[:, len(labels) + i]
                level = 1 - 0.05 / (len(names) * (len(names) - 1))
                cell |= {
                    "against_own": float(mean[len(labels) + i]),
                    "against_own_corrected_ci": _interval(column, clusters, level),
                }
            cells.append(cell)
            ends = cell["accuracy_ci"]
            shown[i][there] = _cell(cell["accuracy"], ends)
    return cells, shown


def _findings(cells: list[dict[str, Any]]) -> list[Finding]:
    worst = [cell for cell in cells if (ends := cell.get("against_own_corrected_ci")) and ends[1] < -_GAP]
    if not worst:
        return []
    least = min(worst, key=lambda cell: cell["against_own"])
    low, high = least["against_own_corrected_ci"]
    sentence = (
        f"What is learnt on {least['fitted_on']} does not carry over to {least['tested_on']}: a linear reward orders "
        f"{least['accuracy']:.1%} there, {-least['against_own']:.1%} less than one fitted on the place itself "
        f"(corrected 95% {-high:.1%} to {-low:.1%}). Collect votes where you will use it."
    )
    return [Finding("does_not_transfer", "warning", sentence, {"cells": worst})]


def _cell(value: float | None, ends: list[float] | None) -> str | None:
    if value is None:
        return None
    return f"{value:.3f}" + (f" ({ends[0]:.2f} to {ends[1]:.2f})" if ends else "")


def _interval(draws: Array, clusters: Clusters, level: float = 0.95) -> list[float] | None:
    return interval(draws, level, clusters.smallest) if clusters.smallest >= 2 else None
