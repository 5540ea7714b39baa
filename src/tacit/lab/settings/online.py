"""Learning by playing: policy gradient, Q-learning, and Q-learning that begins with demonstrations.

Tables, batched over seeds; no model of the world is used, only what play shows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tacit.lab.mdp import Array, Ints
from tacit.lab.optimise import Adam
from tacit.lab.settings.offline import greedy
from tacit.lab.settings.task import Task
from tacit.lab.simulate import Trajectories, draw, gather, step

Moves = tuple[Ints, Ints, Array, Ints]
"""States, actions, rewards and following states of (B, m) moves."""


def policy_gradient(
    task: Task,
    batch: int,
    rng: np.random.Generator,
    *,
    updates: int = 300,
    episodes: int = 40,
    rate: float = 0.1,
    entropy: float = 0.001,
) -> Array:
    """REINFORCE with rewards to go and a running mean of them in each state as baseline; (B, S, A).

    The gradient is sum_t gamma^t (G_t - b(s_t)) grad log pi(a_t | s_t), with `entropy` times that of the entropy of
    each visited state added, and is followed by Adam on the logits.
    """
    logits = np.zeros((batch, task.mdp.states, task.mdp.actions))
    baseline = np.zeros(logits.shape[:2])
    adam = Adam(logits.shape, rate)
    for turn in range(updates):
        policy = _softmax(logits)
        seen = task.play(policy, episodes, rng)
        steps = seen.states.shape[-1]
        togo = np.zeros(seen.states.shape)
        earned = task.earned(seen)
        ahead = np.zeros(seen.states.shape[:2])
        for t in reversed(range(steps)):
            ahead = earned[..., t] + seen.discount * ahead
            togo[..., t] = ahead
        visits = seen.counts().sum(-1)
        mean = seen.counts(togo).sum(-1) / np.maximum(visits, 1)
        advantage = togo - gather(baseline[..., None], seen.states, np.zeros_like(seen.states))
        weight = seen.discount ** np.arange(steps)
        pulled = seen.counts(weight * advantage)
        gradient = (pulled - policy * pulled.sum(-1, keepdims=True)) / episodes
        if entropy:
            log_policy = np.log(policy)
            own = -policy * (log_policy - (policy * log_policy).sum(-1, keepdims=True))
            gradient += entropy * own * seen.counts(weight).sum(-1, keepdims=True) / episodes
        follow = 0.2 if turn else 1.0
        baseline += follow * (visits > 0) * (mean - baseline)
        logits = logits + adam.step(gradient)
    return _softmax(logits)


def q_learning(
    task: Task,
    batch: int,
    rng: np.random.Generator,
    *,
    steps: int = 4000,
    actors: int = 16,
    explore: float = 0.2,
    rate: float = 0.5,
    demonstrations: Trajectories | None = None,
    margin: float = 0.0,
    replay: int = 32,
) -> Array:
    """(B, S, A) greedy policy of tabular Q-learning with epsilon-greedy play; step sizes fall as (visits)^-.6 * rate.

    With demonstrations each step also replays `replay` of their moves, rewards included, and pushes the demonstrated
    action `margin` above the others (DQfD; Hester et al. 2018): max_a [Q(s, a) + margin 1(a != a_demo)] - Q(s, a_demo).
    """
    mdp = task.mdp
    q = np.zeros((batch, mdp.states, mdp.actions))
    made = np.zeros_like(q)
    member = np.arange(batch)[:, None]
    state = draw(np.broadcast_to(mdp.start, (batch, 1, mdp.states)), rng, (batch, actors))
    clock = rng.integers(task.steps, size=(batch, actors))
    stored = None if demonstrations is None else _moves(task, demonstrations)
    for _ in range(steps):
        best = (q[member, state] + 1e-9 * rng.random((batch, actors, mdp.actions))).argmax(-1)
        wander = rng.random((batch, actors)) < explore
        action = np.where(wander, rng.integers(mdp.actions, size=(batch, actors)), best)
        following = step(mdp, state, action, rng)
        reward = task.paid(state, action, following)
        _update(q, made, task, (state, action, reward, following), rate)
        if stored is not None:
            pick = rng.integers(stored[0].shape[1], size=(batch, replay))
            states, actions, rewards, after = stored
            drawn = (states[member, pick], actions[member, pick], rewards[member, pick], after[member, pick])
            _update(q, made, task, drawn, rate)
            _push(q, drawn, margin, 0.05)
        clock += 1
        over = ~mdp.live[following] | (clock >= task.steps)
        fresh = draw(np.broadcast_to(mdp.start, (batch, 1, mdp.states)), rng, (batch, actors))
        state, clock = np.where(over, fresh, following), np.where(over, 0, clock)
    return greedy(q)


def _update(q: Array, made: Array, task: Task, moves: Moves, rate: float) -> None:
    """One averaged TD step for each move of the batch, in place."""
    state, action, reward, following = moves
    member = np.arange(len(q))[:, None]
    ahead = q[member, following].max(-1) * task.mdp.live[following]
    error = reward + task.mdp.discount * ahead - q[member, state, action]
    total, count = np.zeros((2, *q.shape))
    np.add.at(total, (member, state, action), error)
    np.add.at(count, (member, state, action), 1)
    made += count
    q += np.where(
        count > 0, rate * np.maximum(made, 1) ** -0.6 * total / np.maximum(count, 1) * np.minimum(count, 4), 0
    )


def _push(q: Array, moves: Moves, margin: float, rate: float) -> None:
    state, action = moves[:2]
    member = np.arange(len(q))[:, None]
    raised = q[member, state] + margin
    np.put_along_axis(raised, action[..., None], q[member, state, action][..., None], -1)
    rival = raised.argmax(-1)
    wrong = rival != action
    np.add.at(q, (member, state, action), rate * margin * wrong)
    np.add.at(q, (member, state, rival), -rate * margin * wrong)


def _moves(task: Task, seen: Trajectories) -> Moves:
    """State, action, reward and following state of as many live moves of each member as all have, (B, m)."""
    batch = len(seen.states)
    alive = seen.alive.reshape(batch, -1)
    order = np.argsort(~alive, axis=1, kind="stable")[:, : alive.sum(1).min()]

    def first(part: Any) -> Any:
        return np.take_along_axis(part.reshape(batch, -1), order, 1)

    return first(seen.states), first(seen.actions), first(task.earned(seen)), first(seen.following)


def _softmax(logits: Array) -> Array:
    weight = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(weight / weight.sum(-1, keepdims=True))
