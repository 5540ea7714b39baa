"""Answers of Stack Exchange with their votes.

- lvwerra/stack-exchange-paired: `question`, `response_j`, `response_k`; response j is the better one.
- HuggingFaceH4/stack-exchange-preferences: `question` and `answers`, a list of {text, pm_score, selected}. `pm_score`
  is log2(1 + upvotes), rounded, one more for the accepted answer, and -1 for fewer than no votes; more is better. One
  ranking for each question (`--kind comparison`: every pair of different scores).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from tacit.evidence.codes import answer, compared, dense_ranks, number
from tacit.evidence.layout import Row, Rows, layout, pair_of, without


def comparisons(row: Row) -> Rows:
    """The question with response j as the chosen one."""
    kept = {**without(row, "question"), "prompt": row["question"]}
    return compared(kept, row, "response_j", "response_k", 1.0)


def ranking(row: Row) -> Rows:
    """All answers that have a score; equal scores tie."""
    scores = [(item, number(item["pm_score"], "answers", "a `pm_score`, a number")) for item in row["answers"]]
    scored = [(answer(item["text"], "answers"), score) for item, score in scores if score is not None]
    kept = {**without(row, "question", "answers"), "prompt": row["question"]}
    ranks = dense_ranks(-score for _, score in scored)
    return [{**kept, "completions": [text for text, _ in scored], "ranks": ranks}] if len(scored) > 1 else []


def pairs(row: Row) -> Rows:
    """Every pair of answers with different scores."""
    return [
        pair_of(without(whole, "completions", "ranks"), a, b, float(i < j))
        for whole in ranking(row)
        for (a, i), (b, j) in combinations(zip(whole["completions"], whole["ranks"], strict=True), 2)
        if i != j
    ]


def _is_scored(row: Row) -> bool:
    items = row["answers"]
    if not isinstance(items, list) or not items:
        return False
    return all(isinstance(item, Mapping) and {"text", "pm_score"} <= item.keys() for item in items)


LAYOUTS = (
    layout("stack_exchange_paired", "comparison", "question response_j response_k", comparisons),
    layout("stack_exchange", "ranking", "question answers", ranking, _is_scored),
    layout("stack_exchange", "comparison", "question answers", pairs, _is_scored),
)
