"""Evidence: a lazy, re-iterable stream of validated records.

Rows become records in batches: one parse, one layout function and one pydantic validation per batch of `BATCH` rows, so
that a file of any length is read in constant memory. Iterating again reads again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from tacit.errors import EvidenceError
from tacit.evidence.layout import Layout, LayoutError
from tacit.evidence.layouts import detect
from tacit.evidence.records import KINDS, Kind, Record
from tacit.evidence.sources import RawBatch, from_values

Transform = Callable[[dict[str, Any]], dict[str, Any]]

_PEEK = 100
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

    `skipped` counts rows that are in order and give no record (such as a comparison nobody voted on).
    """

    rows: list[int] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    faults: list[EvidenceError] = field(default_factory=list)
    skipped: int = 0


class Evidence:
    """Records of one kind, read as they are needed.

    `kind` is the kind of every record, `source` where they come from, `layout` the shape that was recognised and
    `dropped` how many records a split left out because they belong to both sides. Iterating raises `EvidenceError` at
    the first row that is not such a record; `tacit.evidence.check` lists all of them.
    """

    def __init__(
        self,
        kind: Kind,
        source: str,
        layout: str,
        chunks: Callable[[], Iterator[Chunk]],
        *,
        positions: npt.NDArray[np.int64] | None = None,
        count: int | None = None,
        dropped: int = 0,
    ) -> None:
        self.kind: Kind = kind
        self.source, self.layout, self.dropped = source, layout, dropped
        self._chunks, self._positions = chunks, positions
        self._count = count if positions is None else len(positions)

    def __repr__(self) -> str:
        count = "" if self._count is None else f", {self._count} records"
        return f"Evidence({self.kind} from {self.source}, layout {self.layout}{count})"

    def scan(self) -> Iterator[Chunk]:
        """Chunks of records with the faults beside them instead of raised."""
        if self._positions is None:
            yield from self._chunks()
            return
        start = taken = 0
        for chunk in self._chunks():
            end = start + len(chunk.records)
            stop = int(np.searchsorted(self._positions, end))
            picked = (self._positions[taken:stop] - start).tolist()
            yield Chunk([chunk.rows[i] for i in picked], [chunk.records[i] for i in picked], chunk.faults)
            start, taken = end, stop
            if taken == len(self._positions):
                return
        raise EvidenceError(
            f"record {int(self._positions[taken]) + 1} was selected and there are {start}",
            mend="The file changed since it was split or selected: read it again",
            source=self.source,
        )

    def __iter__(self) -> Iterator[Record]:
        for chunk in self.sound():
            yield from chunk.records

    def rows(self) -> Iterator[tuple[int, Record]]:
        """(row, record) pairs, where row is the number that an error about this record would name."""
        for chunk in self.sound():
            yield from zip(chunk.rows, chunk.records, strict=True)

    def batches(self, size: int = 8192) -> Iterator[list[Record]]:
        """Lists of `size` records (the last may be shorter)."""
        if size < 1:
            raise ValueError(f"size must be at least 1 (found {size})")
        held: list[Record] = []
        for chunk in self.sound():
            held.extend(chunk.records)
            whole = len(held) - len(held) % size
            for start in range(0, whole, size):
                yield held[start : start + size]
            del held[:whole]
        if held:
            yield held

    def __len__(self) -> int:
        if self._count is None:
            for _ in self.sound():
                pass
        return self._count or 0

    def __bool__(self) -> bool:
        return next(iter(self), None) is not None

    def select(self, keep: npt.NDArray[Any] | Sequence[int] | Sequence[bool], *, dropped: int = 0) -> Evidence:
        """The records at some positions (0 = first record), still lazy.

        `keep` is a boolean mask over all records, shape (n,), or strictly increasing positions. Raises `ValueError` for
        a mask of another length, positions out of order and positions out of range.
        """
        chosen = np.asarray(keep)
        if chosen.dtype == bool:
            if len(chosen) != len(self):
                raise ValueError(f"the mask has {len(chosen)} entries for {len(self)} records")
            chosen = np.flatnonzero(chosen)
        chosen = chosen.astype(np.int64)
        if len(chosen) and (np.any(np.diff(chosen) <= 0) or chosen[0] < 0):
            raise ValueError("positions must be strictly increasing and not negative")
        if len(chosen) and chosen[-1] >= len(self):
            raise ValueError(f"position {chosen[-1]} is out of range for {len(self)} records")
        positions = chosen if self._positions is None else self._positions[chosen]
        return Evidence(self.kind, self.source, self.layout, self._chunks, positions=positions, dropped=dropped)

    @classmethod
    def from_records(
        cls, records: Iterable[Record | Mapping[str, Any]], kind: Kind | None = None, source: str = "memory"
    ) -> Evidence:
        """Evidence over records in memory, or over mappings in any layout that files may have.

        Raises `EvidenceError` where there is none, where kinds are mixed, and as files do.
        """
        listed = list(records)
        if not listed:
            raise EvidenceError("there are no records", mend="Give at least one", source=source)
        if isinstance(listed[0], Record):
            expected = KINDS[kind] if kind else type(listed[0])
            for row, record in enumerate(listed, 1):
                if type(record) is not expected:
                    raise EvidenceError(
                        f"records of several kinds: {type(record).__name__} among {expected.__name__}",
                        mend="Give each kind its own evidence",
                        source=source,
                        row=row,
                    )
            found = next(name for name, model in KINDS.items() if model is expected)
            whole = Chunk(list(range(1, len(listed) + 1)), [r for r in listed if isinstance(r, Record)])
            return cls(found, source, "records", lambda: iter([whole]), count=len(listed))
        values = [dict(record) for record in listed]
        return from_raw(lambda: from_values(values, source), source, kind=kind)

    def sound(self) -> Iterator[Chunk]:
        """Chunks of records; raises at the first chunk with a fault. A full pass also counts the records."""
        count = 0
        for chunk in self.scan():
            if chunk.faults:
                raise min(chunk.faults, key=lambda fault: fault.row or 0)
            count += len(chunk.records)
            yield chunk
        self._count = count


