"""A language model asked for its opinion, as a reward.

| mode | raw score |
|---|---|
| `yes_no` | log P(Yes) - log P(No) that the answer is good (Zhang et al. 2024, arXiv 2408.15240) |
| `rubric` | the expected number under the probabilities of the scale's numbers |
| `pairwise` | log P(A) - log P(B), half from each order of the two answers |

With K critiques the probabilities behind each are averaged, log(mean_k P_k / (1 - mean_k P_k)); with K votes
(`read: text`) the share of votes is, as (votes + 1/2) / (K + 1). Calls are made row by row and kept, so that no row
depends on another one, and a score that was computed stays what it is. Calibration to people's labels:
`tacit.rewards.judge.calibration`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tacit.conversation import Completion, Prompt, texts
from tacit.errors import ArtefactError, EvidenceError, TacitError
from tacit.evidence.records import Comparison, Record
from tacit.rewards.examples import collect
from tacit.rewards.inputs import require_rows
from tacit.rewards.judge.calibration import Calibration, calibrate, held_out
from tacit.rewards.judge.calls import Call, Desk, Reply
from tacit.rewards.judge.questions import (
    Messages,
    after_critique,
    check_template,
    expected,
    labels_of,
    log_odds,
    question,
    spelled_out,
)
from tacit.rewards.judge.settings import JudgeError, JudgeSettings, checked, read_settings
from tacit.rewards.judge.verdicts import TIE, number_verdict, word_verdict
from tacit.rewards.origin import Origin
from tacit.rewards.saving import open_reward, read_origin, save_reward

REFERENCE = "I am not sure how to answer this."
"""What a pairwise judge compares with to score one answer alone, where no references are given."""

_ROUNDS = 8
"""Times that a question is shortened before it is given up as too long."""


@dataclass(eq=False)
class Judge:
    """A judge of single answers. Satisfies `Reward` and `Saved`; `judge_of` makes the right one of the two classes."""

    settings: JudgeSettings
    desk: Desk
    calibration: Calibration = field(default_factory=Calibration)
    name: str = "judge"
    report: dict[str, Any] = field(default_factory=dict)
    origin: Origin | None = None
    """Which texts it was calibrated on."""

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Calibrated scores (n,) float32; raises `JudgeError` with the cause where a call fails."""
        return _float32(self.calibration(self.raw_scores(prompts, completions)))

    def raw_scores(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """What the judge says itself (n,) float64, see the table of this module."""
        pairs = _pairs(prompts, completions)
        return self.opinions([{"prompt": prompt, "completion": completion} for prompt, completion in pairs])

    @property
    def usage(self) -> dict[str, Any]:
        """Calls, answers from the cache, tokens and cost since this object was made."""
        return self.desk.usage.to_dict()

    def opinions(self, asked: Sequence[Mapping[str, str]]) -> np.ndarray:
        """Raw opinions (n,) float64 on texts by their template's fields."""
        settings, labels = self.settings, labels_of(self.settings)
        if not asked:
            return np.zeros(0)
        questions = [self._fitting(fields) for fields in asked]
        k = settings.samples
        seeds = [settings.seed + sample for sample in range(k)] * len(questions)
        final: list[Messages] = [messages for messages in questions for _ in range(k)]
        if settings.critique:
            wanted = [
                Call(messages, None, settings.heat, seed, settings.max_tokens)
                for messages, seed in zip(final, seeds, strict=True)
            ]
            critiques = self.desk.ask(wanted)
            final = [self._closing(messages, reply.text) for messages, reply in zip(final, critiques, strict=True)]
        if settings.read == "probabilities":
            calls = [Call(messages, labels, 0.0, settings.seed) for messages in final]
        else:
            heat = 0.0 if settings.critique else settings.heat
            calls = [
                Call(messages, None, heat, seed, settings.max_tokens)
                for messages, seed in zip(final, seeds, strict=True)
            ]
        replies = self.desk.ask(calls)
        read = self._number if settings.mode == "rubric" else self._odds
        values = np.array([read(reply, asked[row // k]) for row, reply in enumerate(replies)])
        values = values.reshape(len(questions), k)
        return self._combined(values)

    def _combined(self, values: np.ndarray) -> np.ndarray:
        """One opinion (n,) of K samples (n, K): mean numbers, or the log-odds of the mean probability."""
        k = values.shape[1]
        if self.settings.mode == "rubric":
            return np.asarray(values.mean(1))
        if self.settings.read == "text":
            share = (values.sum(1) + 0.5) / (k + 1)
            return np.asarray(np.log(share) - np.log1p(-share))
        if k == 1:
            return np.asarray(values[:, 0])
        return np.asarray(_log_mean_sigma(values) - _log_mean_sigma(-values))

    def _odds(self, reply: Reply, fields: Mapping[str, str]) -> float:
        """log-odds of the first label, or a vote for it (1, 0, or 1/2 for a tie)."""
        labels = labels_of(self.settings)
        if reply.logprobs is None:
            label = word_verdict(reply.text, labels)
            if label is None:
                return self._undecided(reply, fields, 0.5)
            return 0.5 if label == TIE else float(label == labels[0])
        odds = log_odds(reply.logprobs, labels, reply.top)
        return self._undecided(reply, fields, 0.0) if odds is None else odds

    def _number(self, reply: Reply, fields: Mapping[str, str]) -> float:
        """A number on the scale."""
        low, high = self.settings.scale
        value = number_verdict(reply.text, low, high) if reply.logprobs is None else expected(reply.logprobs)
        return self._undecided(reply, fields, (low + high) / 2) if value is None else value

    def _undecided(self, reply: Reply, fields: Mapping[str, str], neutral: float) -> float:
        """What a reply that is no verdict counts as; raises `JudgeError` unless it may count."""
        if self.settings.unreadable == "stop":
            labels = labels_of(self.settings)
            wanted = f"a number from {labels[0]} to {labels[-1]}" if len(labels) > 2 else " or ".join(labels)
            raise JudgeError(
                f"the judge's reply {reply.text[:80]!r} to the prompt {fields['prompt'][:60]!r} marks no verdict "
                f"({wanted}). Ask for it on a line of its own in `instruction`, or count such replies as undecided: "
                "unreadable: neutral"
            )
        self.desk.usage.unreadable += 1
        return neutral

    def _fitting(self, fields: Mapping[str, str]) -> Messages:
        """The question, its texts cut where it is too long: the prompt's beginning first, then the answers' ends."""
        texts, backend = dict(fields), self.desk.backend
        later = int(self.settings.critique) + int(self.settings.read == "text")
        for _ in range(_ROUNDS):
            messages = question(self.settings, texts)
            whole = after_critique(self.settings, messages, "") if self.settings.critique else messages
            excess = backend.excess(whole, self.settings.max_tokens * later)
            if not excess:
                return messages
            texts["prompt"], gone = backend.cut(texts["prompt"], excess, end=False)
            answers = [name for name in texts if name != "prompt"]
            lengths = [backend.cut(texts[name], sys.maxsize, end=True)[1] for name in answers]
            for name, drop in zip(answers, _shares(lengths, excess - gone), strict=True):
                texts[name] = backend.cut(texts[name], drop, end=True)[0]
        raise JudgeError("the template alone is longer than the judge reads. Shorten it, or raise max_length")

    def _closing(self, asked: Messages, critique: str) -> Messages:
        """The question for the verdict, after as much of the critique as the judge reads."""
        messages = after_critique(self.settings, asked, critique)
        reserve = self.settings.max_tokens if self.settings.read == "text" else 0
        excess = self.desk.backend.excess(messages, reserve)
        if not excess:
            return messages
        return after_critique(self.settings, asked, self.desk.backend.cut(critique, excess, end=True)[0])

    def save(self, folder: str | Path) -> None:
        """Write settings, calibration and model card; the key of an endpoint is never written."""
        settings = spelled_out(self.settings)
        save_reward(
            folder,
            "judge",
            self.name,
            config={
                "settings": settings.model_dump(mode="json", exclude_none=True),
                "model": self.desk.backend.identity if settings.folder is not None else None,
                "slope": self.calibration.slope,
                "intercept": self.calibration.intercept,
            },
            report=self.report,
            origin=self.origin,
            meaning=_meaning(self.report.get("kind"), self.settings.mode),
            sealed=False,  # a server may move
        )

    @classmethod
    def load(cls, folder: str | Path, *, cache: str | Path | None = None) -> Judge:
        """Read a saved judge, or an uncalibrated one from a YAML file.

        Finished calls are kept in `cache` (in its folder `judge`) where the settings name no folder of their own.
        """
        path = Path(folder)
        if path.suffix in (".yaml", ".yml"):
            return judge_of(read_settings(path), cache=cache)
        manifest, _ = open_reward(path, "judge")
        settings = checked(manifest["settings"], f"{folder}/reward.json")
        if settings.folder is not None and not (settings.folder / "config.json").is_file():
            raise ArtefactError(f"{folder}: its model {settings.folder} is gone. Put it back, or fit again")
        judge = judge_of(settings, cache=cache)
        if settings.folder is not None and judge.desk.backend.identity != manifest["model"]:
            raise ArtefactError(f"{folder}: its model {settings.folder} has changed: scores would drift. Fit again")
        judge.calibration = Calibration(float(manifest["slope"]), float(manifest["intercept"]))
        judge.name, judge.report, judge.origin = manifest["name"], manifest["report"], read_origin(path)
        return judge


class PairwiseJudge(Judge):
    """A judge of two answers at once. Satisfies `Comparing` too."""

    def compare(
        self, prompts: Sequence[Prompt], first: Sequence[Completion], second: Sequence[Completion]
    ) -> np.ndarray:
        """Calibrated log-odds (n,) float32 that the first answer is better; exchanging the two changes the sign."""
        return _float32(self.calibration.slope * self.raw_odds(prompts, first, second))

    def raw_odds(
        self, prompts: Sequence[Prompt], first: Sequence[Completion], second: Sequence[Completion]
    ) -> np.ndarray:
        """What the judge says itself (n,) float64, averaged over both orders."""
        forth, back = self.both_orders(prompts, first, second)
        return np.asarray((forth - back) / 2)

    def both_orders(
        self, prompts: Sequence[Prompt], first: Sequence[Completion], second: Sequence[Completion]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Log-odds (n,) of answer A with the first answer as A, and with the second one as A."""
        require_rows(prompts, first, second)
        left, right = _pairs(prompts, first), _pairs(prompts, second)
        asked = [{"prompt": p, "first": a, "second": b} for (p, a), (_, b) in zip(left, right, strict=True)]
        swapped = [{"prompt": p, "first": b, "second": a} for (p, a), (_, b) in zip(left, right, strict=True)]
        opinions = self.opinions([*asked, *swapped])
        return opinions[: len(asked)], opinions[len(asked) :]

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Log-odds (n,) float32 of winning against a random one of the `references`, as the answer to each prompt."""
        require_rows(prompts, completions)
        references = self.settings.references or (REFERENCE,)
        many = len(references)
        odds = self.compare(
            [prompt for prompt in prompts for _ in references],
            [completion for completion in completions for _ in references],
            list(references) * len(completions),
        ).reshape(-1, many)
        return _float32(_log_mean_sigma(odds) - _log_mean_sigma(-odds))


def judge_of(settings: JudgeSettings, *, cache: str | Path | None = None) -> Judge:
    """The judge that settings describe, uncalibrated; raises where its template or its place to run is not sound."""
    check_template(settings)
    if settings.folder is None:
        from tacit.rewards.judge.endpoint import Endpoint

        backend: Any = Endpoint(settings)
    else:
        from tacit.rewards.judge.local import LocalModel

        backend = LocalModel(settings)
    folder = settings.cache or (None if cache is None else Path(cache) / "judge")
    desk = Desk(backend, folder, settings.prices, settings.budget)
    return (PairwiseJudge if settings.mode == "pairwise" else Judge)(settings, desk, name=settings.name)


def fit(
    evidence: Iterable[Record],
    *,
    encoder: Any = "auto",
    cache: str | Path | None = None,
    name: str = "judge",
    seed: int = 0,
    judge: str | Path | JudgeSettings | None = None,
) -> Judge:
    """Calibrate a judge to what people said: comparisons, outcomes or ratings.

    `judge` is its YAML file or its settings; `seed` splits the folds behind the report; `encoder` is not used. Raises
    `TacitError` where no judge is given, `EvidenceError` for evidence that it cannot be asked about.
    """
    if judge is None:
        raise TacitError("a judge is described by a YAML file. Give it with --judge FILE.yaml")
    start = time.perf_counter()
    learnt = judge_of(judge if isinstance(judge, JudgeSettings) else read_settings(judge), cache=cache)
    learnt.name = name
    source = getattr(evidence, "source", "memory")
    records = list(evidence)
    examples = collect(records, source)
    kind = examples.kind
    if kind not in (("comparison",) if isinstance(learnt, PairwiseJudge) else ("comparison", "outcome", "rating")):
        raise EvidenceError(
            f"a judge in mode {learnt.settings.mode} is not calibrated on evidence of kind {kind}",
            mend="Give comparisons" + ("." if isinstance(learnt, PairwiseJudge) else ", outcomes or ratings."),
            source=source,
        )
    report: dict[str, Any] = {}
    if isinstance(learnt, PairwiseJudge):
        raw, report["orders"] = _orders(learnt, records, source)
    else:
        each = learnt.raw_scores([p for p, _ in examples.texts], [c for _, c in examples.texts])[examples.rows]
        raw = each[:, 0] - each[:, 1] if kind == "comparison" else each[:, 0]
    target = np.where(examples.tie, 0.5, 1.0) if kind == "comparison" else examples.target.astype(np.float64)
    weight = examples.weight.astype(np.float64)
    learnt.origin = Origin.of_texts(examples.texts)
    learnt.calibration = calibrate(kind, raw, target, weight)
    learnt.report = {
        "kind": kind,
        "objective": f"judge:{learnt.settings.mode}",
        "n_train": len(examples),
        "slope": learnt.calibration.slope,
        "intercept": learnt.calibration.intercept,
        "held_out": held_out(kind, raw, target, weight, examples.blocks, seed),
        **report,
        "usage": learnt.usage,
        "seconds": time.perf_counter() - start,
    }
    return learnt


def _orders(judge: PairwiseJudge, records: Sequence[Record], source: str) -> tuple[np.ndarray, dict[str, float]]:
    """Raw log-odds (n,) of the chosen answers; how the order of the two mattered.

    `position_bias` is the mean log-odds of answer A whatever stands there, `consistent` the share of pairs on which
    both orders agree.
    """
    pairs = [record for record in records if isinstance(record, Comparison)]
    for row, record in enumerate(pairs, 1):
        if record.rejected_prompt is not None:
            raise EvidenceError(
                "a pairwise judge compares two answers to one prompt",
                mend="Leave out pairs across prompts.",
                source=source,
                row=row,
                column="rejected_prompt",
            )
    forth, back = judge.both_orders(
        [record.prompt for record in pairs], [record.chosen for record in pairs], [record.rejected for record in pairs]
    )
    same = float(np.mean(np.sign(forth) == -np.sign(back)))
    return (forth - back) / 2, {"position_bias": float(np.mean(forth + back) / 2), "consistent": same}


def _pairs(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[tuple[str, str]]:
    require_rows(prompts, completions)
    return [texts(prompt, completion) for prompt, completion in zip(prompts, completions, strict=True)]


def _shares(lengths: Sequence[int], excess: int) -> list[int]:
    """How much to take from each so that `excess` goes and the longest give first."""
    cap = max(lengths)
    while cap > 0 and sum(max(0, length - cap) for length in lengths) < excess:
        over = [length for length in lengths if length >= cap]
        missing = excess - sum(max(0, length - cap) for length in lengths)
        below = max((length for length in lengths if length < cap), default=0)
        cap = max(below, cap - -(-missing // len(over)))
    return [max(0, length - cap) for length in lengths]


def _log_mean_sigma(odds: np.ndarray) -> np.ndarray:
    """log of the mean over columns of sigma(odds), (n, K) to (n,)."""
    logs = -np.logaddexp(0.0, -odds)
    return np.asarray(np.logaddexp.reduce(logs, axis=1) - np.log(odds.shape[1]))


def _float32(scores: np.ndarray) -> np.ndarray:
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise JudgeError(f"row {bad[0] + 1}: the judge's score is {scores[bad[0]]}. Check its calibration")
    return np.asarray(scores, dtype=np.float32)


def _meaning(kind: str | None, mode: str) -> str:
    if kind == "comparison":
        return "Score differences are log-odds: P(a preferred to b) = sigma(score(a) - score(b))."
    if kind == "outcome":
        return "Scores are log-odds: P(good) = sigma(score)."
    return "Scores are on the scale of the ratings." if kind == "rating" else f"Uncalibrated, mode {mode}."
