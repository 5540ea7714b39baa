"""The forms of words in which a judge gives its verdict: labels (A and B, Yes and No), or numbers of a scale.

`tacit.rewards.judge.verdicts` says where in a text each form counts. Every reader returns the verdict or None.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

_EDGES = " \t\r\n*_`\"'“”‘’«»#$|"
_BRACKETS = "()[]{}<>"
_NO_BRACKETS = str.maketrans("", "", _BRACKETS)
_WRAPPED = re.compile(r"\\(?:boxed|text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}")
_LONGEST_VALUE = 400
_NOUN = r"(?:(?:the\s+)?(?:answer|response|assistant|option|model|candidate|output|completion|reply|system)[\s_-]*)"
_BEST = r"(?:better|best|superior|preferable|stronger|preferred|winner)"
_BETTER = (
    r"(?:(?:better|best|preferred|winning|stronger|superior)\s+"
    r"(?:answer|response|assistant|option|model|candidate|output|completion|reply|one))"
)
_QUALIFIERS = frozenset(
    [
        *[
            "a",
            "an",
            "and",
            "as",
            "final",
            "hence",
            "is",
            "my",
            "of",
            "our",
            "overall",
            "own",
            "so",
            "the",
            "therefore",
        ],
        *["this", "thus", "total", "with"],
    ]
)
"""Words before a mark's name; after any other one ("clarity score", "expert verdict") it is another thing."""
_WORD_FIELDS = frozenset(
    [
        *["verdict", "final_verdict", "winner", "preference", "preferred", "choice", "decision", "judgement"],
        *["judgment", "answer", "final_answer", "better", "best", "better_answer", "best_answer", "better_response"],
        *["best_response", "preferred_answer", "preferred_response", "label", "result", "selected", "selection"],
        *["chosen", "conclusion", "vote"],
    ]
)
_TRUTH_FIELDS = frozenset(["good", "is_good", "correct", "is_correct", "acceptable", "passed"])
_NUMBER_FIELDS = frozenset(
    [
        *["score", "rating", "grade", "mark", "points", "verdict", "result", "overall", "overall_score"],
        *["overall_rating", "final_score", "final_rating", "total_score"],
    ]
)
_FINAL = frozenset(("final", "overall", "total"))
_BEFORE = r"(?:\b(?P<before>[^\W\d_]+)[*_\"'`]{0,3}[ \t]+)?\b"
_PARENTHESIS = r"(?:\s*[(\[][^()\[\]\n]{0,40}[)\]])?"
_SEPARATOR = r"[*_\"'`\s]{0,6}(?:(?P<colon>[:=→]|--?>|(?<=\s)[-–—](?=\s))|\b(?P<verb>is|of)\b\s?:?)[*_\"'`\s]{0,6}"
_REASON = re.compile(r"\s*[,;]?\s*(?:since|because|as(?!\s+well)|due\s+to|by\s+(?:far|a))\b", re.IGNORECASE)
_PAUSE = re.compile(r"\s*(?:[,;.!]|[-–—]+\s|[(—–]|(?:but|although|though|while|whereas)\b)", re.IGNORECASE)
_RESULT = re.compile(r"\[RESULT\]")
_FOR_SURE = r"(?:(?:clearly|much|slightly|far|significantly|somewhat|marginally|definitely|the|a\s+bit)\s+)*"
_LEAD = (
    r"(?:(?:overall|therefore|thus|so|hence|in\s+conclusion|in\s+summary|in\s+my\s+opinion|i\s+(?:think|believe|find)"
    r"(?:\s+that)?)\s*,?\s+)*"
)


def _bare(text: str, edges: str) -> str:
    """A text without what surrounds it: white space, quotes, emphasis, brackets, LaTeX boxes, a full stop."""
    while True:
        inner = _WRAPPED.sub(r"\1", text.strip(edges.translate(_NO_BRACKETS))).strip(edges)
        if inner == text:
            return inner
        text = inner


def _after(pattern: re.Pattern[str], text: str) -> Iterator[str]:
    """What follows each match of a pattern."""
    return (text[match.end() : match.end() + _LONGEST_VALUE] for match in pattern.finditer(text))


