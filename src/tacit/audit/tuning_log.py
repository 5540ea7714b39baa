r"""Over-optimisation along a tuning run: the gold score against KL at its steps, and the law that it follows.

With d = \sqrt{KL} from where tuning started, the gold score is fitted by

    R(d) = c + d (alpha - beta log d)

(Gao, Schulman and Hilton 2023, equation 2, with the start c free, since a log seldom holds step 0), which peaks at
d = exp(alpha / beta - 1) for beta > 0. Steps that follow each other err together, so that intervals come from
resampling residuals in blocks of neighbouring steps (Kuensch 1989, the moving-block bootstrap).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic_core import from_json

from tacit.audit.bootstrap import Array
from tacit.audit.figures import Line, line_chart
from tacit.audit.sections import Figure, Finding, Section
from tacit.errors import EvidenceError

if TYPE_CHECKING:
    from tacit.audit.study import Study

_TITLE = "A tuning run"
KEYS: Mapping[str, tuple[str, ...]] = {
    "kl": ("eval_kl", "objective/kl", "kl"),
    "reward": ("eval_reward", "reward", "objective/reward", "reward/mean"),
    "gold": ("eval_gold", "gold", "objective/gold", "gold/mean"),
}
"""What a line calls the KL from the start in nats, the reward that is tuned for, and the gold score; the first that it
has counts, so that an evaluation's gold score goes with its own KL."""
_FEWEST = 6
_SHOWN = 400


@dataclass(frozen=True)
class Log:
    """Steps of a run in their order: KL (n,), reward (n,) and gold score (n,), nan where a line lacks one."""

    source: str
    kl: Array
    reward: Array
    gold: Array


