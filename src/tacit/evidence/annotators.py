"""Simulated people: who would prefer what, if their reward were known.

A person who is shown a (first) and b (second) of the same prompt feels

    u = β (r_a - r_b) / s + p + l log2(len_a / len_b)

with rationality β, reward scale s, position bias p and length bias l (logits for a doubling of length), and votes as
Rao and Kupper (1967, "Ties in paired-comparison experiments: a generalization of the Bradley-Terry model") have it,
with their threshold parameter θ = exp(τ):

    P(a) = σ(u - τ),    P(b) = σ(-u - τ),    P(tie) = 1 - P(a) - P(b)

With τ = p = l = 0 that is Bradley and Terry (1952). Afterwards each vote is swapped with probability `flip` (a tie
stays one). β = inf is the ideal annotator, who always prefers the better one; between equal rewards that person decides
as anybody does, by p, l and chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tacit.evidence.records import Comparison

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Annotator:
    """One person's habits; the defaults are a Bradley-Terry annotator without bias."""

    rationality: float = 1.0
    """β: logits per unit of reward difference; inf for a person who never errs."""
    flip: float = 0.0
    """Probability that the vote is recorded the wrong way round."""
    position_bias: float = 0.0
    """Logits in favour of the answer that is shown first."""
    length_bias: float = 0.0
    """Logits in favour of an answer that is twice as long."""
    tie_threshold: float = 0.0
    """τ: a difference in feeling below this is a tie."""
    scale: float = 1.0
    """s: the unit of reward, as its standard deviation over answers."""
    group: int = 0
    """Which row of the true rewards this person votes by."""
    name: str = ""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("rationality", 0.0, math.inf),
            ("flip", 0.0, 1.0),
            ("tie_threshold", 0.0, math.inf),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} must lie between {low} and {high} (found {value})")
        if not (self.scale > 0 and math.isfinite(self.scale)):
            raise ValueError(f"scale must be positive and finite (found {self.scale})")
        if self.group < 0:
            raise ValueError(f"group must not be negative (found {self.group})")

    def probabilities(
        self,
        reward_a: npt.ArrayLike,
        reward_b: npt.ArrayLike,
        length_a: npt.ArrayLike = 1,
        length_b: npt.ArrayLike = 1,
    ) -> tuple[Floats, Floats, Floats]:
        """(P(a), P(tie), P(b)), each of the arguments' common shape; they sum to 1, flips included."""
        u = _feeling(_habits([self])[:, 0], reward_a, reward_b, length_a, length_b)
        win, lose = _sigmoid(u - self.tie_threshold), _sigmoid(-u - self.tie_threshold)
        tie = np.clip(1.0 - win - lose, 0.0, 1.0)
        return win + self.flip * (lose - win), tie, lose + self.flip * (win - lose)

    def prefer(
        self,
        reward_a: npt.ArrayLike,
        reward_b: npt.ArrayLike,
        length_a: npt.ArrayLike = 1,
        length_b: npt.ArrayLike = 1,
        *,
        rng: np.random.Generator,
    ) -> Floats:
        """Votes, shape (n,): 1 for a (shown first), 0 for b, 0.5 for a tie."""
        return prefer([self], 0, reward_a, reward_b, length_a, length_b, rng=rng)


def prefer(
    annotators: Sequence[Annotator],
    which: npt.ArrayLike,
    reward_a: npt.ArrayLike,
    reward_b: npt.ArrayLike,
    length_a: npt.ArrayLike = 1,
    length_b: npt.ArrayLike = 1,
    *,
    rng: np.random.Generator,
) -> Floats:
    """Votes of many people, shape (n,): 1 for a (shown first), 0 for b, 0.5 for a tie.

    Parameters
    ----------
    annotators
        The people.
    which
        (n,) or a number: the index of the person who votes on each pair.
    reward_a, reward_b
        (n,) true rewards that all share, or (groups, n): each person votes by the row of their `group`.
    length_a, length_b
        (n,) lengths of the answers in any unit, counted as at least 1.

    Raises
    ------
    ValueError
        Where rewards are not finite, or a group or person is not there.
    """
    if not annotators:
        raise ValueError("there are no annotators")
    reward_a, reward_b = np.asarray(reward_a, np.float64), np.asarray(reward_b, np.float64)
    who = np.broadcast_to(np.asarray(which, np.int64), reward_a.shape[-1:])
    if who.size and (who.min() < 0 or who.max() >= len(annotators)):
        raise ValueError(f"`which` must lie between 0 and {len(annotators) - 1}")
    habits = _habits(annotators)[:, who]
    if reward_a.ndim == 2:
        groups = np.array([annotator.group for annotator in annotators])[who]
        if groups.size and groups.max() >= len(reward_a):
            raise ValueError(f"an annotator has group {groups.max()} and there are rewards of {len(reward_a)} groups")
        reward_a, reward_b = (reward[groups, np.arange(len(who))] for reward in (reward_a, reward_b))
    u = _feeling(habits, reward_a, reward_b, length_a, length_b)
    felt = u + rng.logistic(size=u.shape)
    threshold, flip = habits[4], habits[1]
    votes = np.where(felt > threshold, 1.0, np.where(felt < -threshold, 0.0, 0.5))
    return np.where(rng.random(u.shape) < flip, 1.0 - votes, votes)


def comparisons(
    prompts: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    votes: npt.ArrayLike,
    people: Sequence[Annotator | None] | None = None,
) -> list[Comparison]:
    """Votes (n,) on (first, second), 1 for the first, 0 for the second, 0.5 for a tie, as comparison records.

    `chosen_first` says which was shown first; of a tie `chosen` is the first. With `people`, one for each vote, each
    record carries their `name` (where there is one) and their group.
    """
    voters = [None] * len(prompts) if people is None else people
    return [
        Comparison(
            prompt=prompt,
            chosen=a if vote >= 0.5 else b,
            rejected=b if vote >= 0.5 else a,
            tie=vote == 0.5,
            chosen_first=vote >= 0.5,
            annotator=(person.name or None) if person else None,
            group=str(person.group) if person else None,
        )
        for prompt, a, b, vote, person in zip(prompts, first, second, np.asarray(votes).tolist(), voters, strict=True)
    ]


def _habits(annotators: Sequence[Annotator]) -> Floats:
    """(6, annotators): rationality, flip, position bias, length bias, tie threshold, scale."""
    return np.array(
        [[a.rationality, a.flip, a.position_bias, a.length_bias, a.tie_threshold, a.scale] for a in annotators],
        dtype=np.float64,
    ).T


def _feeling(
    habits: Floats,
    reward_a: npt.ArrayLike,
    reward_b: npt.ArrayLike,
    length_a: npt.ArrayLike,
    length_b: npt.ArrayLike,
) -> Floats:
    rationality, _, position, length, _, scale = habits
    difference = np.asarray(reward_a, np.float64) - np.asarray(reward_b, np.float64)
    if not np.all(np.isfinite(difference)):
        raise ValueError("rewards must be finite")
    doublings = np.log2(np.maximum(length_a, 1)) - np.log2(np.maximum(length_b, 1))
    with np.errstate(invalid="ignore"):
        felt = np.where(difference == 0, 0.0, rationality * difference / scale)
    return np.asarray(felt + position + length * doublings, np.float64)


def _sigmoid(x: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return np.asarray(1.0 / (1.0 + np.exp(-x)), np.float64)
