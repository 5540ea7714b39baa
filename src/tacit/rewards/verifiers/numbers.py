r"""Numbers in text: what a final answer is worth, as an exact fraction.

`parse_number` reads one number the way people and models write it; `final_answer` finds the part of a solution that is
its answer. Both are pure. A value is a `Fraction`, so that 0.1 and 1/10 are the same number.

| written | read |
|---|---|
| `1,234.50`, `1{,}234.5`, `$1,234.50`, `1234.5 dollars` | 1234.5 |
| `-7`, `−7` (Unicode minus), `-$7`, `$-7` | -7 |
| `3/4`, `\frac{3}{4}`, `\frac34`, `¾` | 3/4 |
| `1 3/4`, `1\frac{3}{4}`, `1¾` | 7/4 |
| `3.2e5`, `3.2 × 10^5`, `3.2 \times 10^{5}`, `3.2*10^5`, `320 thousand` | 320000 |
| `45%`, `45 \%`, `45 percent` | 45, marked as percent |

Units are not read: `5 km` and `5 m` are both 5. Words (`seven`) are no numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

Rule = str
RULES: tuple[Rule, ...] = ("boxed", "hashes", "phrase", "last")
"""Where an answer is looked for, in this order; see `final_answer`."""

_MOST_DIGITS = 400
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_VULGAR = {
    **{"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5", "⅘": "4/5"},
    **{"⅙": "1/6", "⅚": "5/6", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8"},
}
_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_POWER = re.compile(r"10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)")
_FRAC = re.compile(r"\\[dt]?frac\s*(?:\{\s*(-?[\d.]+)\s*\}|(\d))\s*(?:\{\s*(-?[\d.]+)\s*\}|(\d))")
_NOISE = re.compile(r"\\(?:left|right|displaystyle|,|;|!|:|\s)|\^\s*\{?\s*\\circ\s*\}?")
_WORDS = re.compile(r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}")
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?![\d])|\d+)"
_NUMBER = re.compile(
    rf"""
    # A sign touches its number, or stands alone before it; between two terms it is an operation.
    (?P<sign>(?<![\w)\]}}])[-+](?=[$€£¥]?[\d.])|(?<![\w)\]}}])(?<![\w)\]}}]\s)[-+](?=\s[$€£¥]?[\d.]))?\s?
    (?:[$€£¥]\s?(?P<inner>-)?)?
    (?:(?P<whole>\d+)\s+(?=\d+\s?/\s?\d))?  # the whole part of a mixed number
    (?P<digits>{_DIGITS}(?:\.\d+)?|\.\d+)
    (?:[eE](?P<e>[-+]?\d{{1,4}})(?!\w)|\s?(?:×|x|\*|\\times|\\cdot)\s?10\s?\^\s?\{{?(?P<power>[-+]?\d{{1,4}})\}}?)?
    (?:\s?/\s?(?P<over>{_DIGITS}(?:\.\d+)?)(?!\s?/\s?\d))?
    (?:\s?(?P<scale>thousand|million|billion|trillion)\b)?
    (?P<percent>\s?\\?%|\s?percent\b)?
    """,
    re.VERBOSE,
)
_BRACE = re.compile(r"\\f?boxed\s?\{|\\fbox\s?\{|[{}]")
_HASHES = re.compile(r"####[^\S\n]*(.+)")
_PHRASE = re.compile(
    r"(?:\banswer\b\s*(?:is|are|equals|=|:)+|^[^\S\n]*A[^\S\n]*:)[\s:]*(.*)", re.IGNORECASE | re.MULTILINE
)


@dataclass(frozen=True)
class Number:
    """A number as it was written."""

    value: Fraction
    percent: bool = False

    def equals(self, other: Number, tolerance: float = 0.0) -> bool:
        """Whether |a - b| <= tolerance * max(1, |b|), `other` being b, the reference.

        Where one of the two alone has a percent sign, 45% matches 45 (the sign as a unit) and 0.45 (its value).
        """
        pairs = [(self.value, other.value)]
        if self.percent and not other.percent:
            pairs.append((self.value / 100, other.value))
        if other.percent and not self.percent:
            pairs.append((self.value, other.value / 100))
        slack = Fraction(tolerance)
        return any(abs(a - b) <= slack * max(Fraction(1), abs(b)) for a, b in pairs)


def numbers_in(text: str) -> Iterator[Number]:
    """All numbers of a text, in order."""
    for match in _NUMBER.finditer(_plain(text)):
        if (number := _value(match)) is not None:
            yield number


def parse_number(text: str) -> Number | None:
    """The number that a short answer states: its first one; None where it states none."""
    return next(numbers_in(text), None)


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
            found = boxed(text)
        elif rule == "last":
            match = _last(text)
            found = None if match is None else match.group().strip()
        else:
            pattern = _HASHES if rule == "hashes" else _PHRASE
            lines = [line.strip() for line in pattern.findall(text) if line.strip()]
            found = lines[-1] if lines else None
        if found:
            return found
    return None


def answer_number(text: str, rules: tuple[Rule, ...] = RULES) -> Number | None:
    """The number that a solution gives as its answer: that of the first rule which finds a number."""
    for rule in rules:
        found = final_answer(text, (rule,))
        if found is not None and (number := parse_number(found)) is not None:
            return number
    return None


def _last(text: str) -> re.Match[str] | None:
    matches = list(_NUMBER.finditer(_plain(text)))
    return next((match for match in reversed(matches) if _value(match) is not None), None)


def _plain(text: str) -> str:
    """LaTeX and Unicode spellings of numbers made plain."""
    text = text.replace("−", "-").replace("–", "-").replace("\\$", "$").replace("{,}", ",")
    text = text.replace("\u202f", "").replace("\u2009", "").replace("\\!", "")
    if "\\" in text:
        text = _FRAC.sub(lambda m: f" {m[1] or m[2]}/{m[3] or m[4]}", text)
        text = _NOISE.sub(" ", _WORDS.sub(r" \1 ", text))
    if not text.isascii():
        text = re.sub("[" + "".join(_VULGAR) + "]", lambda m: " " + _VULGAR[m[0]], text)
        text = _POWER.sub(lambda m: "10^" + m[1].translate(_SUPERSCRIPT), text)
    return text


def _value(match: re.Match[str]) -> Number | None:
    parts = match.groupdict()
    digits = parts["digits"].replace(",", "")
    over = (parts["over"] or "1").replace(",", "")
    exponent = int(parts["e"] or parts["power"] or 0)
    if max(len(digits), len(over), len(parts["whole"] or ""), abs(exponent)) > _MOST_DIGITS or not Fraction(over):
        return None
    value = Fraction(digits) * Fraction(10) ** exponent / Fraction(over) + int(parts["whole"] or 0)
    value *= _SCALES.get(parts["scale"] or "", 1)
    negative = (parts["sign"] == "-") != (parts["inner"] == "-")
    return Number(-value if negative else value, parts["percent"] is not None)
