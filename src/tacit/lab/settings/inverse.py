"""Rewards from demonstrations: maximum entropy, AIRL, and two ways without the world."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from tacit.lab.identifiability import shaping
from tacit.lab.irl import linear, maximum_entropy
from tacit.lab.mdp import MDP, Array
from tacit.lab.optimise import descend, log_softmax, softmax
from tacit.lab.settings.task import Task
from tacit.lab.simulate import Tally, Trajectories
from tacit.lab.solve import evaluate, soft_optimal, visits

Seen = Trajectories | Tally
Found = tuple[Array, Array]
"""A policy and the reward that it comes from, (B, S, A) each."""


def maximum_entropy_irl(task: Task, counts: Array, *, l2: float = 1e-8) -> Found:
    """Maximum causal entropy IRL with the task's features (`irl.maximum_entropy`)."""
    reward = linear(
        task.features, maximum_entropy(task.mdp, counts, task.features, temperature=task.temperature, l2=l2)
    )
    return soft_optimal(task.mdp, reward, temperature=task.temperature).policy, reward


def airl(
    task: Task,
    demonstrated: Array,
    *,
    updates: int = 300,
    follow: float = 0.05,
    l2: float = 1e-9,
    damping: float = 1e-3,
) -> Found:
    """AIRL (Fu et al. 2018), exact in the learner's visits.

    The discriminator is D = e^f / (e^f + pi) with f = g + gamma E[h(s')] - h(s), g = Phi w and h a table, in units of
    tau. A round is one Newton step on its logistic loss, a convex one with offset -log pi (`damping` is relative to the
    diagonal), and a step of the learner in soft policy iteration for g, pi ~ pi^(1 - follow) exp(follow Q_soft). A
    learner that follows faster than .1 runs in circles with its discriminator. At the end g is the reward.
    """
    mdp = task.mdp
    batch, size = len(demonstrated), task.features.shape[-1]
    reached = np.flatnonzero(mdp.live & ((visits(mdp, mdp.uniform()) + demonstrated.sum(0)).sum(-1) > 0))
    held = task.features * mdp.live[:, None, None]
    shaped = np.moveaxis(shaping(mdp, np.eye(mdp.states)[reached]), 0, -1)
    design = np.concatenate([held, shaped], -1)[reached].reshape(len(reached) * mdp.actions, -1)
    across, unit = np.ascontiguousarray(design.T), np.eye(design.shape[1])

    def share(table: Array) -> Array:
        flat = table[:, reached].reshape(batch, -1)
        return np.asarray(flat / flat.sum(-1, keepdims=True))

    target = share(demonstrated)
    weights = np.zeros((batch, design.shape[1]))
    log_policy = np.repeat(np.log(mdp.uniform())[None], batch, 0)
    for _ in range(updates):
        policy = np.exp(log_policy)
        made = share(visits(mdp, policy))
        d = expit(weights @ across - log_policy[:, reached].reshape(batch, -1))
        push = target * (1 - d) - made * d  # gradient of E_demo log D + E_pi log(1 - D) in f
        curve = (across * ((target + made) * d * (1 - d))[:, None]) @ design
        curve += unit * (l2 + damping * np.einsum("bdd->bd", curve)[:, None])
        weights = weights + np.linalg.solve(curve, (push @ design - l2 * weights)[..., None])[..., 0]
        g = linear(held, weights[:, :size])
        q = g + mdp.discount * mdp.expected(evaluate(mdp, policy, g - log_policy))
        log_policy = np.maximum(log_softmax((1 - follow) * log_policy + follow * q), -30)
    reward = task.temperature * linear(held, weights[:, :size])
    return soft_optimal(mdp, reward, temperature=task.temperature).policy, reward


