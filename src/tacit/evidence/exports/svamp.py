"""SVAMP (arkilpatel/SVAMP): `Body`, `Question`, `Answer`, a word problem in two parts and its number."""

from __future__ import annotations

from tacit.evidence.codes import number
from tacit.evidence.layout import Row, Rows, layout, without


def problems(row: Row) -> Rows:
    """The body and the question as one text; 51.0 as the answer 51."""
    value = number(row["Answer"], "Answer", "a number")
    prompt = f"{row['Body'].strip()} {row['Question'].strip()}".strip()
    kept = {**without(row, "Body", "Question", "Answer"), "prompt": prompt}
    return [] if value is None else [{**kept, "answer": str(int(value)) if value.is_integer() else str(value)}]


LAYOUTS = (layout("svamp", "problem", "Body Question Answer", problems),)
