"""Right and sure: accuracy where it is easy and where it is hard, the ceiling that people allow, calibration, and what
more data would bring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tacit.audit import calibration
from tacit.audit.bootstrap import Array, Index, interval, ratio
from tacit.audit.crossfit import cross_fit
from tacit.audit.figures import Interval, Line, interval_chart, line_chart
from tacit.audit.flips import fit_flips
from tacit.audit.sections import Figure, Finding, Section, Table
from tacit.audit.study import Study
from tacit.errors import TacitError

MOST_GROUPS = 20
_SURE = 0.8
"""A calibration slope below this is over-confidence worth naming: log-odds a quarter too large."""
_LEARNING_PAIRS = 20_000
_FEWEST = 100
_SHARES = (0.0625, 0.125, 0.25, 0.5, 1.0)


def right_and_sure(study: Study) -> Section:
    """Accuracy with its ceiling, by margin, agreement and group; calibration before and after a temperature."""
    if study.undecided:
        return Section.missing("right", "Right and sure", study.undecided)
    accuracy, accuracy_ci = study.share(study.credit)
    rows: list[dict[str, Any]] = [
        {"where": "all comparisons", "comparisons": study.n, "accuracy": accuracy, "95%": accuracy_ci}
    ]
    rows += accuracy_rows(study, [*_by_margin(study), *_by_agreement(study), *_by_group(study)])
    ceiling = people_ceiling(study)
    sure = calibration_slope(study)
    reliability = _reliability(study)
    findings = []
    if sure["slope_ci"] and 0 < sure["slope_ci"][1] < _SURE and _not_owed_to_flips(study):
        findings.append(
            Finding(
                "over_confident",
                "fault",
                f"Its probabilities are too sure of themselves: divide scores by {1 / sure['slope']:.2f} "
                f"(calibration slope {sure['slope']:.2f}, 95% {sure['slope_ci'][0]:.2f} to {sure['slope_ci'][1]:.2f}).",
                sure,
            )
        )
    if accuracy is not None and accuracy_ci is not None and accuracy_ci[0] <= 0.5:
        verdict = "not more than chance: do not use it" if accuracy <= 0.5 else "not shown to be more than chance"
        findings.append(
            Finding(
                "no_better_than_chance",
                "fault",
                f"It orders {accuracy:.1%} of comparisons as people did (95% {accuracy_ci[0]:.1%} to "
                f"{accuracy_ci[1]:.1%}), which is {verdict}.",
                {"accuracy": accuracy, "accuracy_ci": accuracy_ci},
            )
        )
    elif accuracy is not None and accuracy_ci is not None:
        bound = f"; people's own disagreement allows at most {ceiling['ceiling']:.1%}" if ceiling["ceiling"] else ""
        findings.append(
            Finding(
                "accuracy",
                "good",
                f"It orders {accuracy:.1%} of comparisons as people did "
                f"(95% {accuracy_ci[0]:.1%} to {accuracy_ci[1]:.1%}){bound}.",
                {"accuracy": accuracy, "accuracy_ci": accuracy_ci, **ceiling},
            )
        )
    chart = interval_chart(
        [Interval(row["where"], row["accuracy"], row["95%"]) for row in rows if row["accuracy"] is not None],
        title="Accuracy by margin, agreement and group",
        x_label="accuracy",
        reference=(0.5, "chance"),
    )
    return Section(
        "right",
        "Right and sure",
        "Accuracy is the share of comparisons whose preferred side scores higher; ties count one half. A margin is the "
        "difference of scores; agreement is how many of the people who judged the same two answers said the same.",
        {"accuracy": accuracy, "accuracy_ci": accuracy_ci, "by": rows, **ceiling, **sure, "reliability": reliability},
        (Figure(chart, _caption(study, "Points with 95% intervals.")), _reliability_figure(study, reliability)),
        (Table(rows, "Accuracy"),),
        tuple(findings),
    )


def people_ceiling(study: Study) -> dict[str, Any]:
    """The highest accuracy that people's disagreement with each other allows.

    With q the chance that two people who judged the same two answers agree, E[max(p, 1 - p)] is at most
    (1 + sqrt(2 q - 1)) / 2, by Jensen's inequality. q is estimated without bias from all pairs of decided votes.
    """
    a, b = study.pairs.a, study.pairs.b
    decided = study.pairs.tie == 0
    low, high = np.minimum(a, b)[decided], np.maximum(a, b)[decided]
    _, which, votes = np.unique(np.stack([low, high]), axis=1, return_inverse=True, return_counts=True)
    for_low = np.bincount(which.reshape(-1), weights=(a[decided] == low).astype(np.float64), minlength=len(votes))
    many = votes >= 2
    couples = (votes * (votes - 1) / 2)[many]
    if not couples.sum():
        return {"ceiling": None, "agreement": None, "judged_again": 0}
    against = votes[many] - for_low[many]
    agreeing = (for_low[many] * (for_low[many] - 1) + against * (against - 1)) / 2
    q = float(agreeing.sum() / couples.sum())
    return {"ceiling": (1 + np.sqrt(max(0.0, 2 * q - 1))) / 2, "agreement": q, "judged_again": int(many.sum())}


def calibration_slope(study: Study) -> dict[str, Any]:
    """The factor a in P(a preferred to b) = sigma(a delta) that fits people best, with a clustered interval.

    1 is calibrated, less is over-confident. The interval is that of one Newton step on each resample from the estimate,
    a + sum w d (y - p) / sum w d^2 p (1 - p).
    """
    d, y, w = study.delta, np.where(study.pairs.tie > 0, 0.5, 1.0), study.pairs.weight
    slope = 1 / calibration.fit_temperature(d, y, w)
    p = calibration.sigmoid(slope * d)
    statistics = np.stack([w * d * (y - p), w * d * d * p * (1 - p)], axis=1)
    if study.clusters.smallest < 2 or not statistics[:, 1].sum():
        return {"slope": slope, "slope_ci": None}
    sums = study.clusters.sums(statistics, study.resamples, study.rng(1))
    return {"slope": slope, "slope_ci": interval(slope + ratio(*sums.T))}


def _not_owed_to_flips(study: Study) -> bool:
    """Whether the reward is too sure even if a share of the votes is the wrong way round, which looks the same."""
    slope = fit_flips(study.delta, study.pairs.weight * (study.pairs.tie == 0), study.clusters, study.rng(6)).slope_ci
    return slope is not None and slope[1] < _SURE


def learning_curve(study: Study) -> Section:
    """How accuracy of a linear reward on the same features grows with comparisons, and the gain from twice as many."""
    title = "What more data would bring"
    if study.features is None:
        return Section.missing("data", title, "this reward has no text features, so nothing can be fitted beside it.")
    if len(np.unique(study.blocks)) < 2:
        return Section.missing("data", title, "only one prompt, so that nothing can be held out.")
    if (study.pairs.weight > 0).sum() < _FEWEST:
        return Section.missing("data", title, f"fewer than {_FEWEST} comparisons.")
    rng = study.rng(2)
    keep = np.sort(rng.permutation(study.n)[:_LEARNING_PAIRS])
    a, b, tie, blocks = study.pairs.a[keep], study.pairs.b[keep], study.pairs.tie[keep], study.blocks[keep]
    try:
        fits = cross_fit(study.features, a, b, tie, blocks, weight=study.pairs.weight[keep], rng=rng, shares=_SHARES)
    except TacitError as error:
        return Section.missing("data", title, str(error))
    counts = np.array([share * 0.8 * len(keep) for share in _SHARES])
    credit = np.stack([np.where(tie > 0, 0.5, (np.sign(np.nan_to_num(f.delta[0])) + 1) / 2) for f in fits], axis=1)
    weight = study.pairs.weight[keep][:, None]
    clusters = study.clusters.take(keep)
    sums = clusters.sums(np.concatenate([weight * credit, weight], axis=1), study.resamples, study.rng(3))
    draws = ratio(sums[:, :-1], sums[:, -1:])
    accuracy = (weight * credit).sum(0) / weight.sum()
    basis = np.stack([np.ones(len(counts)), -1 / np.sqrt(counts)], axis=1)
    solve = np.linalg.pinv(basis)
    coefficient = np.concatenate([accuracy[None], draws]) @ solve.T  # (1 + r, 2): limit and slope
    gain = coefficient[:, 1] / np.sqrt(counts[-1]) * (1 - 1 / np.sqrt(2))
    low, high = interval(gain[1:]) or (float("nan"), float("nan"))
    limit = float(coefficient[0, 0])
    numbers = {
        "comparisons": [int(c) for c in counts],
        "accuracy": accuracy.tolist(),
        "accuracy_ci": [interval(column) for column in draws.T],
        "gain_from_twice": float(gain[0]),
        "gain_from_twice_ci": [low, high],
        "limit": limit,
    }
    ends = [interval(column) or [float("nan")] * 2 for column in draws.T]
    line = Line(
        "linear reward on these features",
        counts.tolist(),
        accuracy.tolist(),
        [e[0] for e in ends],
        [e[1] for e in ends],
    )
    chart = line_chart(
        [line],
        title="Accuracy against comparisons",
        x_label="comparisons",
        y_label="accuracy",
        log_x=True,
        x_ticks=[int(c) for c in counts],
    )
    advice = "worth collecting" if low > 0.005 else "not worth much" if high < 0.005 else "uncertain"
    sentence = (
        f"Twice the {len(keep):,} comparisons here would bring a linear reward {gain[0]:+.1%} accuracy "
        f"(95% {low:+.1%} to {high:+.1%}): {advice}."
    )
    return Section(
        "data",
        title,
        "Cross-fitted on these comparisons: each is predicted by a fit on other prompts. The curve a - b / sqrt(n) is "
        "fitted to it; 20,000 comparisons at most are used.",
        numbers,
        (Figure(chart, _caption(study, sentence)),),
        (),
        (Finding("more_data", "advice", sentence, {"gain": float(gain[0]), "gain_ci": [low, high]}),),
    )


def _by_margin(study: Study, parts: int = 4) -> list[tuple[str, Array]]:
    size = np.abs(study.delta)
    edges = np.quantile(size, np.linspace(0, 1, parts + 1))
    if len(np.unique(edges)) < parts + 1:
        return []
    names = ("margin: smallest quarter", "second quarter", "third quarter", "margin: largest quarter")
    part = np.clip(np.searchsorted(edges, size, side="right") - 1, 0, parts - 1)
    return [(name, part == k) for k, name in enumerate(names)]


def _by_agreement(study: Study) -> list[tuple[str, Array]]:
    share, votes = vote_share(study)
    majority = np.maximum(share, 1 - share)
    slices = {
        "people unanimous (3 or more)": (votes >= 3) & (majority == 1),
        "people mostly agree": (votes >= 3) & (majority < 1) & (majority > 0.6),
        "people split": (votes >= 3) & (majority <= 0.6),
    }
    return [(name, mask) for name, mask in slices.items() if mask.sum() >= 20]


def vote_share(study: Study) -> tuple[Array, Array]:
    """Of each comparison: the share of votes on its two answers that went as this one did, ties as half; and votes."""
    low, high = np.minimum(study.pairs.a, study.pairs.b), np.maximum(study.pairs.a, study.pairs.b)
    which: Index = np.unique(np.stack([low, high]), axis=1, return_inverse=True)[1].reshape(-1)
    votes = np.bincount(which)
    for_low = np.where(study.pairs.tie > 0, 0.5, study.pairs.a == low).astype(np.float64)
    share = (np.bincount(which, weights=for_low) / votes)[which]
    return np.where(study.pairs.a == low, share, 1 - share), votes[which].astype(np.float64)


def _by_group(study: Study) -> list[tuple[str, Array]]:
    groups = np.array([str(column.get("group", "")) for column in study.columns])
    names = [name for name in np.unique(groups) if name]
    if not 2 <= len(names) <= MOST_GROUPS:
        return []
    return [(f"group {name}", groups == name) for name in names]


def accuracy_rows(study: Study, slices: Sequence[tuple[str, Array]]) -> list[dict[str, Any]]:
    """A row of a table for each named part of the comparisons, (n,) bool."""
    found = study.shares([(study.credit, mask.astype(np.float64)) for _, mask in slices])
    return [
        {"where": name, "comparisons": int(mask.sum()), "accuracy": mean, "95%": ends}
        for (name, mask), (mean, ends) in zip(slices, found, strict=True)
    ]


def _reliability(study: Study, bins: int = 10) -> dict[str, Any]:
    y, w = np.where(study.pairs.tie > 0, 0.5, 1.0), study.pairs.weight
    scaled = calibration.cross_fitted(study.delta, y, study.blocks, study.rng(4), weight=w)
    result: dict[str, Any] = {}
    for name, delta in (("before", study.delta), ("after", scaled)):
        p = np.concatenate([calibration.sigmoid(delta), calibration.sigmoid(-delta)])
        value, both = np.concatenate([y, 1 - y]), np.concatenate([w, w])
        part = calibration.equal_mass_bins(p, bins)
        mass = np.bincount(part, weights=both, minlength=bins)
        kept = mass > 0
        result[name] = {
            "forecast": (np.bincount(part, weights=both * p, minlength=bins)[kept] / mass[kept]).tolist(),
            "observed": (np.bincount(part, weights=both * value, minlength=bins)[kept] / mass[kept]).tolist(),
            "ece": calibration.ece(delta, y, w),
            "nll": float(np.average(calibration.nll(delta, y), weights=w)),
        }
    result["noise_floor"] = calibration.ece_noise_floor(
        study.delta, study.rng(5), weight=w, tie_share=float(np.average(study.pairs.tie, weights=w))
    )
    return result


def _reliability_figure(study: Study, found: dict[str, Any]) -> Figure:
    lines = [Line("perfect", [0, 1], [0, 1], dashed=True, colour=4)]
    for number, (name, label) in enumerate((("before", "as it is"), ("after", "after a temperature"))):
        lines.append(Line(label, found[name]["forecast"], found[name]["observed"], colour=number))
    chart = line_chart(
        lines, title="Reliability diagram", x_label="forecast that a is preferred", y_label="share that preferred a"
    )
    text = (
        f"Expected calibration error {found['before']['ece']:.3f} as it is, {found['after']['ece']:.3f} after a "
        f"temperature fitted on other prompts; a perfectly calibrated reward would show {found['noise_floor']:.3f}."
    )
    return Figure(chart, _caption(study, text))


def _caption(study: Study, text: str) -> str:
    return f"{text} n = {study.n:,}; clustered bootstrap, seed {study.seed}."
