"""Checks: rules that say how right a completion is, from 0 to 1, given the reference answer where they need one.

Each is a small frozen dataclass: its fields are its options, `kind` its name in files, and `answered` says whether it
needs a reference answer. `check(completion, answer)` returns a number in [0, 1], and `check.reference_fault(answer)`
says what is wrong with a reference answer, so that `fit` can refuse it: an answer equal to a sound one scores 1.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any, ClassVar, Literal, Protocol, get_args, get_type_hints

from tacit.errors import MissingExtra, TacitError, choices
from tacit.rewards.verifiers import answers, mathematics, texts
from tacit.rewards.verifiers.code import UnitTests
from tacit.rewards.verifiers.limits import Fault, TooSlow, check_pattern, limited, pattern_found

_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL | re.IGNORECASE)
_UNITS = {"characters": r"(?s).", "words": r"\S+", "tokens": r"\w+|[^\w\s]"}


class Check(Protocol):
    """A rule: the share of right in a completion, given the reference answer (None where the rule needs none)."""

    kind: ClassVar[str]
    answered: ClassVar[bool]

    def __call__(self, completion: str, answer: str | None) -> float:
        """A number in [0, 1]."""
        ...

    def reference_fault(self, answer: str) -> str | None:
        """What is wrong with a reference answer, as the end of a sentence about it; None where nothing is."""
        ...


@dataclass(frozen=True)
class NumberCheck:
    """1 where the final number equals the reference: |a - b| <= tolerance * |b|, in exact fractions.

    A reference is one plain number (`tacit.rewards.verifiers.numbers`), or a worked solution that marks one as its
    answer.
    """

    kind: ClassVar[str] = "number"
    answered: ClassVar[bool] = True
    tolerance: float | None = None
    """Relative error allowed; by default none between whole numbers and fractions, 1e-6 where one side has decimals."""
    rules: tuple[str, ...] = answers.RULES
    """Where the answer is looked for, first to last: boxed, hashes, phrase, last."""

    def __post_init__(self) -> None:
        if self.tolerance is not None and not 0 <= self.tolerance < math.inf:
            raise TacitError(f"tolerance is {self.tolerance}. Give 0 or more")
        _within("rules", self.rules, answers.RULES)

    def __call__(self, completion: str, answer: str | None) -> float:
        """1.0 or 0.0; raises `TacitError` where the reference is not one plain number."""
        wanted = answers.reference_number(str(answer), self.rules)
        if wanted is None:
            raise _unsound(self, str(answer))
        number = answers.answer_number(completion, self.rules)
        return float(number is not None and number.equals(wanted, self.tolerance))

    def reference_fault(self, answer: str) -> str | None:
        """Whether it is one plain number."""
        number = answers.reference_number(answer, self.rules)
        return "is not one plain number" if number is None else None


@dataclass(frozen=True)
class LatexCheck:
    r"""1 where the mathematics of the two answers is equal, whatever the notation: \frac12 and 0.5, {1,2} and {2,1}.

    Parsed and compared by the library math-verify (extra `verify`), see `tacit.rewards.verifiers.mathematics`.
    """

    kind: ClassVar[str] = "latex"
    answered: ClassVar[bool] = True
    seconds: float = 5
    """Processor time for one answer; an answer that takes longer counts as wrong."""

    def __post_init__(self) -> None:
        _positive("seconds", self.seconds)

    def __call__(self, completion: str, answer: str | None) -> float:
        """1.0 or 0.0; raises `MissingExtra` without math-verify, `TacitError` for a reference that is no LaTeX."""
        return float(mathematics.mathematics_equal(completion, str(answer), self.seconds))

    def reference_fault(self, answer: str) -> str | None:
        """Whether it can be read as mathematics."""
        return mathematics.reference_fault(answer, self.seconds)


@dataclass(frozen=True)
class ExactCheck:
    r"""1 where the answer is the reference, but for case, white space, markup and punctuation around it.

    The answer is the last box, what follows `####` or "the answer is", else the whole completion: letters of choices
    (`E` is `\text{E}`, `(E)`, `E) Paris`), names, yes and no.
    """

    kind: ClassVar[str] = "exact"
    answered: ClassVar[bool] = True

    def __call__(self, completion: str, answer: str | None) -> float:
        """1.0 or 0.0."""
        return float(texts.texts_equal(completion, str(answer)))

    def reference_fault(self, answer: str) -> str | None:
        """Whether anything is left of it."""
        return None if texts.texts_equal(answer, answer) else "is empty but for punctuation"


@dataclass(frozen=True)
class RegexCheck:
    """1 where a regular expression (Python's) is found; without `pattern` the reference answer is the pattern.

    Some patterns take exponential time on some texts, `(a+)+$` and its like: they end with an error.
    """

    kind: ClassVar[str] = "regex"
    answered: ClassVar[bool] = True
    pattern: str | None = None
    whole: bool = False
    """The whole completion must match, white space around it aside."""
    seconds: float = 5.0
    """Processor time for one text."""

    def __post_init__(self) -> None:
        _positive("seconds", self.seconds)
        if self.pattern is not None:
            check_pattern(self.pattern)

    def __call__(self, completion: str, answer: str | None) -> float:
        """1.0 or 0.0; raises `TacitError` naming a pattern that does not compile, or takes too long."""
        pattern = str(answer) if self.pattern is None else self.pattern
        text = completion.strip() if self.whole else completion
        return float(pattern_found(pattern, text, whole=self.whole, seconds=self.seconds))

    def reference_fault(self, answer: str) -> str | None:
        """Whether it compiles."""
        try:
            check_pattern(answer)
        except TacitError as error:
            return f"is no regular expression: {error}"
        return None


@dataclass(frozen=True)
class JsonSchemaCheck:
    """1 where the completion is JSON that satisfies a JSON schema; without `schema` the reference answer is the schema.

    The JSON is the last fenced block, else the whole text. Checked by the library jsonschema (extra `verify`); nothing
    is fetched from the network, so a remote `$ref` is an error.
    """

    kind: ClassVar[str] = "json_schema"
    answered: ClassVar[bool] = True
    schema: str | None = None
    """The schema as JSON text."""
    seconds: float = 5.0
    """Processor time for one completion."""

    def __post_init__(self) -> None:
        _positive("seconds", self.seconds)
        if self.schema is not None:
            _check_schema(self.schema)

    def __call__(self, completion: str, answer: str | None) -> float:
        """1.0 or 0.0; raises `MissingExtra` without jsonschema, `TacitError` for a schema that is none or too slow."""
        schema = str(answer) if self.schema is None else self.schema
        _check_schema(schema)
        blocks = _FENCED.findall(completion)
        text = blocks[-1] if blocks else completion
        try:
            return float(limited("satisfies", {"schema": schema, "text": text}, self.seconds))
        except Fault as error:
            raise TacitError(f"the JSON schema {schema[:60]!r} cannot be checked ({error}). Fix it") from error
        except TooSlow as error:
            raise TacitError(
                f"the JSON schema {schema[:60]!r} takes more than {self.seconds:g} s on a text of {len(text)} "
                "characters. Simplify it: a `pattern` with repeats inside repeats takes exponential time"
            ) from error

    def reference_fault(self, answer: str) -> str | None:
        """Whether it is a JSON schema."""
        try:
            _check_schema(answer)
        except MissingExtra:
            raise
        except TacitError as error:
            return f"is no JSON schema: {error}"
        return None


@dataclass(frozen=True)
class LengthCheck:
    """1 where the length lies within bounds, falling to 0 over `buffer` units past `most` (DAPO's soft punishment).

    A token here is a run of letters and digits or one other sign, which is near what a tokenizer counts.
    """

    kind: ClassVar[str] = "length"
    answered: ClassVar[bool] = False
    least: int = 0
    most: int | None = None
    unit: Literal["words", "characters", "tokens"] = "words"
    buffer: int = 0

    def __post_init__(self) -> None:
        _within("unit", (self.unit,), tuple(_UNITS))
        if self.least < 0 or self.buffer < 0 or (self.most is not None and self.most < self.least):
            raise TacitError(
                f"length from {self.least} to {self.most} with buffer {self.buffer}: give 0 <= least <= most"
            )

    def __call__(self, completion: str, answer: str | None) -> float:
        """A number in [0, 1]."""
        n = measure(completion, self.unit)
        if n < self.least:
            return 0.0
        if self.most is None or n <= self.most:
            return 1.0
        return max(0.0, 1.0 - (n - self.most) / self.buffer) if self.buffer else 0.0

    def reference_fault(self, answer: str) -> str | None:
        """Nothing: it is not used."""
        return None


@dataclass(frozen=True)
class FormatCheck:
    """1 where the completion has the form asked for, whatever it says; 0 where any part of the form is missing.

    Alone it is the control reward "format only".
    """

    kind: ClassVar[str] = "format"
    answered: ClassVar[bool] = False
    tags: tuple[str, ...] = ()
    """Tags such as think, answer: the text is these blocks and white space alone, each once, in this order."""
    think: bool = False
    """The text begins with one closed <think> block, and says something after it."""
    sections: tuple[str, ...] = ()
    """Texts that each begin a line (a Markdown heading's signs aside), in this order."""
    answer: tuple[str, ...] = ()
    """Rules of `final_answer` of which one must find an answer, as boxed or hashes."""

    def __post_init__(self) -> None:
        _within("answer", self.answer, answers.RULES)
        if not (self.tags or self.think or self.sections or self.answer):
            raise TacitError("format asks for nothing. Give tags, think, sections or answer")

    def __call__(self, completion: str, answer: str | None) -> float:
        """1.0 or 0.0."""
        text = completion.strip()
        if self.tags and not _blocks(text, self.tags):
            return 0.0
        if self.think:
            inner, closed, rest = text.removeprefix("<think>").partition("</think>")
            if not text.startswith("<think>") or not closed or not rest.strip() or "<think>" in inner + rest:
                return 0.0
            if "</think>" in rest:
                return 0.0
        start = 0
        for section in self.sections:
            found = re.compile(rf"^[#* \t]*{re.escape(section)}", re.MULTILINE).search(text, start)
            if found is None:
                return 0.0
            start = found.end()
        return float(not self.answer or answers.final_answer(text, self.answer) is not None)

    def reference_fault(self, answer: str) -> str | None:
        """Nothing: it is not used."""
        return None


CHECKS: dict[str, type[Any]] = {
    check.kind: check
    for check in (
        *(NumberCheck, LatexCheck, ExactCheck, RegexCheck, JsonSchemaCheck, LengthCheck, FormatCheck),
        UnitTests,
    )
}
"""Every check by the name that files and columns `checker` use."""


def make_check(kind: str, options: Mapping[str, Any] | None = None) -> Check:
    """The check of that name with these options; lists become tuples.

    Raises `TacitError` naming the known checks or options, and for a value of another type.
    """
    if kind not in CHECKS:
        raise TacitError(f"no check `{kind}`. {choices(kind, CHECKS)}")
    cls = CHECKS[kind]
    known, hints = [f.name for f in fields(cls)], get_type_hints(cls)
    values: dict[str, Any] = {}
    for name, value in (options or {}).items():
        if name not in known:
            raise TacitError(f"check `{kind}` has no option `{name}`. It takes: {', '.join(known) or 'none'}")
        if name == "schema" and isinstance(value, dict):
            value = json.dumps(value)
        values[name] = _typed(f"option `{name}` of check `{kind}`", value, hints[name])
    check: Check = cls(**values)
    return check


def needs_answer(check: Check) -> bool:
    """Whether a check needs a reference answer: not where its own pattern or schema stands in its place."""
    return check.answered and getattr(check, "pattern", None) is None and getattr(check, "schema", None) is None


def check_config(check: Check) -> dict[str, Any]:
    """JSON-ready options from which `make_check(check.kind, ...)` makes it again."""
    values = asdict(check)  # type: ignore[call-overload]
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def measure(text: str, unit: str) -> int:
    """Length of a text in words, characters or tokens-ish."""
    return len(text) if unit == "characters" else len(re.findall(_UNITS[unit], text))


def _typed(what: str, value: Any, hint: Any) -> Any:
    choices = get_args(hint) or (hint,)
    if hint == tuple[str, ...]:
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, list | tuple) or not all(isinstance(part, str) for part in value):
            raise TacitError(f"{what} is {value!r}. Give a list of texts")
        return tuple(value)
    allowed = [c for c in choices if isinstance(c, type)]
    if float in allowed:
        allowed.append(int)
    if allowed and (not isinstance(value, tuple(allowed)) or (isinstance(value, bool) and bool not in allowed)):
        names = " or ".join(c.__name__ for c in allowed if c is not type(None))
        raise TacitError(f"{what} is {value!r}. Give a value of type {names}")
    return value


def _within(name: str, values: tuple[str, ...], known: tuple[str, ...]) -> None:
    for value in values:
        if value not in known:
            raise TacitError(f"`{name}` holds {value!r}. Choose from: {', '.join(known)}")


def _positive(name: str, seconds: float) -> None:
    if not 0 < seconds < math.inf:
        raise TacitError(f"`{name}` is {seconds}. Give more than 0")


def _unsound(check: Check, answer: str) -> TacitError:
    return TacitError(
        f"the reference answer {answer[:60]!r} {check.reference_fault(answer)}. Fix it, or use another check"
    )


def _blocks(text: str, tags: tuple[str, ...]) -> bool:
    names = [re.escape(tag) for tag in tags]
    if any(text.count(f"<{tag}>") != 1 or text.count(f"</{tag}>") != 1 for tag in tags):
        return False
    return re.fullmatch(r"\s*".join(f"<{name}>.*?</{name}>" for name in names), text, re.DOTALL) is not None


@lru_cache(maxsize=1_000)
def _check_schema(text: str) -> None:
    try:
        import jsonschema
    except ImportError as error:
        raise MissingExtra("verify", "checking JSON schemas") from error
    try:
        schema = json.loads(text)
        jsonschema.validators.validator_for(schema).check_schema(schema)
    except (ValueError, RecursionError, jsonschema.SchemaError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TacitError(f"the JSON schema {text[:60]!r} is none ({reason}). Fix it") from error
