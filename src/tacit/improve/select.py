"""Best-of-n over a file of candidates, and the curve of what it gains where the truth is known.

Candidates are rows with `prompt` and a list `completions`, or rows with `prompt` and `completion` where those of one
prompt follow each other. A gold column holds the true reward: a list beside `completions`, a number beside
`completion`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from tacit.conversation import Completion, Prompt, completion_text, prompt_text
from tacit.errors import EvidenceError
from tacit.evidence.layout import is_messages
from tacit.evidence.read import prompted_rows
from tacit.improve.best_of_n import best_of_n_curve
from tacit.progress import track
from tacit.rewards.contract import Reward
from tacit.rewards.scoring import member_scores, spread

Row = dict[str, Any]


@dataclass(frozen=True)
class Candidates:
    """The completions to choose from for one prompt; `row` is where they start in the file."""

    row: int
    prompt: Prompt
    completions: list[Completion]
    gold: list[float] | None = None
    beside: Row = field(default_factory=dict)
    """Other columns of the prompt's row, kept beside the choice."""
    source: str | None = field(default=None, compare=False)
    """The file, for messages."""


@dataclass(frozen=True)
class Selected:
    """A choice among candidates with what was known of each: scores (n,), and spreads (n,) of a reward with members."""

    candidates: Candidates
    scores: np.ndarray
    spreads: np.ndarray | None

    @property
    def index(self) -> int:
        """Place of the best candidate; the first of equals."""
        return int(np.argmax(self.scores))

    def row(self) -> Row:
        """The choice as a row: `prompt`, `completion`, `score`, `index`, `n`, and what else is known of it."""
        best, chosen = self.index, self.candidates
        row = {**chosen.beside, "prompt": chosen.prompt, "completion": chosen.completions[best]}
        row |= {"score": float(self.scores[best]), "index": best, "n": len(chosen.completions)}
        if self.spreads is not None:
            row["score_std"] = float(self.spreads[best])
        if chosen.gold is not None:
            row["gold"] = chosen.gold[best]
        return row


def read_candidates(
    source: str | Path, *, gold: str = "gold", columns: Mapping[str, str] | None = None
) -> Iterator[Candidates]:
    """Candidates of a file in any format that `tacit.read` knows, a prompt at a time.

    Raises `EvidenceError` for a row without prompt or completions, a gold column of another length or not of numbers,
    and for a prompt whose rows do not follow each other.
    """
    seen: set[int] = set()
    for prompt, rows in groupby(_entries(source, gold, columns), key=lambda entry: prompt_text(entry.prompt)):
        entries = list(rows)
        first = entries[0]
        if hash(prompt) in seen:
            raise EvidenceError(
                "this prompt was met before, and other prompts came between",
                mend="Sort the rows by prompt, so that the candidates of a prompt stand together",
                source=str(source),
                row=first.row,
                column="prompt",
                value=prompt,
            )
        seen.add(hash(prompt))
        if len(entries) == 1:
            yield first
            continue
        known = [entry.gold for entry in entries]
        if any(value is None for value in known) and any(value is not None for value in known):
            blank = next(entry for entry in entries if entry.gold is None)
            raise _bad_gold(source, blank.row, gold, None)
        yield Candidates(
            first.row,
            first.prompt,
            [completion for entry in entries for completion in entry.completions],
            None if known[0] is None else [value for values in known for value in values or []],
            source=first.source,
        )


def select(
    reward: Reward, candidates: Iterable[Candidates], *, n: int | None = None, size: int = 4096
) -> Iterator[list[Selected]]:
    """The best of the first `n` candidates (all by default) of each prompt, about `size` completions scored at once.

    Raises `EvidenceError` where a prompt has fewer than `n`.
    """
    held: list[Candidates] = []
    count = 0
    for entry in track(candidates, "choosing"):
        if n is not None and len(entry.completions) < n:
            raise EvidenceError(
                f"{len(entry.completions)} candidates, not {n}",
                mend="Give more, or a smaller --n",
                source=entry.source,
                row=entry.row,
            )
        held.append(_first(entry, n))
        count += len(held[-1].completions)
        if count >= size:
            yield _choose(reward, held)
            held, count = [], 0
    if held:
        yield _choose(reward, held)


