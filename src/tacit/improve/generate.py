"""Samples of a policy for the prompts of a file, with scores of a reward, or the best of them alone.

Prompts are those of any evidence: rows with a column `prompt` whatever else they hold, any layout that `tacit.read`
knows, or rows of a prompt alone by other names (`question`; `system` and `question`; `instruction` and `input`). A
prompt that comes back is sampled once. Columns that say what people made of other completions are left out; all others
(answers of problems, ids) are kept beside the samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from tacit.conversation import Prompt, prompt_text
from tacit.errors import EvidenceError, TacitError
from tacit.evidence import read, read_rows
from tacit.evidence.layout import is_messages
from tacit.evidence.read import prompted_rows
from tacit.policies.contract import Policy, Sampling
from tacit.policies.endpoint import EndpointPolicy
from tacit.policies.tokens import PromptError
from tacit.progress import track
from tacit.rewards.contract import Reward
from tacit.rewards.scoring import member_scores, spread

Row = dict[str, Any]

_ROWS = 512
"""Samples made before they are written."""
_OF_OTHERS = (
    *("chosen", "rejected", "tie", "margin", "weight", "rejected_prompt", "chosen_first", "completion", "completions"),
    *("label", "labels", "score", "ranks", "annotator", "group"),
)


@dataclass(frozen=True)
class Asked:
    """A prompt, where it stands, and the columns beside it."""

    prompt: Prompt
    row: int | None = None
    beside: Row = field(default_factory=dict)


@dataclass(frozen=True)
class Samples:
    """The completions of one prompt and what is known of each."""

    asked: Asked
    completions: list[str]
    logprobs: list[float] | None = None
    """log p of each whole completion."""
    ended: list[bool] | None = None
    """Which ended by themselves."""
    scores: np.ndarray | None = None
    """(n,)"""
    spreads: np.ndarray | None = None
    """(n,), of a reward with members."""

    def rows(self) -> list[Row]:
        """A row for each sample."""
        return [
            {**self.asked.beside, "prompt": self.asked.prompt, "completion": text, "index": index, **self._known(index)}
            for index, text in enumerate(self.completions)
        ]

    def best(self, *, keep_all: bool = False) -> Row:
        """The best sample by its score, the first of equals; with `keep_all` the other ones as lists beside it."""
        if self.scores is None:
            raise TacitError("the best sample needs a reward")
        index = int(np.argmax(self.scores))
        row = {
            **self.asked.beside, "prompt": self.asked.prompt, "completion": self.completions[index], "index": index,
            "n": len(self.completions), **self._known(index),
        }  # fmt: skip
        if keep_all:
            row |= {"completions": self.completions, "scores": [float(score) for score in self.scores]}
        return row

    def _known(self, index: int) -> Row:
        row: Row = {}
        if self.logprobs is not None:
            row["logprob"] = self.logprobs[index]
        if self.ended is not None:
            row["ended"] = self.ended[index]
        if self.scores is not None:
            row["score"] = float(self.scores[index])
        if self.spreads is not None:
            row["score_std"] = float(self.spreads[index])
        return row


def read_prompts(
    source: str | Path,
    *,
    reading: Mapping[str, Any] | None = None,
    limit: int | None = None,
) -> list[Asked]:
    """The distinct prompts of a file, in their order, at most `limit`; `reading` are arguments of `tacit.read`.

    Raises `EvidenceError` where there is none, or where a prompt is no text and no list of messages.
    """
    options = {name: value for name, value in (reading or {}).items() if value}
    columns = options.get("columns") or {}
    bare = not options.keys() - {"columns"} and _bare(source, columns)
    found: dict[str, Asked] = {}
    for asked in _plain(source, columns) if bare else _of_evidence(source, options):
        key = prompt_text(asked.prompt)
        if key not in found:
            if limit is not None and len(found) == limit:
                break
            found[key] = asked
    if not found:
        raise EvidenceError("there are no prompts", mend="Give at least one row with a `prompt`", source=str(source))
    return list(found.values())


def sampled(
    policy: Policy,
    prompts: Sequence[Asked],
    n: int,
    sampling: Sampling,
    *,
    reward: Reward | None = None,
    source: str | None = None,
) -> Iterator[Samples]:
    """n samples of each prompt, scored where there is a reward, some hundred at a time.

    The parts do not show in the samples. Raises `EvidenceError` naming the row of a prompt that the policy cannot read.
    """
    for start, part in track(
        _parts(prompts, max(1, _ROWS // n)), "sampling", total=-(-len(prompts) // (_ROWS // n or 1))
    ):
        try:
            made = _sample(policy, part, n, sampling, first=start * n)
        except PromptError as error:
            asked = part[error.number - 1]
            raise EvidenceError(
                f"the prompt cannot be sampled from: {error.reason}", mend=error.mend, source=source, row=asked.row,
                column="prompt",
            ) from error  # fmt: skip
        yield from made if reward is None else _scored(reward, made)


def _sample(policy: Policy, part: Sequence[Asked], n: int, sampling: Sampling, *, first: int) -> list[Samples]:
    from tacit.policies.transformer import TransformerPolicy

    prompts = [asked.prompt for asked in part]
    if isinstance(policy, EndpointPolicy):
        return [
            Samples(
                asked, [answer.text for answer in answers],
                [sum(answer.logprobs or ()) for answer in answers] if all(a.logprobs for a in answers) else None,
                [answer.ended for answer in answers],
            )
            for asked, answers in zip(part, policy.answers(prompts, n, sampling, first=first), strict=True)
        ]  # fmt: skip
    if isinstance(policy, TransformerPolicy):
        rollout = policy.rollout(prompts, n, sampling, first=first)
        logprobs, ended = rollout.logprobs.double().sum(1).tolist(), rollout.ended.tolist()
        return [
            Samples(asked, rollout.texts[rows], logprobs[rows], ended[rows])
            for asked, rows in zip(part, (slice(i, i + n) for i in range(0, len(part) * n, n)), strict=True)
        ]
    texts = policy.generate(prompts, n, sampling)
    return [Samples(asked, completions) for asked, completions in zip(part, texts, strict=True)]


def _scored(reward: Reward, made: Sequence[Samples]) -> list[Samples]:
    prompts = [samples.asked.prompt for samples in made for _ in samples.completions]
    scores, members = member_scores(reward, prompts, [text for samples in made for text in samples.completions])
    spreads = None if members is None else spread(members)
    n = len(made[0].completions)
    return [
        Samples(
            samples.asked, samples.completions, samples.logprobs, samples.ended, scores[at : at + n],
            None if spreads is None else spreads[at : at + n],
        )
        for samples, at in zip(made, range(0, len(scores), n), strict=True)
    ]  # fmt: skip


@dataclass
class Tally:
    """Counts and means of what was made."""

    prompts: int = 0
    samples: int = 0
    characters: int = 0
    ended: int = 0
    scores: float = 0.0
    best: float = 0.0

    def add(self, made: Samples) -> None:
        """Count the samples of one prompt."""
        self.prompts += 1
        self.samples += len(made.completions)
        self.characters += sum(map(len, made.completions))
        self.ended += sum(made.ended or ())
        if made.scores is not None:
            self.scores += float(made.scores.sum())
            self.best += float(made.scores.max())

    def result(self, *, scored: bool) -> dict[str, Any]:
        """JSON-ready."""
        found: dict[str, Any] = {
            "prompts": self.prompts,
            "samples": self.samples,
            "mean_characters": self.characters / max(1, self.samples),
            "ended": self.ended / max(1, self.samples),
        }
        if scored:
            found["mean_score"] = self.scores / max(1, self.samples)
            found["mean_best_score"] = self.best / max(1, self.prompts)
        return found


def _bare(source: str | Path, columns: Mapping[str, str]) -> bool:
    """Whether rows are read for their prompts alone: they have a `prompt`, or only other columns of a prompt."""
    if columns.get("prompt", "prompt") in next(iter(read_rows(source)), (0, {}))[1]:
        return True
    try:
        next(iter(read(source, columns=columns)), None)
    except EvidenceError:
        with suppress(EvidenceError):
            return "prompt" in next(iter(prompted_rows(source, columns)), (0, {}))[1]
    return False


def _plain(source: str | Path, columns: Mapping[str, str]) -> Iterator[Asked]:
    for row, values in prompted_rows(source, columns):
        prompt: Any = values.get("prompt")
        if not (isinstance(prompt, str) or is_messages(prompt)):
            raise EvidenceError(
                "wrong value" if "prompt" in values else "the column is missing",
                mend="It must be a text or a list of {role, content} messages", source=str(source), row=row,
                column="prompt", value=prompt,
            )  # fmt: skip
        yield Asked(prompt, row, {k: v for k, v in values.items() if k != "prompt" and k not in _OF_OTHERS})


def _of_evidence(source: str | Path, reading: Mapping[str, Any]) -> Iterator[Asked]:
    for row, record in read(source, **reading).rows():
        yield Asked(record.prompt, row)  # type: ignore[attr-defined]  # every kind of record has one


def _parts(prompts: Sequence[Asked], size: int) -> Iterator[tuple[int, list[Asked]]]:
    start, rest = 0, iter(prompts)
    while part := list(islice(rest, size)):
        yield start, part
        start += len(part)
