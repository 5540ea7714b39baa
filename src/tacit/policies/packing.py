"""How the rows of `Responses` lie in one flat sequence without padding, every shared prompt once.

A *trunk* is a prompt that two or more rows share; a *leaf* is a row's response behind its trunk, or prompt and response
together where nothing is shared. The last token of a response is not read: nothing follows it. Trunks and leaves of
like length stand together in *blocks*, the only places where padding is computed, and only for attention:

    flat sequence = [block of trunks] ... [block of leaves behind trunks] ... [block of whole rows] ...

Everything but attention runs over the flat sequence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tacit.policies.contract import Responses

_WASTE = 1.15
"""Padded places over real ones that a block may reach."""
_SCORES = 1 << 22
"""Most scores of attention (rows x queries x keys) in a block."""


@dataclass(frozen=True)
class Block:
    """Segments that attend together: their tokens are `start : stop` of the flat sequence, segment after segment."""

    start: int
    stop: int
    lengths: Tensor
    """(b,) tokens of each segment."""
    width: int
    """Tokens of the longest."""
    places: Tensor | None
    """(stop - start,) where each token lies in the padded (b x width); None where nothing is padded."""
    trunk: Tensor | None
    """(b, P) where the tokens of each segment's trunk lie in the flat sequence, right padded with 0; None without."""
    trunk_real: Tensor | None
    """(b, P) bool."""


@dataclass(frozen=True)
class Packed:
    """A flat sequence of N tokens that gives the states before M response tokens."""

    ids: Tensor
    """(N,) int64"""
    positions: Tensor
    """(N,) int64"""
    blocks: list[Block]
    wanted: Tensor
    """(M,) places in the flat sequence whose states predict the response tokens, row after row."""
    rows: Tensor
    """(M,) the row of each."""
    times: Tensor
    """(M,) its place in the row."""


def pack(responses: Responses, device: torch.device) -> Packed:
    """The flat sequence of all rows; rows without tokens are left out."""
    lengths_B = responses.mask.sum(1).cpu().numpy()
    prompt_B = responses.prompt_of.cpu().numpy()
    tokens_BT = responses.tokens.cpu().numpy()
    live = np.flatnonzero(lengths_B > 0)
    uses_P = np.bincount(prompt_B[live], minlength=len(responses.prompts))
    shared_P = uses_P > 1
    sizes_P = np.array([len(prompt) for prompt in responses.prompts], np.int64)
    prompt_ids = np.concatenate(
        [np.asarray(prompt, np.int64) for prompt in responses.prompts] or [np.zeros(0, np.int64)]
    )
    prompt_starts_P = np.cumsum(sizes_P) - sizes_P

    builder = _Builder()
    trunks = np.flatnonzero(shared_P)
    trunk_start_P = np.full(len(sizes_P), -1, np.int64)
    order = trunks[np.argsort(-sizes_P[trunks], kind="stable")]
    trunk_start_P[order] = builder.add(order, sizes_P[order], None, None)
    own_B = lengths_B - 1
    behind = live[shared_P[prompt_B[live]]]
    behind = behind[np.lexsort((-own_B[behind], -sizes_P[prompt_B[behind]]))]
    whole = live[~shared_P[prompt_B[live]]]
    whole_sizes = sizes_P[prompt_B[whole]] + own_B[whole]
    whole = whole[np.argsort(-whole_sizes, kind="stable")]
    whole_sizes = sizes_P[prompt_B[whole]] + own_B[whole]
    leaf_start_B = np.full(len(lengths_B), -1, np.int64)
    filled = behind[own_B[behind] > 0]
    leaf_start_B[filled] = builder.add(
        filled, own_B[filled], trunk_start_P[prompt_B[filled]], sizes_P[prompt_B[filled]]
    )
    whole_start = builder.add(whole, whole_sizes, None, None)

    ids, positions = np.zeros(builder.total, np.int64), np.zeros(builder.total, np.int64)
    _copy(ids, trunk_start_P[order], prompt_ids, prompt_starts_P[order], sizes_P[order])
    positions[_ranges(trunk_start_P[order], sizes_P[order])] = _ranges(np.zeros_like(order), sizes_P[order])
    flat_tokens, row_starts = tokens_BT.ravel(), np.arange(len(lengths_B)) * tokens_BT.shape[1]
    _copy(ids, leaf_start_B[filled], flat_tokens, row_starts[filled], own_B[filled])
    positions[_ranges(leaf_start_B[filled], own_B[filled])] = _ranges(sizes_P[prompt_B[filled]], own_B[filled])
    sizes = sizes_P[prompt_B[whole]]
    _copy(ids, whole_start, prompt_ids, prompt_starts_P[prompt_B[whole]], sizes)
    _copy(ids, whole_start + sizes, flat_tokens, row_starts[whole], own_B[whole])
    positions[_ranges(whole_start, whole_sizes)] = _ranges(np.zeros_like(whole), whole_sizes)

    # The state before a row's first token is that of its prompt's last, wherever the prompt lies.
    first_B = np.full(len(lengths_B), -1, np.int64)
    first_B[behind] = trunk_start_P[prompt_B[behind]] + sizes_P[prompt_B[behind]] - 1
    first_B[whole] = whole_start + sizes - 1
    next_B = leaf_start_B.copy()
    next_B[whole] = whole_start + sizes
    times = _ranges(np.zeros_like(live), lengths_B[live])
    rows = np.repeat(live, lengths_B[live])
    wanted = np.where(times == 0, first_B[rows], next_B[rows] + times - 1)

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    blocks = [block.on(device) for block in builder.blocks]
    return Packed(tensor(ids), tensor(positions), blocks, tensor(wanted), tensor(rows), tensor(times))


