"""A pair with a list of votes: `a1`, `a2` and `votes`, a list of {annotator, vote} (UKPConvArg).

`vote` names one of the two columns, `a1` or `a2`, or is `equal`. One comparison for each vote; what stands beside it
(the reason, the worker's competence) is kept.
"""

from __future__ import annotations

from tacit.evidence.codes import answers, coded
from tacit.evidence.layout import Row, Rows, layout, pair_of, without

_SHARES = {"a1": 1.0, "a2": 0.0, "equal": 0.5}


def comparisons(row: Row) -> Rows:
    """One comparison for each vote that is not blank."""
    kept = without(row, "a1", "a2", "votes")
    first, second = answers(row, "a1", "a2")
    shares = [(vote, coded(vote["vote"], _SHARES, "votes", "a1, a2 or equal")) for vote in row["votes"]]
    return [
        pair_of({**kept, **without(vote, "vote")}, first, second, share) for vote, share in shares if share is not None
    ]


LAYOUTS = (
    layout(
        "votes", "comparison", "a1 a2 votes", comparisons, lambda row: isinstance(row["votes"], list), uses="prompt"
    ),
)
