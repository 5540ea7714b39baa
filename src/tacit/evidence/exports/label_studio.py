"""Label Studio's exports of projects that compare two answers (tag Pairwise), order several (tags List and Ranker), or
judge one (tags Choices, Rating and Number).

What its interface writes, and what follows from that:

- A result of type `pairwise` has the value {"selected": "left"} or {"selected": "right"}. Clicking the chosen side once
  more removes the result, so there are no ties, and an annotation without a result says nothing.
- Its `to_name` is the tag Pairwise itself, so the export does not say which column of `data` stood left (where it was
  written by hand it may name both). The answers are found by their usual names, as two `items`, or as the only two
  texts beside the prompt, in the order of the columns.
- A result of type `ranker` has one list of ids of `items`, the best first. Ids in several buckets are sorted into
  categories, which is no order.
- Results of types `choices` {"choices": ["Good"]}, `rating` {"rating": 4} (stars) and `number` judge the one answer of
  a task, each under the name of its tag. A choice that names one of two answers is a comparison.
- JSON-MIN and CSV have a row for each annotation, with the data and, under the tag's name, a list of such values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tacit.evidence.criteria import Judgement, criteria_layouts
from tacit.evidence.layout import LayoutError, Row, Rows, layout, nested, pair_of, without
from tacit.evidence.prompts import PROMPT_COLUMNS, with_prompt
from tacit.evidence.verdicts import Sides, VerdictCode, find_sides

_ONE = ("response", "answer", "completion", "output", "generated", "generated_text", "model_answer", "llm_response")
_JUDGING = ("choices", "rating", "number")
_ITEM = ("body", "text", "html", "title")
_OF_THE_EXPORT = ("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement")
"""Columns that JSON-MIN and CSV add to the data."""


def has(kind: str) -> Callable[[Row], bool]:
    """A test for tasks with a result of this type."""

    def fits(row: Row) -> bool:
        data, annotations = nested(row["data"]), nested(row["annotations"])
        listed = isinstance(annotations, list) and all(isinstance(one, Mapping) for one in annotations)
        return listed and isinstance(data, Mapping) and next(_results(row, kind), None) is not None

    return fits


def comparisons(row: Row) -> Rows:
    """A task as one comparison for each annotation that chose a side."""
    records: Rows = []
    for beside, value in _results(row, "pairwise"):
        if not _cancelled(beside) and (chosen := _selected(value)):
            left, right, kept = _answers(nested(row["data"]), "data", beside["to_name"])
            records.append(
                pair_of(
                    {**kept, **_kept(row, beside)},
                    left,
                    right,
                    float(chosen == "left"),
                    shown=True,
                )
            )
    return records


def rankings(row: Row) -> Rows:
    """A task as one ranking for each annotation that ordered its `items`."""
    records: Rows = []
    for beside, value in _results(row, "ranker"):
        lists = value.get("ranker")
        filled = [ids for ids in lists.values() if ids] if isinstance(lists, Mapping) else []
        if _cancelled(beside) or not filled:
            continue
        if len(filled) > 1:
            reason = "the items are sorted into several buckets, which is no order"
            raise LayoutError(reason, "Let people order one list: a Ranker without buckets", "annotations", value=lists)
        texts = {str(item["id"]): _item(item) for item in nested(row["data"])["items"]}
        ranked = [texts[str(name)] for name in filled[0]]
        kept = with_prompt(without(nested(row["data"]), "items"))
        ranks = list(range(1, len(ranked) + 1))
        records.append({**kept, **_kept(row, beside), "completions": ranked, "ranks": ranks})
    return [record for record in records if len(record["ranks"]) > 1]


def choices(row: Row) -> Rows:
    """A task with two answers as one comparison for each annotation whose choice names one, or a tie."""
    records: Rows = []
    for beside, value in _results(row, "choices"):
        chosen = value.get("choices")
        if not _cancelled(beside) and isinstance(chosen, list) and len(chosen) == 1:
            left, right, kept = _answers(nested(row["data"]), "data", beside["to_name"])
            share = VerdictCode(Sides("left", "right", "annotations")).share({"annotations": chosen[0]})
            if share is not None:
                records.append(pair_of({**kept, **_kept(row, beside)}, left, right, share))
    return records


def judgements(row: Row) -> list[Judgement]:
    """What annotations of a task say of its one answer, by the names of the tags."""
    return [
        Judgement(str(beside["from_name"]), _bare(value.get(kind)), "annotations", _person(beside), verdict=True)
        for kind in _JUDGING
        for beside, value in _results(row, kind)
        if not _cancelled(beside)
    ]


def judges_one(row: Row) -> bool:
    """Whether a task has one answer, and an annotation that judges it."""
    whole = any(has(kind)(row) for kind in _JUDGING)
    return whole and _two(nested(row["data"])) is None


def _judged(row: Row) -> dict[str, Any]:
    data = nested(row["data"])
    answer = next((name for name in _ONE if name in data), None)
    kept = with_prompt(dict(data))
    texts = [name for name, value in data.items() if isinstance(value, str) and kept.get("prompt") != value]
    if answer is None and len(texts) != 1:
        reason = f"the answer was not found among {', '.join(f'`{name}`' for name in data)}"
        raise LayoutError(reason, "Name it `response`", "data")
    answer = answer or texts[0]
    return {**without(kept, answer), "completion": data[answer], "task": row.get("id")}


def _bare(value: Any) -> Any:
    """A choice without the words that stand after it in the templates: `Good answer` is good."""
    if isinstance(value, list):
        return [_bare(item) for item in value]
    return re.sub(r"\s+(answer|response|reply)$", "", value, flags=re.IGNORECASE) if isinstance(value, str) else value


def flat_comparison(row: Row) -> Rows:
    """A row of JSON-MIN or CSV as a comparison; one in which nobody chose gives none."""
    column, chosen = chosen_side(row) or ("", "")
    if not column:
        return []
    left, right, kept = _answers(without(row, column), None)
    return [pair_of(kept, left, right, float(chosen == "left"), shown=True)]


def chosen_side(row: Row) -> tuple[str, str] | None:
    """The column of JSON-MIN or CSV that says left or right, and what it says."""
    for name, value in row.items():
        value = value[0] if isinstance(value, list) and len(value) == 1 else value
        side = _selected(value) if isinstance(value, Mapping) else value
        if side in ("left", "right") and name not in ("left", "right"):
            return name, str(side)
    return None


def _results(row: Row, kind: str) -> Iterator[tuple[Row, Row]]:
    """Annotations and the value of each of their results of this type."""
    for annotation in nested(row["annotations"]):
        results = annotation.get("result") if isinstance(annotation, Mapping) else None
        for result in results if isinstance(results, list) else ():
            if not isinstance(result, Mapping):
                continue
            if result.get("type") == kind and isinstance(result.get("value"), Mapping):
                yield (
                    {**annotation, "from_name": result.get("from_name"), "to_name": result.get("to_name")},
                    result["value"],
                )


def _cancelled(annotation: Row) -> bool:
    return bool(annotation.get("was_cancelled"))


def _selected(value: Row) -> Any:
    chosen = value.get("selected")
    return None if chosen == "none" else chosen


def _kept(row: Row, annotation: Row) -> dict[str, Any]:
    """What is kept of a task and its annotation: the person, the tag (a project may ask several things), the task."""
    return {"annotator": _person(annotation), "from_name": annotation["from_name"], "task": row.get("id")}


def _person(annotation: Row) -> Any:
    by = annotation.get("completed_by")
    return by.get("email", by.get("id")) if isinstance(by, Mapping) else by


def _answers(data: Row, column: str | None, to_name: Any = None) -> tuple[Any, Any, dict[str, Any]]:
    """The left and the right answer, and the other columns with the prompt under its name."""
    items = data.get("items")
    if isinstance(items, list) and len(items) == 2:
        return _item(items[0]), _item(items[1]), with_prompt(without(data, "items"))
    aside = (*PROMPT_COLUMNS, *_OF_THE_EXPORT)
    texts = [name for name, value in data.items() if isinstance(value, str) and name not in aside]
    named = _two(data, to_name)
    if named is None and len(texts) != 2:
        reason = f"the two answers were not found among {', '.join(f'`{name}`' for name in data)}"
        raise LayoutError(reason, "Name them `answer1` (left) and `answer2` (right)", column)
    left, right = named or texts
    return data[left], data[right], with_prompt(without(data, left, right))


def _two(data: Row, to_name: Any = None) -> tuple[str, str] | None:
    """The columns of two answers, by the tags that a result names or by their usual names."""
    tags = str(to_name).split(",")
    return (tags[0], tags[1]) if len(tags) == 2 and all(name in data for name in tags) else find_sides(data)


def _item(item: Any) -> Any:
    return next((item[name] for name in _ITEM if item.get(name)), "") if isinstance(item, Mapping) else item


LAYOUTS = (
    layout("label_studio", "comparison", "annotations data", comparisons, has("pairwise")),
    layout("label_studio_ranker", "ranking", "annotations data", rankings, has("ranker")),
    layout(
        "label_studio_min", "comparison", "annotation_id", flat_comparison, lambda row: chosen_side(row) is not None
    ),
    layout(
        "label_studio_choices", "comparison", "annotations data", choices,
        lambda row: has("choices")(row) and _two(nested(row["data"])) is not None,
    ),
    *criteria_layouts("label_studio_answer", "annotations data", judges_one, judgements, _judged),
)  # fmt: skip
