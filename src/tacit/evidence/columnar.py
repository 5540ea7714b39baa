"""Rows of Parquet and Arrow files, which were checked before they are used.

An Arrow file says where its values begin and end, and pyarrow believes it: a file with one flipped bit makes it read
outside its memory, and the process dies. Every batch is therefore validated in full (offsets in order and within their
buffers, dictionary indices within the dictionary, UTF-8) before a value of it is looked at. Parquet is decoded into
fresh buffers, and is validated all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tacit.errors import EvidenceError

_ROWS = 8192


def parquet_rows(path: Path, size: int) -> Iterator[list[dict[str, Any]]]:
    """Lists of up to `size` rows of a Parquet file.

    Raises `EvidenceError` where the file is missing, cut off, damaged, of another type, or names a column twice.
    """
    import pyarrow
    import pyarrow.parquet

    with _whole("a Parquet", path), pyarrow.parquet.ParquetFile(path) as file:
        yield from _rows(path, file.iter_batches(batch_size=_ROWS), size)


def arrow_rows(path: Path, size: int) -> Iterator[list[dict[str, Any]]]:
    """Lists of up to `size` rows of an Arrow file: a stream, as `datasets` writes it, or with a footer (Feather).

    Raises `EvidenceError` as `parquet_rows` does.
    """
    import pyarrow

    with _whole("an Arrow", path), pyarrow.memory_map(str(path)) as memory:
        try:
            reader = pyarrow.ipc.open_stream(memory)
            batches: Iterable[Any] = reader
        except pyarrow.ArrowInvalid:
            memory.seek(0)
            file = pyarrow.ipc.open_file(memory)
            batches = (file.get_batch(i) for i in range(file.num_record_batches))
        yield from _rows(path, batches, size)


@contextmanager
def _whole(kind: str, path: Path) -> Iterator[None]:
    """Turn what pyarrow says of a file that is cut off, damaged or of another type into one error."""
    import pyarrow

    try:
        yield
    except FileNotFoundError as error:
        raise EvidenceError("there is no such file", mend="Write or download it again", source=str(path)) from error
    except PermissionError as error:
        raise EvidenceError(
            "the file cannot be opened (permission denied)", mend="Give a file that can be read", source=str(path)
        ) from error
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise EvidenceError(
            f"not {kind} file, or not a whole one ({reason})", mend="Write or download it again", source=str(path)
        ) from error


def _rows(path: Path, batches: Iterable[Any], size: int) -> Iterator[list[dict[str, Any]]]:
    row = 1
    for batch in batches:
        names = batch.schema.names
        if repeated := [name for name in names if names.count(name) > 1]:
            raise EvidenceError(
                "two columns have one name", mend="Rename one", source=str(path), column=repeated[0] or '""'
            )
        _validate(path, batch, row)
        for start in range(0, batch.num_rows, size):
            part = batch.slice(start, size)
            try:
                values = part.to_pylist()
            except (ValueError, OverflowError, TypeError):  # ArrowInvalid is a ValueError
                values = _rows_by_column(path, part, row)
            yield values
            row += len(values)


def _validate(path: Path, batch: Any, row: int) -> None:
    import pyarrow

    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            column.validate(full=True)
        except pyarrow.ArrowInvalid as error:
            reason = str(error).splitlines()[0].removeprefix("Invalid: ").rstrip(".")
            text = "the text is not UTF-8" if "UTF8" in reason else f"the file is damaged ({reason})"
            raise EvidenceError(
                f"{text}, in one of {batch.num_rows} rows from this one on",
                mend="Write or download it again",
                source=str(path),
                row=row,
                column=name,
            ) from error


def _rows_by_column(path: Path, batch: Any, row: int) -> list[dict[str, Any]]:
    """Rows of a batch in which some column holds what Python cannot: those columns as text.

    Dates beyond the year 9999, times of nanoseconds without pandas, unknown time zones. Raises `EvidenceError` for a
    column that has no text either, such as a struct that names a field twice.
    """
    columns = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            columns.append(column.to_pylist())
        except (ValueError, OverflowError, TypeError) as error:
            try:
                columns.append(_as_text(column))
            except (ValueError, OverflowError, TypeError, NotImplementedError):
                raise EvidenceError(
                    f"values of type {column.type} that cannot be read ({str(error).splitlines()[0]})",
                    mend="Write the column as text, or leave it out",
                    source=str(path),
                    row=row,
                    column=name,
                ) from error
    return [dict(zip(batch.schema.names, values, strict=True)) for values in zip(*columns, strict=True)]


def _as_text(column: Any) -> list[str | None]:
    import pyarrow

    if pyarrow.types.is_timestamp(column.type) and column.type.tz is not None:
        column = column.cast(pyarrow.timestamp(column.type.unit))  # the same instant, in UTC
    texts: list[str | None] = column.cast(pyarrow.string()).to_pylist()
    return texts
