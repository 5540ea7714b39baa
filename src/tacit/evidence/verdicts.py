"""Which of two answers people preferred: which columns hold the answers and the verdict, and what the verdict says.

Words, letters, the columns' own names, models' names and the answer itself name a side wherever they stand. A number
names a side only where a known layout says so, or by --verdict; every other column of numbers is refused after all of
its values were seen, with both readings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tacit.errors import EvidenceError
from tacit.evidence.advice import codes as typed_codes
from tacit.evidence.advice import option, shortened
from tacit.evidence.layout import LayoutError, Row
from tacit.evidence.names import VERDICTS, canonical, hints_at_verdict, words
from tacit.evidence.survey import Values, number_of, token

TIES = words(
    """
    tie tied ties equal equals equally draw drawn same both neither bothbad both_bad tie_bothbad tie_both_bad
    both_good tie_bothgood no_preference no_difference indifferent a=b b=a similar equally_good equally_bad
    both_are_bad both_are_good about_the_same the_same about_equal equal_quality neither_is_better no_winner = ==
    """
)
"""Words for a tie, both answers being bad included."""
SKIPPED = words("skip skipped no_vote no_answer unlabeled unlabelled")
"""Words for no verdict."""
_SUFFIXES = (("a", "b"), ("1", "2"), ("0", "1"), ("left", "right"), ("first", "second"), ("one", "two"))
_FURTHER = {
    **{("a", "b"): ("c",), ("1", "2"): ("0", "3"), ("0", "1"): ("2",)},
    **{("first", "second"): ("third",), ("one", "two"): ("three",)},
}
_ANSWERS = (
    *("response", "answer", "completion", "output", "conversation", "reply", "generation", "text", "message"),
    *("summary", "candidate", "option", "story", "assistant", "result", "a", "content", "version", "system", "item"),
)
_MODELS = ("model", "model_name", "generator", "bot", "source")
_FIRST, _SECOND = r"(?:a|1st|first|left|one|1)", r"(?:b|2nd|second|right|two|2)"
_NOUN = (
    r"(?:the\s+)?(?:(?:response|answer|completion|output|model|assistant|option|candidate|system|summary|text)[\s_-]*)?"
)
_MUCH = r"(?:is\s+)?(?:much|slightly|significantly|clearly|marginally|a\s+bit|a\s+little|a\s+lot|far|strongly)?\s*"
_SAYS = (
    r"(?:(?:i\s+)?(?:strongly\s+|slightly\s+|much\s+)?prefer(?:red)?\s+)?{noun}{side}"
    r"(?:\s+(?:{much}(?:better|best|preferred|favou?red)|wins?|won|only)(?:\s+than\s+{noun}(?:{other}|the\s+other))?)?"
)
_BETTER = re.compile(r"(a|b)\s*(>{1,3}|<{1,3}|=|<=>)\s*(a|b)")


def _pattern(side: str, other: str) -> re.Pattern[str]:
    return re.compile(_SAYS.format(noun=_NOUN, side=side, other=other, much=_MUCH))


_NAMES_FIRST, _NAMES_SECOND = _pattern(_FIRST, _SECOND), _pattern(_SECOND, _FIRST)

VERDICT_MEANINGS: Mapping[str, float | None] = {"first": 1.0, "second": 0.0, "tie": 0.5, "blank": None}
"""What --verdict may say of a value, as the share of the first answer."""


@dataclass(frozen=True)
class Sides:
    """The columns of two answers and of the verdict, and of the models' names where there are any."""

    first: str
    second: str
    verdict: str
    models: tuple[str, str] | None = None
    titles: tuple[str, str] | None = None
    """What the source calls the two answers, where --columns renamed them."""
    title: str | None = None
    """What the source calls the verdict."""

    @property
    def shown_names(self) -> tuple[str, str]:
        """The two answers as messages name them."""
        return self.titles or (self.first, self.second)

    @property
    def shown_verdict(self) -> str:
        """The verdict as messages name it."""
        return self.title or self.verdict

    @property
    def shown(self) -> bool:
        """Whether the names say where an answer stood; others may name two systems that were shown in any order."""
        first = canonical(self.first)
        return "left" in first.split("_") or first == "conversation_a"


