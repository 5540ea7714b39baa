"""Stanford Human Preferences (stanfordnlp/SHP, SHP-2): `history`, `human_ref_A`, `human_ref_B`, `labels`.

`history` is the post, the two references are comments on it. `labels` is 1 where A has more votes and 0 where B has;
the votes themselves (`score_A`, `score_B`, `score_ratio`) are kept.
"""

from __future__ import annotations

from tacit.evidence.codes import coded, compared
from tacit.evidence.layout import Row, Rows, layout, without


def comparisons(row: Row) -> Rows:
    """The post with the comment that `labels` names as the chosen one."""
    share = coded(row["labels"], {1: 1.0, 0: 0.0}, "labels", "1 (`human_ref_A`) or 0 (`human_ref_B`)")
    kept = {**without(row, "history"), "prompt": row["history"]}
    return compared(kept, row, "human_ref_A", "human_ref_B", share)


LAYOUTS = (layout("shp", "comparison", "history human_ref_A human_ref_B labels", comparisons),)
