"""Imitation with the world at hand: DAgger and GAIL, exact in the learner's own occupancy."""

from __future__ import annotations

import numpy as np

from tacit.demonstrations.divergences import Divergence, Kind, divergence
from tacit.lab.mdp import Array
from tacit.lab.optimise import softmax
from tacit.lab.settings.offline import clone
from tacit.lab.settings.task import Task
from tacit.lab.solve import evaluate, occupancy


def dagger(task: Task, batch: int, labels: int | None, rng: np.random.Generator, *, rounds: int = 8) -> Array:
    """(B, S, A) cloning of the demonstrator's answers in states where the learner goes (Ross et al. 2011).

    `labels` answers of the demonstrator, spread evenly over the rounds; it plays itself in the first. None: as many as
    one likes, so that shares are exact.
    """
    counts = np.zeros((batch, task.mdp.states, task.mdp.actions))
    expert = policy = task.demonstrator(batch)
    for _ in range(rounds):
        made = occupancy(task.mdp, policy).sum(-1)
        if labels is None:
            counts += made[..., None] * expert
            policy = clone(counts, 1e-12)
        else:
            asked = rng.multinomial(labels // rounds, made / made.sum(-1, keepdims=True))
            counts += rng.multinomial(asked, expert / expert.sum(-1, keepdims=True))
            policy = clone(counts)
    return policy


def gail(
    task: Task,
    demonstrated: Array,
    *,
    name: str = "js",
    kind: Kind = "formal",
    updates: int = 400,
    rate: float = 2.0,
    floor: float = 1e-4,
    tail: float = 0.5,
    alpha: float = 0.5,
) -> tuple[Array, Array]:
    """(B, S, A) adversarial imitation (Ho and Ermon 2016) with the best discriminator of each round in closed form.

    h = log(rho_demo / rho_pi) on the table, the reward is the one that the divergence induces, the policy takes a step
    of mirror ascent, pi ~ pi exp(rate_k A), with steps that fall as k^-1/2. Returns the policy of the occupancy
    averaged over the last `tail` of the rounds (last iterates of a game circle), and the last reward, which tends to a
    constant. `floor` is added to both occupancies: a move that neither makes has h = 0.
    """
    target = demonstrated / demonstrated.sum((-2, -1), keepdims=True)
    logits = np.zeros_like(target)
    total, reward = np.zeros_like(target), np.zeros_like(target)
    choice: Divergence = divergence(name, alpha=alpha)
    for turn in range(updates):
        policy = softmax(logits)
        made = occupancy(task.mdp, policy)
        reward = choice.reward(np.log((target + floor) / (made + floor)), kind, clip=5.0, limit=20.0)
        reward = (reward - choice.reward(np.zeros(1), kind)) * task.mdp.live[:, None]
        q = reward + task.mdp.discount * task.mdp.expected(evaluate(task.mdp, policy, reward))
        advantage = q - (policy * q).sum(-1, keepdims=True)
        logits = logits + rate / np.sqrt(turn + 1) * advantage * task.mdp.live[:, None]
        logits -= logits.max(-1, keepdims=True)
        if turn >= updates * (1 - tail):
            total += made
    states = total.sum(-1, keepdims=True)
    even = 1 / task.mdp.actions
    return np.where(states > 0, total / np.where(states > 0, states, 1), even), reward
