"""Arena's 55k preferences (lmarena-ai/arena-human-preference-55k, lmsys on Kaggle), a CSV file.

`prompt`, `response_a` and `response_b` are lists of turns, written as JSON text; `winner_model_a`, `winner_model_b` and
`winner_tie` are 0 or 1, one of them 1. The first turn of the user is the prompt, and the rest of each conversation its
answer. A turn that is null or has characters that are no text is read as an empty one, or with a replacement sign.
"""

from __future__ import annotations

import json
from typing import Any

from tacit.evidence.codes import coded
from tacit.evidence.layout import LayoutError, Row, Rows, layout, pair_of, without

_WINNERS = ("winner_model_a", "winner_model_b", "winner_tie")


def comparisons(row: Row) -> Rows:
    """Both conversations after the first turn of the user; a row without a winner gives none."""
    cells = [coded(row[name], {0: 0, 1: 1}, name, "0 or 1") for name in _WINNERS]
    if None in cells:
        return []
    if cells.count(1) != 1:
        raise LayoutError(
            "the row has no single winner",
            "One of `winner_model_a`, `winner_model_b` and `winner_tie` must be 1, the others 0",
            "winner_model_a",
            value=cells,
        )
    asked = _turns(row, "prompt")
    first, second = (_answer(asked, _turns(row, name), name) for name in ("response_a", "response_b"))
    kept = {**without(row, "response_a", "response_b"), "prompt": asked[0]}
    return [pair_of(kept, first, second, (1.0, 0.0, 0.5)[cells.index(1)], shown=True)]


def _turns(row: Row, column: str) -> list[str]:
    turns = row[column]
    if isinstance(turns, str):
        try:
            turns = json.loads(turns)
        except (ValueError, RecursionError):
            turns = None
    if not isinstance(turns, list) or not turns or not all(turn is None or isinstance(turn, str) for turn in turns):
        raise LayoutError(
            "the cell is no list of turns", 'Give JSON, as ["Hello", "And then?"]', column, value=row[column]
        )
    return [
        "" if turn is None else turn.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for turn in turns
    ]


def _answer(asked: list[str], answers: list[str], column: str) -> Any:
    """The one answer, or what follows the first turn of the user as messages."""
    if len(answers) != len(asked):
        raise LayoutError("the turns do not match those of `prompt`", "Give one answer to each", column, value=answers)
    if len(asked) == 1:
        return answers[0]
    turns = [(role, text) for pair in zip(asked, answers, strict=True) for role, text in zip(_ROLES, pair, strict=True)]
    return [{"role": role, "content": text} for role, text in turns[1:]]


_ROLES = ("user", "assistant")

LAYOUTS = (layout("arena_55k", "comparison", f"prompt response_a response_b {' '.join(_WINNERS)}", comparisons),)
