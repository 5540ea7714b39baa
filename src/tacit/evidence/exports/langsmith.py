"""LangSmith: runs with feedback, and results of experiments.

- A run (API, SDK, bulk export as Parquet, where objects are JSON texts) has `inputs`, `outputs` and `feedback_stats`,
  an object {key: {n, avg, values, comments, ...}}: `avg` is the mean of the numbers, `values` counts the words of
  categorical feedback. Booleans are numbers there. The key `note` holds comments. The API gives pages {runs, cursors}.
- `get_test_results` and CSV files have columns `input.NAME`, `outputs.NAME`, `reference.NAME` and `feedback.KEY`.
- A number 1 may be a thumb or the end of a scale from 0 to 1: numbers are read as ratings, one attribute for each key,
  and with --kind outcome as thumbs where they are 1 or 0. Words that say good or bad are read as outcomes.

Runs that ended with an error and answered nothing give no record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tacit.evidence.codes import is_blank
from tacit.evidence.criteria import Judgement, criteria_layouts
from tacit.evidence.exchange import answer_of, prompt_of
from tacit.evidence.layout import LayoutError, Row, nested, without


def is_run(row: Row) -> bool:
    """Whether a row is a run: inputs are an object, and so are statistics of feedback where there are any."""
    stats = nested(row["feedback_stats"])
    return isinstance(nested(row["inputs"]), Mapping) and (is_blank(stats) or isinstance(stats, Mapping))


def is_page(row: Row) -> bool:
    """Whether a row is a page of the API's runs."""
    runs = nested(row["runs"])
    first = runs[0] if isinstance(runs, list) and runs else None
    return isinstance(first, Mapping) and {"inputs", "outputs", "feedback_stats"} <= first.keys() and is_run(first)


def is_result(row: Row) -> bool:
    """Whether a row is a result of an experiment with its feedback in columns."""
    return (
        any(name.startswith("feedback.") for name in row)
        and any(name.startswith(("input.", "inputs.")) for name in row)
        and any(name.startswith(("outputs.", "output.")) for name in row)
    )


def feedback_of(row: Row) -> list[Judgement]:
    """The feedback of a run by its keys; none of a run that failed and answered nothing."""
    if not is_blank(row.get("error")) and nested(row["outputs"]) in (None, "", {}, []):
        return []
    stats = nested(row["feedback_stats"])
    judgements = []
    for key, entry in stats.items() if isinstance(stats, Mapping) else ():
        if key == "note" or not isinstance(entry, Mapping):
            continue
        words = entry.get("values")
        if not is_blank(entry.get("avg")):
            judgements.append(Judgement(key, entry["avg"], "feedback_stats"))
        elif isinstance(words, Mapping):
            judgements += [
                Judgement(key, word, "feedback_stats") for word, count in words.items() for _ in range(int(count or 0))
            ]
    return judgements


def columns_of(row: Row) -> list[Judgement]:
    """The feedback of a result by its keys."""
    return [
        Judgement(name.removeprefix("feedback."), value, name)
        for name, value in row.items()
        if name.startswith("feedback.") and name != "feedback.note"
    ]


def _run(row: Row) -> dict[str, Any]:
    extras = without(row, "inputs", "outputs", "child_runs", "events", "serialized")
    completion = answer_of(row["outputs"], "outputs", encoded=True)
    return {**extras, "prompt": prompt_of(row["inputs"], "inputs", encoded=True), "completion": completion}


def _result(row: Row) -> dict[str, Any]:
    inputs = _part(row, "input.", "inputs.")
    outputs = {name: value for name, value in _part(row, "outputs.", "output.").items() if not is_blank(value)}
    if not outputs:
        raise LayoutError("the run answered nothing", "Leave runs that failed out", "outputs")
    extras = {name: v for name, v in row.items() if not name.startswith(("input.", "inputs.", "outputs.", "output."))}
    return {**extras, "prompt": prompt_of(inputs, "inputs"), "completion": answer_of(outputs, "outputs", encoded=True)}


def _part(row: Row, *prefixes: str) -> dict[str, Any]:
    part = {}
    for name, value in row.items():
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
        if prefix is not None:
            part[name.removeprefix(prefix)] = nested(value)
    return part


LAYOUTS = (
    *criteria_layouts("langsmith", "inputs outputs feedback_stats", is_run, feedback_of, _run),
    *criteria_layouts("langsmith_page", "runs", is_page, feedback_of, _run, inside="runs"),
    *criteria_layouts("langsmith_results", "", is_result, columns_of, _result),
)
