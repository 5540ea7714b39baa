"""Adam on numpy arrays, and softmax tables fitted by L-BFGS."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tacit.lab.mdp import Array


class Adam:
    """Adam (Kingma and Ba 2015) for ascent: `step` gives what to add."""

    def __init__(self, shape: tuple[int, ...], rate: float, *, momentum: float = 0.9, memory: float = 0.99) -> None:
        self.rate, self.momentum, self.memory = rate, momentum, memory
        self.first, self.second, self.steps = np.zeros(shape), np.zeros(shape), 0

    def step(self, gradient: Array) -> Array:
        """The change of the parameters for a gradient of what is to grow."""
        self.steps += 1
        self.first = self.momentum * self.first + (1 - self.momentum) * gradient
        self.second = self.memory * self.second + (1 - self.memory) * gradient**2
        mean = self.first / (1 - self.momentum**self.steps)
        size = np.sqrt(self.second / (1 - self.memory**self.steps))
        return np.asarray(self.rate * mean / (size + 1e-8))


def descend(loss: Callable[[Array], tuple[float, Array]], begin: Array, iterations: int = 300) -> Array:
    """The minimum of a loss that gives its value and gradient, by L-BFGS over an array of any shape.

    A batch of independent problems is one problem whose loss is their sum.
    """
    from scipy.optimize import minimize

    def flat(point: Array) -> tuple[float, Array]:
        value, slope = loss(point.reshape(begin.shape))
        return value, slope.ravel()

    options = {"maxiter": iterations, "maxcor": 20, "ftol": 1e-12, "gtol": 1e-7}
    found = minimize(flat, begin.ravel(), jac=True, method="L-BFGS-B", options=options)
    return np.asarray(found.x.reshape(begin.shape))


def softmax(logits: Array) -> Array:
    """Along the last axis."""
    weight = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(weight / weight.sum(-1, keepdims=True))


def log_softmax(logits: Array) -> Array:
    """Along the last axis."""
    top = logits - logits.max(-1, keepdims=True)
    return np.asarray(top - np.log(np.exp(top).sum(-1, keepdims=True)))
