"""The one fit: features and examples in, K calibrated members out.

Linear heads are solved on the whole data (`tacit.rewards.linear`), with the ridge and the temperature chosen by
cross-fitting over prompts. Perceptrons run minibatches by shuffled index over tensors in memory, with AdamW, a cosine
schedule and early stopping on a validation split that shares no prompt with the rest.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from tacit.errors import FeatureError, TacitError
from tacit.progress import track
from tacit.rewards import heads
from tacit.rewards.examples import Examples, bootstrap_weights, held_out
from tacit.rewards.heads import Parameters, Standardiser
from tacit.rewards.linear import Design, Solution, gram_factor, minimise
from tacit.rewards.objectives import Objective, Targets, objective_for

RIDGES = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)
"""The path of l2 that cross-fitting walks, in multiples of d / n: a prior worth as much whatever n is, so that a
multiple found on a part of the rows holds for all of them."""

_ENOUGH = 10_000
"""Rows that choose the ridge where there are more."""

_GATHER = 8192


@dataclass(frozen=True)
class FitOptions:
    """How to fit; the defaults suit 1,000 to 100,000 examples of text features."""

    head: Literal["linear", "mlp"] = "linear"
    """`linear` is hard to beat under 20,000 examples of sentence vectors; `mlp` adds hidden layers beside it."""
    objective: str = "auto"
    """`auto` takes the natural objective of the kind of evidence: Bradley-Terry for comparisons."""
    members: int = 1
    """Bootstrap members, fitted as one tensor."""
    shared_trunk: bool = False
    """Members share the hidden layers and differ in their last layer."""
    hidden: tuple[int, ...] = (256, 256, 256)
    """Widths of the hidden layers of `mlp`."""
    l2: float | None = None
    """Ridge of the linear part; None chooses it by cross-fitting over prompts."""
    weight_decay: float = 0.1
    """Decoupled weight decay of `mlp`."""
    learning_rate: float = 1e-3
    """Peak learning rate of `mlp`."""
    batch_size: int = 1024
    """Examples a step of `mlp`; smaller data take smaller batches, so that an epoch has at least 40 steps."""
    epochs: int | None = None
    """Most epochs of `mlp`; None takes 3 from 30,000 examples on and more below, up to 10."""
    patience: int = 2
    """Half epochs without a better validation loss before `mlp` stops."""
    validation: float = 0.1
    """Share of blocks (prompts) that `mlp` holds out for early stopping and temperature."""
    label_smoothing: float = 0.0
    """Share of labels assumed flipped, for the objectives that allow it."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Matrix products of `mlp`; `auto` is bf16 where the processor multiplies it natively."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, bad in (
            ("members", self.members < 1),
            ("validation", not 0 < self.validation < 0.9),
            ("label_smoothing", not 0 <= self.label_smoothing < 0.5),
            ("l2", self.l2 is not None and self.l2 < 0),
            ("batch_size", self.batch_size < 1),
        ):
            if bad:
                raise TacitError(f"option `{name}` is {getattr(self, name)!r}, outside its range")


@dataclass(frozen=True)
class Fit:
    """What a fit found; `parameters` act on raw features and are calibrated already."""

    parameters: Parameters
    objective: Objective
    temperature: float
    report: dict[str, Any] = field(default_factory=dict)


