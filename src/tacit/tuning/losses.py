"""Losses of tuning: pure functions from log-probabilities to a loss for each row, pair or token.

Notation: B rows, T tokens, n pairs, P prompts with G responses each. Log-probabilities are in nats; log pi(y | x) is
the sum over the tokens of a response. `chosen` is y+ and `rejected` y-. Nothing here averages over a batch unless it
says so: `token_weights` gives the weights with which token losses add up to the loss of an optimiser step, so that a
step may be cut into micro-batches, or over processes, without changing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from tacit.errors import TacitError

Average = Literal["token", "sequence", "constant"]
KLEstimator = Literal["k1", "k2", "k3"]


# --- averages over tokens ---------------------------------------------------------------------------------------------


def token_weights(
    mask: Tensor, how: Average, *, rows: float | None = None, tokens: float | None = None, constant: float = 1.0
) -> Tensor:
    """Weights (B, T) float32 with which token losses add up, 0 where `mask` (B, T) is False.

    | how | weight of a token in a row of length l | known as |
    |---|---|---|
    | token | 1 / tokens | token mean (DAPO, TRL's `dapo` and `bnpo`): long responses weigh more |
    | sequence | 1 / (rows l) | mean over rows of their token means (GRPO, TRL's `grpo`) |
    | constant | 1 / (rows constant) | Dr. GRPO (arXiv 2503.20783): no length bias; constant 1 gives the gradient of J |

    `rows` and `tokens` are those of the whole optimiser step, over all micro-batches and processes; of this batch
    unless given. Raises `TacitError` for an unknown name.
    """
    if how not in get_args(Average):
        raise TacitError(f"no average `{how}`. Choose one of: {', '.join(get_args(Average))}")
    real = mask.float()
    rows = float(len(mask)) if rows is None else rows
    if how == "token":
        total = float(real.sum()) if tokens is None else tokens
        return real / max(total, 1.0)
    if how == "sequence":
        return real / (real.sum(1, keepdim=True).clamp_min(1.0) * max(rows, 1.0))
    return real / (max(rows, 1.0) * constant)


def sft(
    logprobs: Tensor,
    mask: Tensor,
    average: Average = "token",
    weight: Tensor | None = None,
    *,
    rows: float | None = None,
    tokens: float | None = None,
) -> Tensor:
    """-sum_t w_t log pi(a_t | s_t), a scalar: forward KL to the demonstrator up to his entropy (survey 4.3).

    `logprobs` and `mask` are (B, T), `weight` (B,) weighs rows; `average`, `rows` and `tokens` are those of
    `token_weights`.
    """
    weights = token_weights(mask, average, rows=rows, tokens=tokens)
    if weight is not None:
        weights = weights * weight[:, None]
    return -(weights * logprobs).sum()


# --- preferences ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pairs:
    """n pairs as preference losses see them; each (n,)."""

    chosen: Tensor
    """log pi(y+ | x)."""
    rejected: Tensor
    """log pi(y- | x)."""
    reference_chosen: Tensor | None = None
    """log pi_ref(y+ | x)."""
    reference_rejected: Tensor | None = None
    """log pi_ref(y- | x)."""
    chosen_tokens: Tensor | None = None
    """Tokens of y+, for losses that average over length."""
    rejected_tokens: Tensor | None = None
    """Tokens of y-."""

    @property
    def margin(self) -> Tensor:
        """h = log pi(y+)/pi_ref(y+) - log pi(y-)/pi_ref(y-), (n,); pi_ref uniform where there is none."""
        margin = self.chosen - self.rejected
        if self.reference_chosen is None or self.reference_rejected is None:
            return margin
        return margin - (self.reference_chosen - self.reference_rejected)


@dataclass(frozen=True)
class PreferenceOptions:
    """Numbers of preference losses; each loss reads its own."""

    beta: float = 0.1
    """Inverse temperature of the implicit reward beta log pi / pi_ref; of `ipo` the regularisation tau."""
    label_smoothing: float = 0.0
    """Assumed share e of flipped labels, for `sigmoid` (then cDPO) and `robust`."""
    gamma: float = 1.0
    """Target margin of `simpo`, and delta of `slic`."""
    sft_weight: float = 0.1
    """Weight of the likelihood of y+ in `slic`."""


def sigmoid(pairs: Pairs, options: PreferenceOptions) -> Tensor:
    """DPO: -(1 - e) log sigma(beta h) - e log sigma(-beta h), (n,).

    Rafailov et al. 2023 (arXiv 2305.18290, equation 7), with the smoothing e of conservative DPO (Mitchell 2023). Its
    optimum is pi* ~ pi_ref exp(r / beta): both pi_ref and beta stay, which the survey's box loses. Without reference
    log-probabilities pi_ref is uniform: the maximum-entropy special case.
    """
    logit, e = options.beta * pairs.margin, options.label_smoothing
    return -(1 - e) * logsigmoid(logit) - e * logsigmoid(-logit)


def robust(pairs: Pairs, options: PreferenceOptions) -> Tensor:
    """[-(1 - e) log sigma(beta h) + e log sigma(-beta h)] / (1 - 2e), (n,).

    Its mean over labels flipped with probability e is the loss of clean labels (Chowdhury et al. 2024, arXiv
    2403.00409, equation 12). Raises `TacitError` for e outside [0, 1/2).
    """
    e = options.label_smoothing
    if not 0 <= e < 0.5:
        raise TacitError(f"label_smoothing is {e}: `robust` needs a share of flipped labels in 0..0.5, 0.5 excluded")
    logit = options.beta * pairs.margin
    return (-(1 - e) * logsigmoid(logit) + e * logsigmoid(-logit)) / (1 - 2 * e)


def ipo(pairs: Pairs, options: PreferenceOptions) -> Tensor:
    """(h - 1 / (2 beta))^2, (n,): IPO (Azar et al. 2023, arXiv 2310.12036, equation 17) with tau = beta.

    h sums over tokens, as the paper is written; TRL averages over them (as its authors told TRL),
    which takes a larger beta.
    """
    return (pairs.margin - 1 / (2 * options.beta)) ** 2


def hinge(pairs: Pairs, options: PreferenceOptions) -> Tensor:
    """max(0, 1 - beta h), (n,): the hinge-norm loss of RSO (Liu et al. 2023, arXiv 2309.06657, equation 10)."""
    return torch.relu(1 - options.beta * pairs.margin)


def slic(pairs: Pairs, options: PreferenceOptions) -> Tensor:
    """max(0, delta - log pi(y+) + log pi(y-)) - lambda log pi(y+), (n,), without a reference model.

    SLiC-HF (Zhao et al. 2023, arXiv 2305.10425, equation 1) with delta = gamma, lambda = sft_weight and the chosen
    response as the target that keeps the policy near its data.
    """
    return torch.relu(options.gamma - pairs.chosen + pairs.rejected) - options.sft_weight * pairs.chosen


def simpo(pairs: Pairs, options: PreferenceOptions) -> Tensor:
    """-log sigma(beta log pi(y+) / |y+| - beta log pi(y-) / |y-| - gamma), (n,).

    SimPO (Meng et al. 2024, arXiv 2405.14734, equation 6); the paper takes beta from 2 to 10 and gamma about beta / 2.
    Raises `TacitError` where the lengths are missing.
    """
    if pairs.chosen_tokens is None or pairs.rejected_tokens is None:
        raise TacitError("`simpo` averages over tokens. Give the lengths of chosen and rejected responses")
    margin = pairs.chosen / pairs.chosen_tokens - pairs.rejected / pairs.rejected_tokens
    return -logsigmoid(options.beta * margin - options.gamma)


def reference_free(pairs: Pairs, options: PreferenceOptions) -> Tensor:
    """`sigmoid` under a uniform reference, (n,): what the survey's DPO box writes (optimum pi* ~ exp(r / beta))."""
    return sigmoid(Pairs(pairs.chosen, pairs.rejected), options)


PREFERENCE: dict[str, Callable[[Pairs, PreferenceOptions], Tensor]] = {
    "sigmoid": sigmoid,
    "robust": robust,
    "ipo": ipo,
    "hinge": hinge,
    "slic": slic,
    "simpo": simpo,
    "reference_free": reference_free,
}
"""Losses of pairs by name. cDPO is `sigmoid` with label_smoothing; RSO's losses are `sigmoid` and `hinge`."""
WITHOUT_REFERENCE = ("slic", "simpo", "reference_free")
"""Those that ask no reference model."""


def kto(
    log_ratio: Tensor,
    desirable: Tensor,
    baseline: Tensor | float,
    *,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Tensor:
    """KTO, (n,): w+ [1 - sigma(beta (h - z))] for a desirable response, w- [1 - sigma(beta (z - h))] for another.

    h = log pi(y|x) / pi_ref(y|x) is `log_ratio` (n,), z = KL(pi || pi_ref) >= 0 the `baseline`, taken without gradient
    (Ethayarajh et al. 2024, arXiv 2402.01306, equations 7 and 8; their r carries beta, here it stands outside).
    """
    sign = torch.where(desirable, 1.0, -1.0).to(log_ratio)
    weight = torch.where(desirable, desirable_weight, undesirable_weight).to(log_ratio)
    return weight * (1 - torch.sigmoid(sign * beta * (log_ratio - baseline)))


def rrhf(scores: Tensor, rewards: Tensor, logprobs: Tensor, *, sft_weight: float = 1.0) -> Tensor:
    """RRHF, (P,): sum over pairs with R_i < R_j of max(0, p_i - p_j), less sft_weight log pi of the best response.

    `scores` (P, G) are the mean log-probabilities p_i of a response's tokens, `rewards` (P, G) rank them, `logprobs`
    (P, G) are sums (Yuan et al. 2023, arXiv 2304.05302, equations 2 to 4).
    """
    worse = rewards[:, :, None] < rewards[:, None, :]
    rank = torch.relu(scores[:, :, None] - scores[:, None, :]).masked_fill(~worse, 0.0).sum((1, 2))
    best = logprobs.gather(1, rewards.argmax(1, keepdim=True))[:, 0]
    return rank - sft_weight * best


# --- policy gradients -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clipped:
    """Token losses (B, T) and where the clip took the gradient away, (B, T) bool."""

    loss: Tensor
    below: Tensor
    """The ratio lies under 1 - low and the advantage is negative."""
    above: Tensor
    """The ratio lies over 1 + high and the advantage is positive."""


def clipped(logprobs: Tensor, old: Tensor, advantages: Tensor, low: float = 0.2, high: float = 0.2) -> Clipped:
    """-min(rho_t A_t, clip(rho_t, 1 - low, 1 + high) A_t) with rho_t = pi(a_t | s_t) / pi_old(a_t | s_t), (B, T).

    PPO (Schulman et al. 2017, arXiv 1707.06347, equation 7); high > low is DAPO's clip-higher (arXiv 2503.14476,
    equation 10). At rho = 1 the gradient is that of -A_t log pi(a_t | s_t) (Williams 1992).
    """
    ratio = torch.exp(logprobs - old)
    bounded = ratio.clamp(1 - low, 1 + high)
    loss = -torch.minimum(ratio * advantages, bounded * advantages)
    return Clipped(loss, (ratio < 1 - low) & (advantages < 0), (ratio > 1 + high) & (advantages > 0))


def kl(logprobs: Tensor, reference: Tensor, how: KLEstimator = "k1") -> Tensor:
    """Estimates of KL(pi || pi_ref) from tokens that pi sampled, with d = log pi - log pi_ref; the shape of both.

        k1 = d                     unbiased; may be negative
        k2 = d^2 / 2               biased, low variance
        k3 = e^{-d} - 1 + d        unbiased, never negative

    Schulman 2020, "Approximating KL divergence". Of one choice, k1 in the reward (without gradient) and k2 in the loss
    give the gradient of KL(pi || pi_ref); the mean gradient of k1 in the loss is zero, and that of k3 in the loss is
    the gradient of KL(pi_ref || pi). Of a sequence that holds for k1 in the reward alone: token losses leave out that
    early tokens decide which states come later.
    """
    if how not in get_args(KLEstimator):
        raise TacitError(f"no KL estimator `{how}`. Choose one of: {', '.join(get_args(KLEstimator))}")
    difference = logprobs - reference
    if how == "k1":
        return difference
    if how == "k2":
        return difference**2 / 2
    return torch.expm1(-difference) + difference


def value(values: Tensor, old: Tensor, returns: Tensor, clip: float | None = 0.2) -> Tensor:
    """Half the squared error of a critic, max over the value and the value kept within `clip` of the old; (B, T).

    PPO's implementation (Huang et al. 2022, "The 37 implementation details of PPO", detail 9); None does not clip.
    """
    error = (values - returns) ** 2
    if clip is not None:
        error = torch.maximum(error, (old + (values - old).clamp(-clip, clip) - returns) ** 2)
    return error / 2
