"""What layouts of published data share: known codings, blank cells, answers, texts of a prompt, ranks from numbers.

A number names a side only by the coding of a layout. Each layout therefore has its own table, and a value outside it is
refused with the values that would be right.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, TypeVar

from tacit.evidence.layout import LayoutError, Row, Rows, is_messages, pair_of, without

T = TypeVar("T")


def is_blank(value: Any) -> bool:
    """Whether a cell says nothing: null, NaN, an empty text or one of spaces."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and math.isnan(value))


def coded(value: Any, codes: Mapping[Any, T], column: str, right: str) -> T | None:
    """What a value means by the table of its layout; None for a blank cell.

    Numbers equal their text ("1" from a CSV file, 1, 1.0), words are compared without case. True and false are no
    numbers: they stand in the table as "true" and "false", or are refused. Raises `LayoutError` for a value that is not
    in the table; `right` says which ones are.
    """
    if is_blank(value):
        return None
    key = _key(value)
    for code, meaning in codes.items():
        if _key(code) == key:
            return meaning
    raise LayoutError("the value means nothing in this layout", f"It must be {right}", column, value=value)


def _key(value: Any) -> Hashable:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return str(value).lower()
    if not isinstance(value, str):
        return float(value) if abs(value) < 1e15 else repr(value)
    word = value.strip().lower()
    try:
        return float(word)
    except ValueError:
        return word


def number(value: Any, column: str, right: str, low: float = -math.inf, high: float = math.inf) -> float | None:
    """A finite number from `low` to `high`; None for a blank cell. Raises `LayoutError`; `right` says what is right."""
    if is_blank(value):
        return None
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not (math.isfinite(found) and low <= found <= high):
        raise LayoutError("the value means nothing in this layout", f"It must be {right}", column, value=value)
    return found


def answer(value: Any, column: str) -> Any:
    """An answer as it stands: a text or a list of messages. Raises `LayoutError` with the source's column otherwise."""
    if isinstance(value, str) or is_messages(value):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and not is_blank(value):
        return str(value)
    raise LayoutError("the answer is no text", "Give a text, or leave the row out", column, value=value)


def answers(row: Row, first: str, second: str) -> tuple[Any, Any]:
    """The two answers of a row, each as `answer` reads it."""
    return answer(row[first], first), answer(row[second], second)


def compared(
    kept: Mapping[str, Any], row: Row, first: str, second: str, share: float | None, *, shown: bool = False
) -> Rows:
    """The answers in two columns as one comparison beside `kept`, as `pair_of` makes it; none without a verdict."""
    if share is None:
        return []
    return [pair_of(without(kept, first, second), *answers(row, first, second), share, shown=shown)]


def listed(row: Row, column: str, length: int | None = None) -> list[Any]:
    """A column that holds a list (of `length` values). Raises `LayoutError`."""
    value = row[column]
    if not isinstance(value, list) or length not in (None, len(value)):
        many = "" if length is None else f" of {length} values"
        raise LayoutError("the value is no such list", f"Give a list{many}", column, value=value)
    return value


def joined(*texts: Any) -> str:
    """The texts that are not blank, with a blank line between them."""
    return "\n\n".join(str(text) for text in texts if not is_blank(text))


def dense_ranks(values: Iterable[float]) -> list[int]:
    """Ranks from 1 for the lowest value; equal values share a rank, and no rank is left out."""
    values = list(values)
    places = {value: place for place, value in enumerate(sorted(set(values)), 1)}
    return [places[value] for value in values]
