"""UltraFeedback (openbmb/UltraFeedback): `instruction` and `completions`, a list of
{model, response, overall_score, annotations, ...}.

`overall_score` is a number from 1 to 10, more is better. A completion without one gives no record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tacit.evidence.codes import answer, dense_ranks, number
from tacit.evidence.layout import Row, Rows, layout, without


def ratings(row: Row) -> Rows:
    """One rating for each completion that has a score; what stands beside it is kept."""
    kept = _prompted(row)
    return [
        {**kept, **without(item, "response", "overall_score"), "completion": _text(item), "score": score}
        for item, score in _scored(row)
    ]


def ranking(row: Row) -> Rows:
    """One ranking by overall score; equal scores tie."""
    scored = _scored(row)
    ranks = dense_ranks(-score for _, score in scored)
    completions = [_text(item) for item, _ in scored]
    return [{**_prompted(row), "completions": completions, "ranks": ranks}] if len(scored) > 1 else []


def _scored(row: Row) -> list[tuple[Row, float]]:
    scores = [(item, number(item["overall_score"], "completions", "a number")) for item in row["completions"]]
    return [(item, score) for item, score in scores if score is not None]


def _text(item: Row) -> Any:
    return answer(item["response"], "completions")


def _prompted(row: Row) -> dict[str, Any]:
    prompt = row["prompt"] if "prompt" in row else row["instruction"]
    return {**without(row, "completions"), "prompt": prompt}


def _is_scored(row: Row) -> bool:
    items = row["completions"]
    if not isinstance(items, list) or not items or not isinstance(items[0], Mapping):
        return False
    return {"response", "overall_score"} <= items[0].keys() and ("prompt" in row or "instruction" in row)


LAYOUTS = (
    layout("ultrafeedback", "rating", "completions", ratings, _is_scored),
    layout("ultrafeedback", "ranking", "completions", ranking, _is_scored),
)
