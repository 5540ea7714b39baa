"""How a whole language model reads an exchange: the stored rule from a prompt and a completion to token ids.

| template | text | special tokens |
|---|---|---|
| `plain` | `conversation.join`: prompt, blank line, completion | the tokenizer's own |
| `concatenated` | prompt and completion, nothing between, as TRL's trainer reads two strings | the tokenizer's own |
| `chat` | the tokenizer's chat template over the messages | those that the template writes |

With `eos` the text ends with the tokenizer's EOS exactly once. A text longer than `max_length` tokens loses the
beginning of its prompt (`tacit.models.checkpoint`); a BOS that opens it, what closes the last message and EOS stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from tacit.conversation import Completion, Prompt, completion_text, prompt_text
from tacit.errors import TacitError
from tacit.models.checkpoint import Parts, joined, token_ids
from tacit.models.templates import messages_of, rendered

Template = Literal["plain", "concatenated", "chat"]


@dataclass(frozen=True)
class TextRule:
    """What a model sees of a prompt and a completion; saved with the reward, so that its scores cannot drift."""

    template: Template = "plain"
    eos: bool = False
    """End with EOS, exactly once."""
    max_length: int = 2048
    """Most tokens, special tokens and EOS included."""
    chat_template: str | None = None
    """A chat template (Jinja) in place of the tokenizer's, for `chat`."""

    def __post_init__(self) -> None:
        if self.template not in get_args(Template):
            raise TacitError(f"there is no template `{self.template}`. Use one of: {', '.join(get_args(Template))}")
        if self.max_length < 2:
            raise TacitError(f"max_length is {self.max_length}: a text needs at least 2 tokens")
        if self.chat_template is not None and self.template != "chat":
            raise TacitError(f"template `{self.template}` renders no messages. Leave the chat template out")

    def token_ids(self, wrapper: Any, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[list[int]]:
        """Ids of each exchange by this rule; `wrapper` is a transformers tokenizer. Every text has at least one id."""
        if self.eos and wrapper.eos_token_id is None:
            raise TacitError("the rule appends EOS, but this tokenizer has none. Set eos to false")
        chat = self.template == "chat"
        texts = [self._parts(wrapper, *exchange) for exchange in zip(prompts, completions, strict=True)]
        keep = {wrapper.bos_token_id} - {None}
        room = self.max_length - int(self.eos)
        rows = token_ids(wrapper.backend_tokenizer, texts, room, special=not chat, keep=keep)
        if self.eos:
            end = wrapper.eos_token_id
            rows = [row if row and row[-1] == end else [*row, end] for row in rows]
        return [row or [wrapper.pad_token_id or 0] for row in rows]

    def _parts(self, wrapper: Any, prompt: Prompt, completion: Completion) -> Parts:
        if self.template == "chat":
            return chat_parts(wrapper, prompt, completion, self.chat_template)
        texts = prompt_text(prompt), completion_text(completion)
        return joined(*texts) if self.template == "plain" else Parts(*texts)


def default_rule(
    wrapper: Any, max_length: int, stated: Mapping[str, Any] | None = None, *, chat_template: str | None = None
) -> TextRule:
    """The rule of a checkpoint: what `tacit export` stated in its config.json, else what its tokenizer suggests.

    A `chat_template` of one's own goes before both.

    A tokenizer with a chat template is taken at its word (the template decides about EOS); without one the text is
    plain and ends with EOS where the tokenizer has one, as TRL trains.
    """
    if chat_template is not None:
        return TextRule("chat", False, max_length, chat_template)
    if stated:
        return TextRule(stated["template"], bool(stated["eos"]), int(stated["max_length"]))
    if wrapper.chat_template:
        return TextRule("chat", False, max_length)
    return TextRule("plain", wrapper.eos_token_id is not None, max_length)


def chat_parts(wrapper: Any, prompt: Prompt, completion: Completion, template: str | None = None) -> Parts:
    """The exchange by the tokenizer's chat template, or by another `template`.

    The completion begins where the rendered prompt, opened for an answer, ends; the tail is what the template writes
    after the last message.
    """
    messages = messages_of(prompt, completion)
    whole = rendered(wrapper, messages, template=template)
    asked = messages_of(prompt)
    opened = rendered(wrapper, asked, template=template, add_generation_prompt=True) if len(prompt) else ""
    start = len(opened) if whole.startswith(opened) else _common(whole, opened)
    said = str(messages[-1]["content"]).strip()
    found = whole.rfind(said, start) if said else -1
    end = found + len(said) if found >= 0 else len(whole)
    return Parts(whole[:start], whole[start:end], whole[end:])


def _common(first: str, second: str) -> int:
    """Length of the longest common beginning."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(first), len(second)))


def blocks_template(lead: str = "", trail: str = "") -> str:
    """A chat template (Jinja) that writes what `conversation.render` writes, between the special tokens of a text.

    With it a checkpoint from `tacit export` sees the text that it was fitted on, from any client that sends messages.
    A prompt opened for an answer ends with the blank line that comes before it.
    """
    return _BLOCKS.replace("LEAD", _quoted(lead)).replace("TRAIL", _quoted(trail))


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


_BLOCKS = (
    "{%- macro text(message) -%}"
    "{%- if message['content'] is string -%}{{- message['content'] -}}"
    "{%- elif message['content'] -%}{%- for part in message['content'] -%}"
    "{{- part if part is string else part['text'] -}}{%- endfor -%}{%- endif -%}"
    "{%- endmacro -%}"
    "{%- macro blocks(messages, bare) -%}"
    "{%- if messages | length == 1 and messages[0]['role'] == bare -%}{{- text(messages[0]) -}}"
    "{%- else -%}{%- for message in messages -%}"
    "{{- message['role'] | capitalize + ': ' + text(message) -}}"
    "{%- if not loop.last -%}{{- '\\n\\n' -}}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    "{%- endmacro -%}"
    "{%- if messages[-1]['role'] == 'assistant' -%}{%- set cut = messages | length - 1 -%}"
    "{%- else -%}{%- set cut = messages | length -%}{%- endif -%}"
    "{%- set asked = blocks(messages[:cut], 'user') -%}"
    "{%- set said = blocks(messages[cut:], 'assistant') -%}"
    "{{- LEAD + asked -}}"
    "{%- if asked and (said or (add_generation_prompt and cut == messages | length)) -%}{{- '\\n\\n' -}}{%- endif -%}"
    "{{- said -}}"
    "{%- if not add_generation_prompt -%}{{- TRAIL -}}{%- endif -%}"
)
