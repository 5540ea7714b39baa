"""HelpSteer and HelpSteer2 (nvidia/HelpSteer2): `prompt`, `response` and five attributes, each from 0 to 4.

The attributes are helpfulness, correctness, coherence, complexity and verbosity: one rating with all of them. In the
folder `disagreements` each attribute is a list with the ratings of every annotator, in one order: one rating for each.

The folder `preference` has `response_1`, `response_2` and `preference_strength` from -3 (response 1 is much better) to
3 (response 2 is much better), 0 where they are equally good.

Conversations are one text with the marks `<extra_id_1>Assistant` and `<extra_id_1>User` between turns.
"""

from __future__ import annotations

from typing import Any

from tacit.evidence.codes import answer, coded, compared, number
from tacit.evidence.layout import LayoutError, Row, Rows, layout, without
from tacit.evidence.names import is_judged

_ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
_MARK = "<extra_id_1>"
_ROLES = {"Assistant": "assistant", "User": "user"}
STRENGTHS = {-3: 1.0, -2: 1.0, -1: 1.0, 0: 0.5, 1: 0.0, 2: 0.0, 3: 0.0}
"""Strength of a preference as the share of the first answer: negative is the first, 0 a tie, positive the second."""
STRENGTH = "a whole number from -3 (the first is much better) to 3 (the second is much better)"


def ratings(row: Row) -> Rows:
    """The attributes that are rated, of one person or of each in a list; without any the row gives none."""
    columns = [row[name] if isinstance(row[name], list) else [row[name]] for name in _ATTRIBUTES]
    if len({len(column) for column in columns}) != 1:
        raise LayoutError(
            "the attributes have lists of different lengths",
            "Give each one rating of each annotator",
            _ATTRIBUTES[0],
            value=row[_ATTRIBUTES[0]],
        )
    kept = {**without(row, "response", *_ATTRIBUTES), "prompt": turns(row["prompt"])}
    records: Rows = []
    for cells in zip(*columns, strict=True):
        score = {
            name: number(cell, name, "a number from 0 to 4", 0, 4)
            for name, cell in zip(_ATTRIBUTES, cells, strict=True)
        }
        if any(rating is not None for rating in score.values()):
            records.append({**kept, "completion": answer(row["response"], "response"), "score": score})
    return records


def comparisons(row: Row) -> Rows:
    """The two responses by the strength of the preference."""
    share = coded(row["preference_strength"], STRENGTHS, "preference_strength", STRENGTH)
    return compared({**row, "prompt": turns(row["prompt"])}, row, "response_1", "response_2", share)


def turns(prompt: Any) -> Any:
    """A text with marks between its turns as messages; one without them as it is."""
    if not isinstance(prompt, str) or _MARK not in prompt:
        return prompt
    first, *rest = prompt.split(_MARK)
    messages = [{"role": "user", "content": first.strip()}] if first.strip() else []
    for turn in rest:
        speaker, _, text = turn.partition("\n")
        if speaker.strip() not in _ROLES:
            raise LayoutError(
                "the prompt has a turn of nobody", f"Write {_MARK}User or {_MARK}Assistant", "prompt", value=turn
            )
        messages.append({"role": _ROLES[speaker.strip()], "content": text.strip()})
    if messages and messages[-1]["role"] == "assistant" and not messages[-1]["content"]:
        messages.pop()
    return messages


LAYOUTS = (
    layout("helpsteer2", "rating", f"prompt response {' '.join(_ATTRIBUTES)}", ratings),
    layout(
        "helpsteer2_preference",
        "comparison",
        "prompt response_1 response_2 preference_strength",
        comparisons,
        lambda row: not is_judged(row),
    ),
)
