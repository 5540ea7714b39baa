"""Cycles in pairwise preferences: a over b over c over a, and how far they lie from what any score could say.

Everything here reads a matrix of log-odds A (m, m), A[i, j] > 0 where i is preferred to j, A[j, i] = -A[i, j].

- **Intransitive triples**: with w_i the wins of i, C(m, 3) - sum_i C(w_i, 2) of the C(m, 3) triples are cycles, and a
  tournament of coin flips has a quarter of them (Kendall and Babington Smith 1940).
- **Circular share**: the least-squares scores of A are its row means s (Borda), and ||A - (s_i - s_j)||^2 / ||A||^2 is
  the share that no score explains: on a complete graph all of it is curl, circulation around triangles (Jiang, Lim, Yao
  and Ye 2011, HodgeRank).
- **Groups**: strongly connected components of the graph of wins; a ranking exists between groups, and not inside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tacit.errors import TacitError
from tacit.rewards.contract import Comparing

Array = npt.NDArray[np.float64]

MOST = 400
"""Items looked at in one matrix: m^3 numbers are held at once."""


@dataclass(frozen=True)
class Cycle:
    """`items[0]` over `items[1]` over `items[2]` over `items[0]`, each by log-odds of at least `strength`."""

    items: tuple[int, int, int]
    strength: float
    support: float = 1.0
    """Share of the members that have it."""


def antisymmetric(log_odds: npt.ArrayLike) -> Array:
    """The matrix (m, m) as numbers; raises `TacitError` where it is not antisymmetric and finite, or too large."""
    matrix = np.asarray(log_odds, dtype=np.float64)
    square = matrix.ndim == 2 and len(matrix) == matrix.shape[-1] and bool(np.isfinite(matrix).all())
    if not square or np.abs(matrix + matrix.T).max(initial=0.0) > 1e-4 * np.abs(matrix).max(initial=0.0):
        raise TacitError(
            f"log-odds of shape {matrix.shape} are no antisymmetric matrix. Give A with A[j, i] = -A[i, j]"
        )
    if len(matrix) > MOST:
        raise TacitError(f"{len(matrix)} items are too many to look for cycles in. Give a sample of up to {MOST}")
    return matrix


def intransitive_triples(log_odds: npt.ArrayLike) -> int:
    """How many of the C(m, 3) triples are cycles; pairs with log-odds 0 take part in none."""
    wins = (antisymmetric(log_odds) > 0).astype(np.float64)
    return round(float(np.trace(wins @ wins @ wins)) / 3)


def circular_share(log_odds: npt.ArrayLike) -> float:
    """The share of the squared log-odds that no score explains, 0 where a score explains all; 0 for a zero matrix."""
    matrix = antisymmetric(log_odds)
    score = matrix.mean(1)
    total = float((matrix**2).sum())
    return float(((matrix - (score[:, None] - score[None])) ** 2).sum()) / total if total > 0 else 0.0


def groups(log_odds: npt.ArrayLike) -> list[list[int]]:
    """Strongly connected components with more than one item, the largest first: within one, cycles forbid a ranking."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    _, label = connected_components(csr_array(antisymmetric(log_odds) > 0), directed=True, connection="strong")
    found = [np.flatnonzero(label == k).tolist() for k in np.flatnonzero(np.bincount(label) > 1)]
    return sorted(found, key=len, reverse=True)


def strongest_cycles(log_odds: npt.ArrayLike, *, at_least: float = 0.0, most: int = 20) -> list[Cycle]:
    """The cycles of three with the strongest weakest link, strongest first; links of log-odds `at_least` or less count
    as no preference. Each cycle is named from its smallest item on."""
    matrix = antisymmetric(log_odds)
    won = np.where(matrix > at_least, matrix, 0.0)
    found: list[Cycle] = []
    for i in range(len(matrix)):
        rest = won[i + 1 :, i + 1 :]  # j over k, both after i, so that a cycle is met once
        strength = np.minimum(np.minimum(won[i, i + 1 :, None], rest), won[None, i + 1 :, i])
        j, k = np.nonzero(strength)
        if len(j) > most:
            j, k = np.unravel_index(np.argpartition(-strength.ravel(), most)[:most], strength.shape)
        found += [Cycle((i, int(b) + i + 1, int(c) + i + 1), float(strength[b, c])) for b, c in zip(j, k, strict=True)]
    return sorted(found, key=lambda cycle: (-cycle.strength, cycle.items))[:most]


def count_cycles(log_odds: npt.ArrayLike, *, at_least: float) -> int:
    """How many cycles of three have all their links above `at_least`."""
    strong = (antisymmetric(log_odds) > at_least).astype(np.float64)
    return round(float(np.trace(strong @ strong @ strong)) / 3)


def supported(cycles: Sequence[Cycle], members: Array) -> list[Cycle]:
    """The same cycles with their support: the share of members' matrices (K, m, m) that have all three links."""
    kept = []
    for cycle in cycles:
        i, j, k = cycle.items
        has = (members[:, i, j] > 0) & (members[:, j, k] > 0) & (members[:, k, i] > 0)
        kept.append(Cycle(cycle.items, cycle.strength, float(has.mean())))
    return kept


def find_cycles(reward: Comparing, prompt: Any, completions: Sequence[Any], *, at_least: float = 0.0) -> dict[str, Any]:
    """Cycles among the completions of one prompt, by `reward.compare` of all pairs.

    Returns `items`, `triples`, `intransitive_triples`, `chance` (a quarter of all triples), `circular_share`, `groups`
    and `cycles` (the 20 strongest, as `Cycle`). Raises `TacitError` for more than `MOST` completions.
    """
    m = len(completions)
    if m > MOST:
        raise TacitError(f"{m} completions are too many to look for cycles in. Give a sample of up to {MOST}")
    i, j = np.triu_indices(m, 1)
    odds = reward.compare([prompt] * len(i), [completions[a] for a in i.tolist()], [completions[b] for b in j.tolist()])
    matrix = np.zeros((m, m))
    matrix[i, j], matrix[j, i] = odds, -odds
    return describe(matrix, at_least=at_least)


def describe(log_odds: npt.ArrayLike, *, at_least: float = 0.0) -> dict[str, Any]:
    """What `find_cycles` returns, of a matrix of log-odds (m, m)."""
    matrix = antisymmetric(log_odds)
    m = len(matrix)
    triples = m * (m - 1) * (m - 2) // 6
    return {
        "items": m,
        "triples": triples,
        "intransitive_triples": count_cycles(matrix, at_least=at_least),
        "chance": triples / 4,
        "circular_share": circular_share(matrix),
        "groups": groups(np.where(np.abs(matrix) > at_least, matrix, 0.0)),
        "cycles": strongest_cycles(matrix, at_least=at_least),
    }
