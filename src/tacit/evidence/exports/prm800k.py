"""PRM800K (openai/prm800k): `question` with `problem`, and `label` with `steps`, each {completions, chosen_completion,
human_completion}.

A completion is a candidate for the step: {text, rating, flagged}. `rating` is 1 (right), 0 (not wrong, but without
progress) or -1 (wrong); 0 counts as right, since the step is not incorrect. `chosen_completion` is the index of the one
that the solution goes on with; null where `human_completion` was written instead, or where the solution ends.

One record for the solution as it went on, and one for each other candidate that is rated, after the steps before it. A
step whose rating is null ends the solution before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tacit.evidence.codes import coded
from tacit.evidence.layout import LayoutError, Row, Rows, layout, without

_RIGHT = {1: True, 0: True, -1: False}


def solutions(row: Row) -> Rows:
    """The solution and its rated alternatives."""
    question = row["question"]
    kept = {**without(row, "question", "label"), **without(question, "problem"), "prompt": question["problem"]}
    if "labeler" in row:
        kept["annotator"] = row["labeler"]
    texts: list[str] = []
    labels: list[bool] = []
    records: Rows = []
    branched = False
    for step in row["label"]["steps"]:
        others, taken = _candidates(step)
        records.extend({**kept, "completions": [*texts, text], "labels": [*labels, label]} for text, label in others)
        branched = bool(others) and taken is None
        if taken is None:
            break
        texts, labels = [*texts, taken[0]], [*labels, taken[1]]
    if texts and not branched:
        records.append({**kept, "completions": texts, "labels": labels})
    return records


def _candidates(step: Row) -> tuple[list[tuple[str, bool]], tuple[str, bool] | None]:
    """The rated candidates that were left, and the one that the solution goes on with if it is rated."""
    items = step.get("completions") or []
    rated = [coded(item.get("rating"), _RIGHT, "label", "a `rating` of -1, 0 or 1") for item in items]
    chosen = step.get("chosen_completion")
    others = [
        (item["text"], ok)
        for i, (item, ok) in enumerate(zip(items, rated, strict=True))
        if i != chosen and ok is not None
    ]
    if chosen is None:
        human: Any = step.get("human_completion")
        text = human.get("text") if isinstance(human, Mapping) else human
        return others, (text, True) if text else None
    if chosen not in range(len(items)):
        raise LayoutError(
            "`chosen_completion` names no completion", f"Give an index under {len(items)}", "label", value=chosen
        )
    label = rated[chosen]
    return others, None if label is None else (items[chosen]["text"], label)


def _has_steps(row: Row) -> bool:
    question, label = row["question"], row["label"]
    return isinstance(question, Mapping) and "problem" in question and isinstance(label, Mapping) and "steps" in label


LAYOUTS = (layout("prm800k", "steps", "question label", solutions, _has_steps, uses="labeler"),)
