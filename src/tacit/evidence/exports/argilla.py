"""Argilla's exports of records that people answered.

- Version 2, `to_datasets`, `to_list(flatten=True)`: fields as columns, and for a question Q the lists `Q.responses`,
  `Q.responses.users` and `Q.responses.status` (submitted, draft, discarded), one entry a person; `Q.suggestion` comes
  from a model and is not read. `to_json`, `to_list`: {fields, responses: {Q: [{value, user_id}]}, suggestions, ...}.
- Version 1: {fields, responses: [{user_id, status, values: {Q: {value}}}]}, and as a data set the columns of the fields
  and Q: [{user_id, value, status}] (`datasets` makes one object of lists of it).
- A label is a word: the name of a field with an answer (`response_1`: it won), a tie, or good or bad. A rating is a
  number, a ranking a list of {value, rank}, 1 the best. Version 2 drops the ranks and writes the names in the order of
  the question, so that its rankings say nothing and are refused; a number beside two answers is refused too.
- Only what was submitted counts. A question with free text judges nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tacit.evidence.codes import dense_ranks, is_blank, number
from tacit.evidence.criteria import Judgement, is_outcome, judged, meaning, outcomes, ratings
from tacit.evidence.exchange import Text, conversation
from tacit.evidence.layout import Layout, LayoutError, Row, Rows, layout, nested, pair_of, without
from tacit.evidence.names import canonical
from tacit.evidence.records import Kind

_PROMPTS = ("system", "system_prompt", "context", "chat", "instruction", "prompt", "question", "query", "input")
_ANSWER = re.compile(r"(?:response|completion|generation|output|answer|summary|text|reply|candidate)(?:[_ -]?\w{1,2})?")
_TIES = {"tie", "tied", "equal", "draw", "same", "both", "neither", "none", "both_good", "both_bad", "no_preference"}
_WORDS = 8
"""Labels are shorter than this, in words; longer ones are free text."""


@dataclass(frozen=True)
class _Response:
    question: str
    value: Any
    column: str
    by: Any


def is_records(row: Row) -> bool:
    """Whether a row is a record with fields and responses."""
    fields, responses = nested(row["fields"]), nested(row["responses"])
    return isinstance(fields, Mapping) and (responses is None or isinstance(responses, list | Mapping))


def is_flat(row: Row) -> bool:
    """Whether a row has fields and responses as columns."""
    return any(name.endswith(".responses.users") or name.endswith(".responses") for name in row) or any(
        _v1(value) is not None for value in row.values()
    )


def responses_of(row: Row) -> list[_Response]:
    """What people submitted, question by question."""
    entries = _of_record(row) if "fields" in row and "responses" in row else _of_columns(row)
    return [
        _Response(question, value, column, by)
        for question, value, status, by, column in entries
        if not is_blank(value) and value != [] and str(status or "submitted").split(".")[-1].lower() == "submitted"
    ]


def _of_record(row: Row) -> Iterator[tuple[str, Any, Any, Any, str]]:
    responses = nested(row["responses"])
    if isinstance(responses, Mapping):
        for question, entries in responses.items():
            for entry in entries or ():
                yield question, entry.get("value"), entry.get("status"), entry.get("user_id"), "responses"
    else:
        for entry in responses or ():
            for question, value in (entry.get("values") or {}).items():
                yield question, value.get("value"), entry.get("status"), entry.get("user_id"), "responses"


def _of_columns(row: Row) -> Iterator[tuple[str, Any, Any, Any, str]]:
    for name, value in row.items():
        if name.endswith(".responses"):
            values = nested(value) or ()
            users, status = (nested(row.get(f"{name}.{part}")) or [None] * len(values) for part in ("users", "status"))
            for answer, user, state in zip(values, users, status, strict=True):
                yield name.removesuffix(".responses"), answer, state, user, name
        elif (entries := _v1(value)) is not None:
            for entry in entries:
                yield name, entry.get("value"), entry.get("status"), entry.get("user_id"), name


def _v1(value: Any) -> list[Mapping[str, Any]] | None:
    """A column of version 1 as a list of {user_id, value, status}; None for other columns."""
    value = nested(value)
    if isinstance(value, Mapping) and value.keys() == {"user_id", "value", "status"}:
        lists = [value[name] or () for name in ("user_id", "value", "status")]
        if all(isinstance(entries, list) for entries in lists):
            return [dict(zip(("user_id", "value", "status"), entry, strict=True)) for entry in zip(*lists, strict=True)]
    if not isinstance(value, list) or not value:
        return None
    return value if all(isinstance(e, Mapping) and e.keys() == {"user_id", "value", "status"} for e in value) else None


def _fields(row: Row) -> tuple[Text, dict[str, Any], dict[str, Any]]:
    """The prompt, the answers by their names, and what stands beside."""
    inside = "fields" in row and "responses" in row
    fields = nested(row["fields"]) if inside else row
    names = {canonical(name): name for name in fields}
    prompts = [names[name] for name in _PROMPTS if name in names and not is_blank(fields[names[name]])]
    answers = {
        name: fields[name]
        for name in fields
        if name not in prompts and _ANSWER.fullmatch(canonical(name)) and isinstance(fields[name], str)
    }
    texts: list[Any] = [conversation(nested(fields[name])) or fields[name] for name in prompts]
    prompt: Text = "\n\n".join(str(text) for text in texts)
    if any(isinstance(text, list) for text in texts):
        listed = [text if isinstance(text, list) else [{"role": "user", "content": str(text)}] for text in texts]
        prompt = [message for messages in listed for message in messages]
    extras = without(row, "fields", "vectors") if inside else without(row, *prompts, *answers)
    return prompt, answers, {name: value for name, value in extras.items() if name not in ("status", "score")}


@dataclass(frozen=True)
class _Readings:
    """What people said of a record: comparisons and rankings of its answers, judgements of its one answer."""

    comparisons: Rows = field(default_factory=list)
    rankings: Rows = field(default_factory=list)
    base: dict[str, Any] = field(default_factory=dict)
    judgements: list[Judgement] = field(default_factory=list)

    def of(self, kind: Kind) -> Rows:
        """The records of one kind."""
        if kind in ("outcome", "rating"):
            return (outcomes if kind == "outcome" else ratings)(self.base, self.judgements) if self.judgements else []
        return self.comparisons if kind == "comparison" else self.rankings

    def kinds(self) -> list[Kind]:
        """The kinds that were given, the one that is read first."""
        single: list[Kind] = ["outcome", "rating"] if is_outcome(self.judgements) else ["rating", "outcome"]
        listed: list[Kind] = ["comparison"] if self.comparisons else []
        listed += ["ranking"] if self.rankings else []
        return [*listed, *(single if self.judgements else [])]


def readings(row: Row) -> _Readings:
    """What was said of a record. Raises `LayoutError` for a label, a number or a ranking that cannot be read."""
    responses = responses_of(row)
    if not responses:
        return _Readings()
    prompt, answers, extras = _fields(row)
    result = _Readings(base={**extras, "prompt": prompt})
    judgements: list[Judgement] = []
    for response in responses:
        value = nested(response.value)
        by = None if response.by is None else str(response.by)
        beside = {**result.base, "annotator": by, "question": response.question}
        if isinstance(value, list) and all(isinstance(item, Mapping) and "value" in item for item in value):
            result.rankings.extend(_ranking(beside, answers, value, response.column))
        elif isinstance(value, list) and len(value) > 1 and all(_named(item, answers) for item in value):
            raise LayoutError(
                "the ranking has no ranks: Argilla 2 writes its names in the order of the question",
                "Export {value, rank} from its server's API",
                response.column,
                value=value,
            )
        elif len(answers) > 1:
            result.comparisons.extend(_comparisons(beside, answers, value, response.column))
        else:
            judgements.append(Judgement(response.question, value, response.column, by, verdict=True))
    effective = [j for j in judged(judgements) if meaning(j.value) is not None or len(str(j.value).split()) <= _WORDS]
    if effective and not answers:
        raise LayoutError("no field holds the answer", "Name it `response`", effective[0].column)
    result.base["completion"] = next(iter(answers.values()), None)
    result.judgements.extend(effective)
    return result


def _named(value: Any, answers: Mapping[str, Any]) -> str | None:
    """The answer that a label names: by its field's name, or by the number or letter at its end."""
    word = canonical(str(value))
    exact = next((name for name in answers if canonical(name) == word), None)
    ends = [name for name in answers if word and re.fullmatch(rf"\D+_?{re.escape(word)}", canonical(name))]
    return exact or (ends[0] if len(ends) == 1 and len(word) == 1 else None)


