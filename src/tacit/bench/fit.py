"""`tacit bench fit`: the fit beside the loop that reward-model research code uses, and beside scikit-learn.

Synthetic truth: standard normal features, a reward that is linear plus a bounded function of 16 hidden projections, and
people whose noise caps the accuracy of anyone at .84. Sides alternate and medians are quoted, since machines are noisy.
The loop is a torch DataLoader over pairs, batch 512, Adam at 1e-3, 30 epochs, float32, on the same pairs.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tacit.bench.rollout import matmul_limits
from tacit.progress import track
from tacit.rewards import heads
from tacit.rewards.examples import Examples
from tacit.rewards.fitting import Fit, fit
from tacit.rewards.options import FitOptions
from tacit.rewards.ridge import RIDGES

CEILING = 0.84
TEST_PAIRS = 10_000
_SETTLE = 0.2
"""Seconds of rest before each measurement: the threads of one library's products spin for a while after it."""


def run(
    *, pairs: int = 50_000, dims: tuple[int, ...] = (384, 2048), repeats: int = 3, epochs: int = 30, seed: int = 0
) -> dict[str, Any]:
    """Time every row of the table; `epochs` shortens the research loop for a quick look."""
    rows: list[dict[str, Any]] = []
    short = {torch.float32: "fp32", torch.bfloat16: "bf16"}
    limits = {short[dtype]: 2 * limit / 1e9 for dtype, limit in matmul_limits().items()}
    for dim in dims:
        data = _World(pairs, dim, seed)
        wide = _World(pairs, dim, seed, reuse=9)
        rows += _compare(
            data,
            repeats,
            f"MLP 3 x 256, {dim} dims",
            {
                "research loop": partial(_loop, data, (256, 256, 256), epochs, seed),
                "tacit fp32": partial(data.fit, head="mlp", precision="fp32", seed=seed),
                "tacit": partial(data.fit, head="mlp", seed=seed),
            },
            limits,
        )
        rows += _compare(
            data,
            repeats,
            f"linear, {dim} dims",
            {
                "research loop": partial(_loop, data, (), epochs, seed),
                "scikit-learn": partial(_sklearn, data),
                "scikit-learn, ridge cross-validated": partial(_sklearn_cv, data),
                "tacit, ridge given": partial(data.fit, l2=1e-3, seed=seed),
                "tacit, ridge cross-fitted": partial(data.fit, seed=seed),
                "tacit, ten members": partial(data.fit, l2=1e-3, members=10, seed=seed),
            },
        )
        rows += _compare(
            data,
            1,
            f"ten MLPs, one epoch, {dim} dims",
            {
                "one after another, fp32": partial(_one_after_another, data, "fp32"),
                "one after another": partial(_one_after_another, data, "auto"),
                "tacit, ten members": partial(data.fit, head="mlp", epochs=1, members=10, seed=seed),
                "tacit, shared trunk": partial(
                    data.fit, head="mlp", epochs=1, members=10, shared_trunk=True, seed=seed
                ),
                "tacit, one": partial(data.fit, head="mlp", epochs=1, seed=seed),
            },
        )
        rows += _compare(
            wide,
            repeats,
            f"MLP, each response in 9 pairs, {dim} dims",
            {
                "every response of every pair": partial(wide.fit, head="mlp", seed=seed, reuse=False),
                "tacit (distinct responses once a batch)": partial(wide.fit, head="mlp", seed=seed),
            },
        )
    return {
        "suite": "fit",
        "pairs": pairs,
        "threads": torch.get_num_threads(),
        "ceiling": CEILING,
        "repeats": repeats,
        "loop_epochs": epochs,
        "matmul_gflops": limits,
        "rows": rows,
        "scoring": score_rows(),
    }


