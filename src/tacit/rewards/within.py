"""Outcomes of one prompt against each other: right above wrong, whatever the prompt's difficulty.

Cross-entropy on single outcomes learns first which prompts are hard, and a feature that goes with hard prompts
(length, say) counts against every answer, even where among the answers of one prompt it speaks for them (Simpson's
paradox). Conditioning on the prompt takes its difficulty out: with d(x) + r(x, y) as the log-odds of a right answer,
the right one of a pair is y+ with probability sigma(r(x, y+) - r(x, y-)) (conditional logistic regression, Chamberlain
1980; Bradley-Terry on the pairs).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tacit.conversation import Completion, Prompt, texts
from tacit.errors import EvidenceError
from tacit.evidence.records import Comparison, Outcome, Record
from tacit.features import Encoder
from tacit.rewards.feature_reward import FeatureReward
from tacit.rewards.feature_reward import fit as fit_features


def fit(
    evidence: Iterable[Record],
    *,
    encoder: str | Encoder = "auto",
    cache: str | Path | None = None,
    name: str = "within",
    **options: Any,
) -> FeatureReward:
    """Learn a reward from outcomes with several answers of a prompt; `options` are those of `FitOptions`.

    Scores compare answers of one prompt; they do not say how likely an answer is to be right. Raises `EvidenceError`
    for other evidence, and where no prompt has a right and a wrong answer.
    """
    start = time.perf_counter()
    records = list(evidence)
    source = getattr(evidence, "source", "memory")
    pairs = outcome_pairs(records, source)
    reward = fit_features(pairs, encoder=encoder, cache=cache, name=name, **options)
    prompts = len({texts(pair.prompt, "")[0] for pair in pairs})
    reward.report |= {"n_train": len(records), "n_pairs": len(pairs), "n_prompts": prompts}
    reward.report["seconds"] = time.perf_counter() - start
    return reward


def outcome_pairs(records: Iterable[Record], source: str = "memory") -> list[Comparison]:
    """Every right answer against every wrong one of its prompt, each pair with weight 1 / max(right, wrong).

    So each answer on the rarer side of a prompt weighs 1 in all. Answers of equal text make no pair.
    """
    sides: dict[str, tuple[Prompt, list[Completion], list[Completion]]] = {}
    for row, record in enumerate(records, 1):
        if not isinstance(record, Outcome):
            raise EvidenceError(
                f"a {type(record).__name__.lower()} says not whether an answer is right",
                mend="Give outcomes: rows with `prompt`, `completion` and `label`",
                source=source,
                row=row,
            )
        _, right, wrong = sides.setdefault(texts(record.prompt, "")[0], (record.prompt, [], []))
        (right if record.label else wrong).append(record.completion)
    pairs = [
        Comparison(prompt=prompt, chosen=good, rejected=bad, weight=1 / max(len(right), len(wrong)))
        for prompt, right, wrong in sides.values()
        for good in right
        for bad in wrong
        if texts("", good) != texts("", bad)
    ]
    if not pairs:
        raise EvidenceError(
            "no prompt has a right and a wrong answer",
            mend="Give several answers of a prompt, or fit with --model scalar",
            source=source,
        )
    return pairs
