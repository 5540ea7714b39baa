"""Preference tuning: DPO and its family, offline on given pairs, and in rounds on fresh samples that a reward labels.

The implicit reward is beta log pi(y | x) / pi_ref(y | x); every loss of `losses.PREFERENCE` acts on pairs, `kto` on
single responses that are desirable or not. In rounds (iterative DPO with many prompts a round, OAIF with few) each
prompt is answered n times, the reward picks the best and the worst of them (or two drawn as `rso` draws), and the pair
is learnt from like any other; the reference stays the policy that the run began with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tacit.conversation import Completion, Prompt
from tacit.errors import EvidenceError, TacitError
from tacit.evidence import Comparison, Outcome, Ranking, Record
from tacit.policies.contract import Responses, TrainablePolicy
from tacit.tuning import losses
from tacit.tuning.data import as_responses, chunks, device_of, fitting, rows_between, some_left
from tacit.tuning.evaluation import Evaluation
from tacit.tuning.loop import Loss, State, Step
from tacit.tuning.processes import Processes
from tacit.tuning.sampling import Sampler

LOSSES = (*losses.PREFERENCE, "kto")


@dataclass
class EncodedPairs:
    """n pairs as token ids; completions carry their end tokens."""

    prompts: list[list[int]]
    chosen: list[list[int]]
    rejected: list[list[int]]
    weights: list[float]
    ties: int = 0
    """Pairs that were no pairs: neither side was better."""
    left_out: int = 0
    """Pairs with a side that was too long."""

    def __len__(self) -> int:
        return len(self.prompts)


@dataclass
class EncodedLabels:
    """n single responses as token ids with what was said of each."""

    prompts: list[list[int]]
    completions: list[list[int]]
    desirable: list[bool]
    left_out: int = 0
    """Responses that were too long."""

    def __len__(self) -> int:
        return len(self.prompts)


Triple = tuple[Prompt, Completion, Completion, float]


def pairs_of(evidence: Iterable[Record], source: str = "memory") -> tuple[list[Triple], int]:
    """(prompt, chosen, rejected, weight) of comparisons, or of the first against each lower rank of a ranking.

    Ties teach nothing here and are counted. Raises `EvidenceError` for other evidence, for pairs across prompts, and
    where there are no pairs.
    """
    found: list[Triple] = []
    ties = 0
    for row, record in enumerate(evidence, 1):
        match record:
            case Comparison() if record.rejected_prompt not in (None, record.prompt):
                raise EvidenceError(
                    "the two sides answer different prompts",
                    mend="Preference losses compare answers to one prompt: leave such rows out",
                    source=source,
                    row=row,
                    column="rejected_prompt",
                )
            case Comparison():
                if record.tie:
                    ties += 1
                else:
                    found.append((record.prompt, record.chosen, record.rejected, record.weight))
            case Ranking():
                best = int(np.argmin(record.ranks))
                lower = [i for i, rank in enumerate(record.ranks) if rank > record.ranks[best]]
                weight = 1.0 / max(1, len(lower))
                found += [(record.prompt, record.completions[best], record.completions[i], weight) for i in lower]
            case _:
                raise EvidenceError(
                    f"preference losses learn from comparisons or rankings, not from {record.plural()}",
                    mend="Give rows with `prompt`, `chosen` and `rejected`, or take --loss-type kto for outcomes",
                    source=source,
                    row=row,
                )
    if not found:
        raise EvidenceError("there is no pair to learn from", mend="Give comparisons that are no ties", source=source)
    return found, ties


def encode_pairs(
    policy: TrainablePolicy, pairs: Sequence[Triple], max_length: int | None = None, ties: int = 0
) -> EncodedPairs:
    """Token ids; pairs with a side of more than `max_length` tokens are left out and counted.

    Raises `TacitError` where none is left.
    """
    prompts = policy.encode([pair[0] for pair in pairs], any_length=True)
    chosen = policy.encode_completions([pair[1] for pair in pairs])
    rejected = policy.encode_completions([pair[2] for pair in pairs])
    keep = (fitting(prompts, chosen, max_length) & fitting(prompts, rejected, max_length)).nonzero()[0]
    some_left(len(keep), len(pairs), max_length)
    return EncodedPairs(
        [prompts[i] for i in keep],
        [chosen[i] for i in keep],
        [rejected[i] for i in keep],
        [pairs[i][3] for i in keep],
        ties,
        len(pairs) - len(keep),
    )


def encode_labels(
    policy: TrainablePolicy, evidence: Iterable[Record], source: str = "memory", max_length: int | None = None
) -> EncodedLabels:
    """Single responses of outcomes, or of both sides of comparisons; raises `EvidenceError` for other evidence."""
    rows: list[tuple[Prompt, Completion, bool]] = []
    for number, record in enumerate(evidence, 1):
        match record:
            case Outcome():
                rows.append((record.prompt, record.completion, record.label))
            case Comparison():
                if not record.tie:
                    rows += [(record.prompt, record.chosen, True), (record.prompt, record.rejected, False)]
            case _:
                raise EvidenceError(
                    f"kto learns from outcomes or comparisons, not from {record.plural()}",
                    mend="Give rows with `prompt`, `completion` and `label`",
                    source=source,
                    row=number,
                )
    prompts = policy.encode([row[0] for row in rows], any_length=True)
    said = policy.encode_completions([row[1] for row in rows])
    keep = fitting(prompts, said, max_length).nonzero()[0]
    some_left(len(keep), len(rows), max_length)
    if len({rows[i][2] for i in keep}) < 2:
        raise EvidenceError("kto needs both kinds of labels", mend="Give good and bad responses", source=source)
    left_out = len(rows) - len(keep)
    return EncodedLabels([prompts[i] for i in keep], [said[i] for i in keep], [rows[i][2] for i in keep], left_out)


@dataclass(frozen=True)
class PreferenceTuningOptions:
    """Which loss, and how rows are dealt."""

    loss_type: str = "sigmoid"
    loss: losses.PreferenceOptions = field(default_factory=losses.PreferenceOptions)
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    batch: int = 32
    """Pairs of a step, over all processes."""
    micro_batch: int = 16
    """Pairs of one forward pass."""
    epochs: float = 1.0
    steps: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.loss_type not in LOSSES:
            raise TacitError(f"no loss `{self.loss_type}`. Choose one of: {', '.join(LOSSES)}")


class _Preference:
    """What offline and online preference tuning share."""

    name = "dpo"

    def __init__(
        self,
        policy: TrainablePolicy,
        options: PreferenceTuningOptions,
        evaluation: Evaluation | None,
        processes: Processes,
    ) -> None:
        self.policy, self.options, self.evaluation, self.processes = policy, options, evaluation, processes
        policy.model.eval()
        self.reference = None if options.loss_type in losses.WITHOUT_REFERENCE else policy.reference()

    def modules(self) -> Mapping[str, Any]:
        """The policy's model."""
        return {"policy": self.policy.model}

    def evaluate(self) -> dict[str, float]:
        """What fresh samples are worth."""
        return {} if self.evaluation is None else self.evaluation()

    def save(self, folder: Path) -> None:
        """The policy as a transformers folder."""
        self.policy.save(folder)

    def state(self) -> State:
        """Nothing: the order of rows follows from the seed and the step."""
        return State()

    def restore(self, state: State) -> None:
        """Nothing."""

    def pair_parts(self, pairs: EncodedPairs, rows: Sequence[int]) -> list[Callable[[], Loss]]:
        """This process's micro-batches of a step on these rows (of all processes)."""
        total = sum(pairs.weights[i] for i in rows)
        own = chunks(self.processes.share(list(rows)), self.options.micro_batch)
        return [partial(self.pair_part, pairs, list(part), total) for part in own]

    def pair_part(self, pairs: EncodedPairs, rows: list[int], total: float) -> Loss:
        """The losses of some pairs over the weight of the step's."""
        device = device_of(self.policy)
        prompts = [pairs.prompts[i] for i in rows]
        both = as_responses(
            [*prompts, *prompts], [*(pairs.chosen[i] for i in rows), *(pairs.rejected[i] for i in rows)], device
        )
        ours = self._sums(self.policy, both)
        theirs = None if self.reference is None else self._reference_sums(both)
        lengths = both.mask.sum(1).float().chunk(2)
        chosen, rejected = ours.chunk(2)
        reference = (None, None) if theirs is None else theirs.chunk(2)
        made = losses.Pairs(chosen, rejected, reference[0], reference[1], lengths[0], lengths[1])
        weights = torch.tensor([pairs.weights[i] for i in rows], device=device)
        each = losses.PREFERENCE[self.options.loss_type](made, self.options.loss)
        return Loss((weights * each).sum() / total, self._metrics(made, len(rows)))

    def _metrics(self, made: losses.Pairs, count: int) -> dict[str, tuple[float | Tensor, float]]:
        beta = self.options.loss.beta
        zero = torch.zeros_like(made.chosen)
        first = zero if made.reference_chosen is None else made.reference_chosen
        second = zero if made.reference_rejected is None else made.reference_rejected
        chosen, rejected = beta * (made.chosen - first).detach(), beta * (made.rejected - second).detach()
        return {
            "rewards/chosen": (chosen.sum(), count),
            "rewards/rejected": (rejected.sum(), count),
            "rewards/margins": ((chosen - rejected).sum(), count),
            "rewards/accuracies": ((chosen > rejected).float().sum(), count),
            "logps/chosen": (made.chosen.detach().sum(), count),
            "logps/rejected": (made.rejected.detach().sum(), count),
        }

    def _sums(self, policy: TrainablePolicy, responses: Responses) -> Tensor:
        """log pi(y | x) of each row, (B,)."""
        return (policy.logprobs(responses).logprobs * responses.mask).sum(1)

    def _reference_sums(self, responses: Responses) -> Tensor:
        assert self.reference is not None
        with torch.no_grad():
            return self._sums(self.reference, responses)


