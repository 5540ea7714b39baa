"""What may take too long, in a process of its own that can be killed: patterns, schemas, mathematics.

This file is run by its path (`tacit.rewards.verifiers.limits`) and imports nothing of Tacit. Each line of standard
input is a task `{"operation", "arguments", "seconds"}`; each line of standard output is its `{"value"}` or `{"fault"}`.
A task that takes more processor time than its seconds ends the process, even where its parent is gone.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any

_MEMORY = 4 << 30
_DIGITS = 100
_CLOSE = 1e-6
"""Relative error allowed between two numbers of which one is written in decimals."""
_MOST_DIGITS = 100_000
"""Digits up to which whole numbers and fractions are written out to be compared."""


def found(pattern: str, text: str, whole: bool) -> bool:
    """Whether a regular expression is found in a text, or matches the whole of it."""
    compiled = re.compile(pattern)
    return (compiled.fullmatch(text) if whole else compiled.search(text)) is not None


def satisfies(schema: str, text: str) -> bool:
    """Whether a text is JSON that satisfies a schema; nothing is fetched, so a remote reference is a fault."""
    validator = _validator(schema)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    try:
        return bool(validator.is_valid(value))
    except RecursionError:
        return False


@lru_cache(maxsize=1000)
def _validator(schema: str) -> Any:
    import jsonschema
    import referencing

    value = json.loads(schema)
    return jsonschema.validators.validator_for(value)(value, registry=referencing.Registry())


def is_mathematics(text: str) -> bool:
    """Whether LaTeX can be read, and is equal to itself."""
    return bool(_parsed(text)) and is_equal(text, text)


def is_equal(reference: str, answer: str) -> bool:
    """Whether the mathematics of two pieces of LaTeX is equal."""
    return _equal(_parsed(reference), _parsed(answer))


def is_answered(reference: str, text: str) -> bool:
    """Whether the answer that is found in a text without a box equals a reference."""
    from math_verify import parse

    return _equal(_parsed(reference), tuple(parse(text, parsing_timeout=None)))


@lru_cache(maxsize=10_000)
def _parsed(text: str) -> tuple[Any, ...]:
    """The expression of LaTeX, with its text; nothing where it is none."""
    from math_verify import parse

    parsed = parse(f"${text}$", parsing_timeout=None)
    return tuple(parsed) if any(not isinstance(part, str) for part in parsed) else ()


def _equal(reference: tuple[Any, ...], answer: tuple[Any, ...]) -> bool:
    from math_verify import verify

    if not reference or not answer:
        return False
    sides = [next((part for part in parts if not isinstance(part, str)), None) for parts in (reference, answer)]
    if None not in sides and all(_is_number(side) for side in sides):
        return _numbers_equal(*sides)
    equal = verify(list(reference), list(answer), allow_set_relation_comp=True, timeout_seconds=None)
    return bool(equal) and _elements_equal(*sides)


def _is_number(value: Any) -> bool:
    return bool(getattr(value, "is_number", False)) and getattr(value, "is_finite", None) is not False


def _numbers_equal(reference: Any, answer: Any) -> bool:
    """Exactly where both are whole numbers or fractions, else in many digits, or within `_CLOSE` beside decimals."""
    import sympy

    if reference == answer:
        return True
    sides = [value.doit() if _short(value) else value for value in (reference, answer)]
    if all(isinstance(value, sympy.Rational) for value in sides):
        return bool(sides[0] == sides[1])
    decimals = any(value.has(sympy.Float) for value in sides)
    close = sympy.Float(_CLOSE, _DIGITS) if decimals else sympy.Float(10, _DIGITS) ** (20 - _DIGITS)
    a, b = (value.evalf(_DIGITS) for value in sides)
    return bool(abs(b - a) <= close * abs(a))


def _short(value: Any) -> bool:
    """Whether a number has few enough digits, before or after the point, to be written out."""
    import sympy

    size = abs(value.evalf(15))
    return bool(size == 0 or abs(sympy.log(size, 10).evalf(15)) <= _MOST_DIGITS)


def _elements_equal(reference: Any, answer: Any) -> bool:
    """Whether what is equal to six decimals is equal as closely as numbers have to be, element by element."""
    import sympy

    if reference is None or answer is None:
        return True
    if _is_number(reference) and _is_number(answer):
        return _numbers_equal(reference, answer)
    if isinstance(reference, sympy.FiniteSet) and isinstance(answer, sympy.FiniteSet):
        return all(any(_elements_equal(a, b) for b in answer) for a in reference)
    kinds = (sympy.Tuple, sympy.MatrixBase, sympy.Interval)
    if isinstance(reference, kinds) and type(reference) is type(answer):
        left, right = (list(x) if not isinstance(x, sympy.Interval) else [x.start, x.end] for x in (reference, answer))
        return len(left) == len(right) and all(_elements_equal(a, b) for a, b in zip(left, right, strict=True))
    return True


LIBRARIES = {
    **{"satisfies": ("jsonschema", "referencing")},
    **dict.fromkeys(("is_mathematics", "is_equal", "is_answered"), ("math_verify", "sympy")),
}
"""Imported before the time of a task is taken."""
OPERATIONS: dict[str, Callable[..., bool]] = {
    **{"found": found, "satisfies": satisfies},
    **{"is_mathematics": is_mathematics, "is_equal": is_equal, "is_answered": is_answered},
}


def main() -> None:
    """Answer tasks until standard input ends."""
    sys.path.extend(path for path in json.loads(sys.argv[1]) if path not in sys.path)
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit_memory()
    for line in sys.stdin:
        task = json.loads(line)
        reply: dict[str, Any]
        try:
            for module in LIBRARIES.get(task["operation"], ()):
                import_module(module)
            _alarm(task["seconds"])
            reply = {"value": OPERATIONS[task["operation"]](**task["arguments"])}
        except Exception as error:  # whatever a library raises on odd input
            reply = {"fault": f"{type(error).__name__}: {error}"[:300]}
        _alarm(0)
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def _alarm(seconds: float) -> None:
    """End this process after so many seconds of processor time; 0 calls it off."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY if hard == resource.RLIM_INFINITY else min(_MEMORY, hard), hard))


if __name__ == "__main__":
    main()
