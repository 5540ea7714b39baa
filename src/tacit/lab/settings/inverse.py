"""Rewards from demonstrations: maximum entropy, AIRL, and two ways without the world."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tacit.lab.irl import linear, maximum_entropy
from tacit.lab.mdp import MDP, Array
from tacit.lab.optimise import Adam, descend, log_softmax, softmax
from tacit.lab.settings.task import Task
from tacit.lab.simulate import Trajectories
from tacit.lab.solve import evaluate, soft_optimal, visits

Found = tuple[Array, Array]
"""A policy and the reward that it comes from, (B, S, A) each."""


def maximum_entropy_irl(task: Task, counts: Array) -> Found:
    """Maximum causal entropy IRL with the task's features (`irl.maximum_entropy`)."""
    reward = linear(
        task.features, maximum_entropy(task.mdp, counts, task.features, temperature=task.temperature, l2=1e-8)
    )
    return soft_optimal(task.mdp, reward, temperature=task.temperature).policy, reward


def airl(
    task: Task, demonstrated: Array, *, updates: int = 1500, rate: float = 0.005, follow: float = 0.2, l2: float = 1e-7
) -> Found:
    """AIRL (Fu et al. 2018), exact in the learner's visits.

    The discriminator is D = e^f / (e^f + pi) with f = g + gamma E[h(s')] - h(s), g = Phi w and h a table, in units of
    tau; a round is one step of Adam on its logistic loss, and a step of the learner in soft policy iteration for g,
    pi ~ pi^(1 - follow) exp(follow Q_soft). At the end g is the reward.
    """
    mdp = task.mdp
    batch = len(demonstrated)
    live = mdp.live[:, None]
    held = task.features * live[..., None]
    target = demonstrated / demonstrated.sum((-2, -1), keepdims=True)
    weights, potential = np.zeros((batch, held.shape[-1])), np.zeros((batch, mdp.states))
    pace = rate * max(10.0, 1 / task.temperature)
    adam_w, adam_h = Adam(weights.shape, pace), Adam(potential.shape, pace)
    log_policy = np.repeat(np.log(mdp.uniform())[None], batch, 0)
    for turn in range(updates):
        policy = np.exp(log_policy)
        made = visits(mdp, policy)
        made /= made.sum((-2, -1), keepdims=True)
        f = linear(held, weights) + (mdp.discount * mdp.expected(potential * mdp.live) - potential[..., None]) * live
        d = 1 / (1 + np.exp(-np.clip(f - log_policy, -30, 30)))
        push = (target * (1 - d) - made * d) * live  # gradient of E_demo log D + E_pi log(1 - D) in f
        scale = 0.5 * (1 + np.cos(np.pi * turn / updates))
        slope = np.einsum("bsa,sad->bd", push, held) - l2 * weights
        weights = weights + scale * adam_w.step(slope)
        slope_h = (mdp.discount * mdp.spread(push) - push.sum(-1)) * mdp.live - l2 * potential
        potential = potential + scale * adam_h.step(slope_h)
        g = linear(held, weights)
        q = g + mdp.discount * mdp.expected(evaluate(mdp, policy, g - log_policy))
        log_policy = np.maximum(log_softmax((1 - follow) * log_policy + follow * q), -30)
    reward = task.temperature * linear(held, weights)
    return soft_optimal(mdp, reward, temperature=task.temperature).policy, reward


def estimated_dynamics_irl(task: Task, seen: Trajectories, *, at_least: int = 10, iterations: int = 300) -> Found:
    """Maximum-entropy IRL in the world that the demonstrations themselves show, within what they show.

    A move that was made fewer than `at_least` times is never taken (the reference policy of the fit leaves it out), so
    that nothing need be known of where it leads; in a state without other moves all of them are alike.
    """
    counts, dynamics = seen.moves()
    tried = (counts >= at_least) & task.mdp.live[:, None]
    seen_state = tried.any(-1, keepdims=True)
    reference = np.where(seen_state, tried / np.maximum(tried.sum(-1, keepdims=True), 1), 1 / task.mdp.actions)
    policies, rewards = [], []
    for own, made, moves, allowed in zip(counts, tried, dynamics, reference, strict=True):  # each has its own world
        world = estimated(task.mdp, moves, made)
        features = (world.dense if task.realised else task.features) * made[..., None]
        weights = maximum_entropy(
            world, own * made, features, temperature=task.temperature, l2=1e-8, iterations=iterations, reference=allowed
        )
        reward = linear(features, weights)
        policies.append(soft_optimal(world, reward, temperature=task.temperature, reference=allowed).policy)
        rewards.append(reward)
    return np.stack(policies), np.stack(rewards)


def estimated(mdp: MDP, dynamics: Array, known: npt.NDArray[np.bool_]) -> MDP:
    """The world with these dynamics (S, A, S) where they are `known` (S, A); other moves end the episode."""
    states, actions = mdp.states, mdp.actions
    end = np.eye(states)[np.flatnonzero(~mdp.live)[0]]
    own = np.where(mdp.live[:, None, None], np.where(known[..., None], dynamics, end), np.eye(states)[:, None])
    successors = np.broadcast_to(np.arange(states), (states, actions, states))
    return MDP(successors, own, mdp.reward, mdp.start, mdp.discount)


def inverse_soft_q(task: Task, seen: Trajectories, *, regulariser: float = 50.0, iterations: int = 300) -> Found:
    """IQ-Learn (Garg et al. 2021), offline with the chi^2 regulariser, over a table Q in units of tau.

    Maximises E_demo[phi(Q(s,a) - gamma V(s'))] - E_demo[V(s) - gamma V(s')] with V = log sum_a exp Q and
    phi(x) = x - x^2 / (4 regulariser): the gain of likelihood, less the size of the implied reward. The policy is
    softmax Q, the reward Q - gamma E V(s') by the world's own dynamics (for comparison with the truth alone).
    """
    counts, dynamics = seen.moves()
    share = counts / counts.sum((-2, -1), keepdims=True)
    live = task.mdp.live
    gamma = task.mdp.discount
    flow = share[..., None] * dynamics  # (B, S, A, S)

    def loss(q: Array) -> tuple[float, Array]:
        values = np.log(np.exp(q - (top := q.max(-1, keepdims=True))).sum(-1)) + top[..., 0]
        policy = softmax(q)
        ahead = gamma * values * live
        implied = q[..., None] - ahead[:, None, None, :]  # (B, S, A, S)
        slope = flow * (1 - implied / (2 * regulariser))
        gain = (flow * (implied - implied**2 / (4 * regulariser))).sum() - (share.sum(-1) * values).sum()
        gain += (flow * ahead[:, None, None, :]).sum()
        to_values = -gamma * live * slope.sum((1, 2)) - share.sum(-1) + gamma * live * flow.sum((1, 2))
        gradient = slope.sum(-1) + to_values[..., None] * policy
        return -float(gain), -gradient

    q = descend(loss, np.zeros_like(counts), iterations)
    values = (np.log(np.exp(q - q.max(-1, keepdims=True)).sum(-1)) + q.max(-1)) * live
    reward = task.temperature * (q - gamma * task.mdp.expected(values)) * live[:, None]
    return softmax(q), reward
