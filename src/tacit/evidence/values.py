"""What values of a judgement mean, whatever the column: words, stars, shares, and words that stand in an order.

`GOOD`, `BAD` and the ordered forms (numbers, `★★★`, `3/5`, `4 stars`) are read. Words of `SCALES` and decimal commas
are known to judge and are never numbers by themselves: `likert` and `amount` give those that a flag would say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

from tacit.evidence.names import words
from tacit.evidence.survey import Values, number_of

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
SCALES: tuple[tuple[str, ...], ...] = (
    ("strongly_disagree", "disagree", "neutral neither neither_agree_nor_disagree", "agree", "strongly_agree"),
    ("terrible awful very_poor", "poor bad", "okay ok fair average acceptable", "good", "excellent great very_good"),
    ("very_bad", "bad", "neutral okay ok fair average", "good", "very_good"),
    ("very_dissatisfied", "dissatisfied", "neutral", "satisfied", "very_satisfied"),
    ("very_unhelpful", "unhelpful", "neutral", "helpful", "very_helpful"),
    ("not_helpful not_at_all_helpful", "slightly_helpful", "somewhat_helpful", "helpful", "very_helpful"),
)
"""Words of questionnaires from the worst to the best; those of one rank stand in one text."""
_STARS = re.compile(r"(?:[★⭐🌟]️?)+(?:☆)*|☆+")
_OF = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*(?:/|of|out of)\s*(\d+(?:\.\d+)?)(?:\s*(?:stars?|points?))?")
_WITH_UNIT = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*(?:stars?|points?|★|⭐)")
_COMMA = re.compile(r"[+-]?\d+,\d{1,2}")
_SKIN = re.compile("[\U0001f3fb-\U0001f3ff️]")


def plain(word: str) -> str:
    """A word as the tables write it: `Thumbs up!` is thumbs_up, 👍🏽 is 👍."""
    bare = _SKIN.sub("", word).strip(" .!'\"[]()")
    return re.sub(r"[\s_-]+", "_", bare) if len(bare) > 1 else bare


def is_binary(word: str) -> bool:
    """Whether a word says good or bad."""
    return plain(word) in GOOD or plain(word) in BAD


_SHORT = ({"+", "-"}, {"y", "n", "yes", "no"}, {"t", "f", "true", "false"})


def is_short(word: str) -> bool:
    """Whether a word is a sign or a letter, which says good or bad beside its opposite alone."""
    return len(word) == 1 and any(word in family for family in _SHORT)


def are_binary(tokens: Collection[str]) -> bool:
    """Whether all tokens say good or bad.

    A sign or a letter does beside its opposite alone: a `-` beside other words, or by itself, may be an empty cell.
    """
    said = {plain(word) for word in tokens}
    if said == {"-"} or not said <= GOOD | BAD:
        return False
    return all(said <= family for family in _SHORT if any(is_short(word) and word in family for word in said))


def is_known(word: str) -> bool:
    """Whether a word says something by itself: good, bad, a number, or one of the ordered forms."""
    return is_binary(word) or _form(word) is not None


def ordered(tokens: Sequence[str]) -> Callable[[str], float | None] | None:
    """How to read stars, `3/5`, `4 stars` and numbers among them; None where they have not one maximum.

    Forms may be mixed where each number is within the maximum: that of the shares, and five where there are stars.
    """
    forms = {form for word in tokens if (form := _form(word)) is not None}
    if not tokens or any(_form(word) is None for word in tokens):
        return None
    stars = {sum(c in "★⭐🌟☆" for c in word) for word in tokens if _form(word) == "stars"}
    if any("☆" in word for word in tokens) and len(stars) > 1:  # are ☆☆ two stars, or two that are missing?
        return None
    maxima = {float(match[2]) for word in tokens if (match := _OF.fullmatch(word))}
    if len(maxima) > 1:
        return None
    if len(forms) > 1 and forms & {"stars", "share"}:
        top = maxima.pop() if maxima else 5.0
        if ("stars" in forms and top != 5) or not all(0 <= (_counted(word) or 0.0) <= top for word in tokens):
            return None
    return _counted


def likert(tokens: Sequence[str]) -> dict[str, int] | None:
    """The rank of each word, 1 for the worst, where all are words of one questionnaire's scale, else None."""
    for scale in SCALES:
        ranks = {word: rank for rank, same in enumerate(scale, 1) for word in same.split()}
        if len(tokens) > 1 and all(plain(word) in ranks for word in tokens):
            return dict(sorted(((word, ranks[plain(word)]) for word in tokens), key=lambda pair: pair[1]))
    return None


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
    if not all(number.is_integer() and -1 <= number <= 10 for number in numbers):
        return False
    words = list(values.rows)
    single = all(is_binary(word) or _form(word) in ("stars", "number") or _COMMA.fullmatch(word) for word in words)
    return single or ordered(words) is not None or likert(words) is not None


def are_numbers(values: Values) -> bool:
    """Whether a column's values are numbers, as far as they are known; of more than 200 only the last ones are seen."""
    if values.text is not None:
        return False
    return values.many or len(values.rows) > 200 or len(values.numbers) == len(values.rows)


def _form(word: str) -> str | None:
    if _STARS.fullmatch(word):
        return "stars"
    if _OF.fullmatch(word):
        return "share"
    return "number" if _counted(word) is not None else None


def amount(word: str) -> float | None:
    """What a word of any form says: stars, the first number of `3/5` or `4 stars`, a number, also with a comma."""
    return float(word.replace(",", ".")) if _COMMA.fullmatch(word) else _counted(word)


def _counted(word: str) -> float | None:
    if _STARS.fullmatch(word):
        return float(sum(c in "★⭐🌟" for c in word))
    match = _OF.fullmatch(word) or _WITH_UNIT.fullmatch(word)
    return float(match[1]) if match else number_of(word)
