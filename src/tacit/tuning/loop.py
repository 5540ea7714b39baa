"""The one training loop: every method of `tacit tune` runs in it.

A method deals optimiser steps, each a list of parts (micro-batches) whose losses add up to the loss of the step. The
loop does the rest:

    repeat: for each part: backward          gradients add up over parts, and over processes
            clip, AdamW, schedule            weights and optimiser in float32; the arithmetic is the method's
            log, evaluate, checkpoint, stop at the KL budget

Dropout is on for sft and reward alone, and off where probabilities are compared (`reward --regulariser dpo_noref`).

Steps come in rounds: the steps that one set of samples gives, or one step where a method does not sample. Checkpoints
lie between rounds. A run that was killed goes on from the last of them along the very same trajectory: weights,
optimiser, schedule, data position and every random state are kept (`tacit.tuning.checkpoints`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor

from tacit.errors import TacitError
from tacit.policies.memory import keep_blocks
from tacit.tuning import checkpoints, sharding
from tacit.tuning.journal import Journal
from tacit.tuning.processes import Processes

Schedule = Literal["constant", "linear", "cosine"]


@dataclass
class Loss:
    """What one part adds to a step."""

    value: Tensor
    """Its share of the step's loss, a scalar: already divided by the counts of the whole step."""
    sums: dict[str, tuple[float | Tensor, float]] = field(default_factory=dict)
    """Metrics as (sum, count): the metric of the step is the sum of sums over the sum of counts."""


@dataclass
class Step:
    """One optimiser step."""

    parts: list[Callable[[], Loss]]
    """Functions of no arguments, so that one part's activations are gone before the next is computed."""
    metrics: dict[str, float] = field(default_factory=dict)
    """What was known before the step, equal in all processes."""
    samples: list[dict[str, Any]] = field(default_factory=list)
    """Rows for people to read: prompt, completion, reward."""


@dataclass
class State:
    """What a method has to keep beside the weights."""

    values: dict[str, Any] = field(default_factory=dict)
    """JSON."""
    tensors: dict[str, Tensor] = field(default_factory=dict)


class Method(Protocol):
    """What the loop runs."""

    name: str
    steps: int
    """Optimiser steps in all."""

    def modules(self) -> Mapping[str, Any]:
        """The torch modules that are trained, by name."""
        ...

    def round(self, step: int) -> Iterable[Step]:
        """The next steps, the first of which is number `step` (from 0); dealt one by one, after the last was made."""
        ...

    def evaluate(self) -> dict[str, float]:
        """Metrics on held-out data, with the prefix eval_; empty where there is none."""
        ...

    def state(self) -> State:
        """What a resumed run needs beside the weights."""
        ...

    def restore(self, state: State) -> None:
        """Take over what `state` gave."""
        ...

    def save(self, folder: Path) -> None:
        """Write what was learnt into a folder."""
        ...


@dataclass(frozen=True)
class LoopOptions:
    """How to optimise; names as in transformers' TrainingArguments."""

    learning_rate: float = 1e-5
    lr_scheduler_type: Schedule = "linear"
    """What the rate does after warm-up: stays, falls in a line, or along half a cosine, to `min_lr_ratio`."""
    warmup_ratio: float = 0.0
    """Share of the steps over which the rate rises from 0."""
    min_lr_ratio: float = 0.0
    """Where the schedule ends, as a share of the rate."""
    weight_decay: float = 0.0
    """Decoupled, on matrices alone."""
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    """Gradients longer than this are scaled down; 0 leaves them."""
    max_kl: float | None = None
    """Stop once KL(pi || pi_ref) of a response passes this many nats."""
    logging_steps: int = 1
    eval_steps: int = 0
    """Evaluate every so many steps; 0 at the end alone."""
    save_steps: int = 0
    """Checkpoint every so many steps; 0 never."""
    save_total_limit: int = 2
    """Checkpoints kept."""
    num_samples: int = 8
    """Sampled completions kept on disk at each logged step."""
    report_to: tuple[str, ...] = ()
    """accelerate's trackers that get the metrics as well."""
    seed: int = 0