def curve(selected: Sequence[Selected], *, resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """The best-of-n curve of `tacit.improve.best_of_n.best_of_n_curve` from scored candidates with gold.

    Prompts with more candidates than the poorest one count with their first. Raises `EvidenceError` without gold.
    """
    bare = next((choice.candidates for choice in selected if choice.candidates.gold is None), None)
    if bare is not None or not selected:
        raise EvidenceError(
            "a curve needs the true reward of every candidate",
            mend="Add a gold column, and name it with --gold",
            source=bare.source if bare else None,
            row=bare.row if bare else None,
        )
    width = min(len(choice.scores) for choice in selected)
    proxy = np.stack([choice.scores[:width] for choice in selected])
    gold = np.array([(choice.candidates.gold or [])[:width] for choice in selected])
    lengths = np.array(
        [[len(completion_text(c)) for c in choice.candidates.completions[:width]] for choice in selected]
    )
    return best_of_n_curve(proxy, gold, lengths=lengths, resamples=resamples, seed=seed)


def curve_rows(result: dict[str, Any]) -> list[Row]:
    """A curve as one row for each n: the distance moved, the true reward of each way to choose, the proxy's promise."""
    names = [
        name for name in ("random", "longest", "gold", "gold_ci", "oracle", "proxy") if result.get(name) is not None
    ]
    heads = {"gold": "choice", "gold_ci": "95% interval", "oracle": "best", "proxy": "promised"}
    return [
        {"n": n, "KL": result["kl"][i], **{heads.get(name, name): result[name][i] for name in names}}
        for i, n in enumerate(result["n"])
    ]


def _choose(reward: Reward, held: Sequence[Candidates]) -> list[Selected]:
    prompts = [entry.prompt for entry in held for _ in entry.completions]
    completions = [completion for entry in held for completion in entry.completions]
    mean, members = member_scores(reward, prompts, completions)
    spreads = None if members is None else spread(members)
    ends = np.cumsum([len(entry.completions) for entry in held])
    parts = [slice(end - len(entry.completions), end) for entry, end in zip(held, ends, strict=True)]
    return [
        Selected(entry, mean[part], None if spreads is None else spreads[part])
        for entry, part in zip(held, parts, strict=True)
    ]


def _first(entry: Candidates, n: int | None) -> Candidates:
    if n is None or n == len(entry.completions):
        return entry
    gold = None if entry.gold is None else entry.gold[:n]
    return replace(entry, completions=entry.completions[:n], gold=gold)


def _entries(source: str | Path, gold: str, columns: Mapping[str, str] | None) -> Iterator[Candidates]:
    empty = True
    for row, values in prompted_rows(source, columns):
        empty = False
        many = values.get("completions") is not None
        column = "completions" if many else "completion"
        for name in ("prompt", column):
            if values.get(name) is None:
                raise EvidenceError(
                    "the column is missing",
                    mend="Candidates are rows with `prompt` and a list `completions`, or `prompt` and `completion`",
                    source=str(source),
                    row=row,
                    column=name,
                )
        completions = values[column] if many else [values[column]]
        if many and (not isinstance(completions, list) or not completions or isinstance(completions[0], dict)):
            raise EvidenceError(
                "the candidates are not a list of completions",
                mend="Give a list with at least one",
                source=str(source),
                row=row,
                column=column,
                value=completions,
            )
        for name, said in (("prompt", values["prompt"]), *((column, completion) for completion in completions)):
            if not (isinstance(said, str) or is_messages(said)):
                raise EvidenceError(
                    "wrong value",
                    mend="It must be a text or a list of {role, content} messages",
                    source=str(source),
                    row=row,
                    column=name,
                    value=said,
                )
        known = _gold(source, row, gold, values.get(gold), len(completions), many)
        beside = {name: value for name, value in values.items() if name not in ("prompt", column, gold)} if many else {}
        yield Candidates(row, values["prompt"], completions, known, beside, str(source))
    if empty:
        raise EvidenceError("there are no candidates", mend="Give at least one row", source=str(source))


def _gold(source: str | Path, row: int, column: str, value: Any, count: int, many: bool) -> list[float] | None:
    if value is None or value == "":
        return None
    try:
        found = [float(one) for one in (value if many else [value])]
    except (TypeError, ValueError):
        raise _bad_gold(source, row, column, value) from None
    if len(found) != count or not all(math.isfinite(one) for one in found):
        raise _bad_gold(source, row, column, value)
    return found


def _bad_gold(source: str | Path, row: int, column: str, value: Any) -> EvidenceError:
    return EvidenceError(
        "the gold column does not fit the candidates",
        mend="Give one finite number for each candidate of every prompt, or leave the column away",
        source=str(source),
        row=row,
        column=column,
        value=value,
    )