@dataclass(frozen=True)
class WordPhrases:
    """Verdicts of two labels; single letters know a tie as well, and keep their case in prose ("a" is a word)."""

    labels: tuple[str, ...]
    tie: str

    @staticmethod
    @lru_cache(maxsize=16)
    def of(labels: tuple[str, ...], tie: str) -> WordPhrases:
        """The phrases of two labels, made once."""
        return WordPhrases(labels, tie)

    @cached_property
    def letters(self) -> bool:
        """Whether the labels are single letters."""
        return all(len(label) == 1 for label in self.labels)

    @cached_property
    def fields(self) -> frozenset[str]:
        """Fields of structured output that hold a verdict."""
        return _WORD_FIELDS if self.letters else _WORD_FIELDS | _TRUTH_FIELDS

    def field(self, value: Any) -> str | None:
        """A field's value: a label, true and false for Yes and No, or a sentence that says one thing."""
        if isinstance(value, bool):
            return None if self.letters else self.labels[0 if value else 1]
        if not isinstance(value, str):
            return None
        return self.whole(value, any_case=True) or self._leading(value) or self.sentence(value)

    def bracket(self, content: str) -> str | None:
        """What stands in double brackets; C is a tie there, as in MT-bench."""
        if self.letters and content in ("C", "c"):
            return self.tie
        return self.whole(content.rpartition(":")[2], any_case=True)

    def whole(self, text: str, *, any_case: bool = False) -> str | None:
        """A text that holds nothing but a verdict."""
        bare = _bare(text, _EDGES + _BRACKETS + ".,;!")
        if not self.letters:
            return next((label for label in self.labels if bare.casefold() == label.casefold()), None)
        match = self._whole.fullmatch(bare)
        if match and (any_case or match["noun"] or match["label"].isupper()):
            return match["label"].upper()
        if order := self._order.fullmatch(bare):
            left, right = order[1].upper(), order[3].upper()
            return None if left == right else self.tie if "=" in order[2] else left if ">" in order[2] else right
        return self.tie if self._tie.fullmatch(bare) else None

    def alone(self, line: str, *, closing: bool) -> str | None:
        """A line that holds nothing but a verdict; a line that is not the last must be the bare label, no heading."""
        if line.rstrip(_EDGES).endswith(":"):
            return None
        if closing:
            return self.whole(self._closing.sub("", line))
        verdict = self.whole(line)
        bare = _bare(line, _EDGES + _BRACKETS + ".,;!").casefold()
        named = verdict is not None and (verdict == self.tie or bare == verdict.casefold())
        return verdict if named and not line.startswith("#") else None

    def marks(self, text: str, *, final: bool) -> Iterator[str | None]:
        """Values of the marks in a text, those called final or the others; None for a value that is no verdict."""
        for match in self._mark.finditer(text):
            before = (match["before"] or "").casefold()
            if (before and before not in _QUALIFIERS) or (before in _FINAL) != final:
                continue
            value = self._leading(text[match.end() : match.end() + _LONGEST_VALUE])
            if value is not None or match["colon"]:
                yield value
        if final:
            yield from (self._leading(value) for value in _after(_RESULT, text))
        else:
            values = (self._leading(value) for value in _after(self._heading, text))
            yield from (value for value in values if value is not None)

    def opening(self, text: str) -> str | None:
        """How a text begins: a label and a reason, or Yes and No and a pause ("A." may begin a list)."""
        match = self._start.match(text)
        if match is None:
            return None
        label, rest = self._named(match["label"]), text[match.end() :]
        other = self.labels[1 - self.labels.index(label)]
        if any(line.strip(_EDGES).startswith(other) for line in rest.splitlines()[1:]):
            return None
        if _REASON.match(rest):
            return label
        pause = not self.letters and (_PAUSE.match(rest) or rest.startswith(":"))
        return label if pause and not self._stands(other, rest) else None

    def sentence(self, text: str) -> str | None:
        """A sentence that says nothing but which of two answers is better, or that neither is."""
        bare = _bare(text, _EDGES + ".!")
        if not self.letters or "?" in text:
            return None
        for pattern in (self._is_better, self._prefers):
            match = pattern.fullmatch(bare)
            if match and match["label"] != match["other"]:
                return str(match["label"])
        return self.tie if self._tie.fullmatch(bare) else None

    def _leading(self, text: str) -> str | None:
        """The verdict with which the value of a mark begins."""
        line = text.strip().partition("\n")[0].strip()
        verdict = self.whole(line, any_case=True)
        if verdict is not None:
            return verdict
        match = self._start_with_noun.match(line)
        if match is None:
            clause = re.split(r"[.,;!(]", line, maxsplit=1)[0]
            return self.tie if self.letters and self.whole(clause) == self.tie else None
        label, rest = self._named(match["label"]), line[match.end() :]
        other = self.labels[1 - self.labels.index(label)]
        if _REASON.match(rest):
            return label
        if self.letters and (wins := self._wins.match(rest)) and wins["other"] != label:
            return None if self._stands(other, rest[wins.end() :]) else label
        return label if _PAUSE.match(rest) and not self._stands(other, rest) else None

    def _named(self, spelling: str) -> str:
        return next(label for label in self.labels if label.casefold() == spelling.casefold())

    def _stands(self, label: str, text: str) -> bool:
        """Whether a label stands in a text on its own: a letter as a word, Yes and No before a pause."""
        if self.letters:
            return re.search(rf"(?<!\w){label}(?!\w)", text) is not None
        return re.search(rf"(?<!\w){label}(?=\s*(?:[.,;:!?)]|$))", text, re.IGNORECASE | re.MULTILINE) is not None

    @cached_property
    def _label(self) -> str:
        return f"(?P<label>{'|'.join(self.labels)})"

    @cached_property
    def _whole(self) -> re.Pattern[str]:
        return re.compile(rf"(?P<noun>{_NOUN})?[(\[]?{self._label}[)\]]?", re.IGNORECASE)

    @cached_property
    def _order(self) -> re.Pattern[str]:
        letter = f"({'|'.join(self.labels)})"
        return re.compile(rf"{letter}\s*(>{{1,3}}|={{1,3}}|<{{1,3}})\s*{letter}", re.IGNORECASE)

    @cached_property
    def _tie(self) -> re.Pattern[str]:
        return re.compile(
            r"(?:it(?:'s|’s|\s+is)\s+|this\s+is\s+|there\s+is\s+)?(?:an?\s+)?(?:tie|draw|tied|equal|neither|both|"
            r"(?:both|the\s+(?:two\s+)?answers)\s+(?:answers\s+)?are\s+equal(?:ly\s+good)?)",
            re.IGNORECASE,
        )

    @cached_property
    def _closing(self) -> re.Pattern[str]:
        return re.compile(
            r"^[\s*_#]*(?:(?:so|thus|therefore|hence|overall),?\s+)?(?:(?:the|my)\s+)?(?:final\s+)?"
            r"(?:answer|choice)\s*(?:\bis\b|:|\bis\b\s*:)[\s*_]*",
            re.IGNORECASE,
        )

    @cached_property
    def _mark(self) -> re.Pattern[str]:
        names = rf"(?:verdict|winner|decision|judge?ment|preference|conclusion|my\s+(?:choice|answer|pick)|{_BETTER})"
        return re.compile(_BEFORE + names + _PARENTHESIS + _SEPARATOR, re.IGNORECASE)

    @cached_property
    def _heading(self) -> re.Pattern[str]:
        return re.compile(r"^[#*_ \t]*(?:verdict|winner|decision|judge?ment)[*_ \t]*\n", re.IGNORECASE | re.MULTILINE)

    @cached_property
    def _start(self) -> re.Pattern[str]:
        label = self._label if not self.letters else f"(?-i:{self._label})"
        return re.compile(rf"[\s*_\"'`(\[]*{label}(?![\w'’])[*_\"'`)\]]*", re.IGNORECASE)

    @cached_property
    def _start_with_noun(self) -> re.Pattern[str]:
        label = self._label if not self.letters else f"(?-i:{self._label})"
        noun = _NOUN + "?" if self.letters else ""
        return re.compile(rf"[\s*_\"'`(\[]*{noun}[*_\"'`(\[]*{label}(?![\w'’])[*_\"'`)\]]*", re.IGNORECASE)

    @cached_property
    def _other(self) -> str:
        return rf"{_NOUN}?(?-i:(?P<other>{'|'.join(self.labels)}))"

    @cached_property
    def _wins(self) -> re.Pattern[str]:
        better = rf"\s+is\s+{_FOR_SURE}{_BEST}"
        return re.compile(
            rf"(?:{better}|\s+wins|\s+beats|\s+over)\b(?:\s+(?:than|to|over)\b)?(?:\s+{self._other}\b)?", re.IGNORECASE
        )

    @cached_property
    def _is_better(self) -> re.Pattern[str]:
        nouns = r"(?:\s+(?:answer|response|option|choice|one|of\s+the\s+two))*"
        verb = rf"(?:is\s+{_FOR_SURE}{_BEST}{nouns}|wins|beats)"
        return re.compile(
            rf"{_LEAD}{_NOUN}?(?-i:{self._label})\s+{verb}(?:\s+(?:(?:than|to|over)\s+)?{self._other})?(?:\s+overall)?",
            re.IGNORECASE,
        )

    @cached_property
    def _prefers(self) -> re.Pattern[str]:
        verb = r"(?:prefer|choose|pick|favou?r|select|vote\s+for|go\s+with)"
        return re.compile(
            rf"{_LEAD}i(?:'d|\s+would|\s+will)?\s+{verb}\s+{_NOUN}?(?-i:{self._label})"
            rf"(?:\s+(?:over|to|rather\s+than)\s+{self._other})?",
            re.IGNORECASE,
        )


