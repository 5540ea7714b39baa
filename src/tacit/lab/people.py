"""A world of vectors and people whose rewards are known: responses x ~ N(0, diag(s^2)), person p prefers by w_p . x.

Persons' log-odds of preferring a to b are beta_p w_p . (a - b), turned round with probability eps_p. Learners see the
vectors and the choices; what they learnt is tested on fresh responses, against the truth or against fresh choices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tacit.rewards.heads import Standardiser
from tacit.rewards.people.crowd import Crowd, compared

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Person:
    """Many people at once: `rewards` (P, d), and their `rationality` and `flip` (P,)."""

    rewards: Array
    rationality: Array
    flip: Array

    @classmethod
    def of(cls, rewards: Array, rationality: float | Array = 1.0, flip: float | Array = 0.0) -> Person:
        """People with these rewards (P, d) and habits, one number for all or (P,)."""
        count = len(rewards)
        return cls(rewards, np.broadcast_to(rationality, count), np.broadcast_to(flip, count))

    def choose(
        self,
        comparisons: int,
        rng: np.random.Generator,
        *,
        responses: int = 2000,
        spread: Array | float = 1.0,
        groups: npt.NDArray[np.int64] | None = None,
        standardise: Standardiser | None = None,
    ) -> Crowd:
        """`comparisons` of random pairs among fresh responses by each person; `groups` (P,) are named where given.

        `spread` s is the standard deviation of each feature, (d,) or one for all.
        """
        people, dim = self.rewards.shape
        points = (rng.standard_normal((responses, dim)) * spread).astype(np.float32)
        who = np.repeat(np.arange(people), comparisons)
        first = rng.integers(responses, size=len(who))
        second = (first + 1 + rng.integers(responses - 1, size=len(who))) % responses
        odds = self.rationality[who] * ((points[first] - points[second]) * self.rewards[who]).sum(1)
        wins = rng.logistic(size=len(who)) < odds
        wins ^= rng.random(len(who)) < self.flip[who]
        return compared(
            points,
            np.where(wins, first, second),
            np.where(wins, second, first),
            [f"person {p}" for p in who],
            None if groups is None else [f"group {g}" for g in groups[who]],
            standardise=standardise,
        )


def orthogonal(count: int, dim: int, strength: float, rng: np.random.Generator) -> Array:
    """`count` orthogonal rewards (count, dim) of this length, in random directions."""
    basis, _ = np.linalg.qr(rng.standard_normal((dim, count)))
    rotated: Array = strength * basis.T
    return rotated


def accuracy(head: Array, truth: Array, spread: Array | float = 1.0) -> Array:
    """Chance that linear heads (..., d) order two fresh responses as the true rewards (..., d) do.

    1 - angle / pi with lengths in the metric diag(s^2): both differences are Gaussian, and signs agree with that
    probability (Sheppard 1899).
    """
    head, truth = head * spread, truth * spread
    cosine = (head * truth).sum(-1) / np.clip(
        np.linalg.norm(head, axis=-1) * np.linalg.norm(truth, axis=-1), 1e-12, None
    )
    return np.asarray(1 - np.arccos(np.clip(cosine, -1, 1)) / np.pi)
