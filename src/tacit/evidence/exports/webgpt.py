"""WebGPT comparisons (openai/webgpt_comparisons): `question`, `answer_0`, `answer_1`, `score_0`, `score_1`.

`question.full_text` is the prompt. The scores run from -1 to 1, add up to 0, and the higher one is the better answer:
equal scores are a tie. The quotes are kept.
"""

from __future__ import annotations

from collections.abc import Mapping

from tacit.evidence.codes import compared, number
from tacit.evidence.layout import LayoutError, Row, Rows, layout


def comparisons(row: Row) -> Rows:
    """The two answers by their scores; a row that lacks one gives none."""
    question = row["question"]
    if not isinstance(question, Mapping) or not isinstance(question.get("full_text"), str):
        raise LayoutError("the question is no text", "Give `question.full_text`", "question", value=question)
    first, second = (number(row[name], name, "a number from -1 to 1", -1, 1) for name in ("score_0", "score_1"))
    share = None if first is None or second is None else 0.5 if first == second else float(first > second)
    return compared({**row, "prompt": question["full_text"]}, row, "answer_0", "answer_1", share)


LAYOUTS = (
    layout(
        "webgpt",
        "comparison",
        "question answer_0 answer_1 score_0 score_1",
        comparisons,
        lambda row: isinstance(row["question"], Mapping),
    ),
)
