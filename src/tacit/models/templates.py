"""A tokenizer's chat template: what it makes of a conversation, and a file of another one in its place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tacit.conversation import Completion, Message, Prompt, message_text
from tacit.errors import TacitError

_GENERATION = re.compile(r"\{%[-+]?\s*(end)?generation\s*[-+]?%\}")


def messages_of(prompt: Prompt, completion: Completion | None = None) -> list[Message]:
    """An exchange as messages of role and text, tool calls included: a string is the user's, or the assistant's."""
    asked = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    said = [] if completion is None else completion
    said = [{"role": "assistant", "content": said}] if isinstance(said, str) else list(said)
    return [{"role": message.get("role"), "content": message_text(message)} for message in [*asked, *said]]


def read_template(path: str | Path) -> str:
    """The chat template (Jinja) in a file; raises `TacitError` where it is none."""
    from jinja2 import TemplateSyntaxError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = "the text is not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise TacitError(f"--chat-template {path}: {reason}. Give a file with a chat template in Jinja") from error
    if not text.strip():
        raise TacitError(f"--chat-template {path}: it is empty. Give a file with a chat template in Jinja")
    try:
        # As transformers reads it: with loop controls, and blocks of `generation`, which mark the assistant's part.
        known = _GENERATION.sub(lambda found: "{% endif %}" if found[1] else "{% if true %}", text)
        ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"]).parse(known)
    except TemplateSyntaxError as error:
        raise TacitError(f"--chat-template {path}, row {error.lineno}: {error.message}. Fix the template") from error
    return text


def rendered(wrapper: Any, messages: Sequence[Message], *, template: str | None = None, **options: Any) -> str:
    """The text of the chat template, the tokenizer's own unless another `template` is given.

    Raises `TacitError` where there is none, or where it refuses the conversation.
    """
    if not (template or wrapper.chat_template):
        raise TacitError("this tokenizer has no chat template. Give one with --chat-template FILE")
    given = {} if template is None else {"chat_template": template}
    try:
        return str(wrapper.apply_chat_template(list(messages), tokenize=False, **given, **options))
    except Exception as error:  # a template may raise what it likes
        roles = ", ".join(str(message.get("role")) for message in messages)
        whose = "given" if template else "model's"
        raise TacitError(
            f"the {whose} chat template refuses a conversation of roles {roles} ({error}). Give one that takes them"
            " with --chat-template FILE"
        ) from error
