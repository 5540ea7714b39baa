"""ShareGPT's conversations, and LLaMA-Factory's data of both of its formats.

- `conversations` is a list of {from, value} (human, gpt, system, function_call, observation) or of {role, content},
  with `system` and `tools` beside it. With `chosen` and `rejected`, one message each, it is the prompt of a
  comparison; with `kto_tag` (true or false) its last message is judged; alone, the last message is a demonstration.
- In the format of Alpaca, `instruction`, `input`, `system` and `history` (a list of [question, answer]) are the
  prompt, with `chosen` and `rejected`, with `output` and `kto_tag`, or with `output` alone. Rows without `history` and
  `kto_tag` are read as the general layouts read them.
"""

from __future__ import annotations

from typing import Any

from tacit.evidence.codes import coded, is_blank, joined
from tacit.evidence.exchange import Text, conversation
from tacit.evidence.layout import LayoutError, Row, Rows, is_messages, layout, nested, without

_TAGS = {"true": True, "false": False, 1: True, 0: False}


def is_sharegpt(row: Row) -> bool:
    """Whether `conversations` holds messages."""
    return conversation(nested(row["conversations"])) is not None


def previous_messages(row: Row) -> list[dict[str, Any]]:
    """The messages of `system` and of `history`, a list of [question, answer]."""
    turns = nested(row.get("history")) or ()
    if not all(isinstance(turn, list | tuple) and len(turn) == 2 for turn in turns):
        reason = "`history` is not a list of [question, answer]"
        raise LayoutError(reason, "Give each turn as a pair of texts", "history", value=turns)
    system = [] if is_blank(row.get("system")) else [{"role": "system", "content": row["system"]}]
    turns_before = [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
    return [*system, *turns_before]


def preference(row: Row) -> Rows:
    """A conversation with its better and its worse next message."""
    extras = without(row, "conversations", "system", "chosen", "rejected")
    return [{**extras, "prompt": _messages(row), "chosen": _reply(row, "chosen"), "rejected": _reply(row, "rejected")}]


def tagged(row: Row) -> Rows:
    """A conversation whose last message is tagged as good or bad; none without a tag."""
    label = coded(row["kto_tag"], _TAGS, "kto_tag", "true or false")
    if label is None:
        return []
    return [{**without(row, "conversations", "messages", "system", "kto_tag"), **_last(row), "label": label}]


def demonstration(row: Row) -> Rows:
    """A conversation whose last message is good."""
    return [{**without(row, "conversations", "system"), **_last(row)}]


def alpaca_preference(row: Row) -> Rows:
    """An instruction after other turns, with its better and its worse answer."""
    return [{**without(row, "instruction", "input", "system", "history"), "prompt": _instruction(row)}]


def alpaca_tagged(row: Row) -> Rows:
    """An instruction and an answer that is tagged as good or bad; none without a tag."""
    label = coded(row["kto_tag"], _TAGS, "kto_tag", "true or false")
    if label is None:
        return []
    extras = without(row, "instruction", "input", "system", "history", "output", "kto_tag")
    return [{**extras, "prompt": _instruction(row), "completion": row["output"], "label": label}]


def alpaca(row: Row) -> Rows:
    """An instruction after other turns, with its answer."""
    extras = without(row, "instruction", "input", "system", "history", "output")
    return [{**extras, "prompt": _instruction(row), "completion": row["output"]}]


def _messages(row: Row) -> list[dict[str, Any]]:
    column = "conversations" if "conversations" in row else "messages"
    messages = conversation(nested(row[column]))
    if not messages:
        raise LayoutError(f"`{column}` is no conversation", "Give {from, value} messages", column, value=row[column])
    return [*previous_messages({"system": row.get("system")}), *messages]


def _last(row: Row) -> dict[str, Any]:
    messages = _messages(row)
    if len(messages) < 2 or messages[-1]["role"] != "assistant":
        raise LayoutError(
            "the conversation does not end with an answer", "End it with a message from gpt", "conversations"
        )
    return {"prompt": messages[:-1], "completion": messages[-1:]}


def _reply(row: Row, column: str) -> Text:
    value = nested(row[column])
    if isinstance(value, str):
        return [{"role": "assistant", "content": value}]
    messages = conversation(value)
    if not messages:
        raise LayoutError("not a message", "Give {from, value}", column, value=value)
    return messages


def _instruction(row: Row) -> Text:
    previous = previous_messages(row)
    instruction = joined(row["instruction"], row.get("input"))
    return [*previous, {"role": "user", "content": instruction}] if previous else instruction


def _has_turns(row: Row) -> bool:
    """Whether `history` holds turns, or nothing."""
    turns = nested(row["history"])
    return isinstance(turns, list) or is_blank(turns)


def _has_messages(row: Row) -> bool:
    return is_messages(nested(row["messages"]))


LAYOUTS = (
    layout("sharegpt_preference", "comparison", "conversations chosen rejected", preference, is_sharegpt,
           uses="system"),
    layout("sharegpt_kto", "outcome", "conversations kto_tag", tagged, is_sharegpt, uses="system"),
    layout("sharegpt", "demonstration", "conversations", demonstration, is_sharegpt, uses="system"),
    layout("llama_factory_messages", "outcome", "messages kto_tag", tagged, _has_messages, uses="system"),
    layout("llama_factory_preference", "comparison", "instruction history chosen rejected", alpaca_preference,
           _has_turns, uses="input system"),
    layout("llama_factory_kto", "outcome", "instruction output kto_tag", alpaca_tagged, uses="input system history"),
    layout("llama_factory", "demonstration", "instruction history output", alpaca, _has_turns, uses="input system"),
)  # fmt: skip
