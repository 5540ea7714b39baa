"""Objectives: pure functions from scores to a loss per example.

`scores` has shape (members, n, k): k responses per example, in the order of `Examples.rows`; an objective with several
`outputs` sees (members, n, k, outputs). Each function returns losses of shape (members, n), in nats where the objective
is a likelihood. `own` (members, p) holds the objective's own parameters, such as the width of ties; its unconstrained
start is `Objective.initial`.

Sources: Bradley and Terry 1952; Rao and Kupper 1967; Davidson 1970; Plackett 1975; Luce 1959; the classification
objective and order consistency are Sun, Shen and Ton 2024 (arXiv 2411.04991).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from tacit.errors import TacitError, choices
from tacit.evidence.records import Kind


@dataclass(frozen=True)
class Targets:
    """What people said about n examples; shapes as in `Examples`."""

    target: Tensor
    """(n,), or (..., n) for an objective that knows what the axes before are."""
    ranks: Tensor
    tie: Tensor
    margin: Tensor
    label_smoothing: float = 0.0

    def __getitem__(self, keep: Tensor) -> Targets:
        return Targets(
            self.target[..., keep], self.ranks[keep], self.tie[keep], self.margin[keep], self.label_smoothing
        )


def bradley_terry(scores: Tensor, targets: Targets, own: Tensor) -> Tensor:
    """-(1 - e) log sigma(d - m) - e log sigma(m - d), with d = s_chosen - s_rejected, margin m and smoothing e.

    A tie counts as half a win for each side: e = 1/2 and no margin.
    """
    difference = scores[..., 0] - scores[..., 1]
    smoothing = torch.where(targets.tie, 0.5, targets.label_smoothing).to(difference)
    logit = difference - torch.where(targets.tie, 0.0, targets.margin).to(difference)
    return softplus(-logit) + smoothing * logit


def rao_kupper(scores: Tensor, targets: Targets, own: Tensor) -> Tensor:
    """Ties by a threshold t: P(a > b) = sigma(d - t), P(tie) = (e^2t - 1) sigma(d - t) sigma(-d - t).

    t = softplus(own) > 0.     Rao and Kupper 1967 with theta = e^t. The three probabilities add up to one.
    """
    threshold = softplus(own[:, :1])
    difference = scores[..., 0] - scores[..., 1]
    win = logsigmoid(difference - targets.margin - threshold)
    tie = (
        logsigmoid(difference - threshold) + logsigmoid(-difference - threshold) + torch.log(torch.expm1(2 * threshold))
    )
    return -torch.where(targets.tie, tie, win)


def davidson(scores: Tensor, targets: Targets, own: Tensor) -> Tensor:
    """Ties by a third option: weights e^(d/2), e^(-d/2) and nu = e^own for a win, a loss and a tie (Davidson 1970).

    Between two decided outcomes the odds stay those of Bradley-Terry: P(a > b) / P(b > a) = e^d.
    """
    half = (scores[..., 0] - scores[..., 1] - torch.where(targets.tie, 0.0, targets.margin)) / 2
    log_nu = own[:, :1].expand_as(half)
    normaliser = torch.logsumexp(torch.stack([half, -half, log_nu]), dim=0)
    return normaliser - torch.where(targets.tie, log_nu, half)


def classification(scores: Tensor, targets: Targets, own: Tensor) -> Tensor:
    """Each response alone: -log sigma(s_chosen) - log sigma(-s_rejected); a tie labels both sides one half.

    Its 0-1 loss bounds the share of wrongly ordered pairs (order consistency, arXiv 2411.04991): if both responses are
    on the right side of zero then the pair is in the right order.
    """
    soft = torch.where(targets.tie, 0.5, targets.label_smoothing).to(scores)
    chosen, rejected = scores[..., 0], scores[..., 1]
    return softplus(-chosen) + soft * chosen + softplus(rejected) - soft * rejected


def outcome(scores: Tensor, targets: Targets, own: Tensor) -> Tensor:
    """Binary cross-entropy of labels: -y log sigma(s) - (1 - y) log sigma(-s)."""
    score = scores[..., 0]
    label = targets.target * (1 - 2 * targets.label_smoothing) + targets.label_smoothing
    return softplus(score) - label * score


def regression(scores: Tensor, targets: Targets, own: Tensor) -> Tensor:
    """Half the squared error of ratings: (s - y)^2 / 2."""
    return 0.5 * (scores[..., 0] - targets.target) ** 2


def plackett_luce(scores: Tensor, targets: Targets, own: Tensor) -> Tensor:
    """Rankings as repeated choice of the best that is left: sum_j [logsumexp_{i: rank_i >= rank_j} s_i - s_j].

    Equal ranks share one choice set (Breslow's treatment of ties); the last rank is no choice and costs nothing. The
    loss is divided by the number of choices, so that long lists do not drown short ones.
    """
    ranks = targets.ranks  # (n, k), ascending, 0 where padded
    present = ranks > 0
    masked = scores.masked_fill(~present, -1e9)  # finite, because logcumsumexp has no gradient at -inf
    tail = torch.logcumsumexp(masked.flip(-1), dim=-1).flip(-1)  # (members, n, k): choice set from this position on
    first = torch.searchsorted(
        torch.where(present, ranks, ranks.max() + 1).contiguous(), ranks.contiguous()
    )  # first position of each rank: ties share their choice set
    choices = tail.gather(-1, first.clamp_max(ranks.shape[-1] - 1).expand(scores.shape[0], -1, -1))
    last = ranks.max(-1, keepdim=True).values
    counted = present & (ranks < last)
    terms = torch.where(counted, choices - torch.where(present, scores, 0.0), 0.0)
    return terms.sum(-1) / counted.sum(-1).clamp_min(1)


@dataclass(frozen=True)
class Objective:
    """A loss, its own parameters, and what may be done with its scores."""

    name: str
    kind: Kind
    loss: Callable[[Tensor, Targets, Tensor], Tensor]
    initial: tuple[float, ...] = ()
    relative: bool = True
    """Only differences of scores matter, so that the fit cannot know their zero."""
    logits: bool = True
    """Score differences are log-odds of preference, so that a temperature makes sense."""
    likelihood: Callable[[Tensor, Targets, Tensor], Tensor] | None = None
    """The likelihood that a temperature minimises, where it is not the natural one of the kind of evidence."""
    outputs: int = 1
    """Numbers that a head gives each response; with more than one the fit leaves zero and temperature alone."""
    spread: float = 0.0
    """Standard deviation of the scores that a fit starts from; more than 0 where zero is a saddle of the loss."""
    unbiased: tuple[int, ...] = ()
    """Outputs whose bias stays zero."""
    penalties: tuple[float, ...] = ()
    """The ridge of each output as a multiple of the fit's; 1 unless given."""
    regulariser: Callable[[Tensor, Tensor], Tensor] | None = None
    """From scores and weights (members, n) that add up to one, (members,) nats added to the loss that is fitted, and
    not to the loss on held-out rows."""

    def total(self, scores: Tensor, targets: Targets, own: Tensor, normal: Tensor) -> Tensor:
        """The loss (members,) that a fit minimises, under weights (members, n) that add up to one."""
        value = (self.loss(scores, targets, own) * normal).sum(1)
        return value if self.regulariser is None else value + self.regulariser(scores, normal)


OBJECTIVES: dict[str, Objective] = {
    o.name: o
    for o in (
        Objective("bradley_terry", "comparison", bradley_terry),
        Objective("rao_kupper", "comparison", rao_kupper, initial=(0.0,)),
        Objective("davidson", "comparison", davidson, initial=(0.0,)),
        Objective("classification", "comparison", classification, relative=False),
        Objective("outcome", "outcome", outcome, relative=False),
        Objective("regression", "rating", regression, relative=False, logits=False),
        Objective("plackett_luce", "ranking", plackett_luce),
    )
}


def objective_for(kind: Kind, name: str = "auto") -> Objective:
    """The objective by name, or the natural one of a kind of evidence; raises `TacitError` where they do not match."""
    fitting = [o for o in OBJECTIVES.values() if o.kind == kind]
    if name == "auto" and fitting:
        return fitting[0]
    if name not in OBJECTIVES:
        raise TacitError(f"no objective `{name}`. {choices(name, ('auto', *OBJECTIVES))}")
    if OBJECTIVES[name].kind != kind:
        allowed = ", ".join(o.name for o in fitting) or "none"
        raise TacitError(f"objective `{name}` learns from {OBJECTIVES[name].kind}s. For {kind}s there is: {allowed}")
    return OBJECTIVES[name]
