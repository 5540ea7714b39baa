"""UltraInteract's pairs (openbmb/UltraInteract_pair): `trajectory`, `chosen`, `rejected`.

`trajectory` is the conversation before, a list of {from, value}; it is the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping

from tacit.evidence.codes import answer, coded
from tacit.evidence.layout import Row, Rows, layout, without

_ROLES = {role: role for role in ("system", "user", "assistant")} | {"human": "user", "gpt": "assistant"}


def comparisons(row: Row) -> Rows:
    """The chosen and the rejected answer after the conversation."""
    right = "`from`: user or assistant"
    turns = [(coded(turn["from"], _ROLES, "trajectory", right), turn["value"]) for turn in row["trajectory"]]
    prompt = [{"role": role or "user", "content": answer(text, "trajectory")} for role, text in turns]
    sides = {side: answer(row[side], side) for side in ("chosen", "rejected")}
    return [{**without(row, "trajectory"), **sides, "prompt": prompt}]


def _is_trajectory(row: Row) -> bool:
    turns = row["trajectory"]
    if not isinstance(turns, list) or not turns:
        return False
    return all(isinstance(turn, Mapping) and {"from", "value"} <= turn.keys() for turn in turns)


LAYOUTS = (layout("ultra_interact", "comparison", "trajectory chosen rejected", comparisons, _is_trajectory),)
