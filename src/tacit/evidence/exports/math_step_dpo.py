"""Math-Step-DPO (xinlai/Math-Step-DPO-10K): `prompt`, `initial_reason_steps`, `chosen`, `rejected`.

`chosen` and `rejected` are the right and the wrong next step after the steps in `initial_reason_steps`, which both
solutions share: they stand before the step in each answer.
"""

from __future__ import annotations

from tacit.evidence.codes import answers, is_blank
from tacit.evidence.layout import Row, Rows, layout, without


def comparisons(row: Row) -> Rows:
    """Both solutions up to and with the step in which they differ."""
    chosen, rejected = answers(row, "chosen", "rejected")
    start = "" if is_blank(row["initial_reason_steps"]) else row["initial_reason_steps"]
    kept = without(row, "initial_reason_steps")
    return [{**kept, "chosen": start + chosen, "rejected": start + rejected}]


LAYOUTS = (layout("math_step_dpo", "comparison", "prompt initial_reason_steps chosen rejected", comparisons),)
