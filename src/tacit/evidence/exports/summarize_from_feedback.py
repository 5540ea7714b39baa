"""OpenAI's summaries with human feedback (openai/summarize-from-feedback): comparisons and ratings along axes.

- Comparisons: `info` (the post or article and its title), `summaries`, a list of two {text, policy, note}, and
  `choice`, the index 0 or 1 of the better one.
- Axis evaluations: `info` and `summary`, a {text, policy, note, axes}; `axes` are overall, accuracy, coverage and
  coherence from 1 to 7, null where they were not asked.

The title and the text are the prompt, joined by a blank line; `worker` is the annotator.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tacit.evidence.codes import answer, coded, joined, listed, number
from tacit.evidence.layout import LayoutError, Row, Rows, layout, pair_of, without

_TEXTS = ("title", "post", "article")


def comparisons(row: Row) -> Rows:
    """The two summaries by the choice of the worker; a row without one gives none."""
    share = coded(row["choice"], {0: 1.0, 1: 0.0}, "choice", "0 (the first of `summaries`) or 1 (the second)")
    if share is None:
        return []
    first, second = listed(row, "summaries", 2)
    beside = {"policies": [first.get("policy"), second.get("policy")], "notes": [first.get("note"), second.get("note")]}
    kept = {**without(row, "summaries", "info"), **_beside(row), **beside}
    return [pair_of(kept, answer(first["text"], "summaries"), answer(second["text"], "summaries"), share)]


def ratings(row: Row) -> Rows:
    """The axes of one summary that are rated; without any the row gives none."""
    summary = row["summary"]
    axes = {name: value for name, value in summary["axes"].items() if not isinstance(value, bool)}
    score = {name: number(value, "summary", "a number from 1 to 7 for each axis", 1, 7) for name, value in axes.items()}
    if all(value is None for value in score.values()):
        return []
    kept = {**without(row, "summary", "info"), **_beside(row), **without(summary, "text", "axes")}
    return [{**kept, "completion": answer(summary["text"], "summary"), "score": score}]


def _beside(row: Row) -> dict[str, Any]:
    info = row["info"]
    prompt = joined(*(info.get(name) for name in _TEXTS))
    if not prompt:
        raise LayoutError("there is no text to summarise", "Give `info.post` or `info.article`", "info", value=info)
    beside: dict[str, Any] = {"info": without(info, *_TEXTS), "prompt": prompt}
    return {**beside, "annotator": row["worker"]} if row.get("worker") is not None else beside


def _is_rated(row: Row) -> bool:
    return isinstance(row["info"], Mapping) and isinstance(row["summary"], Mapping) and "axes" in row["summary"]


LAYOUTS = (
    layout(
        "summarize_from_feedback",
        "comparison",
        "info summaries choice",
        comparisons,
        lambda row: isinstance(row["info"], Mapping) and isinstance(row["summaries"], list),
        uses="worker",
    ),
    layout("summarize_from_feedback_axes", "rating", "info summary", ratings, _is_rated, uses="worker"),
)
