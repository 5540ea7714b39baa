"""How well a reward judges solutions in steps: the whole solution, and, where it scores steps, each of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from tacit.audit import calibration, metrics, ranking
from tacit.audit.bootstrap import Array, Clusters, interval, ratio
from tacit.conversation import prompt_text
from tacit.evidence.dataset import Evidence
from tacit.evidence.records import Record, Steps
from tacit.rewards.contract import Reward, StepLevel
from tacit.rewards.solutions import natural_cut
from tacit.rewards.steps import solution_outcomes


class _Rows(Protocol):
    @property
    def source(self) -> str: ...

    def __iter__(self) -> Iterator[Record]: ...


def evaluate_steps(reward: Reward, evidence: _Rows, *, resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Metrics on evidence of kind `steps`, as a JSON-ready dictionary; intervals resample prompts.

    The metrics of outcomes, of whole solutions that are right where every step is. Where the reward scores steps also,
    over the steps up to and with the first wrong one (as PRM800K has them judged):

    - `step_accuracy`: P(a right step scores above a wrong one), over all pairs of steps; ties count one half;
    - `step_nll`, `step_nll_base_rate`: of the forecast P(right) = sigma(score), and of the share of right steps;
    - `first_error`: over solutions with a wrong step, how often the lowest step of all is the first wrong one; a guess
      at random would be right in `first_error_chance`.
    """
    records = [record for record in evidence if isinstance(record, Steps)]
    whole = whole_solutions(reward, evidence)
    result = {**metrics.evaluate(reward, whole, resamples=resamples, seed=seed), "kind": "steps"}
    if isinstance(reward, StepLevel):
        result |= _of_steps(reward, records, resamples, np.random.default_rng(seed))
    return result


def whole_solutions(reward: Reward, evidence: _Rows) -> Evidence:
    """Solutions in steps as outcomes, cut as the reward cuts them, right where every step is."""
    records = [record for record in evidence if isinstance(record, Steps)]
    cut = getattr(reward, "cut", None) or natural_cut([record.completions for record in records])
    return Evidence.from_records(solution_outcomes(records, cut), source=evidence.source)


def _of_steps(reward: StepLevel, records: list[Steps], resamples: int, rng: np.random.Generator) -> dict[str, Any]:
    scored = reward.score_steps([r.prompt for r in records], [r.completions for r in records])
    names: dict[str, int] = {}
    prompts = [names.setdefault(prompt_text(record.prompt), len(names)) for record in records]
    first = [record.labels.index(False) if False in record.labels else None for record in records]
    judged = [len(record.labels) if at is None else at + 1 for record, at in zip(records, first, strict=True)]
    scores = np.concatenate([s[:n] for s, n in zip(scored, judged, strict=True)]).astype(np.float64)
    labels = np.concatenate([r.labels[:n] for r, n in zip(records, judged, strict=True)]).astype(np.float64)
    clusters = Clusters.of(np.repeat(prompts, judged))
    found = [(int(np.argmin(s)) == at, 1 / len(s)) for s, at in zip(scored, first, strict=True) if at is not None]
    wrong = Clusters.of([p for p, at in zip(prompts, first, strict=True) if at is not None])
    rate = float(labels.mean())
    draws = [ranking.weighted_auc(scores, labels, w) for w in clusters.weights(resamples, rng)]
    result: dict[str, Any] = {
        "n_steps": len(labels),
        "step_accuracy": float(ranking.weighted_auc(scores, labels, np.ones((1, len(labels))))[0]),
        "step_accuracy_ci": _interval(np.concatenate(draws), clusters),
    }
    result["step_nll"], result["step_nll_ci"] = _mean(calibration.nll(scores, labels), clusters, resamples, rng)
    result["step_nll_base_rate"] = float(-(rate * np.log(rate) + (1 - rate) * np.log1p(-rate)))
    hit = np.array(found, dtype=np.float64)
    result["first_error"], result["first_error_ci"] = _mean(hit[:, 0], wrong, resamples, rng)
    result["first_error_chance"] = float(hit[:, 1].mean())
    return result


def _mean(
    values: Array, clusters: Clusters, resamples: int, rng: np.random.Generator
) -> tuple[float, list[float] | None]:
    sums = clusters.sums(np.stack([values, np.ones(len(values))], axis=1), resamples, rng)
    return float(values.mean()), _interval(ratio(*sums.T), clusters)


def _interval(draws: Array, clusters: Clusters) -> list[float] | None:
    return interval(draws) if clusters.smallest >= 2 else None
