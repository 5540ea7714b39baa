"""Prompts and completions, and the one place that renders them to text.

A prompt or a completion is a string or a list of messages `{"role": ..., "content": ...}`; content is a string or a
list of parts `{"type": "text", "text": ...}`. Nothing here knows a model: chat templates are applied by the encoder or
policy that owns one.

The rendering rule has a name (`RENDERING`) that every saved reward stores, so that a score cannot drift:

- a string is itself;
- a single user message (as prompt) or a single assistant message (as completion) is its content, so that a conversation
  and the same exchange given as two strings render, and therefore score, identically;
- any other list of messages is one `Role: content` block per message, blocks separated by a blank line;
- prompt and completion are joined by a blank line; an empty side adds nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

Message = Mapping[str, Any]
Prompt = str | Sequence[Message]
Completion = str | Sequence[Message]

RENDERING = "blocks-1"
_SEPARATOR = "\n\n"
_TURN = re.compile(r"\n\n(Human|Assistant): ?")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def content_text(content: Any) -> str:
    """Text of one message's `content`: a string, None (as in tool calls), or a list of text parts."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "".join(part if isinstance(part, str) else str(part.get("text", "")) for part in content)


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

    Text before the first turn becomes a system message. A text without turns gives an empty list.
    """
    pieces = _TURN.split(transcript if transcript.startswith("\n\n") else "\n\n" + transcript)
    messages: list[Message] = [{"role": "system", "content": pieces[0].strip()}] if pieces[0].strip() else []
    turns: list[Message] = [
        {"role": _ROLES[role], "content": text} for role, text in zip(pieces[1::2], pieces[2::2], strict=True)
    ]
    return messages + turns if turns else []


def split_shared_prompt(chosen: Completion, rejected: Completion) -> tuple[Prompt, Completion, Completion] | None:
    """Split two whole conversations into their shared prompt and the two endings; None if they share no prompt.

    Message lists are split after their longest common run of messages that leaves each side an ending. Transcripts with
    Human/Assistant turns are parsed first, and the endings come back as strings when each is one assistant turn.
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
        if a != b:
            break
        shared += 1
    if shared == 0:
        return None
    endings = [side[shared:] for side in (left, right)]
    if isinstance(chosen, str) and all(len(side) == 1 and side[0]["role"] == "assistant" for side in endings):
        return left[:shared], endings[0][0]["content"], endings[1][0]["content"]
    return left[:shared], endings[0], endings[1]


def _messages_text(messages: Sequence[Message], bare_role: str) -> str:
    if len(messages) == 1 and messages[0].get("role") == bare_role:
        return content_text(messages[0].get("content"))
    return _SEPARATOR.join(
        f"{str(message.get('role', '')).capitalize()}: {content_text(message.get('content'))}" for message in messages
    )
