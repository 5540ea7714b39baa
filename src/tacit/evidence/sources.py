"""Files, folders and hub datasets as batches of raw rows.

Everything streams: no source holds more than one batch of rows (and one block of the file) in memory. Rows are
numbered as an editor shows them: JSON lines and CSV by line of the file, from 1 (a CSV header is row 1; a record that
spans lines has the number of its first); JSON arrays, JSON objects that span lines (in .json files: an export of a tool
is one such object), the rows inside such an object (`{"exported": ..., "data": [...]}`), Parquet and Arrow by record,
from 1.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast

from pydantic_core import from_json

from tacit.errors import EvidenceError, MissingExtra
from tacit.evidence.bounded import BLOCK, LONGEST, LineTooLong, open_text
from tacit.evidence.names import is_judged, words
from tacit.evidence.prompts import prompt_columns

BATCH = 256
_NESTED = 100
"""Brackets of one row from which on it is looked at for its depth."""
_TEXT = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
_SUFFIXES = (*_TEXT, ".parquet", ".arrow", ".feather")
_LISTED = words(
    """
    completions responses generations outputs candidates labels ranks continuations votes score scores ratings
    rewards instances annotations data items reward_model summaries messages conversations history tools
    """
)
"""Columns of tables whose cells are JSON lists or objects, if they look like them."""
_AROUND = words(
    "chats conversations data dialogs dialogues entries examples items records rows samples sessions threads"
)
"""Names of a list that holds the rows of a file which is one object."""
_READABLE = (
    "Give JSON lines, a JSON array, CSV, TSV (each also as .gz), Parquet, an Arrow or `datasets` folder, or hub:NAME"
)


@dataclass
class RawBatch:
    """Rows of one source: `values[i]` is row `rows[i]`; rows that could not be parsed are in `faults` instead."""

    source: str
    rows: list[int] = field(default_factory=list)
    values: list[dict[str, Any]] = field(default_factory=list)
    faults: list[EvidenceError] = field(default_factory=list)

    def add(self, row: int, value: Any) -> None:
        """Add a parsed row; anything but an object is a fault."""
        if isinstance(value, dict):
            self.rows.append(row)
            self.values.append(value)
        else:
            mend = 'Each row must be an object such as {"prompt": ..., "chosen": ..., "rejected": ...}'
            self.faults.append(
                EvidenceError("the row is not an object", mend=mend, source=self.source, row=row, value=value)
            )


def raw_batches(source: str | Path) -> Iterator[RawBatch]:
    """Batches of the raw rows of a file, a folder or `hub:owner/name[/config][:split]`.

    Raises `EvidenceError` where the source does not exist, is empty, is damaged or is of no known type, and
    `MissingExtra` for hub ids where the package `datasets` is absent.
    """
    if str(source).startswith("hub:"):
        yield from _hub(str(source))
        return
    for path in _files(Path(source)):
        try:
            yield from _reader(path)(path)
        except UnicodeDecodeError as error:
            raise _not_utf8(path) from error
        except LineTooLong as error:
            raise _too_long(path) from error
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise EvidenceError(
                f"the compressed file is damaged ({error})", mend="Compress or download it again", source=str(path)
            ) from error


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise EvidenceError("there is no such file or folder", mend="Check the path", source=str(path))
    if (path / "dataset_dict.json").is_file():
        splits = _listed(path / "dataset_dict.json", "splits")
        name = "train" if "train" in splits else splits[0] if len(splits) == 1 else None
        if name is None:
            raise EvidenceError(
                f"the folder holds the splits {', '.join(splits)}",
                mend=f"Give one, as {path / splits[0]}",
                source=str(path),
            )
        return _files(path / name)
    if (path / "state.json").is_file():
        return [path / name for name in _listed(path / "state.json", "_data_files", "filename")]
    found = sorted(p for p in path.rglob("*") if p.is_file() and _suffix(p) in _SUFFIXES and p.name[0] not in "._")
    types = {_suffix(p) for p in found}
    if not found:
        raise EvidenceError("the folder holds no data file", mend=_READABLE, source=str(path))
    if len(types) > 1:
        raise EvidenceError(
            f"the folder mixes {', '.join(sorted(types))} files", mend="Name one of the files instead", source=str(path)
        )
    return found


def _listed(path: Path, key: str, name: str | None = None) -> list[str]:
    """The names that a file which `datasets` wrote beside its data lists under `key`, each under `name`; never none."""
    try:
        listed = [str(part[name] if name else part) for part in from_json(path.read_bytes())[key]]
        if not listed:
            raise ValueError(f"`{key}` lists nothing")
    except (ValueError, KeyError, TypeError) as error:
        raise EvidenceError(
            f"not as `datasets` writes it ({type(error).__name__}: {error})",
            mend="Save the folder again with `save_to_disk`, or name the data file itself",
            source=str(path),
        ) from error
    return listed


def _suffix(path: Path) -> str:
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()


def _reader(path: Path) -> Callable[[Path], Iterator[RawBatch]]:
    match _suffix(path):
        case ".csv" | ".tsv":
            return _table
        case ".jsonl" | ".ndjson" | ".json":
            return _json
        case ".parquet" | ".arrow" | ".feather":
            return _columns
        case ".npy" | ".npz" | ".safetensors":
            return _arrays
        case "":
            raise EvidenceError("the name has no ending that tells the type of file", mend=_READABLE, source=str(path))
        case other:
            raise EvidenceError(f"files of type `{other}` cannot be read", mend=_READABLE, source=str(path))


def _arrays(path: Path) -> Iterator[RawBatch]:
    from tacit.evidence.reward_arrays import reward_rows

    numbered = reward_rows(path)
    while block := list(islice(numbered, BATCH)):
        batch = RawBatch(str(path))
        for row, value in block:
            if isinstance(value, EvidenceError):
                batch.faults.append(value)
            else:
                batch.add(row, value)
        yield batch


def _empty(path: Path) -> EvidenceError:
    return EvidenceError("the file is empty", mend="It needs at least one record", source=str(path))


def _not_utf8(path: Path, row: int | None = None) -> EvidenceError:
    """Names the row, which is the first line that does not decode unless it is given."""
    if row is None and _suffix(path) in _TEXT:
        with suppress(EOFError, OSError, zlib.error, LineTooLong), open_text(path) as file:
            row = next((number for number, line in enumerate(file, 1) if not _is_utf8(line)), None)
    return EvidenceError("the text is not UTF-8", mend="Save the file as UTF-8", source=str(path), row=row)


def _require_utf8(path: Path, start: bytes) -> None:
    """Raise where a text file begins as UTF-16 or UTF-32 do: with their mark, or with a zero in its first letters."""
    if start.startswith((b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")) or b"\0" in start[:2]:
        raise EvidenceError("the text is UTF-16 or UTF-32", mend="Save the file as UTF-8", source=str(path))


def _too_long(path: Path, row: int | None = None) -> EvidenceError:
    return EvidenceError(
        f"a row is longer than {LONGEST >> 20} MB",
        mend="End each row with a line break, and close every quote and bracket",
        source=str(path),
        row=row,
    )


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


# --- JSON ---


def _json(path: Path) -> Iterator[RawBatch]:
    with open_text(path, bounded=False) as file:
        _require_utf8(path, file.peek(4)[:4])
        start = file.read(BLOCK).removeprefix(b"\xef\xbb\xbf").lstrip()
        while not start and (block := file.read(BLOCK)):
            start = block.lstrip()
    if not start:
        raise _empty(path)
    first = start.split(b"\n", 1)[0].strip()
    array, whole = first.startswith(b"["), _suffix(path) == ".json"
    batches = _json_values(path, array=array) if array or (whole and not first.endswith(b"}")) else _json_lines(path)
    yield from _rows_inside(batches) if whole and not array else batches


def _rows_inside(batches: Iterator[RawBatch]) -> Iterator[RawBatch]:
    """The rows of a file that is one object around a list of them, as {"exported": ..., "conversations": [...]}."""
    first = [batch for batch in islice(batches, 2) if batch.rows or batch.faults]
    rows = _around(first[0].values[0]) if [len(batch.values) for batch in first] == [1] and not first[0].faults else []
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        yield RawBatch(first[0].source, list(range(start + 1, start + 1 + len(part))), part)
    if not rows:
        yield from chain(first, batches)


def _around(document: dict[str, Any]) -> list[Any]:
    """The rows in the only list of an object; none where it says itself what was asked or how good an answer is."""
    lists = [name for name, value in document.items() if isinstance(value, list | dict) and value]
    if len(lists) != 1 or lists[0].lower() not in _AROUND:
        return []
    beside = {name: value for name, value in document.items() if name not in lists}
    rows = document[lists[0]]
    if prompt_columns(list(beside)) or is_judged(beside) or not isinstance(rows, list):
        return []
    messages = any(not isinstance(row, dict) or not row.keys().isdisjoint(("role", "from")) for row in rows)
    return [] if messages else rows


def _json_lines(path: Path) -> Iterator[RawBatch]:
    with open_text(path) as file:
        numbered = enumerate(file, 1)
        while block := list(islice(numbered, BATCH)):
            try:
                values = [from_json(line, cache_strings="keys") for _, line in block]
            except ValueError:
                values = []
            if values and all(type(value) is dict for value in values):
                yield RawBatch(str(path), [row for row, _ in block], values)
                continue
            batch = RawBatch(str(path))
            for row, line in block:
                text = line.strip()
                if row == 1:
                    text = text.removeprefix(b"\xef\xbb\xbf")
                if not text:
                    continue
                try:
                    value = from_json(text, cache_strings="keys")
                except ValueError as error:
                    broken = _broken(path, row, error, text.decode("utf-8", "replace"))
                    batch.faults.append(broken if _is_utf8(text) else _not_utf8(path, row))
                else:
                    batch.add(row, value)
            yield batch


def _json_values(path: Path, *, array: bool) -> Iterator[RawBatch]:
    """Elements of a JSON array, or objects that span lines, decoded one at a time from a sliding buffer."""
    decoder = json.JSONDecoder()
    with open_text(path, bounded=False) as binary, io.TextIOWrapper(binary, encoding="utf-8-sig") as file:
        buffer = file.read(BLOCK).lstrip()
        while not buffer and (more := file.read(BLOCK)):
            buffer = more.lstrip()
        buffer, row, batch = buffer[array:], 0, RawBatch(str(path))
        position, block, ended = 0, BLOCK, False
        while True:
            position = _skip(buffer, position, " \t\r\n" + ("," if row and array else ""))
            if buffer.startswith("]", position) if array else ended and position == len(buffer):
                break
            start = position
            try:
                value, position = decoder.raw_decode(buffer, position)
                value = _strict(buffer[start:position], value)
            except json.JSONDecodeError as error:
                if len(buffer) - position > LONGEST:
                    raise _too_long(path, row + 1) from error
                if ended or (error.pos < len(buffer) - 16 and not error.msg.startswith("Unterminated")):
                    batch.faults.append(_broken(path, row + 1, error, buffer[error.pos : error.pos + 60]))
                    break
                more = file.read(block)
                buffer, position, block, ended = buffer[position:] + more, 0, block * 2, not more
                continue
            except (ValueError, RecursionError) as error:  # what `from_json` refuses, too many digits, too deep
                batch.faults.append(_broken(path, row + 1, error, buffer[start : start + 60]))
                break
            row, block = row + 1, BLOCK
            batch.add(row, value)
            if len(batch.rows) >= BATCH:
                yield batch
                batch = RawBatch(str(path))
            if position > BLOCK:
                buffer, position = buffer[position:], 0
        yield batch


def _strict(text: str, value: Any) -> Any:
    """The value of a text of JSON as lines of it are read, where the two parsers may differ.

    Raises `ValueError` for lists and objects nested too deep, and for half of a surrogate pair.
    """
    if "\\ud" in text or "\\uD" in text or text.count("[") + text.count("{") > _NESTED:
        return from_json(text)
    return value


def _skip(text: str, position: int, skipped: str) -> int:
    while position < len(text) and text[position] in skipped:
        position += 1
    return position


def _broken(path: Path, row: int, error: Exception, text: str) -> EvidenceError:
    mend = "Fix or delete this row; each must be one complete JSON object"
    return EvidenceError(f"broken JSON ({error})", mend=mend, source=str(path), row=row, value=text)


# --- tables ---


def _table(path: Path) -> Iterator[RawBatch]:
    csv.field_size_limit(LONGEST)
    with open_text(path) as binary, io.TextIOWrapper(binary, encoding="utf-8-sig", newline="") as file:
        _require_utf8(path, binary.peek(4)[:4])
        first, blank = file.readline(), 0
        while first and not first.strip():
            first, blank = file.readline(), blank + 1
        if not first:
            raise _empty(path)
        delimiter = "\t" if _suffix(path) == ".tsv" or ("\t" in first and "," not in first) else ","
        if delimiter == "," and "," not in first and ";" in first:
            delimiter = ";"
        reader = csv.reader(chain([first], file), delimiter=delimiter, strict=True)
        try:
            header = next(reader)
        except csv.Error as error:
            raise _broken_quotes(path, blank + 1, error) from error
        if repeated := [name for name in header if header.count(name) > 1]:
            raise EvidenceError(
                "the header names a column twice",
                mend="Rename one",
                source=str(path),
                row=blank + 1,
                column=repeated[0] or '""',
            )
        batch, row = RawBatch(str(path)), blank + reader.line_num + 1
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                break
            except csv.Error as error:
                batch.faults.append(_broken_quotes(path, row, error))
                cells = []
            if cells and len(cells) != len(header):
                batch.faults.append(
                    EvidenceError(
                        f"{len(cells)} cells under {len(header)} columns",
                        mend="Give each row one cell per column; quote cells that hold the delimiter or a line break",
                        source=str(path),
                        row=row,
                        value=delimiter.join(cells),
                    )
                )
            elif cells:
                batch.add(row, {name: _cell(name, cell) for name, cell in zip(header, cells, strict=True)})
            row = blank + reader.line_num + 1
            if len(batch.rows) + len(batch.faults) >= BATCH:
                yield batch
                batch = RawBatch(str(path))
        yield batch


def _broken_quotes(path: Path, row: int, error: csv.Error) -> EvidenceError:
    if "field larger" in str(error):
        return _too_long(path, row)
    return EvidenceError(
        f"broken quotes ({error})",
        mend='Write a quote inside a quoted cell twice (""), or give JSON lines',
        source=str(path),
        row=row,
    )


def _cell(name: str, cell: str) -> Any:
    """A cell as it stands: a text, also where it happens to be JSON, which an answer may be.

    Lists and objects are read where only they can be meant: in the columns of `_LISTED`, and lists of messages.
    """
    if cell[:1] in ("[", "{") and cell[-1:] in ("]", "}"):
        try:
            value = from_json(cell)
        except ValueError:
            return cell
        plain = name.strip().lower()
        if plain in _LISTED or (isinstance(value, list) and value and all(map(_is_message, value))):
            return value
    return cell


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and ("role" in value or {"from", "value"} <= value.keys())


# --- columns ---


def _columns(path: Path) -> Iterator[RawBatch]:
    from tacit.evidence.columnar import arrow_rows, parquet_rows

    row = 1
    for values in (parquet_rows if _suffix(path) == ".parquet" else arrow_rows)(path, BATCH):
        yield RawBatch(str(path), list(range(row, row + len(values))), values)
        row += len(values)


def _hub(source: str) -> Iterator[RawBatch]:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtra("hub", f"reading {source}") from error
    name, _, split = source.removeprefix("hub:").partition(":")
    parts = name.split("/")
    if not all(parts):
        raise EvidenceError("no dataset is named", mend="Give hub:owner/name[/config][:split]", source=source)
    try:
        stream = datasets.load_dataset("/".join(parts[:2]), *parts[2:3], split=split or "train", streaming=True)
        numbered = enumerate(cast(Iterable[dict[str, Any]], stream), 1)
        while block := list(islice(numbered, BATCH)):
            yield RawBatch(source, [row for row, _ in block], [value for _, value in block])
    except (OSError, ValueError) as error:
        raise EvidenceError(
            f"the hub dataset cannot be read ({str(error).splitlines()[0]})",
            mend="Give it as hub:owner/name[/config][:split], and check the connection",
            source=source,
        ) from error


def from_values(values: Sequence[Any], source: str) -> Iterator[RawBatch]:
    """Batches of rows that are in memory already, numbered from 1."""
    for start in range(0, len(values), BATCH):
        batch = RawBatch(source)
        for row, value in enumerate(values[start : start + BATCH], start + 1):
            batch.add(row, value)
        yield batch
