"""Verdicts in a judge's text: every form on every side, among prose about the other side, is right or unreadable."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.rewards.judge.verdicts import TIE, number_verdict, without_thinking, word_verdict


def lines(block: str) -> list[str]:
    """One text a line; ⏎ is a new line in it."""
    return [line.replace("⏎", "\n") for line in block.strip("\n").splitlines()]


LETTERS, WORDS = ("A", "B"), ("Yes", "No")

LETTER_FORMS = lines(r"""
{W}
{W}.
**{W}**
({W})
[{W}]
"{W}"
\boxed{{{W}}}
Answer {W}
**Assistant {W}**
model_{w}
[[{W}]]
[[{w}]]
[[{W}>>{L}]]
[[{W}>{L}]]
[[{L}<{W}]]
[[{L}<<{W}]]
Final verdict: [[{W}]]
Verdict: {W}
verdict: {w}
**Verdict:** {W}
Verdict (A or B): {W}
## Verdict⏎{W}
Verdict:⏎⏎{W}
My final verdict is {W}.
Final verdict: Answer {W}
Winner: Model {W}
Decision = {W}
[RESULT] {W}
The better answer is {W}.
Better response: {W}
Verdict: {W}, since answer {L} misses the point
Verdict: {W} is better than {L}
Verdict: {W} over {L}
Preference: {W}
<verdict>{W}</verdict>
Answer {W} is better than answer {L}.
I prefer answer {W} over answer {L}.
Response {W} is clearly better.
Overall, assistant {W} wins.
I would choose {W} rather than {L}.
Final answer: {W}
My choice: {W}
{W}, since answer {L} is wrong
{W} because {L} is wrong
Conclusion: {W}
{{"winner": "{W}", "reason": "{L} is wrong"}}
{{"reason": "{L} is good", "verdict": "answer_{w}"}}
```json⏎{{"preferred": "{W}"}}⏎```
Here: {{"choice": "[[{W}]]"}}
<think>{L}? Verdict: {L}</think>{W}
Verdict: {L}, hm.</think>⏎⏎{W}
<reasoning>⏎Final verdict: {L}⏎</reasoning>⏎Verdict: {W}
""")
LETTER_PROSE = lines("""
Answer {L} misses the point.
One might think that {L} is better.
{L} is longer, and {W} is shorter.
Answer {L} is more complete, while answer {W} is wrong.
{L}: wrong. {W}: right.
**Answer {L}**⏎It is short.
Answer {W} has 2 faults, answer {L} has 1.
I looked at {L} first.
Is answer {L} better? Not in my eyes.
The user asks for {L}.
{L}. It is wrong.
Answer {L}:⏎fine
The expert verdict: {L}
Not {L}.
""")
WORD_FORMS = lines(r"""
{W}
{W}.
**{W}**
{w}
{W}!
"{W}"
[[{W}]]
Verdict: {W}
**Verdict:** {w}
\boxed{{{W}}}
My verdict is {w}.
Final verdict: [[{W}]]
Decision: {W}
Judgment: {W}, it is what it is
[RESULT] {W}
{W}, it is what it is.
{W}. That is all.
{W}: plainly so
Final answer: {W}
<verdict>{W}</verdict>
{{"verdict": "{W}", "reason": "{L}"}}
{{"good": {bool}}}
<think>{L}. Verdict: {L}</think>{W}
""")
WORD_PROSE = lines("""
There are no mistakes.
No mistakes here.
The answer says yes to that.
It says '{l}' where it should not.
I see no fault.
The user wants a yes or a no.
The expected verdict: {L}
Is it right? Some would say {l}.
The answer is {l}, which the user asked for.
A yes to the first part, no word on the second.
""")
NUMBER_FORMS = lines("""
{N}
**{N}**
{N}/10
{N} out of 10
[[{N}]]
Rating: [[{N}]]
Rating (1-10): {N}
Score: {N}/10
Score (1 to 10): {N}
Score out of 10: {N}
Rating on a scale of 1 to 10: {N}
Rating 1-10: {N}
**Score:** {N}
Score: **{N}**
Rating: {N}.
Rating: {N}, since it is short
Grade - {N}
[RESULT] {N}
Overall score: {N}
Overall: {N}/10
My rating is {N}.
I give it a score of {N}.
Score:⏎{N}
I would rate this answer {N}/10.
I give it {N}.
{{"score": {N}, "faults": 3}}
<score>{N}</score>
{{"rating": "{N}/10"}}
{N}, because it is short
{N}/10. Short.
<think>Score: 3? 2?</think>{N}
""")
NUMBER_PROSE = lines("""
I see 3 faults.
1. The answer is right.⏎2. It is clear.
It answers 2 of 4 questions.
The answer: 3 is right.
On a scale from 1 to 10.
2 + 1 is 3, as it says.
The sum is 3
Clarity score: 3
Clarity: 3/10
3 errors, so
""")
PLACES = lines("""
{form}
{prose}⏎{form}
{form}⏎{prose}
{prose}⏎⏎{form}
{form}⏎⏎{prose}
{prose} {form}
{form} {prose}
{prose}⏎{form}⏎{prose}
""")


def filled(template: str, right: str, wrong: str) -> str:
    return template.format(W=right, L=wrong, w=right.lower(), l=wrong.lower(), bool=str(right == "Yes").lower())


@pytest.mark.parametrize("form", LETTER_FORMS)
def test_a_letter_among_prose_is_right_or_unreadable(form: str) -> None:
    for (right, wrong), prose, place in itertools.product([LETTERS, LETTERS[::-1]], LETTER_PROSE, PLACES):
        text = filled(place.replace("{form}", form).replace("{prose}", prose), right, wrong)
        assert word_verdict(text, LETTERS) in (right, None), text
        if place in ("{form}", "{prose}\n\n{form}") and "since" not in form and "because" not in form:
            assert word_verdict(text, LETTERS) == right, text


@pytest.mark.parametrize("form", WORD_FORMS)
def test_yes_and_no_among_prose_are_right_or_unreadable(form: str) -> None:
    for (right, wrong), prose, place in itertools.product([WORDS, WORDS[::-1]], WORD_PROSE, PLACES):
        text = filled(place.replace("{form}", form).replace("{prose}", prose), right, wrong)
        assert word_verdict(text, WORDS) in (right, None), text
        if place == "{form}":
            assert word_verdict(text, WORDS) == right, text


@pytest.mark.parametrize("form", NUMBER_FORMS)
def test_a_number_among_prose_is_right_or_unreadable(form: str) -> None:
    for value, prose, place in itertools.product(("8", "7.5", "10"), NUMBER_PROSE, PLACES):
        text = place.replace("{form}", form.replace("{N}", value).replace("{{", "{").replace("}}", "}"))
        text = text.replace("{prose}", prose)
        assert number_verdict(text, 1, 10) in (float(value), None), text
        if place == "{form}":
            assert number_verdict(text, 1, 10) == float(value), text


@settings(deadline=None, max_examples=300)
@given(
    form=st.sampled_from(LETTER_FORMS),
    prose=st.lists(st.sampled_from(LETTER_PROSE), min_size=1, max_size=4),
    joint=st.sampled_from(["\n", "\n\n", " "]),
    position=st.integers(0, 4),
    turned=st.booleans(),
)
def test_a_letter_among_more_prose_never_names_the_other_side(
    form: str, prose: list[str], joint: str, position: int, turned: bool
) -> None:
    right, wrong = LETTERS[::-1] if turned else LETTERS
    text = filled(joint.join([*prose[:position], form, *prose[position:]]), right, wrong)
    assert word_verdict(text, LETTERS) in (right, None)


UNMARKED = lines("""