class PreferenceTuning(_Preference):
    """Offline: given pairs, or for kto given labels."""

    def __init__(
        self,
        policy: TrainablePolicy,
        data: EncodedPairs | EncodedLabels,
        options: PreferenceTuningOptions = PreferenceTuningOptions(),
        *,
        evaluation: Evaluation | None = None,
        held_out: EncodedPairs | None = None,
        processes: Processes = Processes(),  # noqa: B008
    ) -> None:
        super().__init__(policy, options, evaluation, processes)
        if (options.loss_type == "kto") != isinstance(data, EncodedLabels):
            raise TacitError("loss kto learns from labels, and every other loss from pairs")
        self.data, self.held_out = data, held_out
        self.reads_policy = options.loss_type == "kto"
        """Steps of other losses are dealt without a look at the policy."""
        self.total = max(1, round(len(data) * options.epochs))
        self.steps = -(-self.total // options.batch) if options.steps is None else options.steps

    def round(self, step: int) -> Iterable[Step]:
        """One step."""
        size = self.options.batch
        stop = (step + 1) * size if self.options.steps else min((step + 1) * size, self.total)
        rows = rows_between(len(self.data), step * size, stop, self.options.seed).tolist()
        if isinstance(self.data, EncodedPairs):
            yield Step(self.pair_parts(self.data, rows))
        else:
            yield self._labels(self.data, rows)

    def evaluate(self) -> dict[str, float]:
        """Loss and accuracy of held-out pairs, and what fresh samples are worth."""
        found = super().evaluate()
        if self.held_out is None:
            return found
        rows = list(range(len(self.held_out)))
        sums = torch.zeros(3, dtype=torch.float64)
        training = self.policy.model.training
        self.policy.model.eval()
        with torch.no_grad():
            for part in self.pair_parts(self.held_out, rows):
                loss = part()
                right, count = loss.sums["rewards/accuracies"]
                sums += torch.tensor([float(loss.value), float(right), count], dtype=torch.float64)
        self.policy.model.train(training)
        loss_, right_, count_ = (float(one) for one in self.processes.sum(sums))
        return {**found, "eval_loss": loss_, "eval_rewards/accuracies": right_ / max(count_, 1.0)}

    def _labels(self, data: EncodedLabels, rows: list[int]) -> Step:
        """A step of kto; its KL estimate comes from responses paired with other prompts of the step."""
        other = [rows[-1], *rows[:-1]]
        own = self.processes.share(list(range(len(rows))))
        drift = torch.zeros((), dtype=torch.float64)
        with torch.no_grad():
            for part in chunks(own, self.options.micro_batch):
                mixed = as_responses(
                    [data.prompts[rows[i]] for i in part],
                    [data.completions[other[i]] for i in part],
                    device_of(self.policy),
                )
                drift += (self._sums(self.policy, mixed) - self._reference_sums(mixed)).sum().double().cpu()
        baseline = max(0.0, float(self.processes.sum(drift)) / len(rows))
        micro = chunks([rows[i] for i in own], self.options.micro_batch)
        parts: list[Callable[[], Loss]] = [
            partial(self._label_part, data, list(part), baseline, len(rows)) for part in micro
        ]
        return Step(parts, {"kl": baseline})

    def _label_part(self, data: EncodedLabels, rows: list[int], baseline: float, total: int) -> Loss:
        device = device_of(self.policy)
        responses = as_responses([data.prompts[i] for i in rows], [data.completions[i] for i in rows], device)
        ratio = self._sums(self.policy, responses) - self._reference_sums(responses)
        desirable = torch.tensor([data.desirable[i] for i in rows], device=device)
        beta = self.options.loss.beta
        each = losses.kto(
            ratio,
            desirable,
            baseline,
            beta=beta,
            desirable_weight=self.options.desirable_weight,
            undesirable_weight=self.options.undesirable_weight,
        )
        implied = beta * ratio.detach()
        good = float(desirable.sum())
        sums: dict[str, tuple[float | Tensor, float]] = {
            "rewards/chosen": ((implied * desirable).sum(), good),
            "rewards/rejected": ((implied * ~desirable).sum(), len(rows) - good),
        }
        return Loss(each.sum() / total, sums)


Pairing = Callable[[Tensor, np.random.Generator], tuple[Tensor, Tensor, Tensor]]
"""From rewards (P, n) to places of the better and the worse response (P,) and which pairs to learn from (P,) bool."""


def extremes(rewards: Tensor, drawn: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """The best against the worst response to each prompt; a prompt whose rewards are equal is left out."""
    best, worst = rewards.argmax(1), rewards.argmin(1)
    return best, worst, rewards.amax(1) > rewards.amin(1)


class OnlinePreference(_Preference):
    """Rounds on fresh samples that the reward labels."""

    def __init__(
        self,
        policy: TrainablePolicy,
        sampler: Sampler,
        options: PreferenceTuningOptions = PreferenceTuningOptions(),
        *,
        rounds: int = 100,
        pairing: Pairing = extremes,
        name: str = "dpo",
        evaluation: Evaluation | None = None,
        processes: Processes = Processes(),  # noqa: B008
    ) -> None:
        super().__init__(policy, options, evaluation, processes)
        if options.loss_type == "kto":
            raise TacitError("rounds make pairs, and kto takes single labels. Choose another --loss-type")
        self.name, self.sampler, self.pairing = name, sampler, pairing
        per_round = -(-sampler.options.prompts_per_round // options.batch)
        self.passes = max(1, round(options.epochs))
        self.per_round = per_round * self.passes
        self.steps = rounds * self.per_round if options.steps is None else options.steps

    def round(self, step: int) -> Iterable[Step]:
        """Sample, label, and learn from the pairs; every process learns from its own."""
        made, metrics = self.sampler.collect()
        drawn = np.random.default_rng((self.options.seed, self.sampler.rounds))
        grouped = made.grouped(made.rewards).cpu()
        sides_of_all = self.pairing(self.processes.concatenated(grouped), drawn)
        first = sum(self.processes.gather(len(grouped))[: self.processes.rank])
        better, worse, useful = (side[first : first + len(grouped)] for side in sides_of_all)
        lengths, tokens = made.mask.sum(1).tolist(), made.rollout.tokens.tolist()
        pairs, whole = EncodedPairs([], [], [], []), EncodedPairs([], [], [], [])
        for place in useful.nonzero()[:, 0].tolist():
            sides = [place * made.n + int(side[place]) for side in (better, worse)]
            pairs.prompts.append(made.rollout.prompts[place])
            pairs.chosen.append(tokens[sides[0]][: lengths[sides[0]]])
            pairs.rejected.append(tokens[sides[1]][: lengths[sides[1]]])
        # All processes see all pairs, and deal them as offline ones are dealt.
        for part in self.processes.gather((pairs.prompts, pairs.chosen, pairs.rejected)):
            whole.prompts.extend(part[0])
            whole.chosen.extend(part[1])
            whole.rejected.extend(part[2])
        whole.weights = [1.0] * len(whole)
        for passed in range(self.passes):
            order = np.random.default_rng((self.options.seed, step, passed)).permutation(len(whole)).tolist()
            parts = list(chunks(order, self.options.batch))
            for number in range(self.per_round // self.passes):
                rows = list(parts[number]) if number < len(parts) else []
                yield Step(self.pair_parts(whole, rows), {**metrics, "pairs": float(len(whole))}, made.samples())

    def state(self) -> State:
        """The sampler's."""
        return self.sampler.state()

    def restore(self, state: State) -> None:
        """Take it over."""
        self.sampler.restore(state)
