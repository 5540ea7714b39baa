"""Batched sampling: one prefill for each prompt, rows that are finished leave the batch, log-probabilities on the way.

The loop here knows no model: a `Decoder` reads prompts and then one token a row at a time. Rows are numbered through
the whole call, and the random numbers of a row are its own (`tacit.policies.sampling`): neither the batch nor rows that
ended show in a sample beyond the rounding of its logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tacit.policies.contract import Rollout, Sampling
from tacit.policies.sampling import check_sampling, draw, uniforms
from tacit.policies.tokens import Codec, PolicyError

_ROWS = {"cpu": 256, "cuda": 1024}
"""Rows that are sampled at the same time."""
_TOKENS = {"cpu": 131_072, "cuda": 4_194_304}
"""Places of their caches."""
_LEAVE = 0.125
"""Share of finished rows at which they leave the batch."""


class Decoder(Protocol):
    """A model that reads prompts, and then one token of each row at a time."""

    def prefill(self, prompts: Sequence[Sequence[int]], n: int, length: int) -> Tensor:
        """Read the prompts, make n rows of each with room for `length` tokens; logits (P, V) float32 after them."""
        ...

    def step(self, tokens_B: Tensor) -> Tensor:
        """Read one more token of each row; logits (B, V) float32 after it."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows alone, int64 numbers among the present ones."""
        ...


def sample(
    decoder: Callable[[], Decoder],
    codec: Codec,
    prompts: Sequence[list[int]],
    n: int,
    sampling: Sampling,
    *,
    device: torch.device,
    first: int = 0,
) -> Rollout:
    """n responses of each prompt; `first` is the number of the first row, for callers that hand over parts of a whole.

    A prompt whose answer would pass the context gets what room there is. Raises `PolicyError` for bad options.
    """
    check_sampling(sampling)
    if n < 1:
        raise PolicyError(f"n is {n}. Ask for 1 or more")
    rows = len(prompts) * n
    rooms_P = np.array([min(sampling.max_new_tokens, codec.context - len(prompt)) for prompt in prompts], np.int64)
    width = int(rooms_P.max(initial=0))
    tokens_BT = torch.zeros(rows, width, dtype=torch.int64, device=device)
    logprobs_BT = torch.zeros(rows, width, device=device)
    lengths_B = torch.zeros(rows, dtype=torch.int64, device=device)
    ended_B = torch.zeros(rows, dtype=torch.bool, device=device)
    cuts: dict[int, str] = {}
    for chosen in _prompt_batches([len(prompt) for prompt in prompts], n, width, device.type):
        numbers = (chosen[:, None] * n + np.arange(n)).ravel()
        rooms = torch.from_numpy(np.repeat(rooms_P[chosen], n)).to(device)
        noise = torch.from_numpy(uniforms(sampling.seed, numbers + first, int(rooms.max()))).to(device)
        results = (tokens_BT, logprobs_BT, lengths_B, ended_B)
        rows_B = torch.from_numpy(numbers).to(device)
        _fill(decoder(), codec, [prompts[p] for p in chosen], n, sampling, rooms, noise, rows_B, results, cuts)
    width = int(lengths_B.max()) if rows else 0
    mask_BT = torch.arange(width, device=device) < lengths_B[:, None]
    lengths = lengths_B.tolist()
    ends = set(codec.ends)
    kept = [
        row[: length - 1] if length and row[length - 1] in ends else row[:length]
        for row, length in zip(tokens_BT.tolist(), lengths, strict=True)
    ]
    texts = codec.decode(kept)
    for row, text in cuts.items():
        texts[row] = text
    return Rollout(
        [list(prompt) for prompt in prompts],
        torch.arange(rows, device=device) // n,
        tokens_BT[:, :width],
        mask_BT,
        logprobs=logprobs_BT[:, :width],
        ended=ended_B,
        texts=texts,
    )


