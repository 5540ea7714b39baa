"""Judgements that a reading as good examples or problems would drop: in columns of any name, and inside objects.

A column whose values all stand in the table of values judges, whatever its name; one whose name holds a word for a
judgement does with a few values of any kind; and so do values inside objects (`metadata.feedback`) and on messages.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from tacit.evidence.names import hints_at_judgement, is_about, is_named
from tacit.evidence.paths import leaves
from tacit.evidence.sources import RawBatch
from tacit.evidence.survey import Values
from tacit.evidence.values import judges

_ROWS = 10_000
"""Rows whose objects are looked into."""
_FEW, _LONGEST = 12, 40
_PATHS = 1000


def is_few(values: Values) -> bool:
    """Whether a column has so few and so short values (so far) that they may be judgements in words of their own."""
    return not values.many and len(values.rows) <= _FEW and all(len(word) <= _LONGEST for word in values.rows)


def inner_values(batches: Iterator[RawBatch], texts: Collection[str], ignored: Collection[str]) -> dict[str, Values]:
    """What stands inside objects and lists, by path, in the first rows; texts of the columns `texts` are left as such.

    Paths that begin with an ignored one are left out.
    """
    found: dict[str, Values] = {}
    seen = 0
    for batch in batches:
        for number, row in zip(batch.rows, batch.values, strict=True):
            looked = {name: v for name, v in row.items() if not (name in texts and isinstance(v, str))}
            for path, value in leaves(looked):
                if path not in found and len(found) >= _PATHS:
                    continue
                found.setdefault(path, Values()).add([value], [number])
        seen += len(batch.rows)
        if seen >= _ROWS:
            break
    return {path: values for path, values in found.items() if not _is_within(path, ignored)}


def judging_inside(values: Mapping[str, Values]) -> str | None:
    """The path whose values judge, those first whose last name says so; None where none does."""
    paths = [path for path in values if _judges_inside(path, values[path])]
    return min(paths, key=lambda path: not is_named(path.rsplit(".", 1)[-1]), default=None)


def _judges_inside(path: str, values: Values) -> bool:
    names = path.split(".")
    if is_about(names[-1]) or len(values.rows) < 2:
        return False
    named, hinted = any(map(is_named, names)), any(map(hints_at_judgement, names))
    numeric = values.text is None and len(values.numbers) == len(values.rows)
    return (named or hinted) and (judges(values) or (named and (numeric or is_few(values))))


def _is_within(path: str, roots: Iterable[str]) -> bool:
    return any(path == root or path.startswith(f"{root}.") for root in roots)
