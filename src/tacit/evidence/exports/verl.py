"""verl's problems: `prompt` (messages) and `reward_model`, whose `ground_truth` is the answer."""

from __future__ import annotations

from collections.abc import Mapping

from tacit.evidence.layout import LayoutError, Row, Rows, layout


def problems(row: Row) -> Rows:
    """The problem with its answer as text; every column is kept."""
    truth = row["reward_model"].get("ground_truth")
    if truth is None:
        raise LayoutError(
            "no ground truth", "Give `reward_model.ground_truth`", "reward_model", value=row["reward_model"]
        )
    return [{**row, "answer": str(truth)}]


LAYOUTS = (
    layout("verl", "problem", "prompt reward_model", problems, lambda row: isinstance(row["reward_model"], Mapping)),
)
