"""What a reward is asked about: one prompt and one completion (or list of steps) in each row.

Python takes a text for a list of its letters and one conversation for a list of messages, so that a reward asked about
`score("abc", "xyz")` would score three prompts of one letter. Every reward refuses both here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tacit.conversation import Completion, Prompt
from tacit.errors import TacitError

_ONE = "for one row give reward.score([prompt], [completion])"


def require_rows(
    prompts: Sequence[Prompt], completions: Sequence[Completion], *more: Sequence[Completion], what: str = "completions"
) -> None:
    """Raise `TacitError` unless prompts and completions are lists of texts or message lists, as many of each.

    `more` are further completions of the same prompts, as those to compare with; `what` is the name of the completions
    in messages.
    """
    for name, rows in (("prompts", prompts), (what, completions), *((what, others) for others in more)):
        _require_list(name, rows)
        for row, value in enumerate(rows, 1):
            if not isinstance(value, str | list | tuple):
                raise TacitError(
                    f"{name}, row {row}: {_shown(value)} is no text and no list of {{role, content}} messages. Give one"
                )
    _require_equal(prompts, completions, *more, what=what)


def require_solutions(prompts: Sequence[Prompt], solutions: Sequence[Sequence[str]]) -> None:
    """Raise `TacitError` unless there are as many lists of steps, none of them empty, as prompts."""
    _require_list("prompts", prompts)
    _require_list("solutions", solutions)
    for row, steps in enumerate(solutions, 1):
        if isinstance(steps, str) or not isinstance(steps, Sequence):
            raise TacitError(
                f"solutions, row {row}: {_shown(steps)} is no list of steps. Give a list of texts, one for each step,"
                " or call score(prompts, completions), which cuts texts into steps"
            )
        if not steps:
            raise TacitError(f"solutions, row {row}: a solution has no steps. Give each at least one")
        for step in steps:
            if not isinstance(step, str):
                raise TacitError(f"solutions, row {row}: {_shown(step)} is no step. Give a list of texts")
    _require_equal(prompts, solutions, what="solutions")


def _require_list(name: str, rows: Any) -> None:
    if isinstance(rows, str | bytes | Mapping) or not hasattr(rows, "__len__") or not hasattr(rows, "__iter__"):
        raise TacitError(f"{name} is {_shown(rows)}, and a list with one for each row is needed: {_ONE}")
    first = next(iter(rows), None)
    if isinstance(first, Mapping):
        raise TacitError(
            f"{name} is one list of messages, and a list of such lists is needed, one for each row: {_ONE}"
        )


def _require_equal(prompts: Sequence[Any], *columns: Sequence[Any], what: str) -> None:
    counts = [len(column) for column in columns]
    if any(count != len(prompts) for count in counts):
        raise TacitError(f"{len(prompts)} prompts for {' and '.join(map(str, counts))} {what}: give one prompt each")


def _shown(value: Any) -> str:
    text = repr(value)
    return f"the {type(value).__name__} {text if len(text) <= 40 else text[:39] + '…'}"
