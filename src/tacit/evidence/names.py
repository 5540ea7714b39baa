"""What names of columns say: that one judges an answer, says which of two is better, or describes a row.

A name judges if it stands in one of the public tables `LABELS`, `SCORES`, `INVERTED`, `VERDICTS`, whatever its case
and punctuation, with or without a scale in brackets (`Rating (1-5)`) and words that change nothing (`Your rating`,
`Was this helpful?`). A name that only holds such a word (`Feedback kind`) hints at it, and is never read by itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


def words(text: str) -> frozenset[str]:
    """The words of a table that is written as a text."""
    return frozenset(text.split())


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
    *("judgment", "judgement"),
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
_LOW = words(
    """
    toxic toxicity harmful unsafe hallucination hallucinations hallucinated error errors bias biased wrong incorrect
    dislike dislikes downvote downvotes perplexity ppl loss wer cer
    """
)
_HINTS = words(
    """
    rating ratings rate rated star stars score scores scored thumb thumbs feedback liked disliked helpful helpfulness
    quality satisfaction satisfied verdict judge judgement judgment grade graded vote votes reaction correct correctness
    acceptable approved upvote upvotes downvote downvotes likert csat nps
    """
)
"""Words of a name that hint at a judgement of one answer."""
_PREFERS = words(
    "prefer prefers preferred preference better best winner wins won choice choose pick favorite favourite"
)
"""Words of a name that hint at a verdict between two answers."""
_ABOUT = CONTEXT | words("comment comments text reason reasons explanation note notes by at url link count source user")
"""Last words of names that say something about a judgement, and are none."""
_RANGE = r"(?:scale\s+)?(?:(?:of|from)\s+)?(\d+)\s*(?:-|–|—|to|\.\.|/)\s*(\d+)"
_SCALE = re.compile(rf"\s*[(\[]\s*{_RANGE}(?:\s*(?:stars?|points?|scale))?\s*[)\]]\s*$", re.IGNORECASE)
_MEASURE = re.compile(r"\s*[(\[]\s*(?:out\s+of|of|/)\s*\d+\s*[)\]]\s*$", re.IGNORECASE)
_BEFORE = (
    *("was_this_answer", "was_this_response", "is_this_answer", "is_this_response", "was_the_answer", "is_the_answer"),
    *("was_this", "was_it", "is_this", "is_it", "overall", "final", "your", "my", "the"),
)


def canonical(name: str) -> str:
    """A column's name without case and punctuation: `Thumbs up?` is `thumbs_up`, `isCorrect` is `is_correct`."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[^0-9a-z]+", "_", apart.lower()).strip("_")


def judged_name(name: str) -> str:
    """The name in the tables that a column's name stands for (`Rating (1-5)`, `Your rating`: rating), else `canonical`.

    A scale in brackets is left out where it goes upwards; what else stands there (`1 = best`) may turn it round.
    """
    scale = _SCALE.search(name)
    if scale and int(scale[1]) < int(scale[2]):
        name = name[: scale.start()]
    plain = canonical(_MEASURE.sub("", name))
    if plain in _JUDGING:
        return plain
    rests = (plain.removeprefix(f"{start}_") for start in _BEFORE if plain.startswith(f"{start}_"))
    return next((rest for rest in rests if rest in _JUDGING), plain)


def is_named(name: str) -> bool:
    """Whether a column's name says that it judges an answer, or which of two answers is better."""
    return judged_name(name) in _JUDGING


def describes(name: str) -> bool:
    """Whether a column of this name describes a row, and judges nothing whatever its values are."""
    return canonical(name) in CONTEXT


def is_about(name: str) -> bool:
    """Whether a name ends with what is about a judgement or a row (`feedback_comment`, `user_id`)."""
    return canonical(name).split("_")[-1] in _ABOUT


def hints_at_judgement(name: str) -> bool:
    """Whether a name holds a word for a judgement of one answer, and does not end with what is about one."""
    return not is_about(name) and not _HINTS.isdisjoint(canonical(name).split("_"))


def hints_at_verdict(name: str) -> bool:
    """Whether a name holds a word for a verdict between two answers (`Which response do you prefer?`)."""
    return not is_about(name) and not _PREFERS.isdisjoint(canonical(name).split("_"))


def is_judged(row: Mapping[str, Any]) -> bool:
    """Whether any column of a row has a name that says that it judges."""
    return any(map(is_named, row))


def is_inverted(name: str) -> bool:
    """Whether a criterion may be better where it is low or says no, by a word of its name (`hallucination_score`)."""
    plain = canonical(name)
    return plain in INVERTED or bool(_LOW & set(plain.split("_")))


_JUDGING = LABELS | SCORES | INVERTED | UNCLEAR | set(VERDICTS)
