"""`tacit lab modes`: forward KL covers modes, reverse KL seeks them, and what the other divergences do (take-away T13).

A demonstrator has two habits, and the learner's family is too small for both. Two worlds, where the divergence between
demonstrator and learner is minimised as far as it goes:

- `line`: 121 actions on a line, two bumps of unequal weight (.45 to .55) 6 to 8 standard deviations apart; the learner
  is one bump, of any place and width (the best of a fine grid of both, exactly);
- `texts`: the demonstrator writes one of two texts of four words (weights .4 to .6), with one word in twenty changed at
  random; the learner chooses each word without looking back. The reward that the divergence induces (its formal
  reward) is ascended by policy gradient, exactly, from 24 beginnings; the best end counts.

`both modes` is the smaller of the two modes' shares under the learner, over what it is under the demonstrator: 1 covers
them, 0 leaves one out. `invented` is what the learner puts where the demonstrator puts next to nothing, less the
demonstrator's own: further than 2.5 standard deviations from both bumps; texts that differ from both habits in two
words or more. `uniform` is the control.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from tacit.demonstrations.divergences import Divergence, divergence
from tacit.lab.mdp import Array
from tacit.lab.seeds import repeat

RUNS = (
    ("chi^2", "chi2", 0.5),
    ("forward KL", "forward_kl", 0.5),
    ("alpha = 2/3", "alpha", 2 / 3),
    ("Hellinger", "hellinger", 0.5),
    ("Jensen-Shannon", "js", 0.5),
    ("alpha = 1/3", "alpha", 1 / 3),
    ("reverse KL", "reverse_kl", 0.5),
    ("alpha = -1", "alpha", -1.0),
    ("total variation", "tv", 0.5),
)
"""In the order of alpha: chi^2 is 2, forward KL 1, Hellinger 1/2, reverse KL 0."""
GRID = np.linspace(-6, 6, 121)
BUMP = 0.45
"""Standard deviation of a bump."""
WORDS, LENGTH, TYPO, BEGINNINGS = 3, 4, 0.05, 24
TEXTS = np.array(list(product(range(WORDS), repeat=LENGTH)))  # (81, 4)


def run(*, seeds: int = 10, seed: int = 0) -> dict[str, Any]:
    """How each divergence treats two modes, means over seeds with 95% intervals, cut to what a share can be."""
    shares = ("both_modes", "invented")
    rows = [
        *repeat(line, seeds, seed, "modes on a line", shares),
        *repeat(texts, seeds, seed, "modes of texts", shares),
    ]
    first = np.random.default_rng(seed)
    target, _ = _bumps(first)
    fitted = {name: _fit_line(divergence(key, alpha=a), target) for name, key, a in RUNS}
    shown = {name: fitted[name].tolist() for name in ("forward KL", "Jensen-Shannon", "reverse KL")}
    return {
        "experiment": "modes",
        "seeds": seeds,
        "rows": rows,
        "curves": {"place": GRID.tolist(), "demonstrator": target.tolist(), **shown},
    }


def line(seed: int) -> list[dict[str, Any]]:
    """Fits of one bump to two, one row a divergence."""
    target, modes = _bumps(np.random.default_rng(seed))
    near = np.abs(GRID[:, None] - modes) < 2.5 * BUMP  # (121, 2)
    empty = ~near.any(1)
    fits = {name: _fit_line(divergence(key, alpha=a), target) for name, key, a in RUNS}
    fits["uniform (control)"] = np.full(len(GRID), 1 / len(GRID))
    return [
        {
            "world": "line",
            "divergence": name,
            "both_modes": float(_smaller(fit @ near, target @ near)),
            "invented": float(fit[empty].sum() - target[empty].sum()),
            "width": float(np.sqrt(fit @ GRID**2 - (fit @ GRID) ** 2)),
        }
        for name, fit in fits.items()
    ]


def texts(seed: int) -> list[dict[str, Any]]:
    """Fits of a writer without memory, one row a divergence."""
    rng = np.random.default_rng(seed)
    first = rng.integers(WORDS, size=LENGTH)
    second = (first + rng.integers(1, WORDS, size=LENGTH)) % WORDS  # differs in every place
    share = rng.uniform(0.4, 0.6)
    habits = np.stack([first, second])
    likely = np.where(TEXTS[:, None] == habits, 1 - TYPO, TYPO / (WORDS - 1)).prod(-1)  # (81, 2)
    target = likely @ np.array([share, 1 - share])
    changed = (TEXTS[:, None] != habits).sum(-1)
    near, far = changed <= 1, (changed >= 2).all(1)
    starts = rng.normal(size=(BEGINNINGS, LENGTH, WORDS))
    fits = {name: _fit_texts(divergence(key, alpha=a), target, starts) for name, key, a in RUNS}
    fits["uniform (control)"] = np.full(len(TEXTS), 1 / len(TEXTS))
    return [
        {
            "world": "texts",
            "divergence": name,
            "both_modes": float(_smaller(fit @ near, target @ near)),
            "invented": float(fit[far].sum() - target[far].sum()),
        }
        for name, fit in fits.items()
    ]


def figure(result: dict[str, Any]) -> str:
    """The two bumps of the first seed with three fits, and what each divergence covers and invents."""
    from tacit.lab.figures import Curve, Panel, draw

    curves = result["curves"]
    first = [Curve("demonstrator", curves["place"], curves["demonstrator"], dashed=True, colour="#6b7280")]
    shown = ("forward KL", "reverse KL")
    first += [Curve(name, curves["place"], curves[name], dots=False) for name in shown]
    panels = [Panel("one bump for two, first seed", "action", "probability", first)]
    for world in ("line", "texts"):
        rows = [row for row in result["rows"] if row["world"] == world]
        lines = []
        for key, label in (("both_modes", "both modes"), ("invented", "invented")):
            low, high = zip(*(row[f"{key}_ci"] for row in rows), strict=True)
            lines.append(Curve(label, range(len(rows)), [row[key] for row in rows], low, high))
        names = [row["divergence"] for row in rows]
        panels.append(Panel(world, "", "share", lines, y_range=(-0.05, 1.15), names=names))
    return draw(panels)


def _bumps(rng: np.random.Generator) -> tuple[Array, Array]:
    """Two bumps on the grid, and their places."""
    half = rng.uniform(3, 4) * BUMP
    shift, share = rng.uniform(-0.5, 0.5), rng.uniform(0.45, 0.55)
    modes = np.array([shift - half, shift + half])
    density = np.exp(-0.5 * ((GRID[:, None] - modes) / BUMP) ** 2) @ np.array([share, 1 - share])
    return density / density.sum(), modes


def _fit_line(d: Divergence, target: Array) -> Array:
    """The discretised bump of smallest divergence, over 161 places and 60 widths."""
    place, width = np.meshgrid(np.linspace(-4, 4, 161), np.geomspace(0.25, 4, 60), indexing="ij")
    logits = -0.5 * ((GRID - place[..., None]) / width[..., None]) ** 2
    family = np.exp(logits)
    family /= family.sum(-1, keepdims=True)
    family = np.maximum(family, 1e-300)
    best = np.nanargmin(np.where(np.isfinite(own := d.between(np.maximum(target, 1e-300), family)), own, np.inf))
    return np.asarray(family.reshape(-1, len(GRID))[best])


def _fit_texts(d: Divergence, target: Array, starts: Array) -> Array:
    """Gradient ascent on the induced reward of a policy of words (beginnings, length, words), by L-BFGS."""
    from scipy.optimize import minimize

    chosen = np.eye(WORDS)[TEXTS]  # (81, length, words)

    def objective(flat: Array) -> tuple[float, Array]:
        log_policy = _log_softmax(flat.reshape(starts.shape))
        log_text = np.einsum("blw,tlw->bt", log_policy, chosen)
        text = np.exp(log_text)
        h = np.log(target) - log_text
        reward = d.reward(h, clip=30.0, limit=1e8)
        value = d.between(target, np.maximum(text, 1e-300))
        weight = text * reward  # d D / d theta = -E_pi reward grad log pi
        gradient = np.einsum("bt,tlw->blw", weight, chosen) - weight.sum(1)[:, None, None] * np.exp(log_policy)
        return float(value.sum()), -gradient.ravel()

    found = minimize(objective, starts.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 400})
    log_text = np.einsum("blw,tlw->bt", _log_softmax(found.x.reshape(starts.shape)), chosen)
    ends = d.between(target, np.exp(log_text))
    return np.asarray(np.exp(log_text[np.argmin(ends)]))


def _log_softmax(logits: Array) -> Array:
    top = logits - logits.max(-1, keepdims=True)
    return np.asarray(top - np.log(np.exp(top).sum(-1, keepdims=True)))


def _smaller(found: Array, own: Array) -> Any:
    """The share of the less covered mode among both, over that of the demonstrator's smaller one, at most 1."""
    return min(1.0, (found / found.sum()).min() / (own / own.sum()).min()) if found.sum() > 0 else 0.0
