"""A judge on this machine: any causal language model that transformers reads.

The probability of a label is exact: the sum over every single token that spells it, whatever stands around it, and over
its spellings in several tokens, token by token. A label that begins another one (1 and 10) gives up what belongs to
that one. Messages go through the tokenizer's chat template where it has one. Verdicts run in right-padded batches whose
make-up does not show (1e-5); sampled texts run one at a time, each from a generator of its own seed.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import torch

from tacit.errors import MissingExtra, extra_installed
from tacit.models.checkpoint import (
    batches,
    content_digest,
    default_max_length,
    load_tokenizer,
    load_weights,
    model_folder,
    read_settings,
    right_padded,
    tokens_per_batch,
)
from tacit.models.templates import rendered
from tacit.rewards.judge.calls import Call, Reply
from tacit.rewards.judge.questions import FLOOR, Messages, as_text, label_of
from tacit.rewards.judge.settings import JudgeError, JudgeSettings

_ROOM = 8
"""Tokens kept free for a verdict."""


@dataclass(eq=False)
class LocalModel:
    """A backend on a model folder."""

    settings: JudgeSettings

    def __post_init__(self) -> None:
        if not extra_installed("transformers"):
            raise MissingExtra("hf", "a judge on this machine")
        assert self.settings.folder is not None
        self.folder = model_folder(self.settings.folder)
        stated = default_max_length(self.folder, read_settings(self.folder))
        self.max_length = min(stated, self.settings.max_length or stated)
        self._spellings: dict[tuple[str, ...], list[list[tuple[int, ...]]]] = {}

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Digest of weights, tokenizer and chat template."""
        return {"model": content_digest(self.folder, [self.max_length]), "template": self.tokenizer.chat_template}

    @cached_property
    def model(self) -> Any:
        """The model, in evaluation mode on its device."""
        from transformers import AutoModelForCausalLM

        device = self.settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
        return load_weights(AutoModelForCausalLM, self.folder, dtype="float32", device=device)

    @cached_property
    def tokenizer(self) -> Any:
        """The folder's tokenizer."""
        return load_tokenizer(self.folder)

    def answers(self, calls: Sequence[Call]) -> Generator[tuple[int, Reply], None, None]:
        """Replies, verdicts first."""
        verdicts = [number for number, call in enumerate(calls) if call.labels is not None]
        by_labels = sorted(verdicts, key=lambda number: calls[number].labels or ())
        with torch.inference_mode():
            for labels, group in groupby(by_labels, key=lambda number: calls[number].labels or ()):
                numbers = list(group)
                ids = [self.ids(calls[number].messages) for number in numbers]
                for rows in batches([len(row) for row in ids], tokens_per_batch(self.model.device.type)):
                    found = self._labels([ids[row] for row in rows], labels)
                    for row, logprobs in zip(rows, found, strict=True):
                        said = max(logprobs, key=lambda label: logprobs[label])
                        yield numbers[row], Reply(said, logprobs, (), len(ids[row]), 1)
            for number, call in enumerate(calls):
                if call.labels is None:
                    ids_T = self.ids(call.messages)
                    tokens = self._sample(ids_T, call)
                    text = str(self.tokenizer.decode(tokens, skip_special_tokens=True))
                    yield number, Reply(text, None, (), len(ids_T), len(tokens))

    def ids(self, messages: Messages) -> list[int]:
        """Token ids of messages, opened for the answer."""
        wrapper = self.tokenizer
        if not wrapper.chat_template:
            return list(wrapper.backend_tokenizer.encode(_sound(as_text(messages))).ids)
        chat = [{"role": role, "content": _sound(content)} for role, content in messages]
        text = rendered(wrapper, chat, add_generation_prompt=True)
        return list(wrapper.backend_tokenizer.encode(text, add_special_tokens=False).ids)

    def excess(self, messages: Messages, reserve: int) -> int:
        """Tokens beyond what the model reads, with `reserve` tokens and a verdict to come."""
        room = _ROOM + reserve
        if room >= self.max_length:
            raise JudgeError(
                f"{self.folder} reads {self.max_length} tokens and max_tokens is {self.settings.max_tokens}. Lower it"
            )
        return max(0, len(self.ids(messages)) + room - self.max_length)

    def cut(self, text: str, excess: int, *, end: bool) -> tuple[str, int]:
        """Tokens off the end or the beginning, at character boundaries."""
        offsets = self.tokenizer.backend_tokenizer.encode(_sound(text), add_special_tokens=False).offsets
        drop = min(excess, len(offsets))
        if drop in (0, len(offsets)):
            return ("" if drop else text), drop
        return (text[: offsets[len(offsets) - drop][0]] if end else text[offsets[drop][0] :]), drop

    def _labels(self, ids: list[list[int]], labels: Sequence[str]) -> list[dict[str, float]]:
        """log P of each label after each row of ids."""
        key = tuple(labels)
        if key not in self._spellings:
            self._spellings[key] = _spellings(self.tokenizer, key)
        spellings = self._spellings[key]
        prefixes = sorted(
            {sequence[:-1] for sequences in spellings for sequence in sequences}, key=lambda p: (len(p), p)
        )
        after: dict[tuple[int, ...], torch.Tensor] = {}  # log P of the next token after each prefix, (B, V)
        total: dict[tuple[int, ...], torch.Tensor] = {(): torch.zeros(len(ids))}
        for prefix in prefixes:
            after[prefix] = self._next_token([[*row, *prefix] for row in ids])
            for length in range(1, len(prefix) + 1):
                part = prefix[:length]
                if part not in total:
                    if part[:-1] not in after:
                        after[part[:-1]] = self._next_token([[*row, *part[:-1]] for row in ids])
                    total[part] = total[part[:-1]] + after[part[:-1]][:, part[-1]]
        found = torch.full((len(ids), len(labels)), -torch.inf)
        for column, sequences in enumerate(spellings):
            for sequence in sequences:
                logprob = total[sequence[:-1]] + after[sequence[:-1]][:, sequence[-1]]
                longer = [
                    other
                    for there, others in enumerate(spellings)
                    if there != column
                    for other in others
                    if len(other) > len(sequence) and other[: len(sequence)] == sequence
                ]
                for other in longer:
                    taken = total[other[:-1]] + after[other[:-1]][:, other[-1]]
                    logprob = logprob + torch.log((1 - torch.exp(taken - logprob)).clamp_min(1e-13))
                found[:, column] = torch.logaddexp(found[:, column], logprob)
        rows = found.clamp(FLOOR, 0.0).tolist()
        if not torch.isfinite(found.clamp_min(FLOOR)).all():
            raise JudgeError(f"the model in {self.folder} gives probabilities that are not numbers. Check its weights")
        return [dict(zip(labels, row, strict=True)) for row in rows]

    def _next_token(self, ids: list[list[int]]) -> torch.Tensor:
        """log P of the token after each row, (B, V) float32: right padded, read at the last real token."""
        device = self.model.device
        ids_BT, real_BT = right_padded(ids, 0)
        last = torch.from_numpy(real_BT.sum(1) - 1)
        places, inverse = torch.unique(last, return_inverse=True)
        logits_BPV = self.model(
            input_ids=torch.from_numpy(ids_BT).to(device),
            attention_mask=torch.from_numpy(real_BT).long().to(device),
            use_cache=False,
            logits_to_keep=places.to(device),
        ).logits
        logits_BV = logits_BPV[torch.arange(len(ids), device=device), inverse.to(device)].float()
        return torch.log_softmax(logits_BV, dim=-1).cpu()

    def _sample(self, ids: list[int], call: Call) -> list[int]:
        """Tokens of one answer, up to EOS; greedy at temperature 0."""
        generator = torch.Generator().manual_seed(call.seed)
        device = self.model.device
        step = torch.tensor([ids], device=device)
        cache, tokens = None, []
        ends = self._ends
        for _ in range(call.max_tokens):
            output = self.model(input_ids=step, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache, logits = output.past_key_values, output.logits[0, -1].float().cpu()
            if call.temperature == 0:
                token = int(logits.argmax())
            else:
                token = int(torch.multinomial(torch.softmax(logits / call.temperature, 0), 1, generator=generator))
            if token in ends:
                break
            tokens.append(token)
            step = torch.tensor([[token]], device=device)
        return tokens

    @cached_property
    def _ends(self) -> set[int]:
        stated = self.model.generation_config.eos_token_id if self.model.generation_config is not None else None
        found = {stated} if isinstance(stated, int) else set(stated or ())
        return found | ({self.tokenizer.eos_token_id} - {None})


def _spellings(wrapper: Any, labels: tuple[str, ...]) -> list[list[tuple[int, ...]]]:
    """Every token sequence that spells each label."""
    vocabulary = wrapper.get_vocab()
    singles: list[set[tuple[int, ...]]] = [set() for _ in labels]
    for token, number in vocabulary.items():
        label = label_of(token, labels)
        if label is not None:
            singles[labels.index(label)].add((number,))
    for column, label in enumerate(labels):
        forms = {label} if len(label) == 1 else {label, label.lower(), label.upper()}
        for form in {*forms, *(f" {form}" for form in forms)}:
            sequence = tuple(wrapper.backend_tokenizer.encode(form, add_special_tokens=False).ids)
            # A spelling that begins with another spelling of the same label is a part of it already.
            if len(sequence) > 1 and not any(sequence[:n] in singles[column] for n in range(1, len(sequence))):
                singles[column].add(sequence)
    return [sorted(found) for found in singles]


def _sound(text: str) -> str:
    """Lone surrogates, which tokenizers refuse, as question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")
