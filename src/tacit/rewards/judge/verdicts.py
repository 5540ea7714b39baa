r"""The verdict in the text that a judge writes: what is marked as one, and nothing else. Pure functions.

| read as a verdict, in this order | examples |
|---|---|
| structured output | `{"winner": "A", "reason": ...}`, `<score>8</score>` |
| double brackets; what is called final or overall | `[[A]]`, `[[B>>A]]`, `Final verdict: B`, `Overall score: 7/10` |
| a name with its value | `Verdict: A`, `The better answer is B`, `Rating (1-10): 8`, `[RESULT] 4` |
| the last line, or the first one, where it holds nothing else | `A`, `**Answer B**`, `8/10` |
| how the text begins | `A, since B is worse`, `No. It is wrong`, `8/10. Good` |
| the last sentence, where it says one thing | `Answer A is better than answer B.`, `I give it an 8.` |

Two marks of one rank that disagree, a mark whose value is no verdict ("Score: 8-9"), and labels in prose ("There are no
mistakes", "2 errors, so 6") are unreadable: None. The text of a scale (1-10, 1 to 10, out of 10, /10) is never a score.
The answer begins after the last `</think>`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tacit.rewards.judge.phrases import NumberPhrases, WordPhrases

TIE = "tie"
"""The verdict of a pairwise judge that two answers are equally good."""

_THOUGHT = re.compile(r"<(?P<end>/?)(?:think|thinking|reasoning|scratchpad)>", re.IGNORECASE)
_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL | re.IGNORECASE)
_BRACKETS = re.compile(r"\[\[\s*([^\[\]\n]{1,40}?)\s*\]\]")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_MOST_OBJECTS = 50


def word_verdict(text: str, labels: Sequence[str]) -> str | None:
    """The label that a text gives as its verdict, `TIE` (of A and B alone), or None where no verdict is marked."""
    label: str | None = _verdict(text, WordPhrases.of(tuple(labels), TIE))
    return label


def number_verdict(text: str, low: int, high: int) -> float | None:
    """The number from `low` to `high` that a text gives as its verdict, or None where no such number is marked."""
    number: float | None = _verdict(text, NumberPhrases.of(low, high))
    return number


def _verdict(text: str, phrases: WordPhrases | NumberPhrases) -> Any:
    answer = without_thinking(text)
    if answer is None:
        return None
    structured, rest = _structured(answer, phrases)
    if structured is not None:
        return _agreed(structured)
    lines = [line.strip() for line in rest.splitlines() if line.strip()]
    if not lines:
        return None
    last = phrases.alone(lines[-1], closing=True)
    for marks in (
        [*_bracketed(rest, phrases), *phrases.marks(rest, final=True)],
        [*phrases.marks(rest, final=False)],
    ):
        if marks:
            return _agreed(marks if last is None else [*marks, last])
    if last is not None or phrases.alone(lines[0], closing=False) is not None:
        alone = [last, *(phrases.alone(line, closing=False) for line in lines)]
        return _agreed([value for value in alone if value is not None])
    opening = phrases.opening(rest.strip())
    if opening is not None:
        return opening
    return phrases.sentence(_SENTENCE_END.split(lines[-1])[-1])


def without_thinking(text: str) -> str | None:
    """What follows the last thought; None where a thought does not end, since what it weighs is no verdict."""
    tags = list(_THOUGHT.finditer(text))  # a chat template may have opened the first one already
    if not tags:
        return text
    return text[tags[-1].end() :] if tags[-1]["end"] else None


def _agreed(values: Iterable[Any]) -> Any:
    """The value on which all agree; None where they do not, or one of them is unreadable (None)."""
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else None


def _bracketed(text: str, phrases: WordPhrases | NumberPhrases) -> Iterator[Any]:
    for content in _BRACKETS.findall(text):
        value = phrases.bracket(content)
        if value is not None:
            yield value


def _structured(text: str, phrases: WordPhrases | NumberPhrases) -> tuple[list[Any] | None, str]:
    """Values of the fields that hold a verdict (None: there is no such field), and the text without its objects."""
    objects, rest = _objects(text)
    values = [phrases.field(value) for pairs in objects for name, value in pairs if _plain_name(name) in phrases.fields]
    for name, content in re.findall(r"<(\w{3,20})>([^<>]{0,60})</\1>", rest):
        if _plain_name(name) in phrases.fields and _plain_name(name) != "answer":  # the question has <answer> tags
            values.append(phrases.field(content))
    if values:
        return values, rest
    # An object that is the whole answer and names no verdict is unreadable, whatever stands inside it.
    return ([None] if objects and not rest.strip() else None), rest


def _objects(text: str) -> tuple[list[list[tuple[str, Any]]], str]:
    """(name, value) pairs of each JSON object in a text, outermost ones, and the text without them."""
    decoder = json.JSONDecoder(object_pairs_hook=lambda pairs: pairs, parse_constant=lambda _: None)
    objects: list[list[tuple[str, Any]]] = []
    rest, start = "", 0
    text = _FENCED.sub(lambda match: match[1], text)
    for _ in range(_MOST_OBJECTS):
        brace = text.find("{", start)
        if brace < 0:
            break
        try:
            pairs, end = decoder.raw_decode(text, brace)
        except (ValueError, RecursionError):
            rest, start = rest + text[start : brace + 1], brace + 1
            continue
        objects.append(pairs)
        rest, start = rest + text[start:brace], end
    return objects, rest + text[start:]


def _plain_name(name: str) -> str:
    return re.sub(r"\W+|_+", "_", name).strip("_").casefold()
