"""A reward per group of people, and the one reward that is best for the group that it serves worst.

Groups are known (column `group`) or found by EM (`tacit.rewards.people.mixture`). The MaxMin reward solves

    min_w max_g L_g(w) + ridge / 2 |w|^2 = max_q D(q),    D(q) = min_w sum_g q_g L_g(w) + ridge / 2 |w|^2,

with L_g the mean Bradley-Terry loss of group g and q on the simplex. D is concave and its gradient is (L_g(w(q)))_g, so
that exponentiated gradient on q (q_g proportional to q_g e^{eta L_g}; Sagawa et al. 2020, with an exact inner solution)
finds the optimum; the duality gap max_g L_g(w) - sum_g q_g L_g(w) is reported. A person's reward is the posterior mean
over groups after that person's comparisons.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from tacit.errors import EvidenceError, TacitError
from tacit.evidence.records import Record
from tacit.features import Encoder, load_encoder
from tacit.rewards.feature_reward import FeatureReward
from tacit.rewards.heads import Parameters
from tacit.rewards.linear import Design, gram_factor, minimise
from tacit.rewards.objectives import OBJECTIVES
from tacit.rewards.people.adapting import Context, linear_head
from tacit.rewards.people.crowd import Crowd, pooled_head, read_crowd
from tacit.rewards.people.mixture import choose_count, find_groups, oriented
from tacit.rewards.people.personal import PersonalReward, known_options
from tacit.rewards.ridge import RIDGES

_BT = OBJECTIVES["bradley_terry"]
_MOST = 5
"""Most groups tried where their number is not given."""


@dataclass(frozen=True)
class GroupOptions:
    """How groups are made."""

    groups: int | None = None
    """Number of groups to find. None takes the column `group` where it is filled, else finds up to five."""
    restarts: int = 8
    """Starts of EM."""
    l2: float | None = None
    """Ridge of the pooled reward and of the groups' deviations from it; None chooses it by cross-fitting."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("groups", "restarts"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise TacitError(f"option `{name}` is {value}, give 1 or more")


