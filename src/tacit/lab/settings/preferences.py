"""Rewards and policies from preferences: T-REX, RLHF, DPO and CPL.

People compare two trajectories and prefer the first with probability sigma((G_1 - G_2) / noise), G the discounted
return as it was met. CPL's people compare segments by regret: sigma(sum gamma^t log pi*(first) - the same of second).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.special import expit

from tacit.lab.irl import linear
from tacit.lab.mdp import Array
from tacit.lab.optimise import descend, log_softmax, softmax
from tacit.lab.settings.newton import fit_weights
from tacit.lab.settings.task import Task
from tacit.lab.simulate import Trajectories, draw, gather
from tacit.lab.solve import optimal, soft_optimal

PENALTIES = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
"""Weights of the penalty that DPO and CPL choose among."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of trajectories, n for each of B seeds, and which was preferred."""

    first: Trajectories
    second: Trajectories
    won: Array
    """(B, n) +1 where the first was preferred, else -1."""

    @classmethod
    def joined(cls, parts: Sequence[Pairs]) -> Pairs:
        """All pairs of some batches of pairs, which must have been played for equally many steps."""
        first, second = _join([part.first for part in parts]), _join([part.second for part in parts])
        return cls(first, second, np.concatenate([part.won for part in parts], 1))


def pairs(task: Task, policy: Array, n: int, noise: float, rng: np.random.Generator) -> Pairs:
    """n pairs of trajectories of a policy (B, S, A), each from one start, and people's preferences between them."""
    batch = len(policy)
    start = draw(np.broadcast_to(task.mdp.start, (batch, 1, task.mdp.states)), rng, (batch, n))
    first, second = (task.play(policy, n, rng, states=start) for _ in range(2))
    gap = ((task.totals(first) - task.totals(second)) * task.weights[..., None, :]).sum(-1)
    return Pairs(first, second, np.where(rng.random((batch, n)) < expit(gap / noise), 1.0, -1.0))


def fit_reward(task: Task, judged: Pairs) -> Array:
    """(B, D) weights of the Bradley-Terry reward on trajectories, -log sigma(won w . (psi_1 - psi_2)).

    By Newton's method, in units of the people's noise; mean loss of the pairs, with the `prior` of their number.
    """
    gap, won = task.totals(judged.first) - task.totals(judged.second), judged.won > 0
    n = won.shape[1]
    return np.stack([fit_weights(own, said / n, ~said / n, n) for own, said in zip(gap, won, strict=True)])