class _World:
    """Synthetic comparisons; each response appears in `reuse` pairs (9: all pairs of ten responses to a prompt)."""

    def __init__(self, pairs: int, dim: int, seed: int, reuse: int = 1) -> None:
        g = torch.Generator().manual_seed(seed)
        total = pairs + TEST_PAIRS
        self.dim, self.pairs = dim, pairs
        if reuse == 1:
            rows = torch.arange(2 * total).view(total, 2)
            blocks = torch.arange(total)
        else:
            within = torch.combinations(torch.arange(reuse + 1))
            prompts = math.ceil(total / len(within))
            rows = (within[None] + (reuse + 1) * torch.arange(prompts)[:, None, None]).view(-1, 2)[:total]
            blocks = torch.arange(prompts).repeat_interleave(len(within))[:total]
        self.features = torch.randn(int(rows.max()) + 1, dim, generator=g)
        hidden = torch.tanh(self.features @ torch.randn(dim, 16, generator=g) / math.sqrt(dim))
        reward = self.features @ torch.randn(dim, generator=g) / math.sqrt(dim) + 0.2 * hidden.sum(1)
        reward = (reward - reward.mean()) / reward.std()
        gap = reward[rows[:, 0]] - reward[rows[:, 1]]
        low, high = 0.0, 20.0
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if torch.sigmoid(middle * gap.abs()).mean() < CEILING else (low, middle)
        first = torch.rand(total, generator=g) < torch.sigmoid(low * gap)
        self.rows = torch.where(first[:, None], rows, rows.flip(1))
        self.blocks = blocks[:, None].expand(-1, 2).contiguous()

    def examples(self) -> Examples:
        """The fitting pairs as the library sees them."""
        n = self.pairs
        zeros = np.zeros(n, np.float32)
        return Examples(
            kind="comparison",
            texts=[("", "")] * len(self.features),
            rows=self.rows[:n].numpy(),
            target=zeros,
            ranks=np.zeros((n, 0), np.int32),
            tie=np.zeros(n, bool),
            margin=zeros,
            weight=np.ones(n, np.float32),
            blocks=self.blocks[:n].numpy(),
        )

    def fit(self, *, reuse: bool = True, **options: Any) -> Fit:
        """Our fit; `reuse=False` names every response of every pair as a row of its own."""
        examples, features = self.examples(), self.features
        if not reuse:
            flat = torch.from_numpy(examples.rows).view(-1)
            features = features.index_select(0, flat)
            examples = _World.renamed(examples, len(flat))
        return fit(features.numpy(), examples, FitOptions(**options))

    @staticmethod
    def renamed(examples: Examples, count: int) -> Examples:
        """The same pairs with every response a row of its own."""
        from dataclasses import replace

        return replace(examples, rows=np.arange(count).reshape(-1, 2), texts=[("", "")] * count)

    def accuracy(self, score: Callable[[Tensor], Tensor]) -> float:
        """Share of unseen pairs ordered as the person did."""
        test = self.rows[self.pairs :]
        with torch.no_grad():
            delta = score(self.features[test[:, 0]]) - score(self.features[test[:, 1]])
        return float((delta > 0).float().mean())


