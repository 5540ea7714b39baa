"""What methods learn from, as token ids: the order of rows, and rows as `Responses`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from tacit.conversation import Prompt, prompt_text
from tacit.errors import EvidenceError, TacitError
from tacit.evidence import Evidence
from tacit.evidence.read import prompted_rows
from tacit.policies.contract import Responses, TrainablePolicy

T = TypeVar("T")


def rows_between(count: int, start: int, stop: int, seed: int) -> np.ndarray:
    """Rows at the positions start..stop - 1 of an endless run through `count` rows, each epoch in an order of its own.

    The order of an epoch depends on the seed and its number alone, so that a run can go on from any position.
    """
    epochs = range(start // count, (max(stop, start + 1) - 1) // count + 1)
    orders = [np.random.default_rng((seed, epoch)).permutation(count) for epoch in epochs]
    first = epochs[0] * count
    rows: np.ndarray = np.concatenate(orders)[start - first : stop - first]
    return rows


def chunks(rows: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Consecutive runs of at most `size` rows."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def device_of(policy: TrainablePolicy) -> torch.device:
    """Where a policy computes."""
    device: torch.device = next(iter(policy.model.parameters())).device
    return device


def as_responses(prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], device: Any) -> Responses:
    """Rows of token ids as `Responses`: each distinct prompt once, completions right padded with 0 behind the mask."""
    index: dict[tuple[int, ...], int] = {}
    prompt_of = [index.setdefault(tuple(prompt), len(index)) for prompt in prompts]
    lengths = np.array([len(row) for row in completions])
    mask = np.arange(lengths.max(initial=1)) < lengths[:, None]
    tokens = np.zeros(mask.shape, np.int64)
    tokens[mask] = np.concatenate([np.asarray(row, np.int64) for row in completions])
    return Responses(
        [list(prompt) for prompt in index],
        torch.tensor(prompt_of, dtype=torch.int64, device=device),
        torch.from_numpy(tokens).to(device),
        torch.from_numpy(mask).to(device),
    )


def take(responses: Responses, rows: Sequence[int]) -> Responses:
    """Some rows, with the prompts that they need and no wider than the longest of them."""
    keep = torch.as_tensor(list(rows), dtype=torch.int64, device=responses.tokens.device)
    mask = responses.mask[keep]
    width = int(mask.sum(1).max()) if len(rows) else 1
    needed, prompt_of = torch.unique(responses.prompt_of[keep], return_inverse=True)
    prompts = [responses.prompts[place] for place in needed.tolist()]
    return Responses(prompts, prompt_of, responses.tokens[keep, :width], mask[:, :width])


def widened(values: torch.Tensor, width: int) -> torch.Tensor:
    """(B, t) as (B, width), zeros on the right."""
    return torch.nn.functional.pad(values, (0, width - values.shape[1]))


def read_prompts(
    source: str | Path, evidence: Evidence | None = None, *, columns: Mapping[str, str] | None = None
) -> list[Prompt]:
    """The distinct prompts of evidence, or of any file with a column `prompt`, in their order.

    `columns` are our names to the file's, as `tacit.read` takes them.

    Raises `EvidenceError` for a file without that column, an empty prompt, and where there is none at all.
    """
    found: dict[str, Prompt] = {}
    if evidence is not None:
        for record in evidence:
            prompt: Prompt = getattr(record, "prompt", "")
            found.setdefault(prompt_text(prompt), prompt)
    else:
        for row, values in prompted_rows(source, columns):
            prompt = values.get("prompt", "")
            if not isinstance(prompt, str | list) or not prompt:
                raise EvidenceError(
                    "a prompt is needed, a text or a list of messages",
                    mend="Give rows with a column `prompt`",
                    source=str(source),
                    row=row,
                    column="prompt",
                    value=prompt,
                )
            found.setdefault(prompt_text(prompt), prompt)
    found.pop("", None)
    if not found:
        raise EvidenceError("there are no prompts", mend="Give rows with a column `prompt`", source=str(source))
    return list(found.values())


def fitting(
    prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], max_length: int | None
) -> np.ndarray:
    """Which rows (n,) bool have at most `max_length` tokens, prompt and completion together; all where it is None."""
    lengths = np.array([len(p) + len(c) for p, c in zip(prompts, completions, strict=True)])
    return np.full(len(lengths), True) if max_length is None else lengths <= max_length


def some_left(kept: int, count: int, max_length: int | None) -> None:
    """Raise `TacitError` where not one of `count` rows is within `max_length` tokens."""
    if count and not kept:
        raise TacitError(f"none of {count} rows has at most {max_length} tokens. Shorten them, or raise --max-length")


def answerable(policy: Any, prompts: Sequence[Prompt]) -> np.ndarray:
    """Which prompts (n,) bool leave room for an answer in what the policy reads; all where that is not known."""
    context = getattr(getattr(policy, "codec", None), "context", None)
    if context is None:
        return np.full(len(prompts), True)
    return np.array([len(row) < context for row in policy.encode(prompts, any_length=True)], bool)
