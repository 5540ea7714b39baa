"""Text to token ids and back, as a policy reads and writes it.

A prompt goes through the chat template where the tokenizer has one, opened for the answer; else it is its text after
the tokenizer's begin token. A completion is tokenised as what follows a prompt, so that no tokenizer puts a space
before it, and ends with the end token: what sampling would have made.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from tacit.conversation import Completion, Prompt, completion_text, prompt_text
from tacit.errors import TacitError
from tacit.models.templates import messages_of, rendered
from tacit.policies.contract import Responses


class PolicyError(TacitError):
    """A policy, or a prompt for it, that cannot be used; the message says how to fix it."""


class PromptError(PolicyError):
    """A prompt that a policy cannot read: which one of those given (from 1), why, and how to fix it."""

    def __init__(self, number: int, reason: str, mend: str) -> None:
        self.number, self.reason, self.mend = number, reason, mend
        super().__init__(f"prompt {number}: {reason}. {mend}")


@dataclass(eq=False)
class Codec:
    """Prompts and completions of one tokenizer."""

    tokenizer: Any
    """A fast transformers tokenizer."""
    ends: tuple[int, ...]
    """Ids that end a response; the first is the one that closes a given completion."""
    context: int
    """Most tokens that the model reads, prompt and response together."""

    def encode(self, prompts: Sequence[Prompt], *, any_length: bool = False) -> list[list[int]]:
        """Token ids of prompts; raises `PromptError` for one without tokens.

        So it does for one with no room for an answer, unless prompts of any length are asked for.
        """
        wrapper = self.tokenizer
        chat = bool(wrapper.chat_template)
        texts = [
            rendered(wrapper, messages_of(prompt), add_generation_prompt=True) if chat else prompt_text(prompt)
            for prompt in prompts
        ]
        encodings = self.backend.encode_batch([sound(text) for text in texts], add_special_tokens=not chat)
        rows = [self._opened(list(encoding.ids), chat) for encoding in encodings]
        for number, row in enumerate(rows, 1):
            if not row:
                raise PromptError(number, "it is empty, and the tokenizer has no begin token", "Give it some text")
            if len(row) >= self.context and not any_length:
                raise PromptError(
                    number,
                    f"it has {len(row)} tokens, and the model reads {self.context} with the answer",
                    "Shorten it",
                )
        return rows

    def encode_completions(self, completions: Sequence[Completion], *, end: bool = True) -> list[list[int]]:
        """Token ids of completions, with the end token unless `end` is False."""
        if end and not self.ends:
            raise PolicyError("the tokenizer has no end token. Set eos_token in its tokenizer_config.json")
        texts = [sound(completion_text(completion)) for completion in completions]
        rows = [list(encoding.ids) for encoding in self.continued.encode_batch(texts, add_special_tokens=False)]
        return [[*row, self.ends[0]] for row in rows] if end else rows

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Texts of responses, special tokens left out; a space at the beginning stays."""
        if not rows:
            return []
        anchor, lead = self._anchor
        texts = self.tokenizer.batch_decode(
            [[*anchor, *row] for row in rows], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return [text.removeprefix(lead) for text in texts]

    def responses(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> Responses:
        """Given pairs as one row each; prompts with the same tokens are kept once."""
        if len(prompts) != len(completions):
            raise PolicyError(f"{len(prompts)} prompts for {len(completions)} completions. Give one prompt each")
        encoded = self.encode(prompts)
        distinct = {row: number for number, row in enumerate(dict.fromkeys(map(tuple, encoded)))}
        tokens_BT, mask_BT = padded(self.encode_completions(completions))
        prompt_of = torch.tensor([distinct[tuple(row)] for row in encoded], dtype=torch.int64)
        return Responses([list(row) for row in distinct], prompt_of, tokens_BT, mask_BT)

    @cached_property
    def backend(self) -> Any:
        """The fast tokenizer's own object."""
        return self.tokenizer.backend_tokenizer

    @cached_property
    def continued(self) -> Any:
        """The tokenizer for what follows other text: nothing puts a space (or its sign) before it."""
        from tokenizers import Tokenizer

        return Tokenizer.from_str(json.dumps(_without_prefix_space(json.loads(self.backend.to_str()))))

    @cached_property
    def _anchor(self) -> tuple[list[int], str]:
        """A token to decode before a response, and its text: decoders strip a space from what comes first."""
        for text in ("a", "the", ".", "1"):
            ids = list(self.continued.encode(text, add_special_tokens=False).ids)
            decoded = str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
            if len(ids) == 1 and decoded == text:
                return ids, text
        return [], ""

    def _opened(self, row: list[int], chat: bool) -> list[int]:
        """Ids of a prompt with its begin token, and without the end token that some tokenizers put at the end."""
        begin = self.tokenizer.bos_token_id
        while not chat and row and row[-1] in self.ends:
            row.pop()
        if not row and not chat and begin is not None:
            return [begin]
        return row


def padded(rows: Sequence[Sequence[int]], fill: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids (B, T) int64 with `fill` on the right, and which of them are real, (B, T) bool."""
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    width = int(lengths.max()) if len(rows) else 0
    mask = torch.arange(width) < lengths[:, None]
    ids = torch.full(mask.shape, fill, dtype=torch.int64)
    ids[mask] = torch.tensor([token for row in rows for token in row], dtype=torch.int64)
    return ids, mask


def sound(text: str) -> str:
    """The text with lone surrogates, which JSON allows and tokenizers refuse, as question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _without_prefix_space(settings: Any) -> Any:
    """A tokenizer's JSON with every rule that puts a space before the first word switched off."""
    if isinstance(settings, list):
        return [_without_prefix_space(part) for part in settings if not _prepends(part)]
    if not isinstance(settings, dict):
        return settings
    kept = {
        key: None if _prepends(value) else _without_prefix_space(value) if key in _RULES else value
        for key, value in settings.items()
    }
    if kept.get("type") == "Metaspace":
        kept["prepend_scheme"] = "never"
    if kept.get("type") == "ByteLevel" and "add_prefix_space" in kept:
        kept["add_prefix_space"] = False
    return kept


_RULES = ("normalizer", "pre_tokenizer", "normalizers", "pretokenizers")


def _prepends(rule: Any) -> bool:
    return isinstance(rule, dict) and rule.get("type") == "Prepend"
