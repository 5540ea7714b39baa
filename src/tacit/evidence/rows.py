"""How one row of a general layout becomes records: prompts inside answers, whole conversations, several answers.

Functions from rows to rows of records, or tests of rows; which columns they work on is decided in
`tacit.evidence.layouts`. A row that cannot be mapped raises `LayoutError`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tacit.conversation import parse_transcript, split_shared_prompt
from tacit.evidence import prompts
from tacit.evidence.codes import number
from tacit.evidence.judgements import Meaning, Scale
from tacit.evidence.layout import LayoutError, Row, Rows, is_messages, pair_of, without
from tacit.evidence.survey import token
from tacit.evidence.verdicts import HigherScore, VerdictCode


def pairs_by(code: VerdictCode | HigherScore, strip: bool) -> Callable[[Row], Rows]:
    """A function from a row with two answers and a verdict to a comparison; none where there is no verdict."""
    first, second = code.sides.first, code.sides.second

    def records(row: Row) -> Rows:
        share = code.share(row)
        if token(row.get("tie")) in ("true", "1", "yes"):  # a column beside the verdict
            if share not in (None, 0.5):
                raise LayoutError(
                    "the row is a tie by this column, and not by the verdict",
                    f"Empty one of them, or leave this column out with --ignore tie (the verdict is"
                    f" `{code.sides.verdict}`)",
                    "tie",
                    value=row["tie"],
                )
            share = 0.5
        if share is None:
            return []
        pair = pair_of(without(row, first, second), row[first], row[second], share, shown=code.sides.shown)
        return comparison_rows(pair, strip)

    return records


def comparison_rows(row: Row, strip: bool) -> Rows:
    """A comparison whose sides may hold the prompt: whole conversations, transcripts, or texts before the answers."""
    prompt, chosen, rejected = row.get("prompt") or "", answer_text(row["chosen"]), answer_text(row["rejected"])
    lists = [isinstance(side, list) and is_messages(side) for side in (chosen, rejected)]
    if not prompt and (all(lists) or all(is_transcript(side) for side in (chosen, rejected))):
        return [_implicit_prompt({**row, "chosen": chosen, "rejected": rejected})]
    if all(lists) and all(side[0].get("role") != "assistant" for side in (chosen, rejected)):
        before = prompts.conversation_before(chosen, prompt)
        other = prompts.conversation_before(rejected, prompt)
        if before is None or other is None:
            raise LayoutError(
                "the prompt is not in the conversations of both sides",
                "Give answers alone, or whole conversations in which a user says the prompt",
                "prompt",
                value=prompt,
            )
        (prompt, chosen), (_, rejected) = before, other
    elif strip:
        chosen, rejected = prompts.without_prompt(chosen, prompt), prompts.without_prompt(rejected, prompt)
    return [{**row, "prompt": prompt, "chosen": chosen, "rejected": rejected}]


def _implicit_prompt(row: Row) -> dict[str, Any]:
    """The prompt lies inside both sides, as messages (TRL) or as a transcript (Anthropic HH).

    Conversations that differ by their system message alone are a pair of two prompts.
    """
    parts = split_shared_prompt(row["chosen"], row["rejected"])
    if parts is not None:
        prompt, chosen, rejected = parts
        return {**row, "prompt": prompt, "chosen": chosen, "rejected": rejected}
    sides = [row["chosen"], row["rejected"]]
    if all(isinstance(side, list) and len(side) > 2 and side[0].get("role") == "system" for side in sides):
        parts = split_shared_prompt(*(side[1:] for side in sides))
        if parts is not None:
            prompt, chosen, rejected = parts
            asked, other = ([side[0], *prompt] for side in sides)
            return {**row, "prompt": asked, "rejected_prompt": other, "chosen": chosen, "rejected": rejected}
    raise LayoutError(
        "`chosen` and `rejected` do not begin with the same prompt",
        "Give both the same first messages, or columns `prompt` and `rejected_prompt`",
        "rejected",
        value=row["rejected"],
    )


def one_answer(completion: str | None, conversation: str | None, strip: bool) -> Callable[[Row], dict[str, Any]]:
    """A function from a row to the prompt and the answer in it."""

    def answer(row: Row) -> dict[str, Any]:
        prompt = row.get("prompt") or ""
        if conversation is not None:
            messages = prompts.as_messages(row[conversation])
            if messages is None:
                raise LayoutError(
                    "not a conversation", "Give a list of {role, content}", conversation, value=row[conversation]
                )
            return {**without(row, conversation), **_of_conversation(messages, prompt, conversation)}
        assert completion is not None
        value = answer_text(row[completion])
        if isinstance(value, list) and is_messages(value) and value[0].get("role") != "assistant":
            return {**without(row, completion), **_of_conversation(value, prompt, completion)}
        value = prompts.without_prompt(value, prompt) if strip else value
        return {**without(row, completion), "prompt": prompt, "completion": value}

    return answer


def against_rejected(answer: Callable[[Row], dict[str, Any]], rejected: str) -> Callable[[Row], Rows]:
    """A good answer as it stands, and a rejected one in a column of its own (ms-swift)."""

    def records(row: Row) -> Rows:
        good = answer(row)
        return [
            {
                **without(good, "completion", rejected),
                "chosen": good["completion"],
                "rejected": answer_text(row[rejected]),
            }
        ]

    return records


def _of_conversation(messages: list[dict[str, Any]], prompt: Any, column: str) -> dict[str, Any]:
    """A whole conversation, whose last message is the answer; a prompt beside it must be in it, or be a system text."""
    asked, answer = prompts.split_conversation(messages, column)
    if isinstance(prompt, list) and all(message.get("role") == "system" for message in prompt):
        asked = [*prompt, *asked]
    elif prompt:
        before = prompts.conversation_before(messages, prompt)
        if before is None:
            raise LayoutError(
                f"the prompt is not in the conversation of `{column}`",
                f"Leave one of them out, as --ignore {column}",
                "prompt",
                value=prompt,
            )
        asked, answer = before
    return {"prompt": asked, "completion": answer}


def continued_steps(row: Row) -> Rows:
    """Steps labelled by sampled continuations: a step is right where any continuation of it reached the answer."""
    continued = row["continuations"]
    if not isinstance(continued, list) or not all(isinstance(of_step, list) and of_step for of_step in continued):
        raise LayoutError(
            "`continuations` is not a list of lists",
            "Give for each step whether its continuations were right, as [[true, false], [false, false]]",
            "continuations",
            value=continued,
        )
    return [{**row, "labels": [any(of_step) for of_step in continued]}]


def each_answer(column: str, ours: str) -> Callable[[Row], Rows]:
    """Several answers of one prompt, each with a judgement: one record for each; a null one judges nothing."""

    def records(row: Row) -> Rows:
        completions, values = row["completions"], row[column]
        if not isinstance(completions, list) or not isinstance(values, list) or len(completions) != len(values):
            raise LayoutError(
                f"`completions` and `{column}` do not match", "Give one value for each completion", column
            )
        kept = without(row, "completions", column)
        pairs = zip(completions, values, strict=True)
        return [{**kept, "completion": text, ours: value} for text, value in pairs if value is not None]

    return records


def ranked_answers(column: str) -> Callable[[Row], Rows]:
    """Several answers of one prompt with scores as a ranking of those that have one; the highest is the best."""

    def records(row: Row) -> Rows:
        right = "a number for each answer"
        records = each_answer(column, "score")(row)
        scored = [(record["completion"], number(record["score"], column, right)) for record in records]
        rated = [(text, score) for text, score in scored if score is not None]
        places = {score: place for place, score in enumerate(sorted({score for _, score in rated}, reverse=True), 1)}
        ranks = [places[score] for _, score in rated]
        kept = without(row, "completions", column)
        return [{**kept, "completions": [text for text, _ in rated], "ranks": ranks}] if len(rated) > 1 else []

    return records


def attribute_scores(row: Row, scales: Sequence[Scale]) -> dict[str, Meaning] | None:
    """What several columns say of one answer, by their names; None where none says anything."""
    values = {scale.column: scale.value(row.get(scale.column)) for scale in scales}
    return None if all(value is None for value in values.values()) else values


def answer_text(value: Any) -> Any:
    """An answer as a text or a list of {role, content}; a number is its text."""
    return value if isinstance(value, str) else prompts.as_messages(value) or _number_text(value)


def _number_text(value: Any) -> Any:
    return token(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def is_list(value: Any) -> bool:
    """Whether a value is a list of several things, and no single value in brackets."""
    return isinstance(value, list) and not (len(value) == 1 and not isinstance(value[0], list | Mapping))


def is_transcript(value: Any) -> bool:
    """Whether a text has Human and Assistant turns."""
    return isinstance(value, str) and "Human:" in value and bool(parse_transcript(value))


def has_text_prompt(row: Row) -> bool:
    """Whether the prompt is a text."""
    return type(row.get("prompt")) is str


def is_plain_comparison(row: Row) -> bool:
    """Whether prompt and both answers are texts."""
    return type(row.get("chosen")) is str and type(row.get("rejected")) is str and type(row.get("prompt")) is str


def is_plain_answer(row: Row) -> bool:
    """Whether prompt and answer are texts."""
    return type(row.get("completion")) is str and type(row.get("prompt")) is str


def is_plain_outcome(row: Row) -> bool:
    """Whether prompt and answer are texts, and the label is true or false."""
    return type(row.get("label")) is bool and type(row.get("completion")) is str and type(row.get("prompt")) is str


def is_plain_rating(row: Row) -> bool:
    """Whether prompt and answer are texts, and the score is a number or one for each attribute."""
    plain = type(row.get("completion")) is str and type(row.get("prompt")) is str
    return plain and type(row.get("score")) in (float, int, dict)
