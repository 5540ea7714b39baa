r"""How far answers of a policy lie from demonstrations: two-sample statistics on text features, by prompt.

Both sides answer the same prompts. Rows of one prompt hang together, so folds, bootstrap draws and permutations are of
prompts, never of rows.

- `discriminate`: a ridge logistic discriminator is fitted on some prompts and asked on the others (five folds in one
  batched fit). Its accuracy is 1/2 where the sides cannot be told apart (Lopez-Paz and Oquab 2017, arXiv 1610.06545).
- `mmd`: the squared maximum mean discrepancy (Gretton et al. 2012, equation 3) with a Gaussian kernel whose width is
  the median distance. With one answer a and one demonstration b of each of n prompts

      MMD^2 = 1 / (n (n - 1)) \sum_{i != j} [k(a_i, a_j) + k(b_i, b_j) - k(a_i, b_j) - k(b_i, a_j)],

  and under the hypothesis that a_i and b_i are drawn alike any exchange of the two within a prompt is as likely, so
  that the share of such exchanges with an MMD at least as large is an exact p-value.
- `memorisation`: how near an answer is to the nearest demonstration that was learnt from, against how near a
  demonstration that was held out is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tacit.errors import TacitError

Array = npt.NDArray[np.floating[Any]]
Rows = npt.NDArray[np.intp]

FOLDS = 5
RIDGES = (10.0, 1.0, 0.1, 0.01)
SURFACE = 32
"""The last columns of the encoder `hashed`: lengths, punctuation and layout, and no words."""
_LARGEST = 600
"""Prompts that the MMD looks at."""


@dataclass(frozen=True)
class Told:
    """How well two sides are told apart on prompts that the discriminator has not seen."""

    accuracy: float
    """Mean of the two sides' shares that are put on the right side; 1/2 is chance."""
    accuracy_ci: tuple[float, float]
    """95%, bootstrap over prompts."""
    auc: float
    """P(a row of the second side scores above one of the first)."""
    ridge: float | None = None
    """The penalty, the best of `RIDGES` by the likelihood of held-out prompts."""

    def row(self, name: str) -> dict[str, Any]:
        """For a table."""
        return {
            "told apart by": name,
            "accuracy": self.accuracy,
            "accuracy_ci": list(self.accuracy_ci),
            "auc": self.auc,
        }

    @property
    def same(self) -> bool:
        """Whether the interval holds chance."""
        return self.accuracy_ci[0] <= 0.5


def discriminate(
    first: Array, second: Array, first_prompt: Sequence[int], second_prompt: Sequence[int], *,
    answers: Sequence[int] | None = None, seed: int = 0, resamples: int = 1000,
) -> Told:  # fmt: skip
    """Tell features (n, d) of one side from (m, d) of another; `*_prompt` are the numbers of the rows' prompts.

    `answers` (n + m,) numbers the answers of both sides where those of one side are on the other as well, under another
    prompt: no fit then sees an answer that it is asked about, which it would know with the wrong side. The intercept is
    that of sides of equal weight. Raises `TacitError` for fewer than `FOLDS` prompts.
    """
    features = np.concatenate([first, second])
    side = np.repeat([0.0, 1.0], [len(first), len(second)])
    prompt = _numbered(first_prompt, second_prompt)
    if prompt.max(initial=-1) + 1 < FOLDS:
        raise TacitError(f"two sides are told apart on held-out prompts: give answers to at least {FOLDS} prompts")
    fold = np.random.default_rng([seed, 11]).permutation(np.arange(prompt.max() + 1) % FOLDS)[prompt]
    scores, ridge = _crossed(features, side, fold, _seen(fold, None if answers is None else np.asarray(answers)))
    accuracy, interval = _accuracy(scores, side, prompt, resamples, seed)
    return Told(accuracy, interval, auc(scores[side == 0], scores[side == 1]), ridge)


def separated(scores: Array, side: Array, prompt: Sequence[int], *, seed: int = 0, resamples: int = 1000) -> Told:
    """The same measures for scores (n,) of a discriminator that was fitted on other prompts; `side` (n,) is 0 or 1."""
    accuracy, interval = _accuracy(np.asarray(scores), np.asarray(side), np.asarray(prompt, np.intp), resamples, seed)
    return Told(accuracy, interval, auc(np.asarray(scores)[np.equal(side, 0)], np.asarray(scores)[np.equal(side, 1)]))


