"""Several rewards on the same evidence, on one page: their metrics side by side, and every pair of them tested."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from tacit.audit.figures import Interval, interval_chart
from tacit.audit.metrics import evaluate
from tacit.audit.paired import Difference, differences, holm
from tacit.audit.report import Report
from tacit.audit.sections import Figure, Finding, Section, Table
from tacit.audit.steps import whole_solutions
from tacit.audit.study import Study
from tacit.errors import TacitError
from tacit.evidence import Evidence
from tacit.progress import track
from tacit.rewards.contract import Reward

SHOWN = ("accuracy", "order_consistency", "spearman", "nll", "ece")
_SURE = 0.05


def compare(
    rewards: Sequence[Reward],
    evidence: Evidence,
    *,
    names: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Report:
    """Metrics of each reward, and paired tests of accuracy and likelihood for every two of them.

    `names` are how they are called, by default their own. Differences come with clustered intervals and p-values that
    are corrected for the number of tests (Holm). Solutions in steps are cut as the first reward cuts them. Raises
    `TacitError` for fewer than two rewards, and where two have one name.
    """
    called = [reward.name for reward in rewards] if names is None else list(names)
    if len(rewards) < 2 or len(set(called)) < len(called):
        raise TacitError(f"rewards to compare: {', '.join(called) or 'none'}. Give two or more, each once")
    if evidence.kind == "steps":
        evidence = whole_solutions(rewards[0], evidence)
    measured = [
        evaluate(reward, evidence, resamples=resamples, seed=seed)
        for reward in track(rewards, "measuring", len(rewards))
    ]
    first = Study.of(rewards[0], evidence, evidence.kind, evidence.source, resamples=resamples, seed=seed)
    studies = [first, *(first.under(reward) for reward in rewards[1:])]
    sections = (_side_by_side(called, measured, first), _tests(called, studies))
    title = f"Which is better: {', '.join(called)}?"
    return Report(" and ".join(called), evidence.source, first.n, resamples, seed, sections, title)


def _side_by_side(names: Sequence[str], measured: Sequence[dict[str, Any]], study: Study) -> Section:
    rows: list[dict[str, Any]] = [
        {"reward": name}
        | {
            key: value
            for metric in SHOWN
            for key, value in ((metric, m.get(metric)), (f"{metric} 95%", m.get(f"{metric}_ci")))
        }
        for name, m in zip(names, measured, strict=True)
    ]
    rows.append({"reward": "length alone", "accuracy": measured[0]["length_accuracy"]})
    rows[-1] |= {"accuracy 95%": measured[0]["length_accuracy_ci"]}
    keys = [key for key in rows[0] if any(row.get(key) is not None for row in rows)]
    shown = [{key: row.get(key) for key in keys} for row in rows]
    chart = interval_chart(
        [
            Interval(row["reward"], row["accuracy"], row["accuracy 95%"], int(k == len(names)))
            for k, row in enumerate(rows)
        ],
        title="Accuracy",
        x_label="accuracy",
        reference=(0.5, "chance"),
    )
    return Section(
        "metrics",
        "Side by side",
        "Each measured alone. Intervals that overlap do not mean that there is no difference: see the tests below.",
        {"rewards": dict(zip(names, measured, strict=True))},
        (Figure(chart, f"Points with 95% intervals. n = {study.n:,}; clustered bootstrap, seed {study.seed}."),),
        (Table(shown),),
    )


def _tests(names: Sequence[str], studies: Sequence[Study]) -> Section:
    couples = list(combinations(range(len(names)), 2))
    tested: list[tuple[int, int, Difference]] = []
    for i, j in couples:
        tested += [(i, j, found) for found in differences(studies[i], studies[j], ("accuracy", "nll"))]
    sure = [(i, j, d) for i, j, d in tested if d.p is not None]
    corrected = dict(zip([(i, j, d.metric) for i, j, d in sure], holm([d.p or 0.0 for _, _, d in sure]), strict=True))
    rows = [
        {
            "first": names[i],
            "second": names[j],
            "metric": d.metric,
            "difference": d.difference,
            "95%": d.ci,
            "p": d.p,
            "p, corrected": corrected.get((i, j, d.metric)),
        }
        for i, j, d in tested
    ]
    chart = interval_chart(
        [Interval(f"{names[i]} − {names[j]}", d.difference, d.ci) for i, j, d in tested if d.metric == "accuracy"],
        title="Differences of accuracy",
        x_label="difference of accuracy",
        reference=(0.0, "none"),
    )
    findings = [
        _finding(names, i, j, d, corrected.get((i, j, d.metric))) for i, j, d in tested if d.metric == "accuracy"
    ]
    return Section(
        "tests",
        "Paired tests",
        "First less second, on the same comparisons and the same resamples. More accuracy is better, less nll is "
        f"better. p-values are corrected for {len(sure)} tests (Holm).",
        {"tests": rows},
        (Figure(chart, f"95% intervals. n = {studies[0].n:,}; clustered bootstrap, seed {studies[0].seed}."),),
        (Table(rows),),
        tuple(findings),
    )


def _finding(names: Sequence[str], i: int, j: int, d: Difference, p: float | None) -> Finding:
    best, other = (names[i], names[j]) if d.difference > 0 else (names[j], names[i])
    detail = {"first": names[i], "second": names[j], "difference": d.difference, "ci": d.ci, "p_corrected": p}
    if p is None or d.ci is None:
        text = f"{names[i]} and {names[j]} cannot be told apart: all comparisons are of one prompt."
        return Finding("not_told_apart", "advice", text, detail)
    low, high = d.ci if d.difference > 0 else (-d.ci[1], -d.ci[0])
    numbers = f"{abs(d.difference):.1%} of comparisons (95% {low:+.1%} to {high:+.1%}, corrected p = {p:.3f})"
    if p < _SURE:
        return Finding("better", "good", f"{best} orders more as people did than {other}, by {numbers}.", detail)
    text = f"It is not shown that {best} is better than {other}: a difference of {numbers}."
    return Finding("not_told_apart", "advice", text, detail)
