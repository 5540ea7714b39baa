"""`read`: any file, folder or hub dataset of preferences as evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tacit.errors import EvidenceError
from tacit.evidence.dataset import Evidence, from_raw
from tacit.evidence.layout import LayoutError
from tacit.evidence.records import Kind
from tacit.evidence.sources import raw_batches


def read(
    source: str | Path,
    *,
    kind: Kind | None = None,
    columns: Mapping[str, str] | None = None,
    items: str | Path | Mapping[str, str] | None = None,
) -> Evidence:
    """Read what people preferred; the layout is recognised by its columns, the file type by its name.

    Parameters
    ----------
    source
        A file (JSON lines, JSON array, CSV, TSV, each also as .gz; Parquet; Arrow), a folder of one type of them, a
        folder that `datasets.save_to_disk` wrote, or `hub:owner/name[/config][:split]` (split `train` unless given;
        needs the extra `hub`).
    kind
        Needed only where a layout can be read in several ways (UltraFeedback as ratings or rankings, ...).
    columns
        Columns of the source under other names: ours to theirs, as `{"chosen": "better", "rejected": "worse"}`.
    items
        For tables of ids (`winner, loser` = 17, 4): the texts behind them, as a mapping or as a file with columns `id`
        and `text`. Held in memory.

    Returns
    -------
    Evidence, which reads lazily: a broken row raises when it is reached, with file, row, column and value.

    Raises
    ------
    EvidenceError
        Where the source is missing, empty, damaged or of no layout that is known.
    MissingExtra
        For `hub:` without the package `datasets`.
    """
    transform = None if items is None else _lookup(_texts(items))
    return from_raw(lambda: raw_batches(source), str(source), kind=kind, columns=columns, transform=transform)


def read_rows(source: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row, columns) of any readable source as they stand, whatever their layout; raises at a row that is not one."""
    for batch in raw_batches(source):
        if batch.faults:
            raise batch.faults[0]
        yield from zip(batch.rows, batch.values, strict=True)


def _texts(items: str | Path | Mapping[str, str]) -> Mapping[str, str]:
    if isinstance(items, Mapping):
        return items
    texts: dict[str, str] = {}
    for row, value in read_rows(items):
        for column in ("id", "text"):
            if column not in value:
                raise EvidenceError(
                    "the column is missing",
                    mend="A file of items needs the columns `id` and `text`",
                    source=str(items),
                    row=row,
                    column=column,
                )
        texts[str(value["id"])] = value["text"]
    return texts


def _lookup(texts: Mapping[str, str]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def text(column: str, item: Any) -> str:
        try:
            return texts[str(item)]
        except KeyError:
            raise LayoutError(
                "no item has this id", "Add it to the items, or delete the row", column, value=item
            ) from None

    def transform(record: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {
            column: text(column, record[column]) for column in ("chosen", "rejected", "completion") if column in record
        }
        if isinstance(record.get("completions"), list):
            found["completions"] = [text("completions", item) for item in record["completions"]]
        return {**record, **found, "items": {column: record[column] for column in found}}

    return transform
