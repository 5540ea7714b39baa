"""Rows out: JSON lines, CSV, TSV or Parquet by the file's ending, streamed, and in place only when all are written."""

from __future__ import annotations

import csv
import gzip
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

from tacit.artefacts import atomic_file
from tacit.errors import EvidenceError, TacitError

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
    and TSV a list or an object is JSON text, as `tacit.read` expects; Parquet keeps it nested. Memory does not grow
    with rows: tables are spooled as JSON lines beside `path` first, since their columns are known only at the end.

    Raises `TacitError` for an unknown ending, before anything is computed, and `EvidenceError` where a Parquet column
    would mix types.
    """
    kind = ending(path)
    with atomic_file(path) as finished:
        if kind.startswith(".jsonl"):
            with _open(finished, "wt", packed=kind.endswith(".gz")) as file:
                yield lambda rows: file.writelines(_line(row) for row in rows)
            return
        with tempfile.TemporaryDirectory(prefix=f".{finished.name}.", dir=finished.parent) as folder:
            spool, columns = Path(folder) / "rows.jsonl", dict[str, None]()
            with _open(spool, "wt") as file:

                def write(rows: Sequence[Row]) -> None:
                    for row in rows:
                        columns.update(dict.fromkeys(row))
                        file.write(_line(row))

                yield write
            if kind == ".parquet":
                _to_parquet(spool, finished, list(columns), str(path))
            else:
                _to_table(spool, finished, list(columns), kind)


def _line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def _open(path: Path, mode: str, *, packed: bool = False) -> IO[str]:
    if packed:
        return cast(IO[str], gzip.open(path, mode, encoding="utf-8", newline="", compresslevel=6))
    return cast(IO[str], path.open(mode, encoding="utf-8", newline=""))


def _spooled(spool: Path) -> Iterator[list[dict[str, Any]]]:
    with _open(spool, "rt") as file:
        while lines := list(islice(file, _BATCH)):
            yield [json.loads(line) for line in lines]


def _to_table(spool: Path, target: Path, columns: list[str], kind: str) -> None:
    with _open(target, "wt", packed=kind.endswith(".gz")) as file:
        delimiter = "\t" if kind.startswith(".tsv") else ","
        plain = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        quoted = csv.writer(file, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
        for cells in chain([columns], _cells(spool, columns)):
            # A bare carriage return ends a line for readers, and csv leaves it unquoted when it writes "\n".
            (quoted if any(isinstance(cell, str) and "\r" in cell for cell in cells) else plain).writerow(cells)


def _cells(spool: Path, columns: list[str]) -> Iterator[list[Any]]:
    for rows in _spooled(spool):
        yield from ([_cell(row.get(column)) for column in columns] for row in rows)


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _to_parquet(spool: Path, target: Path, columns: list[str], shown: str) -> None:
    import pyarrow
    import pyarrow.parquet

    try:
        schema = pyarrow.schema([])
        for rows in _spooled(spool):
            schema = pyarrow.unify_schemas([schema, _schema(rows, columns)], promote_options="permissive")
        with pyarrow.parquet.ParquetWriter(target, schema) as writer:
            for rows in _spooled(spool):
                writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise EvidenceError(
            f"a Parquet column holds one type, and here types mix ({reason})",
            mend="Write JSON lines instead: end --out in .jsonl",
            source=shown,
        ) from error


def _schema(rows: list[dict[str, Any]], columns: list[str]) -> Any:
    import pyarrow

    return pyarrow.schema([(name, pyarrow.array([row.get(name) for row in rows]).type) for name in columns])
