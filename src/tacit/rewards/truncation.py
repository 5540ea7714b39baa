"""What an encoder does not read of evidence: texts that are too long for it, and those that it has no vector for.

Comparisons whose two answers are equal as far as they are read are counted apart: they have one vector, so that such a
comparison teaches nothing and is forecast as a coin. Which texts an encoder cuts it says itself (`Truncates`). Where
there are many, only the first are looked at: to cut them into tokens takes as long as to read a hundred times as many.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from tacit.conversation import texts
from tacit.evidence import Finding
from tacit.evidence.records import Comparison, Problem, Record
from tacit.features.encoders import Precomputed, Text, Truncates

MOST = 10_000_000
"""Characters of long texts that are looked at."""
_ROWS = 512
_COMMON = 64
"""Characters that two answers share at the beginning before their tokens are compared."""


@dataclass(frozen=True)
class Truncation:
    """What an encoder cuts of the texts of some evidence."""

    encoder: str
    max_length: int
    """Tokens that it reads, special ones included."""
    texts: int
    """Texts that were looked at, each side of a comparison one."""
    cut: int
    equal: int
    """Comparisons whose different answers are equal as far as they are read."""
    rows: list[int] = field(default_factory=list)
    """The first of these comparisons."""
    whole: bool = True
    """Whether all texts were looked at."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    def findings(self) -> list[Finding]:
        """What `tacit check` says of it; nothing where nothing is cut."""
        found = []
        among = f"{self.cut:,} of {'the first ' if not self.whole else ''}{self.texts:,} texts"
        mend = "Take an encoder that reads more (--encoder hf:FOLDER?max_length=N), or shorten the texts"
        if self.cut:
            reason = (
                f"{among} are longer than the {self.max_length:,} tokens that encoder `{self.encoder}` reads: the"
                " beginning of the prompt, or the end of the answer, is cut"
            )
            found.append(Finding("warning", "truncated", reason, mend, self.cut, []))
        if self.equal:
            reason = (
                f"{self.equal:,} comparisons have different answers that are equal as far as encoder `{self.encoder}`"
                " reads"
            )
            found.append(Finding("warning", "equal_when_truncated", reason, mend, self.equal, self.rows))
        return found

    def sentences(self) -> list[str]:
        """The same for whoever fits."""
        return [f"{finding.reason}. {finding.mend}" for finding in self.findings()]


def truncation(encoder: object, rows: Iterable[tuple[int, Record]], *, limit: int = 20) -> Truncation | None:
    """What `encoder` cuts of the texts of (row, record) pairs; None for one that reads all. `limit` bounds `rows`."""
    if not isinstance(encoder, Truncates):
        return None
    total = cut = equal = looked_at = 0
    where: list[int] = []
    numbered = iter(rows)
    while looked_at < MOST and (block := list(islice(numbered, _ROWS))):
        sides = [list(_texts(record)) for _, record in block]
        every = [text for several in sides for text in several]
        cuts = encoder.cuts(every)
        total, cut = total + len(every), cut + int(cuts.sum())
        looked_at += sum(len(text[0]) + len(text[1]) for text in every)
        ends = np.cumsum([len(several) for several in sides])
        for (row, record), several, end in zip(block, sides, ends, strict=True):
            if isinstance(record, Comparison) and cuts[end - 2 : end].all() and _alike(*several):
                first, second = encoder.token_ids(several)
                if first == second:
                    equal += 1
                    where += [row] if len(where) < limit else []
    whole = next(numbered, None) is None
    return Truncation(encoder.name, encoder.max_length, total, cut, equal, where, whole)


def without_vector(encoder: object, rows: Iterable[tuple[int, Record]], *, limit: int = 20) -> list[Finding]:
    """An error where an encoder that looks vectors up (`array:FILE`) has none for some texts of the rows."""
    if not isinstance(encoder, Precomputed):
        return []
    missing = total = 0
    where: list[int] = []
    numbered = iter(rows)
    while block := list(islice(numbered, _ROWS)):
        sides = [list(_texts(record)) for _, record in block]
        known = encoder.known([text for several in sides for text in several])
        total, missing = total + len(known), missing + int((~known).sum())
        owner = np.repeat([row for row, _ in block], [len(several) for several in sides])
        where += [row for row in dict.fromkeys(owner[~known].tolist()) if len(where) < limit]
    if not missing:
        return []
    reason = f"{missing:,} of {total:,} texts have no vector in the encoder"
    return [Finding("error", "no_vector", reason, "Add their rows, or leave these rows out", missing, where[:limit])]


def numbered(evidence: Iterable[Record]) -> Iterator[tuple[int, Record]]:
    """(row, record) pairs of evidence, or of records in memory."""
    rows: Any = getattr(evidence, "rows", None)
    return iter(enumerate(evidence, 1)) if rows is None else rows()


def _alike(first: Text, second: Text) -> bool:
    """Whether two texts differ, and only after a beginning of the answer."""
    return first != second and first[1][:_COMMON] == second[1][:_COMMON]


def _texts(record: Record) -> Iterator[Text]:
    from tacit.rewards.scoring import responses

    if not isinstance(record, Problem):
        for pair in responses(record):
            yield texts(*pair)
