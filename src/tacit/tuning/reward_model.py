"""A whole language model fine-tuned as reward, from any evidence that a reward is learnt from.

The score is a linear head on the state of the last real token; the loss is one of `tacit.rewards.objectives`
(Bradley-Terry, classification or Plackett-Luce on comparisons and rankings, cross-entropy on outcomes, squared error on
ratings). Two terms may join it:

    c (r+ + r-)^2                        keeps scores near 0 (center_rewards_coefficient; Eisenstein et al. 2023)
    (1 - a) L + a L_reg                  the states must still prefer the chosen text: `tacit.rewards.generative`

The result is a `LanguageModelReward`, whose zero is the mean score of fitted responses where only differences count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from tacit.artefacts import workspace
from tacit.conversation import Completion, Prompt, texts
from tacit.errors import EvidenceError, TacitError
from tacit.evidence import Record
from tacit.models.checkpoint import (
    batches,
    default_max_length,
    device_named,
    load_tokenizer,
    load_weights,
    model_folder,
    quietly,
    read_settings,
    right_padded,
)
from tacit.models.templates import read_template
from tacit.policies import fused, lean
from tacit.policies.packing import pack
from tacit.policies.scores import token_scores
from tacit.rewards.chat import TextRule, default_rule
from tacit.rewards.examples import Examples, collect
from tacit.rewards.generative import Regulariser, regularised, regulariser
from tacit.rewards.language_model import LanguageModelReward
from tacit.rewards.objectives import Objective, Targets, objective_for
from tacit.rewards.origin import Origin
from tacit.rewards.scoring import responses
from tacit.tuning.data import as_responses, chunks, rows_between
from tacit.tuning.loop import Loss, State, Step
from tacit.tuning.processes import Processes


@dataclass(frozen=True)
class RewardTuningOptions:
    """Options of `tacit tune reward`."""

    objective: str = "auto"
    center_rewards_coefficient: float = 0.0
    regulariser: Literal["none", "sft", "dpo_noref"] = "none"
    """Keeps the states of the language model useful (GRM)."""
    regulariser_weight: float = 0.01
    """The share a."""
    regulariser_beta: float = 0.1
    max_length: int | None = None
    chat_template: str | None = None
    """File of a chat template (Jinja) in place of the checkpoint's."""
    batch: int = 32
    """Examples of a step, over all processes."""
    micro_batch: int = 16
    tokens: int = 4096
    """Tokens of one padded forward pass; rows are sorted by length first."""
    epochs: float = 1.0
    steps: int | None = None
    dtype: str = "float32"
    """Arithmetic of matrix products: float32 or bfloat16."""
    seed: int = 0


