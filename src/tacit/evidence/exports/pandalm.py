"""PandaLM's test set: `instruction`, `input`, `response1`, `response2`, `annotator1`, `annotator2`, `annotator3`.

Each annotator says 1 or 2 for the better response, or 0 where they are equal (WeOpenML/PandaLM, data/testset-v1.json).
One comparison for each of them. The file as it is published has six rows whose responses are `true` in place of a text.
"""

from __future__ import annotations

from tacit.evidence.codes import answers, coded, joined
from tacit.evidence.layout import Row, Rows, layout, pair_of, without

_SHARES = {1: 1.0, 2: 0.0, 0: 0.5}
_RIGHT = "1 (`response1`), 2 (`response2`) or 0 (a draw)"


def comparisons(row: Row) -> Rows:
    """One comparison for each annotator whose cell is not blank."""
    names = [name for name in row if name.startswith("annotator") and name[9:].isdigit()]
    kept = {**without(row, "response1", "response2", *names), "prompt": joined(row["instruction"], row.get("input"))}
    first, second = answers(row, "response1", "response2")
    shares = {name: coded(row[name], _SHARES, name, _RIGHT) for name in names}
    return [
        pair_of({**kept, "annotator": name}, first, second, share)
        for name, share in shares.items()
        if share is not None
    ]


LAYOUTS = (
    layout(
        "pandalm",
        "comparison",
        "instruction response1 response2 annotator1",
        comparisons,
        uses="input annotator2 annotator3",
    ),
)
