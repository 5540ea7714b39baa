r"""Where a solution gives its answer, and the number that it is. Pure functions.

`final_answer` finds the part of a solution that is its answer; `answer_number` reads the number there, and
`reference_number` that of a reference, which is one plain number. All say None rather than guess: of `\boxed{(2,5)}`,
"the answer is 5 or 6" or "2\sqrt{3}" no number is read, least of all one of its digits.
"""

from __future__ import annotations

import re
from functools import lru_cache

from tacit.rewards.verifiers.numbers import (
    EQUALS,
    Number,
    is_unit,
    number_matches,
    plain_number,
    plain_text,
    right_side,
    stated_number,
    value_of,
)

Rule = str
RULES: tuple[Rule, ...] = ("boxed", "hashes", "phrase", "last")
"""Where an answer is looked for, in this order; see `final_answer`."""

_BRACE = re.compile(r"\\f?boxed\s?\{|\\fbox\s?\{|[{}]")
_HASHES = re.compile(r"####[^\S\n]*")
_PHRASE = re.compile(r"(?:\banswer\b\s*(?:is|are|equals|=|:)+|^[^\S\n]*A[^\S\n]*:)[\s:]*", re.IGNORECASE | re.MULTILINE)
_SENTENCE_END = re.compile(r"[.!?;](?=\s|$)|\n")
_DENIED = re.compile(r"\b(?:not|never|isn['’]t|aren['’]t|neither|nor|unlike)\b", re.IGNORECASE)
_EXPONENT = re.compile(r"(?:[A-Za-z)\]]\s?[\^_]\s?\{?|[A-Za-z_])-?$")
_GLUED_LEFT = re.compile(
    r"(?:[\d)}\]]\s*[\^_]\s*\{?\s*-?|\\\w+\s*(?:\[[^\]]*\])?\s*\{|\\(?:sqrt|binom|log|ln|sin|cos|tan|pm|mp)\s*|[√±:]\s*"
    r"|\d\s*[-+*/×·÷]\s*|\d,|[(\[{]\s*-?[\d.]+\s*,\s*|\d\s+(?:to|or|and|through)\s+[$€£¥]?)$"
)
_GLUED_RIGHT = re.compile(
    r"\s*[)}\]]?\s*(?:\^|_|\\(?:pi|sqrt|times|cdot|frac|div|pm|log|ln|sin|cos|tan|choose)\b|[πe√²³⁰¹⁴-⁹⁻](?![a-z])"
    r"|:\s?\d|,\s?[-+$]?\d|[-+*/×·÷]\s?[\d(\\]|[+×·÷]\s?[A-Za-z]|\*[A-Za-z]|(?:or|to|and|through)\s+[-+$]?\d|!(?=\s*[-+*/=^)}]))"
)
_WIDTH = 40
_DEEPEST = 4
"""Marks within marks that are looked into."""


def boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{...}` or `\fbox{...}`, braces balanced; None where there is none."""
    starts: list[int | None] = []  # of each open brace: where the content of a box begins, or None
    last: tuple[int, int] | None = None
    for match in _BRACE.finditer(text):
        if match[0] != "}":
            starts.append(match.end() if len(match[0]) > 1 else None)
        elif starts and (start := starts.pop()) is not None and (last is None or start > last[0]):
            last = (start, match.start())
    return None if last is None else text[last[0] : last[1]].strip()


def final_answer(text: str, rules: tuple[Rule, ...] = RULES) -> str | None:
    r"""The part of a solution that is its answer, by the first rule that finds one; None where none does.

    - `boxed`: the last `\boxed{...}`;
    - `hashes`: the rest of the line after the last `####` (GSM8K);
    - `phrase`: the rest of the line after the last "answer is", "answer:" or a line's "A:";
    - `last`: the last number of the text.
    """
    for rule in rules:
        if rule == "boxed":
            answer = boxed(text)
        elif rule == "last":
            matches = list(number_matches(plain_text(text)))
            answer = matches[-1].group().strip() if matches else None
        else:
            answer = _after_last(_HASHES if rule == "hashes" else _PHRASE, text)
        if answer:
            return answer
    return None


def marked_answer(text: str, rules: tuple[Rule, ...] = RULES[:-1]) -> str:
    """The part of a text that is marked as its answer, and of that part again; all of it where nothing is marked."""
    for _ in range(_DEEPEST):
        part = final_answer(text, rules)
        if part is None or len(part) >= len(text):
            break
        text = part
    return text


def _after_last(marks: re.Pattern[str], text: str) -> str | None:
    """The rest of the line after the last mark that has one."""
    for match in reversed(list(marks.finditer(text))):
        end = text.find("\n", match.end())
        line = text[match.end() : len(text) if end < 0 else end].strip()
        if line:
            return line
    return None


def answer_number(text: str, rules: tuple[Rule, ...] = RULES) -> Number | None:
    """The number that a solution gives as its answer, by the first rule that finds an answer.

    A phrase without a digit ("the answer is unclear") gives way to the next rule; nothing else does.
    """
    for rule in rules:
        if rule == "last":
            return _last_number(text)
        part = final_answer(text, (rule,))
        if part is None:
            continue
        if rule == "phrase":
            clause = _SENTENCE_END.split(part, maxsplit=1)[0]
            if any(sign.isdigit() for sign in clause):
                return _clause_number(clause)
        else:
            return reference_number(part, RULES) or stated_number(part)
    return None


@lru_cache(maxsize=100_000)
def reference_number(text: str, rules: tuple[Rule, ...] = RULES) -> Number | None:
    r"""The number that a reference is: plain, or marked as the answer of a worked solution; None for anything else.

    Marked it is by a `\boxed{...}`, `####` or "the answer is", as far as `rules` name them.
    """
    number = plain_number(text)
    if number is None:
        number = plain_number(marked_answer(text, tuple(rule for rule in rules if rule != "last")))
    return number


def _clause_number(clause: str) -> Number | None:
    """The number of a clause that says what the answer is: all of it, its beginning, or the only one in it."""
    number = stated_number(clause)
    if number is not None:
        return number
    side = right_side(clause)
    if side is None or _DENIED.search(clause):
        return None
    text = plain_text(side).strip()
    matches = list(number_matches(text))
    if not matches or (len(matches) > 1 and matches[0].start() > 0):
        return None
    return None if _glued(text, matches[0]) else value_of(matches[0])


def _last_number(text: str) -> Number | None:
    """The last number of a text; in its last sentence, the one that an "=" is followed by."""
    plain = plain_text(text)
    matches = [match for match in number_matches(plain) if not _EXPONENT.search(_before(plain, match))]
    if not matches:
        return None
    last = matches[-1]
    start = max((end.end() for end in _SENTENCE_END.finditer(plain, 0, last.start())), default=0)
    signs = [sign.end() for sign in EQUALS.finditer(plain, start, last.start())]
    if signs:
        after = [match for match in matches if match.start() >= signs[-1]]
        if after and not plain[signs[-1] : after[0].start()].strip(" $*"):
            last = after[0]
    return None if _glued(plain, last) else value_of(last)


def _before(text: str, match: re.Match[str]) -> str:
    """What stands before a number, whose match may begin with a space."""
    start = match.start() + len(match[0]) - len(match[0].lstrip())
    return text[max(0, start - _WIDTH) : start]


def _glued(text: str, match: re.Match[str]) -> bool:
    """Whether a number is part of an expression, a list, a range, a ratio or a name."""
    left, right = _before(text, match), text[match.end() : match.end() + _WIDTH]
    if _GLUED_LEFT.search(left) or _GLUED_RIGHT.match(right):
        return True
    attached = re.match(r"[A-Za-z]+", right)
    return attached is not None and not is_unit(attached[0])
