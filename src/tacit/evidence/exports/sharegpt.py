"""LLaMA-Factory's preference data in the format of ShareGPT: `conversations`, the prompt, a list of {from, value} or of
{role, content}, with `chosen` and `rejected`, one message each, and with `system` and `tools` beside them.

Its other formats (`conversations` alone or with `kto_tag`; `instruction`, `input`, `system`, `history`) are read by the
general layouts.
"""

from __future__ import annotations

from typing import Any

from tacit.evidence.codes import is_blank
from tacit.evidence.exchange import conversation
from tacit.evidence.layout import LayoutError, Row, Rows, layout, nested, without


def is_preference(row: Row) -> bool:
    """Whether the prompt is a conversation, and each side less than one that repeats it."""
    prompt = conversation(nested(row["conversations"]))
    sides = [conversation(nested(row[side])) for side in ("chosen", "rejected")]
    repeated = all(side is not None and prompt is not None and side[: len(prompt)] == prompt for side in sides)
    return prompt is not None and not repeated


def preference(row: Row) -> Rows:
    """The better and the worse next message of a conversation."""
    extras = without(row, "conversations", "system", "chosen", "rejected")
    prompt = conversation(nested(row["conversations"]))
    if prompt is None:
        reason = "`conversations` is not a list of messages"
        raise LayoutError(reason, "Give {from, value}", "conversations", value=row["conversations"])
    system = [] if is_blank(row.get("system")) else [{"role": "system", "content": str(row["system"])}]
    sides = {side: _reply(row, side) for side in ("chosen", "rejected")}
    return [{**extras, "prompt": [*system, *prompt], **sides}]


def _reply(row: Row, column: str) -> list[dict[str, Any]]:
    value = nested(row[column])
    if isinstance(value, str) and not is_blank(value):
        return [{"role": "assistant", "content": value}]
    messages = conversation(value)
    if not messages:
        raise LayoutError("it must be a message", "Give {from, value}", column, value=value)
    return messages


LAYOUTS = (
    layout(
        "sharegpt_preference", "comparison", "conversations chosen rejected", preference, is_preference, uses="system"
    ),
)