def _comparisons(beside: dict[str, Any], answers: Mapping[str, str], value: Any, column: str) -> Rows:
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(value, str) and len(value.split()) > _WORDS:
        return []
    won = None if isinstance(value, bool | int | float) else _named(value, answers)
    if won is not None:
        others = [text for name, text in answers.items() if name != won]
        return [pair_of(beside, answers[won], other, 1.0) for other in others]
    if len(answers) == 2 and canonical(str(value)) in _TIES:
        first, second = answers.values()
        return [pair_of(beside, first, second, 0.5)]
    listed = ", ".join(f"`{name}`" for name in answers)
    raise LayoutError(f"the label names none of the answers {listed}", "Write one of these or tie", column, value=value)


def _ranking(beside: dict[str, Any], answers: Mapping[str, str], value: list[Mapping[str, Any]], column: str) -> Rows:
    names = [_named(item["value"], answers) for item in value]
    ranks = [number(item.get("rank"), column, "a rank of 1 (the best) or more", 1) for item in value]
    if None in names or None in ranks:
        raise LayoutError(
            "the ranking names no answer, or gives no rank", "Give {value, rank} each", column, value=value
        )
    texts = [answers[name] for name in names if name is not None]
    places = dense_ranks(rank for rank in ranks if rank is not None)
    return [{**beside, "completions": texts, "ranks": places}] if len(texts) > 1 else []


