"""Votes of people on statements as a wide table, as Pol.is exports them (`participants-votes.csv`).

A row is a person (`participant`), a column whose name is a number a statement, and a cell 1 (agrees), -1 (disagrees), 0
(passed) or blank (has not seen it). An outcome for each 1 and -1: the completion is the id of the statement, whose text
`--items comments.csv --item-columns id=comment-id text=comment-body` gives, the annotator the person. The counts
(`n-votes`, ...) are left out, and the group that Pol.is computed from the votes is kept as `group-id`.
"""

from __future__ import annotations

from tacit.evidence.codes import coded
from tacit.evidence.layout import Row, Rows, layout

_LABELS = {1: True, -1: False, 0: None}


def outcomes(row: Row) -> Rows:
    """One outcome for each statement that the person agrees or disagrees with."""
    kept = {"prompt": "", "annotator": row["participant"], "group-id": row.get("group-id")}
    votes = {
        name: coded(value, _LABELS, name, "1 (agrees), -1 (disagrees), 0 (passes) or blank")
        for name, value in row.items()
        if name.isdigit()
    }
    return [{**kept, "completion": name, "label": label} for name, label in votes.items() if label is not None]


LAYOUTS = (
    layout(
        "polis",
        "outcome",
        "participant",
        outcomes,
        lambda row: sum(name.isdigit() for name in row) > 1,
        uses="group-id",
        reads=str.isdigit,
        ids=True,
    ),
)
