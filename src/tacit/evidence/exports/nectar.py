"""Nectar (berkeley-nest/Nectar): `prompt` and `answers`, a list of {answer, model, rank}; rank 1 is the best of seven.

The prompt is a transcript that ends with an empty turn of the assistant. One ranking for each row, and every pair of
different ranks with `--kind comparison`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from tacit.conversation import parse_transcript
from tacit.evidence.codes import answer, dense_ranks, number
from tacit.evidence.layout import Row, Rows, layout, pair_of, without

_RIGHT = "a rank from 1 (the best)"


def ranking(row: Row) -> Rows:
    """All answers with a rank; equal ranks tie."""
    ranks = [number(item["rank"], "answers", _RIGHT, low=1) for item in row["answers"]]
    ranked = [(item, rank) for item, rank in zip(row["answers"], ranks, strict=True) if rank is not None]
    if len(ranked) < 2:
        return []
    return [
        {
            **without(row, "answers"),
            "prompt": _turns(row["prompt"]),
            "completions": [answer(item["answer"], "answers") for item, _ in ranked],
            "ranks": dense_ranks(rank for _, rank in ranked),
            "models": [item.get("model") for item, _ in ranked],
        }
    ]


def pairs(row: Row) -> Rows:
    """Every pair of answers with different ranks."""
    return [
        pair_of({**without(row, "answers"), "prompt": whole["prompt"]}, a, b, float(i < j))
        for whole in ranking(row)
        for (a, i), (b, j) in combinations(zip(whole["completions"], whole["ranks"], strict=True), 2)
        if i != j
    ]


def _turns(prompt: Any) -> Any:
    turns = parse_transcript(prompt) if isinstance(prompt, str) else []
    if turns and turns[-1]["role"] == "assistant" and not turns[-1]["content"].strip():
        turns = turns[:-1]
    return turns or prompt


def _is_ranked(row: Row) -> bool:
    items = row["answers"]
    return (
        isinstance(items, list)
        and bool(items)
        and all(isinstance(i, Mapping) and {"answer", "rank"} <= i.keys() for i in items)
    )


LAYOUTS = (
    layout("nectar", "ranking", "prompt answers", ranking, _is_ranked),
    layout("nectar", "comparison", "prompt answers", pairs, _is_ranked),
)
