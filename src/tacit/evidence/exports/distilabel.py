"""distilabel's UltraFeedback task: `instruction`, `generations` (a list of texts) and `ratings` (a number for each).

A rating for each generation; null where the judge's text could not be read, which gives none. With `--kind ranking` the
generations by their ratings. `rationales` and `generation_models` stand beside the ratings they belong to.
"""

from __future__ import annotations

from typing import Any

from tacit.evidence.codes import answer, dense_ranks, is_blank, joined, listed, number
from tacit.evidence.layout import Row, Rows, layout, without

_LISTS = {"rationales": "rationale", "generation_models": "generation_model", "types": "type"}


def ratings(row: Row) -> Rows:
    """One rating for each generation that has one."""
    kept = _beside(row)
    lists = {one: row[many] for many, one in _LISTS.items() if isinstance(row.get(many), list)}
    return [
        {
            **kept,
            **{one: values[i] for one, values in lists.items() if i < len(values)},
            "completion": text,
            "score": score,
        }
        for i, (text, score) in enumerate(_rated(row))
        if score is not None
    ]


def ranking(row: Row) -> Rows:
    """The rated generations, the highest rating first; equal ratings tie."""
    rated = [(text, score) for text, score in _rated(row) if score is not None]
    ranks = dense_ranks(-score for _, score in rated)
    return [{**_beside(row), "completions": [text for text, _ in rated], "ranks": ranks}] if len(rated) > 1 else []


def _rated(row: Row) -> list[tuple[str, float | None]]:
    if is_blank(row["ratings"]):
        return []
    texts = [answer(text, "generations") for text in listed(row, "generations")]
    scores = [number(value, "ratings", "a list of numbers") for value in listed(row, "ratings", len(texts))]
    return list(zip(texts, scores, strict=True))


def _beside(row: Row) -> dict[str, Any]:
    kept = without(row, "instruction", "input", "generations", "ratings", *_LISTS)
    system = row.get("system_prompt")
    prompt: Any = joined(row["instruction"], row.get("input"))
    if not is_blank(system):
        prompt = [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
    return {**kept, "prompt": prompt}


LAYOUTS = (
    layout(
        "distilabel",
        "rating",
        "instruction generations ratings",
        ratings,
        uses=f"input system_prompt {' '.join(_LISTS)}",
    ),
    layout("distilabel", "ranking", "instruction generations ratings", ranking, uses="input system_prompt"),
)
