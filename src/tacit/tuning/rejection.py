"""Rejection: the policy learns from the best of its own samples, without a critic and (mostly) without a baseline.

| method | rows that teach | loss |
|---|---|---|
| `raft` | the best response to each prompt (or all above a threshold) | -log pi (Dong et al. 2023, 2304.06767) |
| `raft++` | the same | PPO's clipped surrogate with advantage 1 (Xiong et al. 2025, 2504.11343) |
| `reinforce-rej` | prompts whose rewards differ | the surrogate with the reward itself as advantage (same paper) |
| `rso` | two responses that statistical rejection sampling accepts | a preference loss (Liu et al. 2023, 2309.06657) |
| `rrhf` | all responses to a prompt, ranked by reward | ranking hinge and likelihood of the best (2304.05302) |

With rho = pi / pi_old the gradient of `raft++` is rho grad log pi, and 0 past the upper clip, where that of `raft` is
grad log pi: the two are the same at the first step of a round, and part in its later ones. A KL term in the reward
(beta, kl_in `reward`) is taken off the reward of the whole response, R - beta sum_t KL_t, which then ranks responses,
passes the threshold and is the advantage of `reinforce-rej`; whether rewards of a prompt differ is asked of R alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tacit.errors import TacitError
from tacit.policies.contract import TrainablePolicy
from tacit.tuning import losses
from tacit.tuning.data import chunks, take
from tacit.tuning.evaluation import Evaluation
from tacit.tuning.loop import Loss, State, Step
from tacit.tuning.policy_gradient import GradientOptions, PolicyGradient
from tacit.tuning.processes import Processes
from tacit.tuning.sampling import Experience, Sampler

REJECTION = ("raft", "raft++", "reinforce-rej", "rso", "rrhf")


def best_of_group(rewards: Tensor) -> Tensor:
    """(P, n) bool: the first best response to each prompt."""
    best = torch.zeros_like(rewards, dtype=torch.bool)
    return best.scatter(1, rewards.argmax(1, keepdim=True), True)


class Rejection(PolicyGradient):
    """`raft`, `raft++` and `reinforce-rej`: policy gradients whose advantages a filter decides."""

    def __init__(
        self, policy: TrainablePolicy, sampler: Sampler, options: GradientOptions, steps: int, *,
        threshold: float | None = None, **rest: Any,
    ) -> None:  # fmt: skip
        super().__init__(policy, sampler, options, steps, **rest)
        self.threshold = threshold
        """Responses above it teach, in place of the best of each group."""

    def estimate(
        self, made: Experience, rewards: Tensor, values: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Advantage 1 for what is kept (raft), or the reward where a group's rewards differ (reinforce-rej)."""
        ones = torch.ones_like(rewards) * made.mask
        whole = (rewards * made.mask).sum(1)  # R, less beta KL where that stands in the reward
        if self.options.estimator == "reinforce-rej":
            grouped = made.grouped(made.rewards)
            differ = (grouped.amax(1) > grouped.amin(1))[:, None].expand_as(grouped).reshape(-1)
            return whole[:, None] * ones, differ, None
        grouped = made.grouped(whole)
        kept = best_of_group(grouped) if self.threshold is None else grouped > self.threshold
        return ones, kept.reshape(-1), None

    def token_losses(
        self, logprobs: Tensor, old: Tensor, advantages: Tensor, mask: Tensor
    ) -> tuple[Tensor, dict[str, tuple[float | Tensor, float]]]:
        """-log pi of what is kept for raft, the clipped surrogate for the others; (B, T) and metrics."""
        if self.options.estimator == "raft":
            return -advantages * logprobs, {}
        return super().token_losses(logprobs, old, advantages, mask)


