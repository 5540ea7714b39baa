"""Comparisons of short pieces of play, all that can happen at once, and what is learnt from them.

Everything that can be met in a few moves from a state is listed, so that the expectation of a loss over comparisons is
a sum, and n comparisons are one multinomial draw: millions cost as much as one. Votes are weights, `first` and `second`
(B, m), the shares of all comparisons that preferred the first or the second segment of each of m pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse
from scipy.special import expit

from tacit.lab.mdp import Array, Ints
from tacit.lab.settings.newton import fit_logits, fit_weights
from tacit.lab.settings.task import Task
from tacit.lab.simulate import gather


@dataclass(frozen=True, eq=False)
class Segments:
    """Every way to go on for `length` moves, or to an end, from some states; n in all, grouped by their beginning."""

    task: Task
    states: Ints
    """(n, T)."""
    actions: Ints
    """(n, T)."""
    following: Ints
    """(n, T)."""
    alive: Any
    """(n, T) bool."""

    @classmethod
    def of(cls, task: Task, length: int, begin: Sequence[int] | Ints) -> Segments:
        """From each of the states `begin`, in their order."""
        mdp = task.mdp
        at, action, after = np.nonzero(mdp.dense)
        first = np.searchsorted(at, np.arange(mdp.states + 1))
        here = np.asarray(begin, np.int64)
        moves = np.zeros((4, len(here), 0), np.int64)
        for _ in range(length):
            going = mdp.live[here]
            ways = np.where(going, first[here + 1] - first[here], 1)
            path = np.repeat(np.arange(len(here)), ways)
            choice = np.arange(len(path)) - np.repeat(np.cumsum(ways) - ways, ways)
            edge = np.where(going[path], first[here[path]] + choice, 0)
            alive = going[path]
            made = np.stack([here[path], np.where(alive, action[edge], 0), np.where(alive, after[edge], here[path])])
            moves = np.concatenate([moves[:, path], np.stack([*made, alive])[..., None]], -1)
            here = made[2]
        return cls(task, moves[0], moves[1], moves[2], moves[3].astype(bool))

    @property
    def ends(self) -> Ints:
        """(n,) where each leads."""
        return self.following[:, -1]

    @cached_property
    def weight(self) -> Array:
        """(T,) gamma^t."""
        return np.asarray(self.task.mdp.discount ** np.arange(self.states.shape[1]))

    @cached_property
    def moves(self) -> Any:
        """(n, S A) CSR discounted count of each move."""
        mdp = self.task.mdp
        row = np.broadcast_to(np.arange(len(self.states))[:, None], self.states.shape)[self.alive]
        column = (self.states * mdp.actions + self.actions)[self.alive]
        weight = np.broadcast_to(self.weight, self.states.shape)[self.alive]
        return sparse.csr_matrix((weight, (row, column)), shape=(len(self.states), mdp.states * mdp.actions))

    @cached_property
    def features(self) -> Array:
        """(n, D) discounted sums of the features that were met."""
        if not self.task.realised:
            return np.asarray(self.moves @ self.task.features.reshape(-1, self.task.features.shape[-1]))
        total = np.zeros((len(self.states), self.task.mdp.states))
        for t, weight in enumerate(self.weight):
            np.add.at(total, (np.arange(len(total)), self.following[:, t]), weight * self.alive[:, t])
        return total

    def chance(self, policy: Array) -> Array:
        """(B, n) probability of each under a policy (B, S, A), given its beginning."""
        mdp = self.task.mdp
        total = np.ones((len(policy), len(self.states)))
        for t in range(self.states.shape[1]):
            s, a, alive = self.states[:, t], self.actions[:, t], self.alive[:, t]
            total *= np.where(alive, policy[:, s, a] * mdp.dense[s, a, self.following[:, t]], 1)
        return total

    def pairs(self, *, alike: bool = False) -> tuple[Ints, Ints]:
        """Numbers (m,) of the segments of each pair that begins in one state; `alike`: and ends in one, as late.

        Segments that reach an end are as late as any other that does: nothing follows.
        """
        key = self.states[:, 0].copy()
        if alike:
            live = self.task.mdp.live[self.ends]
            key = key * (self.task.mdp.states + 1) + np.where(live, self.ends, self.task.mdp.states)
        order = np.argsort(key, kind="stable")
        sizes = np.unique(key[order], return_counts=True)[1]
        starts = np.cumsum(sizes) - sizes
        found = [np.stack(np.triu_indices(size, 1)) + start for size, start in zip(sizes, starts, strict=True)]
        first, second = np.concatenate(found, 1)
        return order[first], order[second]


@dataclass(frozen=True, eq=False)
class Votes:
    """Comparisons of B seeds over the same m pairs of segments."""

    segments: Segments
    pair: tuple[Ints, Ints]
    first: Array
    """(B, m) share of all comparisons in which the first of the pair was preferred."""
    second: Array
    """(B, m)."""
    n: int | None
    """How many comparisons; None: the expectation over infinitely many."""

    @cached_property
    def moves(self) -> Any:
        """(m, S A) CSR difference in discounted counts of moves."""
        one, other = self.pair
        return self.segments.moves[one] - self.segments.moves[other]

    @cached_property
    def features(self) -> Array:
        """(m, D) difference in features met."""
        one, other = self.pair
        return np.asarray(self.segments.features[one] - self.segments.features[other])

    def __add__(self, more: Votes) -> Votes:
        """Both, over the same pairs; they count by their numbers."""
        own, others = self.n or 1, more.n or 1
        share = own / (own + others)
        first, second = (share * a + (1 - share) * b for a, b in ((self.first, more.first), (self.second, more.second)))
        total = None if self.n is None or more.n is None else self.n + more.n
        return Votes(self.segments, self.pair, first, second, total)


def compare(
    segments: Segments,
    pair: tuple[Ints, Ints],
    policy: Array,
    merit: Array,
    n: int | None,
    rng: np.random.Generator,
) -> Votes:
    """n comparisons, or all that can be: pairs as the policy (B, S, A) meets them, preferred by merit (B, segments).

    The first is preferred with probability sigma(merit_1 - merit_2).
    """
    one, other = pair
    chance = segments.chance(policy)
    often = chance[:, one] * chance[:, other]
    often /= often.sum(-1, keepdims=True)
    prefer = expit(merit[:, one] - merit[:, other])
    if n is None:
        return Votes(segments, pair, often * prefer, often * (1 - prefer), None)
    counts = rng.multinomial(n, often)
    won = rng.binomial(counts, prefer)
    return Votes(segments, pair, won / n, (counts - won) / n, n)


def told_apart(
    segments: Segments,
    pair: tuple[Ints, Ints],
    chosen: Array,
    rejected: Array,
    n: int | None,
    rng: np.random.Generator,
) -> Votes:
    """n comparisons of what the policy `chosen` (B, S, A) did with what `rejected` did, from one beginning.

    Their Bradley-Terry optimum is the log density ratio of the two, up to a constant for each beginning. Comparisons of
    a segment with itself teach nothing, and are left out.
    """
    one, other = pair
    good, bad = segments.chance(chosen), segments.chance(rejected)
    often = np.concatenate([good[:, one] * bad[:, other], good[:, other] * bad[:, one]], 1)
    often /= often.sum(-1, keepdims=True)
    shares = often if n is None else rng.multinomial(n, often) / n
    first, second = np.split(shares, 2, axis=1)
    return Votes(segments, pair, first, second, n)


def returns_of(segments: Segments, batch: int, noise: float) -> Array:
    """(B, n) discounted return that each segment met, in units of people's noise."""
    task = segments.task
    return np.broadcast_to(np.atleast_2d(task.weights @ segments.features.T), (batch, len(segments.states))) / noise


