"""Supervised tuning: good examples made likelier.

    L = -mean over tokens (or over rows of their token means) of w log pi(a_t | s_t)

the forward KL to the demonstrator (survey 4.3). The same rows can be mixed into any other method (`Demonstrations`), so
that a sparse reward has something to start from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tacit.conversation import Completion, Prompt
from tacit.errors import EvidenceError
from tacit.evidence import Comparison, Demonstration, Record
from tacit.policies.contract import TrainablePolicy
from tacit.tuning import losses
from tacit.tuning.data import as_responses, chunks, device_of, fitting, rows_between, some_left
from tacit.tuning.evaluation import Evaluation
from tacit.tuning.loop import Loss, State, Step
from tacit.tuning.processes import Processes


@dataclass
class Encoded:
    """n demonstrations as token ids."""

    prompts: list[list[int]]
    completions: list[list[int]]
    """With their end tokens."""
    weights: list[float]
    left_out: int = 0
    """Rows that were too long."""

    def __len__(self) -> int:
        return len(self.prompts)


def demonstrations_of(
    evidence: Iterable[Record], source: str = "memory"
) -> tuple[list[Prompt], list[Completion], list[float]]:
    """Prompts, completions and weights of demonstrations, or of the chosen sides of comparisons that are no ties.

    Raises `EvidenceError` for other evidence, and where there is none.
    """
    prompts: list[Prompt] = []
    completions: list[Completion] = []
    weights: list[float] = []
    for row, record in enumerate(evidence, 1):
        match record:
            case Demonstration():
                completions.append(record.completion)
            case Comparison() if record.tie:
                continue  # neither side is a good example
            case Comparison():
                completions.append(record.chosen)
            case _:
                raise EvidenceError(
                    f"sft learns from demonstrations, not from {record.plural()}",
                    mend="Give rows with `prompt` and `completion`, or comparisons, whose chosen sides are taken",
                    source=source,
                    row=row,
                )
        prompts.append(record.prompt)
        weights.append(record.weight)
    if not prompts:
        raise EvidenceError("there are no demonstrations", mend="Give at least one", source=source)
    return prompts, completions, weights


def encode(
    policy: TrainablePolicy,
    prompts: Sequence[Prompt],
    completions: Sequence[Completion],
    weights: Sequence[float] | None = None,
    max_length: int | None = None,
) -> Encoded:
    """Token ids; rows of more than `max_length` tokens are left out and counted.

    Raises `TacitError` where none is left.
    """
    asked, said = policy.encode(prompts, any_length=True), policy.encode_completions(completions)
    keep = fitting(asked, said, max_length).nonzero()[0]
    some_left(len(keep), len(asked), max_length)
    given = [1.0] * len(asked) if weights is None else list(weights)
    left_out = len(asked) - len(keep)
    return Encoded([asked[i] for i in keep], [said[i] for i in keep], [given[i] for i in keep], left_out)


@dataclass
class Demonstrations:
    """Rows of demonstrations dealt to the steps of a method."""

    policy: TrainablePolicy
    rows: Encoded
    batch: int
    """Rows of a step, over all processes."""
    micro_batch: int = 64
    average: losses.Average = "token"
    seed: int = 0
    processes: Processes = Processes()  # noqa: RUF009
    stop: int | None = None
    """Rows in all, where the last step may have fewer."""

    def parts(self, step: int, weight: float = 1.0) -> list[Callable[[], Loss]]:
        """This process's micro-batches of a step, whose losses add up to `weight` times the step's."""
        stop = (step + 1) * self.batch if self.stop is None else min((step + 1) * self.batch, self.stop)
        chosen = rows_between(len(self.rows), step * self.batch, stop, self.seed).tolist()
        total_rows = sum(self.rows.weights[i] for i in chosen)
        total_tokens = sum(self.rows.weights[i] * len(self.rows.completions[i]) for i in chosen)
        own = chunks(self.processes.share(chosen), self.micro_batch)
        return [partial(self._part, list(part), weight, total_rows, total_tokens) for part in own]

    def _part(self, rows: list[int], weight: float, total_rows: float, total_tokens: float) -> Loss:
        device = device_of(self.policy)
        responses = as_responses([self.rows.prompts[i] for i in rows], [self.rows.completions[i] for i in rows], device)
        said = self.policy.logprobs(responses)
        own = torch.tensor([self.rows.weights[i] for i in rows], device=device)
        value = losses.sft(said.logprobs, responses.mask, self.average, own, rows=total_rows, tokens=total_tokens)
        nll = -(said.logprobs.detach() * responses.mask).sum()
        return Loss(weight * value, {"nll": (nll, float(responses.mask.sum()))})


class SupervisedTuning:
    """`sft` as a `Method` of the loop."""

    name = "sft"
    reads_policy = False
    """Steps are dealt without a look at the policy."""

    def __init__(
        self,
        policy: TrainablePolicy,
        rows: Encoded,
        *,
        batch: int,
        micro_batch: int = 64,
        epochs: float = 1.0,
        steps: int | None = None,
        average: losses.Average = "token",
        seed: int = 0,
        held_out: Encoded | None = None,
        evaluation: Evaluation | None = None,
        processes: Processes = Processes(),  # noqa: B008
    ) -> None:
        self.policy, self.held_out, self.evaluation = policy, held_out, evaluation
        total = max(1, round(len(rows) * epochs))
        self.steps = -(-total // batch) if steps is None else steps
        stop = total if steps is None else None
        self.dealt = Demonstrations(policy, rows, batch, micro_batch, average, seed, processes, stop)
        self.processes = processes

    def modules(self) -> Mapping[str, Any]:
        """The policy's model."""
        return {"policy": self.policy.model}

    def round(self, step: int) -> Iterable[Step]:
        """One step."""
        self.policy.model.train()
        yield Step(self.dealt.parts(step))

    def evaluate(self) -> dict[str, float]:
        """`eval_loss`, nats a token of held-out demonstrations, and what fresh samples are worth."""
        found = {} if self.evaluation is None else self.evaluation()
        if self.held_out is not None:
            found["eval_loss"] = nll(self.policy, self.held_out, self.dealt.micro_batch, self.processes)
        return found

    def state(self) -> State:
        """Nothing: the order of rows follows from the seed and the step."""
        return State()

    def restore(self, state: State) -> None:
        """Nothing."""

    def save(self, folder: Path) -> None:
        """The policy as a transformers folder."""
        self.policy.save(folder)


def nll(policy: TrainablePolicy, rows: Encoded, micro_batch: int, processes: Processes) -> float:
    """Mean -log pi over the tokens of all rows, in nats."""
    sums = torch.zeros(2, dtype=torch.float64)
    training = policy.model.training
    policy.model.eval()
    with torch.no_grad():
        for part in chunks(processes.share(range(len(rows))), micro_batch):
            responses = as_responses(
                [rows.prompts[i] for i in part], [rows.completions[i] for i in part], device_of(policy)
            )
            sums[0] -= float((policy.logprobs(responses).logprobs * responses.mask).sum())
            sums[1] += float(responses.mask.sum())
    policy.model.train(training)
    total, count = (float(one) for one in processes.sum(sums))
    return total / max(count, 1.0)