def trex(task: Task, batch: int, n: int, noise: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """T-REX (Brown et al. 2019): a reward from rankings of poor play, then the best policy for it.

    A third of the play each is random, a quarter and half of the way (in log-probability) to the demonstrator.
    """
    log_expert = np.log(np.maximum(task.expert.policy, 1e-12))
    parts = []
    for share in (0.0, 0.25, 0.5):
        policy = np.broadcast_to(softmax(share * log_expert), (batch, *log_expert.shape[-2:]))
        parts.append(pairs(task, policy, n // 3, noise, rng))
    weights = fit_reward(task, Pairs.joined(parts))
    reward = noise * linear(task.features, weights) * task.mdp.live[:, None]
    return optimal(task.mdp, reward).policy, reward


def rlhf(task: Task, batch: int, n: int, noise: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """A Bradley-Terry reward, then the policy that is KL-regularised with beta = tau towards the uniform one, exactly.

    In two rounds of n / 2 pairs: of the uniform policy's play first, then of the policy of the first round.
    """
    policy = task.uniform(batch)
    rounds: list[Pairs] = []
    reward = np.zeros_like(policy)
    for _ in range(2):
        rounds.append(pairs(task, policy, n // 2, noise, rng))
        weights = fit_reward(task, Pairs.joined(rounds))
        reward = noise * linear(task.features, weights) * task.mdp.live[:, None]
        policy = soft_optimal(task.mdp, reward, temperature=task.temperature).policy
    return policy, reward


def dpo(task: Task, judged: Pairs, noise: float) -> Array:
    """(B, S, A) DPO (Rafailov et al. 2023) over a table of logits, reference uniform.

    -log sigma((tau / noise) won [sum gamma^t log pi(first) - the same of second]). Exact where moves have one outcome:
    there the values along a trajectory telescope; where chance moves, luck is taken for skill.
    """
    weight = task.mdp.discount ** np.arange(judged.first.states.shape[-1])
    return _contrast(task, judged, task.temperature / noise * weight)


def cpl(task: Task, batch: int, n: int, rng: np.random.Generator, *, length: int = 4) -> Array:
    """(B, S, A) contrastive preference learning (Hejna et al. 2024): segments judged by regret, no reward and no RL.

    Segments begin anywhere and are played at random; people weigh sum gamma^t A*(s,a) / tau = sum gamma^t log pi*.
    """
    live = task.mdp.live / task.mdp.live.sum()
    policy = task.uniform(batch)
    begin = (draw(np.broadcast_to(live, (batch, 1, task.mdp.states)), rng, (batch, n)) for _ in range(2))
    first, second = (task.play(policy, n, rng, states=states, steps=length) for states in begin)
    weight = task.mdp.discount ** np.arange(length)
    log_expert = np.log(np.maximum(task.expert.policy, 1e-12))
    merit = [(gather(log_expert, s.states, s.actions) * weight * s.alive).sum(-1) for s in (first, second)]
    won = np.where(rng.random((batch, n)) < expit(merit[0] - merit[1]), 1.0, -1.0)
    return _contrast(task, Pairs(first, second, won), weight)


def _contrast(task: Task, judged: Pairs, weight: npt.ArrayLike) -> Array:
    """The policy softmax(logits) of least -log sigma(won sum_t weight_t [log pi(first) - log pi(second)]).

    Logits, times the largest weight, have a penalty l2 / 2 |.|^2 beside the mean over pairs; each seed has the one of
    `PENALTIES` that forecasts a fifth of its pairs best, which the fit does not see, and is fitted to all pairs by it.
    """
    batch, n = judged.won.shape
    states, actions = task.mdp.states, task.mdp.actions
    gap = _moves(judged.first, np.asarray(weight)) - _moves(judged.second, np.asarray(weight))  # (B n, B S A)
    back = gap.T.tocsr()
    shown = np.arange(n) < 0.8 * n
    scale = float(np.max(weight)) ** 2

    def losses(logits: Array) -> tuple[Array, Array]:
        odds = judged.won * (gap @ log_softmax(logits).ravel()).reshape(batch, n)
        return np.logaddexp(0, -odds), odds

    def fit(logits: Array, l2: float | Array, shown: npt.NDArray[np.bool_]) -> Array:
        def loss(logits: Array) -> tuple[float, Array]:
            each, odds = losses(logits)
            pull = -judged.won * expit(-odds) * shown / shown.sum()
            moved = (back @ pull.ravel()).reshape(batch, states, actions)
            slope = moved - softmax(logits) * moved.sum(-1, keepdims=True) + l2 * scale * logits
            return float(each[:, shown].mean(1).sum() + scale / 2 * (l2 * logits**2).sum()), slope

        return descend(loss, logits, 100)

    logits = chosen = np.zeros((batch, states, actions))
    least, weight_of = np.full(batch, np.inf), np.full((batch, 1, 1), PENALTIES[0])
    for l2 in PENALTIES:  # from strong to weak, each from the last one's end
        logits = fit(logits, l2, shown)
        held = losses(logits)[0][:, ~shown].mean(1)
        better = (held < least)[:, None, None]
        chosen, weight_of = np.where(better, logits, chosen), np.where(better, l2, weight_of)
        least = np.minimum(held, least)
    return softmax(fit(chosen, weight_of, np.ones(n, bool)))


def _moves(seen: Trajectories, weight: Array) -> Any:
    """(B n, B S A) sparse matrix of weighted moves of each trajectory, among those of its member of the batch."""
    batch, n, _ = seen.states.shape
    states, actions = seen.shape
    member = np.arange(batch)[:, None, None]
    column = ((member * states + seen.states) * actions + seen.actions)[seen.alive]
    row = np.broadcast_to(np.arange(batch * n).reshape(batch, n, 1), seen.alive.shape)[seen.alive]
    entries = np.broadcast_to(weight, seen.alive.shape)[seen.alive]
    return sparse.csr_matrix((entries, (row, column)), shape=(batch * n, batch * states * actions))


def _join(parts: Sequence[Trajectories]) -> Trajectories:
    def all_of(pick: Callable[[Trajectories], Any]) -> Any:
        return np.concatenate([pick(part) for part in parts], 1)

    return Trajectories(
        all_of(lambda part: part.states),
        all_of(lambda part: part.actions),
        all_of(lambda part: part.following),
        all_of(lambda part: part.alive),
        parts[0].discount,
        parts[0].shape,
    )
