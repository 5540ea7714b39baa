"""What people say of one answer: which columns hold it, and what their values mean.

Two public tables decide: columns by `LABELS` and `SCORES`, values by `GOOD`, `BAD` and the ordered forms (numbers,
stars, `3/5`). A column is a judgement if its name stands in the one and its values in the other; a name with other
values, or values that can be read in two ways, is refused with the flags that decide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tacit.errors import EvidenceError, TacitError
from tacit.evidence.layout import LayoutError
from tacit.evidence.sources import words
from tacit.evidence.survey import Values, number_of, token

LABELS = words(
    """
    label labels correct is_correct thumb thumbs thumbs_up thumb_up thumbsup liked like is_liked feedback
    user_feedback human_feedback vote user_vote accepted is_accepted approved is_approved good is_good helpful
    is_helpful verdict judgement judgment human_label human_judgement human_judgment annotation pass passed kto_tag
    reaction acceptable desirable is_desirable correctness_label upvote upvoted outcome evaluation eval
    result_label
    """
)
"""Columns that say whether an answer is good: thumbs, right or wrong, words; also few whole numbers in order."""
SCORES = words(
    """
    score scores rating ratings stars star star_rating reward rewards quality overall overall_score overall_rating
    human_score human_rating user_rating user_score points mark marks satisfaction csat nps helpfulness
    correctness coherence complexity verbosity harmlessness honesty truthfulness relevance fluency accuracy_rating
    usefulness clarity safety factuality faithfulness conciseness instruction_following preference_score likert
    """
)
"""Columns that say how good an answer is: any number, higher is better."""
INVERTED = words(
    """
    thumbs_down thumb_down thumbsdown dislike disliked downvote downvoted is_bad bad wrong is_wrong incorrect
    is_incorrect toxic toxicity harmful is_harmful unsafe is_unsafe flagged is_flagged hallucination error is_error
    rejected_by rank
    """
)
"""Columns that judge the other way round, or by rank: never read by themselves, always refused with the flags."""
UNCLEAR = words("sentiment grade grades")
"""Columns that may judge in either direction (a 1 is the best grade in one country and the worst in another) or not at
all (a text may have a sentiment itself): always refused with the flags, too."""
MEASURES = words(
    """
    score scores rating ratings reward rewards stars grade grades likes dislikes upvotes downvotes votes thumbs
    perplexity ppl loss toxicity error errors accuracy bleu rouge wer cer f1
    """
)
"""Words in a longer name (`toxicity_score`, `avg_rating`, `num_likes`) under which numbers judge, in a direction that
the name may not say: refused with the flags where rows would otherwise be good examples or problems."""
VERDICTS = (
    *("winner", "preference", "preferred", "vote", "choice", "verdict", "better", "best", "which_is_better"),
    *("preferred_response", "preferred_answer", "better_response", "better_answer", "human_preference", "pick"),
    *("chosen_response", "selected", "selection", "which_one", "which_one_is_better", "favorite", "favourite"),
)
"""Columns that say which of two answers is better, in the order in which they are looked for."""
CONTEXT = words(
    """
    id idx index row row_id uid uuid no number num nr level type category subject topic domain difficulty language
    lang source split subset task dataset model model_name name turn turns round length tokens n_tokens n seed epoch
    step year month day date time timestamp version weight group annotator worker template checker system margin
    conversation_id user_id prompt_id question_id session_id temperature
    """
)
"""Columns that describe a row and judge nothing, whatever their values."""

GOOD = words(
    """
    up 👍 yes y true t positive pos good like liked thumbs_up thumb_up thumbsup correct right accept accepted approve
    approved pass passed helpful ✓ ✔ ✅ desirable upvote upvoted satisfied happy 😀 🙂 😊 + acceptable
    """
)
BAD = words(
    """
    down 👎 no n false f negative neg bad dislike disliked thumbs_down thumb_down thumbsdown incorrect wrong reject
    rejected disapprove disapproved fail failed unhelpful not_helpful ✗ ✘ ❌ undesirable downvote downvoted
    dissatisfied unsatisfied unhappy 😞 🙁 😠 - unacceptable not_correct not_good
    """
)
_STARS = re.compile(r"(?:[★⭐]️?)+(?:☆)*|☆+")
_OF = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*(?:/|of|out of)\s*(\d+(?:\.\d+)?)(?:\s*(?:stars?|points?))?")
_WITH_UNIT = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*(?:stars?|points?|★|⭐)")
_SKIN = re.compile("[\U0001f3fb-\U0001f3ff️]")

_LOW = words(
    """
    toxic toxicity harmful unsafe hallucination hallucinations hallucinated error errors bias biased wrong incorrect
    dislike dislikes downvote downvotes perplexity ppl loss wer cer
    """
)

Meaning = bool | float | None


def canonical(name: str) -> str:
    """A column's name without case and punctuation: `Thumbs up?` is `thumbs_up`, `isCorrect` is `is_correct`."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[^0-9a-z]+", "_", apart.lower()).strip("_")


