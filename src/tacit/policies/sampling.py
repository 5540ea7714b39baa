"""Drawing tokens: how a distribution is cut, and random numbers that belong to a row and a place.

    p_T(a) ~ exp(l_a / T), cut by top_k, top_p (Holtzman et al. 2020, arXiv 1904.09751) and min_p (Nguyen et al. 2024,
    arXiv 2407.01082) in this order, renormalised.

A token is drawn by inversion: the first a with sum_{b <= a} p(b) > u. The uniform number u of row r at place t is a
hash of (seed, r, t), so that neither the batch nor what happened to other rows shows in it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tacit.policies.contract import Sampling
from tacit.policies.tokens import PolicyError

_BLOCK = 256
_FEW = 256


def check_sampling(sampling: Sampling) -> None:
    """Raise `PolicyError` for an option outside its range."""
    for name, fine, range_ in (
        ("max_new_tokens", sampling.max_new_tokens >= 1, "1 or more"),
        ("temperature", 0 <= sampling.temperature < float("inf"), "0 or more"),
        ("top_k", sampling.top_k >= 0, "0 (all) or more"),
        ("top_p", 0 < sampling.top_p <= 1, "above 0 and up to 1"),
        ("min_p", 0 <= sampling.min_p <= 1, "between 0 and 1"),
        ("stop", all(sampling.stop), "texts that are not empty"),
    ):
        if not fine:
            raise PolicyError(f"{name} is {getattr(sampling, name)}. Give {range_}")


def uniforms(seed: int, rows: np.ndarray, length: int) -> np.ndarray:
    """Uniform numbers in [0, 1) for rows (B,) at places 0..length-1: (B, length) float32.

    A counter-based generator: SplitMix64's finaliser (Steele, Lea & Flood 2014) of the seed, then of the row, then of
    the place.
    """
    with np.errstate(over="ignore"):
        start = _mix(np.array([seed % 2**64], np.uint64))
        keys_B1 = _mix(start + np.asarray(rows).astype(np.uint64) * _GOLDEN)[:, None]
        words = _mix(keys_B1 + (np.arange(length, dtype=np.uint64) + np.uint64(1)) * _GOLDEN)
    return ((words >> np.uint64(40)).astype(np.float32)) * np.float32(2.0**-24)


def seeds(seed: int, rows: np.ndarray) -> np.ndarray:
    """A seed in 0..2^31 - 1 for each row, for engines that draw by themselves."""
    with np.errstate(over="ignore"):
        start = _mix(np.array([seed % 2**64], np.uint64))
        return _mix(start + np.asarray(rows).astype(np.uint64) * _GOLDEN) >> np.uint64(33)


def draw(logits_BV: Tensor, uniforms_B: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Tokens (B,) and their log p (B,), before the cuts and at the temperature (1 where it is 0), from float32 logits.

    The logits may be overwritten.
    """
    if sampling.temperature == 0:
        best_B, tokens_B = logits_BV.max(1)
        return tokens_B, best_B - torch.logsumexp(logits_BV, 1)
    if sampling.temperature != 1:
        logits_BV = logits_BV.div_(sampling.temperature)
    if sampling.top_k or sampling.top_p < 1 or sampling.min_p:
        values, ids = _kept(logits_BV, sampling)
        weights = torch.exp(values - values[:, :1])
        place_B = _inverted(weights, uniforms_B)
        tokens_B = ids.gather(1, place_B[:, None]).squeeze(1)
        total_B = torch.logsumexp(logits_BV, 1)
        return tokens_B, values.gather(1, place_B[:, None]).squeeze(1) - total_B
    best_B1 = logits_BV.amax(1, keepdim=True)
    weights = torch.exp(logits_BV - best_B1)
    tokens_B = _inverted(weights, uniforms_B)
    return tokens_B, torch.log(weights.gather(1, tokens_B[:, None]).squeeze(1) / weights.sum(1))


def _inverted(weights_BV: Tensor, uniforms_B: Tensor) -> Tensor:
    """The first place whose cumulated weight passes u times the total: blocks first, then within one block."""
    rows, size = weights_BV.shape
    if size <= 2 * _BLOCK:
        return _first_above(weights_BV.cumsum(1, dtype=torch.float64), uniforms_B)
    blocks = -(-size // _BLOCK)
    padded = torch.nn.functional.pad(weights_BV, (0, blocks * _BLOCK - size)).view(rows, blocks, _BLOCK)
    cumulated = padded.sum(2).cumsum(1, dtype=torch.float64)
    block_B = _first_above(cumulated, uniforms_B)
    before_B = torch.where(
        block_B > 0,
        cumulated.gather(1, (block_B - 1).clamp_min(0)[:, None]).squeeze(1),
        torch.zeros_like(cumulated[:, 0]),
    )
    inside = padded[torch.arange(rows, device=weights_BV.device), block_B].cumsum(1, dtype=torch.float64)
    target_B = uniforms_B.double() * cumulated[:, -1] - before_B
    offset_B = (inside <= target_B[:, None]).sum(1)
    # Rounding may leave the target a hair above the block: its last token with weight is meant.
    last_B = (inside < inside[:, -1:]).sum(1)
    return block_B * _BLOCK + torch.minimum(offset_B, last_B)


def _first_above(cumulated: Tensor, uniforms_B: Tensor) -> Tensor:
    target_B1 = uniforms_B.double()[:, None] * cumulated[:, -1:]
    last_B = (cumulated < cumulated[:, -1:]).sum(1)
    return torch.minimum((cumulated <= target_B1).sum(1), last_B)


def _kept(logits_BV: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Logits (B, K) of the tokens that the cuts leave, likeliest first and -inf where cut, with their ids."""
    size = logits_BV.shape[1]
    width = min(sampling.top_k or size, size)
    if width > _FEW and (sampling.top_p < 1 or sampling.min_p):
        values, ids = _cut(logits_BV, min(_FEW, width), sampling, width)
        if bool((values[:, -1] == -torch.inf).all()):  # the cuts ended before the last candidate: none was missed
            return values, ids
    return _cut(logits_BV, width, sampling, width)


def _cut(logits_BV: Tensor, count: int, sampling: Sampling, width: int) -> tuple[Tensor, Tensor]:
    """The likeliest `count` tokens after the cuts; the mass that top_p cuts is that of the likeliest `width`."""
    values, ids = logits_BV.topk(count, dim=1)
    keep = torch.ones_like(values, dtype=torch.bool)
    if sampling.top_p < 1:
        total = torch.logsumexp(values if count == width else logits_BV, 1, keepdim=True)
        if count < width < logits_BV.shape[1]:
            total = torch.logsumexp(logits_BV.topk(width, dim=1).values, 1, keepdim=True)
        p = torch.exp(values - total)
        keep &= p.cumsum(1) - p < sampling.top_p
    if sampling.min_p:
        keep &= values >= values[:, :1] + float(np.log(sampling.min_p))
    return values.masked_fill(~keep, -torch.inf), ids


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(words: np.ndarray) -> np.ndarray:
    words = words + _GOLDEN
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = words ^ (words >> np.uint64(31))
    return mixed
