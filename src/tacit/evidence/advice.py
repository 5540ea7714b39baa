"""Which flags say what is meant: the second half of a refusal, as it is typed in a shell.

Columns are named as the file names them, also where --columns has renamed them for the run.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tacit.evidence import values as tables
from tacit.evidence.names import INVERTED, judged_name
from tacit.evidence.survey import Values, number_of

_SHOWN = 8


def typed(text: str) -> str:
    """An argument as it is typed in a shell: quoted where it holds spaces, brackets and the like."""
    return shlex.quote(text)


def option(flag: str, argument: str) -> str:
    """A flag with its argument as they are typed; one that begins with a dash (`-1=bad`) follows an equals sign."""
    return f"{flag}{'=' if argument.startswith('-') else ' '}{typed(argument)}"


def shortened(tokens: Sequence[str]) -> str:
    """A few values as a message shows them."""
    shown = [token if len(token) <= 30 else token[:29] + "…" for token in tokens[:_SHOWN]]
    return ", ".join(shown) + (", ..." if len(tokens) > _SHOWN else "")


def listed(names: Collection[str]) -> str:
    """Columns as a message shows them: at most twelve, none of them longer than forty characters."""
    shown = [f"`{name if len(name) <= 40 else name[:39] + '…'}`" for name in list(names)[:12]]
    return ", ".join(shown) + (f" and {len(names) - 12} more" if len(names) > 12 else "") or "(none)"


def codes(meanings: Mapping[str, Any]) -> str:
    """Values and their meanings as one argument of --labels or --verdict."""
    return ",".join(f"{word}={meaning}" for word, meaning in meanings.items())


def flags_for(column: str, values: Values, *, read: bool = False, known: Mapping[str, Any] | None = None) -> str:
    """The flags with which a column judges an answer, from its values, and the one that keeps it aside.

    With `read` the column is read as a judgement already, by its name or by --columns, and only values need a meaning;
    `known` are those that --labels says already.
    """
    words = list(values.rows)
    inverted = judged_name(column) in INVERTED
    numeric = all(number_of(word) is not None for word in words)
    thumbs = all(tables.is_binary(word) or number_of(word) in (0, 1, -1) for word in words)
    label, score = ([] if read else [option("--columns", f"{ours}={column}")] for ours in ("label", "score"))
    if values.many or len(words) > _SHOWN:
        if numeric and not read and not inverted:
            flags, where = score, "if higher is better"
        else:
            flags, where = [*label, "--labels"], "with good, bad, blank or a number for each value"
    elif inverted and thumbs and -1 not in values.numbers:
        good = {word: tables.plain(word) in tables.GOOD or number_of(word) == 1 for word in words}
        turned = codes({word: "bad" if meaning else "good" for word, meaning in good.items()})
        flags, where = [*label, option("--labels", turned)], "if it says what is bad"
    elif not read and not inverted and thumbs:
        flags, where = label, "if it judges the answer"
    elif not read and not inverted and tables.ordered(words) is not None:
        flags, where = score, f"if higher is better{_turned(words)}"
    elif (ranks := tables.likert(words)) is not None:
        flags, where = [*score, option("--labels", codes(ranks))], "if that is their order"
    else:
        binary = all(tables.is_binary(word) or tables.amount(word) is None for word in words)
        meanings = {word: _meaning(word, binary=binary) for word in words}
        meanings |= {word: _said(meaning) for word, meaning in (known or {}).items()}
        full = "..." not in meanings.values()
        flags = [*(score if full and not binary else label), option("--labels", codes(meanings))]
        where = "if higher is better" if full else "with good, bad, blank or a number in place of each ..."
    aside = f", or {option('--ignore', column)} if it judges nothing"
    return f"Give {' '.join(flags)} {where}{aside}"


def _said(meaning: bool | float | None) -> str:
    """A meaning as --labels says it."""
    if meaning is None or isinstance(meaning, bool):
        return {True: "good", False: "bad", None: "blank"}[meaning]
    return f"{meaning:g}"


def _turned(words: Sequence[str]) -> str:
    """What to add where low numbers are better: the whole numbers of a scale, the other way round."""
    numbers = sorted(number for word in words if (number := number_of(word)) is not None and number.is_integer())
    if len(numbers) != len(words) or len(numbers) < 3:
        return ""
    turned = {f"{number:g}": f"{numbers[0] + numbers[-1] - number:g}" for number in numbers}
    return f" (with {option('--labels', codes(turned))} if lower is)"


def _meaning(word: str, *, binary: bool) -> str:
    """What a value means for sure; `...` where a person must say. Beside stars a dash may be bad or blank."""
    if tables.is_binary(word):
        return ("good" if tables.plain(word) in tables.GOOD else "bad") if binary else "..."
    amount = None if number_of(word) is not None else tables.amount(word)
    return "..." if amount is None else f"{amount:g}"
