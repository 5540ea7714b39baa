"""What all values of a column are, before any of them is read: a code is decided by the whole file, never by a row."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tacit.evidence.sources import RawBatch

LIMIT = 1000
"""Different values of a column that are remembered; of further numbers only that they are numbers."""
_NUMBER = re.compile(r"[+\-−]?(?:\d+\.?\d*|\.\d+)(?:e[+\-]?\d+)?", re.IGNORECASE | re.ASCII)
_MARK = re.compile(r"\[\[([^\[\]]{1,20})\]\]")
_BLANK = {"", "\\n", "nan", "null", "n/a", "na", "<na>", "#n/a", "nat"}


def token(value: Any) -> str | None:
    """A value as tables of words and codes name it: lower case, 1 for 1.0 and True apart; None for a blank.

    Blank cells (nothing, NaN, "", "n/a", "null", `\\N`) say nothing. A text with one mark `[[...]]`, as judges are
    asked to write, says what is marked. Lists of one value stand for it; other lists and objects are written as they
    are, which no table knows.
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    text = " ".join(str(value).split()).lower()
    if "[[" in text and len(marks := set(_MARK.findall(text))) == 1:
        text = marks.pop().strip()
    if text in _BLANK:
        return None
    number = number_of(text)
    if number is None:
        return text
    return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)


def number_of(text: str) -> float | None:
    """The finite number that a text is (`3`, `-1.5`, `+1`, `2e-5`), or None; `1_000` and `inf` are none to a person."""
    if not _NUMBER.fullmatch(text):
        return None
    number = float(text.replace("−", "-"))
    return number if math.isfinite(number) else None


@dataclass
class Values:
    """The values of one column: `rows` maps each different token to the first row that has it, blanks left out.

    Past `LIMIT` different ones only numbers are looked at: `many` says that there were more, and `text` is the first
    value past it that is no number.
    """

    rows: dict[str, int] = field(default_factory=dict)
    many: bool = False
    text: tuple[str, int] | None = None
    count: int = 0

    def add(self, values: Iterable[Any], rows: Iterable[int]) -> None:
        """Take in the cells of some rows."""
        for value, row in zip(values, rows, strict=True):
            word = token(value)
            if word is None:
                continue
            self.count += 1
            if word in self.rows:
                continue
            if len(self.rows) < LIMIT:
                self.rows[word] = row
            else:
                self.many = True
                if self.text is None and number_of(word) is None:
                    self.text = word, row

    @property
    def numbers(self) -> list[float]:
        """The numbers among the tokens, each once, in order."""
        return sorted({number for word in self.rows if (number := number_of(word)) is not None})


def survey(
    batches: Iterator[RawBatch],
    names: Iterable[str],
    wanted: Callable[[Values], bool] = lambda values: True,
    rename: Callable[[dict[str, Any]], dict[str, Any]] = lambda row: row,
) -> dict[str, Values]:
    """The values of some columns over a whole source; a column is dropped once `wanted` says no of what it has so far.

    Stops as soon as no column is left.
    """
    columns = {name: Values() for name in names}
    for batch in batches:
        if not columns:
            break
        rows = [rename(value) for value in batch.values]
        for name in list(columns):
            columns[name].add([row.get(name) for row in rows], batch.rows)
            if not wanted(columns[name]):
                del columns[name]
    return columns