class RewardTuning:
    """`reward` as a `Method` of the loop.

    Raises `EvidenceError` for evidence that no reward is learnt from, and `TacitError` for an objective that does not
    match it or a regulariser that needs pairs.
    """

    name = "reward"

    def __init__(
        self,
        base: str | Path,
        evidence: Iterable[Record],
        options: RewardTuningOptions = RewardTuningOptions(),
        *,
        held_out: Iterable[Record] | None = None,
        source: str = "memory",
        device: str | None = None,
        processes: Processes = Processes(),  # noqa: B008
    ) -> None:
        self.options, self.processes = options, processes
        folder = model_folder(base)
        settings = read_settings(folder)
        template = None if options.chat_template is None else read_template(options.chat_template)
        self.tokenizer = load_tokenizer(folder, chat_template=template)
        longest = default_max_length(folder, settings)
        found = default_rule(self.tokenizer, longest, None if template else settings.get("tacit"))
        self.rule = TextRule(found.template, found.eos, options.max_length or found.max_length)
        self.device = device_named(device)
        records = list(evidence)
        self.data = _Encoded.of(records, self, source)
        self.objective = _objective(self.data.examples, options)
        self.model = classifier(folder, self.tokenizer, self.device)
        family = lean.family(self.model)
        self.family = family if family is not None and lean.agrees(family, self.model) else None
        self.text_head = _text_head(folder, self.device) if options.regulariser != "none" else None
        self.held_out = None if held_out is None else _Encoded.of(list(held_out), self, source)
        self.total = max(1, round(len(self.data.examples) * options.epochs))
        self.steps = -(-self.total // options.batch) if options.steps is None else options.steps

    def modules(self) -> Mapping[str, Any]:
        """The classifier, and the language-model head of the regulariser."""
        return {"reward": self.model, **({"text": self.text_head} if self.text_head is not None else {})}

    def round(self, step: int) -> Iterable[Step]:
        """One step."""
        size = self.options.batch
        stop = (step + 1) * size if self.options.steps else min((step + 1) * size, self.total)
        rows = rows_between(len(self.data.examples), step * size, stop, self.options.seed).tolist()
        # The regulariser dpo_noref compares probabilities, in which dropout would be noise.
        self.model.train(self.options.regulariser != "dpo_noref")
        yield Step(self._parts(self.data, rows))

    def evaluate(self) -> dict[str, float]:
        """Loss and, for comparisons, accuracy of held-out evidence; a tie of scores counts as wrong."""
        if self.held_out is None:
            return {}
        sums: dict[str, Tensor] = {}
        self.model.eval()
        with torch.no_grad():
            for part in self._parts(self.held_out, list(range(len(self.held_out.examples)))):
                loss = part()
                pairs = {**loss.sums, "loss": (loss.value, 0.0)}
                for name, (value, count) in pairs.items():
                    both = torch.tensor([float(value), float(count)], dtype=torch.float64)
                    sums[name] = sums.get(name, torch.zeros(2, dtype=torch.float64)) + both
        found = {}
        for name in ("loss", "accuracy", "margin", "mean_reward"):
            if name in self._names():
                total, count = self.processes.sum(sums.get(name, torch.zeros(2, dtype=torch.float64))).tolist()
                found[f"eval_{name}"] = total if name == "loss" else total / max(count, 1.0)
        return found

    def state(self) -> State:
        """Nothing: the order of rows follows from the seed and the step."""
        return State()

    def restore(self, state: State) -> None:
        """Nothing."""

    def save(self, folder: Path) -> None:
        """The reward as a folder that `tacit score`, `audit` and `serve` read, with its checkpoint inside."""
        with workspace(folder) as place:
            offset = -self._mean_score() if self.objective.relative else 0.0
            report: dict[str, Any] = {
                "kind": self.data.examples.kind,
                "n_train": len(self.data.examples),
                "steps": self.steps,
            }
            report |= {"objective": self.objective.name, "regulariser": self.options.regulariser}
            save_classifier(
                self.model, self.tokenizer, self.rule, folder, place, name=folder.name, offset=offset, report=report,
                origin=Origin.of_texts(self.data.examples.texts),
            )  # fmt: skip

    # --- one part -----------------------------------------------------------------------------------------------------

    def _parts(self, data: _Encoded, rows: Sequence[int]) -> list[Callable[[], Loss]]:
        total = float(data.examples.weight[rows].sum()) or 1.0
        own = chunks(self.processes.share(list(rows)), self.options.micro_batch)
        return [partial(self._part, data, np.array(part), total) for part in own]

    def _part(self, data: _Encoded, rows: np.ndarray, total: float) -> Loss:
        taken = data.examples.take(rows)
        needed, place = np.unique(taken.rows, return_inverse=True)
        real = needed >= 0
        scores = torch.zeros(len(needed), device=self.device)
        said, logprobs = self._scored(data, needed[real])
        scores = scores.index_put((torch.from_numpy(real).to(self.device),), said)
        grid = scores[torch.from_numpy(place.reshape(taken.rows.shape)).to(self.device)]
        target, ranks, tie, margin = (
            torch.from_numpy(np.asarray(x)).to(self.device)
            for x in (taken.target, taken.ranks, taken.tie, taken.margin)
        )
        targets = Targets(target, ranks, tie, margin)
        each = self.objective.loss(grid[None], targets, torch.zeros(1, 0, device=self.device))[0]
        paired = taken.kind == "comparison"
        if self.options.center_rewards_coefficient and paired:
            each = each + self.options.center_rewards_coefficient * grid.sum(1).square()
        if logprobs is not None:
            whole = torch.zeros(len(needed), device=self.device)
            whole = whole.index_put((torch.from_numpy(real).to(self.device),), logprobs)
            both = whole[torch.from_numpy(place.reshape(taken.rows.shape)).to(self.device)]
            how: Regulariser = "sft" if self.options.regulariser == "sft" else "dpo_noref"
            kept = regulariser(how, both[:, 0], both[:, 1], beta=self.options.regulariser_beta)
            each = regularised(each, kept, alpha=self.options.regulariser_weight)
        weight = torch.from_numpy(taken.weight).to(self.device)
        return Loss((weight * each).sum() / total, self._metrics(grid.detach(), taken))

    def _metrics(self, grid: Tensor, taken: Examples) -> dict[str, tuple[float | Tensor, float]]:
        sums: dict[str, tuple[float | Tensor, float]] = {"mean_reward": (grid.sum(), float(grid.numel()))}
        if taken.kind == "comparison":
            decided = torch.from_numpy(~taken.tie).to(grid.device)
            difference = (grid[:, 0] - grid[:, 1])[decided]
            sums["accuracy"] = ((difference > 0).float().sum(), float(len(difference)))
            sums["margin"] = (difference.sum(), float(len(difference)))
        return sums

    def _names(self) -> tuple[str, ...]:
        paired = ("accuracy", "margin") if self.data.examples.kind == "comparison" else ()
        return ("loss", "mean_reward", *paired)

    def _scored(self, data: _Encoded, places: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """Scores (u,) of texts and, for the regulariser, log pi of their completions (u,)."""
        return self._padded(data, places) if self.family is None else self._packed(self.family, data, places)

    def _packed(self, family: lean.Family, data: _Encoded, places: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """Without padding, and with what the texts of an example share computed once."""
        ids = [data.ids[i] for i in places]
        leads = [min(data.leads[i], len(data.ids[i]) - data.answers[i]) for i in places]
        # The state before a token that follows a text is the state of the text's last token.
        rows = as_responses(
            [row[:lead] for row, lead in zip(ids, leads, strict=True)],
            [[*row[lead:], 0] for row, lead in zip(ids, leads, strict=True)],
            self.device,
        )
        packed = pack(rows, torch.device(self.device))
        ends = rows.mask.sum(1)[packed.rows] - 1
        with self._arithmetic():
            states = fused.predicting_states(family, packed, self._dtype)
            final = packed.times == ends
            found = self.model.score(states[final])[:, 0].float()
        scores = torch.zeros(len(ids), device=self.device).index_put((packed.rows[final],), found)
        if self.text_head is None:
            return scores, None
        answers = torch.tensor([data.answers[i] for i in places], device=self.device)[packed.rows]
        said = (packed.times < ends) & (packed.times >= ends - answers)
        logprobs, _ = token_scores(
            states[said], self.text_head.weight, rows.tokens[packed.rows[said], packed.times[said]],
            bias_V=self.text_head.bias, dtype=self._dtype,
        )  # fmt: skip
        return scores, torch.zeros(len(ids), device=self.device).index_add(0, packed.rows[said], logprobs)

    @property
    def _dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.options.dtype == "bfloat16" else torch.float32

    def _arithmetic(self) -> Any:
        return torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=self._dtype is torch.bfloat16)

    def _padded(self, data: _Encoded, places: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """By the model's own pass, rows of like length together."""
        lengths = [len(data.ids[i]) for i in places]
        scores = torch.zeros(len(places), device=self.device)
        logprobs = torch.zeros(len(places), device=self.device)
        for rows in batches(lengths, self.options.tokens):
            ids = [data.ids[places[row]] for row in rows]
            ids_BT, real_BT = (torch.from_numpy(x).to(self.device) for x in right_padded(ids, 0))
            where = torch.from_numpy(rows).to(self.device)
            with self._arithmetic():
                states = self.model.base_model(
                    input_ids=ids_BT, attention_mask=real_BT.long(), use_cache=False
                ).last_hidden_state
                last = states[torch.arange(len(ids_BT), device=self.device), real_BT.sum(1) - 1]
                found = self.model.score(last)[:, 0].float()
            scores = scores.index_put((where,), found)
            if self.text_head is not None:
                completion = _completion_mask(real_BT, [data.answers[places[row]] for row in rows])
                logprobs = logprobs.index_put((where,), self._likelihood(states, ids_BT, completion))
        return scores, (logprobs if self.text_head is not None else None)

    def _likelihood(self, states_BTD: Tensor, ids_BT: Tensor, completion_BT: Tensor) -> Tensor:
        """log pi(y | x) of each row's completion, (B,), without the logits ever lying whole in memory."""
        assert self.text_head is not None
        wanted = completion_BT[:, 1:]
        found, _ = token_scores(
            states_BTD[:, :-1][wanted],
            self.text_head.weight,
            ids_BT[:, 1:][wanted],
            bias_V=self.text_head.bias,
            dtype=self._dtype,
        )
        rows = wanted.nonzero()[:, 0]
        return torch.zeros(len(ids_BT), device=self.device).index_add(0, rows, found)

    def _mean_score(self, most: int = 1024) -> float:
        """The mean score of (some of) the fitted responses."""
        every = np.random.default_rng(0).permutation(len(self.data.ids))[:most]
        self.model.eval()
        with torch.no_grad():
            return float(torch.cat([self._scored(self.data, part)[0] for part in np.array_split(every, -(-len(every) // 64))]).mean())  # noqa: E501  # fmt: skip


@dataclass
class _Encoded:
    """Examples with the token ids of their distinct texts."""

    examples: Examples
    ids: list[list[int]]
    answers: list[int]
    """How many of a text's last tokens belong to its completion (and to what closes it); 0 where nobody asks."""
    leads: list[int]
    """How many of a text's first tokens the other texts of its examples share, at least 1."""

    @classmethod
    def of(cls, records: list[Record], method: RewardTuning, source: str) -> _Encoded:
        examples = collect(records, source)
        if examples.kind == "comparison" and examples.tie.all():
            raise EvidenceError("there are only ties", mend="Give comparisons that were decided", source=source)
        given: dict[tuple[str, str], tuple[Prompt, Completion]] = {}
        for record in records:
            for prompt, completion in responses(record):
                given.setdefault(texts(prompt, completion), (prompt, completion))
        pairs = [given[text] for text in examples.texts]
        ids = method.rule.token_ids(method.tokenizer, [p for p, _ in pairs], [c for _, c in pairs])
        answers = [0] * len(ids)
        if method.options.regulariser != "none":
            bare = method.rule.token_ids(method.tokenizer, [p for p, _ in pairs], [""] * len(pairs))
            answers = [max(1, len(row) - _shared(row, start)) for row, start in zip(ids, bare, strict=True)]
        return cls(examples, ids, answers, _leads(examples, ids))


def _leads(examples: Examples, ids: list[list[int]]) -> list[int]:
    leads = [len(row) for row in ids]
    for places in examples.rows.tolist():
        held = [place for place in places if place >= 0]
        for place in held[1:]:
            common = _shared(ids[held[0]], ids[place])
            for one in held:
                leads[one] = min(leads[one], common)
    return [max(1, lead) for lead in leads]


def _shared(row: list[int], start: list[int]) -> int:
    """How many tokens a text shares with its prompt alone."""
    differ = (i for i, (a, b) in enumerate(zip(row, start, strict=False)) if a != b)
    return next(differ, min(len(row), len(start)))


def _completion_mask(real_BT: Tensor, answers: Sequence[int]) -> Tensor:
    """(B, T) bool: the last `answers` real tokens of each row."""
    lengths = real_BT.sum(1, keepdim=True)
    place = torch.arange(real_BT.shape[1], device=real_BT.device)
    first = lengths - torch.tensor(list(answers), device=real_BT.device)[:, None]
    return real_BT & (place >= first)


def _objective(examples: Examples, options: RewardTuningOptions) -> Objective:
    found = objective_for(examples.kind, options.objective)
    if found.initial or found.outputs != 1:
        raise TacitError(
            f"objective `{found.name}` has parameters of its own. Take bradley_terry, classification, outcome, "
            "regression or plackett_luce"
        )
    if options.regulariser != "none" and examples.kind != "comparison":
        raise TacitError(f"--regulariser compares chosen and rejected texts, and this evidence holds {examples.kind}s")
    return found


def classifier(folder: Path, tokenizer: Any, device: str) -> Any:
    """The checkpoint as a classifier with one label; its head starts from 0 where it has none."""
    from transformers import AutoModelForSequenceClassification

    had = any(name.endswith("ForSequenceClassification") for name in read_settings(folder).get("architectures") or ())
    model = load_weights(
        AutoModelForSequenceClassification, folder, dtype="float32", device=device,
        may_lack=("pooler.",) if had else ("pooler.", "score."), num_labels=1,
    )  # fmt: skip
    if not isinstance(getattr(model, "score", None), torch.nn.Linear):
        raise TacitError(f"{folder} is no decoder with a head `score`. Give a causal language model")
    if not had:
        torch.nn.init.zeros_(model.score.weight)
    model.config.problem_type = "regression"
    model.config.id2label, model.config.label2id = {0: "reward"}, {"reward": 0}
    pad = tokenizer.pad_token_id
    model.config.pad_token_id = tokenizer.eos_token_id if pad is None else pad
    return model


def save_classifier(
    model: Any, tokenizer: Any, rule: TextRule, folder: Path, place: Path, *, name: str, offset: float = 0.0,
    report: Mapping[str, Any], origin: Origin | None = None,
) -> None:  # fmt: skip
    """A classifier in memory as `LanguageModelReward` in `folder`; its checkpoint is written to `place` on the way."""
    with quietly():
        model.save_pretrained(place, safe_serialization=True)
        tokenizer.save_pretrained(place)
    LanguageModelReward(place, rule, name=name, offset=offset, report=dict(report), origin=origin).save(folder)


def _text_head(folder: Path, device: str) -> Any:
    """The language-model head of the checkpoint, apart from the classifier and trained with it."""
    from transformers import AutoModelForCausalLM

    causal = load_weights(AutoModelForCausalLM, folder, dtype="float32", device=device)
    old = causal.get_output_embeddings()
    head = torch.nn.Linear(old.weight.shape[1], old.weight.shape[0], bias=old.bias is not None, device=device)
    with torch.no_grad():
        head.weight.copy_(old.weight)
        if old.bias is not None:
            head.bias.copy_(old.bias)
    return head
