"""Phoenix (Arize): spans with annotations.

- The command line (`px span list FILE --include-annotations`) writes spans {name, context, span_kind, attributes,
  annotations}; `px trace list` writes traces {traceId, spans, annotations}, where those of the trace judge its root.
- An annotation is {name, annotator_kind: HUMAN, LLM or CODE, result: {label, score, explanation}, user_id}; `label` is
  a word, `score` a number, either may be missing. A label that says good or bad is yes or no, else the score counts.
- Joined tables of spans and annotations (CSV, Parquet) have a row for each annotation, with `annotation_name`,
  `result.label`, `result.score`, `attributes.input.value` and `attributes.output.value`.
- Examples of a dataset have `input`, `output` and `metadata.annotations`, an object {name: [{label, score, ...}]}.
- Attributes are flat (`input.value`) or objects in one another; the value of a call to a model is its request or reply.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tacit.evidence.codes import is_blank
from tacit.evidence.criteria import Judgement, criteria_layouts, meaning
from tacit.evidence.exchange import answer_of, prompt_of
from tacit.evidence.layout import LayoutError, Row, nested, without

_JOINED = "annotation_name annotator_kind attributes.input.value attributes.output.value"


def is_span(row: Row) -> bool:
    """Whether a row is a span of Phoenix."""
    context, attributes = nested(row["context"]), nested(row["attributes"])
    return isinstance(context, Mapping) and "span_id" in context and isinstance(attributes, Mapping)


def is_trace(row: Row) -> bool:
    """Whether a row is a trace of the command line."""
    spans = nested(row["spans"])
    first = spans[0] if isinstance(spans, list) and spans else None
    return isinstance(first, Mapping) and {"context", "attributes", "span_kind"} <= first.keys() and is_span(first)


def is_example(row: Row) -> bool:
    """Whether a row is an example of a dataset made of annotated spans."""
    metadata = nested(row["metadata"])
    return isinstance(metadata, Mapping) and isinstance(metadata.get("annotations"), Mapping)


def judgement_of(name: Any, result: Mapping[str, Any], by: Any, column: str) -> Judgement:
    """What an annotation says: its label where that says good or bad, else its score, else its label.

    Raises `LayoutError` where label and score say the opposite.
    """
    label, score = meaning(result.get("label")), meaning(result.get("score"))
    if isinstance(label, bool) and score in (0.0, 1.0) and label != (score == 1.0):
        raise LayoutError(
            f"label and score of annotation `{name}` disagree ({result.get('label')}, {score:g})",
            "Give it a name or a label that says which is good, or leave one of them out",
            column,
            value=result.get("label"),
        )
    value = label if isinstance(label, bool) else score if score is not None else result.get("label")
    return Judgement(str(name), value, column, by)


def annotations_of(row: Row) -> list[Judgement]:
    """The annotations of a span or a trace; notes say nothing."""
    return [
        judgement_of(entry["name"], entry.get("result") or {}, entry.get("user_id"), "annotations")
        for entry in nested(row.get("annotations")) or ()
        if entry.get("name") != "note"
    ]


def of_example(row: Row) -> list[Judgement]:
    """The annotations that an example of a dataset came with."""
    return [
        judgement_of(name, entry, entry.get("user_id") or entry.get("username"), "metadata")
        for name, entries in nested(row["metadata"])["annotations"].items()
        for entry in (entries if isinstance(entries, list) else [entries])
        if isinstance(entry, Mapping) and name != "note"
    ]


def of_joined(row: Row) -> list[Judgement]:
    """The annotation of a row of a joined table."""
    result = {"label": row.get("result.label"), "score": row.get("result.score")}
    return [judgement_of(row["annotation_name"], result, row.get("user_id"), "result.score")]


def _span(row: Row) -> dict[str, Any]:
    return {**without(row, "attributes", "events"), **_exchange(nested(row["attributes"]), "attributes")}


def _example(row: Row) -> dict[str, Any]:
    return {
        **without(row, "input", "output"),
        "prompt": prompt_of(row["input"], "input", encoded=True),
        "completion": answer_of(row["output"], "output", encoded=True),
    }


def _joined(row: Row) -> dict[str, Any]:
    extras = {name: value for name, value in row.items() if not name.startswith("attributes.") and not is_blank(value)}
    attributes = {name.removeprefix("attributes."): value for name, value in row.items() if name not in extras}
    return {**extras, **_exchange(attributes, "attributes.output.value")}


def _exchange(attributes: Mapping[str, Any], column: str) -> dict[str, Any]:
    """The prompt and the completion of a span; values of the type application/json are JSON texts."""
    values, encoded = {}, {}
    for side in ("input", "output"):
        part = attributes.get(side)
        inner = part if isinstance(part, Mapping) else {}
        values[side] = attributes.get(f"{side}.value", inner.get("value"))
        encoded[side] = str(attributes.get(f"{side}.mime_type", inner.get("mime_type"))).lower().endswith("json")
    return {
        "prompt": prompt_of(values["input"], column, encoded=encoded["input"]),
        "completion": answer_of(values["output"], column, encoded=encoded["output"]),
    }


def _spans(row: Row) -> list[dict[str, Any]]:
    """The spans of a trace; annotations of the trace stand with its root."""
    spans = [dict(span) for span in nested(row["spans"])]
    root = next((span for span in spans if not span.get("parent_id")), spans[0])
    root["annotations"] = [*(root.get("annotations") or ()), *(nested(row.get("annotations")) or ())]
    return spans


LAYOUTS = (
    *criteria_layouts("phoenix", "context span_kind attributes", is_span, annotations_of, _span, uses="annotations"),
    *criteria_layouts(
        "phoenix_trace", "traceId spans", is_trace, annotations_of, _span, unpack=_spans, uses="annotations"
    ),
    *criteria_layouts(
        "phoenix_table", _JOINED, lambda row: True, of_joined, _joined, uses="result.label result.score user_id"
    ),
    *criteria_layouts("phoenix_dataset", "input output metadata", is_example, of_example, _example),
)
