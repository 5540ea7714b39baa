"""JudgeBench (ScalerLab/JudgeBench): `pair_id`, `question`, `response_A`, `response_B`, `label`.

`label` is `A>B` or `B>A`: one response is right and the other is not.
"""

from __future__ import annotations

from tacit.evidence.codes import coded, compared
from tacit.evidence.layout import Row, Rows, layout, without


def comparisons(row: Row) -> Rows:
    """The two responses by the label; a row without one gives none."""
    share = coded(row["label"], {"A>B": 1.0, "B>A": 0.0}, "label", "`A>B` or `B>A`")
    return compared({**without(row, "question"), "prompt": row["question"]}, row, "response_A", "response_B", share)


LAYOUTS = (layout("judge_bench", "comparison", "pair_id question response_A response_B label", comparisons),)
