"""Markov decision processes small enough to be solved exactly, and the worlds of the laboratory.

M = (S, A, P, R, rho_0, gamma) with an optional horizon T (survey section 2.1). P is kept as the few states that a move
can lead to, and their chances: `successors` and `chances` (S, A, K), so that a world of tokens (K = 1) with thousands
of states stays small. A state that leads only to itself without reward is absorbing: nothing there counts.

Every array may carry leading batch axes (seeds, learners); S states, A actions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tacit.errors import TacitError

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LEFT, DOWN, RIGHT, UP = range(4)
_STEPS = np.array([(0, -1), (1, 0), (0, 1), (-1, 0)])
FROZEN_LAKE = ("SFFF", "FHFH", "FFFH", "HFFG")


class WorldError(TacitError):
    """A world that cannot be built or solved: names the argument, its value and what would be right."""


@dataclass(frozen=True, eq=False)
class MDP:
    """A tabular Markov decision process."""

    successors: Ints
    """(S, A, K) states that a move can lead to; entries of chance 0 are anything valid."""
    chances: Array
    """(S, A, K) their probabilities; each row sums to one."""
    reward: Array
    """(S, A) expected reward of a move."""
    start: Array
    """(S,) distribution of the first state."""
    discount: float = 1.0
    """gamma in (0, 1]; 1 needs a horizon, or a world in which every policy ends."""
    horizon: int | None = None
    """Number of moves; None goes on until absorbed, or for ever."""
    shape: tuple[int, int] | None = None
    """Rows and columns, of a grid."""

    def __post_init__(self) -> None:
        if self.successors.ndim != 3 or self.successors.shape != self.chances.shape:
            shapes = f"{self.successors.shape} and {self.chances.shape}"
            raise WorldError(f"successors and chances have shapes {shapes}. Both must be (states, actions, outcomes)")
        states, actions = self.successors.shape[:2]
        if self.reward.shape != (states, actions):
            raise WorldError(f"the reward has shape {self.reward.shape}. It must be {(states, actions)}")
        if not np.isfinite(self.reward).all():
            raise WorldError("the reward is not finite everywhere. Replace nan and inf")
        if (self.chances < 0).any() or not np.allclose(self.chances.sum(-1), 1):
            worst = np.unravel_index(np.abs(self.chances.sum(-1) - 1).argmax(), (states, actions))
            raise WorldError(f"chances of state {worst[0]}, action {worst[1]} are no distribution. Make them sum to 1")
        if not ((self.successors >= 0) & (self.successors < states)).all():
            raise WorldError(f"a move leads out of the states 0..{states - 1}. Check the successors")
        if self.start.shape != (states,) or (self.start < 0).any() or not np.isclose(self.start.sum(), 1):
            raise WorldError(f"start has shape {self.start.shape}. It must be a distribution over {states} states")
        if not 0 < self.discount <= 1:
            raise WorldError(f"discount {self.discount} is not in (0, 1]")
        if self.horizon is not None and self.horizon < 1:
            raise WorldError(f"horizon {self.horizon} is below 1. Take None for no horizon")

    @property
    def states(self) -> int:
        """S."""
        return len(self.successors)

    @property
    def actions(self) -> int:
        """A."""
        return int(self.successors.shape[1])

    @cached_property
    def live(self) -> npt.NDArray[np.bool_]:
        """(S,) states that are not absorbing: some move leads elsewhere, or earns something."""
        own = np.arange(self.states)[:, None, None]
        leaves = ((self.successors != own) & (self.chances > 0)).any((1, 2))
        return np.asarray(leaves | (self.reward != 0).any(1))

    @cached_property
    def matrix(self) -> Any:
        """(S A, S) scipy CSR matrix of P(s' | s, a)."""
        states, actions, outcomes = self.successors.shape
        rows = np.repeat(np.arange(states * actions), outcomes)
        entries = (self.chances.ravel(), (rows, self.successors.ravel()))
        moves = sparse.csr_matrix(entries, shape=(states * actions, states))
        moves.eliminate_zeros()
        return moves

    @cached_property
    def flows(self) -> Any:
        """(S, S A) the transpose of `matrix`, as CSR."""
        return self.matrix.T.tocsr()

    @cached_property
    def dense(self) -> Array:
        """(S, A, S) P(s' | s, a); for worlds of some hundred states."""
        return np.asarray(self.matrix.toarray()).reshape(self.states, self.actions, self.states)

    def expected(self, values: Array) -> Array:
        """(..., S, A) E[v(s') | s, a] of values (..., S)."""
        flat = self.matrix @ values.reshape(-1, self.states).T
        return np.asarray(flat.T).reshape(*values.shape[:-1], self.states, self.actions)

    def spread(self, mass: Array) -> Array:
        """(..., S) where mass (..., S, A) on moves goes: sum_sa m(s, a) P(s' | s, a)."""
        flat = self.flows @ mass.reshape(-1, self.states * self.actions).T
        return np.asarray(flat.T).reshape(*mass.shape[:-2], self.states)

    def uniform(self) -> Array:
        """(S, A) the policy that takes every action equally often."""
        return np.full((self.states, self.actions), 1 / self.actions)

    def starting(self, states: Sequence[int] | Ints) -> Self:
        """The same world begun in one of these states, equally often."""
        start = np.zeros(self.states)
        np.add.at(start, np.asarray(states, np.int64), 1 / len(states))
        return replace(self, start=start)

    def rewarded(self, reward: Array) -> Self:
        """The same world with another reward (S, A) or (S,)."""
        table = np.asarray(reward, np.float64)
        return replace(self, reward=np.repeat(table[:, None], self.actions, 1) if table.ndim == 1 else table)


def grid(
    rows: Sequence[str],
    *,
    slip: float = 0.0,
    discount: float = 0.95,
    horizon: int | None = None,
    values: Mapping[str, float] | None = None,
    ends: str = "GH",
    step: float = 0.0,
) -> MDP:
    """A grid drawn as text: `S` start, `.` or `F` free, `#` wall, `G` goal, `H` hole, other letters as `values` says.

    Actions are left, down, right, up (0..3). A move goes astray at right angles with chance `slip`, half to each side;
    against a wall or the edge it stays. Entering a cell pays `values` of its letter (G: 1) and `step`; cells in `ends`
    are absorbing. Raises `WorldError` for a map without start or with rows of unequal length.
    """
    letters = np.array([list(row) for row in rows]) if len({len(row) for row in rows}) == 1 else np.empty((0, 0))
    if letters.ndim != 2 or not letters.size:
        raise WorldError(f"the rows of the map have lengths {[len(row) for row in rows]}. Give them equal lengths")
    if not (letters == "S").any():
        raise WorldError("the map has no start. Mark at least one cell with S")
    if not 0 <= slip <= 1:
        raise WorldError(f"slip {slip} is not in [0, 1]")
    height, width = letters.shape
    cells = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), -1).reshape(-1, 2)
    to = np.clip(cells[:, None] + _STEPS[None], 0, (height - 1, width - 1))  # (S, 4, 2)
    flat = letters.ravel()
    reached = to[..., 0] * width + to[..., 1]
    own = np.arange(len(flat))[:, None]
    reached = np.where(flat[reached] == "#", own, reached)
    over = np.isin(flat, [*ends, "#"])
    reached = np.where(over[:, None], own, reached)
    turns = np.stack([np.arange(4), (np.arange(4) - 1) % 4, (np.arange(4) + 1) % 4], -1)  # (4, 3)
    successors = reached[:, turns]
    chances = np.broadcast_to([1 - slip, slip / 2, slip / 2], successors.shape).copy()
    pays = {"G": 1.0} | dict(values or {})
    worth = np.array([pays.get(str(letter), 0.0) for letter in flat]) + step
    reward = np.where(over[:, None], 0.0, (worth[successors] * chances).sum(-1))
    start = (flat == "S") / (flat == "S").sum()
    return MDP(successors, chances, reward, start, discount, horizon, shape=(height, width))