@dataclass(frozen=True)
class NumberPhrases:
    """Verdicts that are a number from `low` to `high`."""

    low: int
    high: int

    @property
    def fields(self) -> frozenset[str]:
        """Fields of structured output that hold a verdict."""
        return _NUMBER_FIELDS

    @staticmethod
    @lru_cache(maxsize=16)
    def of(low: int, high: int) -> NumberPhrases:
        """The phrases of a scale, made once."""
        return NumberPhrases(low, high)

    def field(self, value: Any) -> float | None:
        """A field's value: a number, or a text that holds nothing else."""
        if isinstance(value, str):
            return self.whole(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return None
        return self._within(value)

    def bracket(self, content: str) -> float | None:
        """What stands in double brackets."""
        return self.whole(content.rpartition(":")[2])

    def whole(self, text: str) -> float | None:
        """A text that holds nothing but a number of the scale, its highest number (8/10, 8 out of 10) or a unit."""
        match = self._value.fullmatch(_bare(text, _EDGES + _BRACKETS + ".,;!"))
        return self._within(match["number"]) if match else None

    def alone(self, line: str, *, closing: bool) -> float | None:
        """A line that holds nothing but a number."""
        return self.whole(line) if closing or not line.startswith("#") else None

    def marks(self, text: str, *, final: bool) -> Iterator[float | None]:
        """Values of the marks in a text, those called final or the others; None for a value that is no verdict."""
        for match in self._mark.finditer(text):
            before = (match["before"] or "").casefold()
            if before and before not in _QUALIFIERS:
                continue
            if (before in _FINAL or match["name"].casefold() == "overall") != final:
                continue
            value = self._leading(text[match.end() : match.end() + _LONGEST_VALUE])
            if value is not None or match["colon"]:
                yield value
        if final:
            yield from (self._leading(value) for value in _after(_RESULT, text))

    def opening(self, text: str) -> float | None:
        """How a text begins: a number with its scale (8/10), or a number and a reason."""
        match = self._start.match(text)
        if match is None:
            return None
        rest = text[match.end() :]
        certain = _REASON.match(rest) or (match["scale"] and self._ends(rest.partition("\n")[0]))
        return self._within(match["number"]) if certain else None

    def sentence(self, text: str) -> float | None:
        """A sentence that says nothing but the number given."""
        match = self._gives.fullmatch(_bare(text, _EDGES + ".!"))
        return self._within(match["number"]) if match else None

    def _leading(self, text: str) -> float | None:
        line = text.strip().partition("\n")[0].strip()
        match = self._start.match(line)
        if match is None or not self._ends(line[match.end() :]):
            return None
        return self._within(match["number"])

    def _ends(self, rest: str) -> bool:
        """Whether a number is over before `rest`: no range, list or decimal comma, and no other number beside it."""
        if not rest.strip(_EDGES + _BRACKETS) or _REASON.match(rest):
            return True
        if re.match(r"\s*[.!](?:\s|$)", rest):
            return True
        return _PAUSE.match(rest) is not None and not re.search(r"\d", rest)

    def _within(self, number: str | float) -> float | None:
        value = float(number)
        return value if self.low <= value <= self.high else None

    @cached_property
    def _number(self) -> str:
        scale = rf"\s*(?:/|out\s+of|of(?:\s+the)?)\s*{self.high}(?:\.0+)?(?!\d|[.,]\d)"
        return rf"(?P<number>[-+]?\d{{1,6}}(?:\.\d{{1,6}})?)(?P<scale>{scale})?(?:\s*(?:points?|stars?|pts)\b)?"

    @cached_property
    def _value(self) -> re.Pattern[str]:
        return re.compile(self._number, re.IGNORECASE)

    @cached_property
    def _start(self) -> re.Pattern[str]:
        return re.compile(rf"[\s*_\"'`(\[]*{self._number}(?![\w%])[*_\"'`)\]]*", re.IGNORECASE)

    @cached_property
    def _mark(self) -> re.Pattern[str]:
        span = rf"{self.low}\s*(?:-|–|—|to|and)\s*{self.high}"
        scale = rf"(?:\s*(?:on\s+a\s+scale\s+(?:of|from)\s+|from\s+|between\s+)?{span}|\s*(?:out\s+of|/)\s*{self.high})"
        return re.compile(
            rf"{_BEFORE}(?P<name>score|rating|grade|mark|verdict|overall){_PARENTHESIS}{scale}?{_SEPARATOR}",
            re.IGNORECASE,
        )

    @cached_property
    def _gives(self) -> re.Pattern[str]:
        thing = r"(?:\s+(?:it|this|that|(?:this|the)\s+(?:answer|response|completion|reply)))?"
        verb = r"(?:rate|give|score|grade|assign)"
        score = r"(?:\s+(?:with\s+)?(?:an?\s+)?(?:(?:score|rating|grade)\s+of\s+)?)"
        return re.compile(
            rf"{_LEAD}i(?:'d|\s+would|\s+will)?\s+{verb}{thing}{score}[*_\"'`]*{self._number}", re.IGNORECASE
        )
