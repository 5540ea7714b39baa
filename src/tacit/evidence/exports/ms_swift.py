"""ms-swift's preference data: `messages`, whose last one is the chosen answer, with `rejected_messages`, the whole
conversation with the other answer. With `rejected_response` in its place it is read by the general layouts.
"""

from __future__ import annotations

from tacit.conversation import split_shared_prompt
from tacit.evidence.layout import LayoutError, Row, Rows, is_messages, layout, nested, without


def are_conversations(row: Row) -> bool:
    """Whether both columns hold messages."""
    return is_messages(nested(row["messages"])) and is_messages(nested(row["rejected_messages"]))


def rejected_messages(row: Row) -> Rows:
    """Two whole conversations that begin alike."""
    sides = split_shared_prompt(nested(row["messages"]), nested(row["rejected_messages"]))
    if sides is None:
        reason = "`messages` and `rejected_messages` do not begin with the same message"
        raise LayoutError(reason, "Give both the same first messages", "rejected_messages")
    prompt, chosen, rejected = sides
    extras = without(row, "messages", "rejected_messages")
    return [{**extras, "prompt": prompt, "chosen": chosen, "rejected": rejected}]


LAYOUTS = (layout("ms_swift", "comparison", "messages rejected_messages", rejected_messages, are_conversations),)
