"""Small evidence of every kind, and every file format that it can be written in."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

Rows = list[Any]
FORMATS = (
    "jsonl", "json", "csv", "tsv", "jsonl.gz", "json.gz", "csv.gz", "parquet", "arrow", "feather", "ndjson",
)  # fmt: skip
COUNT = 24


class Raw(str):
    """JSON as it shall stand in the file, whether or not it is any: numbers of 5,000 digits, lists without an end."""


def comparisons() -> Rows:
    """Preferences for thanks over shouting, by three people; two of them are ties."""
    rng = random.Random(0)
    return [
        {
            "prompt": f"question {i % 8}",
            "chosen": f"thank you, {rng.randint(1, 99)} minutes",
            "rejected": f"NO WAY, {rng.randint(1, 99)} MINUTES",
            "tie": i % 12 == 5,
            "weight": 1.0 + i % 2,
            "annotator": f"person {i % 3}",
            "chosen_first": i % 2 == 0,
            "source": "made up",
        }
        for i in range(COUNT)
    ]


def _good(i: int) -> bool:
    """Whether answer `i` is a good one: each of the 8 prompts has good ones and bad ones."""
    return (i + i // 8) % 2 == 1


def _completions() -> list[dict[str, Any]]:
    return [
        {"prompt": row["prompt"], "completion": row["chosen" if _good(i) else "rejected"]}
        for i, row in enumerate(comparisons())
    ]


def _messages(row: Mapping[str, Any], side: str) -> list[dict[str, Any]]:
    question = {"role": "user", "content": row["prompt"]}
    return [question, {"role": "assistant", "content": [{"type": "text", "text": row[side]}]}]


def _ranking(row: Mapping[str, Any]) -> dict[str, Any]:
    completions = [row["chosen"], row["rejected"], "thank you"]
    return {"prompt": row["prompt"], "completions": completions, "ranks": [1, 3, 2]}


DOCUMENTS: dict[str, Rows] = {
    "comparisons": comparisons(),
    "conversations": [{"chosen": _messages(r, "chosen"), "rejected": _messages(r, "rejected")} for r in comparisons()],
    "transcripts": [
        {side: f"\n\nHuman: {row['prompt']}\n\nAssistant: {row[side]}" for side in ("chosen", "rejected")}
        for row in comparisons()
    ],
    "verdicts": [
        {"prompt": r["prompt"], "response_a": r["chosen"], "response_b": r["rejected"], "winner": "response_a"}
        for r in comparisons()
    ],
    "outcomes": [{**row, "label": _good(i)} for i, row in enumerate(_completions())],
    "ratings": [{**row, "score": float(_good(i)) + i / 100} for i, row in enumerate(_completions())],
    "attributes": [{**row, "score": {"kind": i % 2, "short": i % 3}} for i, row in enumerate(_completions())],
    "rankings": [_ranking(row) for row in comparisons()],
    "steps": [
        {"prompt": r["prompt"], "completions": [r["chosen"], r["rejected"]], "labels": [True, i % 2 == 0]}
        for i, r in enumerate(comparisons())
    ],
    "demonstrations": [{"prompt": r["prompt"], "completion": r["chosen"]} for r in comparisons()],
    "problems": [{"prompt": f"How much is {i} + {i}?", "answer": str(2 * i)} for i in range(COUNT)],
    "ids": [{"winner": i, "loser": 20 + i} for i in range(12)],
    "items": [{"id": i, "text": f"thanks {i}" if i < 20 else f"NO {i}"} for i in range(40)],
    "prompts": [{"prompt": f"question {i}"} for i in range(6)],
    "candidates": [
        {"prompt": f"q{i}", "completions": ["thank you", f"NO {i}", "thanks", "go away"], "gold": [2.0, 0.5, 1.5, 0.0]}
        for i in range(8)
    ],
    "log": [{"step": i, "loss": 1.0 / i, "reward": i / 10, "gold": i / 20, "kl": i / 5} for i in range(1, 20)],
}


def write(path: Path, rows: Sequence[Any], kind: str, rng: random.Random) -> Path:
    """Write rows to `path` as `kind`, however strange they are; what a format cannot hold becomes text."""
    path.write_bytes(encode(rows, kind, rng))
    return path


def encode(rows: Sequence[Any], kind: str, rng: random.Random) -> bytes:
    """The bytes of a file of these rows."""
    if kind.endswith(".gz"):
        return gzip.compress(encode(rows, kind.removesuffix(".gz"), rng), mtime=0)
    if kind in ("parquet", "arrow", "feather"):
        return _columns(rows, kind)
    if kind in ("csv", "tsv"):
        return _table(rows, "\t" if kind == "tsv" else rng.choice(",,,;"))
    escaped, indent = rng.random() < 0.5, rng.choice([None, None, 1])
    texts = [json_text(row, escaped=escaped, indent=indent if kind == "json" else None) for row in rows]
    whole = "[" + ",\n".join(texts) + "]" if kind == "json" else "".join(text + "\n" for text in texts)
    return whole.encode("utf-8", "surrogatepass")


def json_text(value: Any, *, escaped: bool = True, indent: int | None = None) -> str:
    """JSON, with `Raw` as it stands, NaN allowed, and everything else that JSON lacks as text."""
    raw: dict[str, str] = {}

    def plain(inner: Any) -> Any:
        if isinstance(inner, Raw):
            raw[f'"\u2603{len(raw)}\u2603"'] = str(inner)
            return f"\u2603{len(raw) - 1}\u2603"
        if isinstance(inner, dict):
            return {str(key): plain(part) for key, part in inner.items()}
        return [plain(part) for part in inner] if isinstance(inner, list | tuple) else inner

    text = json.dumps(plain(value), ensure_ascii=False, default=str, indent=indent)
    for mark, content in raw.items():
        text = text.replace(mark, content)
    return text if not escaped or raw else json.dumps(json.loads(text), default=str, indent=indent)


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return json_text(value, escaped=False) if isinstance(value, list | dict) else value


def _names(rows: Sequence[Any]) -> list[str]:
    return list(dict.fromkeys(str(key) for row in rows if isinstance(row, dict) for key in row))


def _table(rows: Sequence[Any], delimiter: str) -> bytes:
    names, file = _names(rows), io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_cell(row.get(name)) for name in names] if isinstance(row, dict) else [_cell(row)])
    return file.getvalue().encode("utf-8", "surrogatepass")


def _columns(rows: Sequence[Any], kind: str) -> bytes:
    import pyarrow

    listed = [row for row in rows if isinstance(row, dict)]
    names, columns = _names(listed), [[row.get(name) for row in listed] for name in _names(listed)]
    shown = [name.encode("utf-8", "replace").decode() for name in names]
    try:
        return _saved(pyarrow.Table.from_arrays([_array(column) for column in columns], names=shown), kind)
    except pyarrow.ArrowNotImplementedError:  # Parquet has no objects without keys
        return _saved(pyarrow.Table.from_arrays([_texts(column) for column in columns], names=shown), kind)


def _saved(table: Any, kind: str) -> bytes:
    import pyarrow
    import pyarrow.parquet

    sink = pyarrow.BufferOutputStream()
    if kind == "parquet":
        pyarrow.parquet.write_table(table, sink)
    else:
        new = pyarrow.ipc.new_stream if kind == "arrow" else pyarrow.ipc.new_file
        with new(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=10)
    return bytes(sink.getvalue())


def _array(values: list[Any]) -> Any:
    """A column; values of several types become text, as a person who exports a table would see to."""
    import pyarrow

    try:
        column = pyarrow.array(values)
        if isinstance(values[0], date) and not isinstance(values[0], datetime):
            return column.cast(pyarrow.date32())
        pyarrow.record_batch([column], names=["x"]).validate(full=True)
        return column
    except (pyarrow.ArrowException, OverflowError, UnicodeEncodeError, TypeError, IndexError, ValueError):
        return _texts(values)


def _texts(values: list[Any]) -> Any:
    import pyarrow

    texts = [None if value is None else str(_cell(value)).encode("utf-8", "replace").decode() for value in values]
    return pyarrow.array(texts, pyarrow.string())