@dataclass(frozen=True)
class Grouped:
    """G rewards and how common each is; adapts by Bayes' rule."""

    heads: Tensor
    """(G, d) in standardised features."""
    log_share: Tensor
    """(G,) log of the prior probability of each group."""

    def posterior(self, context: Context) -> Tensor:
        """P(group | comparisons), (P, G)."""
        fitted = torch.einsum("png,pn->pg", logsigmoid(context.gaps @ self.heads.T), context.weight)
        return torch.softmax(fitted + self.log_share, dim=1)

    def adapt(self, context: Context) -> Parameters:
        """Heads of P people: the posterior mean of the groups' rewards."""
        return linear_head(self.posterior(context) @ self.heads)

    def tensors(self) -> dict[str, Tensor]:
        """Rewards and shares."""
        return {"heads": self.heads, "log_share": self.log_share}

    def options(self) -> dict[str, Any]:
        """None."""
        return {}

    @classmethod
    def restore(cls, options: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """As saved."""
        return cls(tensors["heads"], tensors["log_share"])


@dataclass(frozen=True)
class MaxMin:
    """The reward (d,) that is best for the worst group, the weights q (G,) of the groups and the duality gap (nats)."""

    head: Tensor
    weights: Tensor
    losses: Tensor
    gap: float
    rounds: int


def worst_group(
    crowd: Crowd, member: Tensor, l2: float, *, seed: int = 0, rounds: int = 300, tolerance: float = 1e-3
) -> MaxMin:
    """The MaxMin reward of groups given by `member` (G, n), each row's membership in each group.

    Ends when the duality gap is below `tolerance` nats or after `rounds`. The step doubles while D rises and halves
    where it would fall.
    """
    gaps = crowd.gaps()
    design, gram = Design(gaps, None), gram_factor(gaps, seed)
    targets = oriented(torch.zeros(len(gaps)))
    share = member * crowd.weight
    share = share / share.sum(1, keepdim=True).clamp_min(1e-12)  # L_g = share_g . losses
    count = len(share)

    def solve(q: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor, float]:
        found = minimise(design, targets, (q @ share)[None], _BT, l2, start=start, gram=gram, tolerance=1e-4)
        head = found.parameters["linear"][0]
        losses = share @ softplus(-(gaps @ head))
        return found.theta, losses, float(q @ losses + l2 / 2 * head.square().sum())

    q, eta = torch.full((count,), 1 / count), 1.0
    theta, losses, value = solve(q, None)
    done = 0
    while done < rounds and float(losses.max() - q @ losses) > tolerance:
        done += 1
        step = torch.softmax(q.clamp_min(1e-12).log() + eta * losses, dim=0)
        new_theta, new_losses, new_value = solve(step, theta)
        if new_value < value - 1e-7:
            eta /= 2
            if eta < 1e-4:
                break
            continue
        q, theta, losses, value, eta = step, new_theta, new_losses, new_value, eta * 1.5
    return MaxMin(theta[0, : crowd.dim], q, losses, float(losses.max() - q @ losses), done)


def fit_known(crowd: Crowd, member: Tensor, centre: Tensor, ridge: float, *, seed: int = 0) -> Tensor:
    """Rewards (G, d) of groups with memberships (G, n), shrunk towards `centre` (d,)."""
    gaps = crowd.gaps()
    weights = member * crowd.weight
    targets = oriented(gaps @ centre)
    found = minimise(
        *(Design(gaps, None), targets, weights, _BT, (ridge / weights.sum(1).clamp_min(1e-6))[:, None]),
        gram=gram_factor(gaps, seed),
    )
    return centre + found.parameters["linear"]


def choose_ridge(crowd: Crowd, member: Tensor, centre: Tensor, *, seed: int = 0) -> float:
    """The ridge of groups' deviations from `centre` (d,), by the loss on a held-out fifth of the pairs.

    The pooled reward's own ridge would not do: where groups contradict each other it is as strong as can be. All groups
    (memberships (G, n)) and all ridges of the path are members of one solution.
    """
    gaps = crowd.gaps()
    offset = gaps @ centre
    pairs, code = np.unique(crowd.pair.numpy(), return_inverse=True)
    held = torch.from_numpy(np.random.default_rng(seed).random(len(pairs)) < 0.2)[torch.from_numpy(code)]
    share = member * crowd.weight
    weights = (share * ~held).repeat(len(RIDGES), 1)  # (ridges * G, n)
    ridges = (torch.tensor(RIDGES) * crowd.dim).repeat_interleave(len(member)) / weights.sum(1).clamp_min(1e-6)
    gram = gram_factor(gaps, seed)
    found = minimise(Design(gaps, None), oriented(offset), weights, _BT, ridges[:, None], gram=gram, tolerance=1e-4)
    fitted = found.parameters["linear"] @ gaps[held].T + offset[held]
    lost = (softplus(-fitted) * share[:, held].repeat(len(RIDGES), 1)).view(len(RIDGES), -1).sum(1)
    return RIDGES[int(lost.argmin())] * crowd.dim


def fit_groups(
    crowd: Crowd, pooled: Tensor, l2: float, options: GroupOptions
) -> tuple[Grouped, MaxMin, dict[str, Any]]:
    """Rewards of groups, the MaxMin reward, and what to report of them; `l2` is the pooled reward's.

    Raises `EvidenceError` where groups are to be found and annotators are not named.
    """
    total = float(crowd.weight.sum())
    # Where groups contradict each other the pooled ridge is as strong as can be, and would hide them.
    ridge = l2 * total if options.l2 is not None else min(l2 * total, float(crowd.dim))
    report: dict[str, Any]
    if options.groups is None and len(crowd.groups) > 1:
        if bool((crowd.group < 0).any()):
            row = int((crowd.group < 0).nonzero()[0, 0]) % len(crowd.examples) + 1
            raise EvidenceError(
                "some rows name a group and this one does not",
                mend="Fill the column in every row, or give --groups N to find groups",
                row=row,
                column="group",
            )
        member = (crowd.group == torch.arange(len(crowd.groups))[:, None]).float()
        if options.l2 is None:
            ridge = choose_ridge(crowd, member, pooled, seed=options.seed)
        heads = fit_known(crowd, member, pooled, ridge, seed=options.seed)
        share = (member @ crowd.weight) / crowd.weight.sum()
        report = {"groups": list(crowd.groups), "known": True}
    else:
        crowd.require_people(2, "finding groups")
        count, path = options.groups, None
        if count is None:
            most = min(_MOST, len(crowd.people))
            count, path = choose_count(crowd, most, pooled, ridge, restarts=options.restarts, seed=options.seed)
        found = find_groups(crowd, count, pooled, ridge, restarts=options.restarts, seed=options.seed)
        if options.l2 is None:
            ridge = choose_ridge(crowd, found.member.T[:, crowd.person], pooled, seed=options.seed)
            found = find_groups(crowd, count, pooled, ridge, restarts=options.restarts, seed=options.seed)
        alive = found.member.sum(0) >= 0.5  # a group that nobody is in would still be somebody's worst group
        heads, share = found.heads[alive], found.log_share.exp()[alive]
        share = share / share.sum()
        member = found.member.T[alive][:, crowd.person]
        names = [f"group {g + 1}" for g in range(len(heads))]
        report = {"groups": names, "known": False, "log_likelihood": found.trace[-1], "steps": len(found.trace)}
        report |= {"path": path} if path else {}
        report["of_annotator"] = dict(zip(crowd.people, found.member[:, alive].argmax(1).add(1).tolist(), strict=True))
    maxmin = worst_group(crowd, member, ridge / total, seed=options.seed)
    losses = (member * crowd.weight / (member @ crowd.weight).clamp_min(1e-12)[:, None]) @ softplus(
        -(crowd.gaps() @ torch.stack([pooled, maxmin.head]).T)
    )
    report |= {
        "group_l2": ridge / total,
        "share": [round(float(s), 4) for s in share],
        "maxmin_weights": [round(float(q), 4) for q in maxmin.weights],
        "maxmin_gap": maxmin.gap,
        "group_loss_pooled": [round(float(v), 4) for v in losses[:, 0]],
        "group_loss_maxmin": [round(float(v), 4) for v in losses[:, 1]],
    }
    return Grouped(heads, share.log()), maxmin, report


def group_rewards(reward: PersonalReward) -> dict[str, FeatureReward]:
    """The reward of each group by name; raises `TacitError` where `reward` was not fitted with groups."""
    if not isinstance(reward.adapter, Grouped):
        raise TacitError(f"reward `{reward.name}` has no groups. Fit one with --people groups")
    report = {key: reward.report[key] for key in ("kind", "n_train", "seconds")}
    return {
        name: reward.with_head(linear_head(head[None]), f"{reward.name} ({name})", report)
        for name, head in zip(reward.report["groups"], reward.adapter.heads, strict=True)
    }


def fit(
    evidence: Iterable[Record],
    *,
    encoder: str | Encoder = "auto",
    cache: str | Path | None = None,
    name: str = "groups",
    **options: Any,
) -> PersonalReward:
    """Learn a reward per group; `options` are the fields of `GroupOptions`.

    The reward scores by the MaxMin reward until it is adapted to a person.
    """
    start = time.perf_counter()
    chosen = known_options(GroupOptions, options)
    encoder = load_encoder(encoder) if isinstance(encoder, str) else encoder
    crowd = read_crowd(evidence, encoder, cache)
    pooled, report = pooled_head(crowd, l2=chosen.l2, seed=chosen.seed)
    grouped, maxmin, found = fit_groups(crowd, pooled, float(report["l2"]), chosen)
    report |= {"options": asdict(chosen), **found}
    default = linear_head(maxmin.head[None])
    return PersonalReward.of(crowd, encoder, "groups", grouped, pooled, default, name, report, cache, start)