def accepted(rewards: Tensor, beta: float, drawn: np.random.Generator, count: int = 2) -> np.ndarray:
    """Places (P, count) of the responses that statistical rejection sampling takes from n candidates each.

    RSO, algorithm 1 (arXiv 2309.06657): a candidate is accepted with probability exp((R - R_max) / beta), R_max being
    the best of those still left, until `count` are; so they follow pi_ref exp(R / beta) rather than pi_ref. Raises
    `TacitError` for beta <= 0 and for fewer candidates than are asked for.
    """
    if beta <= 0 or rewards.shape[1] < count:
        raise TacitError(f"rso takes {count} of n candidates with a positive beta (found {rewards.shape[1]}, {beta})")
    left = rewards.double().numpy().copy()
    places = np.full((len(left), count), -1)
    taken = np.zeros(len(left), int)
    while (open_ := taken < count).any():
        best = np.max(left, 1, keepdims=True)
        hit = (drawn.random(left.shape) < np.exp((left - best) / beta)) & open_[:, None]
        # One acceptance a turn, at a random place among the hits: the order of candidates must not matter.
        place = np.where(hit, drawn.random(left.shape), -1.0).argmax(1)
        rows = np.flatnonzero(hit.any(1))
        places[rows, taken[rows]] = place[rows]
        left[rows, place[rows]] = -np.inf
        taken[rows] += 1
    return places


def rso_pairing(beta: float) -> Callable[[Tensor, np.random.Generator], tuple[Tensor, Tensor, Tensor]]:
    """Two accepted responses to each prompt, the one with the higher reward being the better."""

    def pair(rewards: Tensor, drawn: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        two = torch.from_numpy(accepted(rewards, beta, drawn))
        values = rewards.gather(1, two)
        order = values.argsort(dim=1, descending=True, stable=True)
        sides = two.gather(1, order)
        return sides[:, 0], sides[:, 1], values[:, 0] != values[:, 1]

    return pair


class RankTuning:
    """`rrhf` as a `Method` of the loop; a round is one step."""

    name = "rrhf"

    def __init__(
        self,
        policy: TrainablePolicy,
        sampler: Sampler,
        steps: int,
        *,
        sft_weight: float = 1.0,
        micro_batch: int = 64,
        evaluation: Evaluation | None = None,
        processes: Processes = Processes(),  # noqa: B008
    ) -> None:
        self.policy, self.sampler, self.steps, self.sft_weight = policy, sampler, steps, sft_weight
        self.groups = max(1, micro_batch // sampler.options.num_generations)
        self.evaluation, self.processes = evaluation, processes

    def modules(self) -> Mapping[str, Any]:
        """The policy's model."""
        return {"policy": self.policy.model}

    def round(self, step: int) -> Iterable[Step]:
        """Sample, and rank."""
        made, metrics = self.sampler.collect()
        total = sum(self.processes.gather(len(made.prompts)))
        parts: list[Callable[[], Loss]] = [
            partial(self._part, made, list(part), total) for part in chunks(range(len(made.prompts)), self.groups)
        ]
        yield Step(parts, metrics, made.samples())

    def _part(self, made: Experience, groups: list[int], total: int) -> Loss:
        rows = [group * made.n + i for group in groups for i in range(made.n)]
        responses = take(made.rollout, rows)
        sums = (self.policy.logprobs(responses).logprobs * responses.mask).sum(1)
        means = sums / responses.mask.sum(1).clamp_min(1)
        rewards = made.grouped(made.rewards)[torch.as_tensor(groups, device=sums.device)]
        shape = rewards.shape
        each = losses.rrhf(means.view(shape), rewards, sums.view(shape), sft_weight=self.sft_weight)
        return Loss(each.sum() / total)

    def evaluate(self) -> dict[str, float]:
        """What fresh samples are worth."""
        return {} if self.evaluation is None else self.evaluation()

    def state(self) -> State:
        """The sampler's."""
        return self.sampler.state()

    def restore(self, state: State) -> None:
        """Take it over."""
        self.sampler.restore(state)

    def save(self, folder: Path) -> None:
        """The policy as a transformers folder."""
        self.policy.save(folder)
