"""How one raw row of each layout becomes zero or more records (as mappings; the reader validates them).

Columns that a layout does not use are kept beside the record. A row that cannot be mapped raises `LayoutError`.
"""

from __future__ import annotations

from typing import Any

from tacit.conversation import parse_transcript, split_shared_prompt
from tacit.evidence.layout import LayoutError, Row, Rows, is_messages, pair_of, without

TIES = {"tie", "tied", "equal", "draw", "same", "both", "neither", "none", "tie (bothbad)", "bothbad", "both_bad"}
_LEFT = {"left", "a", "1", "first", "model_a", "model_1", "response_a", "response_1", "output_1"}
_RIGHT = {"right", "b", "2", "second", "model_b", "model_2", "response_b", "response_2", "output_2"}
SIDES = (
    ("left", "right"),
    ("response_a", "response_b"),
    ("conversation_a", "conversation_b"),
    ("answer_a", "answer_b"),
    ("response1", "response2"),
    ("response_1", "response_2"),
    ("answer1", "answer2"),
    ("output_1", "output_2"),
)
SHOWN = ("left", "conversation_a")
"""First columns of `SIDES` whose names say where an answer stood; others may name two systems shown in any order."""
_VERDICTS = ("winner", "preference", "preferred", "vote", "choice")
ALIASES = {
    "prompt": ("instruction", "question", "query", "input", "context"),
    "chosen": ("winner", "chosen_response", "preferred", "better"),
    "rejected": ("loser", "rejected_response", "dispreferred", "worse"),
    "completion": ("response", "output"),
    "label": ("correct", "is_correct"),
    "score": ("rating",),
    "annotator": ("worker", "worker_id", "annotator_id"),
}


def is_transcript(value: Any) -> bool:
    """Whether a text has Human and Assistant turns."""
    return isinstance(value, str) and bool(parse_transcript(value)) and "Human:" in value


# --- comparisons ---


def implicit_prompt(row: Row) -> Rows:
    """The prompt lies inside both sides, as messages (TRL) or as a transcript (Anthropic HH)."""
    parts = split_shared_prompt(row["chosen"], row["rejected"])
    if parts is None:
        raise LayoutError(
            "`chosen` and `rejected` do not begin with the same prompt",
            "Give both the same first messages, or columns `prompt` and `rejected_prompt`",
            "rejected",
            value=row["rejected"],
        )
    prompt, chosen, rejected = parts
    return [{**row, "prompt": prompt, "chosen": chosen, "rejected": rejected}]


def repeats_prompt(row: Row) -> bool:
    """A text prompt that the message lists of both sides begin with (UltraFeedback binarised)."""
    return (
        isinstance(row["prompt"], str)
        and all(is_messages(row[side]) and len(row[side]) > 1 for side in ("chosen", "rejected"))
        and row["prompt"] in (m.get("content") for m in row["chosen"][:2])
    )


def system_and_input(row: Row) -> Rows:
    """Axolotl: `system`, `input`, `chosen`, `rejected`."""
    turns = [{"role": "system", "content": row["system"]}] if row["system"] else []
    prompt = [*turns, {"role": "user", "content": row["input"]}] if turns else row["input"]
    return [{**without(row, "system", "input"), "prompt": prompt}]


def sides_and_verdict(row: Row) -> tuple[str, str, str] | None:
    """The columns of the two answers and of the verdict, where a row has them."""
    verdict = next((name for name in _VERDICTS if name in row), None)
    sides = next(((a, b) for a, b in SIDES if a in row and b in row), None)
    return (*sides, verdict) if sides and verdict else None


def verdict_of(value: Any, left: str, right: str, column: str) -> float:
    """1 where the left side won, 0 for the right one, 0.5 for a tie; numbers run from 1 (left) to 2 (right)."""
    word = str(value).strip().lower()
    if word in TIES:
        return 0.5
    if word in _LEFT or word == left.lower():
        return 1.0
    if word in _RIGHT or word == right.lower():
        return 0.0
    try:
        number = float(word)
    except ValueError:
        number = float("nan")
    if number == 0:
        return 0.5
    if 1 <= number <= 2:
        return 0.5 if number == 1.5 else float(number < 1.5)
    raise LayoutError("the verdict names no side", f"Write `{left}`, `{right}` or `tie`", column, value=value)


def two_sided(row: Row) -> Rows:
    """Two answers and a verdict: AlpacaEval, arenas, crowd tables. Rows without a verdict give nothing."""
    left, right, column = sides_and_verdict(row) or ("", "", "")
    if not column:
        raise LayoutError("the row lacks its two answers or the verdict", "Keep one kind of row per file")
    if row[column] is None or row[column] == "":
        return []
    verdict = verdict_of(row[column], left, right, column)
    kept = _annotator(with_prompt(without(row, left, right)))
    if left.startswith("conversation"):
        return implicit_prompt(pair_of(kept, row[left], row[right], verdict, shown=True))
    return [pair_of(kept, row[left], row[right], verdict, shown=left in SHOWN)]


def _annotator(row: dict[str, Any]) -> dict[str, Any]:
    theirs = next((name for name in (*ALIASES["annotator"], "judge") if name in row), None)
    return row if "annotator" in row or theirs is None else {**row, "annotator": row[theirs]}


def with_prompt(row: dict[str, Any]) -> dict[str, Any]:
    """The prompt under its name; `instruction` and `input` of the Alpaca family are joined by a blank line."""
    if "prompt" in row:
        return row
    if "instruction" in row:
        extra = row.get("input")
        return {**row, "prompt": f"{row['instruction']}\n\n{extra}" if extra else row["instruction"]}
    theirs = next((name for name in ALIASES["prompt"] if name in row), None)
    return row if theirs is None else {**row, "prompt": row[theirs]}


# --- several completions ---


def continuations(row: Row) -> Rows:
    """Steps labelled by sampled continuations: a step is right where any continuation of it reached the answer."""
    given = row["continuations"]
    if not isinstance(given, list) or not all(isinstance(of_step, list) and of_step for of_step in given):
        raise LayoutError(
            "`continuations` is not a list of lists",
            "Give for each step whether its continuations were right, as [[true, false], [false, false]]",
            "continuations",
            value=given,
        )
    return [{**row, "labels": [any(of_step) for of_step in given]}]


def answers(row: Row) -> Rows:
    """Several answers of one prompt, each right or wrong: one outcome for each."""
    completions, labels = row["completions"], row["labels"]
    if not isinstance(completions, list) or not isinstance(labels, list) or len(completions) != len(labels):
        raise LayoutError("`completions` and `labels` do not match", "Give one label for each completion", "labels")
    kept = without(row, "completions", "labels")
    return [{**kept, "completion": c, "label": label} for c, label in zip(completions, labels, strict=True)]


# --- demonstrations and problems ---


def last_message(row: Row) -> Rows:
    """A whole conversation in `messages`: its last message is the demonstration."""
    if not is_messages(row["messages"]) or len(row["messages"]) < 2:
        raise LayoutError(
            "`messages` is not a conversation", "Give two or more {role, content}", "messages", value=row["messages"]
        )
    return [{**without(row, "messages"), "prompt": row["messages"][:-1], "completion": row["messages"][-1:]}]


def alpaca(row: Row) -> Rows:
    """Alpaca: `instruction`, `input`, `output`."""
    return [{**with_prompt(without(row, "output")), "completion": row["output"]}]
