"""Values of any column as JSON, as cells of a table, and on their way through a spool.

| value | JSON lines | CSV, TSV | Parquet |
|---|---|---|---|
| text | as it is | as it is; one that a spreadsheet would take for a formula gets a `'` in front | as it is |
| half a character (lone surrogate) | its escape, `"\\ud83d"` | `\\ud83d` as text | `\\ud83d` as text |
| number, true, false | as it is | as it is | as it is |
| not a number; infinity | `null`; `"Infinity"`, `"-Infinity"` | `nan`; `inf`, `-inf` | as it is |
| date, time, timestamp | ISO 8601 text | the same text | its type, to the microsecond |
| duration | ISO 8601 text, `P1DT2H` | the same text | its type |
| decimal | its digits as text | its digits | its type |
| bytes | base64 text | the same text | its type |
| list, object | as it is | JSON text | nested |
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from pydantic_core import to_jsonable_python

_TAG = "\0tacit"
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]inf")
_HALVES = re.compile(r"\\ud[89a-f]", re.IGNORECASE)


def json_line(row: Mapping[str, Any]) -> str:
    """A row as one line of strict JSON."""
    try:
        text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):  # a value that JSON has not
        text = json.dumps(json_value(row), ensure_ascii=False, allow_nan=False)
    if text.isascii():
        return text + "\n"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = json.dumps(json_value(row), allow_nan=False)
    return text + "\n"


def json_value(value: Any) -> Any:
    """A value in the types of JSON, as the table above says."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None if math.isnan(value) else f"{'-' * (value < 0)}Infinity"
        case Mapping():
            return {str(key): json_value(inner) for key, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [json_value(inner) for inner in value]
        case timedelta():
            return to_jsonable_python(value)
        case datetime() | date() | time():
            return value.isoformat()
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode("ascii")
        case _ if hasattr(value, "tolist"):  # numpy, without importing it
            return json_value(value.tolist())
        case _:
            return str(value)


def cell(value: Any) -> Any:
    """A value as csv writes it: numbers stay numbers, and no text is taken for a formula."""
    match value:
        case bool():
            return str(value).lower()
        case None | int() | float() | Decimal():
            return value
        case list() | dict():
            return json.dumps(json_value(value), ensure_ascii=False)
        case _:
            return safe_text(json_value(value))


def safe_text(text: str) -> str:
    """A text for a spreadsheet: `'` goes before one that begins with =, +, -, @, a tab or a carriage return.

    A number is no formula and stays. So does what begins with `'` otherwise; one more goes before `'=`, so that taking
    one `'` away gives every text back.
    """
    return "'" + text if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def packed(row: Mapping[str, Any]) -> str:
    """A row as a line of ASCII that `unpacked` gives back with all its types."""
    try:
        return json.dumps(row, default=_tagged) + "\n"
    except TypeError:  # keys that are no text
        return json.dumps(_text_keys(row), default=_tagged) + "\n"


def unpacked(line: str, *, whole: bool = False) -> dict[str, Any]:
    """The row of a line that `packed` made; with `whole`, half a character is text that says which."""
    row: dict[str, Any] = json.loads(line, object_hook=_untagged)
    if whole and _HALVES.search(line):
        row = _without_halves(row)
    return row


def _tagged(value: Any) -> Any:
    match value:
        case datetime():
            return {_TAG: ["datetime", value.isoformat()]}
        case date():
            return {_TAG: ["date", value.isoformat()]}
        case time():
            return {_TAG: ["time", value.isoformat()]}
        case timedelta():
            return {_TAG: ["timedelta", [value.days, value.seconds, value.microseconds]]}
        case Decimal():
            return {_TAG: ["decimal", str(value)]}
        case bytes() | bytearray() | memoryview():
            return {_TAG: ["bytes", base64.b64encode(value).decode("ascii")]}
        case Mapping():
            return dict(value)
        case _ if hasattr(value, "tolist"):
            return value.tolist()
        case set() | frozenset():
            return list(value)
        case _:
            return str(value)


_TYPES: dict[str, Callable[[Any], Any]] = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": lambda numbers: timedelta(*numbers),
    "decimal": Decimal,
    "bytes": base64.b64decode,
}


def _untagged(value: dict[str, Any]) -> Any:
    if _TAG in value and len(value) == 1:
        name, content = value[_TAG]
        return _TYPES[name](content)
    return value


def _text_keys(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _text_keys(inner) for key, inner in value.items()}
    return [_text_keys(inner) for inner in value] if isinstance(value, list | tuple) else value


def _without_halves(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {_without_halves(key): _without_halves(inner) for key, inner in value.items()}
    return [_without_halves(inner) for inner in value] if isinstance(value, list) else value