def all_sides(row: Row) -> list[tuple[str, str]]:
    """The columns of two answers: equal names but for their ends (or beginnings) A and B, 1 and 2, left and right, ...

    Bare ends (`left`, `right`) stand before longer names. Nothing from the first name that three columns or more have.
    """
    plain = {canonical(name): name for name in reversed(list(row))}
    pairs: list[tuple[str, str]] = []
    for stem in ("", *_ANSWERS):
        for pair in _SUFFIXES:
            if not stem and pair in (("0", "1"), ("1", "2")):
                continue
            shapes = ("{stem}_{end}", "{stem}{end}", "{end}_{stem}") if stem else ("{end}",)
            for shape in shapes:
                first, second = (plain.get(shape.format(stem=stem, end=end)) for end in pair)
                if first is None or second is None or not all(_is_answer(row[side]) for side in (first, second)):
                    continue
                if any(shape.format(stem=stem, end=end) in plain for end in _FURTHER.get(pair, ())):
                    return pairs
                if (first, second) not in pairs:
                    pairs.append((first, second))
    return pairs


def find_sides(row: Row) -> tuple[str, str] | None:
    """The columns of two answers; None where there are none, or three.

    Raises `LayoutError` where columns with bare names (`left`, `right`) and with longer ones could be the answers.
    """
    pairs = all_sides(row)
    if len(pairs) > 1 and canonical(pairs[0][0]) in {end for pair in _SUFFIXES for end in pair}:
        (first, second), (other, _) = pairs[:2]
        raise LayoutError(
            f"`{first}` and `{second}` may be the two answers, and so may `{other}` and its like",
            f"Leave out those that are not, as --ignore {first}",
            first,
        )
    return pairs[0] if pairs else None


def sides_of(row: Row, theirs: Mapping[str, str]) -> list[Sides]:
    """The two answers with each column that may be their verdict; empty where a row has no two answers.

    A column whose name only holds a word for a verdict is one where no other has such a name. `theirs` is what the
    source calls columns that were renamed.
    """
    pairs = all_sides(row)
    aside = {column for pair in pairs for column in pair}
    plain = {canonical(name): name for name in row if name not in aside}
    names = [plain[word] for word in VERDICTS if word in plain]
    if not names and pairs and canonical(pairs[0][0]) == "output_1":
        names = [plain[word] for word in ("label",) if word in plain]
    if pairs and not names:
        names = [name for name in plain.values() if hints_at_verdict(name)]
    pair = find_sides(row) if names else None
    if pair is None:
        return []
    titles = (theirs.get(pair[0], pair[0]), theirs.get(pair[1], pair[1]))
    return [Sides(*pair, name, _models(row), titles, theirs.get(name)) for name in names]


def _models(row: Row) -> tuple[str, str] | None:
    plain = {canonical(name): name for name in row}
    for stem in _MODELS:
        for pair in _SUFFIXES:
            first, second = (plain.get(f"{stem}_{end}", plain.get(f"{stem}{end}")) for end in pair)
            if first is not None and second is not None:
                return first, second
    return None


def _is_answer(value: Any) -> bool:
    return value is None or isinstance(value, str | list | int | float)


def scores_beside(row: Row, pair: tuple[str, str]) -> tuple[str, str] | None:
    """Columns with a score of each of two answers, whose names end (or begin) as theirs do; the higher one wins."""
    plain = {canonical(name): name for name in row if name not in pair}
    for first, second in _SUFFIXES:
        if not all(
            end in re.split(r"_|(?=\d$)", canonical(side)) for end, side in zip((first, second), pair, strict=True)
        ):
            continue
        for stem in ("score", "rating", "stars", "reward", "quality"):
            for shape in ("{stem}_{end}", "{stem}{end}", "{end}_{stem}"):
                names = [plain.get(shape.format(stem=stem, end=end)) for end in (first, second)]
                if names[0] is not None and names[1] is not None:
                    return names[0], names[1]
    return None


