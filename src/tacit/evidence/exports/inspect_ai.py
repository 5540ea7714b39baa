"""Inspect (inspect_ai): evaluation logs as JSON (`inspect log dump`, `inspect log convert --to json`).

- A log is one object {version, status, eval, results, samples}; a sample has `input`, `messages` (the conversation with
  the answer at its end), `output`, `target` and `scores`, an object {scorer: {value, answer, explanation}}.
- `value` is C (correct), I (incorrect), P (partial credit, 0.5) or N (no answer, which its metrics count as incorrect),
  true or false, a number, or an object or list of these. NaN says that a scorer could not score.
- Texts of messages may stand in `attachments`, named as `attachment://ID`.

Files that end in .eval are archives: dump them first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tacit.evidence.criteria import Judgement, criteria_layouts
from tacit.evidence.exchange import answer_messages, conversation
from tacit.evidence.layout import LayoutError, Row, nested

_LETTERS = {"C": True, "I": False, "P": 0.5, "N": False}


def is_log(row: Row) -> bool:
    """Whether a row is a whole log."""
    return isinstance(nested(row["eval"]), Mapping) and "task" in nested(row["eval"])


def is_sample(row: Row) -> bool:
    """Whether a row is a sample of a log."""
    scores = nested(row["scores"])
    return scores is None or (isinstance(scores, Mapping) and all(isinstance(s, Mapping) for s in scores.values()))


def scores_of(sample: Row) -> list[Judgement]:
    """The scores of a sample by their scorers."""
    scores = nested(sample.get("scores"))
    return [
        Judgement(scorer, _value(score.get("value")), "scores", verdict=True)
        for scorer, score in (scores.items() if isinstance(scores, Mapping) else ())
    ]


def _value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _value(item) for key, item in value.items()}
    if isinstance(value, list):
        return {str(position): _value(item) for position, item in enumerate(value)}
    return _LETTERS.get(value, value) if isinstance(value, str) else value


def _sample(sample: Row) -> dict[str, Any]:
    messages = conversation(_attached(nested(sample.get("messages")), sample.get("attachments")))
    if messages is None or messages[-1]["role"] == "user":
        output, question = nested(sample.get("output")), nested(sample.get("input"))
        completion: Any = output.get("completion") if isinstance(output, Mapping) else None
        prompt: Any = _attached(
            question if isinstance(question, str) else conversation(question), sample.get("attachments")
        )
    else:
        completion = answer_messages(messages)
        last_user = max((i for i, message in enumerate(messages) if message["role"] == "user"), default=-1)
        prompt = messages[: last_user + 1]
    if not prompt or completion is None:
        raise LayoutError(
            "the sample has no answer", "Leave samples that failed out", "samples", value=sample.get("id")
        )
    return {
        "prompt": prompt,
        "completion": _attached(completion, sample.get("attachments")),
        "sample_id": sample.get("id"),
        "epoch": sample.get("epoch"),
        "target": sample.get("target"),
        "scores": sample.get("scores"),
    }


def _attached(value: Any, attachments: Any) -> Any:
    """A value with the texts that stand in the sample's attachments."""
    if not isinstance(attachments, Mapping) or not attachments:
        return value
    if isinstance(value, str) and value.startswith("attachment://"):
        return attachments.get(value.removeprefix("attachment://"), value)
    if isinstance(value, list):
        return [_attached(item, attachments) for item in value]
    if isinstance(value, Mapping):
        return {key: _attached(item, attachments) for key, item in value.items()}
    return value


LAYOUTS = (
    *criteria_layouts("inspect_log", "version status eval samples", is_log, scores_of, _sample, inside="samples"),
    *criteria_layouts("inspect_sample", "id epoch input target scores output", is_sample, scores_of, _sample),
)
