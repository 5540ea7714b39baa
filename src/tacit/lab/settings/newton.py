"""Logistic losses over comparisons, minimised to the end: Newton's method on weights, Gauss-Newton on policies.

    loss = sum_i first_i softplus(-x_i) + second_i softplus(x_i) + l2 / 2 |parameters|^2,

where first_i, second_i >= 0 weigh the two answers of comparison i, and x_i is its log-odds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse
from scipy.special import expit

from tacit.lab.mdp import Array
from tacit.lab.optimise import log_softmax, softmax

Step = tuple[float, Array, Callable[[], Array]]
"""Loss, gradient and (approximate) Hessian at a point."""


def fit_weights(features: Array, first: Array, second: Array, n: int | None) -> Array:
    """(D,) weights w of x = features (m, D) w, with the `prior` of n comparisons: a convex problem."""
    l2 = prior(n)

    def at(weights: Array) -> Step:
        value, slope, curve = logistic(features @ weights, first, second)
        gradient = features.T @ slope + l2 * weights

        def hessian() -> Array:
            return np.asarray((features * curve[:, None]).T @ features + l2 * np.eye(len(weights)))

        return value + l2 / 2 * float(weights @ weights), gradient, hessian

    return minimise(at, np.zeros(features.shape[1]), tolerance=_enough(n))


def fit_logits(moves: Any, first: Array, second: Array, shape: tuple[int, int], n: int | None) -> Array:
    """(S, A) policy softmax(logits) where x = moves (m, S A) log pi, with the `prior` of n comparisons.

    `moves` is dense or sparse.

    d log pi / d logits is I - 1 pi^T in each state; the curvature of log pi itself is left out of the Hessian, which
    weighs nothing where the comparisons are explained.
    """
    (states, actions), l2 = shape, prior(n)
    moves = moves.tocsr() if sparse.issparse(moves) else moves
    back = moves.T.tocsr() if sparse.issparse(moves) else moves.T

    def at(point: Array) -> Step:
        log_policy = log_softmax(point.reshape(shape))
        policy = np.exp(log_policy)
        value, slope, curve = logistic(moves @ log_policy.ravel(), first, second)

        def pulled(table: Array) -> Array:  # (I - 1 pi^T)^T along the last axis, over (..., S, A)
            return np.asarray(table - policy * table.sum(-1, keepdims=True))

        gradient = pulled((back @ slope).reshape(shape)).ravel() + l2 * point

        def hessian() -> Array:
            inner = back @ _scaled(moves, curve)
            dense = inner.toarray() if sparse.issparse(inner) else inner
            half = pulled(dense.reshape(-1, states, actions)).reshape(dense.shape)
            full = pulled(half.T.reshape(-1, states, actions)).reshape(dense.shape)
            return np.asarray(full + l2 * np.eye(states * actions))

        return value + l2 / 2 * float(point @ point), gradient, hessian

    return softmax(minimise(at, np.zeros(states * actions), tolerance=_enough(n)).reshape(shape))


def logistic(odds: Array, first: Array, second: Array) -> tuple[float, Array, Array]:
    """The loss without its penalty, and its first and second derivative in each of the odds (m,)."""
    chance = expit(odds)
    value = float(first @ np.logaddexp(0, -odds) + second @ np.logaddexp(0, odds))
    return value, second * chance - first * expit(-odds), (first + second) * chance * expit(-odds)


def prior(n: int | None) -> float:
    """Weight of |w|^2 / 2 beside the mean loss of n comparisons: a normal prior of standard deviation 10."""
    return 1e-12 if n is None else 0.01 / n


def _enough(n: int | None) -> float:
    """A gain in mean loss that is nothing beside the sampling error of n comparisons."""
    return 1e-12 if n is None else 1e-4 / n


def minimise(at: Callable[[Array], Step], begin: Array, *, steps: int = 100, tolerance: float = 1e-12) -> Array:
    """Levenberg-Marquardt: Newton steps with a damping that grows where a step does not help, and falls where it does.

    Ends where what a step gains, or the gradient, is below `tolerance`.
    """
    point, damping = begin, 1e-6
    value, gradient, hessian = at(point)
    for _ in range(steps):
        if np.abs(gradient).max() < tolerance:
            break
        curve = hessian()
        gain = -1.0
        while damping < 1e8:
            damped = curve + damping * np.diag(np.maximum(np.diag(curve), 1e-12))
            moved = point - np.linalg.solve(damped, gradient)
            ahead = at(moved)
            gain = value - ahead[0]
            if gain >= 0:
                break
            damping *= 10
        if gain < 0:
            break
        point, (value, gradient, hessian) = moved, ahead
        damping = max(damping / 10, 1e-12)
        if gain < tolerance:
            break
    return point


def _scaled(rows: Any, weight: Array) -> Any:
    if sparse.issparse(rows):
        entries = rows.data * np.repeat(weight, np.diff(rows.indptr))
        return sparse.csr_matrix((entries, rows.indices, rows.indptr), shape=rows.shape)
    return rows * weight[:, None]
