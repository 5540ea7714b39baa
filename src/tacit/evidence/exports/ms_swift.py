"""ms-swift's preference data: `messages`, whose last one is the chosen answer, with `rejected_response` (a text) or
`rejected_messages` (the whole conversation with the other answer); in older versions `query`, `response`,
`rejected_response`, `system` and `history` (a list of [question, answer]).
"""

from __future__ import annotations

from typing import Any

from tacit.conversation import split_shared_prompt
from tacit.evidence.exchange import conversation
from tacit.evidence.exports.sharegpt import previous_messages
from tacit.evidence.layout import LayoutError, Row, Rows, is_messages, layout, nested, without


def rejected_response(row: Row) -> Rows:
    """The last message against the rejected response; the same message may stand in a list."""
    messages = conversation(nested(row["messages"])) or []
    if len(messages) < 2 or messages[-1]["role"] != "assistant":
        reason = "`messages` does not end with the answer of the assistant that was chosen"
        raise LayoutError(reason, "End it with the chosen answer", "messages", value=row["messages"])
    extras = without(row, "messages", "rejected_response")
    rejected = _response(row["rejected_response"])
    return [{**extras, "prompt": messages[:-1], "chosen": messages[-1:], "rejected": rejected}]


def rejected_messages(row: Row) -> Rows:
    """Two whole conversations that begin alike."""
    split = split_shared_prompt(nested(row["messages"]), nested(row["rejected_messages"]))
    if split is None:
        reason = "`messages` and `rejected_messages` do not begin with the same message"
        raise LayoutError(reason, "Give both the same first messages", "rejected_messages")
    prompt, chosen, rejected = split
    extras = without(row, "messages", "rejected_messages")
    return [{**extras, "prompt": prompt, "chosen": chosen, "rejected": rejected}]


def query(row: Row) -> Rows:
    """The older columns."""
    extras = without(row, "query", "response", "rejected_response", "system", "history")
    prompt: Any = [*previous_messages(row), {"role": "user", "content": row["query"]}]
    rejected = _response(row["rejected_response"])
    chosen = [{"role": "assistant", "content": row["response"]}]
    return [{**extras, "prompt": prompt, "chosen": chosen, "rejected": rejected}]


def _response(value: Any) -> list[dict[str, Any]]:
    value = nested(value)
    value = value[0] if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str) else value
    if isinstance(value, str):
        return [{"role": "assistant", "content": value}]
    messages = conversation(value)
    if not messages:
        raise LayoutError("the rejected response is no text", "Give one text", "rejected_response", value=value)
    return messages


def _has_messages(row: Row) -> bool:
    return is_messages(nested(row["messages"]))


LAYOUTS = (
    layout("ms_swift", "comparison", "messages rejected_response", rejected_response, _has_messages),
    layout("ms_swift_messages", "comparison", "messages rejected_messages", rejected_messages, _has_messages),
    layout("ms_swift_query", "comparison", "query response rejected_response", query, uses="system history"),
)