def read_log(path: str | Path) -> Log:
    """The lines of a metrics.jsonl that hold a KL and a reward or gold score; others (evaluations, say) are left out.

    Raises `EvidenceError` for a file that is missing or no JSON lines, for what is no number, and where no line has a
    KL with a score. A KL that sampling made negative counts as 0.
    """
    source = Path(path)
    if not source.is_file():
        raise EvidenceError(
            "there is no such log", mend="Give --log the metrics.jsonl of a tuning run", source=str(path)
        )
    rows: list[tuple[float, ...]] = []
    for number, line in enumerate(source.read_text("utf-8", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            given = from_json(line)
        except ValueError as error:
            raise EvidenceError(
                f"not readable as JSON ({error})", mend="Give one object a line", source=str(path), row=number
            ) from error
        if not isinstance(given, dict):
            raise EvidenceError("no object", mend="Give one object a line", source=str(path), row=number, value=given)
        found = [_number(given, names, str(path), number) for names in KEYS.values()]
        if math.isfinite(found[0]) and (math.isfinite(found[1]) or math.isfinite(found[2])):
            rows.append(tuple(found))
    if not rows:
        raise EvidenceError(
            "no line has a KL and a reward",
            mend=f"Give lines with {' or '.join(f'`{k}`' for k in KEYS['kl'])}, `reward` and, where known, `gold`",
            source=str(path),
        )
    kl, reward, gold = np.array(rows, dtype=np.float64).T
    return Log(str(path), np.maximum(kl, 0.0), reward, gold)


def _number(row: Mapping[str, Any], names: tuple[str, ...], source: str, number: int) -> float:
    key = next((name for name in names if row.get(name) is not None), None)
    if key is None:
        return math.nan
    value = row[key]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise EvidenceError("no number", mend="Give a number", source=source, row=number, column=key, value=value)
    return float(value)


def tuning_law(
    kl: Array, gold: Array, *, resamples: int = 1000, rng: np.random.Generator | None = None
) -> tuple[Array, Array]:
    """(c, alpha, beta) of the estimate and of each resample, (1 + resamples, 3), and the KL of each one's peak.

    The peak is inf where the law never falls. `kl` (n,) is positive, in the order of steps.
    """
    d = np.sqrt(kl)
    basis = np.stack([np.ones(len(d)), d, -d * np.log(d)], axis=1)
    solve = np.linalg.pinv(basis)
    estimate = solve @ gold
    residual = gold - basis @ estimate
    residual = (residual - residual.mean()) * np.sqrt(len(d) / max(1, len(d) - 3))
    draws = np.random.default_rng(0) if rng is None else rng
    n = len(d)
    block = max(1, min(n // 3, round(n ** (1 / 3))))
    starts = draws.integers(0, n - block + 1, size=(resamples, -(-n // block)))
    places = (starts[:, :, None] + np.arange(block)).reshape(resamples, -1)[:, :n]
    drawn = (basis @ estimate + residual[places]) @ solve.T
    found = np.concatenate([estimate[None], drawn])
    alpha, beta = found[:, 1], found[:, 2]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        peak = np.where(beta > 0, np.exp(2 * (alpha / beta - 1)), np.inf)
    return found, peak


def tuning_run(study: Study) -> Section:
    """Gold score and reward against KL, the fitted law and its peak."""
    log = study.log
    if log is None:
        return Section.missing("run", _TITLE, "no log of a tuning run was given. Give --log metrics.jsonl.")
    known = np.isfinite(log.gold) & (log.kl > 0)
    lines = []
    if np.isfinite(log.reward).any():
        lines.append(_dots("the reward it was tuned for", log.kl, log.reward))
    numbers: dict[str, Any] = {"source": log.source, "steps": len(log.kl), "kl_reached": float(log.kl.max())}
    if known.sum() < _FEWEST or len(np.unique(log.kl[known])) < _FEWEST:
        lead = f"{log.source} has fewer than {_FEWEST} steps with a gold score, so no law can be fitted: whether what"
        lead += " the reward says is true is not known from it. Score some completions of each step by a gold reward."
        figure = _figure(lines, f"{len(log.kl):,} steps.") if lines else None
        return Section("run", _TITLE, lead, numbers, () if figure is None else (figure,))
    kl, gold = log.kl[known], log.gold[known]
    laws, peaks = tuning_law(kl, gold, resamples=study.resamples, rng=study.rng(120))
    low, high = (float(v) for v in np.quantile(peaks[1:], [0.025, 0.975], method="nearest"))
    at = np.geomspace(kl.min(), kl.max(), 60)
    d = np.sqrt(at)
    curve = np.stack([np.ones(60), d, -d * np.log(d)], axis=1) @ laws.T  # (60, 1 + resamples)
    ends = np.quantile(curve[:, 1:], [0.025, 0.975], axis=1)
    lines.append(_dots("gold score", kl, gold))
    lines.append(
        Line("the fitted law", at.tolist(), curve[:, 0].tolist(), ends[0].tolist(), ends[1].tolist(), colour=2)
    )
    reached, end = float(log.kl.max()), float(kl[-1])
    top = float(curve[:, 0].max())
    last = np.array([1.0, np.sqrt(end), -np.sqrt(end) * np.log(np.sqrt(end))]) @ laws.T
    lost = curve.max(0) - last
    numbers |= {
        "alpha": float(laws[0, 1]),
        "beta": float(laws[0, 2]),
        "peak_kl": _finite(peaks[0]),
        "peak_kl_ci": [_finite(low), _finite(high)],
        "kl_at_the_end": end,
        "lost": float(lost[0]),
        "lost_ci": [float(v) for v in np.quantile(lost[1:], [0.025, 0.975])],
    }
    marks = [(float(peaks[0]), "peak of the law")] if kl.min() <= peaks[0] <= reached else []
    caption = f"{len(kl):,} steps with a gold score; 95% band by a block bootstrap of residuals, seed {study.seed}."
    return Section(
        "run",
        _TITLE,
        "The law c + d (alpha - beta log d), d = √KL, is fitted to the gold score at the steps of the run.",
        numbers,
        (_figure(lines, caption, marks),),
        (),
        (_finding(float(peaks[0]), low, high, end, top - float(last[0])),),
    )


def _dots(label: str, kl: Array, score: Array) -> Line:
    """Points of a run, a part of them where there are many."""
    thin = np.unique(np.linspace(0, len(kl) - 1, min(len(kl), _SHOWN)).astype(int))
    return Line(label, kl[thin].tolist(), score[thin].tolist(), dots=True)


def _figure(lines: list[Line], caption: str, marks: list[tuple[float, str]] | None = None) -> Figure:
    chart = line_chart(
        lines,
        title="Scores against KL along the run",
        x_label="KL from the start, nats",
        y_label="score",
        marks=marks or (),
    )
    return Figure(chart, caption)


def _finding(peak: float, low: float, high: float, end: float, lost: float) -> Finding:
    detail = {"peak_kl": _finite(peak), "peak_kl_ci": [_finite(low), _finite(high)], "kl_at_the_end": end, "lost": lost}
    upper = f"{high:.1f}" if math.isfinite(high) else "beyond measure"
    if high < end:
        sentence = (
            f"The run was tuned too far: its gold score peaked at KL {peak:.1f} nats (95% {low:.1f} to {upper}), and "
            f"had lost {lost:.3f} by its end at KL {end:.1f}. Take an earlier checkpoint."
        )
        return Finding("tuned_too_far", "fault", sentence, detail)
    if peak > end:
        sentence = f"The gold score was still rising where the run ended, at KL {end:.1f} nats"
        known = f"; the fitted law peaks at {peak:.1f} (95% {low:.1f} to {upper})." if math.isfinite(peak) else "."
        return Finding("kl_budget", "advice", sentence + known, detail)
    sentence = f"Do not tune past KL {peak:.1f} nats (95% {low:.1f} to {upper}), where the run's fitted law peaks."
    return Finding("kl_budget", "advice", sentence, detail)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
