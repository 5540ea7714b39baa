"""Generative regularisation of hidden states, for rewards that are language models.

A reward head trained on preferences alone bends the hidden states of its transformer, and forgets what they knew. GRM
(Yang et al. 2024, arXiv 2406.10216, equations 4 to 7) keeps the language-model head on the same states and asks that
it still prefers the chosen text:

    L = (1 - a) L_BT + a L_reg,              a = .01, b = .1
    L_reg = -log sigma(b log pi(y+ | x))                              `sft`
    L_reg = -log sigma(b [log pi(y+ | x) - log pi(y- | x)])           `dpo_noref`: DPO under a uniform reference

with log pi(y | x) the sum of the log-probabilities of the completion's tokens. Pure functions: whoever trains a
language model computes the logits once for the score and the text, and adds up.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from tacit.errors import TacitError

Regulariser = Literal["sft", "dpo_noref"]


def completion_logprobs(logits: Tensor, tokens: Tensor, completion: Tensor) -> Tensor:
    """log pi(y | x) of each text, (n,), summed over the tokens of its completion.

    `logits` (n, t, vocabulary) are of the token that follows each position, `tokens` (n, t) the texts themselves, and
    `completion` (n, t) is true where a token belongs to the completion (and neither to the prompt nor to the padding).
    The first token of a text follows nothing and never counts.
    """
    following = tokens[:, 1:, None]
    chosen = torch.log_softmax(logits[:, :-1].float(), dim=-1).gather(-1, following)[..., 0]
    return torch.where(completion[:, 1:].bool(), chosen, 0.0).sum(1)


def regulariser(how: Regulariser, chosen: Tensor, rejected: Tensor | None = None, *, beta: float = 0.1) -> Tensor:
    """L_reg (n,) in nats from log pi of the chosen and, for `dpo_noref`, the rejected completions, each (n,).

    Raises `TacitError` for an unknown name, a `beta` that is not positive, and where `rejected` is needed and absent.
    """
    if how not in get_args(Regulariser):
        raise TacitError(f"no regulariser `{how}`. Choose one of: {', '.join(get_args(Regulariser))}")
    if beta <= 0:
        raise TacitError(f"beta is {beta}: a positive number is needed")
    if how == "sft":
        return -logsigmoid(beta * chosen)
    if rejected is None:
        raise TacitError("`dpo_noref` compares with the rejected completions. Give their log-probabilities")
    return -logsigmoid(beta * (chosen - rejected))


def regularised(preference: Tensor, generative: Tensor, *, alpha: float = 0.01) -> Tensor:
    """(1 - a) L_BT + a L_reg of two losses (n,) each; raises `TacitError` for a outside 0..1."""
    if not 0 <= alpha <= 1:
        raise TacitError(f"alpha is {alpha}: the share of the regulariser lies in 0..1")
    return (1 - alpha) * preference + alpha * generative
