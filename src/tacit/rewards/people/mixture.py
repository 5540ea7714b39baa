"""Groups of people found from what they prefer: a mixture of linear Bradley-Terry rewards over annotators.

Annotator a belongs to group g with probability pi_g and then compares by the reward w_g = w_0 + v_g. EM maximises

    sum_a log sum_g pi_g prod_{i of a} sigma(w_g . z_i)^weight_i - ridge / 2 sum_g |v_g|^2

(Chakraborty et al. 2024, MaxMin-RLHF, with soft instead of hard assignment and shrinkage towards the pooled w_0). All
groups of all restarts are members of one solution: an M step is a few passes over the data, whatever their number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from tacit.rewards.linear import Design, gram_factor, minimise
from tacit.rewards.objectives import OBJECTIVES, Targets
from tacit.rewards.people.crowd import Crowd

_BT = OBJECTIVES["bradley_terry"]


@dataclass(frozen=True)
class Mixture:
    """G groups and who is in them."""

    heads: Tensor
    """(G, d) rewards in standardised features."""
    log_share: Tensor
    """(G,) log pi."""
    member: Tensor
    """(people, G) responsibilities."""
    trace: list[float]
    """Penalised log-likelihood after each step of the best restart; it never falls."""


def find_groups(
    crowd: Crowd,
    count: int,
    centre: Tensor,
    ridge: float,
    *,
    restarts: int = 8,
    seed: int = 0,
    iterations: int = 60,
    tolerance: float = 1e-5,
) -> Mixture:
    """EM for `count` groups around the head `centre` (d,), from `restarts` starts; the likeliest end wins.

    `ridge` is in units of the summed log-likelihood. Half of the starts are k-means++ draws of annotators in the space
    of their mean differences, half are random assignments; the same seed gives the same groups.
    """
    gaps = crowd.gaps()
    offset = gaps @ centre
    design, gram = Design(gaps, None), gram_factor(gaps, seed)
    targets = oriented(offset)
    people = len(crowd.people)
    member = _starts(crowd, gaps, offset, count, restarts, seed)  # (R, people, G)
    share = torch.full((restarts, count), 1 / count)
    theta: Tensor | None = None
    last = torch.full((restarts,), -torch.inf)
    trace: list[Tensor] = []
    for step in range(iterations):
        weights = (member.transpose(1, 2)[..., crowd.person] * crowd.weight).reshape(restarts * count, -1)
        mass = weights.sum(1).clamp_min(1e-6)
        solution = minimise(
            design, targets, weights, _BT, (ridge / mass)[:, None], start=theta, gram=gram, tolerance=1e-4, iterations=8
        )
        theta = solution.theta
        own = solution.parameters["linear"]
        share = (member.sum(1) + 1.0) / (people + count)  # one pseudo-person each keeps groups alive
        fitted = logsigmoid(design.scores(own, torch.zeros(len(own)))[..., 0] + offset) * crowd.weight
        joint = crowd.per_person(fitted).view(restarts, count, people).transpose(1, 2) + share.log()[:, None]
        member = torch.softmax(joint, dim=2)
        penalty = ridge / 2 * own.square().sum(1).view(restarts, count).sum(1) - share.log().sum(1)
        value = torch.logsumexp(joint, dim=2).sum(1) - penalty
        trace.append(value)
        if step >= 5 and bool(((value - last).abs() < tolerance * value.abs()).all()):
            break
        last = value
    best = int(trace[-1].argmax())
    order = share[best].argsort(descending=True, stable=True)
    heads = centre + own.view(restarts, count, -1)[best][order]
    return Mixture(heads, share[best].log()[order], member[best][:, order], [float(v[best]) for v in trace])


def choose_count(
    crowd: Crowd, most: int, centre: Tensor, ridge: float, *, restarts: int = 8, seed: int = 0
) -> tuple[int, list[dict[str, float]]]:
    """The number of groups by held-out likelihood, and the path.

    A fifth of each person's comparisons is held out; with responsibilities from the rest, a person's held-out
    likelihood is sum_g r_g prod_i sigma(w_g . z_i). The least number within one standard error (over people, of the
    difference from the best), or within a thousandth of a nat a comparison, is taken.
    """
    rng = np.random.default_rng(seed)
    _, code = np.unique(torch.stack([crowd.person, crowd.pair]).numpy(), axis=1, return_inverse=True)
    held = torch.from_numpy(rng.random(code.max() + 1)[code.reshape(-1)] < 0.2)
    train, test = crowd.take(~held), crowd.take(held)
    gaps = test.gaps()
    values, path = [], []
    for count in range(1, most + 1):
        found = find_groups(train, count, centre, ridge, restarts=1 if count == 1 else restarts, seed=seed)
        fitted = test.per_person(logsigmoid(found.heads @ gaps.T) * test.weight)  # (G, people)
        value = torch.logsumexp(fitted.T + found.member.clamp_min(1e-30).log(), dim=1)
        values.append(value)
        path.append({"groups": count, "held_out_loss": -float(value.sum() / test.weight.sum())})
    table = torch.stack(values)
    best = int(table.sum(1).argmax())
    for count in range(best + 1):
        lag = table[best] - table[count]
        if float(lag.sum()) <= max(float(lag.std() * len(lag) ** 0.5), 1e-3 * float(test.weight.sum())):
            return count + 1, path
    return best + 1, path


def oriented(offset: Tensor) -> Targets:
    """Targets of decided comparisons whose log-odds start at `offset` (n,)."""
    n = len(offset)
    return Targets(torch.zeros(n), torch.zeros(n, 0), torch.zeros(n, dtype=torch.bool), -offset)


def _starts(crowd: Crowd, gaps: Tensor, offset: Tensor, count: int, restarts: int, seed: int) -> Tensor:
    """First responsibilities (restarts, people, count)."""
    generator = torch.Generator().manual_seed(seed)
    people = len(crowd.people)
    drawn = torch.randint(count, (restarts, people), generator=generator)
    surprise = torch.sigmoid(-offset) * crowd.weight  # the gradient of a person's likelihood in w, at w_0
    pull = torch.zeros(people, crowd.dim).index_add_(0, crowd.person, gaps * surprise[:, None])
    pull = pull / crowd.per_person(crowd.weight).clamp_min(1e-6)[:, None]
    for restart in range(restarts // 2 + restarts % 2 if count > 1 else 0):
        seeds = [int(torch.randint(people, (1,), generator=generator))]
        distance = (pull - pull[seeds[0]]).square().sum(1)
        while len(seeds) < count:
            if float(distance.sum()) <= 0:
                break
            seeds.append(int(torch.multinomial(distance, 1, generator=generator)))
            distance = torch.minimum(distance, (pull - pull[seeds[-1]]).square().sum(1))
        centres = pull[seeds]
        for _ in range(10):
            nearest = torch.cdist(pull, centres).argmin(1)
            sums = torch.zeros_like(centres).index_add_(0, nearest, pull)
            sizes = torch.bincount(nearest, minlength=len(centres))[:, None]
            centres = torch.where(sizes > 0, sums / sizes.clamp_min(1), centres)
        drawn[restart] = nearest
    hard = torch.nn.functional.one_hot(drawn, count).float()
    return 0.9 * hard + 0.1 / count
