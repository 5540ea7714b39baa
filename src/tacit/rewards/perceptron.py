"""Perceptron heads: minibatches by shuffled index on tensors in memory, early stopping on unseen prompts.

A linear head is solved first and stays; the hidden layers learn what it leaves over, in bfloat16 where the processor
multiplies it natively, with weights in float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tacit.errors import EvidenceError, TacitError
from tacit.models.precision import multiplies_bfloat16
from tacit.progress import track
from tacit.rewards import heads
from tacit.rewards.examples import Examples, bootstrap_weights, held_out
from tacit.rewards.heads import Parameters, Standardiser, by_output
from tacit.rewards.linear import Design, Solution, gram_factor, minimise
from tacit.rewards.objectives import Objective, Targets
from tacit.rewards.options import FitOptions
from tacit.rewards.ridge import choose_ridge
from tacit.rewards.temperature import calibrate

_GATHER = 8192
"""Rows scored at once outside of a step."""


def fit_perceptron(
    matrix: Tensor,
    standardise: Standardiser,
    examples: Examples,
    targets: Targets,
    objective: Objective,
    options: FitOptions,
    calibrating: Tensor,
) -> tuple[Parameters, float, dict[str, Any]]:
    """Hidden layers beside a linear head: parameters on standardised features, the temperature, and a report.

    Validation examples set the temperature with their weights in `calibrating` (n,).
    """
    rng = np.random.default_rng(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    dtype = torch.bfloat16 if _bf16(options.precision) else torch.float32
    train, held = validation_split(examples, options.validation, rng)
    rows = torch.from_numpy(examples.rows)
    weight = torch.from_numpy(examples.weight)
    copies = weight * torch.from_numpy(bootstrap_weights(examples.blocks, options.members, rng))  # (members, n)
    held_index, train_index = torch.from_numpy(held), torch.from_numpy(train)

    parameters = heads.mlp(
        options.members,
        matrix.shape[1],
        options.hidden,
        generator,
        shared_trunk=options.shared_trunk,
        outputs=objective.outputs,
    )
    parameters["out"].normal_(std=objective.spread / options.hidden[-1] ** 0.5, generator=generator)
    start, l2 = _linear_start(
        matrix, standardise, examples.take(train), targets[train_index], copies[:, train_index], objective, options
    )
    parameters |= start.parameters
    own = start.own.clone()
    inputs = standardise(matrix, dtype)
    base = heads.score_in_chunks(standardise.fold(start.parameters), matrix.numpy())
    scorer = Scorer(inputs, torch.from_numpy(base), parameters, objective.outputs)
    learned = {name: t for name, t in parameters.items() if name not in ("linear", "bias")} | {"own": own}
    optimiser = AdamW(learned, options.weight_decay)
    batch = int(min(options.batch_size, max(16, len(train) // 40)))
    steps = math.ceil(len(train) / batch)
    epochs = options.epochs or int(np.clip(round(90_000 / len(train)), 3, 10))
    total, warm = epochs * steps, max(1, epochs * steps // 20)
    reuse = examples.rows[train].size / len(np.unique(examples.rows[train]))
    distinct = reuse > 1.5
    train_blocks, train_copies = examples.blocks[train, 0], copies[:, train_index].numpy()
    if options.shared_trunk:
        train_copies = train_copies.sum(0, keepdims=True)

    def held_out_loss(scores: Tensor) -> float:
        with torch.no_grad():
            together = objective.outputs == 1  # the outputs of different members may not be averaged
            if together:
                scores = scores.mean(0, keepdim=True)
            losses = objective.loss(scores, targets[held_index], own.mean(0, keepdim=True) if together else own).mean(0)
        found = float((losses * weight[held_index]).sum() / weight[held_index].sum())
        if not math.isfinite(found):
            mend = "Lower --learning-rate or --weight-decay"
            raise TacitError(f"the fit diverged: the validation loss is not finite. {mend}")
        return found

    # The output layer starts at zero: before the first step the linear part is all there is.
    start_scores = by_output(scorer.base[:, rows[held_index].clamp_min(0)], objective.outputs)
    best_loss, waited = held_out_loss(start_scores), 0
    best = {k: t.detach().clone() for k, t in learned.items()}
    history = [{"epoch": 0.0, "held_out_loss": best_loss}]
    step = 0
    done = False
    for epoch in track(range(epochs), "fitting", epochs):
        if done:
            break
        orders = [_shuffled(train_blocks, counted > 0, rng, by_block=distinct) for counted in train_copies]
        for i in range(steps):
            scale = min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * step / total)))
            index, real = _batch(orders, i, steps)
            index = train_index[index]  # (members or 1, b)
            scores = scorer(rows[index], distinct=distinct)
            share = real * (copies[:, index[0]] if len(index) == 1 else copies.gather(1, index))
            loss = objective.total(scores, targets[index], own, share / share.sum(1, keepdim=True).clamp_min(1e-12))
            optimiser.step(loss.sum(), options.learning_rate * scale)
            step += 1
            if i + 1 not in (steps // 2, steps):
                continue
            with torch.no_grad():
                current = held_out_loss(scorer(rows[held_index][None], distinct=distinct))
            history.append({"epoch": epoch + (i + 1) / steps, "held_out_loss": current})
            if current < best_loss:
                best_loss, waited = current, 0
                best = {k: t.detach().clone() for k, t in learned.items()}
            else:
                waited += 1
                done = waited >= options.patience
    own = best.pop("own")
    parameters.update(best)
    with torch.no_grad():
        validation = scorer(rows[held_index][None], distinct=distinct).mean(0, keepdim=True)
    counted = calibrating[held_index] if calibrating[held_index].any() else weight[held_index]
    temperature, calibrated = calibrate(
        validation, targets[held_index], counted, objective, own.mean(0, keepdim=True).detach()
    )
    report = {
        "l2": l2,
        "held_out_loss": best_loss,
        "history": history,
        "epochs": epochs,
        "batch_size": batch,
        "n_validation": len(held),
        "precision": "bf16" if dtype is torch.bfloat16 else "fp32",
        "reuse": reuse,
        "own_parameters": own.mean(0).tolist(),
    }
    report |= {"calibrated_parameters": calibrated} if calibrated else {}
    return parameters, temperature, report


def validation_split(examples: Examples, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the examples to fit and of those to stop by, which share no block; about `share` are the latter.

    Raises `EvidenceError` where either would be empty.
    """
    folds = max(2, min(int(examples.blocks.max()) + 1, round(1 / share)))
    fold, train_masks = held_out(examples.blocks, folds, rng)
    train, held = np.flatnonzero(train_masks[0]), np.flatnonzero(fold == 0)
    if len(train) == 0 or len(held) == 0:
        raise EvidenceError(
            f"{len(examples)} examples cannot be split into fitting and validation, as they share prompts or answers",
            mend="Give rows of two prompts or more",
        )
    return train, held


