r"""Mathematics in LaTeX: what is compared of an answer and its reference, and whether it is equal.

Two plain numbers are compared as `tacit.rewards.verifiers.numbers` reads them; everything else is parsed and compared
by the library math-verify (extra `verify`) in a process with a time limit. Whole numbers and fractions, factorials and
powers among them, are compared exactly, other constants in 80 digits, and to six digits where one side is in decimals.
"""

from __future__ import annotations

import re
from functools import lru_cache

from tacit.errors import MissingExtra, TacitError, extra_installed
from tacit.rewards.verifiers.answers import final_answer
from tacit.rewards.verifiers.limits import Fault, TooSlow, limited
from tacit.rewards.verifiers.numbers import plain_number

_LONGEST = 20_000
"""Characters at the end of a text without a box in which its answer is looked for."""
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:(?:\\[,;:!]|\\ |~|\{,\}|\{\\,\}|,\\!)\d{3})+(?!\d|,\d)")
_EXPONENT = re.compile(r"(?<![\w.\\])(?<![eE][-+])(\d+(?:\.\d+)?)[eE]([-+]?\d+)(?![\w{])")
_BASE = re.compile(r"(?<![\w.,])(\d+)_\{?\s*([2-9]|1\d|2\d|3[0-6])\s*\}?(?![\w.])")
_LETTER = re.compile(r"(?:\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{)?\s*\(?\s*([A-Za-z])\s*\)?\s*\}?")
_WORD = re.compile(r"[A-Za-z]{4,}(?:[ -][A-Za-z]+)*")
_FUNCTIONS = frozenset(("arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "infty", "sqrt", "frac"))


def latex_text(text: str) -> str:
    """LaTeX without what math-verify reads as something else: delimiters, thousands, exponents, bases, a full stop."""
    text = text.strip().replace("\\$", "").replace("−", "-")
    while True:
        inner = text.strip().rstrip(".,;").strip()
        inner = inner.lstrip("$") if inner.count("$") == 1 else inner
        for start, end in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
            if inner.startswith(start) and inner.endswith(end) and len(inner) >= len(start) + len(end):
                inner = inner[len(start) : len(inner) - len(end)]
                break
        if inner == text:
            break
        text = inner
    text = _THOUSANDS.sub(lambda match: re.sub(r"\D+", "", match[0]), text)
    text = _EXPONENT.sub(r"\1 \\times 10^{\2}", text)
    text = _BASE.sub(_in_ten, text)
    if letter := _LETTER.fullmatch(text):
        return letter[1]
    if _WORD.fullmatch(text) and text not in _FUNCTIONS:
        return f"\\text{{{text.casefold()}}}"
    return text


def mathematics_equal(completion: str, reference: str, seconds: float) -> bool:
    """Whether the last box of a completion (else what follows `####`, else what is found in it) equals a reference.

    An answer that takes more than `seconds` of processor time is wrong. Raises `MissingExtra` without math-verify, and
    `TacitError` for a reference that is no mathematics.
    """
    if fault := reference_fault(reference, seconds):
        raise TacitError(f"the reference answer {reference[:60]!r} {fault}. Fix it, or use another check")
    wanted = final_answer(reference, ("boxed", "hashes")) or reference
    answer = final_answer(completion, ("boxed", "hashes"))
    if answer is None:
        return _compared("is_answered", latex_text(wanted), completion[-_LONGEST:], seconds)
    numbers = plain_number(answer), plain_number(wanted)
    if numbers[0] is not None and numbers[1] is not None:
        return numbers[0].equals(numbers[1])
    inner = final_answer(answer, ("boxed", "hashes")) or answer
    return _compared("is_equal", latex_text(wanted), latex_text(inner), seconds)


@lru_cache(maxsize=20_000)
def reference_fault(reference: str, seconds: float) -> str | None:
    """What is wrong with a reference answer; None where it is mathematics. Raises `MissingExtra`."""
    if not extra_installed("math_verify"):
        raise MissingExtra("verify", "checking LaTeX answers")
    wanted = final_answer(reference, ("boxed", "hashes")) or reference
    if plain_number(wanted) is not None:
        return None
    try:
        sound = limited("is_mathematics", {"text": latex_text(wanted)}, seconds)
    except TooSlow:
        return f"takes more than {seconds:g} s to be read as mathematics"
    except Fault:
        sound = False
    return None if sound else "cannot be read as mathematics"


@lru_cache(maxsize=50_000)
def _compared(operation: str, reference: str, answer: str, seconds: float) -> bool:
    name = "answer" if operation == "is_equal" else "text"
    try:
        return bool(limited(operation, {"reference": reference, name: answer}, seconds))
    except (TooSlow, Fault):
        return False


def _in_ten(match: re.Match[str]) -> str:
    try:
        return str(int(match[1], int(match[2])))
    except ValueError:  # a digit that the base lacks
        return match[0]
