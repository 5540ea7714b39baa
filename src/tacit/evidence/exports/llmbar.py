"""LLMBar (princeton-nlp/LLMBar), and FairEval, LLMEval and MT-bench in its form: `input`, `output_1`, `output_2`,
`label`.

`input` is the instruction; `label` is 1 or 2, the better output.
"""

from __future__ import annotations

from tacit.evidence.codes import coded, compared
from tacit.evidence.layout import Row, Rows, layout, without


def comparisons(row: Row) -> Rows:
    """The two outputs by the label; a row without one gives none."""
    share = coded(row["label"], {1: 1.0, 2: 0.0}, "label", "1 (`output_1`) or 2 (`output_2`)")
    return compared({**without(row, "input"), "prompt": row["input"]}, row, "output_1", "output_2", share)


LAYOUTS = (layout("llmbar", "comparison", "input output_1 output_2 label", comparisons),)