def from_raw(
    batches: Callable[[], Iterator[RawBatch]],
    source: str,
    *,
    kind: Kind | None = None,
    columns: Mapping[str, str] | None = None,
    transform: Transform | None = None,
) -> Evidence:
    """Evidence over batches of raw rows: recognise the layout from the first rows, then map and validate lazily.

    `columns` names columns of the source for ours, as {"chosen": "better"}; `transform` is applied to each mapped
    record.
    """
    renames = {theirs: ours for ours, theirs in (columns or {}).items()}
    layout, aliases = _recognise(batches(), source, kind, renames)
    renames |= aliases
    return Evidence(
        layout.kind,
        source,
        layout.name,
        lambda: (_chunk(batch, layout, renames, transform) for batch in batches()),
    )


def _recognise(
    batches: Iterator[RawBatch], source: str, kind: Kind | None, renames: Mapping[str, str]
) -> tuple[Layout, dict[str, str]]:
    first: tuple[int, dict[str, Any]] | None = None
    fault: EvidenceError | None = None
    for batch in batches:
        for row, value in zip(batch.rows[:_PEEK], batch.values[:_PEEK], strict=True):
            _present(renames, value, batch.source, row)
            renamed = _rename(value, renames)
            first = first or (row, renamed)
            if found := detect(renamed, kind):
                return found
        fault = fault or next(iter(batch.faults), None)
        if batch.values:
            break
    if first is None:
        raise fault or EvidenceError("there are no records", mend="It needs at least one", source=source)
    row, value = first
    wanted = f" as kind {kind}" if kind else ""
    raise EvidenceError(
        f"the columns {', '.join(f'`{name}`' for name in value) or '(none)'} are no layout that is known{wanted}",
        mend="Name them with --columns (columns= in Python), as chosen=better,rejected=worse; comparisons need"
        " `prompt`, `chosen`, `rejected`, other kinds are listed in the guide",
        source=source,
        row=row,
    )


def _present(renames: Mapping[str, str], value: Mapping[str, Any], source: str, row: int) -> None:
    for theirs, ours in renames.items():
        if theirs not in value:
            raise EvidenceError(
                f"there is no column `{theirs}` to read as `{ours}`",
                mend=f"The columns are {', '.join(f'`{name}`' for name in value)}",
                source=source,
                row=row,
                column=theirs,
            )


def _rename(row: dict[str, Any], renames: Mapping[str, str]) -> dict[str, Any]:
    return {renames.get(name, name): value for name, value in row.items()} if renames else row


def _chunk(batch: RawBatch, layout: Layout, renames: Mapping[str, str], transform: Transform | None) -> Chunk:
    rows, values, faults, skipped = batch.rows, batch.values, list(batch.faults), 0
    if renames:
        values = [_rename(value, renames) for value in values]
    mapped = bool(
        layout.records or transform or ("prompt" in layout.requires and any("prompt" not in v for v in values))
    )
    if mapped:
        rows, values, skipped = _mapped(batch.source, rows, values, layout, transform, faults)
    records: list[Record] = []
    try:
        records = _adapter(layout.kind).validate_python(values)
    except ValidationError:
        if not mapped:
            rows, values, skipped = _mapped(batch.source, rows, values, layout, transform, faults)
        rows, records = _one_by_one(batch.source, rows, values, layout.kind, faults)
    return Chunk(rows, records, faults, skipped)


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
    other = detect(value)
    if other and other[0].kind != layout.kind:
        reason = f"a row of kind {other[0].kind} in a file of kind {layout.kind}"
        return LayoutError(reason, "Keep each kind in its own file", sorted(missing)[0])
    columns = ", ".join(f"`{name}`" for name in value) or "none"
    return LayoutError("the column is missing", f"Every row needs it; this one has {columns}", sorted(missing)[0])


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
            (cell is None and name in _DEFAULTED)
            or (cell == "" and name in fields and not fields[name].is_required() and name != "prompt")
        )
    }


def _fault(source: str, row: int, value: Mapping[str, Any], problem: Mapping[str, Any]) -> EvidenceError:
    location = problem["loc"][1:]
    if not location:
        reason = str(problem["msg"]).removeprefix("Value error, ")
        return EvidenceError(reason, mend="Mend or delete this row", source=source, row=row)
    column = str(location[0])
    if problem["type"] == "missing":
        columns = ", ".join(f"`{name}`" for name in value)
        mend = f"Every row needs it; this one has {columns}"
        return EvidenceError("the column is missing", mend=mend, source=source, row=row, column=column)
    right = f"It must be {_RIGHT.get(column, 'of another type')}"
    return EvidenceError("wrong value", mend=right, source=source, row=row, column=column, value=value.get(column))
