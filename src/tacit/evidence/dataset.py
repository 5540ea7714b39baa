"""Evidence: a lazy, re-iterable stream of validated records.

Rows become records in batches: one parse, one layout function and one pydantic validation per batch of `BATCH` rows, so
that a file of any length is read in constant memory. Iterating again reads again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tacit.errors import EvidenceError
from tacit.evidence.advice import listed
from tacit.evidence.judgements import Meaning
from tacit.evidence.layout import Layout, LayoutError
from tacit.evidence.layouts import export_of, general_layout
from tacit.evidence.paths import root_of
from tacit.evidence.records import KINDS, Kind, Record
from tacit.evidence.source_columns import Request
from tacit.evidence.sources import RawBatch, from_values
from tacit.evidence.survey import Values, survey
from tacit.evidence.unread import inner_values
from tacit.evidence.unrecognised import unrecognised
from tacit.evidence.validation import Chunk, Transform, chunk_of, renamed, unread_records
from tacit.evidence.vocabulary import union

_PEEK = 100
_GENERAL = ("outcome", "answers", "records")
"""Layouts of outcomes in which a column `criterion` is the user's own."""


@dataclass(frozen=True)
class Columns:
    """What became of the columns of a source: those `read`, with what they became, and those `unused`.

    Unused columns are kept beside each record.
    """

    read: Mapping[str, str] = field(default_factory=dict)
    unused: Sequence[str] = ()


