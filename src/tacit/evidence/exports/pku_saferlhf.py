"""PKU-SafeRLHF: `prompt`, `response_0`, `response_1`, and two judgements of each pair; BeaverTails and PKU's Q-A sets.

`better_response_id` (0 or 1) is the more helpful response, `safer_response_id` (0 or 1) the more harmless one
(PKU-Alignment/PKU-SafeRLHF, also -10K, -30K and -single-dimension). The better one is chosen, and the other judgement
is kept beside the record. `--ignore better_response_id` chooses the safer one, as do files without that column.

BeaverTails and PKU-SafeRLHF-QA judge single answers: `prompt`, `response`, `is_safe` (true or false) is an outcome.
"""

from __future__ import annotations

from collections.abc import Callable

from tacit.evidence.codes import answer, coded, compared
from tacit.evidence.layout import Row, Rows, layout, without
from tacit.evidence.names import is_judged

_SHARES = {0: 1.0, 1: 0.0}
_RIGHT = "0 (`response_0`) or 1 (`response_1`)"
_SAFE = {"true": True, "false": False, 1: True, 0: False}


def chosen_by(column: str) -> Callable[[Row], Rows]:
    """The pair with the response that a column names as the chosen one."""

    def comparisons(row: Row) -> Rows:
        share = coded(row[column], _SHARES, column, _RIGHT)
        return compared(row, row, "response_0", "response_1", share)

    return comparisons


def outcomes(row: Row) -> Rows:
    """One answer with whether it is safe; the categories of harm are kept."""
    label = coded(row["is_safe"], _SAFE, "is_safe", "true or false")
    kept = without(row, "response")
    return [] if label is None else [{**kept, "completion": answer(row["response"], "response"), "label": label}]


LAYOUTS = (
    layout(
        "pku_saferlhf",
        "comparison",
        "prompt response_0 response_1 better_response_id",
        chosen_by("better_response_id"),
    ),
    layout(
        "pku_saferlhf_safer",
        "comparison",
        "prompt response_0 response_1 safer_response_id",
        chosen_by("safer_response_id"),
    ),
    layout("beavertails", "outcome", "prompt response is_safe", outcomes, lambda row: not is_judged(row)),
)
