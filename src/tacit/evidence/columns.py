"""What `tacit.evidence.check` remembers of each record: hashes of its texts, what was said, lengths.

A record leaves 65 bytes, and its text is gone with the batch. Hashes are Python's own of the rendered text, good within
one process; by the birthday bound the probability that any two of 5 million distinct texts collide is under 1e-6.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tacit.conversation import completion_text, prompt_text
from tacit.evidence.records import Comparison, Outcome, Ranking, Rating, Record, Steps

Ints = npt.NDArray[np.int64]
NOBODY = 0
"""The person of a record without an annotator."""
EMPTY_PROMPT = hash("")
WEIGHTLESS = -1
"""The outcome of a comparison that has weight 0."""


class Columns:
    """Numbers of each record, gathered by batch in growing buffers: one array (records,) per name."""

    _TYPES: ClassVar[dict[str, str]] = {
        "row": "int64",
        "prompt": "int64",
        "prompt_2": "int64",
        "first": "int64",
        "second": "int64",
        "person": "int64",
        "outcome": "int64",
        "length": "int32",
        "length_2": "int32",
        "empty": "int8",
    }

    def __init__(self) -> None:
        self._buffers = {name: bytearray() for name in self._TYPES}

    def add(self, rows: Sequence[int], records: Sequence[Record]) -> None:
        """Take in a batch of records of one kind and their row numbers."""
        if not records:
            return
        numbers = _of_comparisons if type(records[0]) is Comparison else _of_others
        values = (np.asarray(rows), *_of_prompts(records), *numbers(records))
        for (name, dtype), column in zip(self._TYPES.items(), values, strict=True):
            self._buffers[name] += column.astype(dtype).tobytes()

    def table(self) -> dict[str, Ints]:
        """The arrays by name, each (records,)."""
        return {name: np.frombuffer(self._buffers[name], dtype) for name, dtype in self._TYPES.items()}


def ints(values: Iterable[int]) -> Ints:
    """Whole numbers as an array."""
    return np.array(list(values), np.int64)


def _of_prompts(records: Sequence[Any]) -> tuple[Ints, Ints]:
    """Hash of the prompt, and of the rejected side's where it has its own: the same one twice otherwise."""
    prompts = [record.prompt for record in records]
    first = ints(map(hash, [p if type(p) is str else prompt_text(p) for p in prompts]))
    second = first
    crossed = [getattr(record, "rejected_prompt", None) for record in records]
    if crossed.count(None) < len(crossed):
        second = first.copy()
        for i, prompt in enumerate(crossed):
            if prompt is not None:
                second[i] = hash(prompt_text(prompt))
    return first, second


def _of_people(records: Sequence[Any]) -> Ints:
    people = [getattr(record, "annotator", None) for record in records]
    if people.count(None) == len(people):
        return np.full(len(people), NOBODY, np.int64)
    return ints([NOBODY if person is None else hash(person) for person in people])


def _of_comparisons(records: Sequence[Any]) -> list[Ints]:
    """Hash of chosen, hash of rejected (with its prompt where that differs), person, 1 (0 for a tie, `WEIGHTLESS`
    where the weight is 0), both lengths, whether an answer is empty."""
    sides = [[record.chosen for record in records], [record.rejected for record in records]]
    chosen, rejected = ([c if type(c) is str else completion_text(c) for c in side] for side in sides)
    second = ints(map(hash, rejected))
    crossed = [record.rejected_prompt for record in records]
    if crossed.count(None) < len(crossed):
        for i, prompt in enumerate(crossed):
            if prompt is not None and prompt_text(prompt) != prompt_text(records[i].prompt):
                second[i] = hash((prompt_text(prompt), rejected[i]))
    return [
        ints(map(hash, chosen)),
        second,
        _of_people(records),
        ints([not record.tie if record.weight else WEIGHTLESS for record in records]),
        ints(map(len, chosen)),
        ints(map(len, rejected)),
        _are_empty(chosen) | _are_empty(rejected),
    ]


def _of_others(records: Sequence[Record]) -> list[Ints]:
    """Hash of the completions, none, person, what was said, length, none, whether one is empty."""
    texts = [_texts(record) for record in records]
    none = np.zeros(len(records), np.int64)
    return [
        ints([hash(tuple(several)) for several in texts]),
        none,
        _of_people(records),
        ints(map(_outcome, records)),
        ints([sum(map(len, several)) for several in texts]),
        none,
        ints([bool(_are_empty(several).any()) for several in texts]),
    ]


def _are_empty(texts: Sequence[str]) -> Ints:
    return ints([not text or text.isspace() for text in texts])


def distinct(hashes: Ints) -> int:
    """How many distinct values there are, by sorting (faster here than numpy's hash table)."""
    ordered = np.sort(hashes)
    return int(np.count_nonzero(np.diff(ordered))) + (len(ordered) > 0)


def _texts(record: Record) -> list[str]:
    if isinstance(record, Ranking | Steps):
        return [completion_text(text) for text in record.completions]
    name = "answer" if hasattr(record, "answer") else "completion"
    return [completion_text(getattr(record, name))]


def _outcome(record: Record) -> int:
    if isinstance(record, Outcome):
        return int(record.label)
    if isinstance(record, Rating):
        return hash(
            record.score if not isinstance(record.score, dict) else tuple(sorted(record.score.items(), key=str))
        )
    if isinstance(record, Ranking):
        return int(len(set(record.ranks)) > 1)
    if isinstance(record, Steps):
        return int(all(record.labels)) - int(not any(record.labels))
    return 0
