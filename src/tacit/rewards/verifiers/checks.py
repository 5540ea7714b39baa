"""Checks: rules that say how right a completion is, from 0 to 1, given the reference answer where they need one.

Each is a small frozen dataclass: its fields are its options, `kind` its name in files, and `answered` says whether it
needs a reference answer. `check(completion, answer)` returns a number in [0, 1].
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache, lru_cache
from typing import Any, ClassVar, Literal, Protocol, get_args, get_type_hints

from tacit.errors import MissingExtra, TacitError
from tacit.rewards.verifiers import numbers
from tacit.rewards.verifiers.code import UnitTests

_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL | re.IGNORECASE)
_UNITS = {"characters": r"(?s).", "words": r"\S+", "tokens": r"\w+|[^\w\s]"}


class Check(Protocol):
    """A rule: the share of right in a completion, given the reference answer (None where the rule needs none)."""

    kind: ClassVar[str]
    answered: ClassVar[bool]

    def __call__(self, completion: str, answer: str | None) -> float:
        """A number in [0, 1]."""
        ...


@dataclass(frozen=True)
class NumberCheck:
    """1 where the final number equals the reference: |a - b| <= tolerance * max(1, |b|), in exact fractions.

    Both sides are read alike (`tacit.rewards.verifiers.numbers`), so a reference may be a whole worked solution.
    """

    kind: ClassVar[str] = "number"
    answered: ClassVar[bool] = True
    tolerance: float = 1e-6
    rules: tuple[str, ...] = numbers.RULES
    """Where the answer is looked for, first to last: boxed, hashes, phrase, last."""

    def __post_init__(self) -> None:
        if self.tolerance < 0:
            raise TacitError(f"tolerance is {self.tolerance}. Give 0 or more")
        _within("rules", self.rules, numbers.RULES)

    def __call__(self, completion: str, answer: str | None) -> float:
        """1.0 or 0.0; raises `TacitError` where the reference holds no number."""
        wanted = _number(str(answer), self.rules)
        if wanted is None:
            raise TacitError(
                f"the reference answer {str(answer)[:60]!r} holds no number. Mend it, or use another check"
            )
        found = numbers.answer_number(completion, self.rules)
        return float(found is not None and found.equals(wanted, self.tolerance))


@dataclass(frozen=True)
class LatexCheck:
    r"""1 where the mathematics of the two answers is equal, whatever the notation: \frac12 and 0.5, {1,2} and {2,1}.

    Parsed and compared by the library math-verify (extra `verify`). Outside the main thread its time limit of `seconds`
    does not work, since it needs a signal.
    """

    kind: ClassVar[str] = "latex"
    answered: ClassVar[bool] = True
    seconds: int = 5
    """Most seconds for one answer; an answer that takes longer counts as wrong."""

    def __call__(self, completion: str, answer: str | None) -> float:
        """1.0 or 0.0; raises `MissingExtra` without math-verify, `TacitError` for a reference that is no LaTeX."""
        import threading

        parse, verify = _math_verify()
        limit = self.seconds if threading.current_thread() is threading.main_thread() else None
        wanted = _gold(str(answer), limit)
        if not wanted:
            raise TacitError(f"the reference answer {str(answer)[:60]!r} cannot be read as mathematics. Mend it")
        return float(verify(list(wanted), parse(completion, parsing_timeout=limit), timeout_seconds=limit))


@dataclass(frozen=True)
class ExactCheck:
    """1 where the answer is the reference, but for case, white space, and punctuation around it.

    The answer is what `final_answer` finds by `boxed`, `hashes` or `phrase`, else the whole completion: letters of
    choices, names, yes and no.
    """

    kind: ClassVar[str] = "exact"
    answered: ClassVar[bool] = True

    def __call__(self, completion: str, answer: str | None) -> float:
        """1.0 or 0.0."""
        found = numbers.final_answer(completion, ("boxed", "hashes", "phrase"))
        return float(_bare(completion if found is None else found) == _bare(str(answer)))


@dataclass(frozen=True)
class RegexCheck:
    """1 where a regular expression (Python's) is found; without `pattern` the reference answer is the pattern.

    Some patterns take exponential time on some texts: `(a+)+$` and its like.
    """

    kind: ClassVar[str] = "regex"
    answered: ClassVar[bool] = True
    pattern: str | None = None
    whole: bool = False
    """The whole completion must match, white space around it aside."""

    def __post_init__(self) -> None:
        if self.pattern is not None:
            _compiled(self.pattern)

    def __call__(self, completion: str, answer: str | None) -> float:
        """1.0 or 0.0; raises `TacitError` for a pattern that does not compile."""
        pattern = _compiled(str(answer) if self.pattern is None else self.pattern)
        return float((pattern.fullmatch(completion.strip()) if self.whole else pattern.search(completion)) is not None)


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

    def __post_init__(self) -> None:
        if self.schema is not None:
            _schema(self.schema)

    def __call__(self, completion: str, answer: str | None) -> float:
        """1.0 or 0.0; raises `MissingExtra` without jsonschema, `TacitError` for a schema that is none."""
        validator = _schema(str(answer) if self.schema is None else self.schema)
        blocks = _FENCED.findall(completion)
        try:
            value = json.loads(blocks[-1] if blocks else completion)
        except (ValueError, RecursionError):
            return 0.0
        return float(validator.is_valid(value))


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
        _within("answer", self.answer, numbers.RULES)
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
        return float(not self.answer or numbers.final_answer(text, self.answer) is not None)


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
        raise TacitError(f"no check `{kind}`. Choose one of: {', '.join(CHECKS)}")
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


def _bare(text: str) -> str:
    return " ".join(text.split()).strip(" .,:;!?()[]{}\"'`*$").casefold()


def _blocks(text: str, tags: tuple[str, ...]) -> bool:
    names = [re.escape(tag) for tag in tags]
    if any(text.count(f"<{tag}>") != 1 or text.count(f"</{tag}>") != 1 for tag in tags):
        return False
    return re.fullmatch(r"\s*".join(f"<{name}>.*?</{name}>" for name in names), text, re.DOTALL) is not None


@lru_cache(maxsize=100_000)
def _number(text: str, rules: tuple[str, ...]) -> numbers.Number | None:
    return numbers.answer_number(text, rules)


@lru_cache(maxsize=10_000)
def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise TacitError(f"the regular expression {pattern!r} does not compile ({error}). Mend it") from error


@lru_cache(maxsize=1_000)
def _schema(text: str) -> Any:
    try:
        import jsonschema
        import referencing
    except ImportError as error:
        raise MissingExtra("verify", "checking JSON schemas") from error
    try:
        schema = json.loads(text)
        validator = jsonschema.validators.validator_for(schema)
        validator.check_schema(schema)
    except (ValueError, jsonschema.SchemaError) as error:
        reason = str(error).splitlines()[0]
        raise TacitError(f"the JSON schema {text[:60]!r} is none ({reason}). Mend it") from error
    return validator(schema, registry=referencing.Registry())


@cache
def _math_verify() -> Any:
    try:
        import math_verify
    except ImportError as error:
        raise MissingExtra("verify", "checking LaTeX answers") from error
    return math_verify.parse, math_verify.verify


@lru_cache(maxsize=20_000)
def _gold(text: str, limit: int | None) -> tuple[Any, ...]:
    parse, _ = _math_verify()
    bare = numbers.final_answer(text, ("boxed", "hashes")) or text.strip()
    return tuple(parse(bare if "$" in bare or "\\[" in bare else f"${bare}$", parsing_timeout=limit))
