"""Keeping a reward from getting worse: its metrics against those of a reference on the same evidence.

A metric has fallen where it is shown to be worse, its paired 95% interval lying wholly on the worse side of 0, and
worse by more than its bound allows. Chance alone makes a metric fall in at most one case of forty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tacit.audit.figures import Interval, interval_chart
from tacit.audit.paired import BETTER, Difference, differences
from tacit.audit.sections import Figure, Finding, Section, Table
from tacit.audit.study import Study
from tacit.errors import TacitError
from tacit.rewards.contract import Reward

DEFAULT: Mapping[str, float] = {"accuracy": 0.0, "nll": 0.0}


def parse_allowed(given: Sequence[str]) -> dict[str, float]:
    """Bounds such as `accuracy=0.01` by metric; raises `TacitError` for what is no metric or no number."""
    allowed: dict[str, float] = {}
    for entry in (part for text in given for part in text.split(",")):
        name, equals, value = (part.strip() for part in entry.partition("="))
        try:
            bound = float(value)
        except ValueError:
            bound = -1.0
        if name not in BETTER or not equals or not 0 <= bound < float("inf"):
            raise TacitError(
                f"--allow {entry}: give a metric and how much worse it may be, as accuracy=0.01. Metrics: "
                + ", ".join(BETTER)
            )
        allowed[name] = bound
    return allowed or dict(DEFAULT)


def against_reference(study: Study, reference: Reward, allowed: Mapping[str, float] | None = None) -> Section:
    """Every metric beside the reference's, with one fault for each that fell below its bound.

    `allowed` says how much worse a metric may be; accuracy and nll not at all unless given. Raises `TacitError` for a
    bound on a metric that this evidence does not give.
    """
    bounds = dict(DEFAULT) if allowed is None else dict(allowed)
    found = differences(study, study.under(reference))
    measured = {d.metric for d in found}
    given = allowed is not None and dict(allowed) != dict(DEFAULT)
    if given and (missing := [name for name in bounds if name not in measured]):
        raise TacitError(
            f"--allow {missing[0]}: this evidence does not give it. Measured: {', '.join(sorted(measured))}"
        )
    fell = [d for d in found if d.metric in bounds and has_fallen(d, bounds[d.metric])]
    rows: list[dict[str, Any]] = [
        {
            "metric": d.metric,
            "this reward": d.first,
            "reference": d.second,
            "difference": d.difference,
            "95%": d.ci,
            "p": d.p,
            "may be worse by": bounds.get(d.metric),
            "fell": d in fell,
        }
        for d in found
    ]
    chart = interval_chart(
        [Interval(d.metric, d.gain, d.gain_ci, int(d in fell)) for d in found],
        title="Gain over the reference",
        x_label="gain over the reference (right is better)",
        reference=(0.0, "equal"),
    )
    return Section(
        "reference",
        "Against the reference",
        f"The reference is “{reference.name}”, on the same comparisons and resamples. A metric has fallen where its "
        "interval lies wholly on the worse side, and it is worse by more than it may be.",
        {"reference": reference.name, "metrics": rows, "fell": [d.metric for d in fell]},
        (Figure(chart, f"95% intervals. n = {study.n:,}; clustered bootstrap, seed {study.seed}."),),
        (Table(rows),),
        tuple(_finding(d, bounds[d.metric], reference.name) for d in fell),
    )


def has_fallen(difference: Difference, bound: float) -> bool:
    """Whether the metric is shown to be worse, and worse by more than the bound."""
    ends = difference.gain_ci
    return ends is not None and ends[1] < 0 and difference.gain < -bound


def _finding(d: Difference, bound: float, name: str) -> Finding:
    low, high = d.gain_ci or [float("nan")] * 2
    sentence = (
        f"{d.metric.replace('_', ' ')} fell below the reference “{name}”: {d.first:.3f} against {d.second:.3f}, worse "
        f"by {-d.gain:.3f} (95% {-high:.3f} to {-low:.3f}) where {bound:g} is allowed."
    )
    return Finding(f"fell_{d.metric}", "fault", sentence, {"difference": d.difference, "ci": d.ci, "allowed": bound})
