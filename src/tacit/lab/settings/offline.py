"""Learning from a log, without the world: behaviour cloning, advantage weighting, conservative Q-learning.

A log is of trajectories under some other policy, with rewards. All methods are tables, batched over seeds (B, S, A).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tacit.lab.irl import linear
from tacit.lab.mdp import Array
from tacit.lab.optimise import descend, log_softmax, softmax
from tacit.lab.settings.task import Task
from tacit.lab.simulate import Tally, Trajectories


@dataclass(frozen=True)
class Log:
    """What a batch of trajectories says of the world: counts, mean rewards, and where moves led."""

    counts: Array
    """(B, S, A)."""
    rewards: Array
    """(B, S, A) mean reward of a move, 0 where it was never made."""
    dynamics: Array
    """(B, S, A, S) share of each following state, 0 where the move was never made."""
    discount: float

    @classmethod
    def of(cls, task: Task, seen: Trajectories) -> Log:
        """A log with the rewards that were met."""
        counts, dynamics = seen.moves()
        made = counts > 0
        total = seen.counts(task.earned(seen))
        rewards = np.where(made, total / np.maximum(counts, 1), 0)
        ended = task.mdp.live.astype(float)
        return cls(counts, rewards, np.where(made[..., None], dynamics, 0) * ended, task.mdp.discount)

    @classmethod
    def tallied(cls, task: Task, seen: Tally) -> Log:
        """The same of a tally; a move of which where it led is counted paid accordingly."""
        counts, dynamics = seen.moves()
        paid = task.reward
        if task.realised:
            paid = np.einsum("bsat,bt->bsa", dynamics, np.broadcast_to(task.weights, (len(counts), task.mdp.states)))
        made = counts > 0
        ended = task.mdp.live.astype(float)
        return cls(counts, np.where(made, paid, 0), np.where(made[..., None], dynamics, 0) * ended, task.mdp.discount)

    def backup(self, values: Array) -> Array:
        """(B, S, A) r + gamma E v(s') by the log."""
        return np.asarray(self.rewards + self.discount * np.einsum("bsat,bt->bsa", self.dynamics, values))


def clone(counts: Array, prior: float = 0.1) -> Array:
    """(B, S, A) behaviour cloning: shares of actions with `prior` added to each count; uniform where unseen."""
    smooth = counts + prior
    return np.asarray(smooth / smooth.sum(-1, keepdims=True))


def clone_linear(task: Task, counts: Array, *, l2: float | None = None, iterations: int = 1000) -> Array:
    """(B, S, A) behaviour cloning with the task's features: log pi(a|s) ~ w . phi(s, a), by maximum likelihood.

    What the features share between states carries over, without planning ahead: one step's reward stands for all.
    `l2` weighs |w|^2 / 2 beside the mean over moves; None takes .01 over their number.
    """
    if l2 is None:
        l2 = 0.01 / float(counts.sum((-2, -1)).mean())
    share = counts / counts.sum((-2, -1), keepdims=True)
    weight = share.sum(-1, keepdims=True)

    def loss(weights: Array) -> tuple[float, Array]:
        log_policy = log_softmax(linear(task.features, weights))
        slope = np.einsum("bsa,sad->bd", weight * np.exp(log_policy) - share, task.features) + l2 * weights
        return float(-(share * log_policy).sum() + l2 / 2 * (weights**2).sum()), slope

    return softmax(linear(task.features, descend(loss, np.zeros((len(counts), task.features.shape[-1])), iterations)))


def advantage_weighted(log: Log, *, temperature: float, sweeps: int = 400) -> Array:
    """pi ~ mu exp(A_mu / temperature): advantage-weighted regression (Peng et al. 2019) with the log's own values.

    `temperature` trades return for staying with the log; moves that were never made are never chosen where others were.
    """
    behaviour = clone(log.counts, 1e-9)
    q = np.zeros_like(log.counts)
    for _ in range(sweeps):
        q = log.backup((behaviour * q).sum(-1))
    advantage = q - (behaviour * q).sum(-1, keepdims=True)
    weight = behaviour * np.exp(np.clip(advantage / temperature, -50, 50))
    return np.asarray(weight / weight.sum(-1, keepdims=True))


def conservative_q(log: Log, *, penalty: float, sweeps: int = 1500, rate: float = 0.5) -> tuple[Array, Array]:
    """CQL (Kumar et al. 2020): squared Bellman errors of the log + penalty * [logsumexp_a Q(s, .) - Q(s, a_log)].

    Gradient descent on the table: a move with n of the N visits of its state has the target of its backup with weight
    n / N, and is pushed by penalty (softmax Q - n / N). `penalty` 0 is fitted Q-iteration, which believes its table in
    moves that were never made (there Q stays as it began, at 0). Returns the greedy policy and Q.
    """
    share = clone(log.counts, 1e-9)
    seen = (log.counts.sum(-1) > 0)[..., None]
    q = np.zeros_like(log.counts)
    for _ in range(sweeps):
        error = log.backup(q.max(-1)) - q
        if penalty > 0:
            soft = np.exp(q - q.max(-1, keepdims=True))
            push = penalty * (soft / soft.sum(-1, keepdims=True) - share)
            q = q + rate * seen * (share * error - push)
        else:
            q = q + rate * (log.counts > 0) * error
    return greedy(q), q


def greedy(q: Array) -> Array:
    """(..., S, A) the policy of the best action, ties shared."""
    top = np.isclose(q, q.max(-1, keepdims=True), rtol=0, atol=1e-12).astype(float)
    return np.asarray(top / top.sum(-1, keepdims=True))