Answer A is more complete, while answer B is wrong.
A is like B
A and B
A, B
Verdict: A or B
Verdict: A/B
Verdict: A is worse than B
Verdict: not A
Verdict: A, for style; B, for content
[[A]] or [[B]]
Verdict: A⏎Verdict: B
{"winner": "A", "winner": "B"}
{"winner": "x"}
{"a": "A"}
<think>Verdict: A
A: wrong. B: right
A. Wrong.⏎B. Right.
**Answer A**⏎Wrong.⏎⏎**Answer B**⏎Right.
A⏎wrong⏎B⏎right
Answer A is better than answer A.
Is answer A better?
Verdict: A⏎⏎B
Answer B is worse than answer A.
the answer
a good answer
""")


@pytest.mark.parametrize("text", UNMARKED)
def test_two_labels_without_a_mark_are_unreadable(text: str) -> None:
    assert word_verdict(text, LETTERS) is None


TIES = lines("""
[[A=B]]
[[C]]
A tie.
Tie
Verdict: tie
It's a draw.
neither
{"winner": "tie"}
Verdict: it is a tie. A is short, B is long.
""")


@pytest.mark.parametrize("text", TIES)
def test_ties_are_verdicts(text: str) -> None:
    assert word_verdict(text, LETTERS) == TIE


PROSE_ONLY = lines("""
There are no mistakes.
No mistakes.
Yes and no
Yes, but no.
No, wait. Yes.
The answer is No, which is right.
Verdict: no mistakes
Nothing
a tie
""")


@pytest.mark.parametrize("text", PROSE_ONLY)
def test_a_word_in_prose_is_no_verdict(text: str) -> None:
    assert word_verdict(text, WORDS) is None


NO_SCORE = lines("""
I found 2 factual errors in the answer.
2 errors, so 6
8-9
8 to 9
7,5
Score: 7,5
Score: 8-9
Score: 8, 9
Score: 8 or 9
Score: 1 = useless
Rating: 1 (useless) to 10 (best): 8
Score: 4/5
Score: 8/100
11
0
-8
Score: -8
Score: 11
between 3 and 4
none
3 errors
Clarity score: 7
{"score": "high"}
{"score": true}
{"score": 11}
{"scores": {"clarity": 7}}
{"score": NaN}
8%
Score: 7⏎Score: 8
[[7]] [[8]]
Verdict: 3 errors
8⏎⏎3
""")


@pytest.mark.parametrize("text", NO_SCORE)
def test_a_number_that_is_no_score_is_unreadable(text: str) -> None:
    assert number_verdict(text, 1, 10) is None


def test_final_marks_go_before_others() -> None:
    assert word_verdict("Verdict: A.\nOn second thought...\nFinal verdict: B", LETTERS) == "B"
    assert number_verdict("Rating: 7\nOverall rating: 6", 1, 10) == 6
    assert number_verdict("Clarity: 7\nDepth: 3/10\nOverall score: 6", 1, 10) == 6


def test_scales_of_their_own() -> None:
    assert number_verdict("Score (0-100): 85", 0, 100) == 85
    assert number_verdict("4/5", 1, 5) == 4
    assert number_verdict("8/10", 1, 5) is None
    assert number_verdict("85%", 0, 100) is None


def test_thoughts_are_no_answer() -> None:
    assert without_thinking("<think>a</think>b") == "b"
    assert without_thinking("a</think>b</think>c") == "c"
    assert without_thinking("<think>a") is None


@pytest.mark.parametrize("piece", ["{", "[[", "Verdict: ", "A, ", "score ", "<think>", "8/10 ", "**", " \n", "is "])
def test_hostile_replies_are_read_in_time(piece: str) -> None:
    start = time.process_time()
    for text in (piece * 20_000, "A " + piece * 20_000 + "8"):
        word_verdict(text, LETTERS)
        word_verdict(text, WORDS)
        number_verdict(text, 1, 10)
    assert time.process_time() - start < 20


@settings(deadline=None)
@given(st.text(alphabet="AB8[]{}\"':/.,- \nverdictscore", max_size=60))
def test_any_text_is_read_without_an_error(text: str) -> None:
    assert word_verdict(text, LETTERS) in ("A", "B", TIE, None)
    value = number_verdict(text, 1, 10)
    assert value is None or 1 <= value <= 10
