"""Math-Shepherd (peiyi9979/Math-Shepherd): `input` and `label`, one text twice, and `task`.

`input` is the problem and its solution with the mark `ки` after each step. `label` is the same text with `+` (a right
step) or `-` (a wrong one) in place of each mark. The problem ends where "Step 1:" begins (where that is missing, after
the last question mark before the first mark).
"""

from __future__ import annotations

from tacit.evidence.layout import LayoutError, Row, Rows, layout, without

_MARK = "ки"
_SIGNS = {"+": True, "-": False}


def solutions(row: Row) -> Rows:
    """The steps with their signs; text after the last mark is no step."""
    segments = row["input"].split(_MARK)[:-1]
    labels = _labels(segments, row["label"])
    problem, first = _problem(segments[0])
    steps = [first, *segments[1:]]
    if not first.strip():  # a mark that stands behind the problem belongs to no step
        steps, labels = steps[1:], labels[1:]
    if not steps:
        return []
    kept = {**without(row, "input", "label"), "prompt": problem.strip()}
    return [{**kept, "completions": [step.strip() for step in steps], "labels": labels}]


def _labels(segments: list[str], signed: str) -> list[bool]:
    """The sign after each segment, which must stand in the text in the same order."""
    labels: list[bool] = []
    at = 0
    for segment in segments:
        at += len(segment)
        sign = signed[at : at + 1]
        if sign not in _SIGNS or not signed.startswith(segment, at - len(segment)):
            raise LayoutError(
                f"step {len(labels) + 1} has no sign",
                f"`label` must be the text of `input` with + or - in place of each {_MARK}",
                "label",
                value=signed[max(0, at - 20) : at + 20],
            )
        labels.append(_SIGNS[sign])
        at += 1
    return labels


def _problem(text: str) -> tuple[str, str]:
    """The problem and the first step."""
    for start in ("Step 1:", "step 1:"):
        before, found, after = text.rpartition(start)
        if found:
            return before, start + after
    before, found, after = text.rpartition("?")
    return (before + found, after) if found else (text, "")


LAYOUTS = (
    layout(
        "math_shepherd",
        "steps",
        "input label",
        solutions,
        lambda row: isinstance(row["input"], str) and isinstance(row["label"], str) and _MARK in row["input"],
    ),
)
