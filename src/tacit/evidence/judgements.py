"""What people say of one answer: how all values of a column that judges are read, or why they are not.

Two public tables decide: columns by `LABELS` and `SCORES` (`tacit.evidence.names`), values by `GOOD`, `BAD` and the
ordered forms: numbers, stars, `3/5` (`tacit.evidence.values`). A column is a judgement if its name stands in the one
and its values in the other; a name with other values, or values that can be read in two ways, is refused with the flags
that decide.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tacit.errors import EvidenceError, TacitError
from tacit.evidence.advice import flags_for, option, shortened
from tacit.evidence.layout import LayoutError
from tacit.evidence.names import SCORES, judged_name
from tacit.evidence.survey import Values, number_of, token
from tacit.evidence.values import BAD, GOOD, are_binary, is_known, is_short, ordered, plain

Meaning = bool | float | None


def parse_codes(
    flag: str, given: Collection[str] | Mapping[str, Any], meanings: Mapping[str, Any], *, numbers: bool
) -> dict[str, Any]:
    """What a flag such as `--labels ok=good,poor=bad` says: each value's token and its meaning.

    A mapping may have values with a comma too. Raises `TacitError` for what is not VALUE=MEANING, an unknown meaning,
    and a value that is given twice.
    """
    known = ", ".join(meanings) + (" or a number" if numbers else "")
    codes: dict[str, Any] = {}
    if isinstance(given, Mapping):
        pairs = [f"{value}={meaning}" for value, meaning in given.items()]
    else:
        pairs = [part for text in given for part in _parts(text)]
    for pair in pairs:
        value, equals, meaning = pair.rpartition("=")
        word, number = meaning.strip().lower(), number_of(meaning.strip())
        if not equals or (word not in meanings and not (numbers and number is not None)):
            raise TacitError(f"{flag} {pair}: give VALUE=MEANING, where the meaning is {known}")
        key = token(value) or ""
        if key in codes:
            raise TacitError(f"{flag} {pair}: the value {value!r} is given twice. Give each value one meaning")
        codes[key] = meanings.get(word, number)
    return codes


def _parts(text: str) -> list[str]:
    """The pairs of a flag, between commas; a comma before which no meaning stands belongs to a value (`4,5=good`)."""
    parts: list[str] = []
    for part in text.split(","):
        if parts and "=" not in parts[-1]:
            parts[-1] += "," + part
        else:
            parts.append(part)
    return parts


LABEL_MEANINGS: Mapping[str, Any] = {"good": True, "bad": False, "blank": None}


@dataclass(frozen=True)
class Scale:
    """How the values of a column are read: `kind` is outcome (true or false) or rating (a number)."""

    column: str
    kind: Literal["outcome", "rating"]
    read: Callable[[str], Meaning]
    codes: Mapping[str, Meaning]

    def value(self, cell: Any) -> Meaning:
        """What one cell says; None for nothing. Raises `LayoutError` for a value that the scale does not have."""
        word = token(cell)
        if word is None:
            return self.codes.get("")
        if word in self.codes:
            return self.codes[word]
        meaning = self.read(word)
        if meaning is None:
            raise LayoutError(
                "the value is no judgement as the others are",
                f"Give it a meaning with --labels {word}=..., or fix it",
                self.column,
                value=cell,
            )
        return meaning


def scale_of(
    column: str,
    values: Values,
    codes: Mapping[str, Meaning],
    source: str,
    kind: str | None = None,
    title: str | None = None,
) -> Scale | None:
    """The scale of a column that judges, from all of its values; None where it has none.

    `codes` are what --labels says, `title` is what the file calls the column. Raises `EvidenceError` for values that no
    table has or that can be read in two ways.
    """
    tokens = [word for word in values.rows if word not in codes]
    given = [meaning for word, meaning in codes.items() if meaning is not None]
    scored = judged_name(column) in SCORES
    title = title or column
    if not tokens and not values.many:
        if not any(word in values.rows for word in codes):
            return None
        return Scale(column, _kind_of(given, column, source), lambda word: None, codes)
    binary = given and all(isinstance(meaning, bool) for meaning in given)
    if values.text is None and not values.many and are_binary(tokens):
        if given and not binary:
            raise _mixed(title, tokens[0], values, source)
        return _asked(Scale(column, "outcome", _word, codes), kind, column, source)
    numbers = set(values.numbers) - {number_of(word) for word in codes}
    if values.text is None and all(number_of(word) is not None for word in tokens):
        if not scored and not values.many and numbers <= {0.0, 1.0, -1.0} and (not given or binary):
            if {0.0, -1.0} <= numbers:
                raise _refused(
                    title, "hold 0 beside 1 and -1, which is no vote or one in the middle", values, tokens, source,
                    "Give --labels 1=good,-1=bad,0=blank if 0 is no vote, or --labels 1=1,0=0,-1=-1 for a scale",
                )  # fmt: skip
            return _asked(Scale(column, "outcome", _sign, codes), kind, column, source)
        whole = numbers and min(numbers) >= 1 and max(numbers) <= 10 and len(numbers) > 2
        if given and binary and (scored or whole):
            raise _refused(
                title, "are numbers beside the ones that --labels calls good and bad", values, tokens, source,
                f"Give each value a meaning, as --labels {tokens[0]}=blank too",
            )  # fmt: skip
        if scored or whole or (given and not binary):
            return _asked(Scale(column, "rating", number_of, codes), kind, column, source)
        raise _refused(
            title, "are numbers that may be codes or a scale", values, tokens, source,
            f"Give {option('--columns', f'score={title}')} if higher is better, or the meaning of each value, as"
            f" {option('--labels', f'{min(tokens, key=_number)}=bad,{max(tokens, key=_number)}=good')}",
        )  # fmt: skip
    read = ordered(tokens) if values.text is None and not values.many else None
    if read is not None:
        return _asked(Scale(column, "rating", read, codes), kind, column, source)
    odd, row = values.text or next(
        ((word, values.rows[word]) for word in tokens if not is_known(word) or is_short(word)),
        (tokens[-1], values.rows[tokens[-1]]),
    )
    mend = flags_for(title, values, read=True, known=codes)
    raise _refused(title, "are not all judgements that are known", values, [odd], source, mend, row)


def require_labels(values: Mapping[str, Values], codes: Mapping[str, Meaning], source: str) -> None:
    """Raise `EvidenceError` where --labels explains no value of any of these columns."""
    seen = {word for column in values.values() for word in column.rows}
    if not codes or "" in codes or codes.keys() & seen or any(column.many for column in values.values()):
        return
    raise EvidenceError(
        f"--labels explains {shortened(list(codes))}, and no row has such a value",
        mend=f"The values are {shortened(sorted(seen))}",
        source=source,
        column=next(iter(values), None),
    )


def _word(word: str) -> Meaning:
    said = plain(word)
    return True if said in GOOD else False if said in BAD else None


def _number(word: str) -> float:
    return number_of(word) or 0.0


def _sign(word: str) -> Meaning:
    number = number_of(word)
    return None if number not in (0.0, 1.0, -1.0) else number == 1.0


def _kind_of(meanings: Collection[Any], column: str, source: str) -> Literal["outcome", "rating"]:
    kinds = {isinstance(meaning, bool) for meaning in meanings}
    if len(kinds) != 1:
        raise EvidenceError(
            "--labels mixes good and bad with numbers", mend="Give one or the other", source=source, column=column
        )
    return "outcome" if kinds.pop() else "rating"


def _asked(scale: Scale, kind: str | None, column: str, source: str) -> Scale:
    """The scale as the kind that was asked for: good and bad are 1 and 0 as a rating; a number is no outcome."""
    if kind in (None, scale.kind):
        return scale
    if kind == "rating":
        read = scale.read
        codes = {word: None if meaning is None else float(meaning) for word, meaning in scale.codes.items()}
        return Scale(column, "rating", lambda word: None if (m := read(word)) is None else float(m), codes)
    raise EvidenceError(
        "numbers on a scale say neither good nor bad",
        mend="Give --labels with the meaning of each value, as --labels 1=bad,2=bad,3=blank,4=good,5=good",
        source=source,
        column=column,
    )


def _mixed(column: str, word: str, values: Values, source: str) -> EvidenceError:
    return EvidenceError(
        "--labels gives numbers, and this value is a word",
        mend=f"Give it a number too, as --labels {word}=1",
        source=source,
        row=values.rows[word],
        column=column,
        value=word,
    )


def _refused(
    column: str, what: str, values: Values, tokens: list[str], source: str, mend: str, row: int | None = None
) -> EvidenceError:
    shown = shortened(list(values.rows))
    return EvidenceError(
        f"a column of judgements whose values ({shown}) {what}",
        mend=mend,
        source=source,
        row=values.rows.get(tokens[0], row) if row is None else row,
        column=column,
        value=tokens[0],
    )
