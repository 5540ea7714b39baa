"""PandaLM's test set: `instruction`, `input`, `response1`, `response2`, `annotator1`, `annotator2`, `annotator3`.

Each annotator says 1 or 2 for the better response, or 0 where they are equal. One comparison for each of them.
"""

from __future__ import annotations

from tacit.evidence.codes import coded, joined
from tacit.evidence.layout import Row, Rows, layout, pair_of, without

_SHARES = {1: 1.0, 2: 0.0, 0: 0.5}


def comparisons(row: Row) -> Rows:
    """One comparison for each annotator whose cell is not blank."""
    names = [name for name in row if name.startswith("annotator") and name[9:].isdigit()]
    kept = without(row, "response1", "response2", *names)
    kept.setdefault("prompt", joined(row.get("instruction"), row.get("input")))
    shares = {name: coded(row[name], _SHARES, name) for name in names}
    return [
        pair_of({**kept, "annotator": name}, row["response1"], row["response2"], share)
        for name, share in shares.items()
        if share is not None
    ]


LAYOUTS = (layout("pandalm", "comparison", "response1 response2 annotator1", comparisons),)