@dataclass(frozen=True)
class HigherScore:
    """A verdict by the scores of two answers: the higher one is better, equal ones tie, a blank one says nothing."""

    sides: Sides
    scores: tuple[str, str]

    def share(self, row: Row) -> float | None:
        """1 where the first answer has the higher score, 0 the second, 0.5 for a tie, None where a score is blank."""
        numbers = []
        for column in self.scores:
            word = token(row.get(column))
            if word is None:
                return None
            number = number_of(word)
            if number is None:
                raise LayoutError("the score is no number", "Give a number", column, value=row.get(column))
            numbers.append(number)
        return 0.5 if numbers[0] == numbers[1] else float(numbers[0] > numbers[1])


@dataclass(frozen=True)
class VerdictCode:
    """How a verdict is read: words always, numbers by `numbers` (token to share of the first answer)."""

    sides: Sides
    numbers: Mapping[str, float | None] = field(default_factory=dict)
    probabilities: bool = False
    """Numbers from 1 to 2 say how likely the second answer is better, less 1; 0 is a draw (AlpacaEval)."""

    def share(self, row: Row) -> float | None:
        """1 where the first answer won, 0 the second, 0.5 a tie, None without a verdict. Raises `LayoutError`."""
        sides, value = self.sides, row.get(self.sides.verdict)
        word = token(value)
        if word is None:
            return self.numbers.get("")
        if word in self.numbers:
            return self.numbers[word]
        number = number_of(word)
        if number is not None and self.probabilities:
            if number == 0 or 1 <= number <= 2:
                return 0.5 if number in (0, 1.5) else float(number < 1.5)
        elif number is None:
            if (named := _named(word, row, sides)) is not None:
                return named
            if _plain(word) in SKIPPED:
                return None
        raise LayoutError("the verdict names no side", _written(word, sides), sides.shown_verdict, value=value)


def code_of(sides: Sides, values: Values, codes: Mapping[str, float | None], source: str) -> VerdictCode:
    """How to read a verdict, from all of its values.

    `codes` are what --verdict says. Raises `EvidenceError` for numbers that neither it nor a known layout explains.
    """
    tokens = [word for word in values.rows if word not in codes]
    numbers = sorted({number for word in tokens if (number := number_of(word)) is not None})
    truths = {word for word in tokens if word in ("true", "false")}
    alpaca = canonical(sides.first) == "output_1" and canonical(sides.verdict) in ("preference", "label")
    if codes and not any(word in codes for word in values.rows) and "" not in codes:
        raise EvidenceError(
            f"--verdict explains {', '.join(codes)}, and no row has such a verdict",
            mend=f"The values are {shortened(list(values.rows))}",
            source=source,
            column=sides.shown_verdict,
        )
    if numbers and alpaca and all(number == 0 or 1 <= number <= 2 for number in numbers) and set(numbers) != {0, 1}:
        label = canonical(sides.verdict) == "label"
        if not label or set(numbers) <= {1, 2}:
            return VerdictCode(sides, codes, probabilities=True)
    if numbers or truths:
        odd = next(word for word in tokens if number_of(word) is not None or word in truths)
        raise EvidenceError(
            f"{'numbers' if numbers else 'true and false'} in a verdict ({shortened(list(values.rows))}) do not say"
            " which answer they name",
            mend=_both_readings(sides, numbers, values.many),
            source=source,
            row=values.rows[odd],
            column=sides.shown_verdict,
        )
    return VerdictCode(sides, codes)


def _written(word: str, sides: Sides) -> str:
    """How to write a verdict, or to say what a word means."""
    first, second = sides.shown_names
    flag = option("--verdict", f"{word}=tie")
    return f"Write `{first}`, `{second}` or `tie`, or say what the value means, as {flag} (or first, second, blank)"


