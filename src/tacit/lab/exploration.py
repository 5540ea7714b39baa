"""Sparse rewards: remedies for tabular Q-learning on combination locks, and self-play in a race of taking sticks.

A lock of length N (`mdp.lock`) has one right action of two in each place, drawn for each seed; a wrong one throws back
to the start, and an episode has N moves, so that only N right moves in a row earn the 1 at the end. Every method is the
same Q-learner (discount .95, epsilon 1 / N, ties broken at random, an episode's moves replayed backwards), with one
thing changed; all seeds run in a batch, and `moves` counts moves in the world until acting greedily opens the lock.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tacit.lab.mdp import Array, Ints

DISCOUNT, STEP = 0.95, 0.5
_BETA = 0.1


@dataclass(frozen=True)
class Method:
    """What is changed about the learner, the reward or the start."""

    name: str
    dense: float = 0.0
    """Reward for each right move (hint)."""
    misled: float = 0.0
    """Share of places whose hint is for the wrong action; at least one place where it is above 0."""
    potential: str = ""
    """`progress` (places gone) or `random` (uniform up to the length): shaping gamma phi(s') - phi(s)."""
    shift: float = 0.0
    """Added to every reward."""
    bonus: bool = False
    """Optimism b(s, a) = .1 / sqrt(n + 1) in acting and backing up (count-based; UCB-Q of Jin et al. 2018)."""
    curriculum: bool = False
    """Begin near the end, a place earlier whenever acting greedily succeeds from there (Florensa et al. 2017)."""
    hindsight: str = ""
    """Goal-conditioned values, relabelled with places that were reached later (Andrychowicz et al. 2017): `shared`
    acts on the mean over all goals ahead, `separate` on the table of the goal alone."""


METHODS = (
    Method("sparse"),
    Method("dense", dense=0.02),
    Method("dense, misled in one place of ten", dense=0.02, misled=0.1),
    Method("dense, worth more than the end", dense=0.1),
    Method("shaped by progress", potential="progress"),
    Method("shaped by a random potential", potential="random"),
    Method("reward shifted down", shift=-1.0),
    Method("reward shifted up", shift=1.0),
    Method("exploration bonus", bonus=True),
    Method("reverse curriculum", curriculum=True),
    Method("hindsight, shared goals", hindsight="shared"),
    Method("hindsight, separate goals", hindsight="separate"),
)


def open_lock(method: Method, length: int, batch: int, rng: np.random.Generator, *, limit: int = 200_000) -> Array:
    """(B,) moves until acting greedily opens the lock from the start; infinite where `limit` moves were not enough."""
    learner = _Locks(method, length, batch, rng)
    moves, solved = np.zeros(batch), np.full(batch, np.inf)
    for _ in range(limit):
        moves += np.where(np.isinf(solved), learner.episode(), 0)
        solved = np.where(np.isinf(solved) & learner.opens(), moves, solved)
        if np.isfinite(solved).all() or moves.max() >= limit:
            break
    return solved


class _Locks:
    """A Q-learner for each of B locks."""

    def __init__(self, method: Method, length: int, batch: int, rng: np.random.Generator) -> None:
        self.method, self.length, self.rng = method, length, rng
        self.member = np.arange(batch)
        self.keys = rng.integers(2, size=(batch, length))
        goals = length + 1 if method.hindsight else 1
        self.q = np.zeros((batch, goals, length + 1, 2))  # the last place is the end and stays 0
        self.counts = np.zeros((batch, length + 1, 2))
        self.begin = np.full(batch, length - 1 if method.curriculum else 0)
        hints = self.keys.copy()
        if method.misled:
            order = rng.random((batch, length)).argsort(1)
            wrong = order < max(1, round(method.misled * length))
            hints = np.where(wrong, 1 - hints, hints)
        self.hints = hints
        potentials = {"progress": np.arange(length + 1.0), "random": rng.uniform(0, length, (batch, length + 1))}
        self.potential = np.broadcast_to(
            potentials.get(method.potential, np.zeros(length + 1)), (batch, length + 1)
        ).copy()
        self.potential[:, -1] = 0  # ends have none, or it would be a reward

    def episode(self) -> Array:
        """Play one episode of each and learn from it; (B,) the moves made."""
        place = self.begin.copy()
        trace: list[tuple[Ints, Ints, Ints, npt.NDArray[np.bool_]]] = []
        made = np.zeros(len(place))
        for t in range(self.length):
            alive = (place < self.length) & (t < self.length - self.begin)
            if not alive.any():
                break
            at = np.minimum(place, self.length - 1)
            action = self.act(at)
            after = np.where(action == self.keys[self.member, at], at + 1, self.begin)
            trace.append((at, action, after, alive))
            np.add.at(self.counts, (self.member[alive], at[alive], action[alive]), 1)
            made += alive
            place = np.where(alive, after, place)
        reached = np.full(len(place), -1)
        for at, action, after, alive in reversed(trace):
            if self.method.hindsight:
                self._relabel(at, action, after, alive, reached)
            self._learn(0, at, action, after, alive, self._reward(at, action, after), self.length)
        if self.method.curriculum:
            self.begin = np.maximum(self.begin - (self.begin > 0) * self.opens(self.begin), 0)
        return made

    def act(self, at: Ints) -> Ints:
        """Epsilon-greedy actions (B,)."""
        best = self.values(at)
        best = best + 1e-9 * self.rng.random(best.shape)
        wander = self.rng.random(len(at)) < 1 / self.length
        return np.asarray(np.where(wander, self.rng.integers(2, size=len(at)), best.argmax(-1)))

    def values(self, at: Ints) -> Array:
        """(B, 2) what acting is based on."""
        if self.method.hindsight == "shared":
            ahead = np.arange(self.length + 1) > at[:, None]
            ahead[:, 0] = True  # the goal of the lock itself
            own = self.q[self.member, :, at]  # (B, goals, 2)
            return np.asarray((own * ahead[..., None]).sum(1) / ahead.sum(1)[:, None])
        own = self.q[self.member, 0, at]
        return own + self._optimism(at) if self.method.bonus else np.asarray(own)

    def opens(self, begin: Ints | None = None) -> npt.NDArray[np.bool_]:
        """(B,) whether the right action is strictly the best in every place from `begin` on."""
        if self.method.hindsight == "shared":
            goal = np.arange(self.length + 1)
            ahead = (goal[:, None] > np.arange(self.length)) | (goal[:, None] == 0)
            table = np.einsum("bgpa,gp->bpa", self.q[:, :, :-1], ahead / ahead.sum(0))
        else:
            table = self.q[:, 0, :-1]
        right = np.take_along_axis(table, self.keys[..., None], -1)[..., 0]
        other = np.take_along_axis(table, 1 - self.keys[..., None], -1)[..., 0]
        start = np.zeros(len(table), int) if begin is None else begin
        return np.asarray(((right > other + 1e-12) | (np.arange(self.length) < start[:, None])).all(1))

    def _optimism(self, at: Ints) -> Array:
        return np.asarray(_BETA / np.sqrt(self.counts[self.member, at] + 1) * (at < self.length)[:, None])

    def _reward(self, at: Ints, action: Ints, after: Ints) -> Array:
        ended = after == self.length
        reward = ended + self.method.dense * (action == self.hints[self.member, at]) + self.method.shift
        ahead = DISCOUNT * self.potential[self.member, after] - self.potential[self.member, at]
        return np.asarray(reward + (ahead if self.method.potential else 0.0))

    def _learn(
        self,
        goal: int | Ints,
        at: Ints,
        action: Ints,
        after: Ints,
        alive: npt.NDArray[np.bool_],
        reward: Array,
        end: int | Ints,
    ) -> None:
        ahead = self.q[self.member, goal, after]
        if self.method.bonus:
            ahead = ahead + self._optimism(after)
        target = reward + DISCOUNT * ahead.max(-1) * (after != end)
        own = self.q[self.member, goal, at, action]
        self.q[self.member, goal, at, action] = own + alive * STEP * (target - own)

    def _relabel(self, at: Ints, action: Ints, after: Ints, alive: npt.NDArray[np.bool_], reached: Ints) -> None:
        """Learn from a move as if its goal had been a place that the episode reached from here on; places 1..N - 1.

        `reached` is a place drawn evenly among those reached later, kept as the replay goes backwards, in place.
        """
        take = alive & ((reached < 0) | (self.rng.random(len(at)) < 0.5))
        reached[take] = after[take]
        known = alive & (reached > 0) & (reached < self.length)
        goal = np.where(known, reached, 0)
        self._learn(goal, at, action, after, known, (after == goal).astype(float), goal)


def win_race(opponent: str, sticks: int, batch: int, rng: np.random.Generator, *, limit: int = 100_000) -> Array:
    """(B,) games until greedy play wins whatever the other side does; infinite where `limit` were not enough.

    The race: players take one, two or three of N sticks in turn, who takes the last one wins; the only reward. Leaving
    a multiple of four wins, so that N must not be one, and the learner begins. Q-learning on (sticks left, taken),
    epsilon .2, values of an opponent's turn with minus sign.
    `opponent`: `self` (both sides learn into one table), `random`, or `perfect`.
    """
    q = np.zeros((batch, sticks + 1, 3))
    q[:, 0], q[:, 1, 1:], q[:, 2, 2] = -1.0, -np.inf, -np.inf  # whose turn it is with none left has lost
    member, games, solved = np.arange(batch), 0, np.full(batch, np.inf)
    number = np.arange(sticks + 1)
    winning = (number[:, None] - np.arange(1, 4)) % 4 == 0
    winning &= number[:, None] >= np.arange(1, 4)
    has = winning.any(1)
    met = (number < sticks // 4 * 4) | (number == sticks)  # where winning play gets to
    while games < limit:
        games += 1
        left = np.full(batch, sticks)
        mine = np.ones(batch, bool)
        trace: list[tuple[Ints, Ints, npt.NDArray[np.bool_]]] = []
        while (left > 0).any():
            own = _greedy(q[member, left], rng)
            wander = rng.random(batch) < 0.2
            own = np.where(wander, rng.integers(np.minimum(np.maximum(left, 1), 3)), own)
            if opponent == "self":
                learns, taken = left > 0, own
            else:
                luck = rng.integers(np.minimum(np.maximum(left, 1), 3))
                theirs = luck if opponent == "random" else np.where(has[left], winning[left].argmax(1), luck)
                learns, taken = mine & (left > 0), np.where(mine, own, theirs)
            trace.append((left, taken, learns))
            left = np.where(left > 0, np.maximum(left - taken - 1, 0), 0)
            mine = ~mine
        _replay(q, trace, opponent == "self")
        best = np.where(np.isneginf(q), -9.0, q)
        top = best >= best.max(-1, keepdims=True) - 1e-12
        right = ((~top | winning).all(-1) | ~has | ~met)[:, 1:].all(1)
        solved = np.where(np.isinf(solved) & right, games, solved)
        if np.isfinite(solved).all():
            break
    return solved


def _replay(q: Array, trace: list[tuple[Ints, Ints, npt.NDArray[np.bool_]]], self_play: bool) -> None:
    """Learn from a game backwards, in place: v(next) with minus sign in self-play, v two turns on against others."""
    member = np.arange(len(q))
    for t in reversed(range(len(trace))):
        left, taken, learns = trace[t]
        after = np.maximum(left - taken - 1, 0)
        if self_play:
            target = -DISCOUNT * q[member, after].max(-1)
            target = np.where(after == 0, 1.0, target)
        else:
            beyond = trace[t + 2][0] if t + 2 < len(trace) else np.zeros_like(left)
            target = np.where(after == 0, 1.0, np.where(beyond == 0, -1.0, DISCOUNT * q[member, beyond].max(-1)))
        own = q[member, left, taken]
        held = np.where(learns, own, 0.0)
        q[member, left, taken] = np.where(learns, held + STEP * (target - held), own)


def _greedy(values: Array, rng: np.random.Generator) -> Ints:
    return np.asarray((values + 1e-9 * rng.random(values.shape)).argmax(-1))