def log_policy_regression(task: Task, counts: Array, *, at_least: float = 10, most: float = 1e4) -> Found:
    """AIRL's reward in closed form: least squares of tau log pi(a|s) = (Phi w)(s,a) + gamma E h(s') - h(s) in w and h.

    log pi is that of the shares of demonstrated moves (B, S, A). The logarithm of a share has a variance of about one
    over the number n(s,a) of such moves, so that a move weighs n / (1 + n / most), and one that was made less than
    `at_least` times nothing. With exact shares (counts without bound) all moves weigh alike, and the reward is found
    however rarely some of them are made.
    """
    mdp = task.mdp
    reached = np.flatnonzero(mdp.live & (counts.sum((0, -1)) > 0))
    held = task.features * mdp.live[:, None, None]
    shaped = np.moveaxis(shaping(mdp, np.eye(mdp.states)[reached]), 0, -1)
    design = np.concatenate([held, shaped], -1)[reached].reshape(len(reached) * mdp.actions, -1)
    own = counts[:, reached]
    enough = own >= at_least
    log_policy = np.log(np.where(enough, own, 1)) - np.log(np.maximum(own.sum(-1, keepdims=True), 1))
    weight = np.sqrt(np.where(enough, own / (1 + own / most), 0)).reshape(len(own), -1)
    sought = task.temperature * log_policy.reshape(len(own), -1)
    found = [np.linalg.lstsq(design * w[:, None], y * w, rcond=1e-10)[0] for w, y in zip(weight, sought, strict=True)]
    reward = linear(held, np.stack(found)[:, : task.features.shape[-1]])
    return soft_optimal(mdp, reward, temperature=task.temperature).policy, reward


def estimated_dynamics_irl(
    task: Task, seen: Seen, *, at_least: float = 10, iterations: int = 300, l2: float = 1e-8
) -> Found:
    """Maximum-entropy IRL in the world that the demonstrations themselves show, within what they show.

    A move that was made fewer than `at_least` times is never taken (the reference policy of the fit leaves it out), so
    that nothing need be known of where it leads; in a state without other moves all of them are alike.
    """
    counts, dynamics = seen.moves()
    tried = (counts >= at_least) & task.mdp.live[:, None]
    # 1 where allowed: a normalised reference would add tau log k to the reward of states with k moves
    reference = np.where(tried.any(-1, keepdims=True), tried, 1.0)
    policies, rewards = [], []
    for own, made, moves, allowed in zip(counts, tried, dynamics, reference, strict=True):  # each has its own world
        world = estimated(task.mdp, moves, made)
        features = (world.dense if task.realised else task.features) * made[..., None]
        weights = maximum_entropy(
            world, own * made, features, temperature=task.temperature, l2=l2, iterations=iterations, reference=allowed
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


def inverse_soft_q(task: Task, seen: Seen, *, regulariser: float = 50.0, iterations: int = 300) -> Found:
    """IQ-Learn (Garg et al. 2021), offline with the chi^2 regulariser, over a table Q in units of tau.

    Maximises E_demo[phi(Q(s,a) - gamma V(s'))] - E_demo[V(s) - gamma V(s')] with V = log sum_a exp Q and
    phi(x) = x - x^2 / (4 regulariser): the gain of likelihood, less the size of the implied reward. The policy is
    softmax Q, the reward Q - gamma E V(s') by the world's own dynamics (for comparison with the truth alone).
    """
    counts, dynamics = seen.moves()
    batch, states, actions = counts.shape
    share = counts / counts.sum((-2, -1), keepdims=True)
    often = share.sum(-1)
    live, gamma = task.mdp.live, task.mdp.discount
    b, s, a, t = np.nonzero(dynamics * (share > 0)[..., None])
    flow = share[b, s, a] * dynamics[b, s, a, t]
    move, after = (b * states + s) * actions + a, b * states + t

    def loss(q: Array) -> tuple[float, Array]:
        values = np.log(np.exp(q - (top := q.max(-1, keepdims=True))).sum(-1)) + top[..., 0]
        policy = softmax(q)
        ahead = gamma * values * live
        implied = q[b, s, a] - ahead[b, t]
        slope = flow * (1 - implied / (2 * regulariser))
        gain = flow @ (implied - implied**2 / (4 * regulariser) + ahead[b, t]) - (often * values).sum()
        led = np.bincount(after, flow - slope, batch * states).reshape(batch, states)
        to_values = gamma * live * led - often
        made = np.bincount(move, slope, q.size).reshape(q.shape)
        return -float(gain), -(made + to_values[..., None] * policy)

    q = descend(loss, np.zeros_like(counts), iterations)
    values = (np.log(np.exp(q - q.max(-1, keepdims=True)).sum(-1)) + q.max(-1)) * live
    reward = task.temperature * (q - gamma * task.mdp.expected(values)) * live[:, None]
    return softmax(q), reward
