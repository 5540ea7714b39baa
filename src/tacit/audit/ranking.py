"""Rank correlations and order statistics, by group, without a loop over rows or groups."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tacit.audit.bootstrap import Array, Index, ratio


def midranks(values: npt.ArrayLike, groups: npt.ArrayLike | None = None) -> Array:
    """Ranks from 1 within each group, equal values share the mean of their ranks: (n,) to (n,)."""
    v = np.asarray(values, dtype=np.float64)
    n = len(v)
    names = np.zeros(n, dtype=np.intp) if groups is None else np.asarray(groups)
    g = np.unique(names, return_inverse=True)[1].reshape(-1)
    order = np.lexsort((v, g))
    new_group = np.r_[True, g[order][1:] != g[order][:-1]][:n]
    new_run = new_group | np.r_[True, v[order][1:] != v[order][:-1]][:n]
    group_start = np.maximum.accumulate(np.where(new_group, np.arange(n), 0))
    run = np.cumsum(new_run) - 1
    first = np.flatnonzero(new_run)
    last = np.r_[first[1:], n] - 1
    out = np.empty(n)
    out[order] = ((first + last) / 2)[run] - group_start + 1 if n else 0.0
    return out


def spearman_by_group(scores: npt.ArrayLike, gold: npt.ArrayLike, groups: npt.ArrayLike) -> tuple[Index, Array]:
    """Spearman's rho of scores and gold within each group that has at least two distinct gold values.

    Pearson's correlation of midranks, so ties are exact. A group whose scores are all equal while its gold is not
    counts as 0: the reward orders nothing there. Returns the group names kept (g,) and their rho (g,).
    """
    names, g = np.unique(np.asarray(groups), return_inverse=True)
    g = g.reshape(-1)
    count = np.bincount(g, minlength=len(names))
    centred = [midranks(values, g) - (count[g] + 1) / 2 for values in (scores, gold)]
    cov, var_s, var_g = (
        np.bincount(g, weights=a * b, minlength=len(names))
        for a, b in ((centred[0], centred[1]), (centred[0], centred[0]), (centred[1], centred[1]))
    )
    kept = var_g > 0
    rho = np.nan_to_num(ratio(cov[kept], np.sqrt(var_s[kept] * var_g[kept])))
    return np.asarray(names)[kept], rho


def spearman(scores: npt.ArrayLike, gold: npt.ArrayLike) -> float:
    """Spearman's rho over all rows; nan where gold has one value only, 0 where the scores have."""
    _, rho = spearman_by_group(scores, gold, np.zeros(len(np.asarray(scores)), dtype=np.intp))
    return float(rho[0]) if len(rho) else float("nan")


def weighted_spearman(scores: npt.ArrayLike, gold: npt.ArrayLike, weights: npt.ArrayLike) -> Array:
    """Spearman's rho of each resample: weights (r, n) to (r,).

    With integer weights this is exactly rho of the data in which row i is repeated w_i times: ranks are recomputed.
    """
    w = np.atleast_2d(np.asarray(weights, dtype=np.float64))
    total = w.sum(axis=1, keepdims=True)
    centred = [_weighted_midranks(values, w) - total / 2 for values in (scores, gold)]
    cov, var_s, var_g = (
        np.einsum("rn,rn,rn->r", w, a, b)
        for a, b in ((centred[0], centred[1]), (centred[0], centred[0]), (centred[1], centred[1]))
    )
    return np.where(var_g > 0, np.nan_to_num(ratio(cov, np.sqrt(var_s * var_g))), np.nan)


def weighted_auc(scores: npt.ArrayLike, positive: npt.ArrayLike, weights: npt.ArrayLike) -> Array:
    """P(score of a positive > score of a negative) + half P(equal), for each row of weights (r, n): (r,).

    nan where one class has no weight. (The area under the ROC curve, Mann-Whitney.)
    """
    w = np.atleast_2d(np.asarray(weights, dtype=np.float64))
    is_positive = np.asarray(positive, dtype=bool)
    below = _weighted_midranks(scores, w * ~is_positive)
    wins = np.einsum("rn,rn->r", w[:, is_positive], below[:, is_positive])
    return ratio(wins, w[:, is_positive].sum(axis=1) * w[:, ~is_positive].sum(axis=1))


def auc_by_group(scores: npt.ArrayLike, positive: npt.ArrayLike, groups: npt.ArrayLike) -> tuple[Index, Array, Array]:
    """Pairs (positive, negative) inside each group: group names (g,), pairs won (ties half) (g,), pairs (g,)."""
    names, g = np.unique(np.asarray(groups), return_inverse=True)
    g = g.reshape(-1)
    label = np.asarray(positive, dtype=np.float64)
    n_positive = np.bincount(g, weights=label, minlength=len(names))
    n_negative = np.bincount(g, weights=1.0 - label, minlength=len(names))
    rank_sum = np.bincount(g, weights=label * midranks(scores, g), minlength=len(names))
    won: Array = rank_sum - n_positive * (n_positive + 1) / 2
    pairs: Array = np.multiply(n_positive, n_negative, dtype=np.float64)
    return np.asarray(names), won, pairs


def pairs_within(groups: npt.ArrayLike, *, limit: int, rng: np.random.Generator) -> tuple[Index, Index]:
    """All pairs of rows that share a group, as two (m,) arrays of rows; a random `limit` of them where there are more.

    Exhaustive enumeration runs over offsets between sorted rows; where it would pass `limit`, pairs are drawn with
    replacement, each equally likely.
    """
    g = np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)
    order = np.argsort(g, kind="stable")
    size = np.bincount(g) if len(g) else np.zeros(0, dtype=np.intp)
    pairs = size * (size - 1) // 2
    if int(pairs.sum()) <= limit:
        left = [np.empty(0, dtype=np.intp)]
        right = [np.empty(0, dtype=np.intp)]
        ordered = g[order]
        alive = np.arange(len(order))
        for offset in range(1, int(size.max(initial=1))):
            alive = alive[alive + offset < len(order)]
            alive = alive[ordered[alive] == ordered[alive + offset]]
            left.append(order[alive])
            right.append(order[alive + offset])
        return np.concatenate(left), np.concatenate(right)
    group = rng.choice(len(size), size=limit, p=pairs / pairs.sum())
    start = np.cumsum(size) - size
    a = rng.integers(0, size[group])
    b = (a + 1 + rng.integers(0, size[group] - 1)) % size[group]
    return order[start[group] + a], order[start[group] + b]


def quarters(values: npt.ArrayLike) -> Index:
    """Quarter of each value by size, (n,) in 0..3, as many rows in each as can be; equal values in order of rows."""
    v = np.asarray(values, dtype=np.float64)
    part = np.empty(len(v), dtype=np.intp)
    part[np.argsort(v, kind="stable")] = np.arange(len(v)) * 4 // max(1, len(v))
    return part


def _weighted_midranks(values: npt.ArrayLike, weights: Array) -> Array:
    """Weight below each value plus half the weight at it: (n,), (r, n) to (r, n)."""
    v = np.asarray(values, dtype=np.float64)
    order = np.argsort(v, kind="stable")
    first = np.flatnonzero(np.r_[True, v[order][1:] != v[order][:-1]][: len(v)])
    run = np.repeat(np.arange(len(first)), np.diff(np.r_[first, len(v)]))
    at = np.add.reduceat(weights[:, order], first, axis=1)
    below = np.cumsum(at, axis=1) - at / 2
    out = np.empty_like(weights)
    out[:, order] = below[:, run]
    return out