def _linear_start(
    matrix: Tensor,
    standardise: Standardiser,
    examples: Examples,
    targets: Targets,
    weights: Tensor,
    objective: Objective,
    options: FitOptions,
) -> tuple[Solution, float]:
    """A roughly solved linear head, and its ridge: the hidden layers then learn only what it leaves over, and overfit
    far less."""
    design = Design.of(matrix, standardise, torch.from_numpy(examples.rows), objective)
    gram = gram_factor(design.matrix, options.seed)
    l2 = options.l2
    if l2 is None:
        weight, rng = torch.from_numpy(examples.weight), np.random.default_rng(options.seed)
        l2, _ = choose_ridge(design, targets, weight, objective, gram, examples.blocks, rng)
    return minimise(design, targets, weights, objective, l2, gram=gram, tolerance=1e-3), l2


@dataclass
class Scorer:
    """Scores of examples: a linear part that is known already, and hidden layers on rows gathered into one buffer."""

    inputs: Tensor
    base: Tensor
    """(members * outputs, u) scores of the linear part."""
    parameters: Parameters
    outputs: int = 1
    buffer: Tensor = field(default_factory=lambda: torch.empty(0, 0))

    def __call__(self, rows: Tensor, *, distinct: bool) -> Tensor:
        """(members, n, k), with a last axis for several outputs, of the responses in `rows` (members or 1, n, k), each
        distinct response of a member computed once where asked."""
        flat = rows.clamp_min(0).flatten(1)
        wanted, inverse = _distinct(flat) if distinct else (flat, None)
        if len(wanted) == 1:
            values = self.base.index_select(1, wanted[0]) + self._hidden(wanted[0])
        else:
            values = self.base.gather(1, self._every(wanted)) + self._hidden(wanted)
        if inverse is not None:
            values = values.gather(1, self._every(inverse).expand(len(values), -1))
        return by_output(values.view(len(values), *rows.shape[1:]), self.outputs)

    def _every(self, index: Tensor) -> Tensor:
        """The rows that each member looks at, for each of its outputs."""
        return index if len(index) == 1 or self.outputs == 1 else index.repeat_interleave(self.outputs, 0)

    def _hidden(self, wanted: Tensor) -> Tensor:
        flat, dim = wanted.reshape(-1), self.inputs.shape[1]
        if torch.is_grad_enabled():
            # One buffer for every step: a fresh one of this size would be mapped and cleared by the system each time.
            if len(flat) > len(self.buffer):
                self.buffer = torch.empty(len(flat) + len(flat) // 8, dim, dtype=self.inputs.dtype)
            gathered = torch.index_select(self.inputs, 0, flat, out=self.buffer[: len(flat)])
            return heads.hidden_scores(self.parameters, gathered.view(*wanted.shape, dim))
        parts = [flat[start : start + _GATHER] for start in range(0, len(flat), _GATHER)]
        return torch.cat([heads.hidden_scores(self.parameters, self.inputs[part]) for part in parts], dim=1)


def _distinct(flat: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct numbers (members, w) of each row of `flat`, padded with the first, and where each stands among
    them."""
    found = [torch.unique(row, return_inverse=True) for row in flat]
    wanted = flat[:, :1].repeat(1, max(len(values) for values, _ in found))
    for row, (values, _) in zip(wanted, found, strict=True):
        row[: len(values)] = values
    return wanted, torch.stack([inverse for _, inverse in found])


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


def _shuffled(blocks: np.ndarray, counted: np.ndarray, rng: np.random.Generator, *, by_block: bool) -> np.ndarray:
    """A random order of the examples that count; by block, those of one prompt stay together, so that a batch reuses
    responses."""
    order = rng.permutation(np.flatnonzero(counted))
    if not by_block:
        return order
    rank = rng.permutation(int(blocks.max()) + 1)
    return order[np.argsort(rank[blocks[order]], kind="stable")]


def _batch(orders: list[np.ndarray], i: int, steps: int) -> tuple[Tensor, Tensor]:
    """Batch `i` of `steps` of each order, (members, b), padded at the end; and 1 where an entry is not padding.

    Members skip the examples that their bootstrap left out, more than a third, and still take equally many steps.
    """
    parts = [order[len(order) * i // steps : len(order) * (i + 1) // steps] for order in orders]
    index = np.zeros((len(parts), max(1, *(len(part) for part in parts))), np.int64)
    real = np.zeros(index.shape, np.float32)
    for row, mask, part in zip(index, real, parts, strict=True):
        row[: len(part)], mask[: len(part)] = part, 1.0
    return torch.from_numpy(index), torch.from_numpy(real)


def _bf16(precision: str) -> bool:
    return multiplies_bfloat16() if precision == "auto" else precision == "bf16"
