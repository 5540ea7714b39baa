r"""Numbers as people and models write them, as exact fractions. Pure functions.

`plain_number` reads a text that is one number and nothing else, as a reference must be; `stated_number` reads the short
answer of a solution, which may have a unit or an equation around its number. What they cannot read for certain is None:
an expression (`2\pi`, `5!`, `10^5`, `\sqrt{2}`), a ratio or a time (`3:4`), a list, a range, a decimal comma.

| written | read |
|---|---|
| `1,234.50`, `1{,}234.5`, `1\,234.5`, `$1,234.50`, `\$1,234.50` | 1234.5 |
| `-7`, `−7` (Unicode minus), `-$7`, `$-7` | -7 |
| `3/4`, `\frac{3}{4}`, `\frac34`, `¾` | 3/4 |
| `1 3/4`, `1\frac{3}{4}`, `1¾` | 7/4 |
| `3.2e5`, `3.2 × 10^5`, `3.2 \times 10^{5}`, `3.2*10^5`, `320 thousand` | 320000 |
| `45%`, `45 \%`, `45 percent` | 45, marked as percent |
| `x = 5`, `2 + 3 = 5`, `5 apples`, `25 cm^2`, `12 km/h`, `\approx 5` | 5, 5, 5, 25, 12, 5: by `stated_number` alone |

Units are not compared: `5 km` and `5 m` are both 5. Words (`seven`) are no numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

TOLERANCE = 1e-6
"""Relative error allowed where one of two numbers is written in decimals."""

_MOST_DIGITS = 400
_LONGEST = 2_000
"""Characters of a short answer; a longer one states no number."""
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_VULGAR = {
    **{"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5", "⅘": "4/5"},
    **{"⅙": "1/6", "⅚": "5/6", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8"},
}
_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_POWER = re.compile(r"10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)")
_FRAC = re.compile(r"\\[dtc]?frac\s*(?:\{\s*(-?[\d.]+)\s*\}|(\d))\s*(?:\{\s*(-?[\d.]+)\s*\}|(\d))")
_GROUPS = re.compile(r"(?<![\d.,])\d{1,3}(?:(?:\\[,;:!]|\\ |~|[\u00a0\u2009\u202f])\d{3})+(?!\d)")
_SPACED = re.compile(r"\d{1,3}(?: \d{3})+(?!\d|\s?/)")
_NOISE = re.compile(r"\\(?:left|right|displaystyle|,|;|!|:|\s)|\^\s*\{?\s*\\circ\s*\}?|°(?!\s?[A-Za-z])")
_WORDS = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_DELIMITED = re.compile(r"\$\$(.*)\$\$|\$(.*)\$|\\\((.*)\\\)|\\\[(.*)\\\]|\*\*(.*)\*\*", re.DOTALL)
_DIGITS = r"(?:[1-9]\d{0,2}(?:,\d{3})+(?!,?\d)|\d+)"
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
EQUALS = re.compile(r"(?<![<>!:=≠≤≥])={1,2}(?!=)|\\approx|≈|\\simeq|≃|\\doteq")
_LIST = re.compile(r"[,;]\s*(?:\\\w+\s*)?[A-Za-z]|\b(?:and|or)\b|\\(?:text\{\s*)?(?:and|or|quad)\b", re.IGNORECASE)
_ABOUT = re.compile(r"^\s*(?:\\approx|\\sim|≈|~|about|approximately|roughly|around|exactly|only)\s*", re.IGNORECASE)
_UNIT_WORD = r"(?:[A-Za-zµμΩ°]+|[²³])(?:\s?\^\s?\{?-?\d\}?|[²³])?"
_UNIT = re.compile(rf"\s*(?:/\s*)?{_UNIT_WORD}(?:[\s/·*.-]+{_UNIT_WORD}){{0,7}}\s*\.?")
_SHORT_UNITS = frozenset(
    [
        *["m", "s", "g", "h", "l", "L", "N", "J", "W", "V", "A", "K", "C", "F", "Hz", "km", "cm", "mm", "kg", "mg"],
        *["lb", "ft", "mi", "oz", "ml", "mL", "kW", "Pa", "pm", "am", "st", "nd", "rd", "th"],
    ]
)
_NO_UNITS = frozenset(
    [
        *["pi", "sqrt", "sin", "cos", "tan", "cot", "sec", "csc", "log", "ln", "exp", "mod", "or", "and", "to"],
        *["times", "plus", "minus", "over", "choose", "frac", "cdot", "div", "infty"],
    ]
)


@dataclass(frozen=True)
class Number:
    """A number as it was written."""

    value: Fraction
    percent: bool = False
    exact: bool = field(default=True, compare=False)
    """Written as a whole number or a fraction, not in decimals or with a power of ten."""

    def equals(self, other: Number, tolerance: float | None = None) -> bool:
        """Whether |a - b| <= tolerance * |b|, `other` being b, the reference.

        Without a `tolerance` it is 0 between two whole numbers or fractions, and `TOLERANCE` where one of the two is in
        decimals. Where one of the two alone has a percent sign, 45% matches 45 (the sign as a unit) and 0.45 (its
        value).
        """
        pairs = [(self.value, other.value)]
        if self.percent and not other.percent:
            pairs.append((self.value / 100, other.value))
        if other.percent and not self.percent:
            pairs.append((self.value, other.value / 100))
        if tolerance is None:
            tolerance = 0.0 if self.exact and other.exact else TOLERANCE
        slack = Fraction(tolerance)
        return any(abs(a - b) <= slack * abs(b) for a, b in pairs)


def plain_number(text: str) -> Number | None:
    """The number that a text is, and nothing but it; None for anything else."""
    if len(text) > _LONGEST:
        return None
    match = _NUMBER.fullmatch(plain_text(_undelimited(text)).strip().removesuffix(".").rstrip())
    return None if match is None else value_of(match)


def stated_number(text: str) -> Number | None:
    """The number that a short answer states: plain, after its last "=", or before its unit; None where it is unsure."""
    if len(text) > _LONGEST:
        return None
    number = plain_number(text)
    if number is not None:
        return number
    side = right_side(_undelimited(text))
    if side is None:
        return None
    side = _ABOUT.sub("", plain_text(_undelimited(side)).strip())
    side = _SPACED.sub(lambda match: match[0].replace(" ", ""), side)
    if side[:1] == "(" and side[-1:] == ")" and "," not in side:
        side = side[1:-1].strip()
    number = plain_number(side)
    if number is not None:
        return number
    match = _NUMBER.match(side)
    return value_of(match) if match is not None and is_unit(side[match.end() :]) else None


def right_side(text: str) -> str | None:
    """What follows the last "=" of one equation or a chain, or the whole text; None for several equations."""
    signs = list(EQUALS.finditer(text))
    if not signs:
        return text
    if len(signs) > 1 and _LIST.search(text[: signs[-1].start()]):
        return None
    return text[signs[-1].end() :].strip()


def is_unit(text: str) -> bool:
    """Whether what follows a number is a unit or the thing that is counted, and no part of an expression."""
    if not _UNIT.fullmatch(text):
        return False
    words = re.findall(r"[A-Za-z]+", text)
    if any(word in _NO_UNITS for word in words):
        return False
    return all(len(word) > 2 or word in _SHORT_UNITS or (i > 0 and len(word) > 1) for i, word in enumerate(words))


def number_matches(text: str) -> Iterator[re.Match[str]]:
    """The numbers of a text that `plain_text` made, in order, wherever they stand."""
    return (match for match in _NUMBER.finditer(text) if value_of(match) is not None)


def plain_text(text: str) -> str:
    """LaTeX and Unicode spellings of numbers made plain, a space or a thin one between thousands taken out."""
    text = text.replace("−", "-").replace("–", "-").replace("\\$", "$").replace("{,}", ",").replace("\\%", "%")
    if "\\" in text or "~" in text or not text.isascii():
        text = _GROUPS.sub(lambda match: re.sub(r"\D+", "", match[0]), text)
    if "\\" in text:
        text = _FRAC.sub(_slashed, text)
        text = _WORDS.sub(r" \1 ", text)
    text = _NOISE.sub(" ", text)
    if not text.isascii():
        text = re.sub("[" + "".join(_VULGAR) + "]", lambda m: " " + _VULGAR[m[0]], text)
        text = _POWER.sub(lambda m: "10^" + m[1].translate(_SUPERSCRIPT), text)
    return text


def value_of(match: re.Match[str]) -> Number | None:
    """What a match of the number's pattern is worth; None where it divides by zero or has too many digits."""
    parts = match.groupdict()
    digits = parts["digits"].replace(",", "")
    over = (parts["over"] or "1").replace(",", "")
    exponent = int(parts["e"] or parts["power"] or 0)
    if max(len(digits), len(over), len(parts["whole"] or ""), abs(exponent)) > _MOST_DIGITS or not Fraction(over):
        return None
    if parts["sign"] and parts["inner"]:
        return None
    value = Fraction(digits) * Fraction(10) ** exponent / Fraction(over) + int(parts["whole"] or 0)
    value *= _SCALES.get(parts["scale"] or "", 1)
    exact = "." not in digits + over and not parts["e"] and not parts["power"]
    return Number(-value if "-" in (parts["sign"], parts["inner"]) else value, parts["percent"] is not None, exact)


def _slashed(match: re.Match[str]) -> str:
    """A fraction with a slash, apart from the whole number of a mixed one."""
    apart = " " if match.string[max(0, match.start() - 1) : match.start()].isdigit() else ""
    return f"{apart}{match[1] or match[2]}/{match[3] or match[4]}"


def _undelimited(text: str) -> str:
    """A text without the signs that mark it as mathematics or bold, or as words within mathematics."""
    while True:
        text = text.strip()
        match = _DELIMITED.fullmatch(text) or _WORDS.fullmatch(text)
        inner = next((group for group in match.groups() if group is not None), "") if match else text
        if inner == text:
            return text
        text = inner
