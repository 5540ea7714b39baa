"""Influence against refits that leave one comparison out, and by hand for one feature."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from tacit.audit.influence import _solve, influence
from tacit.rewards.ridge import Folds

N, D, L2 = 300, 4, 0.05


def loss(w: np.ndarray, x: np.ndarray, y: np.ndarray, c: np.ndarray) -> float:
    """Weighted mean of log(1 + exp(-x w)) + (1 - y) x w."""
    d = x @ w
    return float(np.average(np.logaddexp(0, -d) + (1 - y) * d, weights=c))


def refit(x: np.ndarray, y: np.ndarray, c: np.ndarray) -> np.ndarray:
    found = minimize(lambda w: loss(w, x, y, c) + L2 / 2 * w @ w, np.zeros(D), method="BFGS", options={"gtol": 1e-9})
    return np.asarray(found.x)


@pytest.fixture(scope="module")
def problem() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2 * N, D))
    features = (features - features.mean(0)) / features.std(0)  # so that standardising changes nothing
    a, b = np.arange(N), np.arange(N, 2 * N)
    gap = features[a] - features[b]
    swap = rng.random(N) > 1 / (1 + np.exp(-gap @ np.array([1.5, -1.0, 0.5, 0.0])))
    a, b = np.where(swap, b, a), np.where(swap, a, b)
    return {
        "features": features,
        "a": a,
        "b": b,
        "tie": (rng.random(N) < 0.1).astype(float),
        "weight": rng.uniform(0.5, 2.0, N),
        "blocks": np.arange(N) // 2,
    }


def test_it_is_what_leaving_one_out_and_refitting_does(problem: dict[str, np.ndarray]) -> None:
    rng = np.random.default_rng(1)
    folds = Folds.of(np.stack([problem["blocks"]] * 2, axis=1), rng, most=2)
    found = influence(
        problem["features"], problem["a"], problem["b"], problem["tie"], problem["blocks"],
        weight=problem["weight"], rng=rng, l2=L2, folds=folds,
    )  # fmt: skip
    x = problem["features"][problem["a"]] - problem["features"][problem["b"]]
    y, c, fold = np.where(problem["tie"] > 0, 0.5, 1.0), problem["weight"], folds.fold.numpy()
    exact = np.zeros(N)
    for k in range(2):
        train, held = fold != k, fold == k
        whole = loss(refit(x[train], y[train], c[train]), x[held], y[held], c[held])
        for i in np.flatnonzero(train):
            left = train & (np.arange(N) != i)
            exact[i] = loss(refit(x[left], y[left], c[left]), x[held], y[held], c[held]) - whole
    assert np.corrcoef(found, exact)[0, 1] > 0.99
    assert np.polyfit(exact, found, 1)[0] == pytest.approx(1.0, abs=0.1)
    # The comparisons to look at are the same ones.
    assert len(set(np.argsort(-np.abs(found))[:10]) & set(np.argsort(-np.abs(exact))[:10])) >= 9


def test_conjugate_gradients_solve() -> None:
    rng = np.random.default_rng(2)
    x = torch.from_numpy(rng.normal(size=(50, 6)).astype(np.float32))
    curvature = torch.from_numpy(rng.uniform(0.01, 0.02, (3, 50)).astype(np.float32))
    right = torch.from_numpy(rng.normal(size=(3, 6)).astype(np.float32))
    for gram in (None, x.T @ x / 50):
        found = _solve(x, curvature, 0.1, right, gram)
        for k in range(3):
            hessian = (x * curvature[k][:, None]).T @ x + 0.1 * torch.eye(6)
            assert torch.linalg.solve(hessian, right[k]).numpy() == pytest.approx(found[k].numpy(), rel=2e-3, abs=2e-3)


def test_flipped_votes_are_harmful(problem: dict[str, np.ndarray]) -> None:
    rng = np.random.default_rng(3)
    n = 600
    features = rng.normal(size=(2 * n, D))
    a, b = np.arange(n), np.arange(n, 2 * n)
    better = (features[a] - features[b])[:, 0] > 0
    flipped = rng.random(n) < 0.1
    swap = better == flipped
    a, b = np.where(swap, b, a), np.where(swap, a, b)
    found = influence(features, a, b, np.zeros(n), np.arange(n), rng=rng)
    assert found[flipped].mean() < 0 < found[~flipped].mean()
    assert flipped[np.argsort(found)[:30]].mean() > 0.5  # where 0.1 would be chance