def auc(low: Array, high: Array) -> float:
    """P(high > low) + P(equal) / 2 over all pairs of the two samples."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([high, low]))[: len(high)].sum()
    return float((ranks - len(high) * (len(high) + 1) / 2) / (len(high) * len(low)))


def mmd(first: Array, second: Array, *, permutations: int = 999, seed: int = 0) -> dict[str, float]:
    """`mmd2` and `p` of features (n, d) each, row i of both answering one prompt; at most 600 prompts are looked at."""
    rng = np.random.default_rng([seed, 12])
    if len(first) > _LARGEST:
        keep = np.sort(rng.choice(len(first), _LARGEST, replace=False))
        first, second = first[keep], second[keep]
    n = len(first)
    x = np.concatenate([first, second]).astype(np.float64)
    scale = x.std(0)
    x = x / np.where(scale <= 1e-6 * np.abs(x).max(0), 1.0, scale)  # one float32 number, but for rounding
    square = (x**2).sum(1)
    gap = np.maximum(square[:, None] + square[None] - 2 * x @ x.T, 0.0)
    away = ~np.eye(2 * n, dtype=bool)
    kernel = np.exp(-gap / max(float(np.median(gap[away])), 1e-12))
    own = np.arange(2 * n)
    kernel[own, own] = kernel[own, (own + n) % (2 * n)] = 0.0  # a row with itself, and with its partner
    swap = np.concatenate([np.ones((1, n)), rng.choice([-1.0, 1.0], (permutations, n))])
    sign = np.concatenate([-swap, swap], axis=1)
    values = np.einsum("pi,pi->p", sign @ kernel, sign) / (n * (n - 1))
    return {"mmd2": float(values[0]), "p": float((values >= values[0] - 1e-12).mean()), "prompts": float(n)}


def memorisation(
    answers: Array, held_out: Array, learnt: Array, *, seed: int = 0, resamples: int = 1000
) -> dict[str, Any]:
    """How near answers (n, d) are to the nearest of demonstrations (k, d) that were learnt from, as cosines.

    `held_out` (m, d) are demonstrations that were not learnt from: what is usual. `share_nearer` is the share of
    answers nearer than 95% of those, .05 where nothing is copied; `copies` the share with a cosine of 1.
    """
    ours, usual = _nearest(answers, learnt), _nearest(held_out, learnt)
    edge = float(np.quantile(usual, 0.95))
    nearer = ours > edge + 1e-9
    rng = np.random.default_rng([seed, 13])
    # Both samples are drawn anew: the edge is an estimate, too.
    edges = np.quantile(usual[rng.integers(len(usual), size=(resamples, len(usual)))], 0.95, axis=1)
    draws = (ours[rng.integers(len(ours), size=(resamples, len(ours)))] > edges[:, None] + 1e-9).mean(1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return {
        "nearest": float(ours.mean()),
        "nearest_held_out": float(usual.mean()),
        "share_nearer": float(nearer.mean()),
        "share_nearer_ci": [float(low), float(high)],
        "copies": float((ours > 1 - 1e-6).mean()),
    }


def heterogeneity(
    first: Sequence[tuple[str, str]],
    second: Sequence[tuple[str, str]],
    encoder: Any,
    *,
    cache: Any = None,
    same_answers: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """How unlike two sides of (prompt, completion) texts are, and by what: length alone, surface alone, all features.

    A reward fitted on second against first learns whatever tells them apart. Where `length` or `surface` do nearly as
    well as `features`, that is what it learns.

    `same_answers` says that the answers of one side are those of the other under other prompts. Folds then share
    neither prompts nor answers, and the MMD is of prompts that share no answer, about half of them: with all of them
    both sides would be the same set, and an exchange within a prompt would not be as likely as what was seen.
    """
    from tacit.features import FeatureStore
    from tacit.features.hashed import HashedEncoder

    texts = [*first, *second]
    names = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompt for prompt, _ in texts))}
    of = [[names[prompt] for prompt, _ in side] for side in (first, second)]
    length = np.log2(1.0 + np.array([[len(completion)] for _, completion in texts]))
    every = {
        "length": length,
        "surface": HashedEncoder().encode(texts)[:, -SURFACE:],
        "features": FeatureStore(encoder, cache).features(texts),
    }
    n = len(first)
    numbers = {answer: number for number, answer in enumerate(dict.fromkeys(answer for _, answer in texts))}
    answers = [numbers[answer] for _, answer in texts] if same_answers else None
    told = {name: discriminate(x[:n], x[n:], *of, answers=answers, seed=seed) for name, x in every.items()}
    pairs = _one_each(*of)
    if answers is not None:
        pairs = _without_shared(*pairs, np.asarray(answers[:n]), np.asarray(answers[n:]))
    x = every["features"]
    found = mmd(x[:n][pairs[0]], x[n:][pairs[1]], seed=seed) if len(pairs[0]) > 1 else {}
    return {
        "rows": [one.row(name) for name, one in told.items()],
        "accuracy": told["features"].accuracy,
        "length_accuracy": told["length"].accuracy,
        "surface_accuracy": told["surface"].accuracy,
        "mmd2": found.get("mmd2"),
        "mmd_p": found.get("p"),
        "prompts": len(names),
    }


def _nearest(rows: Array, among: Array) -> Array:
    a, b = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (rows, among))
    return np.concatenate([(a[i : i + 1024] @ b.T).max(1) for i in range(0, len(a), 1024)])


def _numbered(first: Sequence[int], second: Sequence[int]) -> Rows:
    _, code = np.unique(np.concatenate([np.asarray(first), np.asarray(second)]), return_inverse=True)
    return np.asarray(code.reshape(-1), np.intp)


def _one_each(first: Sequence[int], second: Sequence[int]) -> tuple[Rows, Rows]:
    """The first row of each prompt that both sides answer."""
    a, at = np.unique(first, return_index=True)
    b, bt = np.unique(second, return_index=True)
    _, i, j = np.intersect1d(a, b, return_indices=True)
    return at[i], bt[j]


def _without_shared(first: Rows, second: Rows, first_answer: Rows, second_answer: Rows) -> tuple[Rows, Rows]:
    """Of the pairs of rows in order those whose answers no earlier one has."""
    used: set[int] = set()
    kept = []
    for at, (i, j) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
        pair = {int(first_answer[i]), int(second_answer[j])}
        if not pair & used:
            used |= pair
            kept.append(at)
    return first[kept], second[kept]


def _seen(fold: Rows, answers: Rows | None) -> npt.NDArray[np.bool_]:
    """Which rows (FOLDS, n) a discriminator learns from that is asked about each fold."""
    seen = fold[None] != np.arange(FOLDS)[:, None]
    if answers is not None:
        for k in range(FOLDS):
            seen[k] &= ~np.isin(answers, answers[fold == k])
    return np.asarray(seen)


def _crossed(features: Array, side: Array, fold: Rows, learnt: npt.NDArray[np.bool_]) -> tuple[Array, float]:
    """Scores (n,) of each row by the discriminator that has not seen its fold, with the best ridge."""
    import torch

    from tacit.rewards.heads import Standardiser
    from tacit.rewards.linear import Design, minimise
    from tacit.rewards.objectives import Targets, objective_for

    matrix = torch.from_numpy(np.ascontiguousarray(features, np.float32))
    count = len(matrix)
    objective = objective_for("outcome")
    none = torch.zeros(count)
    targets = Targets(torch.from_numpy(side.astype(np.float32)), torch.zeros(count, 0), none.bool(), none)
    design = Design(Standardiser.of(matrix)(matrix), torch.arange(count)[:, None])
    seen = torch.from_numpy(learnt.astype(np.float32))
    second = torch.from_numpy(side.astype(bool))
    # Both sides weigh the same in every fold, so that the zero of the score is where they are as likely.
    of_second, of_first = ((seen * of).sum(1, keepdim=True).clamp_min(1.0) for of in (second, ~second))
    weights = seen / torch.where(second, of_second, of_first)
    best: tuple[float, Array, float] | None = None
    start = None
    for ridge in RIDGES:
        solution = minimise(design, targets, weights, objective, ridge, start=start)
        start = solution.theta
        scores = solution.scores(design)[torch.from_numpy(fold), torch.arange(count), 0].double().numpy()
        sign = 2 * side - 1
        nats = np.logaddexp(0.0, -sign * scores)
        loss = float((nats[side == 0].mean() + nats[side == 1].mean()) / 2)
        if best is None or loss < best[0]:
            best = loss, scores, ridge
    assert best is not None
    return best[1], best[2]


def _accuracy(scores: Array, side: Array, prompt: Rows, resamples: int, seed: int) -> tuple[float, tuple[float, float]]:
    """The mean of both sides' accuracies with its interval over prompts."""
    right = np.where(scores == 0, 0.5, (scores > 0) == (side > 0))
    many = int(prompt.max()) + 1
    sums = np.stack(
        [
            np.bincount(prompt, value * mask, many)
            for mask in (side == 0, side == 1)
            for value in (right, np.ones_like(right))
        ]
    )  # (4, prompts): right and all of the first side, and of the second
    rng = np.random.default_rng([seed, 14])
    draws = rng.multinomial(many, np.full(many, 1 / many), size=resamples) @ sums.T
    draws = draws[(draws[:, 1] > 0) & (draws[:, 3] > 0)]
    values = (draws[:, 0] / draws[:, 1] + draws[:, 2] / draws[:, 3]) / 2
    total = sums.sum(1)
    low, high = np.quantile(values, [0.025, 0.975])
    return float((total[0] / total[1] + total[2] / total[3]) / 2), (float(low), float(high))
