"""AlpacaEval's annotations: `instruction`, `output_1`, `output_2`, `generator_1`, `generator_2`, `preference`.

`preference` is 1 plus the probability that output 2 is the better one: 1 is output 1, 2 is output 2, 1.5 a draw, and
fractions such as 1.97 come from the judge's probabilities. Older files write a draw as 0; null is no verdict. `input`
belongs to the instruction, and `annotator` is the judge.
"""

from __future__ import annotations

from tacit.evidence.codes import compared, joined, number
from tacit.evidence.layout import LayoutError, Row, Rows, layout, without

_RIGHT = "a number from 1 (`output_1`) to 2 (`output_2`), with 1.5 or 0 for a draw"


def comparisons(row: Row) -> Rows:
    """The two outputs by the preference; the number itself is kept."""
    value = number(row["preference"], "preference", _RIGHT)
    if value is None:
        return []
    if value != 0 and not 1 <= value <= 2:
        raise LayoutError(
            "the preference names no output", f"It must be {_RIGHT}", "preference", value=row["preference"]
        )
    share = 0.5 if value in (0, 1.5) else float(value < 1.5)
    kept = {**without(row, "instruction", "input"), "prompt": joined(row["instruction"], row.get("input"))}
    return compared(kept, row, "output_1", "output_2", share)


LAYOUTS = (
    layout(
        "alpaca_eval",
        "comparison",
        "instruction output_1 output_2 generator_1 generator_2 preference",
        comparisons,
        uses="input annotator",
    ),
)
