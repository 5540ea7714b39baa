"""`read`: any file, folder or hub dataset of preferences as evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tacit.errors import EvidenceError, TacitError
from tacit.evidence.dataset import Evidence, from_raw
from tacit.evidence.judgements import LABEL_MEANINGS, parse_codes
from tacit.evidence.layout import LayoutError
from tacit.evidence.prompts import with_prompt
from tacit.evidence.records import Kind
from tacit.evidence.sources import raw_batches
from tacit.evidence.survey import token
from tacit.evidence.verdicts import VERDICT_MEANINGS


def read(
    source: str | Path,
    *,
    kind: Kind | None = None,
    columns: Mapping[str, str] | None = None,
    labels: Mapping[str, Any] | Sequence[str] = (),
    verdict: Mapping[str, Any] | Sequence[str] = (),
    ignore: Sequence[str] = (),
    items: str | Path | Mapping[str, str] | None = None,
    item_columns: Mapping[str, str] | None = None,
    skip_broken: bool = False,
    judged: bool = True,
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
    labels
        What values of a judgement of one answer mean, as `["ok=good", "poor=bad", "none=blank"]` or a mapping; numbers
        in place of good and bad make ratings. Every other value is read by the tables of `tacit.evidence.values`.
    verdict
        What values of a verdict between two answers mean: first, second, tie or blank, as `["0=first", "1=second"]`.
    ignore
        Columns that do not judge although they look like it; they stay beside the records.
    items
        For tables of ids (`winner, loser` = 17, 4): the texts behind them, as a mapping or as a file with columns `id`
        and `text`. Held in memory.
    item_columns
        These two columns under other names, as `{"id": "joke_id", "text": "joke"}`.
    skip_broken
        Leave out rows that cannot be read instead of raising; `Evidence.broken` counts them after a full pass.
    judged
        Without it single answers are read to be scored, whatever judges them; their judgement stays beside the record.

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
    if item_columns and (items is None or isinstance(items, Mapping)):
        raise TacitError("--item-columns names columns of a file of texts. Give the file with --items")
    transform = None if items is None else _lookup(item_texts(items, item_columns or {}))
    return from_raw(
        lambda: raw_batches(source),
        str(source),
        kind=kind,
        columns=columns,
        transform=transform,
        labels=parse_codes("--labels", labels, LABEL_MEANINGS, numbers=True),
        verdict=parse_codes("--verdict", verdict, VERDICT_MEANINGS, numbers=False),
        ignore=ignore,
        skip_broken=skip_broken,
        judged=judged,
    )


def read_rows(source: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row, columns) of any readable source as they stand, whatever their layout; raises at a row that is not one."""
    for batch in raw_batches(source):
        if batch.faults:
            raise batch.faults[0]
        yield from zip(batch.rows, batch.values, strict=True)


def prompted_rows(source: str | Path, columns: Mapping[str, str] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row, columns) of any readable source, with the whole prompt (system text, input, context, ...) in `prompt`.

    `columns` are as in `read`. Rows without any column of a prompt have none. Raises `EvidenceError` at a row that
    cannot be read.
    """
    renames = {theirs: ours for ours, theirs in (columns or {}).items()}
    for row, value in read_rows(source):
        if missing := renames.keys() - value.keys():
            raise EvidenceError(
                f"there is no column `{min(missing)}` to read as `{renames[min(missing)]}`",
                mend=f"The columns are {', '.join(f'`{name}`' for name in value)}",
                source=str(source),
                row=row,
                column=min(missing),
            )
        try:
            yield row, with_prompt({renames.get(name, name): cell for name, cell in value.items()})
        except LayoutError as error:
            raise error.at(str(source), row) from None


def item_texts(items: str | Path | Mapping[str, str], names: Mapping[str, str]) -> Mapping[str, str]:
    """Texts by their ids, as `read` takes them for `items` and `item_columns`."""
    if isinstance(items, Mapping):
        return items
    if unknown := names.keys() - {"id", "text"}:
        raise TacitError(f"--item-columns {min(unknown)}=...: texts have an `id` and a `text`. Name one of these")
    identifier, text = names.get("id", "id"), names.get("text", "text")
    texts: dict[str, str] = {}
    for row, value in read_rows(items):
        for column in (identifier, text):
            if column not in value:
                raise EvidenceError(
                    "the column is missing",
                    mend="A file of texts needs the columns `id` and `text`; name others with --item-columns"
                    f" id=... text=... This one has {', '.join(f'`{name}`' for name in value)}",
                    source=str(items),
                    row=row,
                    column=column,
                )
        key = token(value[identifier])
        if key is None:
            continue
        if texts.setdefault(key, value[text]) != value[text]:
            raise EvidenceError(
                "the id stands for two texts", mend="Give each text an id of its own", source=str(items), row=row,
                column=identifier, value=value[identifier],
            )  # fmt: skip
    return texts


def _lookup(texts: Mapping[str, str]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def text(column: str, item: Any) -> str:
        try:
            return texts[item] if item in texts else texts[token(item) or ""]
        except (KeyError, TypeError):
            raise LayoutError(
                "no item has this id", "Add it to the items, or delete the row", column, value=item
            ) from None

    def transform(record: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {
            column: text(column, record[column]) for column in ("chosen", "rejected", "completion") if column in record
        }
        if isinstance(record.get("completions"), list):
            found["completions"] = [text("completions", item) for item in record["completions"]]
        beside = {column: record[column] for column in found if record[column] != found[column]}
        return {**record, **found, **({"items": beside} if beside else {})}

    return transform
