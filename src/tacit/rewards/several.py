"""The fit of heads with several outputs a response: distributions, pairwise preferences, boosts of them.

`tacit.rewards.fitting` makes one number a response and calibrates it. Here an objective reads several numbers (see
`Objective.outputs`), so that zero and temperature are for the reward to settle: it gets the scores of examples that the
fit has not seen.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tacit.errors import TacitError, flags
from tacit.rewards import heads
from tacit.rewards.examples import Examples, bootstrap_weights
from tacit.rewards.fitting import check_features
from tacit.rewards.heads import Parameters, Standardiser, by_output
from tacit.rewards.linear import Design, gram_factor, minimise
from tacit.rewards.objectives import Objective, Targets
from tacit.rewards.options import FitOptions, options_of
from tacit.rewards.perceptron import fit_perceptron, validation_split
from tacit.rewards.ridge import RIDGES, Folds, choose_ridge

SHARED = (
    *("head", "members", "shared_trunk", "hidden", "l2", "weight_decay", "learning_rate", "batch_size", "epochs"),
    *("patience", "validation", "label_smoothing", "precision", "seed"),
)
"""The fields of `FitOptions` that matter here."""


@dataclass(frozen=True)
class SeveralFit:
    """What a fit found; `parameters` act on raw features, with members * outputs rows."""

    parameters: Parameters
    held: Tensor
    """(m,) the examples that have scores from a fit which has not seen their prompts."""
    held_scores: Tensor
    """(members or 1, m, k, outputs), or without the last axis where there is one output."""
    report: dict[str, Any]


def shared_options(options: dict[str, Any], own: tuple[str, ...], model: str) -> FitOptions:
    """The `FitOptions` among `options`; raises `TacitError` for a name that is neither there nor in `own`."""
    if unknown := options.keys() - {*SHARED, *own}:
        known = flags((*own, *SHARED))
        raise TacitError(f"model `{model}` has no fit option `{min(unknown)}`. Choose from: {known}")
    return options_of({name: value for name, value in options.items() if name in SHARED})


def targets_of(examples: Examples, label_smoothing: float = 0.0, target: np.ndarray | None = None) -> Targets:
    """What people said, as tensors; `target` (..., n) stands for that of the examples."""
    said = (examples.target if target is None else target, examples.ranks, examples.tie, examples.margin)
    value, ranks, tie, margin = (torch.from_numpy(array) for array in said)
    return Targets(value, ranks, tie, margin, label_smoothing)


def fit_several(
    features: np.ndarray,
    examples: Examples,
    objective: Objective,
    options: FitOptions,
    *,
    target: np.ndarray | None = None,
) -> SeveralFit:
    """Fit K members of a head on `features` (u, d) of the distinct responses of `examples`.

    A linear head is cross-fitted over prompts, which chooses its ridge and gives every example a held-out score; hidden
    layers stop early on a share of the prompts, and those examples have one. `target` (..., n) float32 stands for that
    of the examples where it has more axes. Raises `FeatureError` where the features do not match the responses or are
    not finite.
    """
    start = time.perf_counter()
    check_features(features, examples)
    matrix = torch.from_numpy(np.ascontiguousarray(features))
    standardise = Standardiser.of(matrix)
    fitter = _linear if options.head == "linear" else _perceptron
    targets = targets_of(examples, options.label_smoothing, target)
    parameters, held, held_scores, report = fitter(matrix, standardise, examples, targets, objective, options)
    folded = {name: value.float().contiguous() for name, value in standardise.fold(parameters).items()}
    report |= {"n_fit": len(examples), "fit_seconds": time.perf_counter() - start}
    return SeveralFit(folded, held, held_scores, report)


def _linear(
    matrix: Tensor,
    standardise: Standardiser,
    examples: Examples,
    targets: Targets,
    objective: Objective,
    options: FitOptions,
) -> tuple[Parameters, Tensor, Tensor, dict[str, Any]]:
    rng = np.random.default_rng(options.seed)
    weight = torch.from_numpy(examples.weight)
    design = Design.of(matrix, standardise, torch.from_numpy(examples.rows), objective)
    gram = gram_factor(design.matrix, options.seed)
    report: dict[str, Any] = {}
    l2 = options.l2
    if l2 is None:
        l2, report["ridge_path"] = choose_ridge(design, targets, weight, objective, gram, examples.blocks, rng)
    folds = Folds.of(examples.blocks, np.random.default_rng(options.seed))
    weights = weight * torch.from_numpy(bootstrap_weights(examples.blocks, options.members, rng))
    ladder = _ladder(l2, design.matrix.shape[1] / len(weight), objective)
    before: tuple[Tensor | None, Tensor | None] = None, None
    for ridge in ladder:
        crossed = folds.solve(design, targets, weight, objective, ridge, gram, before[0])
        solution = minimise(
            design,
            targets,
            weights,
            objective,
            ridge,
            gram=gram,
            start=before[1],
            tolerance=3e-5 if ridge == l2 else 1e-3,
        )
        before = crossed.theta, solution.theta
    scores, held = folds.scores(design, crossed)
    report["held_out_loss"] = folds.loss(design, targets, weight, objective, crossed)
    report |= {"l2": l2, "iterations": solution.iterations}
    return solution.parameters, held, scores, report


def _ladder(l2: float, unit: float, objective: Objective) -> list[float]:
    """Ridges on the way to `l2`, each the start of the next, as `choose_ridge` walks them in multiples of `unit`.

    A loss of several outputs need not be convex: from zero, a small ridge can end far from where the path led.
    """
    above = [multiple * unit for multiple in RIDGES if multiple <= 1 and multiple * unit > 1.001 * l2]
    return [*(above if objective.outputs > 1 else []), l2]


def _perceptron(
    matrix: Tensor,
    standardise: Standardiser,
    examples: Examples,
    targets: Targets,
    objective: Objective,
    options: FitOptions,
) -> tuple[Parameters, Tensor, Tensor, dict[str, Any]]:
    weight = torch.from_numpy(examples.weight)
    parameters, _, report = fit_perceptron(matrix, standardise, examples, targets, objective, options, weight)
    _, held = validation_split(examples, options.validation, np.random.default_rng(options.seed))
    rows = torch.from_numpy(examples.rows[held])
    distinct, where = torch.unique(rows, return_inverse=True)
    with torch.no_grad():
        scores = heads.scores(parameters, standardise(matrix[distinct.clamp_min(0)]))
    return parameters, torch.from_numpy(held), by_output(scores[:, where], objective.outputs), report