class Evidence:
    """Records of one kind, read as they are needed.

    `kind` is the kind of every record, `source` where they come from, `layout` the shape that was recognised and
    `dropped` how many records a split left out because they belong to both sides. Iterating raises `EvidenceError` at
    the first row that is not such a record; `tacit.evidence.check` lists all of them. With `skip_broken` they are left
    out instead. After a full pass `broken` counts these rows, `skipped` those that nobody judged, and `unread` the
    records with images or other parts that are no text. `columns` says what became of the columns.
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
        columns: Columns = Columns(),
        skip_broken: bool = False,
    ) -> None:
        self.kind: Kind = kind
        self.source, self.layout, self.dropped = source, layout, dropped
        self.columns, self.skip_broken = columns, skip_broken
        self.broken = self.unread = self.skipped = 0
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
            records = [chunk.records[i] for i in picked]
            yield Chunk(
                [chunk.rows[i] for i in picked],
                records,
                chunk.faults,
                unread=unread_records(records) if chunk.unread else 0,
            )
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
        return Evidence(
            self.kind,
            self.source,
            self.layout,
            self._chunks,
            positions=positions,
            dropped=dropped,
            columns=self.columns,
            skip_broken=self.skip_broken,
        )

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
        count = broken = unread = skipped = 0
        criterion: tuple[int, Any] | None = None
        for chunk in self.scan():
            if chunk.faults and not self.skip_broken:
                raise min(chunk.faults, key=lambda fault: fault.row or 0)
            if self.kind == "outcome" and self.layout not in _GENERAL and chunk.records:
                criterion = self._one_criterion(chunk, criterion)
            count += len(chunk.records)
            broken += len(chunk.faults)
            unread += chunk.unread
            skipped += chunk.skipped
            yield chunk
        self._count, self.broken, self.unread, self.skipped = count, broken, unread, skipped

    def _one_criterion(self, chunk: Chunk, first: tuple[int, Any] | None) -> tuple[int, Any] | None:
        """The row and the name of the criterion that all outcomes are judged by, where an export names one."""
        for row, record in zip(chunk.rows, chunk.records, strict=True):
            name = (record.model_extra or {}).get("criterion")
            if name is None or (first is not None and name == first[1]):
                continue
            if first is not None:
                raise EvidenceError(
                    f"answers are judged by `{name}` here and by `{first[1]}` in row {first[0]}",
                    mend="Keep the rows of one of them in the file, or read them as attributes with --kind rating",
                    source=self.source,
                    row=row,
                )
            first = row, name
        return first

    @property
    def notes(self) -> list[str]:
        """What was left out of the records, as sentences: after a full pass."""
        notes = []
        if self.broken:
            notes.append(f"{self.source}: {self.broken} broken rows are left out")
        if self.skipped:
            notes.append(f"{self.source}: {self.skipped} rows that nobody judged are left out")
        if self.unread:
            notes.append(f"{self.source}: {self.unread} records hold images or other parts that are no text; not read")
        return notes


def from_raw(
    batches: Callable[[], Iterator[RawBatch]],
    source: str,
    *,
    kind: Kind | None = None,
    columns: Mapping[str, str] | None = None,
    transform: Transform | None = None,
    labels: Mapping[str, Meaning] | None = None,
    verdict: Mapping[str, float | None] | None = None,
    ignore: Sequence[str] = (),
    skip_broken: bool = False,
    judged: bool = True,
) -> Evidence:
    """Evidence over batches of raw rows: recognise the layout, then map and validate lazily.

    `columns` names columns of the source for ours, as {"chosen": "better"}; `transform` is applied to each mapped
    record; `labels`, `verdict`, `ignore`, `skip_broken` and `judged` are as in `tacit.evidence.read`.
    """
    renames = {theirs: ours for ours, theirs in (columns or {}).items()}
    theirs = {ours: name for name, ours in renames.items()}
    ignore = _whole_or_split(ignore, batches())
    peek = _first_rows(batches(), source, renames, ignore)

    def values_of(names: Iterable[str], wanted: Callable[[Values], bool]) -> Mapping[str, Values]:
        return survey(batches(), names, wanted, lambda row: renamed(row, renames))

    request = Request(
        source,
        values_of,
        kind,
        labels or {},
        verdict or {},
        tuple(ignore),
        tuple(renames.values()),
        transform is not None,
        judged,
        theirs=theirs,
        inner=lambda texts: inner_values(batches(), {theirs.get(name, name) for name in texts}, ignore),
    )
    layout = _recognised(peek, request)
    _require_effect(layout, renames, request)
    fields = KINDS[layout.kind].model_fields
    left_out = [name for name in ignore if name in fields]
    names = dict.fromkeys(name for _, row in peek for name in row)
    known = layout.requires | layout.uses | fields.keys()
    taken = {name for name in names if name in known or layout.reads(name)}
    read = {theirs.get(name, name): layout.roles.get(name, name) for name in names if name in taken}
    unused = [name for name in names if name not in taken]
    return Evidence(
        layout.kind,
        source,
        layout.name,
        lambda: (chunk_of(batch, layout, renames, left_out, transform) for batch in batches()),
        columns=Columns(read, unused),
        skip_broken=skip_broken,
    )


def _first_rows(
    batches: Iterator[RawBatch], source: str, renames: Mapping[str, str], ignore: Sequence[str]
) -> list[tuple[int, dict[str, Any]]]:
    """The first rows with their numbers, renamed. Raises `EvidenceError` where there is none."""
    fault: EvidenceError | None = None
    for batch in batches:
        rows = list(zip(batch.rows[:_PEEK], batch.values[:_PEEK], strict=True))
        if rows:
            _present([*renames, *ignore], renames, union([value for _, value in rows]), batch.source, rows[0][0])
        fault = fault or next(iter(batch.faults), None)
        if rows:
            return [(row, renamed(value, renames)) for row, value in rows]
    raise fault or EvidenceError("there are no records", mend="It needs at least one", source=source)


def _whole_or_split(names: Sequence[str], batches: Iterator[RawBatch]) -> tuple[str, ...]:
    """Names of columns, several of them in one text where commas part them and no column has that name."""
    if not any("," in name for name in names):
        return tuple(names)
    columns = next((batch.values[0].keys() for batch in batches if batch.values), ())
    return tuple(part for name in names for part in ([name] if name in columns else name.split(",")))


def _recognised(peek: Sequence[tuple[int, dict[str, Any]]], request: Request) -> Layout:
    rows = [value for _, value in peek]
    for row, value in peek:
        try:
            layout = export_of(value, request)
            if layout is None and value is rows[0]:
                layout = general_layout(rows, request)
        except LayoutError as refusal:
            raise refusal.at(request.source, row) from refusal
        if layout is not None:
            return layout
    reason, mend = unrecognised(union(rows), request)
    raise EvidenceError(reason, mend=mend, source=request.source, row=peek[0][0])


def _require_effect(layout: Layout, renames: Mapping[str, str], request: Request) -> None:
    """Raise where a flag said how to read something that the rows are not read by."""
    known = layout.requires | layout.uses | KINDS[layout.kind].model_fields.keys()
    for theirs, ours in renames.items():
        if ours not in known:
            raise EvidenceError(
                f"--columns {ours}={theirs} has no effect: the rows are read as kind {layout.kind} (layout"
                f" {layout.name}), which has no `{ours}`",
                mend=f"It reads {', '.join(f'`{name}`' for name in sorted(known))}",
                source=request.source,
            )
    if request.labels and layout.name not in ("outcome", "rating"):
        raise EvidenceError(
            f"--labels has no effect: the rows are read as kind {layout.kind} (layout {layout.name})",
            mend="Name the column that judges an answer with --columns label=COLUMN",
            source=request.source,
        )
    if request.verdict and layout.name != "two_sided":
        raise EvidenceError(
            f"--verdict has no effect: the rows are read as kind {layout.kind} (layout {layout.name})",
            mend="Name the two answers and the verdict with --columns response_a=... response_b=... winner=...",
            source=request.source,
        )


def _present(names: Iterable[str], renames: Mapping[str, str], value: Mapping[str, Any], source: str, row: int) -> None:
    for name in names:
        if name not in value and root_of(value, name) is None:
            what = f"to read as `{renames[name]}`" if name in renames else "to ignore"
            raise EvidenceError(
                f"there is no column `{name}` {what}",
                mend=f"The columns are {listed(value)}",
                source=source,
                row=row,
                column=name,
            )
        if name in renames and renames[name] in value and renames[name] not in renames and renames[name] != name:
            raise EvidenceError(
                f"--columns {renames[name]}={name} would hide the column `{renames[name]}` that the file has too",
                mend="Rename it in the file, or name it for what it is with --columns as well",
                source=source,
                row=row,
                column=renames[name],
            )
