"""promptfoo: results of evaluations (`--output results.json` or `results.jsonl`, `promptfoo export`).

- JSON is one object {evalId, results: {version, timestamp, results, stats}, config}, JSONL a result a line.
- A result has `prompt.raw` (a text, or messages as JSON), `response.output`, `success`, `score` (0 to 1),
  `failureReason` (0 none, 1 an assertion, 2 an error) and `gradingResult` {pass, score, reason, componentResults,
  namedScores}. People's thumbs in its web view are in `componentResults`, of assertion type `human`, and `pass` is
  what they say.
- A test without assertions passes with the reason `No assertions`: that says nothing, as errors do.
- Assertions of type `select-best` and `max-score` compare the outputs of one test (`testIdx`): the one that passes won
  against the others. Kind comparison reads these, from whole files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from tacit.evidence.codes import coded, is_blank, number
from tacit.evidence.exchange import Text, conversation
from tacit.evidence.layout import LayoutError, Row, Rows, each, layout, nested, pair_of

_ERROR = 2
_PASS = {"true": True, "false": False, 1: True, 0: False}
_COMPARING = ("select-best", "max-score")


def is_result(row: Row) -> bool:
    """Whether a row is a result of promptfoo."""
    return isinstance(nested(row["prompt"]), Mapping) and "raw" in nested(row["prompt"])


def is_file(row: Row) -> bool:
    """Whether a row is a whole file of promptfoo."""
    results = nested(row["results"])
    inner = results.get("results") if isinstance(results, Mapping) else None
    return isinstance(inner, list) and all(isinstance(r, Mapping) and "success" in r and "prompt" in r for r in inner)


def outcome(row: Row) -> Rows:
    """A result that was graded, with whether it passed."""
    grade = _grade(row)
    if grade is None:
        return []
    passed = coded(grade.get("pass", row["success"]), _PASS, "gradingResult", "a `pass` of true or false")
    return [] if passed is None else [{**_answered(row), "label": passed}]


def rating(row: Row) -> Rows:
    """A result that was graded, with its score."""
    grade = _grade(row)
    score = None if grade is None else number(grade.get("score", row["score"]), "gradingResult", "a score")
    return [] if score is None else [{**_answered(row), "score": score}]


def comparisons(row: Row) -> Rows:
    """The outputs of one test that an assertion compared: the one that won against each other one."""
    tests: dict[Any, list[tuple[dict[str, Any], bool]]] = {}
    for result in nested(row["results"])["results"]:
        grade = _grade(result)
        components = [] if grade is None else grade.get("componentResults") or ()
        verdicts = [c for c in components if ((c or {}).get("assertion") or {}).get("type") in _COMPARING]
        if verdicts:
            won = coded(verdicts[0].get("pass"), _PASS, "results", "a `pass` of true or false")
            tests.setdefault(result["testIdx"], []).append((_answered(result), bool(won)))
    return [
        _pair(winner, loser)
        for answers in tests.values()
        for winner, won in answers
        if won
        for loser, also_won in answers
        if not also_won
    ]


def _pair(winner: dict[str, Any], loser: dict[str, Any]) -> dict[str, Any]:
    extras = {name: value for name, value in winner.items() if name != "completion"}
    if loser["prompt"] != winner["prompt"]:
        extras["rejected_prompt"] = loser["prompt"]
    return pair_of(extras, winner["completion"], loser["completion"], 1.0)


def _grade(row: Row) -> Mapping[str, Any] | None:
    """How a result was graded; None for errors, and for tests without assertions."""
    grade = nested(row.get("gradingResult"))
    if row.get("failureReason") == _ERROR or not isinstance(grade, Mapping):
        return None
    return None if grade.get("reason") == "No assertions" else grade


def _answered(row: Row) -> dict[str, Any]:
    response = nested(row.get("response"))
    output = response.get("output") if isinstance(response, Mapping) else response
    if is_blank(output):
        raise LayoutError("the result has no output", "Leave results that failed out", "response", value=response)
    provider = nested(row.get("provider"))
    raw = nested(row["prompt"])["raw"]
    prompt: Text = conversation(nested(raw)) or raw
    return {
        "prompt": prompt,
        "completion": output if isinstance(output, str) else json.dumps(output, ensure_ascii=False),
        "provider": provider.get("id") if isinstance(provider, Mapping) else provider,
        "vars": row.get("vars"),
        "test": row.get("testIdx"),
        "gradingResult": row.get("gradingResult"),
    }


def _inside(records: Callable[[Row], Rows]) -> Callable[[Row], Rows]:
    return lambda row: each(nested(row["results"]), "results", records)


_RESULT = "prompt success score gradingResult testIdx"
_USES = "response failureReason provider vars"
LAYOUTS = (
    layout("promptfoo", "outcome", _RESULT, outcome, is_result, uses=_USES),
    layout("promptfoo", "rating", _RESULT, rating, is_result, uses=_USES),
    layout("promptfoo_file", "outcome", "results", _inside(outcome), is_file),
    layout("promptfoo_file", "rating", "results", _inside(rating), is_file),
    layout("promptfoo_file", "comparison", "results", comparisons, is_file),
)
