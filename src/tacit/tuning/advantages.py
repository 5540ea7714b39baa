"""Advantages: pure functions from rewards to what a policy gradient multiplies log-probabilities with.

Shapes: `returns` are (P, G) for one number a response, or (P, G, T) for the return from each token on; P prompts with
G responses each. Token rewards and values are (B, T) with a mask (B, T) that is a prefix of each row.

A baseline b leaves E[(R - b) grad log pi] as it is where b does not depend on the response that it is taken off:
`leave_one_out`, `remax` and a moving average have that property; the mean of the whole group does not, and shrinks the
gradient by (G - 1) / G.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from tacit.errors import TacitError

Scale = Literal["group", "batch", "none"]


def last_token(mask: Tensor) -> Tensor:
    """Place (B,) of the last real token of each row: its end token, or the last one sampled. 0 for an empty row."""
    return (mask.long().sum(1) - 1).clamp_min(0)


def at_last_token(rewards: Tensor, mask: Tensor) -> Tensor:
    """Token rewards (B, T) of sequence rewards (B,): all of it on the last real token."""
    spread = torch.zeros(mask.shape, dtype=rewards.dtype, device=rewards.device)
    return spread.scatter(1, last_token(mask)[:, None], rewards[:, None]) * mask


def to_go(rewards: Tensor, mask: Tensor, discount: float = 1.0) -> Tensor:
    """Returns from each token on, G_t = sum_{s >= t} discount^{s - t} r_s, (B, T), for token rewards (B, T).

    Past the end of a row the return of its last real token stands, so that rows of other lengths can be compared with
    it token by token.
    """
    real = torch.where(mask, rewards, torch.zeros_like(rewards))
    if discount == 1.0:
        returns = real.flip(1).cumsum(1).flip(1)
    else:
        returns, running = torch.empty_like(real), torch.zeros_like(real[:, 0])
        for t in reversed(range(real.shape[1])):
            running = real[:, t] + discount * running
            returns[:, t] = running
    last = returns.gather(1, last_token(mask)[:, None])
    return torch.where(mask, returns, last)


def leave_one_out(returns: Tensor) -> Tensor:
    """RLOO: R_i - mean of the other R_j of its prompt, the shape of `returns` (P, G) or (P, G, T).

    Kool et al. 2019; Ahmadian et al. 2024 (arXiv 2402.14740, equation 8). Unbiased. Raises `TacitError` for G = 1.
    """
    group = returns.shape[1]
    if group < 2:
        raise TacitError("RLOO compares responses to one prompt. Give num_generations of at least 2")
    others = (returns.sum(1, keepdim=True) - returns) / (group - 1)
    return returns - others


def grpo(returns: Tensor, scale: Scale = "group", *, sequence: Tensor | None = None, epsilon: float = 1e-4) -> Tensor:
    """GRPO: (R_i - mean) / (std + epsilon) over the responses to a prompt, the shape of `returns`.

    Shao et al. 2024 (arXiv 2402.03300, section 4.1.2). `scale` is the standard deviation (divisor G - 1) of the group,
    of the whole `batch`, or `none` (Dr. GRPO, arXiv 2503.20783). With `none` the mean gradient is (G - 1) / G of the
    true one, since the mean holds the response itself. A group of one, or of equal rewards, has the advantage 0.

    For token returns `sequence` (P, G) gives the spread: that of whole responses. Where a rule of credit tells tokens
    apart in a group whose responses are worth the same, that spread is 0 and would blow the differences up by
    1 / epsilon: they are divided by the spread of the batch, or by 1 where it has none either.
    """
    centred = returns - returns.mean(1, keepdim=True)
    if scale == "none":
        return centred
    whole = returns if sequence is None else sequence
    if scale == "batch":
        deviation = whole.std() if whole.numel() > 1 else torch.zeros((), dtype=returns.dtype, device=returns.device)
        return centred / (deviation + epsilon)
    if scale != "group":
        raise TacitError(f"no scale `{scale}`. Choose one of: group, batch, none")
    deviation = whole.std(1, keepdim=True) if whole.shape[1] > 1 else torch.zeros_like(whole[:, :1])
    if centred.ndim > 2:
        batch = whole.std() if whole.numel() > 1 else torch.zeros_like(whole.sum())
        told_apart = (deviation <= epsilon) & (centred.abs().flatten(1).amax(1, keepdim=True) > 2 * epsilon)
        deviation = torch.where(told_apart, torch.where(batch > epsilon, batch, torch.ones_like(batch)), deviation)
    return centred / (deviation.reshape(deviation.shape[:2] + (1,) * (centred.ndim - 2)) + epsilon)


def remax(returns: Tensor, greedy: Tensor) -> Tensor:
    """ReMax: R_i - R(greedy response), for `returns` (P, G) or (P, G, T) and `greedy` (P,) or (P, T).

    Li et al. 2023 (arXiv 2310.10505, algorithm 1). Unbiased, for the greedy response depends on the prompt alone.
    """
    return returns - greedy[:, None]


def others_mean(returns: Tensor) -> Tensor:
    """REINFORCE with the mean over all other rows of the batch as baseline; `returns` is (B,) or (B, T), B > 1.

    Unbiased, since rows are independent. One row alone keeps its return.
    """
    if len(returns) < 2:
        return returns
    return returns - (returns.sum(0, keepdim=True) - returns) / (len(returns) - 1)


def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, *, discount: float = 1.0, trace: float = 0.95
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates and the returns a critic learns, each (B, T), 0 where `mask` is False.

        delta_t = r_t + discount V_{t+1} - V_t        A_t = delta_t + discount trace A_{t+1}        returns = A + V

    Schulman et al. 2016 (arXiv 1506.02438, equation 16). `values` (B, T) are V(s_t) before token t; after the last real
    token the episode has ended and V is 0.
    """
    zero = torch.zeros_like(values[:, 0])
    following, running = zero, zero
    advantages = torch.zeros_like(values)
    for t in reversed(range(values.shape[1])):
        delta = rewards[:, t] + discount * following - values[:, t]
        running = torch.where(mask[:, t], delta + discount * trace * running, zero)
        following = torch.where(mask[:, t], values[:, t], zero)
        advantages[:, t] = running
    return advantages, torch.where(mask, advantages + values, torch.zeros_like(values))


def whiten(
    advantages: Tensor,
    mask: Tensor,
    *,
    centre: bool = True,
    epsilon: float = 1e-8,
    everywhere: Callable[[Tensor], Tensor] = lambda sums: sums,
) -> Tensor:
    """(A - mean) / std over all real tokens, (B, T), 0 elsewhere; `centre=False` leaves the mean in (divisor n - 1).

    `everywhere` adds up the sums (3,) of all processes.
    """
    real = torch.where(mask, advantages, torch.zeros_like(advantages))
    sums = everywhere(torch.stack([real.double().sum(), real.double().square().sum(), mask.sum().double()]))
    total, squares, count = (float(one) for one in sums)
    mean = total / max(count, 1.0)
    deviation = math.sqrt(max((squares - count * mean**2) / max(count - 1, 1.0), 0.0))
    return (real - mean if centre else real) / (deviation + epsilon) * mask