def regret_of(segments: Segments, batch: int) -> Array:
    """(B, n) sum gamma^t log pi*(a_t | s_t), which is minus the regret in units of tau."""
    log_expert = np.log(np.maximum(segments.task.demonstrator(batch), 1e-300))
    shape = (batch, *segments.states.shape)
    said = gather(log_expert, np.broadcast_to(segments.states, shape), np.broadcast_to(segments.actions, shape))
    return np.asarray((said * segments.weight * segments.alive).sum(-1))


def reward_from(votes: Votes, noise: float) -> Array:
    """(B, S, A) Bradley-Terry reward of the task's features, in units of the true one."""
    task = votes.segments.task
    weights = np.stack(
        [fit_weights(votes.features, *own, votes.n) for own in zip(votes.first, votes.second, strict=True)]
    )
    return noise * np.tensordot(weights, task.features, (-1, -1)) * task.mdp.live[:, None]


def policy_from(votes: Votes, scale: float = 1.0) -> Array:
    """(B, S, A) softmax(logits) of least -log sigma(scale sum gamma^t log pi) over votes: DPO, CPL."""
    shape = (votes.segments.task.mdp.states, votes.segments.task.mdp.actions)
    moves = scale * votes.moves
    return np.stack([fit_logits(moves, *own, shape, votes.n) for own in zip(votes.first, votes.second, strict=True)])