def frozen_lake(
    rows: Sequence[str] = FROZEN_LAKE, *, slippery: bool = True, discount: float = 0.95, horizon: int | None = None
) -> MDP:
    """FrozenLake: on ice a move goes where it is meant in one of three cases, and to each side in one of three."""
    return grid(rows, slip=2 / 3 if slippery else 0.0, discount=discount, horizon=horizon)


def chain(length: int, *, ahead: float = 0.9, discount: float = 0.95, small: float = 0.05) -> MDP:
    """A chain without an end: action 1 goes right with chance `ahead`, else left; action 0 always left.

    Staying at the left end pays `small`, moving right at the right end 1: greed for the near keeps from the far.
    """
    if length < 2:
        raise WorldError(f"a chain of {length} states is no chain. Take at least 2")
    place = np.arange(length)
    left, right = np.maximum(place - 1, 0), np.minimum(place + 1, length - 1)
    successors = np.stack([np.stack([left, left], -1), np.stack([right, left], -1)], 1)
    chances = np.broadcast_to(np.array([[1.0, 0.0], [ahead, 1 - ahead]]), successors.shape).copy()
    reward = np.zeros((length, 2))
    reward[0, 0], reward[-1, 1] = small, 1.0
    return MDP(successors, chances, reward, np.eye(length)[0], discount)


