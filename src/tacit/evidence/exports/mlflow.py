"""MLflow: traces with assessments, as `Trace.to_json`, `mlflow traces search --output json` ({traces,
next_page_token}) and the table of `search_traces` write them.

- A trace is {info, data}: `info.assessments` is a list of {assessment_name, source {source_type: HUMAN, LLM_JUDGE or
  CODE, source_id}, feedback {value, error}, valid}. An assessment with `expectation` or `issue` in place of `feedback`
  judges no answer; `valid` false was overridden by a later one; one with the `span_id` of an inner step judges that.
- `feedback.value` is true or false, a number, a word (built-in judges say `yes` where it is good), a list or an object.
- The question and the answer are the attributes `mlflow.spanInputs` and `mlflow.spanOutputs` (JSON texts) of the span
  without a parent; `request_preview` and `response_preview` may be cut and are not read.
- The table has a column `trace` with the whole as a JSON text.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from tacit.evidence.criteria import Judgement, criteria_layouts
from tacit.evidence.exchange import answer_of, prompt_of
from tacit.evidence.layout import LayoutError, Row, nested


def is_trace(row: Row) -> bool:
    """Whether a row is a trace of MLflow."""
    info, data = nested(row["info"]), nested(row["data"])
    named = isinstance(info, Mapping) and bool({"trace_id", "request_id"} & info.keys())
    return named and isinstance(data, Mapping) and "spans" in data


def is_page(row: Row) -> bool:
    """Whether a row is what the command line prints of a search."""
    traces = nested(row["traces"])
    first = traces[0] if isinstance(traces, list) and traces else None
    return isinstance(first, Mapping) and {"info", "data"} <= first.keys() and is_trace(first)


def is_row(row: Row) -> bool:
    """Whether a row is one of the table of `search_traces`."""
    trace = nested(row["trace"])
    return isinstance(trace, Mapping) and {"info", "data"} <= trace.keys() and is_trace(trace)


def assessments_of(row: Row) -> list[Judgement]:
    """The feedback on a trace's answer."""
    root = _root(row)
    judgements = []
    for entry in nested(row["info"]).get("assessments") or ():
        feedback = entry.get("feedback")
        inner = entry.get("span_id") and root is not None and entry["span_id"] not in _ids(root)
        if isinstance(feedback, Mapping) and entry.get("valid", True) is not False and not inner:
            source = entry.get("source")
            by = source.get("source_id") if isinstance(source, Mapping) else None
            name = str(entry.get("assessment_name", "feedback"))
            judgements.append(Judgement(name, feedback.get("value"), "info", by))
    return judgements


def _trace(row: Row) -> dict[str, Any]:
    root, info = _root(row), nested(row["info"])
    if root is None:
        raise LayoutError("the trace has no spans", "Export it with its spans", "data")
    attributes = root.get("attributes") or {}
    return {
        "trace_id": info.get("trace_id", info.get("request_id")),
        "tags": info.get("tags"),
        "assessments": info.get("assessments"),
        "prompt": prompt_of(attributes.get("mlflow.spanInputs"), "data", encoded=True),
        "completion": answer_of(attributes.get("mlflow.spanOutputs"), "data", encoded=True),
    }


def _root(row: Row) -> Mapping[str, Any] | None:
    spans = nested(row["data"]).get("spans") or ()
    return next((span for span in spans if not span.get("parent_span_id") and not span.get("parent_id")), None)


def _ids(span: Mapping[str, Any]) -> tuple[str, ...]:
    """The id of a span as it is written in traces (base64) and in assessments (hexadecimal)."""
    name = str(span.get("span_id") or "")
    try:
        return name, base64.b64decode(name, validate=True).hex()
    except (binascii.Error, ValueError):
        return (name,)


LAYOUTS = (
    *criteria_layouts("mlflow", "info data", is_trace, assessments_of, _trace),
    *criteria_layouts("mlflow_page", "traces", is_page, assessments_of, _trace, inside="traces"),
    *criteria_layouts(
        "mlflow_table", "trace", is_row, assessments_of, _trace, unpack=lambda row: [nested(row["trace"])]
    ),
)