def scale_of_rate(step: int, steps: int, options: LoopOptions) -> float:
    """What the learning rate of step number `step` (from 0) is multiplied with.

    With W = warmup_ratio * steps it is (step + 1) / W before W; then, with x from 0 to 1 over the rest and m the
    min_lr_ratio: 1, m + (1 - m)(1 - x), or m + (1 - m)(1 + cos(pi x)) / 2.
    """
    if options.lr_scheduler_type not in get_args(Schedule):
        raise TacitError(f"no schedule `{options.lr_scheduler_type}`. Choose one of: {', '.join(get_args(Schedule))}")
    warm = math.ceil(options.warmup_ratio * steps)
    if step < warm:
        return (step + 1) / warm
    if options.lr_scheduler_type == "constant":
        return 1.0
    x = (step - warm) / max(1, steps - warm)
    left = 1 - x if options.lr_scheduler_type == "linear" else (1 + math.cos(math.pi * x)) / 2
    return options.min_lr_ratio + (1 - options.min_lr_ratio) * left


def trained(modules: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that are trained, by name; shared ones once."""
    found = {
        f"{module}.{name}": parameter
        for module, held in modules.items()
        for name, parameter in held.named_parameters()
        if parameter.requires_grad
    }
    if not found:
        raise TacitError("the policy has no weights to train. Load it for training")
    return found


def optimiser_of(parameters: Mapping[str, Any], options: LoopOptions) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices alone."""
    matrices = [p for p in parameters.values() if p.ndim >= 2]
    rest = [p for p in parameters.values() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": options.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=options.learning_rate,
        betas=(options.adam_beta1, options.adam_beta2),
        eps=options.adam_epsilon,
        fused=len({sharding.is_sharded(p) for p in parameters.values()}) == 1,
        foreach=False,
    )


def train(
    method: Method,
    out: str | Path,
    options: LoopOptions = LoopOptions(),
    *,
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
    processes: Processes = Processes(),  # noqa: B008
) -> dict[str, Any]:
    """Run a method to its end and return what the last steps measured.

    `out` gets metrics.jsonl, completions/ and checkpoints/; the caller saves what was learnt. `settings` are what a
    resumed run must agree with (JSON). With `resume` the run goes on from the last checkpoint in `out`, or starts where
    there is none. Raises `TacitError` where the loss is not finite, and `ArtefactError` for a checkpoint that cannot be
    read or belongs to other settings.
    """
    keep_blocks()  # the memory of one step is that of the next
    folder = Path(out)
    parameters = trained(method.modules())
    optimiser = optimiser_of(parameters, options)
    journal = Journal(folder, options.logging_steps, options.num_samples, options.report_to, processes)
    step, stopped = 0, ""
    last: dict[str, float] = {}
    held: dict[str, Any] = {}
    checkpoints.seed_random(options.seed, processes.rank)
    kept = {**(settings or {}), "method": method.name, "steps": method.steps}
    found = checkpoints.latest(folder) if resume else None
    if found is not None:
        step, held = checkpoints.load(found, method, parameters, optimiser, kept, processes)
        journal.window = held["window"]
        stopped, last = held["stopped"], dict(held.get("last", {}))
    journal.start(step, held.get("lines"))
    shared = sharding.policy_of(method)
    idle = None if shared is None else shared.idle

    def evaluate() -> dict[str, float]:
        sharding.gather(method)
        return method.evaluate()

    start = time.perf_counter()
    with journal.progress(method.name, step, method.steps) as advance:
        while step < method.steps and not stopped:
            before = step
            for dealt in sharding.dealt(method, method.round(step)):
                factor = scale_of_rate(step, method.steps, options)
                for group in optimiser.param_groups:
                    group["lr"] = options.learning_rate * factor
                measured = update(dealt, parameters, optimiser, options, processes, step, idle)
                step += 1
                last = {**measured, "learning_rate": options.learning_rate * factor}
                evaluated = options.eval_steps and step % options.eval_steps == 0
                journal.log(step, last, dealt.samples, evaluate() if evaluated else {})
                advance(last)
                reached = max(last.get("objective/kl", 0.0), journal.evaluated.get("eval_kl", 0.0))
                if options.max_kl is not None and reached > options.max_kl:
                    stopped = f"KL {reached:.3f} passed the budget of {options.max_kl} at step {step}"
                if step >= method.steps or stopped:
                    break
            due = options.save_steps and step // options.save_steps > before // options.save_steps
            if due or (options.save_steps and (step >= method.steps or stopped)):
                known = {name: value for name, value in last.items() if math.isfinite(value)}
                held = {"window": journal.window, "lines": journal.lines, "stopped": stopped, "last": known}
                checkpoints.save(folder, step, method, parameters, optimiser, kept, held, processes)
                checkpoints.prune(folder, options.save_total_limit, processes)
    final = journal.evaluated if journal.evaluated_at == step else evaluate()
    journal.finish(step, final)
    return {
        **{name: value for name, value in last.items() if name != "learning_rate"},
        **final,
        "steps": step,
        "stopped": stopped or None,
        "seconds": time.perf_counter() - start,
    }


def update(
    dealt: Step,
    parameters: Mapping[str, Any],
    optimiser: torch.optim.Optimizer,
    options: LoopOptions,
    processes: Processes,
    step: int,
    idle: Callable[[], Loss] | None = None,
) -> dict[str, float]:
    """Make one optimiser step of weights (`trained`) and an optimiser (`optimiser_of`); metrics of all processes.

    `idle` is a part without rows, for processes that have fewer parts than others where all must make as many passes.
    """
    optimiser.zero_grad(set_to_none=True)
    total, sums = torch.zeros((), dtype=torch.float64), _Sums()
    most = processes.most(len(dealt.parts))
    spare = [] if idle is None else [idle] * (most - len(dealt.parts))
    for part in [*dealt.parts, *spare]:
        loss = part()
        if loss.value.requires_grad:
            loss.value.backward()  # type: ignore[no-untyped-call]
        total += loss.value.detach().double().cpu()
        sums.add(loss.sums)
    whole = float(processes.sum(total))
    if not math.isfinite(whole):
        raise TacitError(f"the loss of step {step + 1} is {whole}. Lower --learning-rate, or check the reward")
    if most:
        processes.add_gradients(p for p in parameters.values() if not sharding.is_sharded(p))
    norm = sharding.clip(parameters, options.max_grad_norm or math.inf, processes)
    if not math.isfinite(norm):
        raise TacitError(f"the gradient of step {step + 1} is {norm}. Lower --learning-rate, or check the data")
    optimiser.step()
    return {"loss": whole, "grad_norm": norm, **dealt.metrics, **sums.means(processes)}


class _Sums:
    """Sums and counts of metrics over parts and processes."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[Tensor, float]] = {}

    def add(self, more: Mapping[str, tuple[float | Tensor, float]]) -> None:
        for name, (value, count) in more.items():
            total, counted = self.held.get(name, (torch.zeros((), dtype=torch.float64), 0.0))
            self.held[name] = (total + torch.as_tensor(value).detach().double().cpu(), counted + count)

    def means(self, processes: Processes) -> dict[str, float]:
        every = processes.gather({name: (float(total), count) for name, (total, count) in self.held.items()})
        names = sorted({name for one in every for name in one})
        totals = {name: [sum(one.get(name, (0, 0))[i] for one in every) for i in (0, 1)] for name in names}
        return {name: total / count for name, (total, count) in totals.items() if count}
