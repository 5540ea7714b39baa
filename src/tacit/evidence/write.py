"""Rows out: JSON lines, CSV, TSV or Parquet by the file's ending, streamed, and in place only when all are written."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, TypeAlias

from tacit.artefacts import atomic_file, shown, workspace
from tacit.errors import EvidenceError, TacitError
from tacit.evidence.cells import cell, json_line, json_value, packed, safe_text, unpacked

Row: TypeAlias = Mapping[str, Any]

ENDINGS = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
_BATCH = 4096


def ending(path: str | Path) -> str:
    """The ending that says how rows are written; raises `TacitError` where it is none of `ENDINGS`."""
    name = Path(path).name.lower()
    for known in sorted(ENDINGS, key=len, reverse=True):
        if name.endswith(known) and name != known:
            return known
    raise TacitError(f"{path}: rows cannot be written as this type of file. End it in {', '.join(ENDINGS)}")


@contextmanager
def row_writer(path: str | Path) -> Iterator[Callable[[Sequence[Row]], None]]:
    """Yield a function that takes batches of rows; `path` appears when the block ends well, and not otherwise.

    Rows need not have the same columns: a table gets the union, in order of first appearance, and empty cells. In CSV
    and TSV a list or an object is JSON text, as `tacit.read` expects; Parquet keeps it nested. `tacit.evidence.cells`
    says how timestamps, bytes, decimals and the like are written. Memory does not grow with rows: tables are spooled
    beside `path` first, since their columns are known only at the end.

    Raises `TacitError` for an unknown ending, before anything is computed, and `EvidenceError` as soon as a Parquet
    column mixes types.
    """
    kind = ending(path)
    with atomic_file(path) as finished:
        if kind.startswith(".jsonl"):
            with _open(finished, "wt", packed=kind.endswith(".gz")) as file:
                yield lambda rows: file.writelines(json_line(row) for row in rows)
            return
        with workspace(finished) as scratch:
            spool, columns = scratch / "rows", dict[str, None]()
            types = _Types(str(shown(finished))) if kind == ".parquet" else None
            with _open(spool, "wt") as file:

                def write(rows: Sequence[Row]) -> None:
                    lines = [packed(row) for row in rows]
                    for row in rows:
                        columns.update(dict.fromkeys(row))
                    if types is not None:
                        types.add([unpacked(line, whole=True) for line in lines])
                    file.writelines(lines)

                yield write
            if types is not None:
                _to_parquet(spool, finished, types)
            else:
                _to_table(spool, finished, list(columns), kind)


def _open(path: Path, mode: str, *, packed: bool = False) -> AbstractContextManager[IO[str]]:
    return _packed(path) if packed else path.open(mode, encoding="utf-8", errors="backslashreplace", newline="")


@contextmanager
def _packed(path: Path) -> Iterator[IO[str]]:
    """A .gz file for writing, without a name and a time inside: equal rows are equal bytes."""
    with (
        path.open("wb") as file,
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as zipped,
        io.TextIOWrapper(zipped, encoding="utf-8", errors="backslashreplace", newline="") as text,
    ):
        yield text


def _spooled(spool: Path, *, whole: bool = False) -> Iterator[list[dict[str, Any]]]:
    with _open(spool, "rt") as file:
        while lines := list(islice(file, _BATCH)):
            yield [unpacked(line, whole=whole) for line in lines]


def _to_table(spool: Path, target: Path, columns: list[str], kind: str) -> None:
    with _open(target, "wt", packed=kind.endswith(".gz")) as file:
        delimiter = "\t" if kind.startswith(".tsv") else ","
        plain = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        quoted = csv.writer(file, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
        header = [safe_text(column) for column in columns]
        rows = (row for batch in _spooled(spool) for row in batch)
        for cells in chain([header], ([cell(row.get(column)) for column in columns] for row in rows)):
            # A bare carriage return ends a line for readers, and csv leaves it unquoted when it writes "\n".
            (quoted if any(isinstance(one, str) and "\r" in one for one in cells) else plain).writerow(cells)


# --- Parquet ----------------------------------------------------------------------------------------------------------


class _Types:
    """The type of each column, which grows with the rows."""

    def __init__(self, source: str) -> None:
        import pyarrow

        self.source, self.schema = source, pyarrow.schema([])

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Take in the types of rows; raises `EvidenceError` where a column would mix them."""
        import pyarrow

        for name in dict.fromkeys(name for row in rows for name in row):
            try:
                kind = _type_of([row.get(name) for row in rows])
                self.schema = pyarrow.unify_schemas(
                    [self.schema, pyarrow.schema([(name, kind)])], promote_options="permissive"
                )
            except (pyarrow.ArrowException, OverflowError, ValueError) as error:
                reason = str(error).splitlines()[0].rstrip(".")
                raise EvidenceError(
                    f"a Parquet column holds one type, and here types mix ({reason})",
                    mend="Write JSON lines instead: end --out in .jsonl",
                    source=self.source,
                    column=name,
                ) from error

    def finished(self) -> tuple[Any, list[str]]:
        """The schema, and the columns that are JSON text in it: of objects without keys, which Parquet has not."""
        import pyarrow

        texts = [field.name for field in self.schema if _is_hollow(field.type)]
        fields = [pyarrow.field(f.name, pyarrow.string() if f.name in texts else f.type) for f in self.schema]
        return pyarrow.schema(fields), texts


def _type_of(values: list[Any]) -> Any:
    import pyarrow

    try:
        return pyarrow.array(values).type
    except pyarrow.ArrowException:
        pairs = [pair for value in values if value is not None for pair in value] if _is_maps(values) else []
        if not pairs:
            raise
        return pyarrow.map_(pyarrow.array([key for key, _ in pairs]).type, pyarrow.array([v for _, v in pairs]).type)


def _is_maps(values: list[Any]) -> bool:
    """Whether all values are maps as Arrow gives them: lists of keys with their values."""
    return all(
        value is None
        or (
            isinstance(value, list)
            and all(isinstance(p, list) and len(p) == 2 and isinstance(p[0], str) for p in value)
        )
        for value in values
    )


def _is_hollow(kind: Any) -> bool:
    import pyarrow.types

    if pyarrow.types.is_struct(kind):
        return kind.num_fields == 0 or any(_is_hollow(field.type) for field in kind)
    return pyarrow.types.is_list(kind) and _is_hollow(kind.value_type)


def _to_parquet(spool: Path, target: Path, types: _Types) -> None:
    import pyarrow.parquet

    schema, texts = types.finished()
    maps = [field.name for field in schema if pyarrow.types.is_map(field.type)]
    with pyarrow.parquet.ParquetWriter(target, schema) as writer:
        for rows in _spooled(spool, whole=True):
            for row in rows:
                for name in (name for name in texts if row.get(name) is not None):
                    row[name] = json.dumps(json_value(row[name]), ensure_ascii=False)
                for name in (name for name in maps if row.get(name) is not None):
                    row[name] = [(key, value) for key, value in row[name]]
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
