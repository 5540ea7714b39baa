"""GSM8K's example solutions (openai/grade-school-math): `question`, `ground_truth`, and for each model a column of
{solution, is_correct}.

An outcome for each solution; the name of its column is kept as `model`.
"""

from __future__ import annotations

from collections.abc import Mapping

from tacit.evidence.codes import answer, coded
from tacit.evidence.layout import Row, Rows, layout, without

_RIGHT = {"true": True, "false": False}


def outcomes(row: Row) -> Rows:
    """Every solution with whether it is correct."""
    models = _models(row)
    kept = {**without(row, "question", *models), "prompt": row["question"]}
    labels = [coded(row[model]["is_correct"], _RIGHT, model, "`is_correct`: true or false") for model in models]
    return [
        {**kept, "model": model, "completion": answer(row[model]["solution"], model), "label": label}
        for model, label in zip(models, labels, strict=True)
        if label is not None
    ]


def _models(row: Row) -> list[str]:
    return [
        name for name, value in row.items() if isinstance(value, Mapping) and {"solution", "is_correct"} <= value.keys()
    ]


_PUBLISHED = "6b_finetuning 6b_verification 175b_finetuning 175b_verification"

LAYOUTS = (
    layout(
        "gsm8k_solutions", "outcome", "question ground_truth", outcomes, lambda row: bool(_models(row)), uses=_PUBLISHED
    ),
)