def fit(features: np.ndarray, examples: Examples, options: FitOptions) -> Fit:
    """Fit a head on `features` (u, d) float of the distinct responses of `examples`.

    Raises `FeatureError` where the features do not match the responses or are not finite.
    """
    start = time.perf_counter()
    objective = objective_for(examples.kind, options.objective)
    _check_features(features, examples)
    matrix = torch.from_numpy(np.ascontiguousarray(features))
    standardise = Standardiser.of(matrix)
    said = (examples.target, examples.ranks, examples.tie, examples.margin)
    target, ranks, tie, margin = (torch.from_numpy(array) for array in said)
    targets = Targets(target, ranks, tie, margin, options.label_smoothing)
    fitter = _fit_linear if options.head == "linear" else _fit_mlp
    parameters, temperature, report = fitter(matrix, standardise, examples, targets, objective, options)
    parameters = standardise.fold(parameters)
    if objective.relative:
        # The zero of a relative reward is free: put it at the mean of the fitted responses.
        sample = matrix[:: max(1, len(matrix) // 5_000)].float()
        with torch.no_grad():
            parameters["bias"] = parameters["bias"] - heads.scores(parameters, sample).mean(1)
    for name in ("linear", "bias", "out"):
        if name in parameters:
            parameters[name] = parameters[name] / temperature
    report |= {"temperature": temperature, "n_fit": len(examples), "fit_seconds": time.perf_counter() - start}
    return Fit({k: v.float().contiguous() for k, v in parameters.items()}, objective, temperature, report)


def _fit_linear(
    matrix: Tensor,
    standardise: Standardiser,
    examples: Examples,
    targets: Targets,
    objective: Objective,
    options: FitOptions,
) -> tuple[Parameters, float, dict[str, Any]]:
    rng = np.random.default_rng(options.seed)
    rows = torch.from_numpy(examples.rows)
    design = Design.of(matrix, standardise, rows, objective)
    gram = gram_factor(design.matrix, options.seed)
    weight = torch.from_numpy(examples.weight)
    report: dict[str, Any] = {}
    l2, temperature = options.l2, 1.0
    if l2 is None:
        l2, report["ridge_path"] = _choose_ridge(design, targets, weight, objective, gram, examples.blocks, rng)
        folds = _Folds.of(examples.blocks, rng)
        crossed = folds.solve(design, targets, weight, objective, l2, gram)
        report["held_out_loss"] = folds.loss(design, targets, weight, objective, crossed)
        scores, scored = folds.scores(design, crossed)
        temperature = _temperature(scores, targets[scored], weight[scored], objective)
    weights = weight * torch.from_numpy(bootstrap_weights(examples.blocks, options.members, rng))
    solution = minimise(design, targets, weights, objective, l2, gram=gram)
    report |= {"l2": l2, "iterations": solution.iterations, "own_parameters": solution.own.mean(0).tolist()}
    return solution.parameters, temperature, report


def _choose_ridge(
    design: Design,
    targets: Targets,
    weight: Tensor,
    objective: Objective,
    gram: Tensor | None,
    blocks: np.ndarray,
    rng: np.random.Generator,
) -> tuple[float, list[dict[str, float]]]:
    """The ridge with the least held-out loss, and the path that led there.

    Starts in the middle of the path and walks towards less and, where that does not help, towards more shrinkage, each
    time until the loss rises; all folds are members of one solution, warm-started from the ridge before.
    """
    n, dim = len(weight), design.matrix.shape[1]
    if n > 2 * _ENOUGH:
        part = torch.from_numpy(np.sort(rng.choice(n, size=_ENOUGH, replace=False)))
        design, targets, weight, blocks = design.take(part), targets[part], weight[part], blocks[part.numpy()]
    folds = _Folds.of(blocks, rng)
    path: dict[float, float] = {}
    start: Tensor | None = None

    def loss(multiple: float) -> float:
        nonlocal start
        ridge = multiple * dim / len(weight)
        solution = folds.solve(design, targets, weight, objective, ridge, gram, start)
        start = solution.theta
        path[multiple] = folds.loss(design, targets, weight, objective, solution)
        return path[multiple]

    middle = RIDGES.index(1.0)
    for walk in (RIDGES[middle:], RIDGES[middle - 1 :: -1]):
        for multiple in walk:
            if loss(multiple) > min(path.values()):
                break
        if min(path, key=path.__getitem__) != RIDGES[middle]:
            break
    best = min(path, key=path.__getitem__)
    return best * dim / n, [{"l2": m * dim / n, "held_out_loss": path[m]} for m in sorted(path)]


@dataclass(frozen=True)
class _Folds:
    """Cross-fitting: fold k is held out of member k."""

    fold: Tensor
    """(n,) the member that has not seen an example."""
    train: Tensor
    """(folds, n) float: 1 where a member may fit an example."""

    @classmethod
    def of(cls, blocks: np.ndarray, rng: np.random.Generator, most: int = 5) -> _Folds:
        _, codes = np.unique(blocks, return_inverse=True)
        codes = codes.reshape(blocks.shape)
        count = int(codes.max()) + 1
        if count < 2:
            raise TacitError("only one prompt: nothing can be held out. Give rows of two prompts or more, or set --l2")
        fold, train = held_out(codes, min(most, count), rng)
        return cls(torch.from_numpy(fold), torch.from_numpy(train.astype(np.float32)))

    def solve(
        self,
        design: Design,
        targets: Targets,
        weight: Tensor,
        objective: Objective,
        l2: float,
        gram: Tensor | None,
        start: Tensor | None = None,
    ) -> Solution:
        """One fit a fold, as members; a fold that leaves nothing to fit on fits everything, and is masked below."""
        weights = weight * self.train
        weights = torch.where(weights.sum(1, keepdim=True) > 0, weights, weight)
        return minimise(design, targets, weights, objective, l2, start=start, gram=gram, tolerance=1e-3)

    def scores(self, design: Design, solution: Solution) -> tuple[Tensor, Tensor]:
        """Out-of-fold scores (1, m, k) and the examples (m,) that have one."""
        head = solution.parameters
        every = torch.arange(len(self.fold))
        scored = self.train.any(1)[self.fold].nonzero()[:, 0]
        return design.scores(head["linear"], head["bias"])[self.fold, every][scored][None], scored

    def loss(self, design: Design, targets: Targets, weight: Tensor, objective: Objective, solution: Solution) -> float:
        """Mean held-out loss, in nats for likelihoods."""
        scores, scored = self.scores(design, solution)
        losses = objective.loss(scores, targets[scored], solution.own.mean(0, keepdim=True))[0]
        return float((losses * weight[scored]).sum() / weight[scored].sum())


def _fit_mlp(
    matrix: Tensor,
    standardise: Standardiser,
    examples: Examples,
    targets: Targets,
    objective: Objective,
    options: FitOptions,
) -> tuple[Parameters, float, dict[str, Any]]:
    rng = np.random.default_rng(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    dtype = torch.bfloat16 if _bf16(options.precision) else torch.float32
    blocks = int(examples.blocks.max()) + 1
    if blocks < 2:
        raise TacitError("only one prompt: nothing can be held out. Give rows of two prompts or more")
    folds = max(2, min(blocks, round(1 / options.validation)))
    fold, train_masks = held_out(examples.blocks, folds, rng)
    train, held = np.flatnonzero(train_masks[0]), np.flatnonzero(fold == 0)
    if len(train) == 0 or len(held) == 0:
        raise TacitError(f"{len(examples)} examples cannot be split into fitting and validation. Give more prompts")
    rows = torch.from_numpy(examples.rows)
    weight = torch.from_numpy(examples.weight)
    copies = weight * torch.from_numpy(bootstrap_weights(examples.blocks, options.members, rng))  # (members, n)
    held_index, train_index = torch.from_numpy(held), torch.from_numpy(train)

    parameters = heads.mlp(
        options.members, matrix.shape[1], options.hidden, generator, shared_trunk=options.shared_trunk
    )
    start = _linear_start(
        matrix, standardise, examples.take(train), targets[train_index], copies[:, train_index], objective, options
    )
    parameters |= start.parameters
    own = start.own.clone()
    inputs = standardise(matrix, dtype)
    base = heads.score_in_chunks(standardise.fold(start.parameters), matrix.numpy())
    scorer = _Scorer(inputs, torch.from_numpy(base), parameters)
    learned = {name: t for name, t in parameters.items() if name not in ("linear", "bias")} | {"own": own}
    optimiser = AdamW(learned, options.weight_decay)
    batch = int(min(options.batch_size, max(16, len(train) // 40)))
    steps = math.ceil(len(train) / batch)
    epochs = options.epochs or int(np.clip(round(90_000 / len(train)), 3, 10))
    total, warm = epochs * steps, max(1, epochs * steps // 20)
    reuse = examples.rows.size / max(1, len(np.unique(examples.rows[train])))
    order_blocks = reuse > 1.5

    def held_out_loss() -> float:
        with torch.no_grad():
            scores = scorer(rows[held_index], distinct=order_blocks).mean(0, keepdim=True)
            losses = objective.loss(scores, targets[held_index], own.mean(0, keepdim=True))[0]
        return float((losses * weight[held_index]).sum() / weight[held_index].sum())

    best_loss, best, waited = held_out_loss(), {k: t.detach().clone() for k, t in learned.items()}, 0
    history = [{"epoch": 0.0, "held_out_loss": best_loss}]
    step = 0
    done = False
    for epoch in track(range(epochs), "fitting", epochs):
        if done:
            break
        order = torch.from_numpy(train[_shuffled(examples.blocks[train, 0], rng, by_block=order_blocks)])
        for i in range(steps):
            scale = min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * step / total)))
            index = order[i * batch : (i + 1) * batch]
            scores = scorer(rows[index], distinct=order_blocks)
            share = copies[:, index]
            loss = (objective.loss(scores, targets[index], own) * share).sum(1) / share.sum(1).clamp_min(1e-12)
            optimiser.step(loss.sum(), options.learning_rate * scale)
            step += 1
            if i + 1 not in (steps // 2, steps):
                continue
            current = held_out_loss()
            history.append({"epoch": epoch + (i + 1) / steps, "held_out_loss": current})
            if current < best_loss:
                best_loss, waited = current, 0
                best = {k: t.detach().clone() for k, t in learned.items()}
            else:
                waited += 1
                done = waited >= options.patience
    if not math.isfinite(best_loss):
        raise TacitError("the fit diverged: the validation loss is not finite. Lower --learning_rate")
    own = best.pop("own")
    parameters.update(best)
    with torch.no_grad():
        validation = scorer(rows[held_index], distinct=order_blocks).mean(0, keepdim=True)
    temperature = _temperature(validation, targets[held_index], weight[held_index], objective)
    report = {
        "held_out_loss": best_loss,
        "history": history,
        "epochs": epochs,
        "batch_size": batch,
        "n_validation": len(held),
        "precision": "bf16" if dtype is torch.bfloat16 else "fp32",
        "reuse": reuse,
        "own_parameters": own.mean(0).tolist(),
    }
    return parameters, temperature, report


def _linear_start(
    matrix: Tensor,
    standardise: Standardiser,
    examples: Examples,
    targets: Targets,
    weights: Tensor,
    objective: Objective,
    options: FitOptions,
) -> Solution:
    """A roughly solved linear head: the hidden layers then learn only what it leaves over, and overfit far less."""
    design = Design.of(matrix, standardise, torch.from_numpy(examples.rows), objective)
    gram = gram_factor(design.matrix, options.seed)
    l2 = options.l2
    if l2 is None:
        weight, rng = torch.from_numpy(examples.weight), np.random.default_rng(options.seed)
        l2, _ = _choose_ridge(design, targets, weight, objective, gram, examples.blocks, rng)
    return minimise(design, targets, weights, objective, l2, gram=gram, tolerance=1e-3)


@dataclass
class _Scorer:
    """Scores of examples: a linear part that is known already, and hidden layers on rows gathered into one buffer."""

    inputs: Tensor
    base: Tensor
    """(members, u) scores of the linear part."""
    parameters: Parameters

    def __call__(self, rows: Tensor, *, distinct: bool) -> Tensor:
        """(members, n, k) of the responses in `rows` (n, k), each distinct response computed once where asked."""
        flat = rows.clamp_min(0).view(-1)
        wanted, inverse = torch.unique(flat, return_inverse=True) if distinct else (flat, None)
        values = torch.cat([self._hidden(part) for part in wanted.split(_GATHER)], dim=1)
        values = self.base.index_select(1, wanted) + values
        if inverse is not None:
            values = values[:, inverse]
        return values.view(len(values), *rows.shape)

    def _hidden(self, wanted: Tensor) -> Tensor:
        if torch.is_grad_enabled() and len(wanted) <= len(self._buffer):
            # One buffer for every step: a fresh one of this size would be mapped and cleared by the system each time.
            gathered = torch.index_select(self.inputs, 0, wanted, out=self._buffer[: len(wanted)])
        else:
            gathered = self.inputs.index_select(0, wanted)
        return heads.hidden_scores(self.parameters, gathered)

    def __post_init__(self) -> None:
        self._buffer = torch.empty(_GATHER, self.inputs.shape[1], dtype=self.inputs.dtype)


class AdamW:
    """Adam with decoupled weight decay on tensors named `*weight` and `out` (Loshchilov and Hutter 2019, algorithm 2).

    Our own because creating torch's optimiser imports torch's compiler, which takes longer than most fits here.
    """

    def __init__(self, tensors: Parameters, decay: float, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        self.tensors = [t.requires_grad_(True) for t in tensors.values() if t.numel()]
        self.decay = [decay * (n.endswith("weight") or n == "out") for n, t in tensors.items() if t.numel()]
        self.betas, self.count = betas, 0
        self.first = [torch.zeros_like(t) for t in self.tensors]
        self.second = [torch.zeros_like(t) for t in self.tensors]

    def step(self, loss: Tensor, learning_rate: float) -> None:
        """One step down the gradient of `loss`; a tensor that it does not depend on stays."""
        gradients = torch.autograd.grad(loss, self.tensors, allow_unused=True)
        self.count += 1
        b1, b2 = self.betas
        correction = math.sqrt(1 - b2**self.count)
        size = learning_rate * correction / (1 - b1**self.count)
        with torch.no_grad():
            for t, g, m, v, decay in zip(self.tensors, gradients, self.first, self.second, self.decay, strict=True):
                if g is None:
                    continue
                m.lerp_(g, 1 - b1)
                v.mul_(b2).addcmul_(g, g, value=1 - b2)
                if decay:
                    t.mul_(1 - learning_rate * decay)
                t.addcdiv_(m, v.sqrt().add_(1e-8 * correction), value=-size)


def _shuffled(blocks: np.ndarray, rng: np.random.Generator, *, by_block: bool) -> np.ndarray:
    """A random order; by block, the examples of one prompt stay together, so that a batch reuses responses."""
    order = rng.permutation(len(blocks))
    if not by_block:
        return order
    rank = rng.permutation(int(blocks.max()) + 1)
    return order[np.argsort(rank[blocks[order]], kind="stable")]


def _temperature(scores: Tensor, targets: Targets, weight: Tensor, objective: Objective) -> float:
    """The T > 0 that minimises the held-out loss of scores / T (Guo et al. 2017, arXiv 1706.04599), by golden section.

    The likelihood is Bradley-Terry's for comparisons whatever was fitted, since that is what a score difference
    promises; ties count as half a win each.
    """
    if not objective.logits:
        return 1.0
    from scipy.optimize import minimize_scalar

    loss = objective.loss
    if objective.kind == "comparison":
        from tacit.rewards.objectives import bradley_terry as loss
    plain = replace(targets, label_smoothing=0.0, margin=torch.zeros_like(targets.margin))
    nothing = torch.zeros(1, 0)

    def held_out_loss(log_temperature: float) -> float:
        return float((loss(scores / math.exp(log_temperature), plain, nothing)[0] * weight).mean())

    found = minimize_scalar(held_out_loss, bounds=(-2.3, 2.3), method="bounded", options={"xatol": 1e-3})
    return math.exp(float(found.x))


def _bf16(precision: str) -> bool:
    if precision == "auto":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return precision == "bf16"


def _check_features(features: np.ndarray, examples: Examples) -> None:
    if features.ndim != 2 or len(features) != len(examples.texts):
        raise FeatureError(
            f"features of shape {features.shape} for {len(examples.texts)} distinct responses: one row each is needed"
        )
    if not np.isfinite(torch.from_numpy(np.ascontiguousarray(features)).sum().item()):
        finite = np.isfinite(features).all(1)
        row = int(np.flatnonzero(~finite)[0])
        raise FeatureError(
            f"row {row} of the features holds NaN or infinity (text {examples.texts[row][1][:60]!r}). "
            "Encode it again or drop it"
        )
