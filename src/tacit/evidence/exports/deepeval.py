"""DeepEval: test runs (`results_folder`, `.deepeval/.latest_run_full.json`) and results of `evaluate` as dictionaries.

- A test run is one object with `testCases`, each {name, input, actualOutput, expectedOutput, success, metricsData},
  and `conversationalTestCases` with `turns` of {role, content}; results of `evaluate` are {test_results} with the same
  names in snake case.
- `success` says whether every metric passed. `metricsData` is a list of {name, score (0 to 1), threshold, success,
  reason, error}; a metric with an `error` did not judge. The scores of Bias, Toxicity and Hallucination are better
  where they are low, so that these are no attributes of a rating.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tacit.evidence.codes import coded, is_blank, number
from tacit.evidence.exchange import conversation
from tacit.evidence.layout import LayoutError, Row, Rows, each, layout, nested, without

_LOW = ("bias", "toxicity", "hallucination")
_CASES = ("testCases", "conversationalTestCases", "test_results")
_INPUT, _OUTPUT, _METRICS = ("input",), ("actualOutput", "actual_output"), ("metricsData", "metrics_data")


def is_case(row: Row) -> bool:
    """Whether a row is a test case of DeepEval."""
    metrics = _of(row, _METRICS)
    return any(name in row for name in _METRICS) and (metrics is None or isinstance(nested(metrics), list))


def outcome(row: Row) -> Rows:
    """A test case that was measured, with whether it passed."""
    passed = coded(row["success"], {"true": True, "false": False}, "success", "true or false")
    return [] if passed is None or not _measured(row) else [{**_answered(row), "label": passed}]


def rating(row: Row) -> Rows:
    """A test case with one attribute a metric."""
    scores = {
        str(metric["name"]): number(metric["score"], _column(row), "a score")
        for metric in _measured(row)
        if not is_blank(metric.get("score")) and not str(metric["name"]).lower().startswith(_LOW)
    }
    return [{**_answered(row), "score": scores}] if scores else []


def _measured(row: Row) -> list[Mapping[str, Any]]:
    return [metric for metric in nested(_of(row, _METRICS)) or () if is_blank(metric.get("error"))]


def _answered(row: Row) -> dict[str, Any]:
    extras = without(row, *_INPUT, *_OUTPUT, "turns", "trace")
    turns = conversation(nested(row.get("turns")))
    if turns:
        first_answer = next((i for i, turn in enumerate(turns) if turn["role"] != "user"), len(turns))
        return {**extras, "prompt": turns[:first_answer], "completion": turns[first_answer:]}
    prompt, completion = _of(row, _INPUT), _of(row, _OUTPUT)
    if is_blank(prompt) or completion is None:
        raise LayoutError("the test case has no answer", "Leave it out", "actualOutput", value=row.get("name"))
    return {**extras, "prompt": prompt, "completion": completion}


def _of(row: Row, names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _column(row: Row) -> str:
    return next(name for name in _METRICS if name in row)


def is_run(row: Row) -> bool:
    """Whether a row is a whole run of DeepEval."""
    lists = [nested(row[column]) for column in _CASES if row.get(column)]
    cases = [case for cases in lists if isinstance(cases, list) for case in cases]
    return bool(cases) and all(isinstance(case, Mapping) and {"name", "success"} <= case.keys() for case in cases)


def _run(records: Callable[[Row], Rows]) -> Callable[[Row], Rows]:
    return lambda row: [record for column in _CASES if row.get(column) for record in each(row, column, records)]


_USES = "input actualOutput actual_output metricsData metrics_data turns"
LAYOUTS = (
    layout("deepeval", "outcome", "name success", outcome, is_case, uses=_USES),
    layout("deepeval", "rating", "name success", rating, is_case, uses=_USES),
    layout("deepeval_run", "outcome", "", _run(outcome), is_run, uses=" ".join(_CASES)),
    layout("deepeval_run", "rating", "", _run(rating), is_run, uses=" ".join(_CASES)),
)
