"""OpenAI's format for preference fine-tuning (DPO): `input` {messages, tools, ...}, `preferred_output` and
`non_preferred_output`, each a list of messages (as a rule one of the assistant).
"""

from __future__ import annotations

from collections.abc import Mapping

from tacit.evidence.layout import Row, Rows, is_messages, layout, nested, without


def is_preference(row: Row) -> bool:
    """Whether the input of a row holds messages."""
    request = nested(row["input"])
    return isinstance(request, Mapping) and is_messages(request.get("messages"))


def comparison(row: Row) -> Rows:
    """The preferred output against the other one."""
    request = nested(row["input"])
    return [
        {
            **without(row, "input", "preferred_output", "non_preferred_output"),
            **without(request, "messages"),
            "prompt": request["messages"],
            "chosen": nested(row["preferred_output"]),
            "rejected": nested(row["non_preferred_output"]),
        }
    ]


LAYOUTS = (
    layout("openai_preference", "comparison", "input preferred_output non_preferred_output", comparison, is_preference),
)
