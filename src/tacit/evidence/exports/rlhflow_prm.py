"""RLHFlow's process data (RLHFlow/Mistral-PRM-Data, Deepseek-PRM-Data): `conversations`, a chat of steps and signs.

The user says the problem and the first step, then one step a turn; the assistant answers each with `+` (right) or `-`
(wrong). The problem ends where "Step 1" begins, or with the last blank line of the first turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tacit.evidence.codes import coded
from tacit.evidence.layout import LayoutError, Row, Rows, is_messages, layout, without

_SIGNS = {"+": True, "-": False}


def solutions(row: Row) -> Rows:
    """The steps with their signs."""
    turns = row["conversations"]
    if len(turns) % 2 or any(turn["role"] != ("user", "assistant")[i % 2] for i, turn in enumerate(turns)):
        reason = "the turns are not steps of the user, each with a sign of the assistant"
        raise LayoutError(reason, "Give a + or - after each step", "conversations", value=turns[-1])
    signs = [coded(turn["content"], _SIGNS, "conversations", "+ or - after each step") for turn in turns[1::2]]
    texts = [str(turn["content"]) for turn in turns[::2]]
    problem, first = _problem(texts[0])
    steps = [first, *texts[1:]]
    if any(sign is None for sign in signs):
        return []
    kept = {**without(row, "conversations"), "prompt": problem}
    return [{**kept, "completions": [step.strip() for step in steps], "labels": signs}]


def _problem(text: str) -> tuple[str, str]:
    """The problem and the first step: from the last "Step 1" on, or after the last blank line."""
    for mark, kept in (("Step 1", "Step 1"), ("\n\n", "")):
        before, found, after = text.strip().rpartition(mark)
        if found and before.strip() and after.strip():
            return before.strip(), kept + after
    reason = "the first turn is not a problem and a step"
    raise LayoutError(reason, "Begin the step with `Step 1`, or after a blank line", "conversations", value=text)


def _are_signed(row: Row) -> bool:
    turns = row["conversations"]
    return is_messages(turns) and len(turns) > 1 and all(_is_sign(turn) for turn in turns[1::2])


def _is_sign(turn: Mapping[str, Any]) -> bool:
    content = turn.get("content")
    return turn["role"] == "assistant" and isinstance(content, str) and content.strip() in _SIGNS


LAYOUTS = (layout("rlhflow_prm", "steps", "conversations", solutions, _are_signed),)
