"""Credit: which tokens earned the reward of a response (survey section 4.4). Pure functions that keep the sum.

A sequence reward R (B,) becomes token rewards (B, T) with sum_t r_t = R in every row, so that a policy that is best
for one is best for the other; `potential` keeps the sum for discount 1 and the discounted sum for less. `mask` (B, T)
marks real tokens, a prefix of each row; rewards are 0 elsewhere. `brevity` and `overlong` change
what is best on purpose.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tacit.errors import TacitError
from tacit.tuning.advantages import at_last_token, last_token


def terminal(rewards: Tensor, mask: Tensor) -> Tensor:
    """All of R on the last real token, (B, T): no credit at all, the default."""
    return at_last_token(rewards, mask)


def uniform(rewards: Tensor, mask: Tensor, share: float = 1.0) -> Tensor:
    """(1 - share) R on the last token and share R / l on each of l tokens, (B, T): the control for every other way.

    It tells no token from another, and in published results is hard to beat (METHODS 2e: on two of three tasks).
    """
    real = mask.float()
    return attention(rewards, real, mask, share)


def attention(rewards: Tensor, weights: Tensor, mask: Tensor, share: float = 0.8) -> Tensor:
    """ABC: r_t = (1 - share) R 1[t last] + share a_t R, (B, T), with `weights` (B, T) >= 0 scaled to sum_t a_t = 1.

    Attention-based credit (Chan et al. 2024, arXiv 2402.00782, equation 4): a_t is how much the reward model's last
    token attends to token t. A row whose weights are all zero falls back to equal ones. Raises `TacitError` for
    negative weights and a share outside 0..1.
    """
    if not 0 <= share <= 1:
        raise TacitError(f"the share of credit is {share}: it lies in 0..1")
    real = torch.where(mask, weights, torch.zeros_like(weights)).to(rewards.dtype)
    if bool((real < 0).any()):
        raise TacitError("weights of credit are negative. Give attention, or other weights from 0 up")
    total = real.sum(1, keepdim=True)
    real = torch.where(total > 0, real, mask.to(rewards.dtype))
    portions = real / real.sum(1, keepdim=True).clamp_min(torch.finfo(rewards.dtype).tiny)
    return (1 - share) * at_last_token(rewards, mask) + share * rewards[:, None] * portions


def differences(scores: Tensor, rewards: Tensor, mask: Tensor) -> Tensor:
    """r_t = s_t - s_{t-1} with s_0 = 0, and R - s_l on the last of l tokens besides, (B, T).

    `scores` (B, T) are what a token-level reward (or a learnt return) says of the response up to and with token t. What
    the last score misses of R lands on the last token, so that the sum is R whatever the scores are.
    """
    before = torch.cat([torch.zeros_like(scores[:, :1]), scores[:, :-1]], 1)
    steps = torch.where(mask, scores - before, torch.zeros_like(scores))
    missed = rewards - scores.gather(1, last_token(mask)[:, None])[:, 0]
    return steps + at_last_token(missed, mask)


def redistributed(predicted: Tensor, rewards: Tensor, mask: Tensor) -> Tensor:
    """RUDDER: r_t = g_t - g_{t-1}, and the error R - g_l of the prediction shared equally by the l tokens, (B, T).

    `predicted` (B, T) is the return expected after token t; g_0 = 0 (Arjona-Medina et al. 2019, arXiv 1806.07857,
    section 3 and equation A272: the correction keeps the return, and so the optimal policies).
    """
    before = torch.cat([torch.zeros_like(predicted[:, :1]), predicted[:, :-1]], 1)
    steps = torch.where(mask, predicted - before, torch.zeros_like(predicted))
    error = rewards - predicted.gather(1, last_token(mask)[:, None])[:, 0]
    return steps + uniform(error, mask)


def potential(rewards: Tensor, values: Tensor, mask: Tensor, discount: float = 1.0) -> Tensor:
    """Token rewards (B, T) plus F_t = discount Phi(s_{t+1}) - Phi(s_t), Phi of the beginning and of the end being 0.

    `rewards` are token rewards (B, T) and `values` (B, T) the potential Phi(s_t) of the state before token t, of which
    that of the prompt alone is taken off. Ng, Harada and Russell 1999, theorem 1: the optimal policies stay. The
    discounted sum of F over a row is 0.
    """
    centred = torch.where(mask, values - values[:, :1], torch.zeros_like(values))
    following = torch.cat([centred[:, 1:], torch.zeros_like(centred[:, :1])], 1)
    return torch.where(mask, rewards + discount * following - centred, torch.zeros_like(rewards))


def brevity(rewards: Tensor, mask: Tensor, discount: float) -> Tensor:
    """discount^{l - 1} R, (B,), for a response of l tokens: the preference for short answers of survey section 2.2.

    It is the discounted return of R on the last token. The sum is not kept, and the best policy may change: that is
    its purpose. A negative reward shrinks with length too, so that it rewards length where R < 0.
    """
    if not 0 < discount <= 1:
        raise TacitError(f"the discount is {discount}: it lies in 0..1, 0 excluded")
    return rewards * discount ** last_token(mask).to(rewards.dtype)


def overlong(lengths: Tensor, limit: int, buffer: int) -> Tensor:
    """DAPO's soft penalty (B,): 0 up to limit - buffer tokens, then falling to -1 at the limit and beyond.

    Yu et al. 2025 (arXiv 2503.14476, equation 13). Raises `TacitError` for a buffer outside 1..limit.
    """
    if not 1 <= buffer <= limit:
        raise TacitError(f"the buffer of the overlong penalty is {buffer} tokens: it lies in 1..{limit}")
    over = lengths.float() - (limit - buffer)
    return -(over / buffer).clamp(0.0, 1.0)