def lock(length: int, *, actions: int = 2, right: Sequence[int] | Ints | None = None, back: int | None = None) -> MDP:
    """A combination lock, the exploration world: one action of each state moves on, any other throws back to the start.

    `right` (length,) are the actions that move on (0 by default), `back` how many states a wrong one costs (None: all).
    Only the last move pays 1, into the absorbing end. The horizon is `length` where a wrong move costs everything, so
    that it must be opened without an error, and 4 times that otherwise: random play opens it once in actions^length.
    """
    if length < 1 or actions < 2:
        raise WorldError(f"a lock of length {length} with {actions} actions cannot be built. Take at least 1 and 2")
    keys = np.zeros(length, np.int64) if right is None else np.asarray(right, np.int64)
    if keys.shape != (length,) or not ((keys >= 0) & (keys < actions)).all():
        raise WorldError(f"right has shape {keys.shape}. It needs {length} actions in 0..{actions - 1}")
    place = np.arange(length)
    thrown = np.zeros(length, np.int64) if back is None else np.maximum(place - back, 0)
    successors = np.repeat(np.append(thrown, length)[:, None], actions, 1)
    successors[place, keys] = place + 1
    reward = np.zeros((length + 1, actions))
    reward[length - 1, keys[-1]] = 1.0
    chances = np.ones((length + 1, actions, 1))
    horizon = length if back is None else 4 * length
    return MDP(successors[..., None], chances, reward, np.eye(length + 1)[0], 1.0, horizon)


def deep_sea(size: int, *, cost: float = 0.01) -> MDP:
    """Deep sea (Osband et al. 2019): a diver falls a row each move, left free of charge, right for cost / size.

    Only all moves right reach the chest in the last corner, worth 1; the optimal value is 1 - cost.
    """
    if size < 1:
        raise WorldError(f"a sea of size {size} has no depth. Take at least 1")
    row, column = np.divmod(np.arange(size * size), size)
    after = np.where(row + 1 < size, (row + 1) * size, size * size)
    ended = row + 1 >= size
    left = np.where(ended, size * size, after + np.maximum(column - 1, 0))
    right = np.where(ended, size * size, after + np.minimum(column + 1, size - 1))
    end = np.array([[size * size, size * size]])
    successors = np.concatenate([np.stack([left, right], -1), end])[..., None]
    reward = np.zeros((size * size + 1, 2))
    reward[:-1, 1] = -cost / size
    reward[size * size - 1, 1] += 1.0
    return MDP(successors, np.ones(successors.shape), reward, np.eye(size * size + 1)[0], 1.0, size)


def moves_until(discount: float, precision: float = 1e-3) -> int:
    """After how many moves less than `precision` of all discounted weight is left."""
    if not 0 < discount < 1:
        raise WorldError(f"discount {discount} leaves weight for ever. It must be in (0, 1)")
    return math.ceil(math.log(precision) / math.log(discount))
