"""Judgements that carry a name: what tools attach to an answer as scores, feedback, annotations or metrics.

One answer may have several, of several criteria and people. As outcomes, an answer is judged by one criterion, which
is a verdict on the whole answer: by its name (`user-feedback`, `correct`), or because the tool says so; other ones stay
beside it, and two are refused. As ratings, every criterion is an attribute, yes and no are 1 and 0, and each person has
a record. Words that say neither good nor bad, under a name that does not say that it judges (`topic`), are context. A
criterion that is better where it is low (`toxicity`) is never read by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from tacit.evidence.codes import is_blank
from tacit.evidence.layout import Layout, LayoutError, Row, Rows, each, layout, nested
from tacit.evidence.names import INVERTED, LABELS, SCORES, canonical, is_inverted
from tacit.evidence.values import BAD, GOOD

VERDICTS = LABELS | {"correctness"}
"""Names of criteria that judge the whole answer, where they say yes or no."""
_WITH_FLAGS = "Give --kind rating --model attributes, where --weights NAME=1 leaves the others out"


@dataclass(frozen=True)
class Judgement:
    """What was said of an answer by one criterion: yes or no, a number, or a word, in a column.

    `by` is who said it; `verdict` that the tool means it of the whole answer, whatever its name.
    """

    name: str
    value: Any
    column: str
    by: Any = None
    verdict: bool = False


def meaning(value: Any) -> bool | float | None:
    """Yes or no, or a number: also as CSV writes them, and the words that say good or bad; None for other words."""
    if isinstance(value, bool):
        return value
    if not isinstance(value, int | float | str):
        return None
    if isinstance(value, str):
        plain = "_".join(value.lower().replace("-", " ").split())
        if plain in GOOD or plain in BAD:
            return plain in GOOD
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def criteria_layouts(
    name: str,
    columns: str,
    fits: Callable[[Row], bool],
    judgements: Callable[[Row], list[Judgement]],
    answer: Callable[[Row], Mapping[str, Any]],
    *,
    inside: str | None = None,
    unpack: Callable[[Row], list[dict[str, Any]]] | None = None,
    uses: str = "",
) -> tuple[Layout, ...]:
    """The layouts of rows that `fits` recognises, whose answers have named judgements.

    `judgements` and `answer` read a row: what was said, and the record's prompt, completion and what stands beside.
    With `inside` they read each object of the list in that column, with `unpack` each of the rows inside a row.
    Rows are outcomes where the first one has a verdict, and other criteria alone are refused then; else they are
    ratings. With --kind outcome any one criterion may say yes or no.
    """

    def records(of: Callable[[Mapping[str, Any], Iterable[Judgement]], Rows]) -> Callable[[Row], Rows]:
        def one(row: Row) -> Rows:
            effective = judged(judgements(row))
            return of(answer(row), effective) if effective else []

        if inside is not None:
            return lambda row: each(row, inside, one)
        return one if unpack is None else lambda row: [record for part in unpack(row) for record in one(part)]

    def says_yes_or_no(row: Row) -> bool:
        try:
            rows = nested(row[inside]) if inside is not None else [row] if unpack is None else unpack(row)
            return fits(row) and all(is_outcome(judgements(part)) for part in rows)
        except (LayoutError, KeyError, TypeError, AttributeError, ValueError, IndexError):
            return fits(row)

    strict = partial(outcomes, verdicts_only=True)
    return (
        layout(name, "outcome", columns, records(strict), says_yes_or_no, uses=uses),
        layout(name, "rating", columns, records(ratings), fits, uses=uses),
        layout(name, "outcome", columns, records(outcomes), fits, uses=uses),
    )


def judged(judgements: Iterable[Judgement]) -> list[Judgement]:
    """The judgements that say something, the entries of objects and of lists one by one; context is left out."""
    named = LABELS | SCORES | INVERTED
    return [j for j in _flat(judgements) if meaning(j.value) is not None or canonical(j.name) in named]


def is_outcome(judgements: Iterable[Judgement]) -> bool:
    """Whether such rows are outcomes unless a kind is given: one verdict says yes or no, or nothing was said."""
    effective = judged(judgements)
    verdicts = [j for j in effective if _is_verdict(j)]
    plain = all(isinstance(meaning(j.value), bool) for j in verdicts)
    return not effective or (plain and len({j.name for j in verdicts}) == 1)


def outcomes(base: Mapping[str, Any], judgements: Iterable[Judgement], *, verdicts_only: bool = False) -> Rows:
    """An outcome for each judgement of the one criterion that counts; none where nothing was said.

    A criterion that is a verdict goes before others, and yes and no before 1 and 0. Raises `LayoutError` for two
    criteria, for numbers and words that say neither good nor bad, for a criterion whose yes is bad, and with
    `verdicts_only` for one that is no verdict.
    """
    effective = judged(judgements)
    if not effective:
        return []
    verdicts = _yes_or_no(effective)
    if not verdicts:
        odd = next((j for j in effective if isinstance(meaning(j.value), float)), effective[0])
        if isinstance(meaning(odd.value), float):
            reason = f"`{odd.name}` is a number, which says neither good nor bad"
            raise LayoutError(reason, "Give --kind rating", odd.column, value=odd.value)
        raise _unread(odd)
    names = list(dict.fromkeys(j.name for j in verdicts))
    if len(names) > 1:
        listed = ", ".join(f"`{name}`" for name in names)
        raise LayoutError(f"the answer is judged by several criteria ({listed})", _WITH_FLAGS, verdicts[0].column)
    if is_inverted(names[0]):
        raise _inverted(verdicts[0])
    if verdicts_only and not _is_verdict(verdicts[0]):
        reason = f"`{names[0]}` is no verdict on the whole answer, as rows before have one"
        raise LayoutError(reason, "Give --kind rating, or leave such rows out", verdicts[0].column)
    return [
        {**base, "label": meaning(j.value) in (True, 1.0), "annotator": _person(j.by), "criterion": j.name}
        for j in verdicts
    ]


def ratings(base: Mapping[str, Any], judgements: Iterable[Judgement]) -> Rows:
    """A rating with one attribute a criterion, for each person; none where nothing was said.

    Somebody who judged by one criterion twice gives two records. Words that say neither good nor bad, and criteria that
    are better where they are low, stay beside. Raises `LayoutError` where nothing else was said.
    """
    effective = judged(judgements)
    records: list[tuple[Any, dict[str, float]]] = []
    for judgement in effective:
        value = meaning(judgement.value)
        if value is None or is_inverted(judgement.name):
            continue
        person = _person(judgement.by)
        free = (scores for who, scores in records if who == person and judgement.name not in scores)
        scores = next(free, None)
        if scores is None:
            scores = {}
            records.append((person, scores))
        scores[judgement.name] = float(value)
    if effective and not records:
        if inverted := next((j for j in effective if meaning(j.value) is not None), None):
            raise _inverted(inverted)
        raise _unread(effective[0])
    return [{**base, "score": scores, "annotator": person} for person, scores in records]


def _unread(judgement: Judgement) -> LayoutError:
    reason = f"`{judgement.name}` says neither good nor bad, nor a number"
    mend = "Leave it out, or write good, bad or a number"
    return LayoutError(reason, mend, judgement.column, value=judgement.value)


def _inverted(judgement: Judgement) -> LayoutError:
    reason = f"`{judgement.name}` may be better where it is low or says no"
    mend = "Write it the other way round, under a name that says what is good"
    return LayoutError(reason, mend, judgement.column, value=judgement.value)


def _flat(judgements: Iterable[Judgement]) -> Iterator[Judgement]:
    for judgement in judgements:
        value = nested(judgement.value)
        if isinstance(value, Mapping):
            yield from _flat(replace(judgement, name=f"{judgement.name}.{key}", value=v) for key, v in value.items())
        elif isinstance(value, list):
            yield from _flat(replace(judgement, value=item) for item in value)
        elif not is_blank(value):
            yield replace(judgement, value=value)


def _is_verdict(judgement: Judgement) -> bool:
    return judgement.verdict or canonical(judgement.name) in VERDICTS


def _yes_or_no(effective: list[Judgement]) -> list[Judgement]:
    """The judgements that say yes or no, else those that say 1 or 0; of verdicts where there are any."""
    binary = [j for j in effective if isinstance(meaning(j.value), bool)]
    binary = binary or [j for j in effective if meaning(j.value) in (0.0, 1.0)]
    return [j for j in binary if _is_verdict(j)] or binary


def _person(by: Any) -> str | int | float | None:
    if is_blank(by):
        return None
    return by if isinstance(by, str | int | float) else str(by)