def _fill(
    model: Decoder,
    codec: Codec,
    prompts: list[list[int]],
    n: int,
    sampling: Sampling,
    rooms_B: Tensor,
    noise_BT: Tensor,
    numbers_B: Tensor,
    results: tuple[Tensor, Tensor, Tensor, Tensor],
    cuts: dict[int, str],
) -> None:
    """Sample the rows `numbers_B` of the results."""
    tokens_BT, logprobs_BT, lengths_B, ended_B = results
    device = tokens_BT.device
    ends = torch.tensor(codec.ends, dtype=torch.int64, device=device)
    stops = _Stops(codec, sampling.stop) if sampling.stop else None
    logits = model.prefill(prompts, n, int(rooms_B.max())).repeat_interleave(n, 0)
    live_B = torch.ones(len(numbers_B), dtype=torch.bool, device=device)
    for place in range(noise_BT.shape[1]):
        tokens_B, found_B = draw(logits, noise_BT[:, place], sampling)
        whole = bool(live_B.all())
        rows, chosen, logp = (numbers_B, tokens_B, found_B) if whole else (
            numbers_B[live_B], tokens_B[live_B], found_B[live_B]
        )  # fmt: skip
        tokens_BT[rows, place], logprobs_BT[rows, place], lengths_B[rows] = chosen, logp, place + 1
        over_B = torch.isin(tokens_B, ends)
        if stops is not None:
            over_B |= stops.reached(tokens_BT, numbers_B, tokens_B, place, live_B & ~over_B, cuts)
        ended_B[numbers_B[live_B & over_B]] = True
        live_B &= ~over_B & (rooms_B > place + 1)
        left = int(live_B.sum())
        if left == 0:
            return
        if left <= (1 - _LEAVE) * len(live_B):
            kept = live_B.nonzero().squeeze(1)
            model.keep(kept)
            numbers_B, rooms_B, noise_BT, tokens_B = (x[kept] for x in (numbers_B, rooms_B, noise_BT, tokens_B))
            live_B = torch.ones(left, dtype=torch.bool, device=device)
        logits = model.step(tokens_B)


class _Stops:
    """Which rows have just written one of the stop texts."""

    def __init__(self, codec: Codec, stops: tuple[str, ...]) -> None:
        self.codec, self.stops = codec, stops
        size = len(codec.tokenizer)
        texts = codec.decode([[token] for token in range(size)])
        last = {stop[-1] for stop in stops}
        # A token that spells a part of a character may complete one, so it is looked at as well.
        self.may_end = torch.tensor([not text or "�" in text or bool(last & set(text)) for text in texts])

    def reached(
        self, tokens_BT: Tensor, numbers_B: Tensor, tokens_B: Tensor, place: int, live_B: Tensor, cuts: dict[int, str]
    ) -> Tensor:
        """Live rows (B,) bool whose text now holds a stop; the text before it goes to `cuts`."""
        self.may_end = self.may_end.to(tokens_B.device)
        known_B = tokens_B < len(self.may_end)
        asked_B = live_B & known_B & self.may_end[tokens_B.clamp_max(len(self.may_end) - 1)]
        reached_B = torch.zeros_like(live_B)
        rows = asked_B.nonzero().squeeze(1)
        numbers = numbers_B[rows].tolist()
        texts = self.codec.decode(tokens_BT[numbers_B[rows], : place + 1].tolist()) if numbers else []
        for row, number, text in zip(rows.tolist(), numbers, texts, strict=True):
            places = [at for stop in self.stops if (at := text.find(stop)) >= 0]
            if places:
                reached_B[row] = True
                cuts[number] = text[: min(places)]
        return reached_B


def _prompt_batches(lengths: Sequence[int], n: int, width: int, device: str) -> Iterator[np.ndarray]:
    """Numbers of prompts whose rows are sampled together: of like length, within the rows and places of a device."""
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    start = 0
    while start < len(order):
        places = n * (int(lengths[order[start]]) + width)
        many = max(1, min(_ROWS.get(device, 256) // n, _TOKENS.get(device, 131_072) // places))
        yield order[start : start + many]
        start += many
