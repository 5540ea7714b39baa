"""What layouts of published data share: known codings, blank cells, texts of a prompt, ranks from numbers.

A number names a side only by the coding of a layout, so that each layout gives its own table and everything outside it
is refused with the values that would be right.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, TypeVar

from tacit.evidence.layout import LayoutError

T = TypeVar("T")


def is_blank(value: Any) -> bool:
    """Whether a cell says nothing: null, NaN, an empty text or one of spaces."""
    return (
        value is None
        or (isinstance(value, float) and math.isnan(value))
        or (isinstance(value, str) and not value.strip())
    )


def coded(value: Any, codes: Mapping[Any, T], column: str) -> T | None:
    """What a value means by the table of its layout; None for a blank cell.

    Numbers are equal to their text ("1" from a CSV file, 1, 1.0), words are compared without case. `True` is no number:
    it stands in the table itself or is refused. Raises `LayoutError` for a value that is not in the table.
    """
    if is_blank(value):
        return None
    known = {_key(code): meaning for code, meaning in codes.items()}
    key = _key(value)
    if key not in known:
        listed = [str(code).lower() if isinstance(code, bool) else str(code) for code in codes]
        right = " or ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed)
        raise LayoutError("the value is none of this layout's", f"It must be {right}", column, value=value)
    return known[key]


def _key(value: Any) -> Hashable:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return float(value)
    if not isinstance(value, str):
        return repr(value)
    text = value.strip().lower()
    try:
        return float(text)
    except ValueError:
        return text


def number(value: Any, column: str, right: str, low: float = -math.inf, high: float = math.inf) -> float | None:
    """A finite number between two bounds; None for a blank cell. `right` says what the column must hold."""
    if is_blank(value):
        return None
    try:
        read = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        read = math.nan
    if not (math.isfinite(read) and low <= read <= high):
        raise LayoutError("the value is none of this layout's", f"It must be {right}", column, value=value)
    return read


def joined(*texts: Any) -> str:
    """The texts that are not blank, with a blank line between them."""
    return "\n\n".join(str(text) for text in texts if not is_blank(text))


def dense_ranks(values: Iterable[float]) -> list[int]:
    """Ranks from 1 for the lowest value; equal values share a rank, and no rank is left out."""
    listed = list(values)
    places = {value: place for place, value in enumerate(sorted(set(listed)), 1)}
    return [places[value] for value in listed]
