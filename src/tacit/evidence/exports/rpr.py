"""Reasonable Preference Reversal (microsoft/rpr): `prompt`, `response_a`, `response_b`, `criteria_x`, `criteria_y`.

Under criteria x response A is the better one, under criteria y response B: two comparisons for each row. The criteria
are part of the prompt, as a system message. Scenarios and profiles are kept.
"""

from __future__ import annotations

from tacit.evidence.codes import answers, is_blank
from tacit.evidence.layout import Row, Rows, layout, pair_of, without


def comparisons(row: Row) -> Rows:
    """One comparison under each of the two criteria; blank criteria give none."""
    kept = without(row, "response_a", "response_b")
    first, second = answers(row, "response_a", "response_b")
    records: Rows = []
    for column, share in (("criteria_x", 1.0), ("criteria_y", 0.0)):
        if not is_blank(row[column]):
            system = {"role": "system", "content": row[column]}
            prompt = [system, {"role": "user", "content": row["prompt"]}]
            records.append(pair_of({**kept, "prompt": prompt}, first, second, share))
    return records


LAYOUTS = (layout("rpr", "comparison", "prompt response_a response_b criteria_x criteria_y", comparisons),)
