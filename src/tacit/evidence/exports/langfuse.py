"""Langfuse: traces and observations with scores, from its API and SDKs, and from the export of its tables.

- The API gives a trace with `input`, `output` and `scores`, a list of {name, value, stringValue, dataType, source,
  authorUserId, comment}, also in pages as {data, meta}. `dataType` is BOOLEAN (value 1 or 0), NUMERIC, CATEGORICAL
  (`stringValue`), TEXT or CORRECTION (which judge nothing). A score of one observation names it in `observationId`.
- The tables (CSV, JSON, JSONL) have a column for every name of a score in the project, with the list of its values or
  nothing: numbers of NUMERIC and of BOOLEAN alike, words of CATEGORICAL. Other columns are always the same ones.
- User feedback is a score that the program sends, named `user-feedback` in its guides: a thumb is 1 or 0, as a number
  unless a type is given, so that a number 1 alone may as well be one star of five. BOOLEAN and words are read as
  outcomes; numbers as ratings, and with --kind outcome as thumbs where they are 1 or 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tacit.evidence.codes import coded
from tacit.evidence.criteria import Judgement, criteria_layouts
from tacit.evidence.exchange import answer_of, prompt_of
from tacit.evidence.layout import Row, nested, without

_COLUMNS = (
    "id timestamp name userId sessionId release version environment tags bookmarked public input output metadata "
    "latency usage inputCost outputCost totalCost level errorCount warningCount defaultCount debugCount "
    "observationCount inputTokens outputTokens totalTokens comments scores traceId projectId traceName traceTags "
    "traceTimestamp type startTime endTime createdAt updatedAt model modelId internalModelId providedModelName "
    "modelParameters completionStartTime statusMessage parentObservationId promptId promptName promptVersion "
    "usageDetails costDetails providedUsageDetails providedCostDetails usagePricingTierId usagePricingTierName "
    "toolDefinitions toolCalls toolCallNames latencyMs timeToFirstToken timeToFirstTokenMs inputPrice outputPrice "
    "totalPrice inputUsage outputUsage totalUsage promptTokens completionTokens calculatedInputCost "
    "calculatedOutputCost calculatedTotalCost unit externalId traceUserId observations htmlPath traceUserProps "
    "cacheHit"
)
_TABLE = frozenset(_COLUMNS.split())
_SAYS = {"NUMERIC": "value", "BOOLEAN": "value", "CATEGORICAL": "stringValue"}
_TYPES = {name: name for name in (*_SAYS, "TEXT", "CORRECTION")}


def is_trace(row: Row) -> bool:
    """Whether a row has a list of scores as the API writes them (or an empty one beside a trace's own columns)."""
    scores = nested(row["scores"])
    if not isinstance(scores, list):
        return False
    typed = all(isinstance(score, Mapping) and {"name", "value"} <= score.keys() for score in scores)
    return typed and (bool(scores) or bool({"sessionId", "traceId", "htmlPath"} & row.keys()))


def is_table(row: Row) -> bool:
    """Whether a row is one of the tables of traces or observations."""
    return {"bookmarked", "public", "sessionId"} <= row.keys() or {"traceId", "parentObservationId"} <= row.keys()


def is_page(row: Row) -> bool:
    """Whether a row is a page of the API's traces."""
    data = nested(row["data"])
    if not isinstance(data, list) or not data or not isinstance(data[0], Mapping):
        return False
    first = data[0]
    return {"input", "output", "scores"} <= first.keys() and is_trace(first)


def scores_of(row: Row) -> list[Judgement]:
    """The scores of a trace; those of its observations stay with them."""
    judgements = []
    for score in nested(row["scores"]):
        if score.get("observationId") and score["observationId"] != row.get("id"):
            continue
        kind = coded(score.get("dataType"), _TYPES, "scores", f"a `dataType` of {', '.join(_TYPES)}") or "NUMERIC"
        value = score.get(_SAYS[kind]) if kind in _SAYS else None
        if kind == "BOOLEAN":
            value = coded(value, {1: True, 0: False, "true": True, "false": False}, "scores", "1 or 0")
        judgements.append(Judgement(str(score["name"]), value, "scores", score.get("authorUserId")))
    return judgements


def columns_of(row: Row) -> list[Judgement]:
    """The scores of a row of a table: every list in a column that is not one of the table's own."""
    values = {name: nested(value) for name, value in row.items() if name not in _TABLE}
    return [Judgement(name, value, name) for name, value in values.items() if isinstance(value, list)]


def _trace(row: Row) -> dict[str, Any]:
    extras = without(row, "input", "output", "observations")
    return {**extras, "prompt": prompt_of(row["input"], "input"), "completion": answer_of(row["output"], "output")}


def _row(row: Row) -> dict[str, Any]:
    extras = {name: value for name, value in row.items() if name not in ("input", "output") and name in _TABLE}
    return {
        **extras,
        "scores": {name: value for name, value in row.items() if name not in _TABLE},
        "prompt": prompt_of(row["input"], "input", encoded=True),
        "completion": answer_of(row["output"], "output", encoded=True),
    }


LAYOUTS = (
    *criteria_layouts("langfuse", "input output scores", is_trace, scores_of, _trace),
    *criteria_layouts("langfuse_page", "data meta", is_page, scores_of, _trace, inside="data"),
    *criteria_layouts("langfuse_table", "input output", is_table, columns_of, _row),
)
