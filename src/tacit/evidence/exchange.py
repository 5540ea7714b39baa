"""Prompts and answers from what tracing tools keep of a call: its inputs and outputs, of any shape.

Loggers keep what a function took and gave back: a text, messages, the request and the reply of an API, or an object
with names of the program's own. What comes out is a text or a list of {role, content} messages, by these rules:

- messages are found as OpenAI writes them ({role, content}), as LangChain does ({type: human, ai, ...; content}, also
  serialised with `lc` and `kwargs`), as ShareGPT does ({from, value}), alone, in `messages`, or one list in another;
- a reply is found in `choices` (OpenAI), `generations` (LangChain), or under a usual name (`output`, `answer`, ...);
  of messages that repeat the conversation those after the last one of the user count;
- other inputs are all their texts, in order, with a blank line between them; lists and objects among them are written
  as JSON, settings (`model`, ids, numbers) are left out;
- other outputs are written as JSON: an answer that is an object stays one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import from_json

from tacit.evidence.codes import is_blank
from tacit.evidence.layout import LayoutError, nested

Text = str | list[dict[str, Any]]

_ROLES = {"human": "user", "ai": "assistant", "gpt": "assistant", "bot": "assistant", "chatgpt": "assistant"}
_ROLES |= {"bing": "assistant", "model": "assistant", "function_call": "assistant", "observation": "tool"}
_ROLES |= {"function": "tool", "chat": "user"}
_SPOKEN = {"user", "assistant", "system", "developer", "tool"}
_SERIALISED = {"HumanMessage": "user", "AIMessage": "assistant", "SystemMessage": "system", "ToolMessage": "tool"}
_SERIALISED |= {"FunctionMessage": "tool", "ChatMessage": "user"}
_REPLY_NAMES = (
    "output answer response completion content text result generation reply message final_output final_answer"
)
_REPLIES = tuple(_REPLY_NAMES.split())
_SETTING_NAMES = (
    "model model_name user user_id username session_id thread_id conversation_id chat_id id run_id request_id trace_id"
    " type language lang locale stream api_key temperature stop"
)
_SETTINGS = frozenset(_SETTING_NAMES.split())


def prompt_of(value: Any, column: str, *, encoded: bool = False) -> Text:
    """The prompt in the inputs of a call, as `answer_of`. Raises `LayoutError` where there is none."""
    value = _decoded(value, encoded=encoded)
    messages = conversation(value)
    prompt: Text = messages if messages is not None else "\n\n".join(_texts(value))
    if not prompt:
        raise LayoutError("the input is empty", "Log the input of the call", column, value=value)
    return prompt


def answer_of(value: Any, column: str, *, encoded: bool = False) -> Text:
    """The answer in the outputs of a call. Raises `LayoutError` where there is none.

    A text is the answer itself, also where it is JSON (but for messages); `encoded` says that the tool writes objects
    as JSON texts.
    """
    value = _decoded(value, encoded=encoded)
    answer = _answer(value)
    if answer is None or answer == [] or value in ([], {}):
        raise LayoutError("the output is empty", "Log the output of the call", column)
    return answer


def conversation(value: Any) -> list[dict[str, Any]] | None:
    """The messages that a value is or holds under `messages`; None where it is something else."""
    if isinstance(value, Mapping):
        inner = conversation(value["messages"]) if isinstance(value.get("messages"), list) else None
        if inner is not None:
            system = value.get("system")
            return [{"role": "system", "content": system}, *inner] if isinstance(system, str) and system else inner
        message = message_of(value)
        return None if message is None else [message]
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        return conversation(value[0])
    if not isinstance(value, list) or not value:
        return None
    messages = [message for item in value if (message := message_of(item)) is not None]
    return messages if len(messages) == len(value) else None


def message_of(item: Any) -> dict[str, Any] | None:
    """A message as {role, content}, with its tool calls; None for what is no message."""
    if not isinstance(item, Mapping):
        return None
    if "lc" in item and isinstance(item.get("kwargs"), Mapping):
        name = str((item.get("id") or [""])[-1]).removesuffix("Chunk")
        return _message(_SERIALISED.get(name), item["kwargs"], item["kwargs"].get("content"))
    if "from" in item and "value" in item:
        return _message(item["from"], item, item["value"])
    if "content" in item:
        return _message(item.get("role", item.get("type")), item, item["content"])
    return _message(item["role"], item, None) if "role" in item and item.get("tool_calls") else None


def answer_messages(messages: Sequence[Mapping[str, Any]]) -> Text:
    """The messages after the last one of the user; one message of an assistant is its text."""
    user_turns = [i for i, message in enumerate(messages) if message["role"] == "user"]
    rest = [dict(message) for message in messages[user_turns[-1] + 1 if user_turns else 0 :]]
    plain = len(rest) == 1 and rest[0]["role"] == "assistant" and not rest[0].get("tool_calls")
    return rest[0]["content"] if plain and isinstance(rest[0]["content"], str) else rest


def _message(role: Any, item: Mapping[str, Any], content: Any) -> dict[str, Any] | None:
    role = _ROLES.get(str(role).lower(), str(role).lower())
    if role not in _SPOKEN or not (content is None or isinstance(content, str | list)):
        return None
    message: dict[str, Any] = {"role": role, "content": content}
    extra = item.get("additional_kwargs")
    calls = item.get("tool_calls") or (extra.get("tool_calls") if isinstance(extra, Mapping) else None)
    if calls:
        message["tool_calls"] = [_call(call) for call in calls]
    return message


def _call(call: Any) -> Any:
    """A tool call as OpenAI writes it; LangChain has {name, args}, Inspect {function, arguments}."""
    if not isinstance(call, Mapping) or isinstance(call.get("function"), Mapping):
        return call
    name, arguments = call.get("name", call.get("function")), call.get("args", call.get("arguments"))
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def _decoded(value: Any, *, encoded: bool) -> Any:
    """What a JSON text holds, where the tool writes such texts or it holds messages; anything else as it stands."""
    if encoded and isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"':
        try:
            return from_json(value)
        except ValueError:
            return value
    inner = nested(value)
    return inner if encoded or conversation(inner) is not None else value


def _texts(value: Any) -> list[str]:
    """All texts of an input that is no conversation, in order."""
    if value is None or isinstance(value, bool | int | float):
        return []
    if isinstance(value, str):
        return [value] if value.strip() else []
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    if isinstance(value, Mapping) and value.keys() <= {"args", "kwargs"}:
        return [text for part in ("args", "kwargs") for text in _texts(value.get(part))]
    return [
        text if isinstance(text, str) else _json(text)
        for name, text in value.items()
        if name not in _SETTINGS and not is_blank(text) and text not in ([], {}) and not isinstance(text, int | float)
    ]


def _answer(value: Any) -> Text | None:
    if value is None or isinstance(value, str):
        return value
    messages = conversation(value)
    if messages is not None:
        return answer_messages(messages)
    if isinstance(value, Mapping):
        for name in ("choices", "generations"):
            if isinstance(value.get(name), list) and value[name]:
                return _answer(_first(value[name]))
        if len(value) == 1 and (only := next(iter(value))) in _REPLIES and value[only] in (None, ""):
            return _answer(value[only])
        if len(value) == 1 or set(value) & set(_REPLIES[:5]):
            named = next((name for name in _REPLIES if value.get(name) not in (None, "", [], {})), None)
            return _json(value) if named is None else _answer(value[named])
        if "text" in value and isinstance(value.get("message"), Mapping):
            return _answer(value["message"])
        return _json(value)
    if isinstance(value, list) and len(value) == 1:
        return _answer(value[0])
    return _json(value)


def _first(choices: Any) -> Any:
    """The first of an API's choices: what its `message` or `text` holds."""
    while isinstance(choices, list) and choices:
        choices = choices[0]
    if isinstance(choices, Mapping):
        return next((choices[name] for name in ("message", "text") if choices.get(name)), dict(choices))
    return choices


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