def _of_kind(kind: Kind) -> Callable[[Row], Rows]:
    def records(row: Row) -> Rows:
        result = readings(row)
        kinds = result.kinds()
        if kinds and kind not in kinds:
            raise LayoutError(f"a {kinds[0]} among {kind}s", f"Give --kind {kinds[0]}", "responses")
        return result.of(kind)

    return records


def _with(fits: Callable[[Row], bool], kind: Kind, first: Kind, *, several: bool) -> Callable[[Row], bool]:
    """Whether rows are read as a kind unless one is given: `first` where nothing, or nothing readable, was said."""

    def chosen(row: Row) -> bool:
        if not fits(row) or (len(_fields(row)[1]) > 1) != several:
            return False
        try:
            return kind == next(iter(readings(row).kinds()), first)
        except (LayoutError, KeyError, TypeError, AttributeError, ValueError):
            return kind == first

    return chosen


def _layouts() -> Iterator[Layout]:
    pairs: tuple[tuple[str, bool, tuple[Kind, Kind]], ...] = (
        ("", True, ("comparison", "ranking")),
        ("_answer", False, ("outcome", "rating")),
    )
    for name, columns, fits in (("argilla", "fields responses", is_records), ("argilla_columns", "", is_flat)):
        for suffix, several, kinds in pairs:
            for kind in kinds:
                fit = _with(fits, kind, kinds[0], several=several)
                yield layout(name + suffix, kind, columns, _of_kind(kind), fit)
            for kind in kinds:
                yield layout(name + suffix, kind, columns, _of_kind(kind), _either(fits, several=several))


def _either(fits: Callable[[Row], bool], *, several: bool) -> Callable[[Row], bool]:
    return lambda row: fits(row) and (len(_fields(row)[1]) > 1) == several


LAYOUTS = tuple(_layouts())