@dataclass(frozen=True)
class _Draft:
    """A block in numpy."""

    start: int
    lengths: np.ndarray
    trunk_starts: np.ndarray | None
    trunk_sizes: np.ndarray | None

    def on(self, device: torch.device) -> Block:
        width = int(self.lengths.max())
        places = None
        if (self.lengths != width).any():
            places = torch.from_numpy(_ranges(np.arange(len(self.lengths)) * width, self.lengths)).to(device)
        trunk = real = None
        if self.trunk_starts is not None and self.trunk_sizes is not None:
            columns = np.arange(int(self.trunk_sizes.max()))
            shown = columns < self.trunk_sizes[:, None]
            trunk = torch.from_numpy(np.where(shown, self.trunk_starts[:, None] + columns, 0)).to(device)
            real = torch.from_numpy(shown).to(device)
        stop = self.start + int(self.lengths.sum())
        return Block(self.start, stop, torch.from_numpy(self.lengths).to(device), width, places, trunk, real)


class _Builder:
    """Puts segments one after another and cuts them into blocks."""

    def __init__(self) -> None:
        self.total = 0
        self.blocks: list[_Draft] = []

    def add(
        self, segments: np.ndarray, lengths: np.ndarray, trunk_starts: np.ndarray | None, trunk_sizes: np.ndarray | None
    ) -> np.ndarray:
        """Where each segment starts."""
        starts = self.total + np.cumsum(lengths) - lengths
        for part in _cuts(lengths, trunk_sizes):
            self.blocks.append(
                _Draft(
                    int(starts[part.start]), lengths[part], None if trunk_starts is None else trunk_starts[part],
                    None if trunk_sizes is None else trunk_sizes[part],
                )
            )  # fmt: skip
        self.total += int(lengths.sum())
        return np.asarray(starts, np.int64)


def _cuts(lengths: np.ndarray, trunk_sizes: np.ndarray | None) -> list[slice]:
    """Runs of segments whose padding stays below the waste allowed, and whose scores stay below the limit."""
    parts: list[slice] = []
    start = 0
    while start < len(lengths):
        count = np.arange(1, len(lengths) - start + 1)
        widest = np.maximum.accumulate(lengths[start:])
        keys = widest + (0 if trunk_sizes is None else np.maximum.accumulate(trunk_sizes[start:]))
        padded, real = count * widest, np.cumsum(lengths[start:])
        # A few rows waste nothing that matters: a block of its own would cost more.
        fine = ((padded <= _WASTE * real) | (padded - real <= 256)) & (count * widest * keys <= _SCORES)
        many = max(1, int(np.argmin(fine)) if not fine.all() else len(fine))
        parts.append(slice(start, start + many))
        start += many
    return parts


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """start, start + 1, ..., start + length - 1 of every pair, one after another."""
    if not len(lengths) or not lengths.sum():
        return np.zeros(0, np.int64)
    ends = np.cumsum(lengths)
    return np.asarray(np.arange(ends[-1]) - np.repeat(ends - lengths, lengths) + np.repeat(starts, lengths), np.int64)


def _copy(target: np.ndarray, to: np.ndarray, source: np.ndarray, start: np.ndarray, lengths: np.ndarray) -> None:
    """target[to : to + length] = source[start : start + length] for every triple."""
    target[_ranges(to, lengths)] = source[_ranges(start, lengths)]
