"""JudgeLM (BAAI/JudgeLM-100K): `question_body`, `answer1_body`, `answer2_body` and `score`, a list of two numbers.

The scores run from 0 to 10, the higher one is the better answer and equal ones are a tie. Two scores of -1 stand where
the judge's text could not be read: no verdict.
"""

from __future__ import annotations

from tacit.evidence.codes import compared, is_blank, listed, number
from tacit.evidence.layout import Row, Rows, layout, without


def comparisons(row: Row) -> Rows:
    """The two answers by the judge's scores."""
    if is_blank(row["score"]):
        return []
    scores = [number(value, "score", "two numbers from 0 to 10", -1, 10) for value in listed(row, "score", 2)]
    first, second = scores
    if first is None or second is None or first < 0 or second < 0:
        return []
    share = 0.5 if first == second else float(first > second)
    kept = {**without(row, "question_body"), "prompt": row["question_body"]}
    return compared(kept, row, "answer1_body", "answer2_body", share)


LAYOUTS = (layout("judgelm", "comparison", "question_body answer1_body answer2_body score", comparisons),)
