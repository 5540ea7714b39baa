"""Prompts and completions, and the one place that renders them to text.

A prompt or a completion is a string or a list of messages `{"role": ..., "content": ...}`; content is a string or a
list of parts `{"type": "text", "text": ...}`. Nothing here knows a model: chat templates are applied by the encoder or
policy that owns one.

The rendering rule has a name (`RENDERING`) that every saved reward stores, so that a score cannot drift:

- a string is itself;
- the text of a message is its content, then each of its tool calls on a line of its own as `name({"argument": ...})`,
  with the arguments as JSON in the order of their names (null ones left out);
- a single user message (as prompt) or a single assistant message (as completion) is its text, so that a conversation
  and the same exchange given as two strings render, and therefore score, identically;
- any other list of messages is one `Role: text` block per message, blocks separated by a blank line;
- prompt and completion are joined by a blank line; an empty side adds nothing.

Parts that are no text (images, audio) are not read; `unread_parts` names them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

Message = Mapping[str, Any]
Prompt = str | Sequence[Message]
Completion = str | Sequence[Message]

RENDERING = "blocks-2"
_SEPARATOR = "\n\n"
_TURN = re.compile(r"\n\n(Human|Assistant): ?")
_ROLES = {"Human": "user", "Assistant": "assistant"}
_KINDS_OF_TEXT = ("text", "input_text", "output_text")


def content_text(content: Any) -> str:
    """Text of one message's `content`: a string, None (as beside tool calls), or a list of parts."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "".join(_part_text(part) for part in content)


def message_text(message: Message) -> str:
    """Text of one message: its content, then its tool calls."""
    calls = message.get("tool_calls") or ()
    if not calls and message.get("function_call"):
        calls = ({"function": message["function_call"]},)
    lines = [_call_text(call) for call in calls if isinstance(call, Mapping)]
    text = content_text(message.get("content"))
    return "\n".join([text, *lines] if text else lines)


def unread_parts(text: Any) -> list[str]:
    """The types of the parts of a prompt or completion that are no text, such as `image_url`, in their order."""
    if not isinstance(text, list):
        return []
    contents = [message.get("content") for message in text if isinstance(message, Mapping)]
    parts = [part for content in contents if isinstance(content, list) for part in content if isinstance(part, Mapping)]
    return [str(part.get("type")) for part in parts if part.get("type", "text") not in _KINDS_OF_TEXT]


def prompt_text(prompt: Prompt) -> str:
    """The text of a prompt by the rendering rule of this module."""
    return prompt if isinstance(prompt, str) else _messages_text(prompt, bare_role="user")


def completion_text(completion: Completion) -> str:
    """The text of a completion by the rendering rule of this module."""
    return completion if isinstance(completion, str) else _messages_text(completion, bare_role="assistant")


def texts(prompt: Prompt, completion: Completion) -> tuple[str, str]:
    """(prompt text, completion text): what an encoder takes, so that it can cut the prompt and keep the completion."""
    return prompt_text(prompt), completion_text(completion)


def join(prompt: str, completion: str) -> str:
    """Prompt and completion texts as one text; an empty side adds nothing."""
    return prompt + _SEPARATOR + completion if prompt and completion else prompt or completion


def render(prompt: Prompt, completion: Completion) -> str:
    """The whole exchange as one text."""
    return join(*texts(prompt, completion))


def parse_transcript(transcript: str) -> list[Message]:
    r"""Messages of an Anthropic-style transcript with "\n\nHuman:" and "\n\nAssistant:" turns.

    Lines may end in "\r\n". Text before the first turn becomes a system message. A text without turns gives an empty
    list.
    """
    transcript = transcript.replace("\r\n", "\n")
    pieces = _TURN.split(transcript if transcript.startswith("\n\n") else "\n\n" + transcript)
    messages: list[Message] = [{"role": "system", "content": pieces[0].strip()}] if pieces[0].strip() else []
    turns: list[Message] = [
        {"role": _ROLES[role], "content": text} for role, text in zip(pieces[1::2], pieces[2::2], strict=True)
    ]
    return messages + turns if turns else []


def split_shared_prompt(chosen: Completion, rejected: Completion) -> tuple[Prompt, Completion, Completion] | None:
    """Split two whole conversations into their shared prompt and the two endings; None if they share no prompt.

    Message lists are split after their longest common run of messages that leaves each side an ending; two messages are
    the same where their roles and texts are. Lists of answers alone (no user speaks) share the empty prompt.
    Transcripts with Human/Assistant turns are parsed first, and the endings come back as strings when each is one
    assistant turn.
    """
    if isinstance(chosen, str) and isinstance(rejected, str):
        left, right = parse_transcript(chosen), parse_transcript(rejected)
        if not left or not right:
            return None
    elif isinstance(chosen, str) or isinstance(rejected, str):
        return None
    else:
        left, right = list(chosen), list(rejected)
    shared = 0
    for a, b in zip(left[:-1], right[:-1], strict=False):
        if not same_message(a, b):
            break
        shared += 1
    if shared == 0:
        answers = all(message.get("role") == "assistant" for message in [*left, *right])
        return ("", left, right) if answers else None
    endings = [side[shared:] for side in (left, right)]
    if isinstance(chosen, str) and all(len(side) == 1 and side[0]["role"] == "assistant" for side in endings):
        return left[:shared], endings[0][0]["content"], endings[1][0]["content"]
    return left[:shared], endings[0], endings[1]


def same_message(a: Message, b: Message) -> bool:
    """Whether two messages have the same role and text, however each writes them (parts, keys that are null)."""
    return a.get("role") == b.get("role") and message_text(a) == message_text(b)


def _messages_text(messages: Sequence[Message], bare_role: str) -> str:
    if len(messages) == 1 and messages[0].get("role") == bare_role:
        return message_text(messages[0])
    return _SEPARATOR.join(
        f"{str(message.get('role', '')).capitalize()}: {message_text(message)}" for message in messages
    )


def _part_text(part: Any) -> str:
    text = part.get("text") if isinstance(part, Mapping) else part
    return "" if text is None else str(text)


def _call_text(call: Mapping[str, Any]) -> str:
    function = call["function"] if isinstance(call.get("function"), Mapping) else call
    name, arguments = function.get("name"), function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return f"{name}({arguments})"
    if isinstance(arguments, Mapping):
        arguments = {key: value for key, value in arguments.items() if value is not None}
    written = "" if arguments is None else json.dumps(arguments, ensure_ascii=False, sort_keys=True, default=str)
    return f"{name}({written})"
