"""MultiPref (allenai/multipref): `text`, `completion_a`, `completion_b`, `normal_worker_annotations` and
`expert_worker_annotations`, each a list of {evaluator, overall_pref, ...}.

`overall_pref` is `A-is-clearly-better`, `A-is-slightly-better`, `Tie`, `B-is-slightly-better` or `B-is-clearly-better`.
One comparison for each annotation; its other preferences (helpful, truthful, harmless) and its reasons are kept, and
the group is `normal` or `expert`.
"""

from __future__ import annotations

from tacit.evidence.codes import answers, coded
from tacit.evidence.layout import Row, Rows, layout, pair_of, without

_SHARES = {
    "A-is-clearly-better": 1.0,
    "A-is-slightly-better": 1.0,
    "Tie": 0.5,
    "B-is-slightly-better": 0.0,
    "B-is-clearly-better": 0.0,
}
_GROUPS = ("normal", "expert")


def comparisons(row: Row) -> Rows:
    """One comparison for each annotation that has an overall preference."""
    kept = {
        **without(row, "text", "completion_a", "completion_b", *(f"{group}_worker_annotations" for group in _GROUPS)),
        "prompt": row["text"],
    }
    first, second = answers(row, "completion_a", "completion_b")
    records: Rows = []
    for group in _GROUPS:
        column = f"{group}_worker_annotations"
        for annotation in row.get(column) or ():
            share = coded(annotation["overall_pref"], _SHARES, column, "an `overall_pref` of " + ", ".join(_SHARES))
            if share is not None:
                beside = {**kept, **annotation, "annotator": annotation.get("evaluator"), "group": group}
                records.append(pair_of(beside, first, second, share))
    return records


LAYOUTS = (
    layout(
        "multipref",
        "comparison",
        "text completion_a completion_b normal_worker_annotations",
        comparisons,
        uses="expert_worker_annotations",
    ),
)
