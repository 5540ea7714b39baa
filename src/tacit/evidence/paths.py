"""Values inside objects and lists, by paths such as `metadata.feedback.rating`; CSV cells may hold them as JSON texts.

Of a list of messages a path names the last one that has the value, which is the answer's; of any other list its only
entry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tacit.evidence.layout import Row, is_messages, nested
from tacit.evidence.names import canonical

_DEPTH = 5
_CONTENT = {"role", "from", "content", "value", "tool_calls", "function_call", "tool_call_id", "parts"}
"""What messages say, and no judgement of them."""


def root_of(row: Row, path: str) -> str | None:
    """The column that a path begins with, if the row has one and the path goes into it."""
    ends = (i for i, character in enumerate(path) if character == ".")
    return next((path[:i] for i in ends if path[:i] in row), None)


def at(row: Row, path: str) -> Any:
    """The value at a path, or None where something on it is missing; of a list of several values all of them."""
    root = root_of(row, path)
    if root is None:
        return row.get(path)
    value = nested(row[root])
    for key in path[len(root) + 1 :].split("."):
        if isinstance(value, list) and is_messages(value):
            value = next((message for message in reversed(value) if message.get(key) is not None), None)
        elif isinstance(value, list):
            value = _only(value)
        value = nested(value.get(key)) if isinstance(value, Mapping) else None
    return _only(value) if isinstance(value, list) else value


def _only(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values or None


def leaves(row: Row) -> Iterator[tuple[str, Any]]:
    """Paths and values of what stands inside the objects and lists of a row; texts of messages are left out."""
    for name, value in row.items():
        if isinstance(value, list | Mapping) or (isinstance(value, str) and value.lstrip()[:1] in ("[", "{")):
            inner = nested(value)
            if isinstance(inner, list | Mapping):
                yield from _inside(name, inner, _DEPTH)


def _inside(path: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    value = nested(value) if depth else value
    if isinstance(value, Mapping) and depth:
        says = _CONTENT if "role" in value or "from" in value else ()
        for key, inner in value.items():
            if canonical(str(key)) not in says:
                yield from _inside(f"{path}.{key}", inner, depth - 1)
    elif isinstance(value, list) and depth:
        for inner in value:
            yield from _inside(path, inner, depth - 1)
    elif not isinstance(value, list | Mapping):
        yield path, value
