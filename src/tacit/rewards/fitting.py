"""The one fit: features and examples in, K calibrated members out.

Linear heads are solved on the whole data (`tacit.rewards.linear`), with the ridge and the temperature chosen by
cross-fitting over prompts. Perceptrons run minibatches by shuffled index over tensors in memory, with AdamW, a cosine
schedule and early stopping on a validation split that shares no prompt with the rest.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tacit.errors import FeatureError, TacitError
from tacit.rewards import heads
from tacit.rewards.examples import Examples, bootstrap_weights
from tacit.rewards.heads import Parameters, Standardiser
from tacit.rewards.laplace import Posterior, fit_posterior
from tacit.rewards.length import BOOST, with_length, without_length
from tacit.rewards.linear import Design, gram_factor, minimise
from tacit.rewards.objectives import Objective, Targets, objective_for
from tacit.rewards.options import FitOptions
from tacit.rewards.perceptron import fit_perceptron
from tacit.rewards.ridge import Folds, choose_ridge
from tacit.rewards.robust import flip_rate, robust_objective
from tacit.rewards.temperature import calibrate


@dataclass(frozen=True)
class Fit:
    """What a fit found; `parameters` act on raw features and are calibrated already."""

    parameters: Parameters
    objective: Objective
    temperature: float
    report: dict[str, Any] = field(default_factory=dict)
    posterior: Posterior | None = None
    """Of the last layer, where it was asked for."""


def fit(features: np.ndarray, examples: Examples, options: FitOptions, *, said: np.ndarray | None = None) -> Fit:
    """Fit a head on `features` (u, d) float of the distinct responses of `examples`.

    `said` (n,) bool marks the examples that people gave, all unless given: others teach, and do not set the
    temperature.

    Raises `FeatureError` where the features do not match the responses or are not finite, and `TacitError` where the
    fit diverges.
    """
    start = time.perf_counter()
    objective = robust_objective(objective_for(examples.kind, options.objective), options.robust, options.flip_rate)
    check_features(features, examples)
    matrix = torch.from_numpy(np.ascontiguousarray(features))
    standardise = Standardiser.of(matrix)
    if options.length_regressed:
        matrix, standardise = with_length(matrix, examples.texts, boost=BOOST if options.head == "linear" else 1.0)
    arrays = (examples.target, examples.ranks, examples.tie, examples.margin)
    target, ranks, tie, margin = (torch.from_numpy(array) for array in arrays)
    targets = Targets(target, ranks, tie, margin, options.label_smoothing)
    fitter = _fit_linear if options.head == "linear" else fit_perceptron
    calibrating = torch.from_numpy(examples.weight if said is None else examples.weight * said.astype(np.float32))
    parameters, temperature, report = fitter(matrix, standardise, examples, targets, objective, options, calibrating)
    parameters = standardise.fold(parameters)
    if objective.relative:
        # The zero of a relative reward is free: put it at the mean of the fitted responses.
        sample = matrix[:: max(1, len(matrix) // 5_000)].float()
        with torch.no_grad():
            parameters["bias"] = parameters["bias"] - heads.scores(parameters, sample).mean(1)
    own, posterior = torch.tensor([report["own_parameters"]]), None
    if options.laplace:
        posterior = fit_posterior(
            parameters,
            matrix,
            torch.from_numpy(examples.rows),
            targets,
            torch.from_numpy(examples.weight),
            objective,
            own,
            l2=report["l2"],
            temperature=temperature,
        )
    if options.robust == "flips":
        found = torch.tensor([report.get("calibrated_parameters", report["own_parameters"])])
        report["flip_rate"] = float(flip_rate(found)) if options.flip_rate is None else options.flip_rate
    if options.length_regressed:
        parameters, coefficient = without_length(parameters, standardise.mean[-1])
        report["length_coefficient"] = float(coefficient.mean()) / temperature  # logits per doubling
        posterior = posterior and posterior.without(features.shape[1])
    for name in ("linear", "bias", "out"):
        if name in parameters:
            parameters[name] = parameters[name] / temperature
    if not all(torch.isfinite(tensor).all() for tensor in parameters.values()):
        mend = "Raise --l2" if options.head == "linear" else "Lower --learning-rate or --weight-decay"
        raise TacitError(f"the fit diverged: its weights are not finite. {mend}")
    report |= {"temperature": temperature, "n_fit": len(examples), "fit_seconds": time.perf_counter() - start}
    return Fit({k: v.float().contiguous() for k, v in parameters.items()}, objective, temperature, report, posterior)


def _fit_linear(
    matrix: Tensor,
    standardise: Standardiser,
    examples: Examples,
    targets: Targets,
    objective: Objective,
    options: FitOptions,
    calibrating: Tensor,
) -> tuple[Parameters, float, dict[str, Any]]:
    rng = np.random.default_rng(options.seed)
    rows = torch.from_numpy(examples.rows)
    design = Design.of(matrix, standardise, rows, objective)
    gram = gram_factor(design.matrix, options.seed)
    weight = torch.from_numpy(examples.weight)
    report: dict[str, Any] = {}
    l2, temperature = options.l2, 1.0
    if l2 is None:
        l2, report["ridge_path"] = choose_ridge(design, targets, weight, objective, gram, examples.blocks, rng)
        folds = Folds.of(examples.blocks, rng)
        crossed = folds.solve(design, targets, weight, objective, l2, gram)
        report["held_out_loss"] = folds.loss(design, targets, weight, objective, crossed)
        scores, scored = folds.scores(design, crossed)
        own = crossed.own.mean(0, keepdim=True)
        temperature, calibrated = calibrate(scores, targets[scored], calibrating[scored], objective, own)
        report |= {"calibrated_parameters": calibrated} if calibrated else {}
    weights = weight * torch.from_numpy(bootstrap_weights(examples.blocks, options.members, rng))
    solution = minimise(design, targets, weights, objective, l2, gram=gram)
    report |= {"l2": l2, "iterations": solution.iterations, "own_parameters": solution.own.mean(0).tolist()}
    return solution.parameters, temperature, report


def check_features(features: np.ndarray, examples: Examples) -> None:
    """Raise `FeatureError` where features (u, d) do not match the responses of `examples`, or are not finite."""
    if features.ndim != 2 or len(features) != len(examples.texts):
        raise FeatureError(
            f"features of shape {features.shape} for {len(examples.texts)} distinct responses: one row each is needed"
        )
    # One fast pass clears sound features; only a sum that is not finite (which may be overflow) is looked into.
    if np.isfinite(torch.from_numpy(np.ascontiguousarray(features)).sum().item()):
        return
    bad = np.flatnonzero(~np.isfinite(features).all(1))
    if len(bad):
        row = int(bad[0])
        raise FeatureError(
            f"row {row} of the features holds NaN or infinity (text {examples.texts[row][1][:60]!r}). "
            "Encode it again or drop it"
        )