def is_named(name: str) -> bool:
    """Whether a column's name says that it judges an answer, or which of two answers is better."""
    plain = canonical(name)
    return plain in LABELS or plain in SCORES or plain in INVERTED | UNCLEAR or plain in VERDICTS


def is_judged(row: Mapping[str, Any]) -> bool:
    """Whether any column of a row has a name that says that it judges."""
    return any(map(is_named, row))


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
        pairs = [part for text in given for part in text.split(",")]
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
    column: str, values: Values, codes: Mapping[str, Meaning], source: str, kind: str | None = None
) -> Scale | None:
    """The scale of a column that judges, from all of its values; None where it has none.

    `codes` are what --labels says. Raises `EvidenceError` for values that no table has or that can be read in two ways.
    """
    tokens = [word for word in values.rows if word not in codes]
    given = [meaning for word, meaning in codes.items() if meaning is not None]
    scored = canonical(column) in SCORES
    if not tokens and not values.many:
        if not any(word in values.rows for word in codes):
            return None
        return Scale(column, _kind_of(given, column, source), lambda word: None, codes)
    binary = given and all(isinstance(meaning, bool) for meaning in given)
    if values.text is None and not values.many and _are_binary(tokens):
        if given and not binary:
            raise _mixed(column, tokens[0], values, source)
        return _asked(Scale(column, "outcome", _word, codes), kind, column, source)
    numbers = set(values.numbers) - {number_of(word) for word in codes}
    if values.text is None and all(number_of(word) is not None for word in tokens):
        if not scored and not values.many and numbers <= {0.0, 1.0, -1.0} and (not given or binary):
            if {0.0, -1.0} <= numbers:
                raise _refused(
                    column, "hold 0 beside 1 and -1, which is no vote or one in the middle", values, tokens, source,
                    "Give --labels 1=good,-1=bad,0=blank if 0 is no vote, or --labels 1=1,0=0,-1=-1 for a scale",
                )  # fmt: skip
            return _asked(Scale(column, "outcome", _sign, codes), kind, column, source)
        whole = numbers and min(numbers) >= 1 and max(numbers) <= 10 and len(numbers) > 2
        if given and binary and (scored or whole):
            raise _refused(
                column, "are numbers beside the ones that --labels calls good and bad", values, tokens, source,
                f"Give each value a meaning, as --labels {tokens[0]}=blank too",
            )  # fmt: skip
        if scored or whole or (given and not binary):
            return _asked(Scale(column, "rating", number_of, codes), kind, column, source)
        raise _refused(
            column, "are numbers that may be codes or a scale", values, tokens, source,
            f"Give --columns score={column} if higher is better, or --labels with the meaning of each value, as"
            f" --labels {tokens[0]}=bad,{tokens[-1]}=good",
        )  # fmt: skip
    read = _ordered(tokens) if values.text is None and not values.many else None
    if read is not None:
        return _asked(Scale(column, "rating", read, codes), kind, column, source)
    odd, row = values.text or next(
        ((word, values.rows[word]) for word in tokens if not _known(word) or _is_short(word)),
        (tokens[-1], values.rows[tokens[-1]]),
    )
    raise _refused(
        column, "are not all judgements that are known", values, [odd], source,
        f"Give --labels {shortened([odd])}=good (or bad, blank, a number) for each, name another column with --columns"
        f" label=COLUMN, or leave this one out with --ignore {column}",
        row,
    )  # fmt: skip


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


