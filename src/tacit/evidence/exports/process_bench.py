"""ProcessBench (Qwen/ProcessBench): `problem`, `steps` (a list of texts) and `label`.

`label` is the index of the first wrong step, counted from 0, or -1 where all are right. What follows a wrong step is
not judged, so that a solution is read up to its first wrong step.
"""

from __future__ import annotations

from tacit.evidence.codes import answer, listed, number
from tacit.evidence.layout import LayoutError, Row, Rows, layout, without


def solutions(row: Row) -> Rows:
    """The steps up to the first wrong one; a row without a label gives none."""
    steps = [answer(step, "steps") for step in listed(row, "steps")]
    right = f"the index of the first wrong step (0 to {len(steps) - 1}), or -1"
    first = number(row["label"], "label", right, -1, len(steps) - 1)
    if first is None or not steps:
        return []
    if first != int(first):
        raise LayoutError("the label is no index", f"It must be {right}", "label", value=row["label"])
    labels = [True] * len(steps) if first < 0 else [True] * int(first) + [False]
    kept = {**without(row, "problem", "steps", "label"), "prompt": row["problem"]}
    return [{**kept, "completions": steps[: len(labels)], "labels": labels}]


LAYOUTS = (
    layout("process_bench", "steps", "problem steps label", solutions, lambda row: isinstance(row["steps"], list)),
)
