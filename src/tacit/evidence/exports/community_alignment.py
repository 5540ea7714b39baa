"""Community Alignment (facebook/community-alignment-dataset): conversations of up to four turns, four answers at each.

`first_turn_prompt`, `first_turn_response_a` to `_d`, `first_turn_preferred_response` (`response_a` to `response_d`) and
`first_turn_feedback`; the same with `second_`, `third_` and `fourth_`. A conversation goes on with the preferred
answer.

Each turn is a ranking: the preferred answer first, the other three in one place after it (with `--kind comparison`
three pairs). Its prompt is the conversation so far; `annotator_id` is the annotator.
"""

from __future__ import annotations

from typing import Any

from tacit.evidence.codes import coded, is_blank
from tacit.evidence.layout import Row, Rows, layout, pair_of

_TURNS = ("first", "second", "third", "fourth")
_LETTERS = "abcd"
_NAMES = {**{f"response_{letter}": letter for letter in _LETTERS}, **{letter: letter for letter in _LETTERS}}
_END = "<|end_of_text|>"


def rankings(row: Row) -> Rows:
    """One ranking for each turn with a preferred answer, up to the first without one."""
    kept = {name: value for name, value in row.items() if "_turn_" not in name}
    if "annotator_id" in row:
        kept["annotator"] = row["annotator_id"]
    records: Rows = []
    messages: list[dict[str, Any]] = []
    for turn in _TURNS:
        column = f"{turn}_turn_preferred_response"
        best = coded(row.get(column), _NAMES, column, "`response_a`, `response_b`, `response_c` or `response_d`")
        answers = {
            letter: str(text).removesuffix(_END)
            for letter in _LETTERS
            if not is_blank(text := row.get(f"{turn}_turn_response_{letter}"))
        }
        if best not in answers or is_blank(row.get(f"{turn}_turn_prompt")):
            break
        messages = [*messages, {"role": "user", "content": row[f"{turn}_turn_prompt"]}]
        if len(answers) > 1:
            completions = list(answers.values())
            ranks = [1 if letter == best else 2 for letter in answers]
            feedback = row.get(f"{turn}_turn_feedback")
            records.append(
                {
                    **kept,
                    "prompt": messages,
                    "completions": completions,
                    "ranks": ranks,
                    "feedback": feedback,
                    "turn": turn,
                }
            )
        messages = [*messages, {"role": "assistant", "content": answers[best]}]
    return records


def pairs(row: Row) -> Rows:
    """The preferred answer of each turn with each of the others."""
    records: Rows = []
    for ranking in rankings(row):
        kept = {name: value for name, value in ranking.items() if name not in ("completions", "ranks")}
        best = ranking["completions"][ranking["ranks"].index(1)]
        others = [text for text, rank in zip(ranking["completions"], ranking["ranks"], strict=True) if rank > 1]
        records.extend(pair_of(kept, best, other, 1.0) for other in others)
    return records


_FIRST = "first_turn_prompt first_turn_response_a first_turn_response_b first_turn_preferred_response"
_MORE = " ".join(
    f"{turn}_turn_{part}"
    for turn in _TURNS
    for part in ("prompt", *(f"response_{letter}" for letter in _LETTERS), "preferred_response", "feedback")
)

LAYOUTS = (
    layout("community_alignment", "ranking", _FIRST, rankings, uses=f"{_MORE} annotator_id"),
    layout("community_alignment", "comparison", _FIRST, pairs, uses=f"{_MORE} annotator_id"),
)
