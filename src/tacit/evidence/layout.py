"""What a layout of rows is, and what layouts share: rows without columns, pairs of answers, rows that do not fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import from_json

from tacit.errors import EvidenceError
from tacit.evidence.records import Kind

Row = Mapping[str, Any]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Layout:
    """A named shape of rows: the columns that recognise it, and how a row becomes zero or more records.

    `requires` are columns that every row has, `uses` further ones that are read where they are there, and so are
    columns whose names pass `reads`; every other column is kept beside the record and named as unused. `fits` looks at
    the first row, and raises `LayoutError` for one that is known and cannot be read. `records` maps a row to records
    (as mappings; the reader validates them), or raises `LayoutError`; without it rows are records already. Batches of
    rows that are all `native` are records as they stand and are not mapped. `roles` says what columns became. With
    `ids` the answers are ids of texts, which must be given too (`--items`). `known` are the columns of the first rows
    where these alone decided how rows are read: a further column of which `is_late` says so is a fault.
    """

    name: str
    kind: Kind
    requires: frozenset[str]
    fits: Callable[[Row], bool]
    records: Callable[[Row], Rows] | None
    uses: frozenset[str] = frozenset()
    native: Callable[[Row], bool] | None = None
    roles: Mapping[str, str] = field(default_factory=dict)
    reads: Callable[[str], bool] = lambda name: False
    ids: bool = False
    known: frozenset[str] | None = None
    is_late: Callable[[str], bool] = lambda name: False


def layout(
    name: str,
    kind: Kind,
    columns: str,
    records: Callable[[Row], Rows] | None = None,
    fits: Callable[[Row], bool] = lambda row: True,
    *,
    uses: str = "",
    reads: Callable[[str], bool] = lambda name: False,
    ids: bool = False,
) -> Layout:
    """A layout with its columns as words of one text."""
    requires, used = frozenset(columns.split()), frozenset(uses.split())
    return Layout(name, kind, requires, fits, records, used, reads=reads, ids=ids)


class LayoutError(Exception):
    """A row that its layout cannot turn into records; the reader adds file and row."""

    def __init__(self, reason: str, mend: str, column: str | None = None, **value: Any) -> None:
        super().__init__(reason)
        self.reason, self.mend, self.column, self.value = reason, mend, column, value

    def at(self, source: str, row: int) -> EvidenceError:
        """The error that names the place."""
        return EvidenceError(self.reason, mend=self.mend, source=source, row=row, column=self.column, **self.value)


def without(row: Row, *columns: str) -> dict[str, Any]:
    """The row without these columns."""
    return {name: value for name, value in row.items() if name not in columns}


def nested(value: Any) -> Any:
    """A list or an object as it stands, or the one that a JSON text holds (CSV cells); anything else as it stands."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    try:
        return from_json(value)
    except ValueError:
        return value


def each(row: Row, column: str, function: Callable[[Row], Rows]) -> Rows:
    """The records that a function makes of every object of the list in a column.

    Raises `LayoutError` where the column has no list of objects, and where one of them does not have the shape, whose
    position it names.
    """
    items = nested(row[column])
    if not isinstance(items, list):
        raise LayoutError(
            f"`{column}` is not a list", "Export it again, or give one object a line", column, value=items
        )
    records: Rows = []
    for position, item in enumerate(items):
        try:
            if not isinstance(item, Mapping):
                raise LayoutError("not an object", "Export it again", column, value=item)
            records.extend(function(item))
        except LayoutError as misfit:
            reason = f"{misfit.reason} (in `{column}[{position}]`)"
            raise LayoutError(reason, misfit.mend, misfit.column, **misfit.value) from misfit
        except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
            reason = f"`{column}[{position}]` does not have the shape of the others ({type(error).__name__}: {error})"
            raise LayoutError(reason, "Compare it with the others, and fix or delete it", column) from error
    return records


def is_messages(value: Any) -> bool:
    """Whether a value is a list of {role, ...} messages."""
    return isinstance(value, list) and bool(value) and all(isinstance(m, Mapping) and "role" in m for m in value)


def pair_of(beside: Mapping[str, Any], first: Any, second: Any, share: float, *, shown: bool = False) -> dict[str, Any]:
    """A comparison of two answers, where `share` is 1 if the first one won, 0 if the second did, 0.5 for a tie.

    A tie keeps the first one as chosen. With `shown` the first one stood left (or on top) before the person, and
    `chosen_first` keeps whether it was chosen.
    """
    chosen, rejected = (first, second) if share >= 0.5 else (second, first)
    position = {"chosen_first": share >= 0.5} if shown and beside.get("chosen_first") is None else {}
    return {**beside, "chosen": chosen, "rejected": rejected, "tie": share == 0.5, **position}
