"""HelpSteer3's preferences (nvidia/HelpSteer3): `context`, `response1`, `response2`, `overall_preference`.

`context` is the conversation as messages. `overall_preference` runs from -3 (response 1 is much better) to 3 (response
2 is much better), 0 where they are equally good; what each annotator said (`individual_preference`) is kept beside it.
"""

from __future__ import annotations

from tacit.evidence.codes import coded, compared
from tacit.evidence.exports.helpsteer2 import STRENGTH, STRENGTHS
from tacit.evidence.layout import Row, Rows, layout, without


def comparisons(row: Row) -> Rows:
    """The two responses by the overall preference; a row without one gives none."""
    share = coded(row["overall_preference"], STRENGTHS, "overall_preference", STRENGTH)
    return compared({**without(row, "context"), "prompt": row["context"]}, row, "response1", "response2", share)


LAYOUTS = (layout("helpsteer3", "comparison", "context response1 response2 overall_preference", comparisons),)