def shortened(tokens: Sequence[str]) -> str:
    """A few values as a message shows them."""
    shown = [token if len(token) <= 30 else token[:29] + "…" for token in tokens[:8]]
    return ", ".join(shown) + (", ..." if len(tokens) > 8 else "")


def judges(values: Values) -> bool:
    """Whether what is known of a column's values so far could be judgements, whatever its name: all are in the tables.

    Numbers are thumbs (0, 1, -1) or a scale of whole numbers from 1 to 10.
    """
    if values.many or values.text is not None or len(values.rows) > 40:
        return False
    numbers = values.numbers
    if len(numbers) == len(values.rows):
        whole = all(number.is_integer() for number in numbers)
        return set(numbers) <= {0.0, 1.0, -1.0} or (whole and all(1 <= number <= 10 for number in numbers))
    if numbers:
        return False
    return _are_binary(values.rows) or _ordered(list(values.rows)) is not None


def is_inverted(name: str) -> bool:
    """Whether a criterion may be better where it is low or says no, by a word of its name (`hallucination_score`)."""
    plain = canonical(name)
    return plain in INVERTED or bool(_LOW & set(plain.split("_")))


def are_numbers(values: Values) -> bool:
    """Whether a column's values are numbers, as far as they are known; of more than 200 only the last ones are seen."""
    if values.text is not None:
        return False
    return values.many or len(values.rows) > 200 or len(values.numbers) == len(values.rows)


def _plain(word: str) -> str:
    """A word as the tables write it: `Thumbs up!` is thumbs_up, 👍🏽 is 👍."""
    bare = _SKIN.sub("", word).strip(" .!'\"[]()")
    return re.sub(r"[\s_-]+", "_", bare) if len(bare) > 1 else bare


_SHORT = ({"+", "-"}, {"y", "n", "yes", "no"}, {"t", "f", "true", "false"})


def _is_short(word: str) -> bool:
    return len(word) == 1 and any(word in family for family in _SHORT)


def _are_binary(tokens: Collection[str]) -> bool:
    """Whether all tokens say good or bad.

    A sign or a letter does beside its opposite alone: a `-` beside other words, or by itself, may be an empty cell.
    """
    plain = {_plain(word) for word in tokens}
    if plain == {"-"} or not plain <= GOOD | BAD:
        return False
    return all(plain <= family for family in _SHORT if any(_is_short(word) and word in family for word in plain))


def _word(word: str) -> Meaning:
    plain = _plain(word)
    return True if plain in GOOD else False if plain in BAD else None


def _sign(word: str) -> Meaning:
    number = number_of(word)
    return None if number not in (0.0, 1.0, -1.0) else number == 1.0


def _known(word: str) -> bool:
    return _plain(word) in GOOD | BAD or number_of(word) is not None or _ordered([word]) is not None


def _ordered(tokens: list[str]) -> Callable[[str], float | None] | None:
    """How to read stars, `3/5` or `4 stars`, where all tokens have one of these forms and one maximum."""

    def stars(word: str) -> float | None:
        return float(sum(c in "★⭐" for c in word)) if _STARS.fullmatch(word) else None

    def shares(word: str) -> float | None:
        match = _OF.fullmatch(word)
        return float(match[1]) if match else None

    def units(word: str) -> float | None:
        match = _WITH_UNIT.fullmatch(word)
        return float(match[1]) if match else number_of(word)

    maxima = {match[2] for word in tokens if (match := _OF.fullmatch(word))}
    lengths = {sum(c in "★⭐☆" for c in word) for word in tokens}
    if any("☆" in word for word in tokens) and len(lengths) > 1:  # are ☆☆ two stars, or two that are missing?
        return None
    for read in (stars, shares, units):
        if tokens and all(read(word) is not None for word in tokens) and (read is not shares or len(maxima) == 1):
            return read
    return None


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
    if kind == "outcome":
        raise EvidenceError(
            "numbers on a scale say neither good nor bad",
            mend="Give --labels with the meaning of each value, as --labels 1=bad,2=bad,3=blank,4=good,5=good",
            source=source,
            column=column,
        )
    return scale


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
