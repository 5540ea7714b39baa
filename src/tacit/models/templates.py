"""A tokenizer's chat template: what it makes of a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tacit.conversation import Completion, Message, Prompt, message_text
from tacit.errors import TacitError


def messages_of(prompt: Prompt, completion: Completion | None = None) -> list[Message]:
    """An exchange as messages of role and text, tool calls included: a string is the user's, or the assistant's."""
    asked = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    said = [] if completion is None else completion
    said = [{"role": "assistant", "content": said}] if isinstance(said, str) else list(said)
    return [{"role": message.get("role"), "content": message_text(message)} for message in [*asked, *said]]


def rendered(wrapper: Any, messages: Sequence[Message], **options: Any) -> str:
    """The chat template's text; raises `TacitError` where the tokenizer has none, or the template refuses."""
    if not wrapper.chat_template:
        raise TacitError("this tokenizer has no chat template. Use template: plain, or concatenated")
    try:
        return str(wrapper.apply_chat_template(list(messages), tokenize=False, **options))
    except Exception as error:  # a template may raise what it likes
        roles = ", ".join(str(message.get("role")) for message in messages)
        raise TacitError(
            f"the tokenizer's chat template refuses a conversation of roles {roles} ({error}). Use template: plain"
        ) from error
