"""What a judge is asked, and how the probabilities of its answer are read. Pure functions.

The labels of a mode are the words that its answer must begin with: Yes and No, A and B, or the numbers of the scale.
Every surface form of a label counts (" Yes", "yes", "**Yes"): their probabilities are added, as logarithms.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from tacit.rewards.judge.settings import JudgeError, JudgeSettings

Messages = tuple[tuple[str, str], ...]
"""(role, content) of each message."""

FLOOR = -30.0
"""Least log-probability of a label: what an endpoint's list of alternatives leaves out is not nothing."""

_FIELDS = {
    "yes_no": ("prompt", "completion"),
    "rubric": ("prompt", "completion"),
    "pairwise": ("prompt", "first", "second"),
}
_PLACE = re.compile(r"\{(prompt|completion|first|second|low|high)\}")
_ONE = (
    "Here is a request and an answer to it.\n\n<request>\n{prompt}\n</request>\n\n<answer>\n{completion}\n</answer>\n\n"
)
_TEMPLATES = {
    "yes_no": _ONE + "Is this a good answer: right, helpful and fit for the request?",
    "rubric": _ONE + "How good is this answer, from {low} (useless) to {high} (could not be better)?",
    "pairwise": (
        "Here is a request and two answers to it.\n\n<request>\n{prompt}\n</request>\n\n"
        "<answer A>\n{first}\n</answer A>\n\n"
        "<answer B>\n{second}\n</answer B>\n\nWhich answer is better? Their order and their length mean nothing."
    ),
}
_INSTRUCTIONS = {
    "yes_no": "Reply with one word: Yes or No.",
    "rubric": "Reply with one number from {low} to {high} and nothing else.",
    "pairwise": "Reply with one letter: A or B.",
}
_CRITIQUE = "First write a short critique: what is right, what is wrong. Do not give your verdict yet."
_AROUND = " \t\r\n▁ĠĊ\"'`*_()[]{}<>.,:;!#"


def labels_of(settings: JudgeSettings) -> tuple[str, ...]:
    """The answers of a mode; of two, the one that raises the score comes first."""
    low, high = settings.scale
    numbers = tuple(str(value) for value in range(low, high + 1))
    return {"yes_no": ("Yes", "No"), "pairwise": ("A", "B"), "rubric": numbers}[settings.mode]


def spelled_out(settings: JudgeSettings) -> JudgeSettings:
    """The settings with every text in them that the judge will see, so that a saved judge asks what it asked."""
    texts = {
        "template": _TEMPLATES[settings.mode] if settings.template is None else settings.template,
        "instruction": settings.instruction or _INSTRUCTIONS[settings.mode],
        "critique_instruction": settings.critique_instruction or _CRITIQUE,
    }
    return settings.model_copy(update=texts)


def check_template(settings: JudgeSettings) -> None:
    """Raise `JudgeError` where the template does not show the judge what it judges."""
    fields = _FIELDS[settings.mode]
    template = settings.template
    if template is None:
        return
    there = set(_PLACE.findall(template)) - {"low", "high"}
    for field in (*fields[1:], *sorted(there - set(fields))):
        if field not in there:
            raise JudgeError(f"the template has no {{{field}}}, which mode {settings.mode} judges. Add it")
        if field not in fields:
            raise JudgeError(f"the template has {{{field}}}, mode {settings.mode} knows {', '.join(fields)}")


def question(settings: JudgeSettings, texts: Mapping[str, str]) -> Messages:
    """The messages that ask for a verdict, or for the critique before it, on `texts` (prompt, completion, ...)."""
    settings = spelled_out(settings)
    closing = settings.critique_instruction if settings.critique else instruction(settings)
    body = f"{_filled(settings, settings.template or '', texts)}\n\n{closing}"
    system = () if settings.system is None else (("system", settings.system),)
    return (*system, ("user", body))


def after_critique(settings: JudgeSettings, asked: Messages, critique: str) -> Messages:
    """The messages that ask for the verdict once the critique is there."""
    return (*asked, ("assistant", critique.strip() or "-"), ("user", instruction(settings)))


def instruction(settings: JudgeSettings) -> str:
    """How the judge is told to answer."""
    return _filled(settings, settings.instruction or _INSTRUCTIONS[settings.mode], {})


def as_text(messages: Messages) -> str:
    """Messages for a model without a chat template, opened for the answer."""
    return "\n\n".join([*(f"{role.capitalize()}: {content}" for role, content in messages), "Assistant:"])


def label_logprobs(
    top: Sequence[tuple[str, float]], labels: Sequence[str], second: Sequence[tuple[str, float]] = (), said: str = ""
) -> dict[str, float]:
    """log P of each label from the alternatives of an answer's first token; labels that are not among them lack.

    `second` are the alternatives of the token after `said`: where a number such as 10 is written in two tokens, they
    tell how much of the probability of "1" belongs to it.
    """
    found: dict[str, float] = {}
    for token, logprob in top:
        label = label_of(token, labels)
        if label is not None:
            found[label] = _add(found.get(label, -math.inf), logprob)
    start = label_of(said, labels)
    if start is not None and start in found:
        before, after, longer = found[start], _digits(second), 0.0
        for label in labels:
            rest = label.removeprefix(start)
            if label.startswith(start) and rest in after:
                found[label] = _add(found.get(label, -math.inf), before + after[rest])
                longer += math.exp(after[rest])
        found[start] = before + math.log(max(1 - longer, math.exp(FLOOR)))
    return found


def label_of(token: str, labels: Sequence[str]) -> str | None:
    """The label that a token spells, whatever stands around it; single letters keep their case ("a" is a word)."""
    bare = token.strip(_AROUND)
    for label in labels:
        if bare == label or (len(label) > 1 and bare.casefold() == label.casefold()):
            return label
    return None


def log_odds(logprobs: Mapping[str, float], labels: Sequence[str], top: Sequence[float] = ()) -> float | None:
    """log P(first label) - log P(second); None where neither is known.

    A label that lies beyond the alternatives `top` is at most as probable as the least of them, and as what they leave
    over; the smaller bound stands for it, so that odds are rather too small than too large.
    """
    values = [logprobs.get(label) for label in labels]
    if values[0] is None and values[1] is None:
        return None
    left = 1.0 - sum(math.exp(value) for value in top)
    bound = max(FLOOR, min(min(top, default=FLOOR), math.log(left) if left > 0 else FLOOR))
    first, second = (bound if value is None else max(value, FLOOR) for value in values)
    return first - second


def expected(logprobs: Mapping[str, float]) -> float | None:
    """Mean of the labels, as numbers, under their probabilities; None where none is known."""
    if not logprobs:
        return None
    most = max(logprobs.values())
    weight = {label: math.exp(value - most) for label, value in logprobs.items()}
    return sum(float(label) * share for label, share in weight.items()) / sum(weight.values())


def _filled(settings: JudgeSettings, template: str, texts: Mapping[str, str]) -> str:
    """The template with its fields replaced at once: a text that holds "{prompt}" stays as it is."""
    numbers = {"low": str(settings.scale[0]), "high": str(settings.scale[1])}
    values = {**numbers, **texts}
    return _PLACE.sub(lambda match: values.get(match[1], match[0]), template)


def _digits(top: Sequence[tuple[str, float]]) -> dict[str, float]:
    """log P of each token that holds nothing but digits."""
    found: dict[str, float] = {}
    for token, logprob in top:
        if token.isdigit():
            found[token] = _add(found.get(token, -math.inf), logprob)
    return found


def _add(a: float, b: float) -> float:
    """log(e^a + e^b)."""
    high, low = max(a, b), min(a, b)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))
