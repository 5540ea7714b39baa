"""Sampled trajectories of many policies at once: a loop over time alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tacit.lab.mdp import MDP, Array, Ints
from tacit.lab.solve import visits


@dataclass(frozen=True)
class Trajectories:
    """n trajectories for each member of a batch; B is the flattened batch."""

    states: Ints
    """(B, n, T) states in which moves were made."""
    actions: Ints
    """(B, n, T)."""
    following: Ints
    """(B, n, T) where the moves led."""
    alive: npt.NDArray[np.bool_]
    """(B, n, T) False after the end; nothing there was played."""
    discount: float
    shape: tuple[int, int]
    """States and actions of the world."""

    def counts(self, weight: npt.ArrayLike = 1.0) -> Array:
        """(B, S, A) how often each move was made; moves weigh 1, or `weight` broadcast to (B, n, T)."""
        states, actions = self.shape
        batch = len(self.states)
        member = np.arange(batch)[:, None, None]
        index = (member * states + self.states) * actions + self.actions
        own = self.alive * np.asarray(weight)
        total = np.bincount(index.ravel(), own.ravel(), batch * states * actions)
        return np.asarray(total, np.float64).reshape(batch, states, actions)

    def visits(self) -> Array:
        """(B, S, A) discounted visits in an average trajectory, an estimate of `solve.visits`."""
        weight = self.discount ** np.arange(self.states.shape[-1])
        return np.asarray(self.counts(weight) / self.states.shape[1])

    def returns(self, reward: Array) -> Array:
        """(B, n) discounted returns for a reward (S, A) or (B, S, A)."""
        weight = self.discount ** np.arange(self.states.shape[-1]) * self.alive
        return np.asarray((gather(reward, self.states, self.actions) * weight).sum(-1))

    def moves(self) -> tuple[Array, Array]:
        """Counts (B, S, A) and estimated dynamics (B, S, A, S), uniform over states where a move was never seen."""
        states, actions = self.shape
        batch = len(self.states)
        member = np.arange(batch)[:, None, None]
        index = ((member * states + self.states) * actions + self.actions) * states + self.following
        counts = np.bincount(index.ravel(), self.alive.ravel(), batch * states * actions * states)
        table = counts.reshape(batch, states, actions, states)
        total = table.sum(-1)
        return total, np.where(total[..., None] > 0, table / np.maximum(total, 1)[..., None], 1 / states)


@dataclass(frozen=True)
class Tally:
    """What trajectories of each policy did, without the trajectories: counts, which any number of them fit in."""

    made: Array
    """(B, S, A) how often each move was made."""
    weighed: Array
    """(B, S, A) the same, a move at time t counting gamma^t."""
    led: Array
    """(B, S, A, S) how often each move led where."""
    n: float
    """Trajectories."""

    def counts(self) -> Array:
        """As of `Trajectories`."""
        return self.made

    def visits(self) -> Array:
        """As of `Trajectories`."""
        return self.weighed / self.n

    def moves(self) -> tuple[Array, Array]:
        """As of `Trajectories`."""
        total = self.made[..., None]
        return self.made, np.where(total > 0, self.led / np.where(total > 0, total, 1), 1 / self.made.shape[-2])


def tally(mdp: MDP, policy: Array, n: int | None, rng: np.random.Generator, *, steps: int) -> Tally:
    """n trajectories of each policy (B, S, A) for `steps` moves, drawn as flows between states, at a cost free of n.

    Of those in a state at a time, how many take each action is multinomial, and where each action leads; so counts have
    the distribution that n independent trajectories give them. n None gives their expectation in one trajectory without
    an end (`solve.visits`), the limit of many.
    """
    if n is None:
        made = visits(mdp, policy)
        return Tally(made, made, made[..., None] * mdp.dense, 1.0)
    batch = len(policy)
    made, weighed = np.zeros((2, *policy.shape))
    led = np.zeros((*policy.shape, mdp.states))
    here = rng.multinomial(n, mdp.start, size=batch)
    chances = np.maximum(policy, 0) / policy.sum(-1, keepdims=True)
    for t in range(steps):
        here = here * mdp.live
        if not here.any():
            break
        acted = rng.multinomial(here, chances)
        moved = rng.multinomial(acted, mdp.dense)
        made += acted
        weighed += mdp.discount**t * acted
        led += moved
        here = moved.sum((1, 2))
    return Tally(made, weighed, led, n)


def gather(table: Array, states: Ints, actions: Ints) -> Array:
    """Entries of a table (S, A), or (B, S, A) with one table for each member, at (B, ...)."""
    if table.ndim == 2:
        return np.asarray(table[states, actions])
    member = np.arange(len(table)).reshape(-1, *(1,) * (states.ndim - 1))
    return np.asarray(table[member, states, actions])


def simulate(
    mdp: MDP,
    policy: Array,
    n: int,
    rng: np.random.Generator,
    *,
    steps: int | None = None,
    start: Array | None = None,
    states: Ints | None = None,
) -> Trajectories:
    """n trajectories of each policy (B, S, A) or (B, T, S, A), of the world's horizon or `steps` moves.

    They begin as the world does, by the distribution `start` (S,), or in `states` (B, n).
    """
    length = steps or mdp.horizon
    if length is None:
        raise ValueError("a world without a horizon needs `steps`")
    batch = len(policy)
    begin = mdp.start if start is None else start
    drawn = draw(np.broadcast_to(begin, (batch, mdp.states))[:, None], rng, (batch, n))
    state = (drawn if states is None else np.asarray(states)).reshape(-1).copy()
    visited, actions, following = np.zeros((3, batch * n, length), np.int64)
    alive = np.zeros((batch * n, length), bool)
    member = np.repeat(np.arange(batch), n)
    for t in range(length):
        going = np.flatnonzero(mdp.live[state])
        if not len(going):
            break
        here = state[going]
        chances = policy[:, min(t, policy.shape[1] - 1)] if policy.ndim == 4 else policy
        action = draw(chances[member[going], here], rng, here.shape)
        visited[going, t], actions[going, t], alive[going, t] = here, action, True
        state[going] = following[going, t] = step(mdp, here, action, rng)
    shape = (batch, n, length)
    made = (visited.reshape(shape), actions.reshape(shape), following.reshape(shape), alive.reshape(shape))
    return Trajectories(*made, mdp.discount, (mdp.states, mdp.actions))


def step(mdp: MDP, state: Ints, action: Ints, rng: np.random.Generator) -> Ints:
    """Where moves lead, of any shape."""
    if mdp.chances.shape[-1] == 1:
        return np.asarray(mdp.successors[state, action, 0])
    outcome = draw(mdp.chances[state, action], rng, state.shape)
    return np.asarray(mdp.successors[state, action, outcome])


def draw(chances: Array, rng: np.random.Generator, shape: tuple[int, ...]) -> Ints:
    """Numbers of `shape`, each from its own distribution along the last axis of `chances` (broadcast)."""
    bounds = np.cumsum(chances, -1)
    bounds[..., -1] = 1.0
    return np.asarray((rng.random(shape)[..., None] >= bounds).sum(-1))
