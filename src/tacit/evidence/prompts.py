"""Which columns of a row are its prompt, and the prompt that they make together; prompts that answers repeat.

Every layout that has no columns of its own for it takes its prompt from here, so that no text which a person or a model
saw is lost: `system` becomes a message before the rest, `input`, `context` and their like follow the main text after a
blank line, and `history` holds the turns before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tacit.conversation import completion_text, message_text, parse_transcript, prompt_text
from tacit.evidence.codes import is_blank
from tacit.evidence.layout import LayoutError, Row, is_messages, without
from tacit.evidence.names import canonical, hints_at_judgement, is_about, is_named

MAIN = (
    *("prompt", "instruction", "question", "query", "problem", "user_prompt", "user_message", "user_input", "input"),
    *("prompt_text", "user_query", "user_question"),
    "context",
)
"""Columns that can be the prompt by themselves, in the order in which they are looked for and joined."""
BESIDE = ("passage", "passages", "document", "documents", "contexts")
"""Columns that are part of a prompt beside one of `MAIN`."""
SYSTEM = ("system", "system_prompt", "system_message")
HISTORY = ("history",)
CONVERSATIONS = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat")
"""Columns that hold a whole conversation as a list of messages."""
PROMPT_COLUMNS = (*MAIN, *BESIDE, *SYSTEM, *HISTORY)
_SPEAKERS = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "chatgpt": "assistant"}
_SEPARATOR = "\n\n"
_NEAR = {"prompt", "question", "instruction", "query"}
_CLEAR = 8
"""Characters of a prompt below which an answer that begins with it may do so by chance."""


def prompt_columns(names: Sequence[str]) -> dict[str, str]:
    """The columns of a prompt among these: ours to theirs, in the order in which they are joined.

    Where none has such a name, the only one with such a word in its name is the prompt (`Prompt shown`).
    """
    plain = {canonical(name): name for name in reversed(names)}
    columns = {ours: plain[ours] for ours in PROMPT_COLUMNS if ours in plain}
    if columns.keys().isdisjoint(MAIN):
        texts = [name for name in names if not (is_about(name) or is_named(name) or hints_at_judgement(name))]
        near = [name for name in texts if not _NEAR.isdisjoint(canonical(name).split("_"))]
        columns |= {"prompt": near[0]} if len(near) == 1 else {}
    return columns


def compose(row: Row, columns: Mapping[str, str]) -> Any:
    """The prompt of a row: a text, or messages where there is a system text or a history; "" where it has none.

    A text that an earlier column holds already is not said twice, nor one that a later column begins or ends with.
    Raises `LayoutError` for values that are neither texts, lists of texts nor messages, for messages in two columns
    that differ, and for a conversation in place of a prompt that ends with an answer.
    """
    texts: list[str] = []
    messages: list[Any] = []
    for ours, theirs in columns.items():
        value = row.get(theirs)
        if ours in SYSTEM or ours in HISTORY or _says_nothing(value):
            continue
        listed = as_messages(value)
        if listed is not None:
            messages = _one_of(messages, listed, theirs, whole=ours in CONVERSATIONS)
            continue
        text = _as_text(value, theirs)
        if not any(_within(text, other) for other in texts):
            texts = [*(other for other in texts if not _at_an_end(other, text)), text]
    seen = prompt_text(messages) if messages else ""
    main = next((theirs for ours, theirs in columns.items() if ours in MAIN), None)
    if not texts and not messages and main is not None and _is_missing(row.get(main)):
        raise LayoutError("the prompt is missing", "Give a text or a list of {role, content} messages", main)
    last = message_text(messages[-1]) if messages else ""
    text = _SEPARATOR.join(text for text in texts if text.strip() != last.strip() and not _within(text, seen))
    if messages and text:
        messages = [*messages[:-1], {**messages[-1], "content": f"{message_text(messages[-1])}\n\n{text}"}]
    system = next((row[columns[o]] for o in SYSTEM if o in columns and not _says_nothing(row.get(columns[o]))), None)
    before = _turns(row.get(columns["history"]), columns["history"]) if "history" in columns else []
    if not messages and (system or before):
        messages = [{"role": "user", "content": text}] if text else []
    if isinstance(before, str):
        before = [{"role": "user", "content": before}]
    messages = [*before, *messages]
    if system and not any(m.get("role") == "system" and _within(_as_text(system), message_text(m)) for m in messages):
        messages = [{"role": "system", "content": _as_text(system)}, *messages]
    if messages:
        return messages
    return text


def with_prompt(row: Row) -> dict[str, Any]:
    """The row with its prompt in one column `prompt`, in place of the columns that make it."""
    columns = prompt_columns(list(row))
    return {**without(row, *columns.values()), "prompt": compose(row, columns)} if columns else dict(row)


def as_messages(value: Any) -> list[dict[str, Any]] | None:
    """A list of messages as {role, content}, also where it is written {from, value} (ShareGPT); None for the rest."""
    if isinstance(value, Mapping) and ("role" in value or "from" in value):
        value = [value]
    if not isinstance(value, list) or not value or not all(isinstance(turn, Mapping) for turn in value):
        return None
    if is_messages(value):
        return list(value)
    if not all("from" in turn and "value" in turn for turn in value):
        return None
    return [{"role": _SPEAKERS.get(str(turn["from"]), str(turn["from"])), "content": turn["value"]} for turn in value]


def split_conversation(messages: Sequence[Mapping[str, Any]], column: str) -> tuple[list[Any], list[Any]]:
    """A whole conversation as its prompt and its last message, which an assistant has said. Raises `LayoutError`."""
    if len(messages) < 2 or messages[-1].get("role") not in ("assistant", "tool", "function"):
        raise LayoutError(
            "the conversation does not end with an answer",
            "Give two or more {role, content}, the last of role assistant, or leave such rows out with --skip-broken",
            column,
            value=messages,
        )
    return list(messages[:-1]), list(messages[-1:])


def conversation_before(
    messages: Sequence[dict[str, Any]], prompt: Any
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]] | None:
    """A list of messages that holds the prompt as (all that was said up to the prompt, what follows); None without it.

    The prompt may be the first messages, the last user's message (its text, or a transcript), or begin earlier than the
    list does (with a system message, say): the longer of both is the prompt.
    """
    stated = prompt if isinstance(prompt, list) else parse_transcript(prompt) or [{"role": "user", "content": prompt}]
    if len(stated) > 1 and stated[-1].get("role") == "assistant" and not message_text(stated[-1]).strip():
        stated = stated[:-1]  # a transcript that ends with "Assistant:"
    for end in range(len(messages) - 1, 0, -1):
        before = list(messages[:end])
        n = min(len(before), len(stated))
        if all(_same(a, b) for a, b in zip(before[-n:], stated[-n:], strict=True)):
            return (before if len(before) >= len(stated) else list(stated)), list(messages[end:])
    return None


def without_prompt(completion: Any, prompt: Any) -> Any:
    """A text less the prompt that it begins with (`begins_with`); anything else as it is."""
    if isinstance(completion, str) and begins_with(completion, prompt):
        return completion.strip()[len(prompt.strip()) :].strip() or completion
    return completion


def begins_with(completion: Any, prompt: Any) -> bool:
    """Whether a text begins with a prompt that is too long to be repeated by chance."""
    if not isinstance(completion, str) or not isinstance(prompt, str):
        return False
    start, text = prompt.strip(), completion.strip()
    return len(start) >= _CLEAR and text.startswith(start) and not text[len(start) : len(start) + 1].isalnum()


def _same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return a.get("role") == b.get("role") and message_text(a).split() == message_text(b).split()


def _within(text: Any, other: str) -> bool:
    """Whether `other` holds a text; one of a few characters must be all of it, since it may stand there by chance."""
    words, whole = " ".join(str(text).split()), " ".join(other.split())
    return words == whole or (len(words) >= 2 * _CLEAR and words in whole)


def _at_an_end(text: str, other: str) -> bool:
    """Whether `other` is a text, or begins or ends with one that does not stand there by chance."""
    words, whole = " ".join(text.split()), " ".join(other.split())
    return words == whole or (len(words) >= 2 * _CLEAR and (whole.startswith(words) or whole.endswith(words)))


def _one_of(messages: list[Any], listed: list[Any], column: str, *, whole: bool) -> list[Any]:
    """The messages of two columns, where they are the same; `whole` says that the second one is a conversation."""
    if whole and listed[-1].get("role") in ("assistant", "tool", "function"):
        raise LayoutError(
            "the conversation in place of a prompt ends with an answer",
            f"Give the messages before the answers alone, or leave it out with --ignore {column}",
            column,
            value=listed,
        )
    if messages and not (len(messages) == len(listed) and all(map(_same, messages, listed))):
        raise LayoutError(
            "a second column of messages, which differ",
            f"Put all of the prompt into one of them, or leave this one out with --ignore {column}",
            column,
            value=listed,
        )
    return listed


def _is_missing(value: Any) -> bool:
    return value is None or value != value


def _says_nothing(value: Any) -> bool:
    return is_blank(value) or value == [] or value == {}


def _turns(value: Any, column: str) -> Any:
    """Turns before the prompt: messages, or [user, assistant] pairs (LLaMA-Factory)."""
    if _says_nothing(value):
        return []
    if isinstance(value, str):
        return value
    listed = as_messages(value)
    if listed is not None:
        return listed
    if isinstance(value, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        roles = ("user", "assistant")
        return [{"role": role, "content": text} for pair in value for role, text in zip(roles, pair, strict=True)]
    raise LayoutError("the history is neither messages nor pairs of texts", "Give [[user, assistant], ...]", column)


def _as_text(value: Any, column: str | None = None) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    if isinstance(value, list) and is_messages(value):
        return completion_text(value)
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return _SEPARATOR.join(value)
    mend = "Fix this value" if column is None else f"Fix this value, or leave the column out with --ignore {column}"
    raise LayoutError("it must be a text or a list of {role, content} messages", mend, column, value=value)