def _both_readings(sides: Sides, numbers: list[float], many: bool) -> str:
    """How to go on: --verdict with low values naming the first answer, and the other way round.

    Of 0 to 2 or 1 to 3 or 4 the ones past the two that name a side are ties; of other numbers those in the middle.
    """
    first, second = sides.shown_names
    if many or len(numbers) > 9:
        return (
            f"Write which answer won as `{first}`, `{second}` or `tie`, or as a number from 1 to 2 in"
            " columns `output_1`, `output_2`, `preference`"
        )
    ends = [f"{number:g}" for number in numbers] or ["false", "true"]
    if len(ends) == 1:
        named, other, tie = (option("--verdict", f"{ends[0]}={meaning}") for meaning in ("first", "second", "tie"))
        return f"Give {named} if it names `{first}`, {other} if it names `{second}`, or {tie}"
    half, counted = len(ends) // 2, numbers in ([0, 1, 2], [0, 1, 2, 3], [1, 2, 3], [1, 2, 3, 4])
    readings = []
    for low, high in (("first", "second"), ("second", "first")):
        if counted:
            said = {ends[0]: low, ends[1]: high} | dict.fromkeys(ends[2:], "tie")
        else:
            said = dict.fromkeys(ends[:half], low) | dict.fromkeys(ends[half : len(ends) - half], "tie")
            said |= dict.fromkeys(ends[-half:], high)
        readings.append(option("--verdict", typed_codes(said)))
    return (
        f"Give {readings[0]} if {ends[0]} names `{first}`, or {readings[1]} if it names"
        f" `{second}`; each may be first, second, tie or blank"
    )


def _named(word: str, row: Row, sides: Sides) -> float | None:
    """The share that a word names: a column, a model, a phrase with a letter, an answer. Raises `LayoutError` for two.

    Where models or answers are called A and B themselves, a letter may mean either.
    """
    readings = {
        share
        for share in (
            _by_name(word, (sides.first, sides.second)),
            _by_name(word, sides.shown_names),
            _by_model(word, row, sides),
            _by_phrase(word, sides),
            _by_text(word, (row.get(sides.first), row.get(sides.second))),
        )
        if share is not None
    }
    if len(readings) > 1:
        raise LayoutError(
            "the verdict can be read in two ways, since an answer or a model is called like that too",
            _written(word, sides),
            sides.shown_verdict,
            value=row.get(sides.verdict),
        )
    return next(iter(readings), None)


def _by_name(word: str, names: tuple[str, str]) -> float | None:
    said = {_plain(word), canonical(word)} - {""}
    return next((share for name, share in zip(names, (1.0, 0.0), strict=True) if canonical(name) in said), None)


def _by_model(word: str, row: Row, sides: Sides) -> float | None:
    if sides.models is None:
        return None
    if (named := _by_name(word, sides.models)) is not None:
        return named
    first, second = (token(row.get(name)) for name in sides.models)
    if word not in (first, second):
        return None
    if first == second:
        raise LayoutError(
            "the verdict names a model that gave both answers",
            f"Write `{sides.shown_names[0]}` or `{sides.shown_names[1]}`",
            sides.shown_verdict,
            value=row.get(sides.verdict),
        )
    return float(word == first)


def _by_text(word: str, answers: tuple[Any, Any]) -> float | None:
    first, second = map(token, answers)
    return float(word == first) if first != second and word in (first, second) else None


def _by_phrase(word: str, sides: Sides) -> float | None:
    if _plain(word) in TIES or _plain(word) == "tie_(bothbad)":
        return 0.5
    said = word.strip(" .!'\"[]()*")
    if ordered := _BETTER.fullmatch(said):
        left, sign, right = ordered.groups()
        if left == right:
            return None
        return 0.5 if "=" in sign else float((left == "a") == (">" in sign))
    if said == "c":  # as judges are asked to say of a tie beside A and B
        return 0.5
    zero_based = canonical(sides.first).endswith("0")
    if zero_based and re.search(r"[012]\b|\b(?:one|two)\b", said):
        return None
    return 1.0 if _NAMES_FIRST.fullmatch(said) else 0.0 if _NAMES_SECOND.fullmatch(said) else None


def names_side(value: Any) -> bool:
    """Whether a text is no answer but the name of one, as `A`, `response_b`, `Answer 2`."""
    word = token(value) or ""
    return any(pattern.fullmatch(word) for pattern in (_NAMES_FIRST, _NAMES_SECOND))


def _plain(word: str) -> str:
    return re.sub(r"[\s_-]+", "_", word.strip(" .!'\"[]*"))
