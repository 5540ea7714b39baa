r"""Answers that are words: names, yes and no, the letter of a choice. Pure functions.

| reference | answers that equal it |
|---|---|
| `Paris` | `paris.`, `\text{Paris}`, `"Paris"` |
| `E` | `(E)`, `E.`, `**E**`, `E) Paris`, `(E) Paris`, `\text{E}`, `\textbf{(E)}`, `option E` |
| `E) Paris` | `E`, `Paris`, `(E) Paris` |
"""

from __future__ import annotations

import re

from tacit.rewards.verifiers.answers import marked_answer

_COMMAND = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mathsf|mbox)\s*\{([^{}]*)\}")
_SPACE = re.compile(r"\\[,;:! ]|~|\\quad|\s+")
_DELIMITERS = re.compile(r"\\[()\[\]]|\$")
_EDGES = " .,:;!?\"'`*“”‘’_"
_PAIRS = {"(": ")", "[": "]", "{": "}"}
_LETTER = re.compile(r"(?:(?:option|choice|answer)\s+)?[(\[]?([a-z])[)\]]?", re.IGNORECASE)
_CHOICE = re.compile(
    r"(?:(?:option|choice|answer)\s+)?(?:[(\[]([a-z])[)\]]|([a-z])[).:])\s*[-–—:]?\s*(.+)", re.IGNORECASE
)
_FURTHER = re.compile(r"(?:^|\s)[(\[]?[a-zA-Z][)\].:](?:\s|$)")


def texts_equal(completion: str, reference: str) -> bool:
    """Whether the answer of a completion is the reference, but for case, white space, markup and punctuation around it.

    The answer is the last box, what follows `####` or "the answer is", else the whole completion.
    """
    wanted, whole = answer_text(reference), _marked_down(completion)
    answers = (
        {bare(answer_text(completion)), bare(whole)} if _CHOICE.fullmatch(whole) else {bare(answer_text(completion))}
    )
    if bare(wanted) in answers:
        return bare(wanted) != ""
    letter, text = choice(wanted)
    if letter is None:
        return False
    for answer in (answer_text(completion), whole):
        other, said = choice(answer)
        if other is not None and other == letter and (text is None or said is None or text == said):
            return True
    return text is not None and text in answers


def answer_text(text: str) -> str:
    """The part of a text that is its answer, without markup; all of it where none is marked."""
    return _marked_down(marked_answer(text))


def bare(text: str) -> str:
    """A text without case, double spaces, and punctuation or a pair of brackets around it.

    Signs that mean something beside a number stay: `5!`, `[2, 5]`.
    """
    text = " ".join(text.split()).casefold()
    while True:
        edges = _EDGES.replace("!", "") if re.search(r"\d!+[^\w]*$", text) else _EDGES
        inner = text.strip(edges)
        if len(inner) > 1 and _PAIRS.get(inner[0]) == inner[-1] and not set(",()[]{}") & set(inner[1:-1]):
            inner = inner[1:-1]
        if inner == text:
            return inner
        text = inner


def choice(text: str) -> tuple[str | None, str | None]:
    """The letter of a choice and its text: ("e", "paris") of "E) Paris", ("e", None) of "(E)", else nothing."""
    edges = " .,;!?\"'`*"
    if match := _LETTER.fullmatch(text.strip(edges + ":")):
        return match[1].casefold(), None
    match = _CHOICE.fullmatch(text.strip(edges))
    if match is None or _FURTHER.search(match[3]):
        return None, None
    return (match[1] or match[2]).casefold(), bare(match[3])


def _marked_down(text: str) -> str:
    """A text without LaTeX's commands for words and its delimiters, and without emphasis."""
    while True:
        inner = _COMMAND.sub(r" \1 ", text)
        if inner == text:
            break
        text = inner
    return (
        " ".join(_SPACE.sub(" ", _DELIMITERS.sub("", text)).replace("**", "").split())
        if "\n" not in text.strip()
        else text
    )