def _compare(
    data: _World,
    repeats: int,
    work: str,
    sides: dict[str, Callable[[], Any]],
    limits: dict[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Median seconds and accuracy of each side, alternating; ratios are against the first."""
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    last: dict[str, Any] = {}
    for _ in track(range(repeats), work, repeats):
        for side, call in sides.items():
            time.sleep(_SETTLE)
            start = time.perf_counter()
            last[side] = call()
            seconds[side].append(time.perf_counter() - start)
    baseline = statistics.median(next(iter(seconds.values())))
    rows = []
    for side, taken in seconds.items():
        result = last[side]
        score = (lambda x, f=result: heads.scores(f.parameters, x).mean(0)) if isinstance(result, Fit) else result
        median = statistics.median(taken)
        row = {
            "work": work,
            "side": side,
            "seconds": median,
            "times_faster": baseline / median,
            "accuracy": data.accuracy(score),
        }
        if limits and isinstance(result, Fit):
            row["share_of_matmul_limit"] = training_gflop(data, result) / median / limits[result.report["precision"]]
        rows.append(row)
    return rows


def training_gflop(data: _World, result: Fit) -> float:
    """Products of the forward and backward passes of the epochs that ran, in 1e9 operations."""
    widths = [data.dim, *(v.shape[-1] for k, v in result.parameters.items() if k.endswith("weight")), 1]
    layers = [a * b for a, b in itertools.pairwise(widths)]
    per_row = 2 * (3 * sum(layers) - layers[0])
    epochs = result.report["history"][-1]["epoch"]
    return float(per_row * 2 * data.pairs * epochs / 1e9)


def _one_after_another(data: _World, precision: str, count: int = 10) -> Fit:
    """As many separate fits of one epoch."""
    return [data.fit(head="mlp", epochs=1, precision=precision, seed=seed) for seed in range(count)][-1]


def _loop(data: _World, hidden: tuple[int, ...], epochs: int, seed: int) -> Callable[[Tensor], Tensor]:
    """The alternative: DataLoader over pairs of feature vectors, Adam, a fixed number of epochs."""
    from torch.utils.data import DataLoader, TensorDataset

    torch.manual_seed(seed)
    layers = [layer for a, b in itertools.pairwise((data.dim, *hidden)) for layer in (nn.Linear(a, b), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(hidden[-1] if hidden else data.dim, 1))
    rows = data.rows[: data.pairs]
    pairs = TensorDataset(data.features[rows[:, 0]], data.features[rows[:, 1]])
    loader = DataLoader(pairs, batch_size=512, shuffle=True)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        for chosen, rejected in loader:
            loss = -nn.functional.logsigmoid(model(chosen) - model(rejected)).mean()
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()

    def score(features: Tensor) -> Tensor:
        values: Tensor = model(features)[:, 0]
        return values

    return score


def _sklearn(data: _World) -> Callable[[Tensor], Tensor]:
    """Logistic regression without intercept on differences, half of them flipped so that there are two classes."""
    from sklearn.linear_model import LogisticRegression

    difference, label = _differences(data)
    model = LogisticRegression(C=1 / (1e-3 * len(label)), fit_intercept=False).fit(difference, label)
    weight = torch.from_numpy(model.coef_[0].astype(np.float32))
    return lambda x: x @ weight


def _sklearn_cv(data: _World) -> Callable[[Tensor], Tensor]:
    """The same over the nine ridges that ours looks among, in five folds."""
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.model_selection import GroupKFold

    difference, label = _differences(data)
    strengths = [1 / (multiple * data.dim) for multiple in RIDGES]
    folds = list(GroupKFold(5).split(difference, groups=data.blocks[: data.pairs, 0].numpy()))
    options = {"fit_intercept": False, "scoring": "neg_log_loss", "l1_ratios": (0.0,), "use_legacy_attributes": False}
    model = LogisticRegressionCV(Cs=strengths, cv=folds, **options).fit(difference, label)
    weight = torch.from_numpy(model.coef_[0].astype(np.float32))
    return lambda x: x @ weight


def _differences(data: _World) -> tuple[np.ndarray, np.ndarray]:
    rows = data.rows[: data.pairs]
    difference = (data.features[rows[:, 0]] - data.features[rows[:, 1]]).numpy()
    label = np.arange(len(rows)) % 2
    difference[label == 0] *= -1
    return difference, label


def score_rows(count: int = 1_000_000, dim: int = 384, members: int = 10, repeats: int = 5) -> list[dict[str, Any]]:
    """Rows a second of linear scoring from cached features, beside torch.mv and NumPy."""
    features = torch.randn(count, dim)
    parameters = {"linear": torch.randn(members, dim), "bias": torch.zeros(members)}
    one = {"linear": parameters["linear"][:1], "bias": parameters["bias"][:1]}
    array, vector = features.numpy(), parameters["linear"][0].numpy()
    sides: dict[str, Callable[[], Any]] = {
        "torch.mv": lambda: torch.mv(features, parameters["linear"][0]),
        "numpy": lambda: array @ vector,
        "tacit, one member": lambda: heads.score_in_chunks(one, array),
        "tacit, ten members": lambda: heads.score_in_chunks(parameters, array),
    }
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    with torch.inference_mode():
        for _ in range(repeats):
            for side, call in sides.items():
                time.sleep(_SETTLE)
                start = time.perf_counter()
                call()
                seconds[side].append(time.perf_counter() - start)
    rate = {side: count / statistics.median(taken) / 1e6 for side, taken in seconds.items()}
    return [{"side": side, "million_rows_per_second": value} for side, value in rate.items()]
