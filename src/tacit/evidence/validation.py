"""Rows to validated records: mapping by a layout, one pydantic validation a batch, and what is left as faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tacit.conversation import unread_parts
from tacit.errors import EvidenceError
from tacit.evidence.layout import Layout, LayoutError, without
from tacit.evidence.paths import at, root_of
from tacit.evidence.records import KINDS, Kind, Record
from tacit.evidence.sources import RawBatch

Transform = Callable[[dict[str, Any]], dict[str, Any]]

_DEFAULTED = ("tie", "weight")
_RIGHT = {
    "prompt": "a text or a list of {role, content} messages",
    "rejected_prompt": "a text or a list of {role, content} messages",
    "chosen": "a text or a list of {role, content} messages",
    "rejected": "a text or a list of {role, content} messages",
    "completion": "a text or a list of {role, content} messages",
    "completions": "a list of texts, at least two for a ranking",
    "tie": "true or false",
    "label": "true or false",
    "labels": "a list of true or false",
    "margin": "a finite number up to 1e15",
    "weight": "a finite number, not negative, up to 1e15",
    "score": "a finite number up to 1e15, or one for each attribute as {attribute: number}",
    "ranks": "a list of whole numbers from 1 (the best)",
    "annotator": "a name or a whole number",
    "group": "a name or a whole number",
    "answer": "a text",
    "checker": "a text",
    "template": "a text",
}


@dataclass
class Chunk:
    """Some consecutive records: `records[i]` came from row `rows[i]`; rows that are not records are in `faults`.

    `skipped` counts rows that are in order and give no record (such as a comparison nobody voted on), `unread` records
    with parts that are no text.
    """

    rows: list[int] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    faults: list[EvidenceError] = field(default_factory=list)
    skipped: int = 0
    unread: int = 0


def renamed(row: dict[str, Any], renames: Mapping[str, str]) -> dict[str, Any]:
    """A row under other names (theirs to ours), which may be paths into its objects."""
    if not renames:
        return row
    taken = {renames.get(name, name): value for name, value in row.items()}
    return taken | {ours: at(row, path) for path, ours in renames.items() if path not in row and root_of(row, path)}


def chunk_of(
    batch: RawBatch,
    layout: Layout,
    renames: Mapping[str, str],
    left_out: Sequence[str],
    transform: Transform | None,
) -> Chunk:
    """The records of a batch of raw rows, and its faults; `left_out` are columns that a flag ignores."""
    rows, values, faults, skipped = batch.rows, batch.values, list(batch.faults), 0
    if renames:
        values = [renamed(value, renames) for value in values]
    if left_out:
        values = [without(value, *left_out) for value in values]
    if layout.known is not None and not layout.known.issuperset(chain.from_iterable(values)):
        rows, values = _without_late(batch.source, rows, values, layout, faults)
    native = layout.native is not None and transform is None and all(map(layout.native, values))
    mapped = bool(transform) or (layout.records is not None and not native)
    if mapped:
        rows, values, skipped = _mapped(batch.source, rows, values, layout, transform, faults)
    records: list[Record] = []
    try:
        records = _adapter(layout.kind).validate_python(values)
    except ValidationError:
        if not mapped:
            rows, values, skipped = _mapped(batch.source, rows, values, layout, transform, faults)
        rows, records = _one_by_one(batch.source, rows, values, layout.kind, faults)
    return Chunk(rows, records, faults, skipped, 0 if native else unread_records(records))


def _without_late(
    source: str, rows: list[int], values: list[dict[str, Any]], layout: Layout, faults: list[EvidenceError]
) -> tuple[list[int], list[dict[str, Any]]]:
    """The rows without those that have a column which the first rows lack, and which would have been read."""
    known = layout.known or frozenset()
    late = [next(filter(layout.is_late, value.keys() - known), None) for value in values]
    for row, value, name in zip(rows, values, late, strict=True):
        if name is not None:
            reason = "the column is in none of the first rows, by which the file is read"
            mend = "Give it to one of the first 100 rows too (null where it says nothing), or leave it out of all"
            faults.append(EvidenceError(reason, mend=mend, source=source, row=row, column=name, value=value[name]))
    sound = [i for i, name in enumerate(late) if name is None]
    return [rows[i] for i in sound], [values[i] for i in sound]


def unread_records(records: Sequence[Record]) -> int:
    """How many records have a part that is no text."""
    names = ("prompt", "chosen", "rejected", "completion")
    return sum(any(unread_parts(getattr(record, name, None)) for name in names) for record in records)


@cache
def _adapter(kind: Kind) -> TypeAdapter[list[Record]]:
    return TypeAdapter(list[KINDS[kind]])  # type: ignore[valid-type]


def _mapped(
    source: str,
    rows: list[int],
    values: list[dict[str, Any]],
    layout: Layout,
    transform: Transform | None,
    faults: list[EvidenceError],
) -> tuple[list[int], list[dict[str, Any]], int]:
    mapped_rows: list[int] = []
    mapped: list[dict[str, Any]] = []
    skipped = 0
    for row, value in zip(rows, values, strict=True):
        try:
            if missing := layout.requires - value.keys():
                raise _missing(missing, value, layout)
            records = layout.records(value) if layout.records else [value]
            records = [transform(record) for record in records] if transform else records
        except LayoutError as misfit:
            faults.append(misfit.at(source, row))
            continue
        except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
            reason = f"the row does not have the shape of layout {layout.name} ({type(error).__name__}: {error})"
            mend = "Compare it with the first rows of the file, and mend or delete it"
            faults.append(EvidenceError(reason, mend=mend, source=source, row=row))
            continue
        skipped += not records
        mapped_rows.extend([row] * len(records))
        mapped.extend(records)
    return mapped_rows, mapped, skipped


def _missing(missing: frozenset[str], value: Mapping[str, Any], layout: Layout) -> LayoutError:
    other = _kind_of(value)
    if other is not None and other != layout.kind:
        reason = f"a row of kind {other} in a file of kind {layout.kind}"
        return LayoutError(reason, "Keep each kind in its own file", sorted(missing)[0])
    columns = ", ".join(f"`{name}`" for name in value) or "none"
    return LayoutError("the column is missing", f"Every row needs it; this one has {columns}", sorted(missing)[0])


def _kind_of(value: Mapping[str, Any]) -> Kind | None:
    """The kind whose own columns a row has."""
    for kind, model in KINDS.items():
        needed = {name for name, field in model.model_fields.items() if field.is_required()}
        if needed <= value.keys() and (kind != "demonstration" or not {"label", "score"} & value.keys()):
            return kind
    return None


def _one_by_one(
    source: str, rows: list[int], values: list[dict[str, Any]], kind: Kind, faults: list[EvidenceError]
) -> tuple[list[int], list[Record]]:
    """Validate again without the nulls and empty cells that stand for a default, and turn what remains into faults."""
    values = [_without_blanks(value, kind) for value in values]
    try:
        return rows, _adapter(kind).validate_python(values)
    except ValidationError as error:
        bad: dict[int, list[Any]] = {}
        for problem in error.errors(include_url=False, include_input=False, include_context=False):
            bad.setdefault(int(problem["loc"][0]), []).append(problem)
    faults.extend(_fault(source, rows[i], values[i], problems[0]) for i, problems in bad.items())
    good = [i for i in range(len(values)) if i not in bad]
    return [rows[i] for i in good], _adapter(kind).validate_python([values[i] for i in good])


def _without_blanks(value: dict[str, Any], kind: Kind) -> dict[str, Any]:
    fields = KINDS[kind].model_fields
    return {
        name: cell
        for name, cell in value.items()
        if not (
            ((cell is None or cell != cell) and name in (*_DEFAULTED, "margin"))
            or (cell == "" and name in fields and not fields[name].is_required() and name != "prompt")
        )
    }


def _fault(source: str, row: int, value: Mapping[str, Any], problem: Mapping[str, Any]) -> EvidenceError:
    location = problem["loc"][1:]
    if not location:
        reason = str(problem["msg"]).removeprefix("Value error, ")
        return EvidenceError(reason, mend="Fix or delete this row", source=source, row=row)
    column = str(location[0])
    if problem["type"] == "missing":
        columns = ", ".join(f"`{name}`" for name in value)
        mend = f"Every row needs it; this one has {columns}"
        return EvidenceError("the column is missing", mend=mend, source=source, row=row, column=column)
    right = f"It must be {_RIGHT.get(column, 'of another type')}"
    return EvidenceError("wrong value", mend=right, source=source, row=row, column=column, value=value.get(column))
