"""Process rewards: every step of a solution judged, and the steps' scores brought together.

Fitted on evidence of kind `steps`: one example for each prefix, its label that of the prefix's last step, with the
features of the prompt and the prefix, by binary cross-entropy

    L = -(1/m) sum_i [l_i log sigma(s(x, y_1..t)) + (1 - l_i) log sigma(-s(x, y_1..t))].

Labels come from people (Lightman et al. 2023, PRM800K, arXiv 2305.20050) or from sampled continuations (Wang et al.
2024, Math-Shepherd, arXiv 2312.08935), hard or soft. The score of a whole solution is their min, product or last.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from tacit.conversation import Completion, Prompt
from tacit.errors import EvidenceError, TacitError
from tacit.evidence.records import Outcome, Record, Steps
from tacit.features import Encoder
from tacit.rewards.feature_reward import FeatureReward
from tacit.rewards.feature_reward import fit as fit_features
from tacit.rewards.inputs import require_rows, require_solutions
from tacit.rewards.saving import open_reward, save_reward
from tacit.rewards.solutions import (
    AfterError,
    Aggregate,
    Cut,
    StepLabels,
    aggregate_steps,
    check_choice,
    continuation_labels,
    cut_steps,
    natural_cut,
    prefixes,
    treat_after_error,
    whole_solution,
)

_INNER = "step"


@dataclass(eq=False)
class ProcessReward:
    """r(x, y) = aggregate over t of s(x, y_1..t), s the reward `step` on prefixes.

    A score is log-odds: of the worst step being right (min), of all steps being right (product), of the last (last).
    Satisfies `Reward`, `Uncertain`, `StepLevel`, `PrefixLevel` and `Saved`.
    """

    step: FeatureReward
    """Scores the last step of a prefix."""
    cut: Cut = "newline"
    """How a completion is taken apart into steps."""
    aggregate: Aggregate = "min"
    name: str = "process"
    report: dict[str, Any] = field(default_factory=dict)

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Scores of whole solutions, (n,) float32."""
        result: np.ndarray = self.score_members(prompts, completions).mean(0)
        return result

    def score_members(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Scores of whole solutions by each member, (K, n) float32."""
        require_rows(prompts, completions)
        logits, lengths = self._logits(prompts, [cut_steps(completion, self.cut) for completion in completions])
        return aggregate_steps(logits, lengths, self.aggregate)

    def score_steps(self, prompts: Sequence[Prompt], solutions: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """Log-odds that each step is right, one (steps,) float32 for each solution; step t sees steps 1..t alone."""
        logits, lengths = self._logits(prompts, solutions)
        return np.split(logits.mean(0), np.cumsum(lengths)[:-1]) if len(lengths) else []

    def score_prefixes(self, prompts: Sequence[Prompt], prefixes: Sequence[Completion]) -> np.ndarray:
        """Scores (n,) float32 of unfinished solutions: the aggregate of the steps so far."""
        return self.score(prompts, prefixes)

    def _logits(self, prompts: Sequence[Prompt], solutions: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
        """Step logits of each member, (K, all steps), and the number of steps of each solution, (n,)."""
        require_solutions(prompts, solutions)
        lengths = np.array([len(steps) for steps in solutions], dtype=np.intp)
        asked = [prompt for prompt, steps in zip(prompts, solutions, strict=True) for _ in steps]
        said = [prefix for steps in solutions for prefix in prefixes(steps, self.cut)]
        return self.step.score_members(asked, said), lengths

    def save(self, folder: str | Path) -> None:
        """Write reward.json, a model card and the reward of prefixes in a folder inside, atomically."""
        save_reward(
            folder,
            "process",
            self.name,
            config={"cut": self.cut, "aggregate": self.aggregate},
            parts={_INNER: self.step},
            report=self.report,
            meaning=f"The {self.aggregate} over steps (cut: {self.cut}) of the log-odds that a step is right.",
        )

    @classmethod
    def load(cls, folder: str | Path, *, cache: str | Path | None = None) -> ProcessReward:
        """Read a saved folder; raises `ArtefactError` as `FeatureReward.load` does."""
        manifest, _ = open_reward(folder, "process")
        step = FeatureReward.load(Path(folder) / _INNER, cache=cache)
        return cls(step, manifest["cut"], manifest["aggregate"], manifest["name"], manifest["report"])


def fit(
    evidence: Iterable[Record],
    *,
    encoder: str | Encoder = "auto",
    cache: str | Path | None = None,
    name: str = "process",
    seed: int = 0,
    cut: Cut | Literal["auto"] = "auto",
    aggregate: Aggregate = "min",
    after_error: AfterError = "drop",
    step_labels: StepLabels = "given",
    **options: Any,
) -> ProcessReward:
    """Learn a process reward from evidence of kind `steps`.

    `cut` auto takes the first of newline, paragraph and list that gives the labelled steps back. `step_labels` hard and
    soft take them from column `continuations`, for each step a list of whether a sampled continuation was right.
    `options` are those of `FitOptions`.

    Raises `EvidenceError` for other evidence, labels of one class, and continuations that do not match the steps.
    """
    start = time.perf_counter()
    check_choice("cut", cut, ("auto", *get_args(Cut)))
    check_choice("aggregate", aggregate, get_args(Aggregate))
    source = getattr(evidence, "source", "memory")
    records = _checked(evidence, source)
    chosen: Cut = natural_cut([record.completions for record in records]) if cut == "auto" else cut
    outcomes = prefix_outcomes(records, chosen, after_error, step_labels, source)
    step = fit_features(outcomes, encoder=encoder, cache=cache, name=name, seed=seed, **options)
    report = {
        **step.report,
        "kind": "steps",
        "n_train": len(records),
        "n_steps": len(outcomes),
        "n_dropped_steps": sum(len(record.completions) for record in records) - len(outcomes),
        **{"cut": chosen, "aggregate": aggregate, "after_error": after_error, "step_labels": step_labels},
        "seconds": time.perf_counter() - start,
    }
    return ProcessReward(step, chosen, aggregate, name, report)


def prefix_outcomes(
    records: Sequence[Steps],
    cut: Cut,
    after_error: AfterError = "drop",
    step_labels: StepLabels = "given",
    source: str = "memory",
) -> list[Outcome]:
    """One outcome for each prefix that is learnt from, labelled as its last step is; a soft label is a share."""
    outcomes: list[Outcome] = []
    for row, record in enumerate(records, 1):
        labels, learnt = treat_after_error(_labels(record, step_labels, source, row), after_error)
        outcomes += [
            Outcome.model_construct(prompt=record.prompt, completion=prefix, label=label)
            for prefix, label, kept in zip(prefixes(record.completions, cut), labels.tolist(), learnt, strict=True)
            if kept
        ]
    return outcomes


def solution_outcomes(records: Iterable[Record], cut: Cut = "newline") -> list[Outcome]:
    """Each solution in steps as one outcome that `cut` takes apart again, right where every step is."""
    listed = [record for record in records if isinstance(record, Steps)]
    return [
        Outcome(prompt=record.prompt, completion=whole_solution(record.completions, cut), label=all(record.labels))
        for record in listed
    ]


def _checked(evidence: Iterable[Record], source: str) -> list[Steps]:
    records: list[Steps] = []
    for row, record in enumerate(evidence, 1):
        if not isinstance(record, Steps):
            raise EvidenceError(
                f"a process reward is fitted on steps, not on {record.plural()}",
                mend="Give rows with `prompt`, `completions` (the steps) and `labels`",
                source=source,
                row=row,
            )
        records.append(record)
    if not records:
        raise EvidenceError("no evidence", mend="Give at least one row.", source=source)
    return records


def _labels(record: Steps, how: StepLabels, source: str, row: int) -> np.ndarray:
    check_choice("step_labels", how, get_args(StepLabels))
    if how == "given":
        return np.array(record.labels, dtype=np.float64)
    given = (record.model_extra or {}).get("continuations")
    where: dict[str, Any] = {"source": source, "row": row, "column": "continuations", "value": given}
    if not isinstance(given, list) or len(given) != len(record.completions):
        raise EvidenceError(
            "no list of continuations for each step",
            mend=f"Give {len(record.completions)} lists, one for each step, of whether a continuation was right",
            **where,
        )
    try:
        return np.array([continuation_labels(of_step, how) for of_step in given], dtype=np.float64)
    except (TacitError, ValueError, TypeError) as error:
        raise EvidenceError(
            f"a step's continuations cannot be read ({error})", mend="Give lists of true and false", **where
        ) from error
